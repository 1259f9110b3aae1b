//! What follows from a connection's health: nothing, a closer look, a replacement, a close. Each conn looks at itself,
//! on its own timer; no look touches another peer. The table of responses is in ARCHITECTURE.md.

use crate::{Addr, Close, Core, Duplicates, Effect, Effects, Grade, Liveness, Stage, Told};

/// Looks in a row that make a connection degraded, or good again.
const LOOKS: u8 = 2;
/// The side that was dialled leaves the replacement to the other, which knows an address that works, for this many
/// looks more.
const THEIR_LOOKS: u8 = 2;
/// Good again is a mean from here on,
const GOOD_MEAN: u16 = 500;
/// with no part below this.
const GOOD_PART: u16 = 400;
/// A replacement helped if it scores so much better.
const BETTER_BY: u16 = 50;
/// The cool-down doubles so often at most.
const MOST_DOUBLINGS: u8 = 6;
/// While a connection is fair or worse, it is looked at and probed this many times as often.
const WATCHED: u32 = 4;

impl Core {
    /// Looks at the health of a conn that is up, if that is due.
    pub(crate) fn check_health(&mut self, row: u32, out: &mut Effects) {
        let (now, conn) = (self.now, self.conns.row_mut(row));
        if conn.health.due > now || conn.stage != Stage::Up {
            return;
        }
        let interval = self.cfg.rules[conn.stack.index()].health;
        conn.health.due = now + interval;
        let scores = conn.health.scores(&conn.report, now);
        let (Some(concern), Some(mean), Some(worst)) = (scores.concern(), scores.mean(), scores.worst())
        else {
            return;
        };
        let health = &mut conn.health;
        health.looks = health.looks.saturating_add(1);
        let bad = concern <= Grade::Poor;
        let good = mean >= GOOD_MEAN && worst >= GOOD_PART;
        health.low = if bad { health.low.saturating_add(1) } else { 0 };
        health.high = if good { health.high.saturating_add(1) } else { 0 };
        let enough = if concern == Grade::Critical { 1 } else { LOOKS };
        let (enters, leaves) =
            (!health.degraded && health.low >= enough, health.degraded && health.high >= LOOKS);
        health.degraded = (health.degraded || enters) && !leaves;
        let (degraded, watched) = (health.degraded, health.degraded || concern <= Grade::Fair);
        if watched {
            health.due = now + interval / WATCHED;
        }
        let contact = conn.contact;
        // Where nothing was measured since the last look there is nothing to judge by; a busy link measures itself.
        let stale = core::mem::replace(&mut conn.health.rtt_seen, conn.report.rtt_us) == conn.report.rtt_us;
        let may_ask = matches!(self.cfg.rules[conn.stack.index()].liveness, Liveness::Probe { .. });
        // Of a link that does well one side asks, as for its silence (S1.32).
        if may_ask && (watched || stale && self.conns.row(row).is_outbound()) {
            let conn = self.conn_ref(row);
            self.emit(out, Effect::Probe { conn });
        }
        if enters {
            self.tell(contact, row, Told::Degraded(concern), out);
        } else if leaves {
            self.tell(contact, row, Told::Restored, out);
        }
        let helped = self.compare_with_old(row, mean);
        if degraded && bad {
            self.respond(row, concern, helped, out);
        }
    }

    /// A connection that took the place of a degraded one is compared with it, once, when it has been looked at often
    /// enough: whether it was any better.
    fn compare_with_old(&mut self, row: u32, mean: u16) -> bool {
        let conn = self.conns.row_mut(row);
        let cool_down = self.cfg.rules[conn.stack.index()].cool_down;
        let health = &mut conn.health;
        let Some(old) = health.took_over else { return true };
        if health.looks < LOOKS {
            return true;
        }
        health.took_over = None;
        if mean >= old.saturating_add(BETTER_BY) {
            health.vain = 0;
            return true;
        }
        health.vain = (health.vain + 1).min(MOST_DOUBLINGS);
        health.calm_until = self.now + cool_down * (1 << health.vain);
        false
    }

    fn respond(&mut self, row: u32, concern: Grade, helped: bool, out: &mut Effects) {
        let conn = self.conns.row(row);
        let (contact, health) = (conn.contact, conn.health);
        if concern == Grade::Critical && (!helped || health.vain > 0) && self.is_dispensable(row) {
            // Its slot is worth more to somebody else.
            self.close(row, Close::Timeout, out);
            self.settle(contact, out);
            return;
        }
        let patience = if conn.is_outbound() { 0 } else { THEIR_LOOKS };
        if health.calm_until <= self.now && health.low >= LOOKS.min(1 + patience) + patience {
            self.replace_degraded(row, out);
        }
    }

    /// Whether nobody would miss this connection: it only fills the target, and carries nothing.
    fn is_dispensable(&self, row: u32) -> bool {
        let conn = self.conns.row(row);
        let contact = self.contacts.row(conn.contact);
        !contact.is_desired() && !contact.flags.held && conn.report.channels == 0
    }

    /// Begins a replacement, if one may be dialled now; if not, the next look asks again.
    fn replace_degraded(&mut self, row: u32, out: &mut Effects) {
        let conn = self.conns.row(row);
        let (contact, remote, ours, stack) = (conn.contact, conn.remote, conn.is_outbound(), conn.stack);
        if self.cfg.rules(stack).duplicates != Duplicates::Numbers || self.can_replace(contact).is_err() {
            return;
        }
        if ours {
            // The way it goes now is tried last, also the next time.
            self.demote(contact, remote);
        }
        self.tell(contact, row, Told::Replacing, out);
        let cool_down = self.cfg.rules(stack).cool_down;
        let health = &mut self.conns.row_mut(row).health;
        health.calm_until = self.now + cool_down * (1 << health.vain);
        // It was asked just now, and only the order of the addresses has changed since.
        let _begun = self.replace(contact, out);
    }

    /// An address is tried after all others from now on, until it has served well again.
    fn demote(&mut self, contact: u32, addr: Addr) {
        let mut all = self.addresses(contact);
        let most = all.iter().map(|known| known.failures).max().unwrap_or(0);
        if let Some(known) = all.iter_mut().find(|known| known.addr == addr) {
            known.failures = most.saturating_add(1);
            all.sort_by_key(|known| (known.failures, core::cmp::Reverse(known.source)));
            self.set_addresses(contact, &all);
        }
    }

    /// What is known about the connection whose place another one takes.
    pub(crate) fn pass_on_health(&mut self, old: u32, new: u32) {
        let conn = self.conns.row(old);
        let before = conn.health;
        let score = conn.health.scores(&conn.report, self.now).mean();
        let health = &mut self.conns.row_mut(new).health;
        (health.calm_until, health.vain) = (before.calm_until, before.vain);
        health.took_over = if before.degraded { score } else { before.took_over };
    }
}
