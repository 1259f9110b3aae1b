//! What a state is made of besides cores: wires with their two ends, messages in order, and what is left of the budget
//! of faults. Plain data.

use arrayvec::ArrayVec;
use peerkeep_core::{Close, ConnRef, Core, Greeting, Time};
use std::hash::{Hash, Hasher};

/// How many faults may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    /// A wire from now on loses everything, and nobody is told.
    pub breaks: u8,
    /// A node forgets everything and starts again, at a later epoch.
    pub crashes: u8,
    /// The same at an epoch that went back.
    pub back: u8,
    /// An operator abandons a dial, which is also what its own deadline does.
    pub cancels: u8,
    /// A deadline or a hold passes although something is still on its way.
    pub early: u8,
    /// A degraded connection is to be replaced.
    pub replaces: u8,
}

impl Budget {
    /// All faults together; a replacement is none.
    pub fn faults(&self) -> u32 {
        u32::from(self.breaks)
            + u32::from(self.crashes)
            + u32::from(self.back)
            + u32::from(self.cancels)
            + u32::from(self.early)
    }
}

/// What travels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Msg {
    Hello { epoch: u64, dial: u32, accepted: (u64, u32), replaces: bool },
    Answer { epoch: u64 },
    Refusal { newer: u64 },
    Confirm,
    Ping,
    Pong,
    Bye(Close),
}

impl Msg {
    pub fn hello(greeting: Greeting) -> Msg {
        let Greeting { epoch, dial, accepted, replaces } = greeting;
        Msg::Hello { epoch, dial, accepted, replaces }
    }
}

/// What the driver of an end has yet to report.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Due {
    Nothing,
    /// The confirm was sent.
    Ready,
    /// The order to close was carried out.
    Gone,
}

/// One end of a wire.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub node: u8,
    /// `None` before the acceptor accepted, and after the end.
    pub conn: Option<ConnRef>,
    /// Its process holds it: false once closed or crashed.
    pub open: bool,
    /// Told `Connected` and not `Lost`.
    pub up: bool,
    pub due: Due,
    /// What is on its way to this end.
    pub queue: ArrayVec<Msg, 6>,
}

impl End {
    pub fn new(node: u8, conn: Option<ConnRef>) -> End {
        End { node, conn, open: true, up: false, due: Due::Nothing, queue: ArrayVec::new() }
    }

    /// Nothing more can happen here.
    pub fn is_over(&self) -> bool {
        !self.open && self.due == Due::Nothing
    }

    fn hash_into(&self, out: &mut impl Hasher) {
        (self.node, self.conn.is_some(), self.open, self.up, self.due, self.queue.as_slice()).hash(out);
    }
}

/// A connection: end 0 dialled, end 1 accepts.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub ends: [End; 2],
    pub replaces: bool,
    /// Everything sent from now on is lost, and nobody is told.
    pub broken: bool,
}

impl Wire {
    pub fn joins(&self, a: u8, b: u8) -> bool {
        let (x, y) = (self.ends[0].node, self.ends[1].node);
        (x, y) == (a, b) || (x, y) == (b, a)
    }

    pub fn is_same_pair(&self, other: &Wire) -> bool {
        self.joins(other.ends[0].node, other.ends[1].node)
    }

    pub fn is_up(&self) -> bool {
        self.ends[0].up && self.ends[1].up
    }

    /// Bytes go both ways, and both processes hold their end.
    pub fn is_whole(&self) -> bool {
        !self.broken && self.ends[0].open && self.ends[1].open
    }

    /// The other end is known to be gone by whoever asks it.
    pub fn can_notice(&self, side: usize) -> bool {
        let (own, other) = (&self.ends[side], &self.ends[1 - side]);
        let said_bye = own.queue.iter().any(|msg| matches!(msg, Msg::Bye(_) | Msg::Refusal { .. }));
        own.open && own.conn.is_some() && own.due != Due::Ready && (self.broken || !other.open && !said_bye)
    }

    pub fn hash_into(&self, out: &mut impl Hasher) {
        (self.replaces, self.broken).hash(out);
        self.ends.iter().for_each(|end| end.hash_into(out));
    }
}

/// A node between two steps; shared by all states in which it is the same.
#[derive(Clone)]
pub(crate) struct Node {
    pub core: Core,
    /// Its own clock: each may run as fast as it likes.
    pub now: Time,
    /// Its core in short, and its conns in that order.
    pub form: u64,
    pub order: Vec<ConnRef>,
}

impl Node {
    pub fn new(core: Core) -> Node {
        let mut node = Node { core, now: Time::ZERO, form: 0, order: Vec::new() };
        node.settle();
        node
    }

    /// Takes its form anew, after the core has changed.
    pub fn settle(&mut self) {
        let mut fold = Fold::default();
        self.order.clear();
        let order = &mut self.order;
        self.core.canonical_into(self.now, &mut fold, |conn| order.push(conn));
        self.form = fold.finish();
    }
}

/// A hash that is quick over small values: multiply and fold, as in wyhash. Not against attackers.
#[derive(Default)]
pub(crate) struct Fold(u64);

impl Fold {
    fn mix(&mut self, word: u64) {
        let product =
            u128::from(self.0 ^ word ^ 0xa076_1d64_78bd_642f) * u128::from(0xe703_7ed1_a0b4_28db_u64);
        let [low, high] = [product & u128::from(u64::MAX), product >> 64];
        self.0 = u64::try_from(low ^ high).unwrap_or(0) ^ self.0.rotate_left(29).wrapping_add(word);
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        self.mix(u64::try_from(bytes.len()).unwrap_or(0));
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(u64::try_from(value).unwrap_or(0));
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(u64::try_from(value).unwrap_or(u64::MAX));
    }

    fn finish(&self) -> u64 {
        let mut last = Fold(self.0);
        last.mix(0x9e37_79b9_7f4a_7c15);
        last.0.max(1)
    }
}
