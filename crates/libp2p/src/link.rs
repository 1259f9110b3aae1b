//! The task of one running link: it answers net's mail, opens the channels that applications want and hands over those
//! that the peer opens, until it ends. One hand-written poll, no timer while it is idle. libp2p has no goodbye: a link
//! closes in good order, and says no more.

use crate::greeter::{Greeter, SPARE_STREAMS};
use crate::handle::{Handle, Shared};
use crate::jobs;
use peerkeep_channels::{Bucket, Rate};
use peerkeep_core::{Close, Fault, Step, Violation};
use peerkeep_net::{Ended, Link, Mail, Meter, Note};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, atomic::Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep_until};

/// Streams that may come to nothing: many at once after a mistake, a hundred a second for good (fault F9).
const FRUITLESS: Rate = Rate { burst: 1_024, each: Duration::from_millis(10) };
/// Rounds of work in one wake-up; then the other links of the shard have their turn.
const ROUNDS: usize = 8;

/// An agreed link, ready to run.
pub struct Libp2pLink(pub(crate) Greeter, pub(crate) Arc<Shared>);

impl Link for Libp2pLink {
    type Handle = Handle;

    fn handle(&self) -> Handle {
        Handle(self.1.clone())
    }

    fn run(self, mail: Mail, meter: Meter) -> impl Future<Output = Ended> {
        let Libp2pLink(greeter, shared) = self;
        let mut task = Box::new(Task::new(greeter, shared, mail, meter));
        poll_fn(move |cx| task.poll(cx))
    }
}

struct Task {
    greeter: Greeter,
    shared: Arc<Shared>,
    mail: Mail,
    meter: Meter,
    fruitless: Bucket,
    /// A sign of life is to be asked for.
    probes: bool,
    closing: Option<Closing>,
}

/// The way out.
struct Closing {
    /// It is over then, whatever happens.
    deadline: Pin<Box<Sleep>>,
    /// What is open comes to its end first.
    waits: bool,
    shut: bool,
}

impl Task {
    fn new(mut greeter: Greeter, shared: Arc<Shared>, mail: Mail, meter: Meter) -> Task {
        greeter.attach(meter.clone());
        let fruitless = Bucket::full(&FRUITLESS, meter.clock().now());
        let mut task = Task { greeter, shared, mail, meter, fruitless, probes: false, closing: None };
        // Settings may have changed during the greeting.
        task.limit();
        task
    }

    fn limit(&mut self) {
        let most = self.greeter.node.max_channels();
        self.shared.limit(most);
        self.greeter.mux.limit(usize::from(most) + SPARE_STREAMS);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.shared.waker.register(cx.waker());
        self.greeter.mux.sense();
        self.read_notes(cx);
        match self.work(cx) {
            Err(end) => return Poll::Ready(self.closing.as_ref().map_or(end, |_| Ended::Asked)),
            Ok(true) => cx.waker().wake_by_ref(),
            Ok(false) => {}
        }
        if self.poll_closing(cx).is_ready() {
            return Poll::Ready(Ended::Asked);
        }
        let Poll::Ready(Err(error)) = self.greeter.mux.poll_push(cx) else { return Poll::Pending };
        let fault: Fault = crate::carrier::stream_fault(Step::Live, &error);
        Poll::Ready(self.closing.as_ref().map_or(Ended::Fault(fault), |_| Ended::Asked))
    }

    fn read_notes(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(note) = self.mail.poll_next(cx) {
            match note {
                Note::Probe => self.probes = true,
                Note::Retune(options) => {
                    self.limit();
                    self.greeter.mux.retune(&options);
                }
                Note::Close { why, deadline } => {
                    let deadline = Box::pin(sleep_until(self.meter.clock().instant(deadline)));
                    let shut = self.closing.as_ref().is_some_and(|closing| closing.shut);
                    let waits = why == Close::Replaced;
                    self.closing = Some(Closing { deadline, waits, shut });
                }
            }
        }
    }

    /// Does what can be done now, up to [`ROUNDS`]; true when more is left.
    fn work(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.closing.as_ref().is_some_and(|closing| closing.shut) {
            return Ok(false);
        }
        for _ in 0..ROUNDS {
            self.report();
            let mut moved = self.greeter.round(cx)?;
            moved |= self.poll_wishes(cx)?;
            self.hand_over();
            if moved {
                continue;
            }
            if self.greeter.mux.is_held() {
                self.greeter.mux.release();
                continue;
            }
            return Ok(false);
        }
        Ok(true)
    }

    fn report(&mut self) {
        self.meter.channels(self.shared.channels());
        if self.shared.take_used() {
            self.meter.used();
        }
    }

    /// Opens the streams that we want: pings, what has changed here, channels.
    fn poll_wishes(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut moved = false;
        if self.probes {
            let Some(stream) = self.greeter.open(cx)? else { return Ok(moved) };
            self.probes = false;
            let random = self.greeter.node.random.clone();
            self.greeter.jobs.push(Box::pin(jobs::ping(stream, random)));
            moved = true;
        }
        if self.shared.announce.load(Ordering::Acquire) {
            let Some(stream) = self.greeter.open(cx)? else { return Ok(moved) };
            self.shared.announce.store(false, Ordering::Release);
            let message = self.greeter.node.message(&self.shared.info.remote);
            self.greeter.jobs.push(Box::pin(jobs::push(stream, message)));
            moved = true;
        }
        while self.shared.wants_stream() {
            let Some(stream) = self.greeter.open(cx)? else { return Ok(moved) };
            if let Some((stream, want)) = self.shared.give(stream) {
                self.greeter.jobs.push(Box::pin(jobs::open(stream, want)));
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Hands over the channels that the peer opened, and counts what came to nothing.
    fn hand_over(&mut self) {
        for (name, stream) in self.greeter.named.drain(..) {
            match self.shared.seat() {
                Some(seat) => jobs::welcome(stream, &self.greeter.node, seat, name),
                None => self.greeter.fruitless += 1,
            }
        }
        let count = std::mem::take(&mut self.greeter.fruitless);
        if count > 0 {
            let now = self.meter.clock().now();
            if self.fruitless.take(&FRUITLESS, now, count) < count {
                self.fruitless = Bucket::full(&FRUITLESS, now);
                self.meter.violated(Violation::StreamAbuse);
            }
        }
    }

    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(closing) = &mut self.closing else { return Poll::Pending };
        if closing.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if closing.waits && !closing.shut && !self.shared.is_idle() {
            return Poll::Pending;
        }
        closing.shut = true;
        if self.greeter.mux.is_quic() {
            self.greeter.mux.close(cx);
            return Poll::Ready(());
        }
        match self.greeter.mux.poll_close(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(())) => Poll::Ready(()),
            Poll::Ready(Ok(())) => self.greeter.mux.poll_drain(cx),
        }
    }
}

impl Drop for Task {
    /// Also when the future is dropped or panics: whoever waits for the link is told.
    fn drop(&mut self) {
        self.shared.end();
    }
}
