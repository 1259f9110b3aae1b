//! The world: real cores, one queue of what will happen, and the one place where a core is stepped. Everything a core
//! says goes to the network as orders; everything the network knows comes back as facts. It decides nothing for a core.

use crate::node::{Node, Slot, Socket};
use crate::promises::{Promises, Violation};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::scenario::{Disturbance, NodePlan, Scenario};
use crate::story::Story;
use crate::weather::Weather;
use crate::wire::{Msg, WireRef, Wires};
use peerkeep_core::{
    Action, Answer, Close, Command, CommandId, ConnRef, Effect, Effects, End, Fact, Fault, Refusal, Ticket,
    Time, Told, journal,
};
use std::collections::VecDeque;
use std::time::Duration;

/// What will happen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A core asked to be woken.
    Wake { node: u32 },
    /// Something arrives at an end of a wire.
    Arrive { wire: WireRef, side: u8, msg: Msg },
    /// A connection attempt reaches the other machine.
    Syn { wire: WireRef },
    /// The other machine has answered it.
    SynAnswered { wire: WireRef, is_accepted: bool },
    /// An address failed without a connection.
    LegFailed { node: u32, boot: u32, conn: ConnRef, leg: u8, fault: Fault },
    /// The race may start its next leg.
    RaceWake { node: u32, boot: u32, conn: ConnRef },
    /// An order reaches its link.
    Order { node: u32, boot: u32, conn: ConnRef, order: Order },
    /// A link is over and says so.
    Gone { node: u32, boot: u32, conn: ConnRef, end: End },
    /// A name was looked up.
    Resolved { node: u32, boot: u32, conn: ConnRef },
    /// The kernel gives up a connection on which nothing was acknowledged.
    GiveUp { wire: WireRef, side: u8 },
    /// A wall clock's minute.
    Minute { node: u32, boot: u32 },
    /// A disturbance begins.
    Disturb { index: u32 },
    /// A lasting one ends.
    Over { index: u32, boot: u32 },
    /// Whoever plans a network takes a sample, or lets a node come or go.
    Tick { what: u32, node: u32 },
}

/// What a core wants of a link, as far as it takes time to reach it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Admit,
    Turn { why: Refusal, retry_after: Duration },
    Probe,
    Close { why: Close, unless_used_since: Time },
}

/// What a run does besides running.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Record every node, and replay the record at the end of each life.
    pub journal: bool,
    /// Ask the core for every invariant after every step.
    pub check: bool,
    /// Keep disks.
    pub disk: bool,
    /// Tell each other of peers.
    pub exchange: bool,
    /// A second connection between two nodes ends the run; otherwise it is counted.
    pub strict: bool,
}

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub actions: u64,
    pub dials: u64,
    /// Dials whose conn never came up.
    pub wasted: u64,
    pub connected: u64,
    pub duplicates: u64,
    pub bytes: u64,
    pub replayed: u64,
}

pub(crate) struct World {
    pub now: Time,
    pub nodes: Vec<Node>,
    pub wires: Wires,
    pub queue: Queue<Event>,
    pub weather: Weather,
    pub promises: Promises,
    pub story: Story,
    pub tally: Tally,
    pub rng: Rng,
    pub options: Options,
    pub disturbances: Vec<Disturbance>,
    /// Ticks that are due and were not taken yet.
    pub ticks: Vec<(u32, u32)>,
    /// Facts that links have told and cores have not heard.
    local: VecDeque<(u32, Fact)>,
    /// The socket whose acceptance is being asked for.
    pub arriving: Option<(Ticket, WireRef)>,
    out: Effects,
    tickets: u32,
    answer: Option<Answer>,
    /// Whose core runs, for panics.
    pub stepping: Option<u32>,
}

/// Of so many actions of a node, one is followed by a recount with nothing left out.
const THOROUGH_EVERY: u64 = 32;

/// The wall clock when a world begins: any time of this century.
const BEGAN_MS: u64 = 1_750_000_000_000;

impl World {
    pub fn new(scenario: &Scenario, options: Options, story: Story) -> World {
        let mut rng = Rng::new(scenario.seed);
        let mut world = World {
            now: Time::ZERO,
            nodes: Vec::with_capacity(scenario.nodes.len()),
            wires: Wires::default(),
            queue: Queue::new(),
            weather: Weather {
                loss_per_mille: scenario.loss_per_mille,
                jitter_us: scenario.jitter_us,
                ..Weather::default()
            },
            promises: Promises::new(scenario.duplicates),
            story,
            tally: Tally::default(),
            rng: rng.fork(0),
            options,
            disturbances: scenario.disturbances.clone(),
            ticks: Vec::new(),
            local: VecDeque::new(),
            arriving: None,
            out: Effects::new(),
            tickets: 0,
            answer: None,
            stepping: None,
        };
        for plan in &scenario.nodes {
            world.add(plan.clone(), &mut rng);
        }
        for (index, disturbance) in scenario.disturbances.iter().enumerate() {
            let index = u32::try_from(index).expect("a scenario is short");
            world.queue.push(disturbance.at, Event::Disturb { index });
        }
        world
    }

    fn add(&mut self, plan: NodePlan, rng: &mut Rng) {
        let number = self.nodes.len() as u64;
        let rng = rng.fork(number + 1);
        self.nodes.push(Node::new(plan, rng));
    }

    pub fn node(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    /// Whether that life of that node goes on.
    pub fn lives(&self, node: u32, boot: u32) -> bool {
        let node = &self.nodes[node as usize];
        node.is_alive && node.boot == boot
    }

    pub fn unix_ms(&self, node: u32) -> u64 {
        let real = BEGAN_MS + self.now.0 / 1_000;
        real.saturating_add_signed(self.nodes[node as usize].clock_offset_ms)
    }

    pub fn fail(&mut self, what: &'static str, nodes: [u32; 2], detail: String) {
        if self.promises.violation.is_none() {
            self.story.add(self.now, nodes, || format!("VIOLATION: {what}: {detail}"));
            self.promises.violation = Some(Violation { what: what.into(), nodes, detail, at: self.now });
        }
    }

    /// Lets everything happen up to a time, or to the first violation.
    pub fn run_until(&mut self, until: Time) {
        while self.queue.next().is_some_and(|at| at <= until) && self.promises.violation.is_none() {
            self.advance();
        }
        self.now = self.now.max(until);
    }

    /// Lets the next event happen.
    pub fn advance(&mut self) {
        let Some((at, event)) = self.queue.pop() else { return };
        self.now = at;
        if let Some(node) = self.sleeper(&event) {
            // A sleeping machine does nothing, and then everything in the order it came.
            let until = self.node(node).suspended_until;
            if let Event::Wake { .. } = event {
                if self.node(node).wake_at != at {
                    return;
                }
                self.node(node).wake_at = until;
            }
            self.queue.push(until, event);
            return;
        }
        self.happen(event);
        while let Some((node, fact)) = self.local.pop_front() {
            self.step(node, Action::Saw(fact));
        }
    }

    fn sleeper(&self, event: &Event) -> Option<u32> {
        let of_wire = |wire, side: u8| self.wires.get(wire).map(|wire| wire.ends[usize::from(side)].node);
        let node = match event {
            Event::Wake { node }
            | Event::LegFailed { node, .. }
            | Event::RaceWake { node, .. }
            | Event::Order { node, .. }
            | Event::Gone { node, .. }
            | Event::Resolved { node, .. }
            | Event::Minute { node, .. } => *node,
            Event::Arrive { wire, side, .. } | Event::GiveUp { wire, side } => of_wire(*wire, *side)?,
            Event::Syn { wire } => of_wire(*wire, 1)?,
            Event::SynAnswered { wire, .. } => of_wire(*wire, 0)?,
            Event::Disturb { .. } | Event::Over { .. } | Event::Tick { .. } => return None,
        };
        (self.nodes[node as usize].suspended_until > self.now).then_some(node)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { node } => self.wake(node),
            Event::Arrive { wire, side, msg } => self.arrive(wire, side, msg),
            Event::Syn { wire } => self.syn(wire),
            Event::SynAnswered { wire, is_accepted } => self.syn_answered(wire, is_accepted),
            Event::LegFailed { node, boot, conn, leg, fault } if self.lives(node, boot) => {
                self.leg_failed(node, conn, leg, fault);
            }
            Event::RaceWake { node, boot, conn } if self.lives(node, boot) => self.race_wake(node, conn),
            Event::Order { node, boot, conn, order } if self.lives(node, boot) => {
                self.obey(node, conn, order);
            }
            Event::Gone { node, boot, conn, end } if self.lives(node, boot) => self.gone(node, conn, end),
            Event::Resolved { node, boot, conn } if self.lives(node, boot) => self.resolved(node, conn),
            Event::GiveUp { wire, side } => self.give_up(wire, side),
            Event::Minute { node, boot } if self.lives(node, boot) => {
                let unix_ms = self.unix_ms(node);
                self.queue.push(self.now + Duration::from_secs(60), Event::Minute { node, boot });
                self.step(node, Action::Clock { unix_ms });
            }
            Event::Disturb { index } => self.disturb(index),
            Event::Over { index, boot } => self.disturbance_over(index, boot),
            Event::Tick { what, node } => self.ticks.push((what, node)),
            _ => {}
        }
    }

    fn wake(&mut self, number: u32) {
        let now = self.now;
        let node = self.node(number);
        if node.wake_at != now || !node.is_alive {
            return;
        }
        node.wake_at = Time::NEVER;
        match node.core.next_wake() {
            Some(at) if at <= now => drop(self.step(number, Action::Wake)),
            _ => self.plan_wake(number),
        }
    }

    /// One wake per node counts: an earlier need replaces a later one, a later one waits for the earlier.
    fn plan_wake(&mut self, number: u32) {
        let now = self.now;
        let node = self.node(number);
        let Some(at) = node.core.next_wake() else { return };
        let at = at.max(now);
        if at < node.wake_at {
            node.wake_at = at;
            self.queue.push(at, Event::Wake { node: number });
        }
    }

    /// A fact of a link, to be told as soon as the present step is over.
    pub fn tell(&mut self, node: u32, fact: Fact) {
        self.local.push_back((node, fact));
    }

    pub fn command(&mut self, node: u32, command: Command) -> Option<Answer> {
        let number = {
            let node = self.node(node);
            node.commands = node.commands.wrapping_add(1);
            node.commands
        };
        self.story.add(self.now, [node; 2], || format!("an operator of node {node} says {command:?}"));
        let answer = self.step(node, Action::Do(CommandId(number), command));
        self.story.add(self.now, [node; 2], || format!("node {node} answers {answer:?}"));
        answer
    }

    /// The one place where a core is stepped: append, step, carry out, hold against the promises.
    pub fn step(&mut self, number: u32, action: Action) -> Option<Answer> {
        let now = self.now;
        let (with_journal, with_check) = (self.options.journal, self.options.check);
        let node = &mut self.nodes[number as usize];
        if !node.is_alive || self.promises.violation.is_some() {
            return None;
        }
        self.tally.actions += 1;
        node.actions += 1;
        self.stepping = Some(number);
        if with_journal {
            journal::append(node.core.digest(), now, &action, &mut node.journal);
        }
        let ending = match &action {
            Action::Saw(Fact::Gone { conn, .. }) => Some(*conn),
            _ => None,
        };
        if let Some(slot) = ending.and_then(|conn| node.slot(conn)) {
            slot.is_ending = true;
        }
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        node.core.step(now, &action, &mut out);
        let broken = if !with_check {
            None
        } else if node.actions.is_multiple_of(THOROUGH_EVERY) {
            node.core.check().err()
        } else {
            node.core.check_in_turn().err()
        };
        if let Some(broken) = broken {
            let detail = format!("{} after {action:?}", broken.0);
            self.fail("the core's own check fails", [number; 2], detail);
        }
        self.answer = None;
        let is_command = match &action {
            Action::Do(id, _) => Some(*id),
            _ => None,
        };
        // People are told before links obey: what is said of a link is held against the link as it was.
        for effect in out.as_slice() {
            if let Effect::Tell { contact, conn, what } = *effect {
                self.told(number, contact, conn, what);
            }
        }
        for effect in out.drain() {
            self.perform(number, effect, is_command);
        }
        self.out = out;
        if let Some(conn) = ending {
            self.forget_slot(number, conn);
        }
        if is_command.is_some() && self.answer.is_none() {
            self.fail("a command is answered in its own step", [number; 2], format!("{action:?}"));
        }
        self.hold_counts(number);
        let epoch = self.nodes[number as usize].core.view().epoch();
        let node = &mut self.nodes[number as usize];
        if node.disk.epoch < epoch && node.disk.deaf_until <= now {
            node.disk.epoch = epoch;
        }
        self.plan_wake(number);
        self.answer
    }

    fn forget_slot(&mut self, number: u32, conn: ConnRef) {
        let Some(slot) = self.node(number).slot(conn) else { return };
        let (announced, is_live) = (slot.is_announced, slot.is_live);
        *slot = Slot::FREE;
        if announced {
            self.fail("what was announced is told lost", [number; 2], format!("{conn} is gone"));
        }
        if !is_live {
            self.tally.wasted += 1;
        }
    }

    fn perform(&mut self, node: u32, effect: Effect, command: Option<CommandId>) {
        match effect {
            Effect::Dial { conn, deadline: _ } => self.dial(node, conn),
            Effect::Resolve { conn } => self.resolve(node, conn),
            Effect::Accept { ticket, conn, deadline: _ } => self.accept(node, ticket, conn),
            Effect::Refuse { ticket, why } => self.refuse(node, ticket, why),
            Effect::Admit { conn } => self.order(node, conn, Order::Admit),
            Effect::Turn { conn, why } => {
                let retry_after = self.node(node).core.view().retry_after(why);
                self.order(node, conn, Order::Turn { why, retry_after });
            }
            Effect::Probe { conn } => self.order(node, conn, Order::Probe),
            Effect::Close { conn, why, unless_used_since } => {
                self.order(node, conn, Order::Close { why, unless_used_since });
            }
            Effect::Store { contact } => {
                let now = self.now;
                if self.options.disk {
                    let node = self.node(node);
                    node.disk.store(&node.core, contact, now);
                }
            }
            Effect::StoreBan { ban } => {
                let (now, unix_ms) = (self.now, self.unix_ms(node));
                let at = self.node(node);
                if let Some(ban) = at.disk.store_ban(&at.core, ban, now, unix_ms) {
                    at.known.bans.retain(|(target, _)| *target != ban.target);
                    if !ban.over {
                        at.known.bans.push((ban.target, ban.until));
                    }
                }
            }
            Effect::Tell { .. } => {}
            Effect::Reply { to, answer } => {
                if command != Some(to) || self.answer.is_some() {
                    self.fail("a command is answered once", [node; 2], format!("{to:?} {answer:?}"));
                }
                self.answer = Some(answer);
            }
        }
    }

    /// An order reaches its link at once, or after the time the node's plan says.
    fn order(&mut self, number: u32, conn: ConnRef, order: Order) {
        let now = self.now;
        let node = self.node(number);
        let (delay, boot) = (node.plan.order_us, node.boot);
        if node.slot(conn).is_none() {
            let what = "nothing is ordered of a conn that is over";
            return self.fail(what, [number; 2], format!("{conn} {order:?}"));
        }
        if delay == 0 {
            self.obey(number, conn, order);
        } else {
            let at = now + Duration::from_micros(delay);
            self.queue.push(at, Event::Order { node: number, boot, conn, order });
        }
    }

    pub fn ticket(&mut self) -> Ticket {
        self.tickets = self.tickets.wrapping_add(1);
        Ticket(self.tickets)
    }

    pub fn socket(&mut self, node: u32, conn: ConnRef) -> Option<&mut Socket> {
        self.node(node).slot(conn).map(|slot| &mut slot.socket)
    }
}

/// For stories: what was told, in words.
pub(crate) fn in_words(what: Told) -> String {
    match what {
        Told::Lost(why) => format!("loses it ({why:?})"),
        other => format!("tells {other:?}"),
    }
}
