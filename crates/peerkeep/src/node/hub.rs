//! What the library knows beside the core, shared between the owner task and callers: pins of trust on first use, where
//! bans came from, totals, and the peers worth telling others about. Small, bounded by the core's own tables, and never
//! locked for longer than a look.

use super::events::Bell;
use crate::store::Store;
use crate::{BanReason, Timestamp, Totals};
use peerkeep_core::{Addr, Addrs, KeyKind, PeerKey, Preference, StackId, Target, Who};
use peerkeep_mesh::{Exchange, Known};
use peerkeep_net::Names;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Peers that others may be told about.
const MAX_BOOK: usize = 1_024;

/// Beside the core.
pub(super) struct Hub {
    pub bell: Bell,
    pub store: Option<Store>,
    pub names: Names,
    pub tallies: Tallies,
    /// Somebody new can be told about.
    pub news: Notify,
    /// The machine's network changed.
    pub moved: Notify,
    /// Peers are told about each other.
    pub exchange: AtomicBool,
    /// Whether the node speaks libp2p.
    pub libp2p: bool,
    preference: Mutex<Preference>,
    tables: Mutex<Tables>,
    book: Mutex<Vec<Known>>,
}

/// What happened since the start, as far as the core and net do not count it.
#[derive(Default)]
pub(super) struct Tallies {
    pub connected: AtomicU64,
    pub lost: AtomicU64,
    pub failed: AtomicU64,
    pub handshakes: AtomicU64,
    pub gave_up: AtomicU64,
    pub violations: AtomicU64,
    pub refused: AtomicU64,
}

#[derive(Default)]
struct Tables {
    /// Addresses whose identity was trusted on first use.
    pins: HashMap<(StackId, Addr), PeerKey>,
    /// Who was, and when anybody was last connected.
    extras: HashMap<Who, Extra>,
    wanted: HashSet<Who>,
    bans: HashMap<Target, Mark>,
    epoch: u64,
}

/// Of one peer.
#[derive(Clone, Copy, Default)]
pub(super) struct Extra {
    pub first_use: bool,
    pub seen_at: Timestamp,
}

/// Of one ban.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub reason: BanReason,
    /// When it ends by the wall clock it was set by; the core's own clock rules while the node runs.
    pub set_at: Timestamp,
}

impl Hub {
    pub fn new(store: Option<Store>, names: Names, epoch: u64, preference: Preference) -> Hub {
        Hub {
            bell: Bell::default(),
            store,
            names,
            tallies: Tallies::default(),
            news: Notify::new(),
            moved: Notify::new(),
            exchange: AtomicBool::new(true),
            libp2p: false,
            preference: Mutex::new(preference),
            tables: Mutex::new(Tables { epoch, ..Tables::default() }),
            book: Mutex::default(),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change is one insertion or removal, so a panic elsewhere leaves the tables whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who dials first, as configured, for the words of the log.
    pub fn preference(&self) -> Preference {
        *self.preference.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn prefer(&self, preference: Preference) {
        *self.preference.lock().unwrap_or_else(PoisonError::into_inner) = preference;
    }

    // ---- trust on first use

    /// The identity that an address stands for.
    pub fn pinned(&self, stack: StackId, addr: &Addr) -> Option<PeerKey> {
        self.tables().pins.get(&(stack, *addr)).copied()
    }

    /// From now on these addresses stand for that identity.
    pub fn pin(&self, who: Who, addrs: &[Addr]) {
        let mut tables = self.tables();
        tables.extras.entry(who).or_default().first_use = true;
        for addr in addrs {
            tables.pins.insert((who.stack, *addr), who.key);
        }
    }

    // ---- peers

    /// Somebody spoke of this peer on another stack than the mesh: from now on it is known there.
    pub fn name(&self, who: Who) {
        if who.stack != StackId::Mesh {
            self.tables().extras.entry(who).or_default();
        }
    }

    /// Where a peer is known that is named by its identity alone; the mesh, where that is nowhere or there too.
    pub fn stack_of(&self, key: &PeerKey) -> StackId {
        let tables = self.tables();
        let knows = |stack| tables.extras.contains_key(&Who { stack, key: *key });
        if !knows(StackId::Mesh) && knows(StackId::Libp2p) { StackId::Libp2p } else { StackId::Mesh }
    }

    /// Whether a peer has been met or named on that stack.
    pub fn knows(&self, who: &Who) -> bool {
        self.tables().extras.contains_key(who)
    }

    pub fn extra(&self, who: &Who) -> Extra {
        self.tables().extras.get(who).copied().unwrap_or_default()
    }

    pub fn restore(&self, who: Who, extra: Extra) {
        if extra.first_use || extra.seen_at.0 > 0 || who.stack != StackId::Mesh {
            self.tables().extras.insert(who, extra);
        }
    }

    pub fn seen(&self, who: Who) {
        self.tables().extras.entry(who).or_default().seen_at = Timestamp::now();
    }

    /// Counts the wanted ones, so that nobody has to look through all peers for it.
    pub fn note_wanted(&self, who: Who, wanted: bool) {
        let mut tables = self.tables();
        if wanted {
            tables.wanted.insert(who);
        } else {
            tables.wanted.remove(&who);
        }
    }

    pub fn wanted_count(&self) -> usize {
        self.tables().wanted.len()
    }

    /// The core has forgotten a peer: so does everything here.
    pub fn forget(&self, who: Who) {
        let had = {
            let mut tables = self.tables();
            tables.wanted.remove(&who);
            let extra = tables.extras.remove(&who);
            if extra.is_some_and(|extra| extra.first_use) {
                tables.pins.retain(|(stack, _), key| (*stack, *key) != (who.stack, who.key));
            }
            extra
        };
        if had.is_some() || who.key.kind == KeyKind::Address {
            self.untell(&who.key);
        }
        // An empty list cannot be refused.
        let _ = self.names.set(who, Vec::new());
    }

    // ---- bans

    pub fn mark_ban(&self, target: Target, reason: BanReason, set_at: Timestamp) {
        self.tables().bans.insert(target, Mark { reason, set_at });
    }

    pub fn ban_mark(&self, target: &Target) -> Option<Mark> {
        self.tables().bans.get(target).copied()
    }

    pub fn unmark_ban(&self, target: &Target) {
        self.tables().bans.remove(target);
    }

    /// Stores the boot epoch when it has risen.
    pub fn risen_epoch(&self, epoch: u64) {
        let risen = {
            let mut tables = self.tables();
            let risen = epoch > tables.epoch;
            tables.epoch = tables.epoch.max(epoch);
            risen
        };
        if let (true, Some(store)) = (risen, &self.store) {
            store.put_epoch(epoch);
        }
    }

    // ---- peers worth telling about

    fn book(&self) -> MutexGuard<'_, Vec<Known>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connected peer with addresses that it told or that were proven.
    pub fn tell_of(&self, key: PeerKey, addrs: Addrs) {
        if addrs.is_empty() || !key.is_identity() {
            return;
        }
        {
            let mut book = self.book();
            book.retain(|(known, _)| *known != key);
            if book.len() >= MAX_BOOK {
                book.remove(0);
            }
            book.push((key, addrs));
        }
        self.news.notify_one();
    }

    /// It is connected no longer.
    pub fn untell(&self, key: &PeerKey) {
        self.book().retain(|(known, _)| known != key);
    }

    pub fn totals(&self, dials: u64, turned_away: u64) -> Totals {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Totals {
            dials,
            connected: read(&self.tallies.connected),
            lost: read(&self.tallies.lost),
            failed: read(&self.tallies.failed),
            handshake_failures: read(&self.tallies.handshakes),
            gave_up: read(&self.tallies.gave_up),
            violations: read(&self.tallies.violations),
            refused: read(&self.tallies.refused) + turned_away,
            events_missed: self.bell.missed(),
        }
    }
}

/// What the mesh asks when a peer wants to know of others; switched off, it tells nothing.
pub(super) struct Teller {
    pub hub: Arc<Hub>,
}

impl Exchange for Teller {
    fn sample(&self, to: &PeerKey, max: usize) -> Vec<Known> {
        if !self.hub.exchange.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let book = self.hub.book();
        let others = book.iter().rev().filter(|(key, _)| key != to);
        others.take(max).cloned().collect()
    }
}
