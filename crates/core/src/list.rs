//! First-come-first-served lists of contacts, linked through their rows: joining, leaving and cancelling are O(1)
//! however long the list is (fault D14).

use crate::contact::{Contact, Membership};
use crate::slab::{NONE, Slab};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct List {
    pub head: u32,
    tail: u32,
    pub len: u32,
}

impl Default for List {
    fn default() -> List {
        List { head: NONE, tail: NONE, len: 0 }
    }
}

impl List {
    pub fn push_back(&mut self, contacts: &mut Slab<Contact>, row: u32, membership: Membership) {
        let contact = contacts.row_mut(row);
        assert_eq!(contact.membership, Membership::None, "a contact is in one list at most");
        contact.membership = membership;
        contact.prev = self.tail;
        contact.next = NONE;
        match self.tail {
            NONE => self.head = row,
            tail => contacts.row_mut(tail).next = row,
        }
        self.tail = row;
        self.len += 1;
    }

    pub fn remove(&mut self, contacts: &mut Slab<Contact>, row: u32) {
        let contact = contacts.row_mut(row);
        let (prev, next) = (contact.prev, contact.next);
        contact.membership = Membership::None;
        contact.prev = NONE;
        contact.next = NONE;
        match prev {
            NONE => self.head = next,
            prev => contacts.row_mut(prev).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => contacts.row_mut(next).prev = prev,
        }
        self.len -= 1;
    }
}
