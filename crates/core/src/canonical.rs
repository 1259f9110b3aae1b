//! The state as the model checker sees it: times relative to now, rows in the order of names, no handle, no history.
//! Two states with the same canonical form behave alike from here on, as long as no rate or table is near its limit.
//!
//! Left out, and why: the numbers of rows and their generations (names only); digest, statistics, `since` and the last
//! fault and close (shown, never asked); the random stream (it makes nothing but jitter, so a model turns jitter off);
//! the marks of recent dials (they matter near a dial rate only); failures beyond those after which the delay is the
//! longest, though misbehaviour would make it longer still. Who changes what the core decides by changes this.

use crate::slab::NONE;
use crate::wheel::Owner;
use crate::{ConnRef, Core, Duplicates, Liveness, Stage, Time};
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

/// A hasher that forgets nothing.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

impl Core {
    /// The canonical form at `now`, as bytes that mean nothing outside this process. O(n log n): tests only.
    pub fn canonical(&self, now: Time) -> Vec<u8> {
        let mut bytes = Bytes(Vec::new());
        self.canonical_into(now, &mut bytes, |_| ());
        bytes.0
    }

    /// Feeds the canonical form at `now` to a hasher, and hands out the conns in its order. O(n log n): tests only.
    pub fn canonical_into(&self, now: Time, out: &mut impl Hasher, mut each_conn: impl FnMut(ConnRef)) {
        let net = (self.net.online, relative(self.net.paused_until, now), self.net.local_faults);
        (self.cfg.epoch, self.last_dial, self.draining, net, self.sweep.active).hash(out);
        let mut rows: Vec<u32> = self.contacts.iter().map(|(row, _)| row).collect();
        rows.sort_unstable_by_key(|row| self.contacts.row(*row).who);
        for row in rows {
            self.canonical_contact(row, now, out);
            let mut at = self.contacts.row(row).head;
            while at != NONE {
                self.canonical_conn(at, now, out);
                each_conn(self.conn_ref(at));
                at = self.conns.row(at).next;
            }
        }
        let loose = self.conns.iter().filter(|(_, conn)| conn.contact == NONE);
        let mut loose: Vec<(_, u32)> = loose.map(|(row, conn)| ((conn.remote, conn.began), row)).collect();
        loose.sort_unstable();
        for (_, row) in loose {
            self.canonical_conn(row, now, out);
            each_conn(self.conn_ref(row));
        }
        for row in self.queue.waiting(&self.contacts) {
            self.contacts.row(row).who.hash(out);
        }
        let bans = self.bans.rows.iter().filter(|(_, ban)| !ban.over);
        let mut bans: Vec<_> = bans.map(|(_, ban)| (ban.target, relative(ban.until, now))).collect();
        bans.sort_unstable();
        bans.hash(out);
    }

    fn canonical_contact(&self, row: u32, now: Time, out: &mut impl Hasher) {
        let contact = self.contacts.row(row);
        let timer = self.wheel.due(Owner::Contact(row)).map(|at| relative(at, now));
        (contact.who, contact.standing, contact.flags, contact.member, timer).hash(out);
        let enough = self.backoff(row).enough();
        let fast = (relative(contact.fast_until, now), enough > 0 && contact.fast_until == Time::ZERO);
        let turn = (relative(contact.turn_until, now), contact.turn_until == Time::ZERO);
        (fast, turn, relative(contact.retry_at, now)).hash(out);
        let failures = contact.failures.min(enough);
        (contact.accepted, failures, contact.epoch_changes, contact.penalty, contact.conn_count).hash(out);
        self.contacts.row(contact.ring).who.hash(out);
        for known in self.addresses(row) {
            (known.addr, known.source, known.failures).hash(out);
        }
    }

    fn canonical_conn(&self, row: u32, now: Time, out: &mut impl Hasher) {
        let conn = self.conns.row(row);
        let rules = self.cfg.rules(conn.stack);
        let timer = self.wheel.due(Owner::Conn(row)).map(|at| relative(at, now));
        (conn.direction, conn.stage, conn.remote, conn.met, conn.was_up, conn.replaces).hash(out);
        (conn.dial, conn.my_epoch, conn.peer_epoch, timer, conn.probes, conn.courtesy, conn.why).hash(out);
        (conn.fault, conn.retry_after).hash(out);
        if conn.stage == Stage::Resolving {
            // Its hello is yet to be made.
            conn.accepted.hash(out);
        }
        if conn.is_pending() {
            (relative(conn.deadline, now), conn.legs.as_slice()).hash(out);
        } else {
            age(conn.up_at, now).min(micros(rules.backoff.stable)).hash(out);
        }
        // What liveness, the idle close and the rule without numbers ask about the past; an age that nobody asks for
        // would make every moment a new state.
        let probes = matches!(rules.liveness, Liveness::Probe { .. });
        let bare = rules.duplicates == Duplicates::HoldAndConfirm;
        let asked = |asks: bool, at: Time| if asks { age(at, now) } else { 0 };
        asked(probes || bare, conn.report.received_at).hash(out);
        asked(conn.probes > 0 || bare, conn.probe_at).hash(out);
        asked(rules.idle.is_some(), conn.report.used_at).hash(out);
        asked(bare, conn.began).hash(out);
    }
}

fn relative(at: Time, now: Time) -> u64 {
    if at == Time::NEVER { u64::MAX } else { at.0.saturating_sub(now.0) }
}

fn age(at: Time, now: Time) -> u64 {
    now.0.saturating_sub(at.0)
}

fn micros(span: core::time::Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
