//! Who waits for the outcome of an attempt to connect. Bounded; every waiter is answered exactly once, because
//! answering takes it out of the table and the table's end answers the rest.

use peerkeep_core::{ConnRef, ContactRef, Fault, Refusal, Who};
use std::collections::HashMap;
use tokio::sync::oneshot;

/// Waiters at a time; a further one is answered [`Outcome::Busy`] although its attempt goes on.
pub const MAX_WAITERS: usize = 1_024;

/// How long to wait for the outcome of a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// For the first attempt to end, either way.
    FirstAttempt,
    /// For a connection, or for the last attempt to fail.
    Settled,
}

/// How an attempt to connect came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Connected, now or before.
    Connected {
        /// To this contact: another one than asked for, when an address turned out to be somebody.
        contact: ContactRef,
        /// Who that is.
        who: Who,
        /// By this conn.
        conn: ConnRef,
        /// Nothing had to be done for it.
        already: bool,
    },
    /// It was refused; nothing changed.
    Refused(Refusal),
    /// An attempt failed; another may follow.
    Failed(Option<Fault>),
    /// All attempts are used up; how the last one failed.
    GaveUp(Option<Fault>),
    /// Somebody called it off.
    Cancelled,
    /// The contact was banned meanwhile.
    Banned,
    /// The node stops.
    Shutdown,
    /// The time to wait is over; the attempt goes on.
    TimedOut,
    /// Too many wait for outcomes; the attempt goes on.
    Busy,
}

/// The table.
#[derive(Default)]
pub(crate) struct Waiters {
    by_contact: HashMap<ContactRef, Vec<(Until, oneshot::Sender<Outcome>)>>,
    count: usize,
}

impl Waiters {
    /// Takes one in, or answers it at once when full.
    pub fn add(&mut self, contact: ContactRef, until: Until, to: oneshot::Sender<Outcome>) {
        if self.count >= MAX_WAITERS {
            self.drop_who_left();
        }
        if self.count >= MAX_WAITERS {
            let _ = to.send(Outcome::Busy);
            return;
        }
        self.count += 1;
        self.by_contact.entry(contact).or_default().push((until, to));
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Answers all who wait for a contact.
    pub fn answer(&mut self, contact: ContactRef, outcome: Outcome) {
        for (_, to) in self.by_contact.remove(&contact).into_iter().flatten() {
            self.count -= 1;
            // Who left before is nobody's loss.
            let _ = to.send(outcome);
        }
    }

    /// Answers those who wait for the first attempt only.
    pub fn answer_first(&mut self, contact: ContactRef, outcome: Outcome) {
        let Some(waiting) = self.by_contact.remove(&contact) else { return };
        let (first, settled): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(until, _)| *until == Until::FirstAttempt);
        self.count -= first.len();
        for (_, to) in first {
            let _ = to.send(outcome);
        }
        if !settled.is_empty() {
            self.by_contact.insert(contact, settled);
        }
    }

    /// A contact turned out to be another one.
    pub fn rename(&mut self, from: ContactRef, to: ContactRef) {
        if let Some(waiting) = self.by_contact.remove(&from) {
            self.by_contact.entry(to).or_default().extend(waiting);
        }
    }

    /// Answers everybody.
    pub fn answer_all(&mut self, outcome: Outcome) {
        for (_, to) in self.by_contact.drain().flat_map(|(_, waiting)| waiting) {
            let _ = to.send(outcome);
        }
        self.count = 0;
    }

    /// Makes room: those whose caller no longer listens. Linear in the table's bound; called when it is full, and
    /// once a minute.
    pub fn drop_who_left(&mut self) {
        self.by_contact.retain(|_, waiting| {
            waiting.retain(|(_, to)| !to.is_closed());
            !waiting.is_empty()
        });
        self.count = self.by_contact.values().map(Vec::len).sum();
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        self.answer_all(Outcome::Shutdown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(row: u32) -> ContactRef {
        ContactRef { row, generation: 0 }
    }

    fn connected() -> Outcome {
        Outcome::Connected {
            contact: contact(2),
            who: Who::mesh(peerkeep_core::PeerKey::ed25519([2; 32])),
            conn: ConnRef::NONE,
            already: false,
        }
    }

    #[test]
    fn everybody_is_answered_once_also_under_another_name() {
        let mut waiters = Waiters::default();
        let (first, mut got_first) = oneshot::channel();
        let (settled, mut got_settled) = oneshot::channel();
        let (other, mut got_other) = oneshot::channel();
        waiters.add(contact(1), Until::FirstAttempt, first);
        waiters.add(contact(1), Until::Settled, settled);
        waiters.add(contact(3), Until::Settled, other);
        waiters.answer_first(contact(1), Outcome::Failed(None));
        assert_eq!(got_first.try_recv(), Ok(Outcome::Failed(None)));
        assert!(got_settled.try_recv().is_err(), "it waits on");
        waiters.rename(contact(1), contact(2));
        waiters.answer(contact(1), Outcome::Cancelled);
        waiters.answer(contact(2), connected());
        assert_eq!(got_settled.try_recv(), Ok(connected()));
        drop(waiters);
        assert_eq!(got_other.try_recv(), Ok(Outcome::Shutdown));
    }

    #[test]
    fn the_table_is_bounded_and_makes_room_for_the_living() {
        let mut waiters = Waiters::default();
        let mut kept = Vec::new();
        for _ in 0..MAX_WAITERS {
            let (to, got) = oneshot::channel();
            waiters.add(contact(1), Until::Settled, to);
            kept.push(got);
        }
        let (to, mut got) = oneshot::channel();
        waiters.add(contact(1), Until::Settled, to);
        assert_eq!(got.try_recv(), Ok(Outcome::Busy));
        kept.pop();
        let (to, mut got) = oneshot::channel();
        waiters.add(contact(1), Until::Settled, to);
        waiters.answer(contact(1), connected());
        assert_eq!(got.try_recv(), Ok(connected()));
        assert_eq!(waiters.count, 0);
    }
}
