//! The way up: facts from links and listeners to the owner, in one batch that is taken out whole. It never blocks and
//! never loses a fact that the core counts on.
//!
//! What bounds it: a conn may have at most 12 facts outstanding (`Resolved`, four `Missed`, `Met`, `Learned` from its
//! hello, `Declined`, one `Violated`, `Ready`, `Routed`, `Gone`) and conns are bounded by the core's limits; arrivals
//! by the ticket table. Reports and gossip are the only facts a peer can cause at will: above [`SOFT_LIMIT`] facts
//! reports wait (and coalesce) in their meter, gossip is dropped and counted.

use peerkeep_core::{ConnRef, Direction, Fact, View};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Above this many waiting facts, reports are put off and gossip is dropped.
pub const SOFT_LIMIT: usize = 16_384;

/// Where facts go. Cheap to clone; usable from any thread.
#[derive(Debug, Clone, Default)]
pub struct Facts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    batch: Mutex<Vec<Fact>>,
    dropped_count: AtomicU64,
    ready: Arc<Notify>,
}

impl Facts {
    /// Facts that wake `ready` when some wait.
    pub(crate) fn waking(ready: Arc<Notify>) -> Facts {
        Facts(Arc::new(Shared { ready, ..Shared::default() }))
    }

    /// Hands up one fact. Bounded by what the fact is about, see above.
    pub fn saw(&self, fact: Fact) {
        let was_empty = {
            let mut batch = self.batch();
            batch.push(fact);
            batch.len() == 1
        };
        if was_empty {
            self.0.ready.notify_one();
        }
    }

    /// Hands up something that may be lost: refused and counted above [`SOFT_LIMIT`].
    pub fn offer(&self, fact: Fact) -> bool {
        if !self.has_room() {
            self.0.dropped_count.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.saw(fact);
        true
    }

    /// Whether reports and gossip are taken now.
    pub fn has_room(&self) -> bool {
        self.batch().len() < SOFT_LIMIT
    }

    /// How many offered facts were dropped so far.
    pub fn dropped_count(&self) -> u64 {
        self.0.dropped_count.load(Ordering::Relaxed)
    }

    /// Waits until some are there. For the owner, and for drivers' tests.
    pub async fn ready(&self) {
        self.0.ready.notified().await;
    }

    /// Takes all that wait, in order; `into` must be empty and its memory is used for the next batch.
    pub fn take(&self, into: &mut Vec<Fact>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut *self.batch(), into);
    }

    fn batch(&self) -> MutexGuard<'_, Vec<Fact>> {
        // A Vec is whole after every push, so a panic elsewhere while it was held does not matter.
        self.0.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with a fact that no sound driver sends, and the conn it claims to be about. A fact about a conn that
/// is over may be late, as a name's lookup is that a close has overtaken; but nothing is known of a conn that never
/// was, nobody is gone twice, and only a dial misses.
pub(crate) fn stray(view: View<'_>, fact: &Fact) -> Option<(ConnRef, &'static str)> {
    let conn = about(fact)?;
    let what = match (view.conn(conn), fact) {
        (Some(known), Fact::Missed { .. } | Fact::Resolved { .. })
            if known.direction == Direction::Inbound =>
        {
            "a failed dial of a connection that never dialled"
        }
        (Some(_), _) => return None,
        (None, _) if !view.was_given(conn) => "news of a connection that never was",
        (None, Fact::Gone { .. }) => "the end of a connection that was over",
        (None, _) => return None,
    };
    Some((conn, what))
}

fn about(fact: &Fact) -> Option<ConnRef> {
    match fact {
        Fact::Resolved { conn, .. }
        | Fact::Missed { conn, .. }
        | Fact::Met { conn, .. }
        | Fact::Declined { conn, .. }
        | Fact::Ready { conn }
        | Fact::Routed { conn, .. }
        | Fact::Reported { conn, .. }
        | Fact::Violated { conn, .. }
        | Fact::Gone { conn, .. } => Some(*conn),
        Fact::Learned { .. }
        | Fact::Recalled { .. }
        | Fact::Bound { .. }
        | Fact::Arrived { .. }
        | Fact::TurnedAway { .. } => None,
    }
}
