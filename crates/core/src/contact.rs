//! A contact: a peer on one stack, as one row of fixed size. It remembers; what follows from what it remembers is
//! decided in `connect.rs`, `resolve.rs`, `close.rs` and `keep.rs`.

use crate::slab::NONE;
use crate::{Addr, Addrs, Close, Fault, Limit, MAX_ADDRS, Source, Time, Who};
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

/// Where a contact stands. One function sets it, `Core::set_standing`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// Nothing is going on.
    Idle,
    /// A dial is due and waits for this limit.
    Queued(Limit),
    /// A dial waits for its time: backoff, or the other side's turn.
    Waiting,
    /// A dial is under way.
    Dialing,
    /// A connection is up.
    Connected,
    /// All attempts are used up.
    GaveUp,
}

impl Standing {
    /// How many standings there are, limits not told apart.
    pub const COUNT: usize = 6;

    /// Its place in tables.
    pub const fn index(self) -> usize {
        match self {
            Standing::Idle => 0,
            Standing::Queued(_) => 1,
            Standing::Waiting => 2,
            Standing::Dialing => 3,
            Standing::Connected => 4,
            Standing::GaveUp => 5,
        }
    }
}

/// One address of a contact and what is known about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KnownAddr {
    /// The address.
    pub addr: Addr,
    /// Where it came from, best source so far.
    pub source: Source,
    /// Failures in a row, saturating.
    pub failures: u8,
}

/// Addresses kept inside the row.
const INLINE: usize = 2;

/// The addresses beyond those in the row, in a side table.
pub(crate) type Overflow = ArrayVec<KnownAddr, { MAX_ADDRS - INLINE }>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Contact {
    pub who: Who,
    pub standing: Standing,
    pub flags: Flags,
    /// The bit of the one queue it waits in, see [`crate::list::Line`]; 0 for none.
    pub member: u8,
    pub last_close: Option<Close>,
    /// Conns attached, any stage.
    pub conn_count: u8,
    /// How often a newer epoch displaced a connection that was up (fault I1), decaying.
    pub epoch_changes: u8,
    pub failures: u16,
    pub penalty: u16,
    pub inline: ArrayVec<KnownAddr, INLINE>,
    pub overflow: u32,
    /// The next contact of the same peer; itself when alone.
    pub ring: u32,
    /// The first conn attached.
    pub head: u32,
    /// Their highest dial that we accepted, with their epoch.
    pub accepted: (u64, u32),
    pub last_fault: Option<Fault>,
    pub retry_at: Time,
    /// End of the fast window after a loss.
    pub fast_until: Time,
    /// When it becomes our turn to dial; zero when no need has arisen.
    pub turn_until: Time,
    /// When the standing last changed.
    pub since: Time,
}

/// What people and the past say about a contact.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Flags {
    /// Keep connected for ever.
    pub wanted: bool,
    /// Connect was asked for, and is not settled.
    pub asked: bool,
    /// Keep an existing connection however idle.
    pub held: bool,
    /// An operator disconnected it: not a candidate until somebody asks.
    pub resting: bool,
    /// It has names to resolve before a dial.
    pub named: bool,
    /// Only third peers ever spoke of it.
    pub gossip: bool,
    /// It will be forgotten at the start of the next step.
    pub doomed: bool,
    /// Picked to fill the target.
    pub filling: bool,
}

impl Flags {
    /// Takes over what was asked of a name that turned out to be this contact's.
    pub fn inherit(&mut self, of: Flags) {
        self.wanted |= of.wanted;
        self.asked |= of.asked;
        self.held |= of.held;
        self.named |= of.named;
        self.filling |= of.filling;
    }
}

impl Contact {
    pub fn new(who: Who, row: u32, now: Time) -> Contact {
        Contact {
            who,
            standing: Standing::Idle,
            flags: Flags::default(),
            member: 0,
            last_close: None,
            conn_count: 0,
            epoch_changes: 0,
            failures: 0,
            penalty: 0,
            inline: ArrayVec::new(),
            overflow: NONE,
            ring: row,
            head: NONE,
            accepted: (0, 0),
            last_fault: None,
            retry_at: Time::ZERO,
            fast_until: Time::ZERO,
            turn_until: Time::ZERO,
            since: now,
        }
    }

    /// Whether somebody wants a connection to it, apart from the target.
    pub fn is_desired(&self) -> bool {
        self.flags.wanted || self.flags.asked
    }

    /// Whether its failures are remembered from an earlier run: those of this run leave a cause.
    pub fn is_recalled(&self) -> bool {
        self.failures > 0 && self.last_fault.is_none() && self.last_close.is_none()
    }
}

const _: () = assert!(size_of::<Contact>() <= 216, "with wheel node and index, 256 bytes a contact");

/// Adds `addrs` to a full list of known ones: better sources replace worse, the rest is cut.
pub(crate) fn merge(known: &mut ArrayVec<KnownAddr, MAX_ADDRS>, addrs: &Addrs, source: Source) -> bool {
    let mut changed = false;
    for &addr in addrs {
        if addr.check().is_err() {
            continue;
        }
        if let Some(have) = known.iter_mut().find(|have| have.addr == addr) {
            if have.source < source {
                have.source = source;
                changed = true;
            }
            continue;
        }
        let fresh = KnownAddr { addr, source, failures: 0 };
        if known.try_push(fresh).is_err() {
            let worst = known.iter_mut().max_by_key(|have| (have.failures, core::cmp::Reverse(have.source)));
            match worst {
                Some(worst) if worst.failures > 0 || worst.source < source => *worst = fresh,
                _ => continue,
            }
        }
        changed = true;
    }
    if changed {
        known.sort_by_key(|have| (have.failures, core::cmp::Reverse(have.source)));
    }
    changed
}
