//! Timers: a hierarchical wheel with one node per contact, conn and ban. Ours, because arming must not allocate and
//! must cost the same at a million rows, and nodes must be saved with the tables (measured: 15–78 ns to re-arm, where
//! an ordered set takes 885–2,039 ns). It says who is due; it does not know what for.

use crate::Time;
use crate::slab::NONE;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A wheel tick is 1,024 µs: deadlines are rounded up to it, never fired early.
const TICK_SHIFT: u32 = 10;
/// Slots per level, as a power of two.
const LEVEL_SHIFT: u32 = 6;
const SLOTS: usize = 1 << LEVEL_SHIFT;
/// Seven levels reach 2^42 ticks, 142 years; later deadlines wait in the last slot and are looked at again.
const LEVELS: usize = 7;

/// Whose timer a node is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) enum Owner {
    Contact(u32),
    Conn(u32),
    Ban(u32),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Node {
    tick: u64,
    prev: u32,
    next: u32,
    /// The list it is in; `u16::MAX` when it is not armed.
    list: u16,
}

const IDLE: Node = Node { tick: 0, prev: NONE, next: NONE, list: u16::MAX };

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct List {
    head: u32,
    tail: u32,
}

/// The wheel. Nodes are addressed by owner; tables grow with the owners' tables, never shrink.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wheel {
    /// The tick up to which everything has been handed out.
    tick: u64,
    lists: Vec<List>,
    occupied: [u64; LEVELS],
    contacts: Chunked,
    conns: Chunked,
    bans: Chunked,
}

/// Nodes in chunks, so that growing moves nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Chunked(Vec<Vec<Node>>);

const CHUNK: usize = 128;

impl Chunked {
    fn at(&mut self, row: u32) -> &mut Node {
        let (chunk, index) = (row as usize / CHUNK, row as usize % CHUNK);
        while self.0.len() <= chunk {
            if let Some(last) = self.0.last_mut() {
                last.resize(CHUNK, IDLE);
            }
            self.0.push(Vec::with_capacity(CHUNK));
        }
        let nodes = &mut self.0[chunk];
        if nodes.len() <= index {
            nodes.resize(index + 1, IDLE);
        }
        &mut nodes[index]
    }

    fn get(&self, row: u32) -> Node {
        self.0
            .get(row as usize / CHUNK)
            .and_then(|chunk| chunk.get(row as usize % CHUNK))
            .copied()
            .unwrap_or(IDLE)
    }
}

impl Wheel {
    pub fn new(now: Time) -> Wheel {
        Wheel {
            tick: now.0 >> TICK_SHIFT,
            lists: vec![List { head: NONE, tail: NONE }; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            contacts: Chunked::default(),
            conns: Chunked::default(),
            bans: Chunked::default(),
        }
    }

    /// Sets the owner's one timer; an earlier setting is forgotten. `Time::NEVER` disarms.
    pub fn arm(&mut self, owner: Owner, at: Time) {
        self.disarm(owner);
        if at == Time::NEVER {
            return;
        }
        let tick = (at.0 >> TICK_SHIFT).saturating_add(u64::from(at.0 & ((1 << TICK_SHIFT) - 1) != 0));
        self.link(code(owner), tick.max(self.tick));
    }

    /// Forgets the owner's timer.
    pub fn disarm(&mut self, owner: Owner) {
        let code = code(owner);
        let node = *self.node(code);
        if node.list == u16::MAX {
            return;
        }
        self.unlink(node);
        *self.node(code) = IDLE;
    }

    /// When the owner's timer is due, rounded up to the tick.
    pub fn due(&self, owner: Owner) -> Option<Time> {
        let node = match owner {
            Owner::Contact(row) => self.contacts.get(row),
            Owner::Conn(row) => self.conns.get(row),
            Owner::Ban(row) => self.bans.get(row),
        };
        (node.list != u16::MAX).then_some(Time(node.tick << TICK_SHIFT))
    }

    /// The next owner that is due at `now`, in (tick, arming) order; `None` when none is left.
    pub fn pop(&mut self, now: Time) -> Option<Owner> {
        let now_tick = now.0 >> TICK_SHIFT;
        loop {
            let slot = (self.tick & (SLOTS as u64 - 1)) as usize;
            let head = self.lists[slot].head;
            if head != NONE {
                let node = *self.node(head);
                if node.tick > now_tick {
                    return None;
                }
                self.unlink(node);
                *self.node(head) = IDLE;
                return Some(owner(head));
            }
            if self.tick >= now_tick {
                return None;
            }
            self.advance(now_tick);
        }
    }

    /// When to look again: the tick of the earliest node, or earlier when a coarse slot must be opened first.
    pub fn next(&self) -> Option<Time> {
        self.next_tick().map(|tick| Time(tick << TICK_SHIFT))
    }

    /// Moves to the next tick that holds something, at most to `limit`, opening coarse slots on the way.
    fn advance(&mut self, limit: u64) {
        let target = self.next_tick().map_or(limit, |tick| tick.min(limit));
        self.tick = target.max(self.tick + 1).min(limit);
        for level in (1..LEVELS).rev() {
            let below = LEVEL_SHIFT * level as u32;
            if self.tick & ((1 << below) - 1) != 0 {
                continue;
            }
            let slot = ((self.tick >> below) & (SLOTS as u64 - 1)) as usize;
            self.open(level * SLOTS + slot);
        }
    }

    /// Spreads a coarse slot over finer ones, in order, so that equal ticks keep their order of arming.
    fn open(&mut self, list: usize) {
        let mut at = self.lists[list].head;
        self.lists[list] = List { head: NONE, tail: NONE };
        self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        while at != NONE {
            let node = *self.node(at);
            self.link(at, node.tick);
            at = node.next;
        }
    }

    fn next_tick(&self) -> Option<u64> {
        let mut best = None;
        for level in 0..LEVELS {
            let shift = LEVEL_SHIFT * level as u32;
            let here = (self.tick >> shift) & (SLOTS as u64 - 1);
            // A slot at or before `here` on a coarse level has been opened; on level 0 `here` itself may hold nodes.
            let from = if level == 0 { here } else { here + 1 };
            let rest = self.occupied[level].checked_shr(from as u32).unwrap_or(0);
            if rest != 0 {
                let slot = from + u64::from(rest.trailing_zeros());
                let base = self.tick >> (shift + LEVEL_SHIFT) << (shift + LEVEL_SHIFT);
                best = Some(base + (slot << shift));
                break;
            }
        }
        best
    }

    fn link(&mut self, code: u32, tick: u64) {
        let reach = 1_u64 << (LEVEL_SHIFT * LEVELS as u32);
        let block = self.tick & !(reach - 1);
        let placed = tick.min(block + reach - 1).max(self.tick);
        let differing = (placed ^ self.tick) >> LEVEL_SHIFT;
        let level = if differing == 0 {
            0
        } else {
            ((u64::BITS - 1 - differing.leading_zeros()) / LEVEL_SHIFT + 1) as usize
        };
        let slot = ((placed >> (LEVEL_SHIFT * level as u32)) & (SLOTS as u64 - 1)) as usize;
        let index = level * SLOTS + slot;
        let tail = self.lists[index].tail;
        *self.node(code) = Node { tick: placed, prev: tail, next: NONE, list: index as u16 };
        if tail == NONE {
            self.lists[index].head = code;
        } else {
            self.node(tail).next = code;
        }
        self.lists[index].tail = code;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, node: Node) {
        let index = usize::from(node.list);
        match node.prev {
            NONE => self.lists[index].head = node.next,
            prev => self.node(prev).next = node.next,
        }
        match node.next {
            NONE => self.lists[index].tail = node.prev,
            next => self.node(next).prev = node.prev,
        }
        if self.lists[index].head == NONE {
            self.occupied[index / SLOTS] &= !(1 << (index % SLOTS));
        }
    }

    fn node(&mut self, code: u32) -> &mut Node {
        match owner(code) {
            Owner::Contact(row) => self.contacts.at(row),
            Owner::Conn(row) => self.conns.at(row),
            Owner::Ban(row) => self.bans.at(row),
        }
    }

    /// Everybody who has a timer. O(n): for data that came from outside.
    pub fn armed(&self) -> impl Iterator<Item = Owner> + '_ {
        self.lists.iter().flat_map(|list| {
            let first = (list.head != NONE).then_some(list.head);
            core::iter::successors(first, |code| Some(self.peek(*code).next).filter(|next| *next != NONE))
                .map(owner)
        })
    }

    /// Whether lists and nodes agree: for data that came from outside.
    pub fn is_sound(&self) -> bool {
        if self.lists.len() != LEVELS * SLOTS {
            return false;
        }
        let chunks = [&self.contacts, &self.conns, &self.bans];
        let full = |table: &&Chunked| {
            table.0.split_last().is_none_or(|(last, full)| {
                last.len() <= CHUNK && full.iter().all(|chunk| chunk.len() == CHUNK)
            })
        };
        if !chunks.iter().all(full) {
            return false;
        }
        let armed: usize = chunks
            .iter()
            .flat_map(|table| table.0.iter().flatten())
            .filter(|node| node.list != u16::MAX)
            .count();
        let mut seen = 0;
        for (index, list) in self.lists.iter().enumerate() {
            let mut prev = NONE;
            let mut at = list.head;
            while at != NONE && seen <= armed {
                let node = self.peek(at);
                if usize::from(node.list) != index || node.prev != prev {
                    return false;
                }
                (prev, at) = (at, node.next);
                seen += 1;
            }
            let occupied = self.occupied[index / SLOTS] & (1 << (index % SLOTS)) != 0;
            if list.tail != prev || occupied != (list.head != NONE) {
                return false;
            }
        }
        seen == armed
    }

    fn peek(&self, code: u32) -> Node {
        match owner(code) {
            Owner::Contact(row) => self.contacts.get(row),
            Owner::Conn(row) => self.conns.get(row),
            Owner::Ban(row) => self.bans.get(row),
        }
    }
}

/// Two bits of owner kind above 24 bits of row, which is what limits allow.
fn code(owner: Owner) -> u32 {
    match owner {
        Owner::Contact(row) => row,
        Owner::Conn(row) => row | 1 << 30,
        Owner::Ban(row) => row | 1 << 31,
    }
}

fn owner(code: u32) -> Owner {
    let row = code & ((1 << 30) - 1);
    if code & 1 << 31 != 0 {
        Owner::Ban(row)
    } else if code & 1 << 30 != 0 {
        Owner::Conn(row)
    } else {
        Owner::Contact(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    /// Fault T4.
    #[test]
    fn fires_like_an_ordered_map_of_tick_and_sequence() {
        let mut random = 7_u64;
        let mut next = move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 33
        };
        let mut wheel = Wheel::new(Time(0));
        let mut model: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        let mut keys: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let (mut now, mut sequence) = (0_u64, 0_u64);
        for round in 0..60_000 {
            let row = (next() % 300) as u32;
            if let Some(key) = keys.remove(&row) {
                model.remove(&key);
            }
            let span = 1_u64 << (next() % 34);
            let at = now + next() % span;
            wheel.arm(Owner::Conn(row), Time(at));
            sequence += 1;
            let tick = at.div_ceil(1 << TICK_SHIFT);
            model.insert((tick, sequence), row);
            keys.insert(row, (tick, sequence));
            if round % 3 == 0 {
                now += next() % (1 << (next() % 32));
                let now_tick = now >> TICK_SHIFT;
                while let Some(owner) = wheel.pop(Time(now)) {
                    let (&key, &expected) = model.first_key_value().expect("something is due");
                    assert!(key.0 <= now_tick);
                    assert_eq!(owner, Owner::Conn(expected));
                    model.remove(&key);
                    keys.remove(&expected);
                }
                assert!(model.first_key_value().is_none_or(|(key, _)| key.0 > now_tick));
            }
            if let (Some(next), Some((key, _))) = (wheel.next(), model.first_key_value()) {
                assert!(next.0 >> TICK_SHIFT <= key.0, "never sleeps past a deadline");
            }
        }
        assert!(wheel.is_sound());
    }

    #[test]
    fn fault_t5_the_end_of_time_neither_overflows_nor_fires() {
        let mut wheel = Wheel::new(Time(5));
        wheel.arm(Owner::Contact(0), Time::NEVER);
        assert_eq!(wheel.next(), None);
        wheel.arm(Owner::Contact(0), Time(u64::MAX - 1));
        assert_eq!(wheel.pop(Time(1 << 50)), None);
        assert!(wheel.is_sound());
    }
}
