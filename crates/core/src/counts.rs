//! What the core counts: how many of what there are now, and what happened since birth. Nothing here decides.

use crate::{STACKS, Stage, Standing};
use serde::{Deserialize, Serialize};

/// How many of what there are now. Recounted by [`Core::check`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Contacts by stack and [`Standing::index`].
    pub standing: [[u32; Standing::COUNT]; STACKS],
    /// Conns by [`Stage::index`].
    pub stage: [u32; Stage::COUNT],
    /// Conns that hold a slot, inbound.
    pub inbound: u32,
    /// Conns that hold a slot, outbound.
    pub outbound: u32,
    /// Of both, those never up.
    pub pending: u32,
    /// Inbound conns that are only told why not.
    pub courtesy: u32,
    /// Contacts that only third peers spoke of.
    pub gossip: u32,
}

impl Counts {
    /// All conns that hold a slot.
    pub fn total(&self) -> u32 {
        self.inbound + self.outbound
    }

    /// Connections that are up.
    pub fn up(&self) -> u32 {
        self.stage[Stage::Up.index()]
    }
}

/// What happened since birth; shown by status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Actions stepped.
    pub actions: u64,
    /// Dials begun.
    pub dials: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Connections that came up.
    pub connected: u64,
    /// Connections lost.
    pub lost: u64,
    /// Arrivals, counted also when refused.
    pub arrivals: u64,
    /// Arrivals and hellos refused.
    pub refused: u64,
    /// Arrivals dropped by net under flood.
    pub turned_away: u64,
    /// Facts about conns that were over.
    pub late_facts: u64,
    /// Actions whose time lay before an earlier one.
    pub clock_back: u64,
    /// Contacts not taken in because the table was full.
    pub contacts_dropped: u64,
}
