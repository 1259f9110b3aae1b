//! The state as the model checker sees it: times relative to now, rows in the order of names, no handle, no history.
//! Two states with the same canonical form behave alike from here on.

use crate::slab::NONE;
use crate::wheel::Owner;
use crate::{Core, Time};
use alloc::vec::Vec;

impl Core {
    /// The canonical form at `now`. O(n log n): tests only.
    pub fn canonical(&self, now: Time) -> Vec<u8> {
        let mut out = Vec::new();
        let relative = |at: Time| match at {
            Time::NEVER => u64::MAX,
            at => at.0.saturating_sub(now.0),
        };
        let mut rows: Vec<u32> = self.contacts.iter().map(|(row, _)| row).collect();
        rows.sort_by_key(|row| self.contacts.row(*row).who);
        put(&mut out, &(self.cfg.epoch, self.draining, self.net.online, relative(self.net.paused_until)));
        let mut names: Vec<u32> = Vec::new();
        for row in rows {
            let contact = self.contacts.row(row);
            let timer = self.wheel.due(Owner::Contact(row)).map(relative);
            let fast = relative(contact.fast_until);
            put(&mut out, &(contact.who, contact.standing, contact.flags, contact.member, timer, fast));
            let times = (relative(contact.retry_at), relative(contact.turn_until));
            put(&mut out, &(contact.accepted, contact.failures, contact.epoch_changes, times));
            let mut at = contact.head;
            while at != NONE {
                names.push(at);
                at = self.conns.row(at).next;
            }
        }
        let mut loose: Vec<u32> =
            self.conns.iter().filter(|(_, c)| c.contact == NONE).map(|(row, _)| row).collect();
        loose.sort_by_key(|row| (self.conns.row(*row).remote, self.conns.row(*row).began));
        names.extend(loose);
        for row in names {
            let conn = self.conns.row(row);
            let timer = self.wheel.due(Owner::Conn(row)).map(relative);
            put(&mut out, &(conn.direction, conn.stage, conn.remote, conn.met, conn.was_up, conn.why));
            put(&mut out, &(conn.dial, conn.my_epoch, conn.peer_epoch, conn.replaces, timer, conn.probes));
        }
        for (_, ban) in self.bans.rows.iter().filter(|(_, ban)| !ban.over) {
            put(&mut out, &(ban.target, relative(ban.until)));
        }
        out
    }
}

fn put<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) {
    let taken = core::mem::take(out);
    *out = postcard::to_extend(value, taken).expect("writing to memory cannot fail");
}
