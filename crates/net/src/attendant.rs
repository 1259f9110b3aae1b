//! What a shard does for the conns of one stack: dials, lets greet, waits for the core's word, runs links, and says
//! exactly once of each that it is gone, whether it ended, failed, was cancelled or panicked. It decides nothing.

use crate::connect::{Starter, connect_any};
use crate::directory::Entry as Listed;
use crate::link::Desk;
use crate::listener::Waiting;
use crate::quic::Pending;
use crate::stream_driver::{HandleOf, Mailbox, StreamOptions, Surroundings, Task};
use crate::tcp::io_fault;
use crate::{
    Directory, Io, Link, MeetError, Meeting, Met, Order, Post, QuicIo, Role, Stack, TcpOptions, Terms,
    Verdict,
};
use peerkeep_core::{
    Addr, AddrKind, Addrs, Close, ConnRef, End, Fact, Fault, FaultKind, Greeting, PeerKey, Source, Step,
    Time, Who,
};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{sleep_until, timeout_at};

/// One per stack and shard.
pub(crate) struct Attendant<S: Stack> {
    stack: Arc<S>,
    options: StreamOptions,
    around: Surroundings,
    directory: Directory<HandleOf<S>>,
    desk: Rc<Desk>,
    /// By row: the core uses a row again only after the `Gone` of its last conn.
    conns: RefCell<HashMap<u32, Entry>>,
}

/// What the terms of a race without addresses name; no leg is begun with it.
const NOWHERE: Addr = Addr { ip: [0; 16], port: 0, kind: AddrKind::Tcp };

struct Entry {
    post: Post,
    task: Option<AbortHandle>,
    is_up: bool,
    was_asked: bool,
}

impl<S: Stack> Attendant<S> {
    pub(crate) fn new(
        stack: Arc<S>,
        options: StreamOptions,
        around: Surroundings,
        directory: Directory<HandleOf<S>>,
    ) -> Rc<Attendant<S>> {
        let desk = Rc::new(Desk::new(around.facts.clone()));
        Rc::new(Attendant { stack, options, around, directory, desk, conns: RefCell::default() })
    }

    /// Carries out orders for ever.
    pub(crate) fn run(self: Rc<Self>, mailbox: Arc<Mailbox>) -> impl Future<Output = ()> {
        let desk = self.desk.clone();
        spawn_local(async move { desk.run().await });
        let mut tuning = self.around.tuning.follow();
        async move {
            let mut batch = Vec::new();
            loop {
                tokio::select! {
                    () = mailbox.take(&mut batch) => {}
                    // Its sender is among what surrounds us, so this does not fail.
                    Ok(()) = tuning.changed() => self.retune(),
                }
                for task in batch.drain(..) {
                    self.handle(task);
                }
            }
        }
    }

    /// Settings changed: links that are up take them, too.
    fn retune(&self) {
        let Some(options) = self.around.tuning.now() else { return };
        self.conns.borrow().values().filter(|entry| entry.is_up).for_each(|entry| entry.post.retune(options));
    }

    fn handle(self: &Rc<Self>, task: Task) {
        match task {
            Task::Attend { conn, socket, remote, deadline } => {
                self.begin(conn, deadline, |this, guard| this.answer(guard, socket, remote));
            }
            Task::Do(Order::Dial { conn, expect, addrs, greeting, deadline }) => {
                self.around.counters.dials.add_one();
                self.begin(conn, deadline, |this, guard| this.dial(guard, expect, addrs, greeting));
            }
            Task::Do(Order::Admit { conn, greeting }) => self.decide(conn, Verdict::Admit { greeting }),
            Task::Do(Order::Turn { conn, why, retry_after }) => {
                if let Some(entry) = self.conns.borrow_mut().get_mut(&conn.row) {
                    entry.was_asked |= entry.post.conn() == conn;
                }
                self.decide(conn, Verdict::Turn { why, retry_after });
            }
            Task::Do(Order::Probe { conn }) => self.with_post(conn, Post::probe),
            Task::Do(Order::Close { conn, why, unless_used_since, deadline }) => {
                self.close(conn, why, unless_used_since, deadline);
            }
            Task::Do(Order::Accept { .. } | Order::Refuse { .. }) => {}
        }
    }

    /// Starts the task of a conn. Its guard exists before anything can fail.
    fn begin<F>(self: &Rc<Self>, conn: ConnRef, deadline: Time, make: impl FnOnce(Rc<Self>, Guard<S>) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let post = Post::new(conn, self.around.clock, self.desk.clone());
        let entry = Entry { post: post.clone(), task: None, is_up: false, was_asked: false };
        self.conns.borrow_mut().insert(conn.row, entry);
        let guard = Guard {
            attendant: self.clone(),
            post,
            deadline,
            step: Cell::new(Step::Connect),
            since: Cell::new(self.around.clock.now()),
            pending: None,
            listed: None,
            end: None,
        };
        let task = spawn_local(make(self.clone(), guard)).abort_handle();
        self.set_task(conn, task);
    }

    /// The options of a TCP connection made now.
    fn tcp(&self) -> TcpOptions {
        self.around.tuning.over(self.options.tcp)
    }

    fn set_task(&self, conn: ConnRef, task: AbortHandle) {
        if let Some(entry) = self.conns.borrow_mut().get_mut(&conn.row) {
            entry.task = Some(task);
        }
    }

    fn with_post(&self, conn: ConnRef, act: impl FnOnce(&Post)) {
        if let Some(entry) = self.conns.borrow().get(&conn.row)
            && entry.post.conn() == conn
        {
            act(&entry.post);
        }
    }

    fn decide(&self, conn: ConnRef, verdict: Verdict) {
        self.with_post(conn, |post| post.decide(verdict));
    }

    fn close(&self, conn: ConnRef, why: Close, unless_used_since: Time, deadline: Time) {
        let mut conns = self.conns.borrow_mut();
        let Some(entry) = conns.get_mut(&conn.row).filter(|entry| entry.post.conn() == conn) else { return };
        if entry.is_up {
            // NEVER is later than any use, so such a close is never declined.
            if entry.post.report().used_at > unless_used_since {
                entry.post.report_now();
                return;
            }
            entry.was_asked = true;
            entry.post.close(why, deadline);
            return;
        }
        entry.was_asked = true;
        if let Some(task) = &entry.task {
            task.abort();
        }
    }

    async fn dial(
        self: Rc<Self>,
        mut guard: Guard<S>,
        expect: Option<PeerKey>,
        addrs: Addrs,
        greeting: Greeting,
    ) {
        let conn = guard.conn();
        let deadline = self.around.clock.instant(guard.deadline);
        let (facts, counters) = (&self.around.facts, &self.around.counters);
        let missed = |addr: Addr, fault: Fault| {
            counters.missed.add_one();
            tracing::debug!(%conn, %addr, ?fault, "an address failed");
            facts.saw(Fact::Missed { conn, addr, fault });
        };
        let remote = addrs.first().copied().unwrap_or(NOWHERE);
        let terms = Terms { role: Role::Dialler, expect, greeting, remote };
        let options = StreamOptions { tcp: self.tcp(), ..self.options.clone() };
        let starter = Starter { stack: self.stack.clone(), options, terms: terms.clone() };
        let race = connect_any(&addrs, &starter, self.around.clock, missed);
        let connected = timeout_at(deadline, Box::pin(race)).await;
        let (io, at) = match connected {
            Ok(Ok(won)) => won,
            Ok(Err(fault)) => return guard.end(End::Fault(fault)),
            Err(_elapsed) => return guard.end_by_timeout(),
        };
        drop(starter);
        self.greet(guard, io, Terms { remote: at, ..terms }).await;
    }

    async fn answer(self: Rc<Self>, mut guard: Guard<S>, socket: Waiting, remote: Addr) {
        let io = match socket {
            Waiting::Tcp(socket) => {
                self.tcp().adopt(socket).map(Io::Tcp).map_err(|error| io_fault(Step::Connect, &error))
            }
            Waiting::Quic(incoming, pending) => {
                guard.pending = Some(pending);
                let accepted = incoming.accept().map(|connecting| Io::Quic(QuicIo::Arrived(connecting)));
                accepted.map_err(|error| self.stack.quic_fault(Step::Secure, &error))
            }
        };
        let terms = Terms { role: Role::Acceptor, expect: None, greeting: Greeting::default(), remote };
        match io {
            Ok(io) => self.greet(guard, io, terms).await,
            Err(fault) => guard.end(End::Fault(fault)),
        }
    }

    /// From a connected stream to a link, then hands over to a task of its own: the handshake's memory, much larger
    /// than a link's, is freed with this one.
    async fn greet(self: Rc<Self>, mut guard: Guard<S>, io: Io, terms: Terms) {
        let deadline = self.around.clock.instant(guard.deadline);
        let (role, at) = (terms.role, terms.remote);
        match timeout_at(deadline, self.agree(&mut guard, io, terms)).await {
            Ok(Ok((key, link))) => return self.go_live(guard, key, link),
            Ok(Err(error)) => self.handshake_failed(&mut guard, at, error),
            Err(_elapsed) => guard.end_by_timeout(),
        }
        // The core tries this address later next time, and forgets it when somebody else answers there.
        if let (Role::Dialler, Some(End::Fault(fault))) = (role, guard.end)
            && fault.kind != FaultKind::Declined
        {
            self.around.facts.saw(Fact::Missed { conn: guard.conn(), addr: at, fault });
        }
    }

    async fn agree(
        &self,
        guard: &mut Guard<S>,
        io: Io,
        terms: Terms,
    ) -> Result<(PeerKey, <S::Meeting as Meeting>::Link), MeetError> {
        let (conn, at, facts) = (guard.conn(), terms.remote, &self.around.facts);
        guard.enter(Step::Secure, terms.role == Role::Dialler);
        let (Met { key, greeting, listen }, meeting) = self.stack.meet(io, terms).await?;
        guard.enter(Step::Hello, true);
        guard.pending = None;
        facts.saw(Fact::Met { conn, key, at, greeting });
        if !listen.is_empty() {
            let who = Who { stack: S::ID, key };
            facts.saw(Fact::Learned { who, addrs: listen, source: Source::Told });
        }
        let verdict = guard.post.verdict().await;
        let link = meeting.settle(verdict).await?;
        guard.enter(Step::Live, true);
        Ok((key, link))
    }

    fn handshake_failed(&self, guard: &mut Guard<S>, at: Addr, error: MeetError) {
        let conn = guard.conn();
        match error {
            MeetError::Fault(fault) => guard.end(End::Fault(fault)),
            MeetError::Violation(what) => guard.end(End::Violation(what)),
            MeetError::Declined { key, code, reason, retry_after, newer_epoch } => {
                let reason = reason.escape_debug();
                // The library tells people; their own words are for whoever looks closer.
                tracing::debug!(%conn, %reason, ?retry_after, "they refused us");
                self.around.facts.saw(Fact::Declined { conn, key, at, code, retry_after, newer_epoch });
                guard.end(End::Fault(Fault::new(Step::Hello, FaultKind::Declined)));
            }
        }
    }

    fn go_live(self: &Rc<Self>, mut guard: Guard<S>, key: PeerKey, link: <S::Meeting as Meeting>::Link) {
        let conn = guard.conn();
        {
            let mut conns = self.conns.borrow_mut();
            let Some(entry) = conns.get_mut(&conn.row) else { return };
            if entry.was_asked {
                // Turned, yet the stack made a link of it; or closed in the same turn. It never was up.
                return;
            }
            entry.is_up = true;
        }
        if let Some(options) = self.around.tuning.now() {
            // They may have changed since its socket was made.
            guard.post.retune(options);
        }
        let (post, mail, meter) = guard.post.clone().open();
        // Listed before it is told, so that who hears of it can use it.
        self.directory.insert(key, Listed { conn, handle: link.handle(), bytes: post.bytes() });
        guard.listed = Some(key);
        self.around.counters.ready.add_one();
        self.around.facts.saw(Fact::Ready { conn });
        let clock = self.around.clock;
        let task = spawn_local(async move {
            let end = tokio::select! {
                biased;
                end = link.run(mail, meter) => end,
                () = async { sleep_until(clock.instant(post.doom().await)).await } => {
                    End::Fault(Fault::new(Step::Live, FaultKind::Timeout))
                }
            };
            guard.end(end);
        });
        self.set_task(conn, task.abort_handle());
    }
}

/// Says `Gone`, once, when it is dropped: the task owns it, so no way out of the task avoids it.
struct Guard<S: Stack> {
    attendant: Rc<Attendant<S>>,
    post: Post,
    deadline: Time,
    step: Cell<Step>,
    /// When that step began.
    since: Cell<Time>,
    /// Its place among the QUIC handshakes under way.
    pending: Option<Pending>,
    listed: Option<PeerKey>,
    end: Option<End>,
}

impl<S: Stack> Guard<S> {
    fn conn(&self) -> ConnRef {
        self.post.conn()
    }

    /// The next step begins; how long the one before took is noted, if it was one.
    fn enter(&self, step: Step, timed: bool) {
        let around = &self.attendant.around;
        let (before, now) = (self.step.replace(step), around.clock.now());
        let since = self.since.replace(now);
        if let (true, Some(timing)) = (timed, around.counters.stages.of(before)) {
            timing.record(now.since(since));
        }
    }

    fn end(&mut self, end: End) {
        self.end = Some(end);
    }

    /// Closing failed, and its socket is dropped all the same. When a network dies this is true of all links at
    /// once, so only the first and then ever fewer are worth a line.
    fn closed_uncleanly(&self, fault: Fault) {
        let count = &self.attendant.around.counters.unclean_closes;
        count.add_one();
        let times = count.read();
        let conn = self.conn();
        if times.is_power_of_two() {
            tracing::warn!(%conn, kind = ?fault.kind, times, "a connection did not close in good order");
        } else {
            tracing::debug!(%conn, kind = ?fault.kind, times, "a connection did not close in good order");
        }
    }

    fn end_by_timeout(&mut self) {
        self.end(End::Fault(Fault::new(self.step.get(), FaultKind::Timeout)));
    }
}

impl<S: Stack> Drop for Guard<S> {
    fn drop(&mut self) {
        let Attendant { around, conns, directory, .. } = &*self.attendant;
        let conn = self.post.conn();
        let entry = conns.borrow_mut().remove(&conn.row);
        let was_asked = entry.is_none_or(|entry| entry.was_asked);
        let end = if std::thread::panicking() {
            around.counters.panics.add_one();
            tracing::error!(%conn, "a link task panicked; its connection is closed");
            End::Fault(Fault::new(Step::Live, FaultKind::Panic))
        } else if was_asked {
            if let (Some(_), Some(End::Fault(fault))) = (self.listed, self.end) {
                self.closed_uncleanly(fault);
            }
            End::Asked
        } else {
            // Without an end the executor itself was stopped.
            self.end.unwrap_or(End::Asked)
        };
        match self.listed {
            Some(key) => directory.remove(&key, conn),
            None => around.counters.handshake_ended(&end),
        }
        around.counters.gone.add_one();
        self.post.silence();
        around.facts.saw(Fact::Gone { conn, end });
    }
}
