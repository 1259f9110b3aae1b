//! Events on their way to whoever listens. Bounded: a reader that is too slow is told how much it missed (fault C11),
//! and nobody else notices.

use crate::{Event, EventKind, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Events that wait for the slowest reader.
pub const EVENT_QUEUE: usize = 4_096;

/// Where events come from: numbered in the order they happened.
pub(super) struct Bell {
    sender: Mutex<Option<broadcast::Sender<Arc<Event>>>>,
    seq: AtomicU64,
    missed: Arc<AtomicU64>,
}

impl Default for Bell {
    fn default() -> Bell {
        let (sender, _) = broadcast::channel(EVENT_QUEUE);
        Bell { sender: Mutex::new(Some(sender)), seq: AtomicU64::new(0), missed: Arc::default() }
    }
}

impl Bell {
    /// Tells everybody who listens.
    pub fn ring(&self, what: EventKind) {
        // The lock keeps numbers and order together; nothing in it waits.
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        if let Some(sender) = &*sender {
            // Nobody listening is no error.
            let _ = sender.send(Arc::new(Event { seq, at: Timestamp::now(), what }));
        }
    }

    /// What happens from now on.
    pub fn listen(&self) -> EventStream {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        EventStream {
            receiver: sender.as_ref().map(broadcast::Sender::subscribe),
            missed: self.missed.clone(),
            last_seq: self.seq.load(Ordering::Relaxed),
        }
    }

    /// No more events: readers come to their end.
    pub fn close(&self) {
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How many events readers have missed.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

/// Events from the moment it was asked for. At most 4,096 wait; further ones push out the oldest, and the reader finds
/// [`EventKind::Lagged`] in their place.
pub struct EventStream {
    receiver: Option<broadcast::Receiver<Arc<Event>>>,
    missed: Arc<AtomicU64>,
    last_seq: u64,
}

impl EventStream {
    /// The next event; `None` when the node has stopped and all were read. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        match self.receiver.as_mut()?.recv().await {
            Ok(event) => {
                self.last_seq = event.seq;
                Some(Arc::unwrap_or_clone(event))
            }
            Err(RecvError::Lagged(missed)) => {
                self.missed.fetch_add(missed, Ordering::Relaxed);
                self.last_seq = self.last_seq.saturating_add(missed);
                Some(Event { seq: self.last_seq, at: Timestamp::now(), what: EventKind::Lagged { missed } })
            }
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fault_c11_a_reader_that_sleeps_is_told_how_much_it_missed_and_stops_nobody() {
        let bell = Bell::default();
        let mut slow = bell.listen();
        let many = u64::try_from(EVENT_QUEUE).expect("fits") + 100;
        for _ in 0..many {
            bell.ring(EventKind::Configured);
        }
        let first = slow.next().await.expect("an event");
        assert_eq!(first.what, EventKind::Lagged { missed: 100 });
        let next = slow.next().await.expect("an event");
        assert_eq!((next.seq, next.what), (100, EventKind::Configured));
        assert_eq!(bell.missed(), 100);
        bell.close();
        let mut rest = 0;
        while slow.next().await.is_some() {
            rest += 1;
        }
        assert_eq!(rest, EVENT_QUEUE - 1);
        assert!(bell.listen().next().await.is_none());
    }
}
