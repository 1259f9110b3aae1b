//! How things end and what happens next: the one `Gone`, what a failure or a loss means for coming back, and the
//! commands that end something.

use crate::canary::{self, Canary};
use crate::conn::Conn;
use crate::contact::Standing;
use crate::slab::NONE;
use crate::verdict::{self, Return};
use crate::wheel::Owner;
use crate::{
    Answer, Backoff, Close, Core, Effects, End, Fault, FaultKind, Refusal, Stage, Step, Time, Told, Who,
};
use core::time::Duration;

/// Nobody can make us stay away longer than this by asking.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// First pause after a fault of our own machine; it doubles up to 32 times this.
const LOCAL_PAUSE: Duration = Duration::from_secs(1);
/// How many steps of the backoff the fast window stands for.
const AFTER_WINDOW: u16 = 3;

impl Core {
    /// A conn is over. Its slot is free from here.
    pub(crate) fn handle_gone(&mut self, row: u32, end: End, out: &mut Effects) {
        let conn = self.conns.row(row);
        let contact = conn.contact;
        if conn.stage == Stage::Up && contact != NONE {
            // Only an idle close leaves the conn up, because the link may decline it.
            let ours = conn.why.filter(|_| end == End::Asked);
            self.lose(row, ours, end, out);
        }
        self.wheel.disarm(Owner::Conn(row));
        if !(canary::on(Canary::SlotLeak) && matches!(end, End::Fault(_))) {
            self.count_conn(row, false);
        }
        self.detach(row);
        let conn = self.conns.remove(row).expect("a live row");
        self.counts.stage[conn.stage.index()] -= 1;
        self.digest.mix(1 << 41 | u64::from(row));
        if contact == NONE {
            return;
        }
        if let End::Violation(what) = end {
            self.punish(contact, what, out);
        }
        if conn.was_up {
            self.store(contact, out);
        } else if conn.is_outbound() {
            self.note_attempt_over(contact, &conn, end, out);
        }
        self.doom_if_alone(contact);
        if !self.contacts.row(contact).flags.doomed {
            self.settle(contact, out);
        }
    }

    /// Brings a contact's standing in line with its conns, offers what was held, and moves on when none is left.
    pub(crate) fn settle(&mut self, contact: u32, out: &mut Effects) {
        let (mut up, mut pending, mut offered, mut other, mut held) = (false, false, false, false, NONE);
        for row in self.conns_of(contact) {
            let conn = self.conns.row(row);
            match conn.stage {
                Stage::Up => up = true,
                Stage::Resolving | Stage::Dialing => pending = true,
                Stage::Offered if conn.is_outbound() => pending = true,
                Stage::Held if held == NONE => held = row,
                Stage::Held => other = true,
                Stage::Offered => (other, offered) = (true, true),
                Stage::Arriving | Stage::Refusing | Stage::Closing => {}
            }
        }
        if held != NONE {
            other = true;
            if !pending && (!(up || offered) || self.conns.row(held).replaces) {
                self.offer(held, out);
            }
        }
        let standing = self.contacts.row(contact).standing;
        match () {
            () if up => self.stand_connected(contact, standing),
            () if pending => {
                if standing != Standing::Dialing {
                    self.set_standing(contact, Standing::Dialing);
                }
            }
            () if other => {
                if standing != Standing::Waiting {
                    self.set_standing(contact, Standing::Waiting);
                }
                self.wheel.disarm(Owner::Contact(contact));
            }
            () => self.move_on(contact, standing, out),
        }
    }

    fn stand_connected(&mut self, row: u32, standing: Standing) {
        if standing == Standing::Connected {
            return;
        }
        self.set_standing(row, Standing::Connected);
        let stable = self.backoff(row).stable;
        self.wheel.arm(Owner::Contact(row), self.now + stable);
        let contact = self.contacts.row_mut(row);
        contact.turn_until = Time::ZERO;
        contact.flags.resting = false;
    }

    /// No conn is left, or none ever was: dial again if somebody wants it, else rest.
    fn move_on(&mut self, row: u32, standing: Standing, out: &mut Effects) {
        let contact = self.contacts.row(row);
        match standing {
            Standing::GaveUp | Standing::Queued(_) => {}
            Standing::Waiting if self.wheel.due(Owner::Contact(row)).is_some() => {}
            _ if contact.is_desired() || contact.flags.filling => {
                self.pursue(row, out);
            }
            Standing::Idle => self.relist(row),
            _ => self.set_standing(row, Standing::Idle),
        }
    }

    // ---- after a loss

    /// A connection that was up no longer is: it is told, and what follows is settled now and not at the `Gone`, by
    /// which time people may have asked for something new.
    pub(crate) fn lose(&mut self, conn_row: u32, ours: Option<Close>, end: End, out: &mut Effects) {
        let conn = self.conns.row(conn_row);
        let (row, up_at) = (conn.contact, conn.up_at);
        let why = ours.unwrap_or(verdict::lost_reason(end));
        self.contacts.row_mut(row).last_close = Some(why);
        self.stats.lost += 1;
        self.tell(row, conn_row, Told::Lost(why), out);
        if verdict::after_loss(ours, end) == Return::Fast && self.has_successor(row, conn_row) {
            // Its successor is up already.
            return;
        }
        let backoff = self.backoff(row);
        let random = self.random();
        let now = self.now;
        let stable = now - up_at >= backoff.stable;
        let next = verdict::after_loss(ours, end);
        let contact = self.contacts.row_mut(row);
        if let End::Fault(fault) = end {
            contact.last_fault = Some(fault);
        }
        if stable {
            contact.failures = 0;
        }
        let unsettled = why == Close::Dead && now < self.net.unsettled_until;
        let contact = self.contacts.row_mut(row);
        let delay = match next {
            // We moved: all come back, none is blamed, and not all in one moment.
            Return::Fast if unsettled => {
                contact.fast_until = now + backoff.fast_window;
                jitter(backoff.fast_interval, random)
            }
            Return::Fast => {
                if contact.failures == 0 {
                    contact.fast_until = now + backoff.fast_window;
                }
                let fast = backoff.fast_delay(contact.failures, random);
                if !stable {
                    contact.failures = contact.failures.saturating_add(1);
                }
                if now < contact.fast_until { fast } else { backoff.delay(contact.failures, random) }
            }
            Return::Backoff => {
                contact.failures = contact.failures.saturating_add(1);
                backoff.delay(contact.failures, random)
            }
            Return::CoolDown if contact.is_desired() => {
                contact.failures = contact.failures.saturating_add(1);
                backoff.delay(contact.failures, random)
            }
            Return::CoolDown => {
                contact.flags.filling = false;
                verdict::COOL_DOWN
            }
            Return::Slow => {
                contact.failures = contact.failures.saturating_add(1);
                Backoff::AFTER_VIOLATION.delay(contact.failures, random)
            }
            Return::Stay => {
                contact.flags.asked = false;
                contact.flags.filling = false;
                contact.flags.resting = true;
                // Nothing failed: only a lasting wish would otherwise undo it in the same breath.
                if contact.flags.wanted { backoff.delay(1, random) } else { Duration::ZERO }
            }
        };
        contact.retry_at = contact.retry_at.max(now + delay);
    }

    // ---- after an attempt

    fn note_attempt_over(&mut self, row: u32, conn: &Conn, end: End, out: &mut Effects) {
        let Some(fault) = fault_of_attempt(conn, end) else { return };
        self.stats.failures += 1;
        if conn.replaces && self.has_conn_in(row, &[Stage::Up]) {
            self.note_replacement_failed(row, conn, fault, out);
            return;
        }
        let local = fault.kind == FaultKind::Resources || (fault.is_ours() && self.counts.up() == 0);
        let random = self.random();
        let backoff = self.backoff(row);
        let lost_way = matches!(fault.kind, FaultKind::Timeout | FaultKind::Unreachable | FaultKind::Reset);
        let unsettled = lost_way && self.now < self.net.unsettled_until;
        let contact = self.contacts.row_mut(row);
        contact.last_fault = Some(fault);
        let delay = if local {
            self.net.local_faults = self.net.local_faults.saturating_add(1).min(6);
            let pause = LOCAL_PAUSE * (1 << (self.net.local_faults - 1));
            self.net.paused_until = self.now + pause;
            pause + Duration::from_micros(random % 1_000_000)
        } else if self.now < contact.fast_until || unsettled {
            backoff.fast_delay(1, random)
        } else {
            contact.failures = contact.failures.saturating_add(1);
            let misbehaved = conn.why == Some(Close::Violation) || matches!(end, End::Violation(_));
            match misbehaved || verdict::is_slow_fault(fault.kind) {
                true => Backoff::AFTER_VIOLATION.delay(contact.failures, random),
                // A minute of fast retries came before: go on where they left off, not at the quick end.
                false if contact.fast_until != Time::ZERO => {
                    backoff.delay(contact.failures.saturating_add(AFTER_WINDOW), random)
                }
                false => backoff.delay(contact.failures, random),
            }
        };
        if !local {
            self.net.local_faults = 0;
        }
        let delay = delay.max(conn.retry_after.min(LONGEST_RETRY_AFTER));
        let contact = self.contacts.row_mut(row);
        let at = self.now + delay;
        // A timer that is set already for later is not brought forward.
        contact.retry_at = if unsettled { contact.retry_at.max(at) } else { at };
        if contact.flags.doomed {
            self.tell(row, NONE, Told::Failed, out);
            return;
        }
        let spent = backoff.max_attempts > 0 && contact.failures >= backoff.max_attempts;
        // Another conn may be up, or about to be: then this was not the last hope.
        if spent && !contact.flags.wanted && !self.has_live_conn(row) {
            self.contacts.row_mut(row).flags.asked = false;
            self.set_standing(row, Standing::GaveUp);
            self.revive_at = self.now + crate::keep::REVIVE_EVERY;
            self.tell(row, NONE, Told::GaveUp, out);
            self.store(row, out);
        } else if !self.has_conn_in(row, &[Stage::Held, Stage::Offered]) {
            self.tell(row, NONE, Told::Failed, out);
        }
    }

    pub(crate) fn backoff(&self, row: u32) -> Backoff {
        self.cfg.rules(self.contacts.row(row).who.stack).backoff
    }

    /// Ends an own dial that has no answer yet; what was held for it is offered.
    pub(crate) fn abandon(&mut self, row: u32, why: Close, out: &mut Effects) {
        let contact = self.conns.row(row).contact;
        self.close(row, why, out);
        self.offer_held(contact, out);
    }

    /// After an own dial: the standing waits for `Gone`, which brings the verdict; only what was held cannot wait.
    pub(crate) fn offer_held(&mut self, contact: u32, out: &mut Effects) {
        let held = self.conns_of(contact).into_iter().find(|row| self.conns.row(*row).stage == Stage::Held);
        if held.is_some() {
            self.settle(contact, out);
        }
    }

    // ---- commands that end something

    pub(crate) fn handle_disconnect(&mut self, who: &Who, out: &mut Effects) -> Result<Answer, Refusal> {
        let row = self.find_row(who).ok_or(Refusal::Unknown)?;
        if self.contacts.row(row).standing != Standing::Connected {
            return Err(Refusal::NotNow);
        }
        self.contacts.row_mut(row).flags.asked = false;
        self.close_all(row, Close::Requested, out);
        self.settle(row, out);
        Ok(Answer::Done)
    }

    /// Abandons the attempt in progress or in waiting, and the wish that led to it unless it is a lasting one.
    pub(crate) fn handle_cancel(&mut self, who: &Who, out: &mut Effects) -> Result<Answer, Refusal> {
        let row = self.find_row(who).ok_or(Refusal::Unknown)?;
        let standing = self.contacts.row(row).standing;
        if standing == Standing::Connected {
            return self.cancel_replacement(row, out);
        }
        if !matches!(standing, Standing::Dialing | Standing::Waiting | Standing::Queued(_)) {
            return Err(Refusal::NotNow);
        }
        let flags = &mut self.contacts.row_mut(row).flags;
        flags.asked = false;
        flags.filling = false;
        flags.resting = true;
        for conn in self.conns_of(row) {
            if self.conns.row(conn).is_outbound() {
                self.close(conn, Close::Requested, out);
            }
        }
        let backoff = self.backoff(row);
        let random = self.random();
        let contact = self.contacts.row_mut(row);
        contact.retry_at = contact.retry_at.max(self.now + backoff.delay(1, random));
        self.wheel.disarm(Owner::Contact(row));
        self.set_standing(row, Standing::Idle);
        self.settle(row, out);
        Ok(Answer::Done)
    }

    /// Back to `Disconnected`: the dial is cancelled, the socket closed, timers and attempts forgotten.
    pub(crate) fn handle_reset(&mut self, who: &Who, out: &mut Effects) -> Result<Answer, Refusal> {
        let row = self.find_row(who).ok_or(Refusal::Unknown)?;
        self.close_all(row, Close::Requested, out);
        let contact = self.contacts.row_mut(row);
        contact.flags.asked = false;
        contact.flags.filling = false;
        contact.flags.resting = true;
        contact.failures = 0;
        contact.retry_at = Time::ZERO;
        contact.fast_until = Time::ZERO;
        contact.last_fault = None;
        self.wheel.disarm(Owner::Contact(row));
        self.set_standing(row, Standing::Idle);
        self.settle(row, out);
        self.store(row, out);
        Ok(Answer::Done)
    }

    /// Closes every conn of a contact.
    pub(crate) fn close_all(&mut self, row: u32, why: Close, out: &mut Effects) {
        for conn in self.conns_of(row) {
            self.close(conn, why, out);
        }
    }
}

/// Anything up to the span.
fn jitter(span: Duration, random: u64) -> Duration {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(random % micros)
}

/// How an attempt failed; `None` when the rule, an operator or a limit of ours ended it: nobody failed then.
fn fault_of_attempt(conn: &Conn, end: End) -> Option<Fault> {
    use Close::*;
    Some(match (conn.why, end) {
        (Some(Duplicate | Requested | Resources | Shutdown | Banned), _) => return None,
        (Some(Timeout | Cancelled), _) => conn.fault.unwrap_or(Fault::new(Step::Connect, FaultKind::Timeout)),
        (_, End::Fault(fault)) => match conn.fault {
            Some(declined) if declined.kind == FaultKind::Declined => declined,
            _ => fault,
        },
        _ => conn.fault.unwrap_or(Fault::new(Step::Hello, FaultKind::Closed)),
    })
}
