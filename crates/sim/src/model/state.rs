//! A state: cores, wires, what is left of the budget. Steps a core and carries out its effects on the wires, which is
//! all that a driver does.

use super::World;
use super::parts::{Budget, Due, End, Fold, Msg, Node, Wire};
use super::promises::{Bad, Seen};
use super::setups::{addr, key};
use peerkeep_core::{
    Action, Close, Command, CommandId, ConnRef, Core, Effect, Effects, End as Ending, Fact, Greeting,
    Refusal, Report, StackId, Stage, Ticket, Time, Told, Who,
};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The first boot epoch of every node.
const EPOCH: u64 = 1_000;
const TICKET: Ticket = Ticket(0);

/// Real cores, the wires between them, and what is left of the budget.
#[derive(Clone)]
pub struct State {
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) wires: Vec<Wire>,
    pub(crate) left: Budget,
    /// Promises broken on the way here, by [`Bad`].
    pub(crate) bad: u16,
    /// Who stepped last.
    pub(crate) last: u8,
    /// The wire whose acceptor is being asked.
    arriving: Option<usize>,
    /// Ends that a core closed in this transition.
    pub(crate) closed: u8,
    identity: u64,
}

impl State {
    pub(crate) fn new(world: &World) -> State {
        let setup = &world.setup;
        let node = |index| Arc::new(Node::new(boot(world, index, EPOCH)));
        let mut state = State {
            nodes: (0..setup.nodes).map(node).collect(),
            wires: Vec::new(),
            left: setup.budget,
            bad: 0,
            last: 0,
            arriving: None,
            closed: 0,
            identity: 0,
        };
        for index in 0..setup.nodes {
            state.want_all(world, index);
        }
        state.finish();
        state
    }

    /// Says whom that node wants: everybody.
    pub(crate) fn want_all(&mut self, world: &World, at: u8) {
        for other in (0..world.setup.nodes).filter(|other| *other != at) {
            let addrs = world.setup.known(at, other);
            let command = Command::Want { who: Who::mesh(key(other)), addrs, named: false };
            self.step(world, at, Action::Do(CommandId(0), command));
        }
    }

    /// The process dies with all it knew, silently, and starts again.
    pub(crate) fn crash(&mut self, world: &World, at: u8, epoch: u64) {
        for end in self.wires.iter_mut().flat_map(|wire| &mut wire.ends) {
            // A wire that was not accepted yet reaches the new process.
            if end.node == at && end.conn.is_some() {
                end.queue.clear();
                *end = End {
                    conn: None,
                    open: false,
                    up: false,
                    due: Due::Nothing,
                    queue: end.queue.clone(),
                    ..*end
                };
            }
        }
        if epoch < self.nodes[usize::from(at)].core.view().epoch() {
            // No clock can tell an old hello of a later epoch from a new one: here nothing outlives such a restart.
            for wire in
                self.wires.iter_mut().filter(|wire| wire.ends[0].node == at && wire.ends[1].conn.is_none())
            {
                wire.ends[1].queue.clear();
            }
        }
        self.nodes[usize::from(at)] = Arc::new(Node::new(boot(world, at, epoch)));
        self.want_all(world, at);
    }

    /// Steps a core, and everything its driver does at once.
    pub(crate) fn step(&mut self, world: &World, at: u8, action: Action) {
        self.last = at;
        let mut todo = VecDeque::from([action]);
        let mut out = Effects::new();
        while let Some(action) = todo.pop_front() {
            let node = Arc::make_mut(&mut self.nodes[usize::from(at)]);
            node.core.step(node.now, &action, &mut out);
            let effects: Vec<Effect> = out.drain().collect();
            for effect in effects {
                self.perform(world, at, effect, &mut todo);
            }
        }
        Arc::make_mut(&mut self.nodes[usize::from(at)]).settle();
    }

    fn perform(&mut self, world: &World, at: u8, effect: Effect, todo: &mut VecDeque<Action>) {
        match effect {
            Effect::Dial { conn, .. } => self.dial(world, at, conn),
            Effect::Accept { conn, .. } => {
                if let Some(wire) = self.arriving {
                    self.wires[wire].ends[1].conn = Some(conn);
                }
            }
            Effect::Refuse { .. } | Effect::Resolve { .. } => self.bad |= Bad::Unexpected.bit(),
            Effect::Admit { conn } => self.admit(world, at, conn, todo),
            Effect::Turn { conn, why } => {
                self.judge_refusal(world, at, conn, why);
                let newer = if let Refusal::Stale { newer } = why { newer } else { 0 };
                self.send(at, conn, Msg::Refusal { newer });
                self.shut(world, at, conn, None, todo);
            }
            Effect::Probe { conn } => self.send(at, conn, Msg::Ping),
            Effect::Close { conn, why, .. } => {
                self.judge_close(world, at, conn, why);
                self.shut(world, at, conn, Some(why), todo);
            }
            Effect::Tell { conn, what: Told::Connected, .. } => self.announced(world, at, conn),
            Effect::Tell { conn, what: Told::Lost(why), .. } => {
                self.judge_loss(at, conn, why);
                if let Some((wire, side)) = self.find(at, conn) {
                    self.wires[wire].ends[side].up = false;
                }
            }
            Effect::Tell { what: Told::CloneSuspected, .. } => self.bad |= Bad::Unexpected.bit(),
            Effect::Tell { .. } | Effect::Reply { .. } | Effect::Store { .. } | Effect::StoreBan { .. } => {}
        }
    }

    fn dial(&mut self, world: &World, at: u8, conn: ConnRef) {
        let core = &self.nodes[usize::from(at)].core;
        let Some(dial) = core.view().dial(conn) else { return };
        let Some(to) = (0..world.setup.nodes).find(|node| dial.addrs.contains(&addr(*node))) else {
            self.bad |= Bad::Unexpected.bit();
            return;
        };
        let crossing = self
            .wires
            .iter()
            .any(|w| w.ends[0].node == to && w.ends[1].node == at && w.ends[1].conn.is_none());
        if crossing {
            world.note(Seen::Crossed);
        }
        let mut wire = Wire {
            ends: [End::new(at, Some(conn)), End::new(to, None)],
            replaces: dial.greeting.replaces,
            broken: false,
        };
        wire.ends[1].queue.push(Msg::hello(dial.greeting));
        self.wires.push(wire);
    }

    fn admit(&mut self, world: &World, at: u8, conn: ConnRef, todo: &mut VecDeque<Action>) {
        let Some((wire, side)) = self.find(at, conn) else { return };
        if side == 1 {
            let epoch = self.nodes[usize::from(at)].core.view().answer().epoch;
            self.send(at, conn, Msg::Answer { epoch });
            return;
        }
        self.send(at, conn, Msg::Confirm);
        match world.setup.slow {
            true => self.wires[wire].ends[0].due = Due::Ready,
            false => todo.push_front(Action::Saw(Fact::Ready { conn })),
        }
    }

    /// This end is done: what it sent still travels, then the other end hears of it.
    fn shut(
        &mut self,
        world: &World,
        at: u8,
        conn: ConnRef,
        bye: Option<Close>,
        todo: &mut VecDeque<Action>,
    ) {
        let Some((wire, side)) = self.find(at, conn) else { return };
        if let Some(why) = bye {
            self.send(at, conn, Msg::Bye(why));
        }
        let end = &mut self.wires[wire].ends[side];
        if !end.open {
            return;
        }
        end.open = false;
        end.queue.clear();
        self.closed += 1;
        let end = &mut self.wires[wire].ends[side];
        match world.setup.slow {
            true => end.due = Due::Gone,
            false => {
                end.due = Due::Nothing;
                end.conn = None;
                todo.push_back(Action::Saw(Fact::Gone { conn, end: Ending::Asked }));
            }
        }
    }

    fn send(&mut self, at: u8, conn: ConnRef, msg: Msg) {
        let Some((wire, side)) = self.find(at, conn) else { return };
        let wire = &mut self.wires[wire];
        let other = &mut wire.ends[1 - side];
        if !wire.broken && other.open && other.queue.try_push(msg).is_err() {
            self.bad |= Bad::Unexpected.bit();
        }
    }

    pub(crate) fn find(&self, at: u8, conn: ConnRef) -> Option<(usize, usize)> {
        self.wires.iter().enumerate().find_map(|(index, wire)| {
            let side = wire.ends.iter().position(|end| end.node == at && end.conn == Some(conn))?;
            Some((index, side))
        })
    }

    /// The head of what is on its way to an end arrives.
    pub(crate) fn deliver(&mut self, world: &World, wire: usize, side: usize) {
        let end = &mut self.wires[wire].ends[side];
        let Some(msg) = end.queue.pop_at(0) else { return };
        let (at, from) = (end.node, self.wires[wire].ends[1 - side].node);
        if self.wires[wire].ends[side].conn.is_none() {
            self.arriving = Some(wire);
            let arrived = Fact::Arrived { ticket: TICKET, stack: StackId::Mesh, remote: addr(from) };
            self.step(world, at, Action::Saw(arrived));
            self.arriving = None;
        }
        let Some(conn) = self.wires[wire].ends[side].conn else { return };
        let bare = world.setup.duplicates != peerkeep_core::Duplicates::Numbers;
        let met = |greeting: Greeting| {
            let greeting = (!bare).then_some(greeting);
            Fact::Met { conn, key: key(from), at: addr(from), greeting }
        };
        let fact = match msg {
            Msg::Hello { epoch, dial, accepted, replaces } => {
                met(Greeting { epoch, dial, accepted, replaces })
            }
            Msg::Answer { epoch } => met(Greeting { epoch, ..Greeting::default() }),
            Msg::Confirm => Fact::Ready { conn },
            Msg::Ping | Msg::Pong => {
                if msg == Msg::Ping {
                    self.send(at, conn, Msg::Pong);
                }
                let node = Arc::make_mut(&mut self.nodes[usize::from(at)]);
                if bare {
                    // No answer comes in the very microsecond of its question, and the rule without numbers asks.
                    node.now = node.now + super::setups::TICK;
                }
                let report = Report { received_at: node.now, ..Report::default() };
                Fact::Reported { conn, report }
            }
            Msg::Refusal { newer } => {
                if newer > 0 {
                    world.note(Seen::Passed);
                }
                let declined = Fact::Declined {
                    conn,
                    key: Some(key(from)),
                    at: addr(from),
                    code: 0,
                    retry_after: std::time::Duration::ZERO,
                    newer_epoch: newer,
                };
                self.step(world, at, Action::Saw(declined));
                self.over(world, wire, side, Ending::Goodbye(Close::Duplicate));
                return;
            }
            Msg::Bye(why) => {
                self.over(world, wire, side, Ending::Goodbye(why));
                return;
            }
        };
        self.step(world, at, Action::Saw(fact));
        if world.seen_held(self, at) {
            world.note(Seen::Held);
        }
    }

    /// An end hears that it is over.
    pub(crate) fn over(&mut self, world: &World, wire: usize, side: usize, end: Ending) {
        let own = &mut self.wires[wire].ends[side];
        let Some(conn) = own.conn else { return };
        own.open = false;
        own.queue.clear();
        own.due = Due::Nothing;
        let at = own.node;
        self.step(world, at, Action::Saw(Fact::Gone { conn, end }));
        self.wires[wire].ends[side].conn = None;
    }

    /// What the driver of an end still had to report.
    pub(crate) fn report(&mut self, world: &World, wire: usize, side: usize) {
        let end = &mut self.wires[wire].ends[side];
        let Some(conn) = end.conn else { return };
        let at = end.node;
        match core::mem::replace(&mut end.due, Due::Nothing) {
            Due::Nothing => {}
            Due::Ready => self.step(world, at, Action::Saw(Fact::Ready { conn })),
            Due::Gone => self.over(world, wire, side, Ending::Asked),
        }
    }

    /// Lets a node's clock run to its next timer. Coarse timers may need several looks.
    pub(crate) fn wake(&mut self, world: &World, at: u8) {
        for _ in 0..64 {
            let node = Arc::make_mut(&mut self.nodes[usize::from(at)]);
            let Some(next) = node.core.next_wake() else { return };
            let before = node.core.work();
            node.now = next.max(node.now);
            self.step(world, at, Action::Wake);
            if self.nodes[usize::from(at)].core.work() != before {
                return;
            }
        }
        self.bad |= Bad::Unexpected.bit();
    }

    /// Forgets wires that are over, and computes what tells this state from others.
    pub(crate) fn finish(&mut self) {
        self.wires
            .retain(|wire| !(wire.ends[0].is_over() && (wire.ends[1].is_over() || wire.never_arrives())));
        let mut fold = Fold::default();
        (self.left, self.bad).hash(&mut fold);
        let mut place = [u8::MAX; 16];
        let mut next = 0;
        for (index, node) in self.nodes.iter().enumerate() {
            node.form.hash(&mut fold);
            for conn in &node.order {
                let found = u8::try_from(index).ok().and_then(|at| self.find(at, *conn));
                let Some((wire, side)) = found.filter(|(wire, _)| *wire < place.len()) else {
                    0xff_u8.hash(&mut fold);
                    continue;
                };
                if place[wire] == u8::MAX {
                    place[wire] = next;
                    next += 1;
                    self.wires[wire].hash_into(&mut fold);
                }
                (place[wire], side).hash(&mut fold);
            }
        }
        let mut loose: Vec<u64> = Vec::new();
        for (index, wire) in self.wires.iter().enumerate() {
            if place.get(index) == Some(&u8::MAX) {
                let mut fold = Fold::default();
                wire.hash_into(&mut fold);
                loose.push(fold.finish());
            }
        }
        loose.sort_unstable();
        loose.hash(&mut fold);
        self.closed = 0;
        self.identity = fold.finish();
    }

    /// What stands here, for stories.
    pub(crate) fn told(&self) -> Vec<String> {
        let node = |(index, node): (usize, &Arc<Node>)| {
            let view = node.core.view();
            let standings: Vec<String> =
                view.contacts().map(|contact| format!("{:?}", contact.standing)).collect();
            let conns: Vec<String> = view
                .conns()
                .map(|conn| format!("{}:{:?} {:?} dial {}", conn.conn, conn.direction, conn.stage, conn.dial))
                .collect();
            format!("   node {index} at {} {standings:?} {conns:?}", node.now.0)
        };
        let mut lines: Vec<String> = self.nodes.iter().enumerate().map(node).collect();
        for (index, wire) in self.wires.iter().enumerate() {
            let ends = wire.ends.each_ref().map(|end| {
                format!(
                    "{} {} {}{:?}",
                    end.node,
                    if end.up { "up" } else { "-" },
                    if end.open { "" } else { "shut " },
                    end.queue.as_slice()
                )
            });
            lines.push(format!("   wire {index}{} {ends:?}", if wire.broken { " broken" } else { "" }));
        }
        if self.bad != 0 {
            lines.push(format!("   broken promises: {}", super::promises::names(self.bad)));
        }
        lines
    }
}

impl Wire {
    /// Nobody accepted it, and nobody will.
    fn never_arrives(&self) -> bool {
        self.ends[1].conn.is_none() && self.ends[1].queue.is_empty()
    }
}

impl World {
    fn seen_held(&self, state: &State, at: u8) -> bool {
        state.nodes[usize::from(at)].core.view().counts().stage[Stage::Held.index()] > 0
    }
}

fn boot(world: &World, at: u8, epoch: u64) -> Core {
    Core::new(world.setup.config(at, epoch), [7; 32], Time::ZERO)
        .expect("a setup's configuration holds together")
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.identity == other.identity
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.told().join("\n"))
    }
}
