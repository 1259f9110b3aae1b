//! Whether a conn still lives: its one timer, through every stage. Traffic only stores; the true deadline is computed
//! when the timer fires.

use crate::conn::Conn;
use crate::slab::NONE;
use crate::state::Sweep;
use crate::verdict::{self, BAN_AT, BAN_SPAN};
use crate::wheel::Owner;
use crate::{
    Close, Core, Duplicates, Effect, Effects, Fault, FaultKind, Liveness, Report, Stage, Step, Subnet,
    Target, Time, Told, Violation,
};

/// Conns looked at per sweep and step.
const SWEEP_ROWS: u32 = 64;

impl Core {
    pub(crate) fn on_conn_timer(&mut self, row: u32, out: &mut Effects) {
        match self.conns.row(row).stage {
            Stage::Resolving => {
                self.conns.row_mut(row).fault = Some(Fault::new(Step::Resolve, FaultKind::Timeout));
                self.abandon(row, Close::Timeout, out);
            }
            Stage::Dialing => self.abandon(row, Close::Timeout, out),
            Stage::Offered if self.conns.row(row).is_outbound() => self.abandon(row, Close::Timeout, out),
            Stage::Held => self.on_hold_over(row, out),
            Stage::Arriving | Stage::Offered | Stage::Refusing | Stage::Closing => {
                let contact = self.conns.row(row).contact;
                if self.conns.row(row).stage == Stage::Closing {
                    // A refusal that took too long: the same conn, now without ceremony.
                    let conn = self.conn_ref(row);
                    self.emit(
                        out,
                        Effect::Close { conn, why: Close::Timeout, unless_used_since: Time::NEVER },
                    );
                    return;
                }
                self.close(row, Close::Timeout, out);
                if contact != NONE {
                    self.settle(contact, out);
                }
            }
            Stage::Up => self.check_liveness(row, out),
        }
    }

    /// Sets the timer of a conn that is up to the earliest thing that can be due.
    pub(crate) fn arm_liveness(&mut self, row: u32) {
        let conn = self.conns.row(row);
        let rules = self.cfg.rules(conn.stack);
        let mut at = match rules.liveness {
            Liveness::Probe { deadline, .. } if conn.probes > 0 => conn.probe_at + deadline,
            Liveness::Probe { silence, deadline, .. } => conn.silent_until(silence, deadline),
            Liveness::Transport => Time::NEVER,
        };
        if let Some(idle) = rules.idle {
            // Whoever may not be closed yet is looked at again after as long.
            let due = conn.report.used_at + idle;
            at = at.min(if due > self.now { due } else { self.now + idle.max(rules.goodbye) });
        }
        self.wheel.arm(Owner::Conn(row), at.min(self.conns.row(row).health.due));
    }

    fn check_liveness(&mut self, row: u32, out: &mut Effects) {
        let conn = self.conns.row_mut(row);
        let (contact, now) = (conn.contact, self.now);
        let rules = self.cfg.rules[conn.stack.index()];
        if let Liveness::Probe { silence, deadline, misses } = rules.liveness {
            if conn.probes > 0 && conn.report.received_at >= conn.probe_at {
                conn.probes = 0;
                conn.health.note(true);
            }
            let due =
                if conn.probes > 0 { conn.probe_at + deadline } else { conn.silent_until(silence, deadline) };
            if due <= now {
                if conn.probes > 0 {
                    conn.health.note(false);
                }
                if conn.probes >= misses {
                    self.close(row, Close::Dead, out);
                    self.settle(contact, out);
                    return;
                }
                conn.probes += 1;
                conn.probe_at = now;
                let conn = self.conn_ref(row);
                self.emit(out, Effect::Probe { conn });
            }
        }
        if let Some(idle) = rules.idle {
            let flags = self.contacts.row(contact).flags;
            let report = self.conns.row(row).report;
            if report.used_at + idle <= now && report.channels == 0 && !flags.wanted && !flags.held {
                self.conns.row_mut(row).why = Some(Close::Idle);
                let conn = self.conn_ref(row);
                let unless_used_since = report.used_at;
                self.emit(out, Effect::Close { conn, why: Close::Idle, unless_used_since });
            }
        }
        self.check_health(row, out);
        if self.conns.row(row).stage == Stage::Up {
            self.arm_liveness(row);
        }
    }

    pub(crate) fn handle_report(&mut self, row: u32, report: Report) {
        let now = self.now;
        let conn = self.conns.row_mut(row);
        let received_at = report.received_at.min(now).max(conn.report.received_at);
        let used_at = report.used_at.min(now).max(conn.report.used_at);
        if conn.stage == Stage::Up && used_at > conn.report.used_at {
            // The idle close, if there was one, is declined.
            conn.why = None;
        }
        let sent_at = report.sent_at.min(now).max(conn.report.sent_at);
        let before = core::mem::replace(&mut conn.report, Report { received_at, used_at, sent_at, ..report });
        conn.health.absorb(&report, &before, now);
        let begins = conn.stage == Stage::Up && conn.health.due == Time::NEVER;
        if begins && conn.health.scores(&report, now).mean().is_some() {
            // Traffic only stores, but for the first sample: from here on health is looked at.
            conn.health.due = now + self.cfg.rules[conn.stack.index()].health;
            self.arm_liveness(row);
        }
    }

    // ---- misbehaviour

    pub(crate) fn handle_violated(&mut self, row: u32, what: Violation, out: &mut Effects) {
        if self.conns.row(row).stage == Stage::Closing {
            self.stats.late_facts += 1;
            self.close(row, Close::Violation, out);
            return;
        }
        let contact = self.conns.row(row).contact;
        let penalty = verdict::penalty(what);
        if contact != NONE {
            self.tell(contact, row, Told::Violated(what), out);
            self.punish(contact, what, out);
        }
        if !penalty.close {
            return;
        }
        if self.conns.row(row).is_pending() && self.conns.row(row).is_outbound() {
            self.abandon(row, Close::Violation, out);
            return;
        }
        self.close(row, Close::Violation, out);
        if contact != NONE {
            self.settle(contact, out);
        }
    }

    /// Adds the penalty; enough of them ban the key for an hour, or the address where keys prove nothing.
    pub(crate) fn punish(&mut self, contact: u32, what: Violation, out: &mut Effects) {
        let points = verdict::penalty(what).points;
        let row = self.contacts.row_mut(contact);
        row.penalty = row.penalty.saturating_add(points);
        if row.penalty < BAN_AT {
            return;
        }
        let who = row.who;
        let target = match who.key.host() {
            None => Target::Key(who.key),
            Some(ip) if self.cfg.rules(who.stack).duplicates == Duplicates::Allowed => {
                Target::Subnet(Subnet::host(ip))
            }
            // Somebody we know by address only until it proves who it is: the address may be innocent.
            Some(_) => return,
        };
        self.contacts.row_mut(contact).penalty = 0;
        let banned = self.bans.find(target).map(|row| self.bans.rows.row(row).until);
        if banned.is_none_or(|until| until < self.now + BAN_SPAN) {
            // A full ban table only means that this one stays unbanned.
            let _outcome = self.handle_ban(target, Some(BAN_SPAN), out);
        }
    }

    // ---- sweeps

    /// Looks at every conn again, a few rows a step: after a subnet ban, a reload, a network change, a shutdown.
    /// What it asks of them is in [`crate::state::Sweep`].
    pub(crate) fn start_sweep(&mut self) {
        self.sweep.active = true;
        self.sweep.left = self.conns.end();
    }

    pub(crate) fn sweep_some(&mut self, out: &mut Effects) {
        if !self.sweep.active {
            return;
        }
        for _ in 0..SWEEP_ROWS {
            if self.sweep.left == 0 {
                self.sweep = Default::default();
                return;
            }
            let row = if self.sweep.cursor < self.conns.end() { self.sweep.cursor } else { 0 };
            self.sweep.cursor = row + 1;
            self.sweep.left -= 1;
            self.work += 1;
            if self.conns.live(row).is_some() {
                self.examine(row, out);
            }
        }
    }

    fn examine(&mut self, row: u32, out: &mut Effects) {
        let conn = self.conns.row(row);
        let (contact, stage) = (conn.contact, conn.stage);
        if stage == Stage::Closing && !self.draining && !self.is_swept_out(conn) {
            return;
        }
        let why = match () {
            () if self.draining => Some(Close::Shutdown),
            () if self.is_swept_out(conn) => Some(Close::Banned),
            () => None,
        };
        if let Some(why) = why {
            self.close(row, why, out);
            if contact != NONE {
                self.settle(contact, out);
            }
        } else if stage == Stage::Up {
            if self.sweep.probe {
                let conn = self.conns.row_mut(row);
                if conn.probes == 0 {
                    // A deadline that already runs is not put off: changes may follow each other for ever.
                    conn.probes = 1;
                    conn.probe_at = self.now;
                }
                let conn = self.conn_ref(row);
                self.emit(out, Effect::Probe { conn });
            }
            if self.sweep.probe || self.sweep.all {
                self.arm_liveness(row);
            }
        }
    }

    fn is_swept_out(&self, conn: &Conn) -> bool {
        let Sweep { all, many, subnet, .. } = self.sweep;
        let asks_ip = |ip: &[u8; 16]| all || many || subnet.is_some_and(|subnet| subnet.contains(*ip));
        conn.counted_ips().iter().any(|ip| asks_ip(ip) && self.bans.ip(*ip).is_some())
            || (all && conn.contact != NONE && self.banned_until(conn.contact).is_some())
    }
}
