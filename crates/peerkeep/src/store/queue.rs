//! What waits to be written: one entry per peer and per ban, a bounded list of events. Pushing never blocks and never
//! fails; a later change of the same row takes the earlier one's place.

use super::row::{StoredBan, StoredEvent, StoredPeer};
use super::{StoreLimits, StoredEvent as Event};
use crate::{Ailment, Timestamp};
use peerkeep_core::{Target, Who};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// A row's new form.
#[derive(Clone, Debug)]
pub(super) enum Change<T> {
    Put(T),
    Remove,
}

/// A question to the writer.
pub(super) enum Ask {
    Flush(oneshot::Sender<bool>),
    History { who: Option<Who>, limit: u32, done: oneshot::Sender<Vec<Event>> },
}

/// Most events that wait, and most questions.
const MAX_EVENTS: usize = 4_096;
const MAX_ASKS: usize = 256;
/// Most rows of one batch.
pub(super) const BATCH: usize = 256;

/// A batch taken out to be written.
#[derive(Default, Debug)]
pub(super) struct Batch {
    pub peers: Vec<(Who, Change<StoredPeer>)>,
    pub bans: Vec<(Target, Change<StoredBan>)>,
    pub events: Vec<StoredEvent>,
    pub epoch: Option<u64>,
    pub anchors: Option<Vec<Who>>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
            && self.bans.is_empty()
            && self.events.is_empty()
            && self.epoch.is_none()
            && self.anchors.is_none()
    }
}

#[derive(Default)]
struct Waiting {
    peers: HashMap<Who, Change<StoredPeer>>,
    bans: HashMap<Target, Change<StoredBan>>,
    events: VecDeque<StoredEvent>,
    epoch: Option<u64>,
    anchors: Option<Vec<Who>>,
    asks: VecDeque<Ask>,
    ailment: Option<Ailment>,
    closing: bool,
}

pub(super) struct Queue {
    limits: Mutex<StoreLimits>,
    waiting: Mutex<Waiting>,
    pub(super) stir: Notify,
    /// A full batch waits, or somebody asks: no reason to let more gather.
    pub(super) urgent: Notify,
    /// It fell ill or recovered.
    pub(super) health: Notify,
}

impl Queue {
    pub(super) fn new(limits: StoreLimits) -> Queue {
        Queue {
            limits: Mutex::new(limits),
            waiting: Mutex::default(),
            stir: Notify::new(),
            urgent: Notify::new(),
            health: Notify::new(),
        }
    }

    /// The caps in force.
    pub(super) fn limits(&self) -> StoreLimits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these.
    pub(super) fn limit(&self, limits: StoreLimits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every change to it is a single insertion or removal, so a panic elsewhere leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push_peer(&self, who: Who, change: Change<StoredPeer>) {
        let full = {
            let mut waiting = self.waiting();
            let most = usize::try_from(self.limits().peers).unwrap_or(usize::MAX).saturating_mul(2);
            // Only a disk that is gone for long lets so many gather; what is not kept is put again when it changes.
            if waiting.peers.len() < most || waiting.peers.contains_key(&who) {
                waiting.peers.insert(who, change);
            }
            waiting.peers.len() >= BATCH
        };
        self.wake(full);
    }

    pub(super) fn push_ban(&self, target: Target, change: Change<StoredBan>) {
        {
            let mut waiting = self.waiting();
            let most = usize::try_from(self.limits().bans).unwrap_or(usize::MAX).saturating_mul(2);
            if waiting.bans.len() < most || waiting.bans.contains_key(&target) {
                waiting.bans.insert(target, change);
            }
        }
        self.wake(true);
    }

    pub(super) fn push_event(&self, event: StoredEvent) {
        let full = {
            let mut waiting = self.waiting();
            if waiting.events.len() < MAX_EVENTS {
                waiting.events.push_back(event);
            }
            waiting.events.len() >= BATCH
        };
        self.wake(full);
    }

    pub(super) fn push_epoch(&self, epoch: u64) {
        self.waiting().epoch = Some(epoch);
        self.wake(true);
    }

    pub(super) fn push_anchors(&self, anchors: Vec<Who>) {
        self.waiting().anchors = Some(anchors);
        self.wake(false);
    }

    pub(super) fn ask(&self, ask: Ask) {
        {
            let mut waiting = self.waiting();
            if waiting.asks.len() < MAX_ASKS && !waiting.closing {
                waiting.asks.push_back(ask);
            }
        }
        self.wake(true);
    }

    pub(super) fn close(&self) {
        self.waiting().closing = true;
        self.wake(true);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.waiting().closing
    }

    fn wake(&self, urgent: bool) {
        self.stir.notify_one();
        if urgent {
            self.urgent.notify_one();
        }
    }

    /// Whether anything waits.
    pub(super) fn is_empty(&self) -> bool {
        let waiting = self.waiting();
        waiting.peers.is_empty()
            && waiting.bans.is_empty()
            && waiting.events.is_empty()
            && waiting.epoch.is_none()
            && waiting.anchors.is_none()
            && waiting.asks.is_empty()
    }

    /// Takes a batch; bans and the epoch go first.
    pub(super) fn take(&self) -> Batch {
        let mut waiting = self.waiting();
        let mut batch =
            Batch { epoch: waiting.epoch.take(), anchors: waiting.anchors.take(), ..Batch::default() };
        batch.bans = take_some(&mut waiting.bans, BATCH);
        batch.peers = take_some(&mut waiting.peers, BATCH - batch.bans.len().min(BATCH));
        let room = BATCH.saturating_sub(batch.bans.len() + batch.peers.len()).min(waiting.events.len());
        batch.events = waiting.events.drain(..room).collect();
        batch
    }

    /// Puts back a batch that was not written; what came since is newer and stays.
    pub(super) fn put_back(&self, batch: Batch) {
        let mut waiting = self.waiting();
        for (who, change) in batch.peers {
            waiting.peers.entry(who).or_insert(change);
        }
        for (target, change) in batch.bans {
            waiting.bans.entry(target).or_insert(change);
        }
        for event in batch.events.into_iter().rev() {
            if waiting.events.len() < MAX_EVENTS {
                waiting.events.push_front(event);
            }
        }
        waiting.epoch = waiting.epoch.or(batch.epoch);
        waiting.anchors = waiting.anchors.take().or(batch.anchors);
    }

    pub(super) fn take_asks(&self) -> VecDeque<Ask> {
        std::mem::take(&mut self.waiting().asks)
    }

    pub(super) fn ailment(&self) -> Option<Ailment> {
        self.waiting().ailment.clone()
    }

    /// Notes that writing fails; whether that is news.
    pub(super) fn fell_ill(&self, text: String) -> bool {
        let mut waiting = self.waiting();
        let (since, news) = match &waiting.ailment {
            Some(old) => (old.since, false),
            None => (Timestamp::now(), true),
        };
        waiting.ailment = Some(Ailment { part: "store".to_owned(), text, since });
        if news {
            self.health.notify_one();
        }
        news
    }

    /// Notes that writing works again; whether that is news.
    pub(super) fn recovered(&self) -> bool {
        let news = self.waiting().ailment.take().is_some();
        if news {
            self.health.notify_one();
        }
        news
    }
}

fn take_some<K: Clone + Eq + std::hash::Hash, V>(from: &mut HashMap<K, V>, most: usize) -> Vec<(K, V)> {
    let keys: Vec<K> = from.keys().take(most).cloned().collect();
    keys.into_iter().filter_map(|key| from.remove_entry(&key)).collect()
}
