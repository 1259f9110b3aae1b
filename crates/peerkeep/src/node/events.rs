//! Events on their way to whoever listens. Bounded: a reader that is too slow is told how much it missed (fault C11),
//! and nobody else notices.

use crate::{Event, EventKind, Timestamp};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Events that wait for the slowest reader.
pub const EVENT_QUEUE: usize = 4_096;

/// Events remembered for readers that come back.
const REMEMBERED: usize = 1_024;

/// Where events come from: numbered in the order they happened.
pub(super) struct Bell {
    tower: Mutex<Tower>,
    seq: AtomicU64,
    missed: Arc<AtomicU64>,
}

struct Tower {
    sender: Option<broadcast::Sender<Arc<Event>>>,
    remembered: VecDeque<Arc<Event>>,
}

impl Default for Bell {
    fn default() -> Bell {
        let (sender, _) = broadcast::channel(EVENT_QUEUE);
        let tower = Tower { sender: Some(sender), remembered: VecDeque::new() };
        Bell { tower: Mutex::new(tower), seq: AtomicU64::new(0), missed: Arc::default() }
    }
}

impl Bell {
    /// Tells everybody who listens.
    pub fn ring(&self, what: EventKind) {
        // The lock keeps numbers and order together; nothing in it waits.
        let mut tower = self.tower();
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let event = Arc::new(Event { seq, at: Timestamp::now(), what });
        if tower.remembered.len() >= REMEMBERED {
            tower.remembered.pop_front();
        }
        tower.remembered.push_back(event.clone());
        if let Some(sender) = &tower.sender {
            // Nobody listening is no error.
            let _ = sender.send(event);
        }
    }

    fn tower(&self) -> MutexGuard<'_, Tower> {
        self.tower.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens from now on.
    pub fn listen(&self) -> EventStream {
        self.stream(&self.tower(), VecDeque::new())
    }

    /// What happened after the event with that number, or since the start, and what happens from now on. What is no
    /// longer remembered is told as missed.
    pub fn listen_after(&self, seq: Option<u64>) -> EventStream {
        let tower = self.tower();
        let first = seq.map_or(0, |seq| seq.saturating_add(1));
        let remembered = tower.remembered.front().map_or(first, |event| event.seq);
        let mut past: VecDeque<Arc<Event>> =
            tower.remembered.iter().filter(|event| event.seq >= first).cloned().collect();
        if remembered > first {
            let what = EventKind::Lagged { missed: remembered - first };
            past.push_front(Arc::new(Event { seq: remembered - 1, at: Timestamp::now(), what }));
        }
        self.stream(&tower, past)
    }

    fn stream(&self, tower: &Tower, past: VecDeque<Arc<Event>>) -> EventStream {
        EventStream {
            past,
            receiver: tower.sender.as_ref().map(broadcast::Sender::subscribe),
            missed: self.missed.clone(),
            last_seq: self.seq.load(Ordering::Relaxed),
        }
    }

    /// No more events: readers come to their end.
    pub fn close(&self) {
        self.tower().sender = None;
    }

    /// How many events readers have missed.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

/// Events from the moment it was asked for. At most 4,096 wait; further ones push out the oldest, and the reader finds
/// [`EventKind::Lagged`] in their place.
pub struct EventStream {
    past: VecDeque<Arc<Event>>,
    receiver: Option<broadcast::Receiver<Arc<Event>>>,
    missed: Arc<AtomicU64>,
    last_seq: u64,
}

impl EventStream {
    /// The next event; `None` when the node has stopped and all were read. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.past.pop_front() {
            return Some(Arc::unwrap_or_clone(event));
        }
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
    async fn a_reader_that_comes_back_goes_on_where_it_was_or_hears_what_it_missed() {
        let bell = Bell::default();
        for _ in 0..10 {
            bell.ring(EventKind::Configured);
        }
        let mut back = bell.listen_after(Some(7));
        bell.ring(EventKind::ShuttingDown);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(back.next().await.expect("an event").seq);
        }
        assert_eq!(seen, [8, 9, 10], "each once, also what came in between");
        for _ in 0..REMEMBERED {
            bell.ring(EventKind::Configured);
        }
        let first = bell.listen_after(Some(4)).next().await.expect("an event");
        assert_eq!(first.what, EventKind::Lagged { missed: 6 });
    }

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
