//! Whether, when and where to dial: the one gate every dial passes, whose turn it is, the queue for slots, and what a
//! failed attempt means for the next. `why` asks the same gate.

use crate::canary::{self, Canary};
use crate::conn::{Conn, MAX_LEGS};
use crate::contact::Standing;
use crate::list::Line;
use crate::slab::NONE;
use crate::state::DialMark;
use crate::wheel::Owner;
use crate::{
    Addr, AddrKind, Addrs, Core, Direction, Duplicates, Effect, Effects, Fault, FaultKind, Limit, MAX_ADDRS,
    Preference, Refusal, Source, Stage, Step, Time, Told,
};
use arrayvec::ArrayVec;
use core::time::Duration;

/// The window of the dial rates.
const MINUTE: Duration = Duration::from_secs(60);
/// A dial blocked by a limit around its destination looks again after this, with jitter: no slot of ours will free it.
const CROWDED_RETRY: Duration = Duration::from_secs(5);
/// How often a wanted contact that is banned is looked at again.
const BAN_RECHECK: Duration = Duration::from_secs(60);
/// Queued dials started per step at most.
const QUEUE_PER_STEP: u32 = 16;

/// Proof that a contact may be dialled now, and where. Spent by `do_connect`.
pub(crate) struct MayConnect {
    row: u32,
    legs: ArrayVec<Addr, MAX_LEGS>,
    /// Beside a connection that is up, whose place it is to take.
    replaces: bool,
}

impl Core {
    /// Whether a contact may be dialled now: the longest-lasting refusal first.
    pub(crate) fn can_connect(&self, row: u32) -> Result<MayConnect, Refusal> {
        let contact = self.contacts.row(row);
        if contact.who.key == self.cfg.me {
            return Err(Refusal::Myself);
        }
        if contact.flags.doomed {
            return Err(Refusal::Unknown);
        }
        if let Some(until) = self.banned_until(row) {
            return Err(Refusal::Banned { until });
        }
        if self.draining {
            return Err(Refusal::Draining);
        }
        if contact.standing == Standing::GaveUp {
            return Err(Refusal::GaveUp);
        }
        let legs = self.freeze(row)?;
        if !contact.is_desired() && !contact.flags.filling {
            return Err(Refusal::Unwanted);
        }
        if self.has_live_conn(row) {
            return Err(Refusal::AlreadyConnected);
        }
        if contact.turn_until > self.now {
            return Err(Refusal::TheirTurn { until: contact.turn_until });
        }
        if contact.retry_at > self.now {
            return Err(Refusal::Backoff { until: contact.retry_at });
        }
        if !self.net.online || self.net.paused_until > self.now {
            return Err(Refusal::Offline);
        }
        self.can_hold_outbound(row, &legs).map_err(Refusal::Full)?;
        Ok(MayConnect { row, legs, replaces: false })
    }

    /// Whether a second connection may be opened to take the place of the one that is up.
    pub(crate) fn can_replace(&self, row: u32) -> Result<MayConnect, Refusal> {
        let contact = self.contacts.row(row);
        if let Some(until) = self.banned_until(row) {
            return Err(Refusal::Banned { until });
        }
        if self.draining {
            return Err(Refusal::Draining);
        }
        // Without the mark in the hello the other side would take the second connection for a duplicate.
        let cannot_say = self.cfg.rules(contact.who.stack).duplicates == Duplicates::HoldAndConfirm;
        if contact.standing != Standing::Connected || cannot_say {
            return Err(Refusal::NotNow);
        }
        let legs = self.freeze(row)?;
        if self.live_conns(row) > 1 {
            return Err(Refusal::AlreadyConnected);
        }
        if contact.retry_at > self.now {
            return Err(Refusal::Backoff { until: contact.retry_at });
        }
        if !self.net.online || self.net.paused_until > self.now {
            return Err(Refusal::Offline);
        }
        self.can_hold_outbound(row, &legs).map_err(Refusal::Full)?;
        Ok(MayConnect { row, legs, replaces: true })
    }

    /// Starts the attempt.
    pub(crate) fn do_connect(&mut self, may: MayConnect, out: &mut Effects) {
        let MayConnect { row, legs, replaces } = may;
        let contact = self.contacts.row_mut(row);
        let (stack, named) = (contact.who.stack, contact.flags.named);
        contact.flags.resting = false;
        let attempt = contact.failures.saturating_add(1);
        let stage = if named { Stage::Resolving } else { Stage::Dialing };
        let remote = legs.first().copied().unwrap_or(Addr { ip: [0; 16], port: 0, kind: AddrKind::Tcp });
        let mut conn = Conn::new(stack, Direction::Outbound, stage, remote, self.now);
        self.last_dial += 1;
        conn.dial = self.last_dial;
        conn.accepted = self.contacts.row(row).accepted;
        conn.my_epoch = if canary::on(Canary::NoBootEpoch) { 1 } else { self.cfg.epoch };
        conn.replaces = replaces;
        conn.deadline = self.now + self.cfg.rules(stack).establish;
        conn.legs = legs;
        let deadline = conn.deadline;
        let conn_row = self.insert_conn(conn);
        self.mark_dials(conn_row);
        self.wheel.arm(Owner::Conn(conn_row), deadline);
        self.attach(conn_row, row);
        self.stats.dials += 1;
        if !replaces {
            self.set_standing(row, Standing::Dialing);
        }
        self.tell(row, conn_row, Told::Dialing { attempt }, out);
        let conn = self.conn_ref(conn_row);
        match stage {
            Stage::Resolving => self.emit(out, Effect::Resolve { conn }),
            _ => self.emit(out, Effect::Dial { conn, deadline }),
        }
    }

    /// Tries to make progress on a contact by itself; what was asked for and has become hopeless is given up.
    pub(crate) fn pursue(&mut self, row: u32, out: &mut Effects) {
        if let Err(why) = self.try_connect(row, out) {
            self.give_up_if_hopeless(row, why, out);
        }
    }

    fn give_up_if_hopeless(&mut self, row: u32, why: Refusal, out: &mut Effects) {
        let flags = &mut self.contacts.row_mut(row).flags;
        let hopeless = matches!(why, Refusal::Banned { .. } | Refusal::NoAddress);
        if hopeless && flags.asked && !flags.wanted {
            flags.asked = false;
            self.set_standing(row, Standing::GaveUp);
            self.tell(row, NONE, Told::GaveUp, out);
        }
    }

    /// The same for a command, which answers with the outcome: a contact that cannot be dialled is left where the
    /// reason for that ends.
    pub(crate) fn try_connect(&mut self, row: u32, out: &mut Effects) -> Result<(), Refusal> {
        self.give_turn(row);
        match self.can_connect(row) {
            Ok(may) => {
                self.do_connect(may, out);
                Ok(())
            }
            Err(why) => {
                self.park(row, why);
                Err(why)
            }
        }
    }

    fn park(&mut self, row: u32, why: Refusal) {
        match why {
            Refusal::TheirTurn { until } | Refusal::Backoff { until } => {
                self.set_standing(row, Standing::Waiting);
                self.wheel.arm(Owner::Contact(row), until);
            }
            Refusal::Full(
                limit @ (Limit::PerIp | Limit::PerSubnet | Limit::PerPeer | Limit::DestinationRate),
            ) => {
                self.set_standing(row, Standing::Queued(limit));
                let wait = CROWDED_RETRY + Duration::from_millis(self.random() % 2_500);
                self.wheel.arm(Owner::Contact(row), self.now + wait);
            }
            Refusal::Full(limit) => self.enqueue(row, Standing::Queued(limit)),
            Refusal::Offline => self.enqueue(row, Standing::Waiting),
            Refusal::AlreadyConnected => {}
            Refusal::GaveUp => self.set_standing(row, Standing::GaveUp),
            Refusal::Banned { until } if self.contacts.row(row).flags.wanted => {
                // A subnet's ban may be lifted early, and nobody walks all contacts then: look again now and then.
                self.set_standing(row, Standing::Idle);
                self.wheel.arm(Owner::Contact(row), until.min(self.now + BAN_RECHECK));
            }
            _ => {
                // A filler that cannot be dialled must not be picked again and again.
                let flags = &mut self.contacts.row_mut(row).flags;
                flags.resting |= flags.filling;
                self.set_standing(row, Standing::Idle);
            }
        }
    }

    fn enqueue(&mut self, row: u32, standing: Standing) {
        if self.contacts.row(row).member == Line::Slots as u8 {
            return;
        }
        self.wheel.disarm(Owner::Contact(row));
        self.set_standing(row, standing);
        self.unlist(row);
        self.queue.join(&mut self.contacts, row);
    }

    /// Starts queued dials, first come first served, as far as slots and rates allow.
    pub(crate) fn drain_queue(&mut self, out: &mut Effects) {
        self.queue_wake = self.now;
        let mut passed = 0;
        for _ in 0..QUEUE_PER_STEP {
            let Some(row) = self.queue.front(&mut self.contacts) else {
                self.queue_wake = Time::NEVER;
                return;
            };
            self.work += 1;
            match self.can_connect(row) {
                Ok(may) => {
                    self.unlist(row);
                    self.do_connect(may, out);
                }
                // The reserve is not for it, and may be for somebody behind it.
                Err(Refusal::Full(Limit::Total | Limit::Outbound))
                    if !self.contacts.row(row).is_desired() && passed < self.queue.len() =>
                {
                    passed += 1;
                    self.queue.leave(&mut self.contacts, row);
                    self.queue.front(&mut self.contacts);
                    self.queue.join(&mut self.contacts, row);
                    if passed == QUEUE_PER_STEP {
                        self.queue_wake = Time::NEVER;
                    }
                }
                Err(why @ (Refusal::Offline | Refusal::Full(_))) if !is_about_destination(why) => {
                    self.queue_wake = match why {
                        Refusal::Full(Limit::DialRate) => self.dial_rate_frees_at(),
                        Refusal::Offline if self.net.online => self.net.paused_until,
                        _ => Time::NEVER,
                    };
                    return;
                }
                Err(why) => {
                    self.unlist(row);
                    self.park(row, why);
                    self.give_up_if_hopeless(row, why, out);
                }
            }
        }
    }

    /// When the oldest dial leaves the window.
    pub(crate) fn dial_rate_frees_at(&self) -> Time {
        self.dials.front().map_or(self.now, |mark| mark.at + MINUTE)
    }

    // ---- whose turn

    /// Sets the waiting time of a side that should not dial, once per need.
    fn give_turn(&mut self, row: u32) {
        let contact = self.contacts.row(row);
        if contact.turn_until != Time::ZERO || self.is_my_turn(row) {
            return;
        }
        let until = self.now + self.cfg.turn_wait;
        self.contacts.row_mut(row).turn_until = until;
    }

    /// The preference: compared on parsed keys and addresses, here and nowhere else (pitfalls D1–D5).
    pub(crate) fn is_my_turn(&self, row: u32) -> bool {
        let contact = self.contacts.row(row);
        let by_identity = !contact.who.key.is_identity() || self.cfg.me < contact.who.key;
        match self.cfg.preference {
            Preference::Nobody => true,
            // An operator who says "connect" means now.
            Preference::Identity => by_identity || (contact.flags.asked && !contact.flags.wanted),
            Preference::Address { local_ip } => match contact.inline.first() {
                Some(known) if known.addr.ip != local_ip => local_ip < known.addr.ip,
                _ => by_identity,
            },
        }
    }

    // ---- addresses of an attempt

    /// The addresses of the next attempt: allowed ones, best first, frozen.
    pub(crate) fn freeze(&self, row: u32) -> Result<ArrayVec<Addr, MAX_LEGS>, Refusal> {
        let contact = self.contacts.row(row);
        let mut allowed: ArrayVec<Addr, MAX_ADDRS> = ArrayVec::new();
        if !self.cfg.rules(contact.who.stack).dials_addresses || contact.flags.named {
            return Ok(ArrayVec::new());
        }
        let mut banned_until = None;
        for known in self.addresses(row) {
            if known.source == Source::Gossip && !self.may_dial_gossip(known.addr) {
                continue;
            }
            match self.bans.ip(known.addr.ip) {
                Some(until) => banned_until = banned_until.max(Some(until)),
                None => allowed.push(known.addr),
            }
        }
        match (allowed.is_empty(), banned_until) {
            (false, _) => Ok(self.choose_legs(&allowed)),
            (true, Some(until)) => Err(Refusal::Banned { until }),
            (true, None) => Err(Refusal::NoAddress),
        }
    }

    fn may_dial_gossip(&self, addr: Addr) -> bool {
        self.cfg.dial_private_gossip || !(addr.is_private() || addr.is_loopback())
    }

    /// The names were looked up: the addresses pass the same filters as all others (faults Q3, D8).
    pub(crate) fn handle_resolved(&mut self, row: u32, addrs: &Addrs, out: &mut Effects) {
        if self.conns.row(row).stage != Stage::Resolving {
            self.stats.late_facts += 1;
            return;
        }
        let contact = self.conns.row(row).contact;
        let known = self.addresses(contact);
        let known = known.iter().filter(|k| k.source != Source::Gossip || self.may_dial_gossip(k.addr));
        let mut allowed: ArrayVec<Addr, { 2 * MAX_ADDRS }> = ArrayVec::new();
        for addr in addrs.iter().copied().chain(known.map(|known| known.addr)) {
            if addr.check().is_ok() && self.bans.ip(addr.ip).is_none() && !allowed.contains(&addr) {
                allowed.push(addr);
            }
        }
        let legs = self.choose_legs(&allowed);
        if self.can_hold_legs(&legs).and_then(|()| self.can_dial(&legs)).is_err() {
            // Only now is it known where this goes. Nobody failed; the names are looked up again a little later.
            let wait = CROWDED_RETRY + Duration::from_millis(self.random() % 2_500);
            let contact = self.contacts.row_mut(contact);
            contact.retry_at = contact.retry_at.max(self.now + wait);
            self.abandon(row, crate::Close::Resources, out);
            return;
        }
        if legs.is_empty() {
            self.conns.row_mut(row).fault = Some(Fault::new(Step::Resolve, FaultKind::Name));
            self.abandon(row, crate::Close::Cancelled, out);
            return;
        }
        self.count_conn(row, false);
        let conn = self.conns.row_mut(row);
        conn.remote = legs[0];
        conn.legs = legs;
        let deadline = conn.deadline;
        self.count_conn(row, true);
        self.mark_dials(row);
        self.set_stage(row, Stage::Dialing);
        let conn = self.conn_ref(row);
        self.emit(out, Effect::Dial { conn, deadline });
    }

    /// One leg failed: the address is tried later next time; somebody else's address is forgotten (fault D16).
    pub(crate) fn handle_missed(&mut self, row: u32, addr: Addr, fault: Fault) {
        let conn = self.conns.row_mut(row);
        conn.fault = Some(fault);
        let contact = conn.contact;
        if contact == NONE {
            return;
        }
        if fault.kind == FaultKind::Identity {
            self.detach_address(contact, addr);
            return;
        }
        let mut all = self.addresses(contact);
        if let Some(known) = all.iter_mut().find(|known| known.addr == addr) {
            known.failures = known.failures.saturating_add(1);
            all.sort_by_key(|known| (known.failures, core::cmp::Reverse(known.source)));
            self.set_addresses(contact, &all);
        }
    }

    /// An address answered: its failures in a row are over, and it goes before others that are as good.
    pub(crate) fn clear_failures(&mut self, contact: u32, addr: Addr) {
        let mut all = self.addresses(contact);
        let Some(place) = all.iter().position(|known| known.addr == addr) else { return };
        if place > 0 || all[place].failures > 0 {
            all[place].failures = 0;
            all[..=place].rotate_right(1);
            all.sort_by_key(|known| (known.failures, core::cmp::Reverse(known.source)));
            self.set_addresses(contact, &all);
        }
    }

    // ---- dial rates

    fn mark_dials(&mut self, conn_row: u32) {
        let at = self.now;
        for ip in self.conns.row(conn_row).counted_ips() {
            self.per_ip.entry(ip).or_default().dials += 1;
            self.dials.push_back(DialMark { at, ip });
        }
    }

    /// Forgets dials older than the window. Every mark leaves once, so this is O(1) a step over time.
    pub(crate) fn prune_dials(&mut self) {
        while let Some(mark) = self.dials.front().copied().filter(|mark| mark.at + MINUTE <= self.now) {
            self.work += 1;
            self.dials.pop_front();
            if let Some(count) = self.per_ip.get_mut(&mark.ip) {
                count.dials -= 1;
                if *count == Default::default() {
                    self.per_ip.remove(&mark.ip);
                }
            }
        }
    }
}

/// Limits around a destination are not freed by our own slots: they must not block the queue.
fn is_about_destination(why: Refusal) -> bool {
    let Refusal::Full(limit) = why else { return false };
    matches!(limit, Limit::PerIp | Limit::PerSubnet | Limit::PerPeer | Limit::DestinationRate)
}
