//! What others may look at. `why` asks the very gate that decides: the answer the user reads is the reason the code
//! used.

use crate::ban::Ban;
use crate::canary::{self, Canary};
use crate::conn::{ConnView, Dial};
use crate::contact::{KnownAddr, Standing};
use crate::slab::NONE;
use crate::{
    Addr, Addrs, BanRef, Close, ConnRef, ContactRef, Core, Counts, Direction, Fault, Greeting, Limit,
    MAX_ADDRS, Refusal, Stage, Stats, Time, Who,
};
use arrayvec::ArrayVec;
use core::time::Duration;

/// A look at the core between two steps.
#[derive(Clone, Copy, Debug)]
pub struct View<'a>(&'a Core);

/// A contact as others see it.
#[derive(Clone, Debug)]
pub struct ContactView {
    /// Its handle.
    pub contact: ContactRef,
    /// Its name.
    pub who: Who,
    /// Where it stands.
    pub standing: Standing,
    /// When that began.
    pub since: Time,
    /// Kept connected for ever.
    pub wanted: bool,
    /// A `Connect` is unsettled.
    pub asked: bool,
    /// Its connection is kept however idle.
    pub held: bool,
    /// Names are looked up before each dial.
    pub named: bool,
    /// It is about to be forgotten: its stored form goes.
    pub forgotten: bool,
    /// Its addresses, best first.
    pub addrs: ArrayVec<KnownAddr, MAX_ADDRS>,
    /// Failed attempts since the last stable connection.
    pub failures: u16,
    /// Attempts after which it is given up; 0 never.
    pub max_attempts: u16,
    /// When the next attempt is due, if one is.
    pub retry_at: Option<Time>,
    /// Not dialled by itself before that, wanted or not; in the past when nothing failed.
    pub backoff_until: Time,
    /// What failed last.
    pub last_fault: Option<Fault>,
    /// How its last connection ended.
    pub last_close: Option<Close>,
    /// Penalty points.
    pub penalty: u16,
    /// Until when it is banned by one of its keys.
    pub banned_until: Option<Time>,
    /// The conn that is up, or else the one furthest on.
    pub conn: Option<ConnRef>,
}

/// Why a contact is, or is not, connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It is.
    Connected {
        /// By this conn.
        conn: ConnRef,
    },
    /// It is on its way.
    OnItsWay {
        /// By this conn.
        conn: ConnRef,
        /// Which is so far.
        stage: Stage,
    },
    /// It is not, and this is what keeps it.
    Refused(Refusal),
    /// Nothing keeps it: the next step dials.
    Due,
}

impl Core {
    /// A look at the core.
    pub fn view(&self) -> View<'_> {
        View(self)
    }
}

impl<'a> View<'a> {
    /// What to dial. `None` for a stale handle or a conn that is not an attempt.
    pub fn dial(&self, conn: ConnRef) -> Option<Dial> {
        let row = self.0.conns.at(conn.row, conn.generation)?;
        if row.contact == NONE || !row.is_outbound() {
            return None;
        }
        let contact = self.0.contacts.row(row.contact);
        let key = contact.who.key;
        Some(Dial {
            who: contact.who,
            contact: self.0.contact_ref(row.contact),
            expect: key.is_identity().then_some(key),
            addrs: row.legs.iter().copied().collect::<Addrs>(),
            greeting: Greeting {
                epoch: row.my_epoch,
                dial: row.dial,
                accepted: row.accepted,
                replaces: row.replaces,
            },
        })
    }

    /// What an acceptor's answer carries.
    pub fn answer(&self) -> Greeting {
        let epoch = if canary::on(Canary::NoBootEpoch) { 1 } else { self.0.cfg.epoch };
        Greeting { epoch, ..Greeting::default() }
    }

    /// How long the refused should stay away.
    pub fn retry_after(&self, why: Refusal) -> Duration {
        match why {
            Refusal::Banned { until } if until != Time::NEVER => until - self.0.now,
            Refusal::Banned { .. } | Refusal::Myself => Duration::from_secs(3_600),
            Refusal::Full(_) => Duration::from_secs(30),
            Refusal::Draining => Duration::from_secs(5),
            _ => Duration::ZERO,
        }
    }

    /// When one more failed attempt would be followed by the next, at the latest.
    pub fn backoff_after(&self, contact: &ContactView) -> Duration {
        let backoff = self.0.cfg.rules(contact.who.stack).backoff;
        backoff.delay(contact.failures.saturating_add(1), 0)
    }

    /// Our boot epoch now: the library stores it when it has risen.
    pub fn epoch(&self) -> u64 {
        self.0.cfg.epoch
    }

    /// The time of the last step.
    pub fn now(&self) -> Time {
        self.0.now
    }

    /// Whether the node is going down, and how many conns are left.
    pub fn draining(&self) -> Option<usize> {
        self.0.draining.then_some(self.0.conns.len())
    }

    /// Whether dialling is not paused for want of a network.
    pub fn online(&self) -> bool {
        self.0.net.online && self.0.net.paused_until <= self.0.now
    }

    /// How many of what there are.
    pub fn counts(&self) -> &'a Counts {
        &self.0.counts
    }

    /// The limit that one more conn in that direction, with those addresses, would meet: none of them for a look at
    /// the slots alone. Dial rates are not among them.
    pub fn limit_around(&self, direction: Direction, addrs: &[Addr]) -> Option<Limit> {
        self.0.can_hold(direction, addrs, false).err()
    }

    /// What happened since birth.
    pub fn stats(&self) -> Stats {
        self.0.stats
    }

    /// Dials in the last minute.
    pub fn dials_last_minute(&self) -> usize {
        self.0.dials.len()
    }

    /// The contact of that name.
    pub fn find(&self, who: &Who) -> Option<ContactRef> {
        self.0.find_row(who).map(|row| self.0.contact_ref(row))
    }

    /// A contact; `None` for a stale handle.
    pub fn contact(&self, contact: ContactRef) -> Option<ContactView> {
        self.0.contacts.at(contact.row, contact.generation)?;
        Some(self.contact_row(contact.row))
    }

    /// A conn; `None` for a stale handle.
    pub fn conn(&self, conn: ConnRef) -> Option<ConnView> {
        self.0.conns.at(conn.row, conn.generation)?;
        Some(self.conn_row(conn.row))
    }

    /// Whether the core ever gave that handle out. What is told about any other cannot be true.
    pub fn was_given(&self, conn: ConnRef) -> bool {
        self.0.conns.was_given(conn.row, conn.generation)
    }

    /// A ban; `None` for a stale handle.
    pub fn ban(&self, ban: BanRef) -> Option<Ban> {
        self.0.bans.rows.at(ban.row, ban.generation).copied()
    }

    /// All contacts. O(n).
    pub fn contacts(&self) -> impl Iterator<Item = ContactView> + use<'a> {
        let view = *self;
        self.0.contacts.iter().map(move |(row, _)| view.contact_row(row))
    }

    /// Contacts from a row on, so that a long list can be taken in pages with steps in between. A page's last handle
    /// tells where the next begins.
    pub fn contacts_from(&self, row: u32) -> impl Iterator<Item = ContactView> + use<'a> {
        let view = *self;
        self.0.contacts.iter_from(row).map(move |(row, _)| view.contact_row(row))
    }

    /// All conns. O(n).
    pub fn conns(&self) -> impl Iterator<Item = ConnView> + use<'a> {
        let view = *self;
        self.0.conns.iter().map(move |(row, _)| view.conn_row(row))
    }

    /// All bans in force. O(n).
    pub fn bans(&self) -> impl Iterator<Item = Ban> + use<'a> {
        self.0.bans.rows.iter().filter(|(_, ban)| !ban.over).map(|(_, ban)| *ban)
    }

    /// Why a contact is or is not connected.
    pub fn why(&self, contact: ContactRef) -> Why {
        if self.0.contacts.at(contact.row, contact.generation).is_none() {
            return Why::Refused(Refusal::Unknown);
        }
        let row = contact.row;
        if let Some(conn) = self.best_conn(row) {
            return match self.0.conns.row(conn.row).stage {
                Stage::Up => Why::Connected { conn },
                stage => Why::OnItsWay { conn, stage },
            };
        }
        match self.0.can_connect(row) {
            Ok(_) => Why::Due,
            Err(why) => Why::Refused(why),
        }
    }

    fn best_conn(&self, row: u32) -> Option<ConnRef> {
        let mut best: Option<(u32, Stage)> = None;
        let mut at = self.0.contacts.row(row).head;
        while at != NONE {
            let conn = self.0.conns.row(at);
            let better = best.is_none_or(|(_, stage)| stage != Stage::Up && conn.stage > stage);
            if conn.stage != Stage::Closing && better {
                best = Some((at, conn.stage));
            }
            at = conn.next;
        }
        best.map(|(row, _)| self.0.conn_ref(row))
    }

    fn contact_row(&self, row: u32) -> ContactView {
        let contact = self.0.contacts.row(row);
        ContactView {
            contact: self.0.contact_ref(row),
            who: contact.who,
            standing: contact.standing,
            since: contact.since,
            wanted: contact.flags.wanted,
            asked: contact.flags.asked,
            held: contact.flags.held,
            named: contact.flags.named,
            forgotten: contact.flags.doomed,
            addrs: self.0.addresses(row),
            failures: contact.failures,
            max_attempts: self.0.backoff(row).max_attempts,
            retry_at: (contact.standing == Standing::Waiting)
                .then(|| contact.retry_at.max(contact.turn_until)),
            backoff_until: contact.retry_at,
            last_fault: contact.last_fault,
            last_close: contact.last_close,
            penalty: contact.penalty,
            banned_until: self.0.banned_until(row),
            conn: self.best_conn(row),
        }
    }

    fn conn_row(&self, row: u32) -> ConnView {
        let conn = self.0.conns.row(row);
        ConnView {
            conn: self.0.conn_ref(row),
            contact: (conn.contact != NONE).then(|| self.0.contact_ref(conn.contact)),
            stack: conn.stack,
            direction: conn.direction,
            stage: conn.stage,
            remote: conn.remote,
            dial: conn.dial,
            began: conn.began,
            up_at: conn.was_up.then_some(conn.up_at),
            report: conn.report,
            health: conn.health.view(&conn.report, self.0.now),
            why: conn.why,
            fault: conn.fault,
        }
    }
}
