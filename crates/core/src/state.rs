//! The tables and the only functions that change them: a standing changes in `set_standing`, a stage in `set_stage`,
//! and both move every counter, index and list that depends on it. Nothing here decides.

use crate::ban::{Bans, Hasher};
use crate::conn::Conn;
use crate::contact::{self, Contact, KnownAddr, Overflow, Standing};
use crate::counts::{Counts, Stats};
use crate::digest::Digest;
use crate::list::{Line, Queue};
use crate::shed::Shed;
use crate::slab::{NONE, Slab};
use crate::wheel::{Owner, Wheel};
use crate::{
    Addr, Addrs, Close, Config, ConnRef, ContactRef, Direction, Effect, Effects, End, MAX_ADDRS, STACKS,
    Source, Stage, Subnet, Time, Told, Who,
};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use hashbrown::{HashMap, HashTable};
use serde::{Deserialize, Serialize};

/// The state machine. See [`Core::step`]. Cloning is for those who look at many futures of one state.
#[derive(Clone, Debug)]
pub struct Core {
    pub(crate) cfg: Config,
    pub(crate) hasher: Hasher,
    pub(crate) random: u64,
    pub(crate) now: Time,
    pub(crate) digest: Digest,
    pub(crate) contacts: Slab<Contact>,
    pub(crate) overflow: Slab<Overflow>,
    pub(crate) index: HashTable<u32>,
    pub(crate) conns: Slab<Conn>,
    pub(crate) bans: Bans,
    pub(crate) wheel: Wheel,
    pub(crate) counts: Counts,
    pub(crate) per_ip: PerIp,
    pub(crate) per_subnet: PerSubnet,
    pub(crate) dials: VecDeque<DialMark>,
    pub(crate) queue: Queue,
    /// When the queue can move although nothing frees a slot; set at the end of every step.
    pub(crate) queue_wake: Time,
    pub(crate) candidates: [Queue; STACKS],
    pub(crate) spent: Queue,
    /// When a node that nobody is left to connect to tries one that gave up.
    pub(crate) revive_at: Time,
    pub(crate) sweep: Sweep,
    pub(crate) shed: Shed,
    pub(crate) net: Weather,
    pub(crate) doomed: Vec<u32>,
    pub(crate) ended_bans: Vec<u32>,
    pub(crate) last_dial: u32,
    pub(crate) draining: bool,
    pub(crate) stats: Stats,
    /// Rows touched by loops, for the test that no step is O(peers).
    pub(crate) work: u64,
}

/// Conns and recent dials by address; conns by subnet. Keyed, and never iterated.
pub(crate) type PerIp = HashMap<[u8; 16], IpCount, Hasher>;
pub(crate) type PerSubnet = HashMap<Subnet, u32, Hasher>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IpCount {
    pub conns: u32,
    pub dials: u32,
}

/// An address dialled in the last minute. Each address of an attempt counts, in the total rate as in its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DialMark {
    pub at: Time,
    pub ip: [u8; 16],
}

/// Work over many conns: a cursor that moves a few rows per wake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sweep {
    pub active: bool,
    pub cursor: u32,
    /// Rows to go. A start in the middle adds a round from where it is, so that many starts starve nobody.
    pub left: u32,
    /// Probe what is up.
    pub probe: bool,
    /// Rules changed: ask every question about every conn.
    pub all: bool,
    /// Otherwise: close what lies in this newly banned subnet; in any, when there are several.
    pub subnet: Option<Subnet>,
    pub many: bool,
}

/// What we believe about our own network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Weather {
    pub online: bool,
    /// Local faults pause dialling until then.
    pub paused_until: Time,
    pub local_faults: u8,
    /// Our network changed not long ago: until then what is lost or fails is no fault of a peer's.
    pub unsettled_until: Time,
}

impl Core {
    // ---- standing

    /// Moves a contact to another standing, with its counters, list and timer. The caller arms what it needs.
    pub(crate) fn set_standing(&mut self, row: u32, standing: Standing) {
        let contact = self.contacts.row_mut(row);
        let (stack, old) = (contact.who.stack.index(), contact.standing);
        contact.standing = standing;
        if old != standing {
            contact.since = self.now;
        }
        self.counts.standing[stack][old.index()] -= 1;
        self.counts.standing[stack][standing.index()] += 1;
        self.digest.mix(u64::from(row) << 8 | standing.index() as u64);
        if self.contacts.row(row).member == Line::Slots as u8 {
            self.unlist(row);
        }
        if standing == Standing::Idle || standing == Standing::GaveUp {
            self.wheel.disarm(Owner::Contact(row));
            let contact = self.contacts.row_mut(row);
            contact.turn_until = Time::ZERO;
            contact.flags.filling = false;
        }
        self.relist(row);
    }

    /// The queue a contact belongs in by what its row says; a dial that waits for a slot stays until it is taken out.
    fn line_of(&self, row: u32) -> Option<Line> {
        let contact = self.contacts.row(row);
        let flags = contact.flags;
        if contact.member == Line::Slots as u8 {
            return Some(Line::Slots);
        }
        if contact.is_desired() || contact.conn_count > 0 || flags.doomed {
            return None;
        }
        match contact.standing {
            Standing::GaveUp => Some(Line::Spent),
            Standing::Idle if flags.resting || !self.has_addresses(row) => Some(Line::Spent),
            Standing::Idle => Some(Line::candidates(contact.who.stack)),
            _ => None,
        }
    }

    /// Takes a contact out of whatever queue it waits in.
    pub(crate) fn unlist(&mut self, row: u32) {
        let contact = self.contacts.row(row);
        let (member, stack) = (contact.member, contact.who.stack.index());
        let queue = match member {
            0 => return,
            m if m == Line::Slots as u8 => &mut self.queue,
            m if m == Line::Spent as u8 => &mut self.spent,
            _ => &mut self.candidates[stack],
        };
        queue.leave(&mut self.contacts, row);
    }

    /// Puts a contact into the queue it belongs in, after its standing, flags, conns or addresses changed.
    pub(crate) fn relist(&mut self, row: u32) {
        let line = self.line_of(row);
        let contact = self.contacts.row(row);
        let (member, stack) = (contact.member, contact.who.stack.index());
        if member == line.map_or(0, |line| line as u8) {
            return;
        }
        self.unlist(row);
        match line {
            Some(Line::Slots) | None => {}
            Some(Line::Spent) => self.spent.join(&mut self.contacts, row),
            Some(_) => self.candidates[stack].join(&mut self.contacts, row),
        }
    }

    // ---- contacts

    /// The contact's row.
    pub(crate) fn find_row(&self, who: &Who) -> Option<u32> {
        let hash = self.hasher.of(who);
        self.index.find(hash, |row| self.contacts.row(*row).who == *who).copied()
    }

    /// Puts a new contact in; the caller has seen to the limit.
    pub(crate) fn insert_contact(&mut self, who: Who, gossip: bool) -> u32 {
        let (row, _) = self.contacts.insert(Contact::new(who, 0, self.now));
        let contact = self.contacts.row_mut(row);
        contact.ring = row;
        contact.flags.gossip = gossip;
        self.counts.gossip += u32::from(gossip);
        self.counts.standing[who.stack.index()][Standing::Idle.index()] += 1;
        let (hasher, contacts) = (self.hasher, &self.contacts);
        self.index.insert_unique(hasher.of(&who), row, |row| hasher.of(&contacts.row(*row).who));
        self.relist(row);
        row
    }

    /// Takes a contact out for good. It must have no conns.
    pub(crate) fn remove_contact(&mut self, row: u32) {
        self.unlist(row);
        self.wheel.disarm(Owner::Contact(row));
        self.leave_ring(row);
        let hash = self.hasher.of(&self.contacts.row(row).who);
        if let Ok(entry) = self.index.find_entry(hash, |have| *have == row) {
            entry.remove();
        }
        let contact = self.contacts.remove(row).expect("a live row");
        assert_eq!(contact.conn_count, 0, "a contact with conns is not removed");
        if contact.overflow != NONE {
            self.overflow.remove(contact.overflow);
        }
        self.counts.gossip -= u32::from(contact.flags.gossip);
        self.counts.standing[contact.who.stack.index()][contact.standing.index()] -= 1;
    }

    fn leave_ring(&mut self, row: u32) {
        let next = self.contacts.row(row).ring;
        if next == row {
            return;
        }
        let mut at = next;
        while self.contacts.row(at).ring != row {
            at = self.contacts.row(at).ring;
        }
        self.contacts.row_mut(at).ring = next;
        self.contacts.row_mut(row).ring = row;
    }

    /// All addresses of a contact, best first.
    pub(crate) fn addresses(&self, row: u32) -> ArrayVec<KnownAddr, MAX_ADDRS> {
        let contact = self.contacts.row(row);
        let mut all: ArrayVec<KnownAddr, MAX_ADDRS> = contact.inline.iter().copied().collect();
        if contact.overflow != NONE {
            all.extend(self.overflow.row(contact.overflow).iter().copied());
        }
        all
    }

    /// Whether there is anything to dial.
    pub(crate) fn has_addresses(&self, row: u32) -> bool {
        let contact = self.contacts.row(row);
        !contact.inline.is_empty()
            || contact.flags.named
            || !self.cfg.rules(contact.who.stack).dials_addresses
    }

    /// Writes a contact's addresses back.
    pub(crate) fn set_addresses(&mut self, row: u32, all: &[KnownAddr]) {
        let contact = self.contacts.row_mut(row);
        let split = all.len().min(contact.inline.capacity());
        contact.inline = all[..split].iter().copied().collect();
        let rest: Overflow = all[split..].iter().copied().collect();
        match (contact.overflow, rest.is_empty()) {
            (NONE, true) => {}
            (NONE, false) => contact.overflow = self.overflow.insert(rest).0,
            (side, true) => {
                contact.overflow = NONE;
                self.overflow.remove(side);
            }
            (side, false) => *self.overflow.row_mut(side) = rest,
        }
    }

    /// Adds addresses; whether anything changed.
    pub(crate) fn add_addresses(&mut self, row: u32, addrs: &Addrs, source: Source) -> bool {
        if addrs.is_empty() {
            return false;
        }
        let mut all = self.addresses(row);
        let changed = contact::merge(&mut all, addrs, source);
        if changed {
            self.set_addresses(row, &all);
        }
        changed
    }

    /// Forgets one address: it is ourselves, or somebody else (faults D7, D16).
    pub(crate) fn detach_address(&mut self, row: u32, addr: Addr) {
        let mut all = self.addresses(row);
        all.retain(|known| known.addr != addr);
        self.set_addresses(row, &all);
    }

    // ---- conns

    /// Puts a new conn in, counted from this moment.
    pub(crate) fn insert_conn(&mut self, conn: Conn) -> u32 {
        self.counts.stage[conn.stage.index()] += 1;
        let (row, _) = self.conns.insert(conn);
        self.count_conn(row, true);
        row
    }

    /// Moves a conn to another stage, with its counters. Leaving `Up` is what tells users that it is lost.
    pub(crate) fn set_stage(&mut self, row: u32, stage: Stage) {
        let conn = self.conns.row_mut(row);
        let was_pending = conn.is_pending();
        self.counts.stage[conn.stage.index()] -= 1;
        self.counts.stage[stage.index()] += 1;
        conn.stage = stage;
        if stage == Stage::Up {
            conn.was_up = true;
        }
        let counted = conn.courtesy.is_none();
        self.counts.pending -= u32::from(counted && was_pending && !conn.is_pending());
        self.digest.mix(1 << 40 | u64::from(row) << 8 | stage.index() as u64);
    }

    /// Adds or takes away a conn's weight in every counter that admission looks at.
    pub(crate) fn count_conn(&mut self, row: u32, add: bool) {
        let conn = self.conns.row(row);
        let step = |count: &mut u32| if add { *count += 1 } else { *count -= 1 };
        if conn.courtesy.is_some() {
            step(&mut self.counts.courtesy);
            return;
        }
        match conn.direction {
            Direction::Inbound => step(&mut self.counts.inbound),
            Direction::Outbound => step(&mut self.counts.outbound),
        }
        if conn.is_pending() {
            step(&mut self.counts.pending);
        }
        for ip in conn.counted_ips() {
            let count = self.per_ip.entry(ip).or_default();
            step(&mut count.conns);
            if *count == IpCount::default() {
                self.per_ip.remove(&ip);
            }
        }
        for subnet in conn.counted_subnets() {
            let count = self.per_subnet.entry(subnet).or_default();
            step(count);
            if *count == 0 {
                self.per_subnet.remove(&subnet);
            }
        }
    }

    /// Links a conn to the contact it turned out to belong to.
    pub(crate) fn attach(&mut self, conn_row: u32, contact_row: u32) {
        let head = self.contacts.row(contact_row).head;
        let conn = self.conns.row_mut(conn_row);
        conn.contact = contact_row;
        conn.prev = NONE;
        conn.next = head;
        if head != NONE {
            self.conns.row_mut(head).prev = conn_row;
        }
        let contact = self.contacts.row_mut(contact_row);
        contact.head = conn_row;
        contact.conn_count += 1;
        self.relist(contact_row);
    }

    /// Unlinks it again.
    pub(crate) fn detach(&mut self, conn_row: u32) {
        let conn = self.conns.row_mut(conn_row);
        let (contact_row, prev, next) = (conn.contact, conn.prev, conn.next);
        if contact_row == NONE {
            return;
        }
        (conn.contact, conn.prev, conn.next) = (NONE, NONE, NONE);
        if prev == NONE {
            self.contacts.row_mut(contact_row).head = next;
        } else {
            self.conns.row_mut(prev).next = next;
        }
        if next != NONE {
            self.conns.row_mut(next).prev = prev;
        }
        self.contacts.row_mut(contact_row).conn_count -= 1;
        self.relist(contact_row);
    }

    /// The conns of a contact, a bounded handful, newest first.
    pub(crate) fn conns_of(&mut self, contact_row: u32) -> ArrayVec<u32, MAX_CONNS> {
        let mut rows = ArrayVec::new();
        let mut at = self.contacts.row(contact_row).head;
        while at != NONE && !rows.is_full() {
            rows.push(at);
            at = self.conns.row(at).next;
        }
        self.work += rows.len() as u64;
        rows
    }

    // ---- handles and effects

    pub(crate) fn contact_ref(&self, row: u32) -> ContactRef {
        ContactRef { row, generation: self.contacts.generation(row) }
    }

    pub(crate) fn conn_ref(&self, row: u32) -> ConnRef {
        ConnRef { row, generation: self.conns.generation(row) }
    }

    /// A conn's row, if the handle is not stale.
    pub(crate) fn conn_row(&self, conn: ConnRef) -> Option<u32> {
        self.conns.at(conn.row, conn.generation).map(|_| conn.row)
    }

    pub(crate) fn emit(&mut self, out: &mut Effects, effect: Effect) {
        self.digest.effect(&effect);
        out.push(effect);
    }

    pub(crate) fn tell(&mut self, contact_row: u32, conn_row: u32, what: Told, out: &mut Effects) {
        let conn = if conn_row == NONE { ConnRef::NONE } else { self.conn_ref(conn_row) };
        let contact = self.contact_ref(contact_row);
        self.emit(out, Effect::Tell { contact, conn, what });
    }

    pub(crate) fn store(&mut self, contact_row: u32, out: &mut Effects) {
        let contact = self.contact_ref(contact_row);
        self.emit(out, Effect::Store { contact });
    }

    /// The next number of the deterministic sequence that jitter is made of.
    pub(crate) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(1);
        self.hasher.of(&self.random)
    }

    /// Ends a conn from our side. Only `Gone` counts from here.
    pub(crate) fn close(&mut self, row: u32, why: Close, out: &mut Effects) {
        let conn = self.conns.row_mut(row);
        if conn.stage == Stage::Closing {
            self.hurry(row, why, out);
            return;
        }
        let (contact, was_told) = (conn.contact, conn.stage == Stage::Up);
        conn.why = Some(why);
        self.set_stage(row, Stage::Closing);
        self.wheel.disarm(Owner::Conn(row));
        let conn = self.conn_ref(row);
        self.emit(out, Effect::Close { conn, why, unless_used_since: Time::NEVER });
        if was_told && contact != NONE {
            self.lose(row, Some(why), End::Asked, out);
        }
    }

    /// A replaced connection goes on for the channels that are open on it. A ban, a violation, a shutdown or somebody
    /// who asks does not wait for them.
    fn hurry(&mut self, row: u32, why: Close, out: &mut Effects) {
        let conn = self.conns.row_mut(row);
        let better = matches!(
            why,
            Close::Requested | Close::Banned | Close::Violation | Close::Resources | Close::Shutdown
        );
        if conn.why == Some(Close::Replaced) && conn.was_up && better {
            conn.why = Some(why);
            let conn = self.conn_ref(row);
            self.emit(out, Effect::Close { conn, why, unless_used_since: Time::NEVER });
        }
    }
}

/// More conns than any contact can have.
const MAX_CONNS: usize = crate::config::MAX_PER_PEER as usize;
