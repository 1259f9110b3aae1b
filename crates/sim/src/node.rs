//! A node: a real core, unchanged, with its disk, its journal and a note per conn of what the network has for it.

use crate::disk::Disk;
use crate::rng::Rng;
use crate::scenario::NodePlan;
use crate::wire::WireRef;
use peerkeep_core::{Config, ConnRef, Core, Fault, Greeting, Target, Time, Who, journal};
use peerkeep_paths::Race;
use std::collections::HashMap;

/// How far the network is with a conn. The core's stages are the core's own; these are facts about sockets.
#[derive(Clone, Debug)]
pub(crate) enum Socket {
    /// No conn has this row.
    Free,
    /// A name is being looked up.
    Lookup,
    /// Addresses race; a wire for each that has started.
    Racing(Box<Racing>),
    /// One wire, and which of its ends is ours.
    Linked { wire: WireRef, side: u8 },
    /// Over; its `Gone` is on the way.
    Over,
}

/// A dial before it has a connection.
#[derive(Clone, Debug)]
pub(crate) struct Racing {
    pub race: Race,
    pub wires: [WireRef; peerkeep_paths::MAX_LEGS],
    /// What the hello will carry.
    pub greeting: Greeting,
    /// How the last leg failed.
    pub fault: Fault,
}

/// What the network has for a conn, by the conn's row.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub conn: ConnRef,
    pub socket: Socket,
    /// Both sides agreed, as far as this end's link knows.
    pub is_live: bool,
    /// The core told `Connected` and not `Lost` of it.
    pub is_announced: bool,
    /// Its `Gone` is being told to the core.
    pub is_ending: bool,
}

impl Slot {
    pub const FREE: Slot = Slot {
        conn: ConnRef::NONE,
        socket: Socket::Free,
        is_live: false,
        is_announced: false,
        is_ending: false,
    };
}

#[derive(Debug)]
pub(crate) struct Node {
    pub core: Core,
    pub plan: NodePlan,
    pub is_alive: bool,
    /// The machine answers for its dead processes with resets.
    pub is_powered: bool,
    /// When it last lost power: what it had sent is not sent again.
    pub dark_since: Time,
    pub boot: u32,
    pub suspended_until: Time,
    pub slots: Vec<Slot>,
    pub disk: Disk,
    pub journal: Vec<u8>,
    /// The wake that counts; others in the queue are old.
    pub wake_at: Time,
    pub clock_offset_ms: i64,
    pub commands: u32,
    /// Actions stepped over all its lives.
    pub actions: u64,
    pub rng: Rng,
    /// Whom it was connected to lately, for peer exchange.
    pub met: Vec<u32>,
    pub known: Known,
}

/// What is remembered of a node to hold its core's later words against.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Epoch and dial number last shown to each in this life.
    pub shown: HashMap<Who, (u64, u32)>,
    /// Bans in force, by what the core asked to be stored.
    pub bans: Vec<(Target, Time)>,
    /// Counts of the last step: total, inbound, outbound, pending, courtesy.
    pub counts: [u32; 5],
    /// It was told to shut down.
    pub is_draining: bool,
}

impl Node {
    /// A node that has never run; `boot` gives it its first life.
    pub fn new(plan: NodePlan, mut rng: Rng) -> Node {
        let core = core_of(plan.config.clone(), &mut rng, Time::ZERO);
        Node {
            core,
            is_alive: false,
            is_powered: true,
            dark_since: Time::ZERO,
            boot: 0,
            suspended_until: Time::ZERO,
            slots: Vec::new(),
            disk: Disk::default(),
            journal: Vec::new(),
            wake_at: Time::NEVER,
            clock_offset_ms: 0,
            commands: 0,
            actions: 0,
            rng,
            met: Vec::new(),
            known: Known::default(),
            plan,
        }
    }

    /// A new life with what the disk knows. The caller feeds it its first actions.
    pub fn boot(&mut self, now: Time, unix_ms: u64, with_journal: bool) {
        let epoch = (self.disk.epoch + 1).max(unix_ms / 1_000).max(1);
        if self.disk.deaf_until <= now {
            self.disk.epoch = epoch;
        }
        let config = Config { epoch, ..self.plan.config.clone() };
        self.core = core_of(config, &mut self.rng, now);
        self.is_alive = true;
        self.is_powered = true;
        self.boot += 1;
        self.suspended_until = Time::ZERO;
        self.slots.clear();
        self.journal.clear();
        if with_journal {
            journal::begin(&self.core, unix_ms, &mut self.journal);
        }
        self.wake_at = Time::NEVER;
        self.known = Known::default();
    }

    /// The note of a conn; `None` when it is over or never was.
    pub fn slot(&mut self, conn: ConnRef) -> Option<&mut Slot> {
        self.slots.get_mut(conn.row as usize).filter(|slot| slot.conn == conn)
    }

    /// The note of a new conn; `None` when the row is still in use.
    pub fn open_slot(&mut self, conn: ConnRef, socket: Socket) -> Option<()> {
        let row = conn.row as usize;
        while self.slots.len() <= row {
            self.slots.push(Slot::FREE);
        }
        let slot = &self.slots[row];
        // A row is free for its next conn within the very step that heard of the `Gone`.
        let is_over = slot.is_ending && !slot.is_announced;
        if !is_over && !matches!(slot.socket, Socket::Free) {
            return None;
        }
        self.slots[row] = Slot { conn, socket, ..Slot::FREE };
        Some(())
    }
}

fn core_of(config: Config, rng: &mut Rng, now: Time) -> Core {
    let mut seed = [0; 32];
    for chunk in seed.chunks_exact_mut(8) {
        chunk.copy_from_slice(&rng.bits().to_le_bytes());
    }
    Core::new(config, seed, now).expect("scenarios have sound configurations")
}
