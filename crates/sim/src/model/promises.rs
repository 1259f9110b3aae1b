//! What must hold, and what must be reached so that holding means something.

use super::World;
use super::parts::Wire;
use super::state::State;
use peerkeep_core::{Close, ConnRef, Duplicates, Refusal, Standing};
use stateright::Property;

/// A promise broken by a step; kept in the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Bad {
    /// Two connections of one pair up at both ends, and neither is there to replace the other.
    Two,
    /// The rule closed a connection that was up at both ends.
    ClosedWorking,
    /// A dial was refused for the sake of a connection that is dead.
    RefusedForDead,
    /// What was announced was withdrawn by the rule, with the link whole.
    Withdrawn,
    /// Something that cannot happen here.
    Unexpected,
}

impl Bad {
    pub fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// A situation worth reaching.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Seen {
    /// Everything is at rest.
    Rest,
    /// Two dials on their way at once.
    Crossed,
    /// A conn was held for an own dial.
    Held,
    /// An end was up and noticed that the other one is gone.
    HalfOpen,
    /// A stale hello was refused.
    Stale,
    /// A refusal told a newer epoch.
    Passed,
    /// A deadline passed while something was on its way.
    EarlyDeadline,
    /// A connection gave way to its successor.
    Replaced,
    /// Both were up at both ends for a while.
    Overlap,
}

const SEEN: [(Seen, &str); 9] = [
    (Seen::Rest, "rest"),
    (Seen::Crossed, "two dials crossing"),
    (Seen::Held, "a conn held"),
    (Seen::HalfOpen, "a half-open end noticed"),
    (Seen::Stale, "a stale hello refused"),
    (Seen::Passed, "a newer epoch told"),
    (Seen::EarlyDeadline, "an early deadline"),
    (Seen::Replaced, "a connection replaced"),
    (Seen::Overlap, "old and new up at once"),
];

pub(crate) fn missing(seen: u64, must: &[Seen]) -> Vec<&'static str> {
    let missing = SEEN.iter().filter(|(which, _)| must.contains(which) && seen & (1 << *which as u64) == 0);
    missing.map(|(_, name)| *name).collect()
}

const TWO: &str = "never two connections up at both ends";
const WORKING: &str = "the rule never closes a working connection";
const DEAD: &str = "no dial is refused for a dead connection";
const WITHDRAWN: &str = "nothing announced is withdrawn while the link is whole";
const UNEXPECTED: &str = "nothing happens that cannot";
const CHECK: &str = "the core's own invariants hold";
const REST: &str = "at rest there is exactly one connection, up at both ends";
const DIALS: &str = "no more dials than faults ask for";

pub(crate) fn properties() -> Vec<Property<World>> {
    vec![
        Property::always(TWO, |_, state: &State| state.bad & Bad::Two.bit() == 0),
        Property::always(WORKING, |_, state: &State| state.bad & Bad::ClosedWorking.bit() == 0),
        Property::always(DEAD, |_, state: &State| state.bad & Bad::RefusedForDead.bit() == 0),
        Property::always(WITHDRAWN, |_, state: &State| state.bad & Bad::Withdrawn.bit() == 0),
        Property::always(UNEXPECTED, |_, state: &State| state.bad & Bad::Unexpected.bit() == 0),
        Property::always(CHECK, |_, state: &State| state.nodes[usize::from(state.last)].core.check().is_ok()),
        Property::always(REST, |world: &World, state: &State| {
            !state.is_at_rest(world) || state.is_good(world)
        }),
        Property::always(DIALS, |world: &World, state: &State| state.dials_are_few(world)),
    ]
}

pub(crate) fn names(bad: u16) -> String {
    let all = [
        (Bad::Two, TWO),
        (Bad::ClosedWorking, WORKING),
        (Bad::RefusedForDead, DEAD),
        (Bad::Withdrawn, WITHDRAWN),
        (Bad::Unexpected, UNEXPECTED),
    ];
    all.iter()
        .filter(|(which, _)| bad & which.bit() != 0)
        .map(|(_, name)| *name)
        .collect::<Vec<_>>()
        .join("; ")
}

impl State {
    fn is_at_rest(&self, world: &World) -> bool {
        let timers = || self.nodes.iter().any(|node| node.core.next_wake().is_some());
        // Probes go on for ever; with them, rest is when nothing but liveness is left.
        self.is_quiet(world) && (world.setup.probes && self.all_connected(world) || !timers())
    }

    fn all_connected(&self, world: &World) -> bool {
        let nodes = world.setup.nodes;
        (0..nodes).all(|a| (0..nodes).all(|b| a == b || self.standing(a, b) == Standing::Connected))
    }

    fn is_good(&self, world: &World) -> bool {
        world.note(Seen::Rest);
        let pairs = (0..world.setup.nodes).flat_map(|a| (0..a).map(move |b| (a, b)));
        let one = pairs.into_iter().all(|(a, b)| {
            let mut between = self.wires.iter().filter(|wire| wire.joins(a, b));
            let only = between.next();
            only.is_some_and(|wire| wire.is_up() && wire.is_whole()) && between.next().is_none()
        });
        // With the cores' own probes a broken wire may not have been noticed yet.
        let unnoticed = world.setup.probes && self.wires.iter().any(|wire| wire.broken);
        unnoticed || one && self.all_connected(world)
    }

    /// No livelock: each side dials once, and a fault or a replacement costs it two more at most (two of its dials may
    /// be under way to one end that dies).
    fn dials_are_few(&self, world: &World) -> bool {
        let (all, left) = (world.setup.budget, self.left);
        let spent = all.faults() - left.faults() + u32::from(all.replaces - left.replaces);
        let peers = u64::from(world.setup.nodes - 1);
        // Without numbers a late hello takes the place of a good one now and then, which costs another dial.
        let (each, more) = if world.setup.duplicates == Duplicates::Numbers { (2, 1) } else { (4, 2) };
        let most = peers * (each * u64::from(spent) + more);
        self.nodes.iter().all(|node| node.core.stats().dials <= most)
    }

    fn others<'a>(&'a self, wire: &'a Wire) -> impl Iterator<Item = &'a Wire> {
        self.wires.iter().filter(move |other| !std::ptr::eq(*other, wire) && other.is_same_pair(wire))
    }

    /// A successor of that wire is up at both ends, or at the end that closes, which has read the confirm.
    fn is_succeeded(&self, wire: &Wire) -> bool {
        self.others(wire).any(|other| other.replaces && other.is_whole() && other.ends[0].up)
    }

    pub(crate) fn announced(&mut self, world: &World, at: u8, conn: ConnRef) {
        let Some((index, side)) = self.find(at, conn) else { return };
        self.wires[index].ends[side].up = true;
        let wire = &self.wires[index];
        if !wire.is_up() {
            return;
        }
        let rivals: Vec<bool> = self
            .others(wire)
            .filter(|other| other.is_up())
            .map(|other| wire.replaces || other.replaces)
            .collect();
        if rivals.contains(&true) {
            world.note(Seen::Overlap);
        }
        if rivals.contains(&false) {
            self.bad |= Bad::Two.bit();
        }
    }

    /// Before an end closes.
    pub(crate) fn judge_close(&mut self, world: &World, at: u8, conn: ConnRef, why: Close) {
        let Some((index, _)) = self.find(at, conn) else { return };
        let wire = &self.wires[index];
        let replaced = why == Close::Replaced && self.is_succeeded(wire);
        if replaced {
            world.note(Seen::Replaced);
        }
        // Both processes hold it, and at least one has announced it.
        let announced = wire.ends[0].up || wire.ends[1].up;
        if is_by_rule(why) && wire.is_whole() && announced && !replaced {
            let bad = if wire.is_up() { Bad::ClosedWorking } else { Bad::Withdrawn };
            self.bad |= bad.bit();
        }
    }

    /// When a loss is told for another reason than a close of this side, which was judged before.
    pub(crate) fn judge_loss(&mut self, at: u8, conn: ConnRef, why: Close) {
        let Some((index, _)) = self.find(at, conn) else { return };
        let wire = &self.wires[index];
        if is_by_rule(why) && wire.is_whole() && !self.is_succeeded(wire) {
            self.bad |= Bad::Withdrawn.bit();
        }
    }

    /// Before a hello or an answer is refused.
    pub(crate) fn judge_refusal(&mut self, world: &World, at: u8, conn: ConnRef, why: Refusal) {
        let by_rule = matches!(why, Refusal::Stale { newer: 0 } | Refusal::AlreadyConnected);
        if why == (Refusal::Stale { newer: 0 }) {
            world.note(Seen::Stale);
        }
        let Some((index, _)) = self.find(at, conn) else { return };
        let wire = &self.wires[index];
        let numbers = world.setup.duplicates == Duplicates::Numbers;
        // Somebody waits at the other end, and there is no other connection that is or can come up.
        let alive = |other: &Wire| other.is_whole() && other.ends.iter().any(|end| end.conn.is_some());
        if by_rule && numbers && wire.is_whole() && !self.others(wire).any(alive) {
            self.bad |= Bad::RefusedForDead.bit();
        }
    }
}

fn is_by_rule(why: Close) -> bool {
    matches!(why, Close::Duplicate | Close::Replaced | Close::Dead)
}
