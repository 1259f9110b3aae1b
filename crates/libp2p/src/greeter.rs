//! One connection from the moment its multiplexer is up, admitted or not: it asks who is there, takes the streams of the
//! other side, and answers nothing before the core has admitted it. What it does for every peer (identify, ping) is here;
//! what is for applications waits for the link.

use crate::address::{dialable, from_multiaddr};
use crate::carrier::{Secure, stream_fault};
use crate::handle::Info;
use crate::identify::{IDENTIFY, IDENTIFY_PUSH, Identity};
use crate::jobs::{self, Asked, Done, PING};
use crate::stack::Node;
use futures::stream::{FuturesUnordered, Stream as _};
use peerkeep_channels::{Mux, Stream};
use peerkeep_core::{Addr, Fault, FaultKind, PeerKey, StackId, Step, Violation, Who};
use peerkeep_net::{Ended, Meter};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Inbound streams that have not said what they are for, at most.
const MAX_NAMELESS: usize = 16;
/// Streams beyond that which are dropped before it is called misbehaviour.
const NAMELESS_FLOOD: u32 = 64;
/// Ping streams of the other side at once.
const MAX_PINGED: u8 = 2;
/// Streams besides channels: identify, push and ping both ways, one laid out, the nameless.
pub(crate) const SPARE_STREAMS: usize = 8 + MAX_NAMELESS;
/// Streams of one connection over TCP, at most.
pub(crate) const MOST_STREAMS: usize = 1_024 + SPARE_STREAMS;
/// Rounds of work in one wake-up; then the other links of the shard have their turn.
const ROUNDS: usize = 8;
/// Time for the last words of a connection that is not wanted.
const LEAVE: Duration = Duration::from_secs(1);

/// What runs on the connection whether it is admitted or not: its multiplexer and the short work on its streams.
pub(crate) struct Greeter {
    pub node: Arc<Node>,
    pub mux: Mux<Secure>,
    peer: PeerKey,
    remote: Addr,
    /// Their public key in protobuf form.
    proven: Arc<[u8]>,
    pub jobs: FuturesUnordered<Pin<Box<dyn Future<Output = Done>>>>,
    /// Whether streams of theirs are answered.
    admitted: bool,
    asked: bool,
    heard: Option<Box<Identity>>,
    nameless: usize,
    waiting: VecDeque<Stream>,
    dropped: u32,
    pinged: u8,
    /// Streams for applications, and how many streams came to nothing: for the link, which may not be there yet.
    pub named: Vec<(Box<str>, Stream)>,
    pub fruitless: u32,
    meter: Option<Meter>,
}

impl Greeter {
    pub fn new(node: Arc<Node>, mux: Mux<Secure>, peer: PeerKey, remote: Addr, proven: Arc<[u8]>) -> Greeter {
        Greeter {
            node,
            mux,
            peer,
            remote,
            proven,
            jobs: FuturesUnordered::new(),
            admitted: false,
            asked: false,
            heard: None,
            nameless: 0,
            waiting: VecDeque::new(),
            dropped: 0,
            pinged: 0,
            named: Vec::new(),
            fruitless: 0,
            meter: None,
        }
    }

    /// The core has said yes: what they ask is answered from now on.
    pub fn admit(&mut self) {
        self.admitted = true;
    }

    /// Asks who they are, and waits until they have said it: then they have admitted us.
    pub async fn identify(&mut self) -> Result<Box<Identity>, Fault> {
        poll_fn(|cx| {
            match self.work(cx) {
                Err(end) => return Poll::Ready(Err(greeting_fault(end))),
                Ok(true) => cx.waker().wake_by_ref(),
                // All is read that came before the end.
                Ok(false) if self.mux.is_held() => {
                    self.mux.release();
                    cx.waker().wake_by_ref();
                }
                Ok(false) => {}
            }
            if let Poll::Ready(Err(error)) = self.mux.poll_push(cx) {
                return Poll::Ready(Err(stream_fault(Step::Hello, &error)));
            }
            self.heard.take().map_or(Poll::Pending, |heard| Poll::Ready(Ok(heard)))
        })
        .await
    }

    /// Says nothing more, in good order: at most a moment.
    pub async fn leave(mut self) {
        let closed = poll_fn(|cx| {
            if self.mux.is_quic() {
                self.mux.close(cx);
                return Poll::Ready(());
            }
            self.mux.poll_close(cx).map(drop)
        });
        let _ = tokio::time::timeout(LEAVE, closed).await;
    }

    pub fn info(&self, identity: &Identity) -> Info {
        Info {
            peer: self.peer,
            remote: self.remote,
            agent: identity.agent.as_str().into(),
            seen: identity.observed.as_ref().and_then(from_multiaddr),
        }
    }

    /// There is somebody to report to.
    pub fn attach(&mut self, meter: Meter) {
        self.mux.attach(meter.clone());
        self.meter = Some(meter);
    }

    /// Does what can be done now, up to [`ROUNDS`]; true when more is left.
    pub fn work(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        for _ in 0..ROUNDS {
            if !self.round(cx)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut moved = self.poll_streams(cx)?;
        if !self.asked
            && let Some(stream) = self.open(cx)?
        {
            self.asked = true;
            self.jobs.push(Box::pin(jobs::ask(stream, self.proven.clone())));
            moved = true;
        }
        Ok(self.poll_jobs(cx) || moved)
    }

    pub fn open(&mut self, cx: &mut Context<'_>) -> Result<Option<Stream>, Ended> {
        match self.mux.poll_outbound(cx) {
            Poll::Pending => Ok(None),
            Poll::Ready(result) => result.map(Some),
        }
    }

    /// Drives the multiplexer and takes the streams that the other side opened.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.admitted {
            while let Some(stream) = self.waiting.pop_front() {
                self.name(stream);
            }
        }
        let Poll::Ready(stream) = self.mux.poll_inbound(cx) else { return Ok(false) };
        let stream = stream?;
        if self.nameless + self.waiting.len() >= MAX_NAMELESS {
            self.dropped += 1;
            if self.dropped == NAMELESS_FLOOD {
                self.violated(Violation::StreamAbuse);
            }
        } else if self.admitted {
            self.name(stream);
        } else {
            self.waiting.push_back(stream);
        }
        Ok(true)
    }

    fn name(&mut self, stream: Stream) {
        self.nameless += 1;
        self.jobs.push(Box::pin(jobs::name(stream, self.node.speaks())));
    }

    fn poll_jobs(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Poll::Ready(Some(done)) = Pin::new(&mut self.jobs).poll_next(cx) {
            moved = true;
            self.finish(done);
        }
        moved
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Over => {}
            Done::Asked(answered) => self.tell(|meter| meter.asked(answered)),
            Done::Named(named) => {
                self.nameless = self.nameless.saturating_sub(1);
                match named {
                    Some((name, stream)) => self.on_named(name, stream),
                    None => self.fruitless += 1,
                }
            }
            Done::Heard(identity, Asked::Yes) => self.heard = Some(identity),
            Done::Heard(identity, Asked::No) => {
                let who = Who { stack: StackId::Libp2p, key: self.peer };
                self.tell(|meter| meter.gossip(who, dialable(&identity.listen)));
            }
            Done::Silent => self.heard = Some(Box::default()),
            Done::Rtt(rtt) => self.tell(|meter| meter.rtt(rtt)),
            Done::Pinged => self.pinged = self.pinged.saturating_sub(1),
            Done::Violation(what) => self.violated(what),
        }
    }

    fn tell(&self, news: impl FnOnce(&Meter)) {
        if let Some(meter) = &self.meter {
            news(meter);
        }
    }

    pub fn violated(&self, what: Violation) {
        self.tell(|meter| meter.violated(what));
    }

    /// Does what every node does for its peers; what is for applications waits for the link.
    fn on_named(&mut self, name: Box<str>, stream: Stream) {
        if &*name == IDENTIFY {
            self.jobs.push(Box::pin(jobs::tell(stream, self.node.message(&self.remote))));
        } else if &*name == IDENTIFY_PUSH {
            self.jobs.push(Box::pin(jobs::pushed(stream, self.proven.clone())));
        } else if &*name == PING {
            if self.pinged < MAX_PINGED {
                self.pinged += 1;
                let clock = self.meter.as_ref().map(Meter::clock);
                self.jobs.push(Box::pin(jobs::answer_pings(stream, clock)));
            }
        } else if self.named.len() < MAX_NAMELESS {
            self.named.push((name, stream));
        }
    }
}

/// How a connection ended that never was a link.
fn greeting_fault(end: Ended) -> Fault {
    match end {
        Ended::Fault(fault) => Fault { step: Step::Hello, ..fault },
        _ => Fault::new(Step::Hello, FaultKind::Protocol),
    }
}
