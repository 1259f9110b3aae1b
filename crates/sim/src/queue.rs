//! What will happen, in order of time, and of asking where times are equal. It knows no meaning of what it holds.

use peerkeep_core::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events by time. Entries are small and what they stand for waits in a table, so that sorting moves little.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    rows: Vec<Option<E>>,
    free: Vec<u32>,
    asked: u64,
}

impl<E> Queue<E> {
    pub fn new() -> Queue<E> {
        Queue { heap: BinaryHeap::new(), rows: Vec::new(), free: Vec::new(), asked: 0 }
    }

    pub fn push(&mut self, at: Time, event: E) {
        self.asked += 1;
        let row = match self.free.pop() {
            Some(row) => {
                self.rows[row as usize] = Some(event);
                row
            }
            None => {
                self.rows.push(Some(event));
                u32::try_from(self.rows.len() - 1).expect("memory ends before")
            }
        };
        self.heap.push(Reverse((at.0, self.asked, row)));
    }

    /// The time of the next event.
    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, ..))| Time(*at))
    }

    pub fn pop(&mut self) -> Option<(Time, E)> {
        let Reverse((at, _, row)) = self.heap.pop()?;
        let event = self.rows[row as usize].take()?;
        self.free.push(row);
        Some((Time(at), event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_first_and_equal_times_in_order_of_asking() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'c'), (3, 'a'), (5, 'd'), (4, 'b'), (5, 'e')] {
            queue.push(Time(at), event);
        }
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcde");
        assert_eq!(queue.next(), None);
    }
}
