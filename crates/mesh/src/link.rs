//! The task of one running link: it owns the multiplexer and the control channel, answers net's mail, opens and routes
//! streams, and ends with a goodbye. One hand-written poll, no timer while it is idle, nothing kept that is not used.

use crate::carrier::Carrier;
use crate::channel::{self, BUSY, CONTROL, MAIL, OK, UNKNOWN, preface};
use crate::control::{Control, Event, Known};
use crate::handle::{Handle, Shared};
use crate::jobs::{Done, name, read_mail, turn, welcome};
use crate::line::{Line, QuicLine};
use crate::mail;
use crate::measure::{self, MEASURE};
use crate::parting::Parting;
use crate::stack::Node;
use crate::tls::fault_of;
use futures::FutureExt as _;
use futures::io::{AsyncRead as _, AsyncWrite as _};
use futures::stream::{FuturesUnordered, Stream as _};
use peerkeep_channels::{Bucket, Mux, QuicStream, Rate, Room, Stream};
use peerkeep_core::{Fault, FaultKind, Step, Violation, Who};
use peerkeep_net::{Ended, Link, Mail, Meter, Note};
use ring::rand::SecureRandom;
use std::future::{Future, poll_fn};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, atomic::Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

mod closing;

/// An agreed link, ready to run.
pub struct MeshLink {
    pub(crate) node: Arc<Node>,
    pub(crate) line: Line,
    pub(crate) shared: Arc<Shared>,
    pub(crate) dialled: bool,
    /// What is left to say of the greeting: it leaves together with the first frame.
    pub(crate) last: Vec<u8>,
}

impl Link for MeshLink {
    type Handle = Handle;

    fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    fn run(self, mail: Mail, meter: Meter) -> impl Future<Output = Ended> {
        let mut task = Box::new(Task::new(self, mail, meter));
        poll_fn(move |cx| task.poll(cx))
    }
}

/// Inbound streams that have not said their name yet, at most.
const MAX_NAMELESS: usize = 16;
/// Streams beyond that which are dropped before it is called misbehaviour.
const NAMELESS_FLOOD: u32 = 64;
/// Streams that may come to nothing: many at once after a mistake, a hundred a second for good.
const FRUITLESS: Rate = Rate { burst: 1_024, each: Duration::from_millis(10) };
/// Streams besides channels: control, two of messages, one laid out, the nameless.
pub(crate) const SPARE_STREAMS: usize = 5 + MAX_NAMELESS;
/// Streams of one connection over TCP, at most.
const MOST_STREAMS: usize = 1_024 + SPARE_STREAMS;
/// Rounds of work in one wake-up; then the other links of the shard have their turn.
const ROUNDS: usize = 8;

struct Task {
    node: Arc<Node>,
    shared: Arc<Shared>,
    mail: Mail,
    meter: Meter,
    mux: Mux<Carrier>,
    control: Control,
    port: Port,
    jobs: FuturesUnordered<Pin<Box<dyn Future<Output = Done>>>>,
    nameless: usize,
    dropped: u32,
    fruitless: Bucket,
    writes_mail: bool,
    reads_mail: bool,
    /// Changes when an application uses the link.
    uses: u32,
    /// The other side measures.
    measured: bool,
    learn: Bucket,
    told: u64,
    /// What the link had carried when it last pinged.
    pinged: u64,
    parting: Option<Box<Parting>>,
}

/// The control channel's stream.
enum Port {
    /// Not there yet: we dialled and have to open it, or the other side has.
    Missing { ours: bool },
    /// There; `quiet` until the other side has agreed to it.
    Open { stream: Stream, quiet: bool },
}

impl Task {
    fn new(link: MeshLink, mail: Mail, meter: Meter) -> Task {
        let MeshLink { node, line, shared, dialled, last } = link;
        let (mut mux, port) = match line {
            Line::Tcp(tcp) => (Mux::yamux(tcp, last, dialled, MOST_STREAMS), Port::Missing { ours: dialled }),
            Line::Quic(line) => {
                let QuicLine { connection, send, recv } = *line;
                let stream = Stream::Quic(QuicStream::new(send, recv));
                let mux = Mux::quic(connection, shared.info.peer, shared.info.remote);
                (mux, Port::Open { stream, quiet: false })
            }
        };
        mux.attach(meter.clone());
        // Settings may have changed during the greeting.
        shared.limit(node.current().1);
        mux.limit(usize::from(shared.limits().channels) + SPARE_STREAMS);
        let now = meter.clock().now();
        let mut control = Control::new(now);
        if shared.info.exchange {
            control.ask();
        }
        Task {
            learn: node.learn.recall(&shared.info.peer, now),
            node,
            shared,
            mail,
            meter,
            mux,
            control,
            port,
            jobs: FuturesUnordered::new(),
            nameless: 0,
            dropped: 0,
            fruitless: Bucket::full(&FRUITLESS, now),
            writes_mail: false,
            reads_mail: false,
            uses: 0,
            measured: false,
            told: 0,
            pinged: 0,
            parting: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.shared.waker.register(cx.waker());
        self.mux.sense();
        self.read_notes(cx);
        match self.work(cx) {
            Err(end) => {
                // Whoever got a goodbye closes in good order, as far as that goes without waiting.
                if matches!(end, Ended::Goodbye(_)) {
                    self.mux.close(cx);
                }
                return Poll::Ready(end);
            }
            Ok(true) => cx.waker().wake_by_ref(),
            Ok(false) => {}
        }
        // Before the push, so that a goodbye and the end after it leave together.
        if let Poll::Ready(end) = self.poll_closing(cx) {
            let _ = self.mux.poll_push(cx);
            return Poll::Ready(end);
        }
        let Poll::Ready(Err(error)) = self.mux.poll_push(cx) else { return Poll::Pending };
        Poll::Ready(self.end_of(Ended::Fault(fault_of(Step::Live, &error))))
    }

    /// Does what can be done now, up to [`ROUNDS`]; true when more is left.
    fn work(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.is_shut() {
            return Ok(false);
        }
        for _ in 0..ROUNDS {
            self.report();
            let mut moved = self.poll_streams(cx)?;
            moved |= self.poll_wishes(cx)?;
            moved |= self.poll_jobs(cx);
            moved |= self.poll_control(cx)?;
            if moved {
                continue;
            }
            if self.mux.is_held() && !self.is_hearing_out() {
                self.mux.release();
                continue;
            }
            return Ok(false);
        }
        Ok(true)
    }

    fn is_hearing_out(&self) -> bool {
        self.parting.as_ref().is_some_and(|parting| parting.is_hearing_out())
    }

    fn is_shut(&self) -> bool {
        self.parting.as_ref().is_some_and(|parting| parting.is_shut())
    }

    fn read_notes(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(note) = self.mail.poll_next(cx) {
            match note {
                Note::Probe => {
                    self.pinged = self.mux.carried();
                    let mut nonce = [0; 8];
                    if self.node.random.fill(&mut nonce).is_ok() {
                        self.control.probe(self.meter.clock().now(), u64::from_be_bytes(nonce));
                    }
                }
                Note::Retune(options) => {
                    self.shared.limit(self.node.current().1);
                    self.mux.limit(usize::from(self.shared.limits().channels) + SPARE_STREAMS);
                    self.mux.retune(&options);
                }
                Note::Close { why, deadline } => {
                    if let Port::Open { stream, .. } = &self.port {
                        stream.yield_to_others();
                    }
                    let deadline = self.meter.clock().instant(deadline);
                    let parting = self.parting.get_or_insert_with(|| Parting::new(why, deadline, true));
                    parting.order(why, deadline);
                }
            }
        }
        if self.shared.announce.swap(false, Ordering::AcqRel) && self.shared.info.exchange {
            self.tell();
        }
    }

    fn report(&mut self) {
        self.meter.channels(self.shared.channels());
        if self.shared.take_used() {
            self.uses = self.uses.wrapping_add(1);
            self.meter.used();
        }
        if let Some(kbps) = self.shared.take_rate() {
            self.meter.rate(kbps);
        }
    }

    /// Drives the multiplexer and takes the streams that the other side opened.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        match self.mux.poll_inbound(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(stream)) => {
                if self.nameless < MAX_NAMELESS {
                    self.nameless += 1;
                    self.jobs.push(Box::pin(name(stream)));
                } else {
                    self.dropped += 1;
                    if self.dropped == NAMELESS_FLOOD {
                        self.meter.violated(Violation::StreamAbuse);
                    }
                }
                Ok(true)
            }
            Poll::Ready(Err(end)) => Err(self.end_of(end)),
        }
    }

    /// Opens the streams that we want: control, messages, channels.
    fn poll_wishes(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if matches!(self.port, Port::Missing { ours: true }) {
            let Some(stream) = self.open(cx)? else { return Ok(false) };
            self.port = Port::Open { stream, quiet: true };
            let mut first = preface(CONTROL);
            first.append(self.control.outbox());
            *self.control.outbox() = first;
        }
        // A new job writes into a stream that nobody has polled yet: another round must follow, or nothing wakes us.
        let mut moved = false;
        if !self.writes_mail && self.shared.has_letters() {
            let Some(stream) = self.open(cx)? else { return Ok(moved) };
            moved = true;
            self.writes_mail = true;
            self.jobs.push(Box::pin(mail::write(stream, self.shared.clone()).map(|()| Done::Over)));
        }
        while self.shared.wants_stream() {
            let Some(stream) = self.open(cx)? else { return Ok(moved) };
            if let Some((stream, want)) = self.shared.give(stream) {
                self.jobs.push(Box::pin(async move {
                    channel::open(stream, want).await.map_or(Done::Over, Done::Asked)
                }));
                moved = true;
            }
        }
        Ok(moved)
    }

    fn open(&mut self, cx: &mut Context<'_>) -> Result<Option<Stream>, Ended> {
        match self.mux.poll_outbound(cx) {
            Poll::Pending => Ok(None),
            Poll::Ready(Ok(stream)) => Ok(Some(stream)),
            Poll::Ready(Err(end)) => Err(self.end_of(end)),
        }
    }

    fn poll_jobs(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Poll::Ready(Some(done)) = Pin::new(&mut self.jobs).poll_next(cx) {
            moved = true;
            match done {
                Done::Over => {}
                Done::Asked(answered) => self.meter.asked(answered),
                Done::Turned => self.nameless = self.nameless.saturating_sub(1),
                Done::Measured => self.measured = false,
                Done::Violation(what) => self.meter.violated(what),
                Done::Named(stream, name) => {
                    self.nameless = self.nameless.saturating_sub(1);
                    self.on_named(stream, name);
                }
            }
        }
        moved
    }

    /// Routes a stream by its name.
    fn on_named(&mut self, stream: Stream, name: Option<Box<str>>) {
        let Some(name) = name else { return self.fruitless() };
        if &*name == CONTROL {
            if matches!(self.port, Port::Missing { ours: false }) {
                self.control.outbox().insert(0, OK);
                self.port = Port::Open { stream, quiet: false };
            } else {
                self.meter.violated(Violation::OutOfOrder);
            }
        } else if &*name == MAIL {
            if std::mem::replace(&mut self.reads_mail, true) || !self.shared.info.mail {
                self.turn(stream, UNKNOWN);
            } else {
                self.jobs.push(Box::pin(read_mail(stream, self.node.clone(), self.shared.clone())));
            }
        } else if &*name == MEASURE {
            if std::mem::replace(&mut self.measured, true) {
                self.turn(stream, BUSY);
            } else {
                self.jobs.push(Box::pin(measure::answer(stream)));
            }
        } else {
            self.on_channel(stream, name);
        }
    }

    /// A stream came to nothing: reset before its name, or turned away.
    fn fruitless(&mut self) {
        let now = self.meter.clock().now();
        if self.fruitless.take(&FRUITLESS, now, 1) == 0 {
            self.fruitless = Bucket::full(&FRUITLESS, now);
            self.meter.violated(Violation::StreamAbuse);
        }
    }

    /// A stream that is turned away takes the place it had without a name until it is gone.
    fn turn(&mut self, stream: Stream, word: u8) {
        self.fruitless();
        if self.nameless < MAX_NAMELESS {
            self.nameless += 1;
            self.jobs.push(Box::pin(turn(stream, word)));
        }
    }

    fn on_channel(&mut self, stream: Stream, name: Box<str>) {
        let refuse = match self.node.registry.protocols().room(&name) {
            Room::Unknown => UNKNOWN,
            Room::Busy => BUSY,
            Room::Yes => match self.shared.seat() {
                Some(seat) => {
                    self.jobs.push(Box::pin(welcome(stream, self.node.clone(), seat, name)));
                    return;
                }
                None => BUSY,
            },
        };
        self.turn(stream, refuse);
    }

    /// Moves the control channel's bytes both ways.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut moved = self.read_control(cx)?;
        let Port::Open { stream, .. } = &mut self.port else { return Ok(moved) };
        while !self.control.outbox().is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, self.control.outbox()) {
                Poll::Ready(Ok(count)) => {
                    self.control.outbox().drain(..count);
                    moved = true;
                }
                Poll::Ready(Err(_)) | Poll::Pending => return Ok(moved),
            }
        }
        *self.control.outbox() = Vec::new();
        Ok(moved)
    }

    fn read_control(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.is_hearing_out() {
            // They have said all that is said here.
            return Ok(false);
        }
        let Port::Open { stream, quiet } = &mut self.port else { return Ok(false) };
        let mut buf = [0; 512];
        let count = match Pin::new(stream).poll_read(cx, &mut buf) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(count)) if count > 0 => count,
            Poll::Ready(_) => return Err(Ended::Fault(Fault::new(Step::Live, FaultKind::Closed))),
        };
        let mut bytes = &buf[..count];
        if std::mem::take(quiet) {
            let (word, rest) = bytes.split_at(1);
            if word[0] != OK {
                return Err(Ended::Fault(Fault::new(Step::Live, FaultKind::Protocol)));
            }
            bytes = rest;
        }
        let mut events = Vec::new();
        let read = self.control.handle(self.meter.clock().now(), bytes, &mut events);
        for event in events {
            self.on_event(event)?;
        }
        read.map(|()| true).map_err(Ended::Violation)
    }

    fn on_event(&mut self, event: Event) -> Result<(), Ended> {
        match event {
            Event::Rtt(rtt) => self.mux.sample(rtt, self.pinged),
            Event::Goodbye(why) => return self.on_goodbye(why),
            Event::Violation(what) => self.meter.violated(what),
            Event::Asked if self.shared.info.exchange => {
                self.told = 0;
                self.tell();
            }
            Event::Peers(peers) if self.shared.info.exchange => self.learn(peers),
            Event::Asked | Event::Peers(_) => {}
        }
        Ok(())
    }

    /// Tells of the peers we know, unless that is what was told last.
    fn tell(&mut self) {
        let known = self.node.sample(&self.shared.info.peer, &self.shared.info.remote);
        let mut hash = DefaultHasher::new();
        known.hash(&mut hash);
        let hash = hash.finish();
        if self.told != hash {
            self.told = hash;
            self.control.tell(&known);
        }
    }

    /// Passes on as many as this source may tell (fault F14).
    fn learn(&mut self, peers: Vec<Known>) {
        let rate = self.node.learn.rate();
        let count = u32::try_from(peers.len()).unwrap_or(u32::MAX);
        let taken = self.learn.take(&rate, self.meter.clock().now(), count);
        let taken = usize::try_from(taken).unwrap_or(0);
        for (key, addrs) in peers.into_iter().take(taken).filter(|(key, _)| *key != self.node.me) {
            self.meter.gossip(Who::mesh(key), addrs);
        }
    }
}

impl Drop for Task {
    /// Also when the future is dropped or panics: whoever waits for the link is told, and the bucket stays spent.
    fn drop(&mut self) {
        if let Some(parting) = &self.parting {
            parting.log(self.meter.conn());
        }
        self.shared.end();
        self.node.learn.keep(self.shared.info.peer, self.learn, self.meter.clock().now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle link holds beside TLS and its two streams; a bigger one needs a reason.
    #[test]
    fn a_link_is_small() {
        assert!(size_of::<Task>() <= 1024, "{}", size_of::<Task>());
        assert!(size_of::<Shared>() <= 256, "{}", size_of::<Shared>());
    }
}
