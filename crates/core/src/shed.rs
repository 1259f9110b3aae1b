//! After a limit was lowered: who has to go, in which order, and how slowly. A look over all conns, a few rows a step,
//! picks the next few; when those are gone comes the next look. Nothing here admits anybody.

use crate::conn::Conn;
use crate::contact::Standing;
use crate::{Addr, AddrKind, Close, ConnRef, Core, Direction, Effects, Stage, Time};
use arrayvec::ArrayVec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// Conns closed at a time.
const BATCH: usize = 64;
/// Time between two batches, so that what the others do in turn is spread as well.
const PACE: Duration = Duration::from_millis(250);
/// Rows looked at per step.
const ROWS: u32 = 64;
/// Contacts forgotten per step.
const FORGET: usize = 16;

/// How far the draining is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shed {
    /// When the next look begins; `None` while one is under way or none is due.
    due: Option<Time>,
    cursor: u32,
    /// Rows to go in this look.
    left: u32,
    /// Something above a limit was seen that ends, or comes up, by itself: look again.
    again: bool,
    picks: ArrayVec<Pick, BATCH>,
    /// Closed by the last look. Until their `Gone` they hold their slots and would be counted as in the way.
    leaving: ArrayVec<ConnRef, BATCH>,
    /// More contacts are known than may be.
    forget: bool,
}

/// Who goes first is smallest: unused, in use, held, wanted; the newest first among equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Pick {
    class: u8,
    age: u64,
    row: u32,
}

/// What this look has closed so far.
#[derive(Default)]
struct Closed {
    inbound: u32,
    outbound: u32,
    rows: ArrayVec<u32, BATCH>,
}

impl Core {
    /// Limits may have been lowered: looks whether anything is above them.
    pub(crate) fn start_shedding(&mut self) {
        self.shed.due.get_or_insert(self.now);
        self.shed.forget = true;
    }

    /// When shedding has something to do.
    pub(crate) fn shed_wake(&self) -> Time {
        match self.shed.due {
            _ if self.shed.left > 0 || self.shed.forget => self.now,
            Some(at) => at,
            None => Time::NEVER,
        }
    }

    pub(crate) fn shed_some(&mut self, out: &mut Effects) {
        if self.draining {
            self.shed = Shed::default();
            return;
        }
        if self.shed.forget {
            self.forget_some(out);
        }
        if self.shed.left == 0 && !self.begin_look() {
            return;
        }
        for _ in 0..ROWS {
            if self.shed.left == 0 {
                break;
            }
            let row = self.shed.cursor;
            self.shed.cursor += 1;
            self.shed.left -= 1;
            self.work += 1;
            if self.conns.live(row).is_some() {
                self.consider(row);
            }
        }
        if self.shed.left == 0 {
            self.end_look(out);
        }
    }

    /// `false` when none is due, or the last batch is still on its way out.
    fn begin_look(&mut self) -> bool {
        if self.shed.due.is_none_or(|due| due > self.now) {
            return false;
        }
        let mut leaving = core::mem::take(&mut self.shed.leaving);
        leaving.retain(|conn| self.conn_row(*conn).is_some());
        self.shed.leaving = leaving;
        if !self.shed.leaving.is_empty() {
            self.shed.due = Some(self.now + PACE);
            return false;
        }
        self.shed.due = None;
        self.shed.again = false;
        self.shed.cursor = 0;
        self.shed.left = self.conns.end();
        self.shed.left > 0
    }

    fn consider(&mut self, row: u32) {
        let conn = self.conns.row(row);
        let none = Closed::default();
        if conn.courtesy.is_some() || conn.stage == Stage::Closing || !self.is_above(conn, &none, 0) {
            return;
        }
        if conn.stage != Stage::Up || !self.is_above(conn, &none, self.passing()) {
            // It ends or comes up within its deadline; or others may end and make room.
            self.shed.again = true;
            return;
        }
        let flags = self.contacts.row(conn.contact).flags;
        let class = match () {
            () if flags.wanted => 3,
            () if flags.held => 2,
            () if conn.report.channels > 0 => 1,
            () => 0,
        };
        let pick = Pick { class, age: u64::MAX - conn.up_at.0, row };
        let picks = &mut self.shed.picks;
        if picks.is_full() {
            if picks.last().is_some_and(|last| *last < pick) {
                return;
            }
            picks.pop();
        }
        let at = picks.partition_point(|have| *have < pick);
        picks.insert(at, pick);
    }

    fn end_look(&mut self, out: &mut Effects) {
        let picks = core::mem::take(&mut self.shed.picks);
        let mut closed = Closed::default();
        for Pick { row, .. } in picks {
            // It may have changed since it was looked at.
            let Some(conn) = self.conns.live(row).filter(|conn| conn.stage == Stage::Up) else { continue };
            // What this look closed is among those that are closing.
            let ending = self.passing() - closed.inbound - closed.outbound;
            if !self.is_above(conn, &closed, ending) {
                self.shed.again |= self.is_above(conn, &closed, 0);
                continue;
            }
            let contact = conn.contact;
            match conn.direction {
                Direction::Inbound => closed.inbound += 1,
                Direction::Outbound => closed.outbound += 1,
            }
            closed.rows.push(row);
            self.shed.leaving.push(self.conn_ref(row));
            self.close(row, Close::Resources, out);
            // The target may not win back what a limit took.
            self.contacts.row_mut(contact).flags.filling = false;
            self.settle(contact, out);
        }
        if self.shed.again || !self.shed.leaving.is_empty() {
            self.shed.due = Some(self.now + PACE);
        }
    }

    /// Conns on their way out, and those that may never come up: nobody has to go for them yet.
    fn passing(&self) -> u32 {
        self.counts.stage[Stage::Closing.index()] + self.counts.pending
    }

    /// Whether a limit around this conn is exceeded, not counting those that were closed just now and as many that
    /// end anyway.
    fn is_above(&self, conn: &Conn, closed: &Closed, ending: u32) -> bool {
        let (limits, counts) = (&self.cfg.limits, &self.counts);
        let ours = closed.inbound + closed.outbound;
        let over = |count: u32, less: u32, limit: u32| count.saturating_sub(less) > limit;
        let directed = match conn.direction {
            Direction::Inbound => over(counts.inbound, closed.inbound + ending, limits.inbound),
            Direction::Outbound => over(counts.outbound, closed.outbound + ending, limits.outbound),
        };
        if directed || over(counts.total(), ours + ending, limits.total) {
            return true;
        }
        conn.counted_ips().iter().any(|ip| {
            let subnet = Addr { ip: *ip, port: 0, kind: AddrKind::Tcp }.subnet();
            let here = self.per_ip.get(ip).map_or(0, |count| count.conns);
            let near = self.per_subnet.get(&subnet).copied().unwrap_or(0);
            if here <= limits.per_ip && near <= limits.per_subnet {
                return false;
            }
            let (mut same, mut close_by) = (0, 0);
            for row in &closed.rows {
                let other = self.conns.row(*row).remote;
                same += u32::from(other.ip == *ip);
                close_by += u32::from(other.subnet() == subnet);
            }
            over(here, same, limits.per_ip) || over(near, close_by, limits.per_subnet)
        })
    }

    /// Forgets known contacts that are of no use until as few are known as may be; wanted and connected ones stay.
    fn forget_some(&mut self, out: &mut Effects) {
        for _ in 0..FORGET {
            let kept = self.contacts.len().saturating_sub(self.doomed.len());
            let mut victim = None;
            if kept > self.cfg.limits.contacts as usize {
                victim = self.spent.front(&mut self.contacts);
                for queue in &mut self.candidates {
                    victim = victim.or_else(|| queue.front(&mut self.contacts));
                }
            }
            let Some(row) = victim else {
                self.shed.forget = false;
                return;
            };
            self.work += 1;
            self.contacts.row_mut(row).flags.doomed = true;
            self.set_standing(row, Standing::Idle);
            self.doom_if_alone(row);
            self.store(row, out);
        }
    }

    /// What a loaded state must not claim.
    pub(crate) fn is_shed_sound(&self) -> bool {
        self.shed.cursor.checked_add(self.shed.left).is_some()
    }
}
