//! What net counts. Plain relaxed atomics that anybody may read at any time; nothing is decided by them.

use peerkeep_core::{End, FaultKind, Violation};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one node, since its start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Accepted sockets.
    pub arrivals: Count,
    /// Accepted sockets dropped without asking the core, because too many were undecided.
    pub turned_away: Count,
    /// QUIC newcomers asked to prove their address first, because many handshakes were under way (fault H11).
    pub quic_retries: Count,
    /// Connections aborted by the other side before they could be accepted (fault L3).
    pub aborted_arrivals: Count,
    /// Times a listener paused for want of descriptors or memory (fault L1).
    pub accept_pauses: Count,
    /// Attempts to dial, whatever the number of addresses.
    pub dials: Count,
    /// Connects that failed, one per address.
    pub missed: Count,
    /// Links that became ready.
    pub ready: Count,
    /// Conns that ended, ready or not.
    pub gone: Count,
    /// Handshakes that the world ended, by [`FaultKind`].
    pub handshake_faults: [Count; FAULT_KINDS],
    /// Handshakes that misbehaviour ended, by [`Violation`].
    pub handshake_violations: [Count; VIOLATIONS],
    /// Handshakes that ended by our own order.
    pub handshakes_called_off: Count,
    /// Links that failed while they were closed, or had not ended by the deadline.
    pub unclean_closes: Count,
    /// Reports of drivers that belong to no conn; each is a bug.
    pub stray_facts: Count,
    /// Tasks of ours that panicked; each is a bug.
    pub panics: Count,
    /// Gaps in the journal.
    pub journal_gaps: Count,
    /// Bytes handed to the journal's writer.
    pub journal_bytes: Count,
    /// Actions stepped.
    pub actions: Count,
    /// Commands and questions refused because too many waited.
    pub busy: Count,
    /// How long the stages of connections being set up took.
    pub stages: crate::Stages,
}

/// How many kinds of fault there are.
pub const FAULT_KINDS: usize = FaultKind::Os as usize + 1;

/// How many kinds of misbehaviour there are.
pub const VIOLATIONS: usize = Violation::StreamAbuse as usize + 1;

/// One counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Its value now.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

impl Counters {
    /// Handshakes that failed, for whatever reason but our own order.
    pub fn handshake_failures(&self) -> u64 {
        self.handshake_faults.iter().chain(&self.handshake_violations).map(Count::read).sum()
    }

    /// A conn ended before it was ready.
    pub(crate) fn handshake_ended(&self, end: &End) {
        match end {
            End::Asked | End::Goodbye(_) => self.handshakes_called_off.add_one(),
            End::Fault(fault) => self.handshake_faults[fault.kind as usize].add_one(),
            End::Violation(what) => self.handshake_violations[*what as usize].add_one(),
        }
    }
}
