//! Rows with handles that notice reuse. Grows by chunks, so that no push ever moves what is there; a freed row is
//! used again first, last freed first. It holds; it decides nothing.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Rows per chunk.
const CHUNK: usize = 1_024;

/// A table of rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free_head: u32,
    live_count: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Slot<T> {
    generation: u32,
    /// Low 24 bits: the next free row while `value` is `None`. High 8 bits: the row's mark.
    next_and_mark: u32,
    value: Option<T>,
}

impl<T> Slot<T> {
    fn set_next(&mut self, next: u32) {
        self.next_and_mark = self.next_and_mark & !ROW_MASK | next & ROW_MASK;
    }
    fn next(&self) -> u32 {
        match self.next_and_mark & ROW_MASK {
            ROW_MASK => NONE,
            next => next,
        }
    }
}

/// "No row".
pub(crate) const NONE: u32 = u32::MAX;
/// Limits keep row numbers below this.
const ROW_MASK: u32 = (1 << 24) - 1;

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { chunks: Vec::new(), free_head: NONE, live_count: 0 }
    }
}

impl<T> Slab<T> {
    /// Puts a row in; its number and generation.
    pub fn insert(&mut self, value: T) -> (u32, u32) {
        self.live_count += 1;
        if self.free_head != NONE {
            let row = self.free_head;
            let slot = self.slot_mut(row);
            slot.value = Some(value);
            let (generation, next) = (slot.generation, slot.next());
            self.free_head = next;
            return (row, generation);
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk_index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[chunk_index];
        let row = chunk_index * CHUNK + chunk.len();
        chunk.push(Slot { generation: 0, next_and_mark: ROW_MASK, value: Some(value) });
        (u32::try_from(row).expect("limits keep tables below 2^24 rows"), 0)
    }

    /// Takes a live row out.
    pub fn remove(&mut self, row: u32) -> Option<T> {
        let head = self.free_head;
        let slot = self.slot_mut(row);
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.set_next(head);
        self.free_head = row;
        self.live_count -= 1;
        Some(value)
    }

    /// The row, if it is live and of that generation.
    pub fn at(&self, row: u32, generation: u32) -> Option<&T> {
        let slot = self.chunks.get(row as usize / CHUNK)?.get(row as usize % CHUNK)?;
        if slot.generation == generation { slot.value.as_ref() } else { None }
    }

    /// Whether that row ever held, or holds, a value of that generation.
    pub fn was_given(&self, row: u32, generation: u32) -> bool {
        let slot = self.chunks.get(row as usize / CHUNK).and_then(|chunk| chunk.get(row as usize % CHUNK));
        slot.is_some_and(|slot| match slot.generation.wrapping_sub(generation) {
            0 => slot.value.is_some(),
            // Generations wrap: what lies less than half a turn back is the past.
            back => back < 1 << 31,
        })
    }

    /// The generation of a row.
    pub fn generation(&self, row: u32) -> u32 {
        self.chunks[row as usize / CHUNK][row as usize % CHUNK].generation
    }

    /// Eight bits of a row that outlive its value.
    pub fn mark(&self, row: u32) -> u8 {
        self.chunks[row as usize / CHUNK][row as usize % CHUNK].next_and_mark.to_be_bytes()[0]
    }

    /// Sets them.
    pub fn set_mark(&mut self, row: u32, mark: u8) {
        let slot = self.slot_mut(row);
        slot.next_and_mark = slot.next_and_mark & ROW_MASK | u32::from(mark) << 24;
    }

    /// A row known to be live.
    pub fn row(&self, row: u32) -> &T {
        self.chunks[row as usize / CHUNK][row as usize % CHUNK].value.as_ref().expect("a live row")
    }

    /// The same, to change.
    pub fn row_mut(&mut self, row: u32) -> &mut T {
        self.slot_mut(row).value.as_mut().expect("a live row")
    }

    /// The row, if it is live.
    pub fn live(&self, row: u32) -> Option<&T> {
        self.chunks.get(row as usize / CHUNK)?.get(row as usize % CHUNK)?.value.as_ref()
    }

    /// How many rows are live.
    pub fn len(&self) -> usize {
        self.live_count as usize
    }

    /// One above the highest row ever used.
    pub fn end(&self) -> u32 {
        let rows = match self.chunks.last() {
            Some(last) => (self.chunks.len() - 1) * CHUNK + last.len(),
            None => 0,
        };
        u32::try_from(rows).expect("limits keep tables below 2^24 rows")
    }

    /// All live rows in row order. O(n): views, sweeps and checks only.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().enumerate().flat_map(|(at, chunk)| {
            chunk.iter().enumerate().filter_map(move |(index, slot)| {
                let row = u32::try_from(at * CHUNK + index).ok()?;
                slot.value.as_ref().map(|value| (row, value))
            })
        })
    }

    /// Live rows from a row on, in row order. Costs what is taken from it.
    pub fn iter_from(&self, row: u32) -> impl Iterator<Item = (u32, &T)> {
        (row..self.end()).filter_map(|row| self.live(row).map(|value| (row, value)))
    }

    /// Whether the free list and the count are sound: for data that came from outside.
    pub fn is_sound(&self) -> bool {
        let (full, last) = match self.chunks.split_last() {
            Some((last, full)) => (full, Some(last)),
            None => (&[][..], None),
        };
        if full.iter().any(|chunk| chunk.len() != CHUNK)
            || last.is_some_and(|chunk| chunk.is_empty() || chunk.len() > CHUNK)
        {
            return false;
        }
        let live = self.iter().count();
        let free = self.end() as usize - live;
        let mut at = self.free_head;
        for _ in 0..free {
            match self.chunks.get(at as usize / CHUNK).and_then(|c| c.get(at as usize % CHUNK)) {
                Some(slot) if slot.value.is_none() => at = slot.next(),
                _ => return false,
            }
        }
        at == NONE && live == self.len()
    }

    fn slot_mut(&mut self, row: u32) -> &mut Slot<T> {
        &mut self.chunks[row as usize / CHUNK][row as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_row_has_another_generation() {
        let mut slab = Slab::default();
        let (row, generation) = slab.insert('a');
        assert_eq!(slab.remove(row), Some('a'));
        let (again, next) = slab.insert('b');
        assert_eq!(again, row);
        assert_ne!(next, generation);
        assert_eq!(slab.at(row, generation), None);
        assert_eq!(slab.at(row, next), Some(&'b'));
        assert!(slab.is_sound());
        let given = |slab: &Slab<char>, row, generation| slab.was_given(row, generation);
        assert!(given(&slab, row, generation) && given(&slab, row, next));
        assert!(!given(&slab, row, next + 1) && !given(&slab, row + 1, 0) && !given(&slab, u32::MAX, 0));
        slab.remove(row);
        assert!(given(&slab, row, next) && !given(&slab, row, next + 1), "the next one is not there yet");
    }

    #[test]
    fn rows_stay_put_over_chunks() {
        let mut slab = Slab::default();
        for n in 0..3_000_u32 {
            assert_eq!(slab.insert(n).0, n);
        }
        for n in (0..3_000).step_by(3) {
            slab.remove(n);
        }
        assert_eq!(slab.len(), 2_000);
        assert!(slab.iter().all(|(row, value)| row == *value && row % 3 != 0));
        assert!(slab.is_sound());
    }
}
