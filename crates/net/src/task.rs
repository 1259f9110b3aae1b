//! The owner task: the only one that touches the core. It takes facts and requests in batches, journals each action,
//! steps, expands the effects into orders before the next step, and hands the orders to the drivers. It decides
//! nothing and waits for nobody.

use crate::facts::stray;
use crate::listener::until;
use crate::names::Resolver;
use crate::owner::{Request, Then, Waiting};
use crate::recorder::Recorder;
use crate::sleep::Sleep;
use crate::waiters::{Outcome, Waiters};
use crate::watch::Watch;
use crate::{
    Clock, Driver, JournalOptions, Observer, Order, Owner, Retired, Setup, SetupError, Stopped, Tickets,
};
use peerkeep_core::{
    Action, Answer, Change, Close, Command, CommandId, ConnRef, ContactRef, Core, Effect, Effects, End, Fact,
    Fault, FaultKind, Refusal, STACKS, StackId, Standing, Step, Time, Told, Who,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What is stepped before anything else.
type First = Box<dyn Iterator<Item = Action> + Send>;

pub(crate) struct Task {
    owner: Owner,
    core: Core,
    recorder: Option<Recorder>,
    drivers: [Option<Lane>; STACKS],
    observer: Box<dyn Observer>,
    resolver: Resolver,
    /// Kept for its end.
    _watch: Option<Watch>,
    waiters: Waiters,
    effects: Effects,
    facts: Vec<Fact>,
    /// Steps since the drivers last got their orders.
    undispatched: u32,
    last_command: u32,
    wall: Wall,
    sleep: Sleep,
    drain_by: Option<Time>,
}

struct Lane {
    driver: Box<dyn Driver>,
    orders: Vec<Order>,
}

/// The wall clock as last told to the core.
struct Wall {
    unix_ms: u64,
    at: Time,
}

/// The wall clock is told this often.
const TELL_CLOCK: Duration = Duration::from_secs(60);

/// A wall clock that moved this much against the monotonic one has jumped, or the machine has slept.
const JUMP_MS: u64 = 5_000;
/// Orders are handed out after this many steps, even if more facts wait.
const DISPATCH_EVERY: u32 = 256;
/// Timer steps in one turn; then facts come first again (fault T-4).
const WAKES_PER_TURN: u32 = 16;

impl Task {
    /// Makes the core and opens the journal.
    pub fn new(owner: Owner, setup: Setup) -> Result<(Task, First), SetupError> {
        let now = owner.clock().now();
        let core = Core::new(setup.config, setup.seed, now).map_err(SetupError::Config)?;
        let counters = owner.counters().clone();
        let start = |options: &JournalOptions| Recorder::start(options, &core, now, counters);
        let recorder = setup.journal.as_ref().map(start).transpose().map_err(SetupError::Journal)?;
        let mut drivers: [Option<Lane>; STACKS] = [const { None }; STACKS];
        for driver in setup.drivers {
            let index = driver.stack().index();
            drivers[index] = Some(Lane { driver, orders: Vec::new() });
        }
        owner.listeners().add(setup.listeners);
        let task = Task {
            _watch: Watch::follow(&owner),
            resolver: Resolver::new(owner.names().clone(), owner.facts(), owner.counters().clone()),
            owner,
            core,
            recorder,
            drivers,
            observer: setup.observer,
            waiters: Waiters::default(),
            effects: Effects::new(),
            facts: Vec::new(),
            undispatched: 0,
            last_command: 0,
            wall: Wall { unix_ms: 0, at: now },
            sleep: Sleep::default(),
            drain_by: None,
        };
        Ok((task, setup.first))
    }

    /// Runs until a shutdown is over or the core panics.
    pub async fn run(mut self, first: First) -> Stopped {
        let mut first = first.fuse();
        let mut is_loading = true;
        loop {
            let sound = catch_unwind(AssertUnwindSafe(|| {
                // Nobody is met before the stored bans are in force.
                if is_loading {
                    is_loading = self.load_some(&mut first);
                    self.dispatch();
                } else {
                    self.turn();
                }
            }));
            if sound.is_err() {
                return self.give_up();
            }
            if let Some(cut) = self.is_drained() {
                return self.finish(cut);
            }
            if is_loading {
                tokio::task::yield_now().await;
                continue;
            }
            let wake = self.next_wake();
            tokio::select! {
                () = self.owner.ready() => {}
                () = until(wake) => {}
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Steps some of what the node starts with; `false` when there is no more.
    fn load_some(&mut self, first: &mut dyn Iterator<Item = Action>) -> bool {
        if self.wall.unix_ms == 0 {
            self.tell_clock(self.now());
        }
        let now = self.now();
        for _ in 0..DISPATCH_EVERY {
            let Some(action) = first.next() else { return false };
            self.step(now, action, None);
        }
        true
    }

    fn turn(&mut self) {
        let now = self.now();
        self.watch_clock(now);
        let mut facts = std::mem::take(&mut self.facts);
        self.owner.facts().take(&mut facts);
        for fact in facts.drain(..) {
            self.handle_fact(now, fact);
        }
        self.facts = facts;
        let requests = self.owner.take();
        for change in requests.changes {
            self.step(now, Action::Network(change), None);
            self.observer.network(change);
            self.owner.names().refresh();
        }
        for request in requests.commands {
            self.handle_request(now, request);
        }
        for _ in 0..WAKES_PER_TURN {
            if self.core.next_wake().is_none_or(|at| at > now) {
                break;
            }
            self.step(now, Action::Wake, None);
        }
        for journal in requests.journals {
            let done = self.rerecord(journal.options, now);
            // Who asked may have left: then the old journal is dropped here.
            let _ = journal.to.send(done);
        }
        for ask in requests.asks {
            ask(self.core.view(), now);
        }
        self.dispatch();
        if let Some(recorder) = &mut self.recorder {
            recorder.tick(now);
        }
    }

    /// Another journal, or none; gives the old one back.
    fn rerecord(&mut self, options: Option<JournalOptions>, now: Time) -> std::io::Result<Retired> {
        let mut old = self.recorder.take();
        if let Some(old) = &mut old {
            old.end(&self.core, now);
        }
        if let Some(options) = &options {
            let counters = self.owner.counters().clone();
            self.recorder = Some(Recorder::start(options, &self.core, now, counters)?);
        }
        Ok(Retired(old))
    }

    fn handle_fact(&mut self, now: Time, fact: Fact) {
        if let Some((conn, what)) = stray(self.core.view(), &fact) {
            // The core ignores it. A driver that is wrong once is wrong often: ever fewer are worth a line.
            self.owner.counters().stray_facts.add_one();
            let times = self.owner.counters().stray_facts.read();
            if times.is_power_of_two() {
                tracing::error!(%conn, times, fact = ?fact, "a driver told {what}: this is a bug");
            }
        }
        let ended = match &fact {
            Fact::Gone { conn, .. } if !self.waiters.is_empty() => {
                self.core.view().conn(*conn).and_then(|conn| conn.contact)
            }
            _ => None,
        };
        let gone = match &fact {
            Fact::Gone { conn, end } => self.core.view().conn(*conn).map(|_| (*conn, *end)),
            _ => None,
        };
        self.step(now, Action::Saw(fact), None);
        if let Some((conn, end)) = gone {
            self.observer.gone(conn, end, now);
        }
        if let Some(contact) = ended {
            self.answer_if_over(contact);
        }
    }

    fn handle_request(&mut self, now: Time, request: Request) {
        let Request { command, then } = request;
        if matches!(command, Command::Shutdown) {
            // First nobody comes in any more (fault L12).
            self.owner.listeners().close();
        }
        let called_off = match &command {
            Command::Cancel(who) | Command::Reset(who) | Command::Disconnect(who) | Command::Forget(who) => {
                self.core.view().find(who)
            }
            _ => None,
        };
        let who = match &command {
            Command::Connect { who, .. } => Some(*who),
            _ => None,
        };
        self.last_command = self.last_command.wrapping_add(1);
        let action = Action::Do(CommandId(self.last_command), command);
        self.step(now, action, Some(Waiting { then, who, called_off }));
    }

    /// Append, then step, then expand: the order that makes a replay possible.
    fn step(&mut self, now: Time, action: Action, mut waiting: Option<Waiting>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.append(&self.core, now, &action);
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.core.step(now, &action, &mut effects);
        self.owner.counters().actions.add_one();
        for effect in effects.drain() {
            self.carry_out(now, effect, &mut waiting);
        }
        self.effects = effects;
        self.undispatched += 1;
        if self.undispatched >= DISPATCH_EVERY {
            self.dispatch();
        }
    }

    fn carry_out(&mut self, now: Time, effect: Effect, waiting: &mut Option<Waiting>) {
        match effect {
            Effect::Resolve { conn } => match self.core.view().dial(conn) {
                Some(dial) => self.resolver.begin(conn, dial.who),
                None => self.owner.facts().saw(Fact::Gone { conn, end: End::Asked }),
            },
            Effect::Dial { conn, deadline } => self.dial(conn, deadline),
            Effect::Accept { ticket, conn, deadline } => {
                self.order(Tickets::stack_of(ticket), conn, Order::Accept { ticket, conn, deadline });
            }
            Effect::Refuse { ticket, why } => {
                let lane = &mut self.drivers[Tickets::stack_of(ticket).index()];
                lane.iter_mut().for_each(|lane| lane.orders.push(Order::Refuse { ticket }));
                self.observer.refused(ticket, why);
            }
            Effect::Admit { conn } => {
                let greeting = self.core.view().answer();
                self.order_conn(conn, Order::Admit { conn, greeting });
            }
            Effect::Turn { conn, why } => {
                let retry_after = self.core.view().retry_after(why);
                self.order_conn(conn, Order::Turn { conn, why, retry_after });
            }
            Effect::Probe { conn } => self.order_conn(conn, Order::Probe { conn }),
            Effect::Close { conn, why, unless_used_since } => {
                if !self.resolver.close(conn) {
                    let stack = self.stack_of(conn);
                    let rules = self.core.config().rules(stack);
                    // What is open on a replaced connection may come to its end.
                    let span = if why == Close::Replaced { rules.drain } else { rules.goodbye };
                    let deadline = now.after(span);
                    self.order(stack, conn, Order::Close { conn, why, unless_used_since, deadline });
                }
            }
            Effect::Store { contact } => self.observer.store(self.core.view(), contact),
            Effect::StoreBan { ban } => self.observer.store_ban(self.core.view(), ban),
            Effect::Tell { contact, conn, what } => self.tell(now, contact, conn, what),
            Effect::Reply { to: _, answer } => {
                if let Some(waiting) = waiting.take() {
                    self.reply(now, waiting, answer);
                }
            }
        }
    }

    fn dial(&mut self, conn: ConnRef, deadline: Time) {
        self.resolver.dialled(conn);
        let Some(dial) = self.core.view().dial(conn) else {
            return self.owner.facts().saw(Fact::Gone { conn, end: End::Asked });
        };
        let (expect, greeting) = (dial.expect, dial.greeting);
        let order = Order::Dial { conn, expect, addrs: dial.addrs, greeting, deadline };
        self.order(dial.who.stack, conn, order);
    }

    fn order_conn(&mut self, conn: ConnRef, order: Order) {
        self.order(self.stack_of(conn), conn, order);
    }

    fn order(&mut self, stack: StackId, conn: ConnRef, order: Order) {
        match &mut self.drivers[stack.index()] {
            Some(lane) => lane.orders.push(order),
            // Nobody else would ever say that this conn is gone.
            None if matches!(order, Order::Dial { .. } | Order::Accept { .. }) => {
                let fault = Fault::new(Step::Connect, FaultKind::Protocol);
                self.owner.facts().saw(Fact::Gone { conn, end: End::Fault(fault) });
            }
            None => {}
        }
    }

    fn stack_of(&self, conn: ConnRef) -> StackId {
        self.core.view().conn(conn).map_or(StackId::Mesh, |conn| conn.stack)
    }

    fn tell(&mut self, now: Time, contact: ContactRef, conn: ConnRef, what: Told) {
        let view = self.core.view();
        let fault = || view.contact(contact).and_then(|contact| contact.last_fault);
        match what {
            Told::Connected => {
                if let Some(seen) = view.contact(contact) {
                    let connected = Outcome::Connected { contact, who: seen.who, conn, already: false };
                    self.waiters.answer(contact, connected);
                }
            }
            Told::Failed => self.waiters.answer_first(contact, Outcome::Failed(fault())),
            Told::GaveUp => self.waiters.answer(contact, Outcome::GaveUp(fault())),
            Told::Banned => self.waiters.answer(contact, Outcome::Banned),
            Told::Identified { as_contact } => self.waiters.rename(contact, as_contact),
            _ => {}
        }
        self.observer.told(view, contact, conn, what, now);
    }

    fn reply(&mut self, now: Time, waiting: Waiting, answer: Answer) {
        let Waiting { then, who, called_off } = waiting;
        if let (Some(contact), Answer::Done | Answer::Begun(_) | Answer::Queued(_)) = (called_off, answer) {
            self.waiters.answer(contact, Outcome::Cancelled);
        }
        // Who asked may have left; the command was carried out all the same.
        match then {
            Then::Answer(to) => {
                let _ = to.send(answer);
            }
            Then::Drain(limit, to) => {
                let by = now.after(limit);
                self.drain_by = Some(self.drain_by.map_or(by, |earlier| earlier.min(by)));
                self.waiters.answer_all(Outcome::Shutdown);
                let _ = to.send(answer);
            }
            Then::Outcome(until, to) => match self.first_outcome(who, answer) {
                Ok(outcome) => {
                    let _ = to.send(outcome);
                }
                Err(contact) => self.waiters.add(contact, until, to),
            },
        }
    }

    /// The outcome of a connect, if it is known already; else the contact to wait for.
    fn first_outcome(&self, who: Option<Who>, answer: Answer) -> Result<Outcome, ContactRef> {
        let view = self.core.view();
        let contact = match answer {
            Answer::Begun(contact) => Some(contact),
            Answer::Done | Answer::Queued(_) | Answer::No(Refusal::AlreadyConnected) => {
                who.and_then(|who| view.find(&who))
            }
            Answer::No(why) => return Ok(Outcome::Refused(why)),
        };
        let Some(contact) = contact else { return Ok(Outcome::Refused(Refusal::Unknown)) };
        match view.contact(contact) {
            Some(seen) if seen.standing == Standing::Connected => {
                let conn = seen.conn.unwrap_or(ConnRef::NONE);
                Ok(Outcome::Connected { contact, who: seen.who, conn, already: true })
            }
            _ => Err(contact),
        }
    }

    /// A conn is gone and nobody pursues its contact any more: those who wait must not wait for nothing.
    fn answer_if_over(&mut self, contact: ContactRef) {
        match self.core.view().contact(contact) {
            Some(seen) if seen.standing == Standing::Idle && !seen.asked && !seen.wanted => {
                self.waiters.answer(contact, Outcome::Failed(seen.last_fault));
            }
            Some(_) => {}
            None => self.waiters.answer(contact, Outcome::Failed(None)),
        }
    }

    fn dispatch(&mut self) {
        self.undispatched = 0;
        for lane in self.drivers.iter_mut().flatten() {
            if !lane.orders.is_empty() {
                lane.driver.perform(&mut lane.orders);
            }
        }
    }

    fn now(&self) -> Time {
        self.owner.clock().now()
    }

    fn next_wake(&self) -> Option<tokio::time::Instant> {
        let flush = self.recorder.as_ref().and_then(Recorder::next_wake);
        let core = self.core.next_wake().map(|at| Clock::gather(at, self.now()));
        let times = [core, flush, Some(self.wall.at.after(TELL_CLOCK)), self.drain_by];
        times.into_iter().flatten().min().map(|time| self.owner.clock().instant(time))
    }

    /// Tells the wall clock each minute and when it jumped. A machine that slept finds its links to be probed.
    fn watch_clock(&mut self, now: Time) {
        let passed = now.since(self.wall.at);
        let expected =
            self.wall.unix_ms.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        let unix_ms = Clock::unix_ms();
        let has_jumped = self.wall.unix_ms != 0 && unix_ms.abs_diff(expected) > JUMP_MS;
        if has_jumped || passed >= TELL_CLOCK || self.wall.unix_ms == 0 {
            self.tell_clock(now);
            self.waiters.drop_who_left();
        }
        let slept = self.sleep.look();
        if let Some(slept) = slept {
            tracing::info!(
                seconds = slept.as_secs(),
                "the machine slept; connections are asked whether they live"
            );
        }
        if slept.is_some() || (has_jumped && unix_ms > expected) {
            self.step(now, Action::Network(Change::Moved), None);
        }
    }

    fn tell_clock(&mut self, now: Time) {
        let unix_ms = Clock::unix_ms();
        self.wall = Wall { unix_ms, at: now };
        self.step(now, Action::Clock { unix_ms }, None);
    }

    /// `Some` when a shutdown is over: how many conns are left.
    fn is_drained(&self) -> Option<usize> {
        let by = self.drain_by?;
        let left = self.core.view().draining()?;
        (left == 0 || self.now() >= by).then_some(left)
    }

    fn finish(mut self, cut: usize) -> Stopped {
        self.owner.close();
        let now = self.now();
        if let Some(recorder) = self.recorder.take() {
            recorder.close(Some(&self.core), now);
        }
        Stopped::Asked { cut }
    }

    fn give_up(mut self) -> Stopped {
        self.owner.counters().panics.add_one();
        tracing::error!("the core panicked; the journal is flushed and the node stops");
        self.owner.close();
        let now = self.now();
        if let Some(recorder) = self.recorder.take() {
            // Without an end mark: the last action in it is the one to replay.
            recorder.close(None, now);
        }
        Stopped::Panicked
    }
}

impl Drop for Task {
    /// Also when what runs it is dropped: nobody waits for an answer that never comes.
    fn drop(&mut self) {
        self.owner.close();
    }
}
