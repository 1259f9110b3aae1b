//! Make before break: a second connection beside a degraded one, and what its success or failure means for the first.
//! Who is degraded is decided by whoever asks. The acceptor closes the old connection when it reads the confirm of the
//! new one, so at no moment is there none; the dialler keeps both until it hears that end, or until the old one falls
//! silent.

use crate::conn::Conn;
use crate::slab::NONE;
use crate::{Answer, Close, Core, Duplicates, Effects, Fault, Refusal, Stage, Told, Who};

impl Core {
    pub(crate) fn handle_replace(&mut self, who: &Who, out: &mut Effects) -> Result<Answer, Refusal> {
        let row = self.find_row(who).ok_or(Refusal::Unknown)?;
        self.replace(row, out)?;
        Ok(Answer::Begun(self.contact_ref(row)))
    }

    /// Dials a successor of the connection that is up, if that is allowed now.
    pub(crate) fn replace(&mut self, row: u32, out: &mut Effects) -> Result<(), Refusal> {
        let may = self.can_replace(row)?;
        self.do_connect(may, out);
        Ok(())
    }

    /// The successor is up: what it replaces is closed, on the acceptor's side alone where both sides know the mark.
    pub(crate) fn close_replaced(&mut self, row: u32, contact: u32, outbound: bool, out: &mut Effects) {
        let stack = self.conns.row(row).stack;
        let leaves_it = outbound && self.cfg.rules(stack).duplicates == Duplicates::Numbers;
        for other in self.conns_of(contact) {
            if other != row && self.conns.row(other).may_be_replaced() {
                self.pass_on_health(other, row);
                if !leaves_it {
                    self.close(other, Close::Replaced, out);
                }
            }
        }
    }

    /// A successor came to nothing: the next one waits a little, and the connection that is up is none the worse.
    pub(crate) fn note_replacement_failed(&mut self, row: u32, conn: &Conn, fault: Fault, out: &mut Effects) {
        let random = self.random();
        let delay =
            self.backoff(row).delay(1, random).max(conn.retry_after.min(crate::close::LONGEST_RETRY_AFTER));
        let contact = self.contacts.row_mut(row);
        contact.last_fault = Some(fault);
        contact.retry_at = self.now + delay;
        self.tell(row, NONE, Told::Failed, out);
    }

    /// What there is to cancel beside a connection that is up: its successor's dial.
    pub(crate) fn cancel_replacement(&mut self, row: u32, out: &mut Effects) -> Result<Answer, Refusal> {
        let dial = self.conns_of(row).into_iter().find(|conn| self.conns.row(*conn).is_pending_dial());
        let dial = dial.ok_or(Refusal::NotNow)?;
        self.abandon(dial, Close::Requested, out);
        Ok(Answer::Done)
    }

    /// Whether another conn of the contact is up.
    pub(crate) fn has_successor(&mut self, row: u32, conn_row: u32) -> bool {
        self.conns_of(row)
            .into_iter()
            .any(|other| other != conn_row && self.conns.row(other).stage == Stage::Up)
    }

    /// How many of a contact's conns are not on their way out.
    pub(crate) fn live_conns(&self, row: u32) -> usize {
        let mut count = 0;
        let mut at = self.contacts.row(row).head;
        while at != NONE {
            let conn = self.conns.row(at);
            count += usize::from(conn.stage != Stage::Closing);
            at = conn.next;
        }
        count
    }
}
