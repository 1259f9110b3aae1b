//! What a running link and its driver share on one shard: the mailbox (orders down) and the meter (reports up). Both
//! are plain cells in one allocation: no channel, no timer and no lock per connection. It decides nothing.

use crate::{Clock, Facts, Note, TcpOptions, Verdict};
use peerkeep_core::{Addr, Addrs, Close, ConnRef, Fact, PeerKey, Report, Source, Time, Violation, Who};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes over one link, counted by its meter and readable from any thread.
#[derive(Debug, Default)]
pub struct Bytes {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Bytes {
    /// Bytes that arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes that were handed to the socket.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// A running link's mailbox. One reader; holds at most one note of a kind, so it cannot overflow.
#[derive(Debug)]
pub struct Mail(Rc<Slot>);

impl Mail {
    /// The next note. Cancel-safe: a note is taken only when it is returned. Close comes first, then new settings.
    pub async fn next(&mut self) -> Note {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same for hand-written polling.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Note> {
        if let Some((why, deadline)) = self.0.close.take() {
            return Poll::Ready(Note::Close { why, deadline });
        }
        if let Some(options) = self.0.retune.take() {
            return Poll::Ready(Note::Retune(*options));
        }
        if self.0.probe.take() {
            return Poll::Ready(Note::Probe);
        }
        self.0.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// What a link measures. Cheap to clone and to call on every packet: it stores numbers and, when something changed,
/// puts the link on its shard's list, which is reported at most four times a second.
#[derive(Debug, Clone)]
pub struct Meter(Rc<Slot>);

impl Meter {
    /// Bytes arrived. Call for every read, pings included.
    pub fn received(&self, count: usize) {
        add(&self.0.bytes.received, count);
        self.0.received_at.set(self.0.clock.now());
        self.0.changed();
    }

    /// Bytes were handed to the socket.
    pub fn sent(&self, count: usize) {
        add(&self.0.bytes.sent, count);
        self.0.sent_at.set(self.0.clock.now());
        self.0.changed();
    }

    /// The rate at which bytes left while the link could take no more, in kbit/s.
    pub fn rate(&self, kbps: u32) {
        if self.0.rate_kbps.replace(kbps.max(1)) != kbps.max(1) {
            self.0.changed();
        }
    }

    /// A question that wanted an answer got one in time, or did not.
    pub fn asked(&self, answered: bool) {
        let slot = &self.0;
        slot.asked.set(slot.asked.get().wrapping_add(1));
        slot.failed.set(slot.failed.get().wrapping_add(u16::from(!answered)));
        slot.changed();
    }

    /// The byte counters.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// An application used the link. A ping is no use.
    pub fn used(&self) {
        self.0.used_at.set(self.0.clock.now());
        self.0.changed();
    }

    /// How many channels are open now.
    pub fn channels(&self, count: u16) {
        if self.0.channels.replace(count) != count {
            self.0.changed();
        }
    }

    /// The smoothed round trip.
    pub fn rtt(&self, rtt: Duration) {
        let micros = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        if self.0.rtt_us.replace(micros) != micros {
            self.0.changed();
        }
    }

    /// They misbehaved, and the link could go on. Only the first is told: the core then decides.
    pub fn violated(&self, what: Violation) {
        if !self.0.gone.get() && !self.0.violated.replace(true) {
            self.0.desk.facts.saw(Fact::Violated { conn: self.0.conn, what });
        }
    }

    /// The peer's packets come from another address now (QUIC alone).
    pub fn moved(&self, key: PeerKey, at: Addr) {
        if !self.0.gone.get() {
            self.0.desk.facts.saw(Fact::Met { conn: self.0.conn, key, at, greeting: None });
        }
    }

    /// The peer told us about somebody else. Dropped and counted when the owner is behind.
    pub fn gossip(&self, who: Who, addrs: Addrs) {
        self.0.desk.facts.offer(Fact::Learned { who, addrs, source: Source::Gossip });
    }

    /// Which conn this is, for logs.
    pub fn conn(&self) -> ConnRef {
        self.0.conn
    }

    /// The node's clock.
    pub fn clock(&self) -> Clock {
        self.0.clock
    }
}

/// The driver's end of a mailbox and meter. Public so that stacks can test their links without a driver.
#[derive(Debug, Clone)]
pub struct Post(Rc<Slot>);

impl Post {
    /// A mailbox and a meter of their own for a stack's tests; facts of the link go to `facts`.
    pub fn loose(conn: ConnRef, facts: Facts) -> (Post, Mail, Meter) {
        Post::new(conn, Clock::start(), Rc::new(Desk::new(facts))).open()
    }

    pub(crate) fn new(conn: ConnRef, clock: Clock, desk: Rc<Desk>) -> Post {
        let now = clock.now();
        Post(Rc::new(Slot {
            conn,
            clock,
            desk,
            verdict: RefCell::new(None),
            probe: Cell::new(false),
            retune: Cell::new(None),
            close: Cell::new(None),
            doom: Cell::new(None),
            waker: Cell::new(None),
            doom_waker: Cell::new(None),
            received_at: Cell::new(now),
            used_at: Cell::new(now),
            channels: Cell::new(0),
            rtt_us: Cell::new(0),
            sent_at: Cell::new(now),
            rate_kbps: Cell::new(0),
            asked: Cell::new(0),
            failed: Cell::new(0),
            dirty: Cell::new(false),
            violated: Cell::new(false),
            gone: Cell::new(false),
            bytes: Arc::default(),
        }))
    }

    pub(crate) fn open(self) -> (Post, Mail, Meter) {
        let (mail, meter) = (Mail(self.0.clone()), Meter(self.0.clone()));
        (self, mail, meter)
    }

    /// Delivers a probe; one that still waits is the same one.
    pub fn probe(&self) {
        self.0.probe.set(true);
        wake(&self.0.waker);
    }

    /// Delivers new settings; later ones replace those that still wait.
    pub fn retune(&self, options: TcpOptions) {
        self.0.retune.set(Some(Box::new(options)));
        wake(&self.0.waker);
    }

    /// Delivers a close; a later one replaces one that still waits.
    pub fn close(&self, why: Close, deadline: Time) {
        self.0.close.set(Some((why, deadline)));
        self.0.doom.set(Some(deadline));
        wake(&self.0.waker);
        wake(&self.0.doom_waker);
    }

    /// The numbers as they are now.
    pub fn report(&self) -> Report {
        self.0.report()
    }

    /// The byte counters.
    pub fn bytes(&self) -> Arc<Bytes> {
        self.0.bytes.clone()
    }

    /// Which conn this is.
    pub fn conn(&self) -> ConnRef {
        self.0.conn
    }

    pub(crate) fn decide(&self, verdict: Verdict) {
        *self.0.verdict.borrow_mut() = Some(verdict);
        wake(&self.0.waker);
    }

    /// Waits for the core's word.
    pub(crate) async fn verdict(&self) -> Verdict {
        poll_fn(|cx| match self.0.verdict.borrow_mut().take() {
            Some(verdict) => Poll::Ready(verdict),
            None => {
                self.0.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// Waits until a close was ordered; its deadline.
    pub(crate) async fn doom(&self) -> Time {
        poll_fn(|cx| match self.0.doom.get() {
            Some(deadline) => Poll::Ready(deadline),
            None => {
                self.0.doom_waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// Nothing more is reported: called before `Gone`, which is the last fact of a conn.
    pub(crate) fn silence(&self) {
        self.0.gone.set(true);
    }

    /// Reports at once, whatever the pace: used to decline a close.
    pub(crate) fn report_now(&self) {
        self.0.desk.facts.saw(Fact::Reported { conn: self.0.conn, report: self.0.report() });
    }
}

/// The links of one shard that have something to report.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) facts: Facts,
    dirty: RefCell<Vec<Rc<Slot>>>,
    stir: Notify,
}

/// How often a link reports at most.
const PACE: Duration = Duration::from_millis(250);

impl Desk {
    pub(crate) fn new(facts: Facts) -> Desk {
        Desk { facts, dirty: RefCell::default(), stir: Notify::new() }
    }

    /// Hands up reports for ever, sleeping without a timer while nothing changes.
    pub(crate) async fn run(&self) {
        loop {
            self.stir.notified().await;
            tokio::time::sleep(PACE).await;
            self.sweep();
        }
    }

    /// Reports every changed link once. Stops early when the owner is behind; the rest keep their place.
    pub(crate) fn sweep(&self) {
        let mut dirty = self.dirty.borrow_mut();
        let mut done = 0;
        for slot in dirty.iter() {
            if !self.facts.has_room() {
                break;
            }
            slot.dirty.set(false);
            done += 1;
            if !slot.gone.get() {
                self.facts.saw(Fact::Reported { conn: slot.conn, report: slot.report() });
            }
        }
        dirty.drain(..done);
        if !dirty.is_empty() {
            self.stir.notify_one();
        }
    }
}

/// The one allocation behind `Mail`, `Meter` and `Post`.
struct Slot {
    conn: ConnRef,
    clock: Clock,
    desk: Rc<Desk>,
    verdict: RefCell<Option<Verdict>>,
    probe: Cell<bool>,
    retune: Cell<Option<Box<TcpOptions>>>,
    close: Cell<Option<(Close, Time)>>,
    doom: Cell<Option<Time>>,
    waker: Cell<Option<Waker>>,
    doom_waker: Cell<Option<Waker>>,
    received_at: Cell<Time>,
    used_at: Cell<Time>,
    channels: Cell<u16>,
    rtt_us: Cell<u32>,
    sent_at: Cell<Time>,
    rate_kbps: Cell<u32>,
    asked: Cell<u16>,
    failed: Cell<u16>,
    dirty: Cell<bool>,
    violated: Cell<bool>,
    gone: Cell<bool>,
    bytes: Arc<Bytes>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("conn", &self.conn)
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}

impl Slot {
    fn report(&self) -> Report {
        Report {
            received_at: self.received_at.get(),
            used_at: self.used_at.get(),
            channels: self.channels.get(),
            rtt_us: self.rtt_us.get(),
            sent_at: self.sent_at.get(),
            rate_kbps: self.rate_kbps.get(),
            asked: self.asked.get(),
            failed: self.failed.get(),
        }
    }

    fn changed(self: &Rc<Slot>) {
        if self.gone.get() || self.dirty.replace(true) {
            return;
        }
        let mut dirty = self.desk.dirty.borrow_mut();
        dirty.push(self.clone());
        if dirty.len() == 1 {
            self.desk.stir.notify_one();
        }
    }
}

fn wake(waker: &Cell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SOFT_LIMIT;

    const CONN: ConnRef = ConnRef { row: 3, generation: 1 };

    fn link() -> (Post, Mail, Meter, Facts) {
        let facts = Facts::default();
        let (post, mail, meter) = Post::loose(CONN, facts.clone());
        (post, mail, meter, facts)
    }

    fn seen(facts: &Facts) -> Vec<Fact> {
        let mut seen = Vec::new();
        facts.take(&mut seen);
        seen
    }

    fn note(mail: &mut Mail) -> Option<Note> {
        match mail.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(note) => Some(note),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_thousand_frames_are_one_report_and_silence_is_none() {
        let (post, _mail, meter, facts) = link();
        for _ in 0..1_000 {
            meter.received(10);
        }
        meter.channels(2);
        meter.rtt(Duration::from_micros(700));
        assert_eq!(seen(&facts), [], "not before the pace allows");
        post.0.desk.sweep();
        let [Fact::Reported { conn: CONN, report }] = seen(&facts)[..] else { panic!("one report") };
        assert_eq!((report.channels, report.rtt_us), (2, 700));
        assert_eq!(post.bytes().received(), 10_000);
        meter.channels(2);
        post.0.desk.sweep();
        assert_eq!(seen(&facts), [], "nothing changed");
    }

    #[test]
    fn reports_wait_while_the_owner_is_behind_and_are_not_lost() {
        let (post, _mail, meter, facts) = link();
        for _ in 0..SOFT_LIMIT {
            facts.saw(Fact::TurnedAway { count: 1 });
        }
        meter.used();
        meter.gossip(Who::mesh(PeerKey::ed25519([1; 32])), Addrs::new());
        post.0.desk.sweep();
        assert_eq!(seen(&facts).len(), SOFT_LIMIT);
        assert_eq!(facts.dropped_count(), 1, "gossip is dropped, and counted");
        post.0.desk.sweep();
        assert!(matches!(seen(&facts)[..], [Fact::Reported { conn: CONN, .. }]));
    }

    #[test]
    fn the_mailbox_holds_one_probe_and_the_last_close() {
        let (post, mut mail, _meter, _facts) = link();
        assert_eq!(note(&mut mail), None);
        post.probe();
        post.probe();
        post.close(Close::Idle, Time(1));
        post.close(Close::Shutdown, Time(2));
        assert_eq!(note(&mut mail), Some(Note::Close { why: Close::Shutdown, deadline: Time(2) }));
        assert_eq!(note(&mut mail), Some(Note::Probe));
        assert_eq!(note(&mut mail), None);
    }

    #[test]
    fn misbehaviour_is_told_once_and_nothing_after_the_end() {
        let (post, _mail, meter, facts) = link();
        meter.violated(Violation::TooMuch);
        meter.violated(Violation::TooMuch);
        assert_eq!(seen(&facts), [Fact::Violated { conn: CONN, what: Violation::TooMuch }]);
        meter.used();
        post.silence();
        meter.used();
        post.0.desk.sweep();
        assert_eq!(seen(&facts), [], "Gone is the last fact of a conn");
    }
}
