//! First-come-first-served queues of contacts. Leaving is a flag in the row: the entry stays behind and is skipped when
//! its turn comes, so joining, leaving and cancelling are O(1) and touch no other row (fault D14). A row has at most
//! one entry per queue; one that comes back before its entry was skipped has its old place.

use crate::StackId;
use crate::contact::Contact;
use crate::slab::Slab;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Which queue: a bit of [`Contact::member`] while the row waits, and of the row's mark while it has an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum Line {
    /// A dial is due and waits for a slot.
    Slots = 1,
    /// Known, idle, and can be dialled to fill the mesh's target. Each stack's queue has a bit of its own, because an
    /// entry outlives its row's contact and the row's next one may be on another stack.
    CandidatesMesh = 2,
    /// Of no use: the first to be forgotten when the table is full.
    Spent = 4,
    /// As `CandidatesMesh`, for libp2p.
    CandidatesLibp2p = 8,
    /// The same for Bitcoin.
    CandidatesBitcoin = 16,
    /// The same for the virtual LAN.
    CandidatesLan = 32,
}

impl Line {
    /// The queue of that stack's candidates.
    pub const fn candidates(stack: StackId) -> Line {
        match stack {
            StackId::Mesh => Line::CandidatesMesh,
            StackId::Libp2p => Line::CandidatesLibp2p,
            StackId::Bitcoin => Line::CandidatesBitcoin,
            StackId::Lan => Line::CandidatesLan,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Queue {
    line: Line,
    entries: VecDeque<u32>,
    members: u32,
}

impl Queue {
    pub fn new(line: Line, capacity: usize) -> Queue {
        Queue { line, entries: VecDeque::with_capacity(capacity), members: 0 }
    }

    pub fn join(&mut self, contacts: &mut Slab<Contact>, row: u32) {
        let contact = contacts.row_mut(row);
        assert_eq!(contact.member, 0, "a contact waits in one queue at most");
        contact.member = self.line as u8;
        self.members += 1;
        let mark = contacts.mark(row);
        if mark & self.line as u8 == 0 {
            contacts.set_mark(row, mark | self.line as u8);
            self.entries.push_back(row);
        }
    }

    pub fn leave(&mut self, contacts: &mut Slab<Contact>, row: u32) {
        let contact = contacts.row_mut(row);
        debug_assert_eq!(contact.member, self.line as u8);
        contact.member = 0;
        self.members -= 1;
    }

    /// Whose turn it is. Entries of those who left are dropped on the way: each was pushed once, so this is O(1) over
    /// time.
    pub fn front(&mut self, contacts: &mut Slab<Contact>) -> Option<u32> {
        while let Some(&row) = self.entries.front() {
            if contacts.live(row).is_some_and(|contact| contact.member == self.line as u8) {
                return Some(row);
            }
            let mark = contacts.mark(row);
            contacts.set_mark(row, mark & !(self.line as u8));
            self.entries.pop_front();
        }
        None
    }

    /// Who waits, in order. O(n): tests only.
    pub fn waiting(&self, contacts: &Slab<Contact>) -> impl Iterator<Item = u32> {
        let bit = self.line as u8;
        let member = move |row: &u32| contacts.live(*row).is_some_and(|contact| contact.member == bit);
        self.entries.iter().copied().filter(member)
    }

    /// How many wait.
    pub fn len(&self) -> u32 {
        self.members
    }

    /// Whether as many of the entries wait as are counted: the part of `is_sound` that costs next to nothing.
    pub fn adds_up(&self, contacts: &Slab<Contact>) -> bool {
        let bit = self.line as u8;
        let member = |row: &&u32| contacts.live(**row).is_some_and(|contact| contact.member == bit);
        self.entries.iter().filter(member).count() == self.members as usize
    }

    /// Whether the entries account for every member: for data that came from outside.
    pub fn is_sound(&self, contacts: &Slab<Contact>) -> bool {
        if self.entries.is_empty() {
            return self.members == 0;
        }
        let bit = self.line as u8;
        let mut rows: Vec<u32> = self.entries.iter().copied().collect();
        rows.sort_unstable();
        let unique = rows.windows(2).all(|pair| pair[0] != pair[1]);
        let marked = rows.iter().all(|row| *row < contacts.end() && contacts.mark(*row) & bit != 0);
        let member = |row: &&u32| contacts.live(**row).is_some_and(|contact| contact.member == bit);
        unique && marked && rows.iter().filter(member).count() == self.members as usize
    }
}
