//! Two connections to one contact: which one stays. The rule and its proof obligations are in ARCHITECTURE.md ("Two
//! nodes dial each other"); the steps below carry its numbers. Also the moment a conn turns out to be somebody.

use crate::canary::{self, Canary};
use crate::contact::Standing;
use crate::slab::NONE;
use crate::wheel::Owner;
use crate::{
    Addr, Addrs, Close, Core, Duplicates, Effect, Effects, Fault, FaultKind, Greeting, Limit, MAX_EPOCH,
    PeerKey, Refusal, Source, Stage, Step, Told, Who,
};
use core::time::Duration;

/// So many displacements of a live connection by newer epochs mean two machines with one identity (fault I1).
const CLONE_AT: u8 = 3;
/// An epoch we are told to pass may lie at most this many seconds ahead of ours: 136 years.
const EPOCH_REACH: u64 = 1 << 32;
/// So far above it is the epoch we take. Boots of ours that they have not heard of yet may have had the very next ones,
/// and a hello that looks like one of those would be stale for as long as anybody takes them for alive.
const EPOCH_LEAP: u64 = 1 << 16;

impl Core {
    /// The other side is identified: the acceptor read a hello, the dialler an answer.
    pub(crate) fn handle_met(
        &mut self,
        row: u32,
        key: PeerKey,
        at: Addr,
        greeting: Option<Greeting>,
        out: &mut Effects,
    ) {
        let stage = self.conns.row(row).stage;
        let answer = match (stage, self.conns.row(row).met) {
            (Stage::Refusing, false) if self.can_use_reserve(row, key) => {
                self.use_reserve(row);
                self.meet_inbound(row, key, at, greeting, out)
            }
            (Stage::Refusing, false) => {
                let limit = self.conns.row(row).courtesy.unwrap_or(Limit::Total);
                Err(Refusal::Full(limit))
            }
            (Stage::Arriving, _) => self.meet_inbound(row, key, at, greeting, out),
            (Stage::Dialing, _) => self.meet_outbound(row, key, at, greeting, out),
            (Stage::Up, _) if greeting.is_none() => return self.handle_moved(row, key, at, out),
            _ => {
                self.stats.late_facts += 1;
                return;
            }
        };
        if let Err(why) = answer {
            self.turn(row, why, out);
        }
    }

    fn meet_inbound(
        &mut self,
        row: u32,
        key: PeerKey,
        at: Addr,
        greeting: Option<Greeting>,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        self.recheck(key, at)?;
        if greeting.is_some_and(|hello| hello.epoch == 0 || hello.epoch > MAX_EPOCH) {
            return Err(Refusal::Stale { newer: 0 });
        }
        let who = Who { stack: self.conns.row(row).stack, key };
        let contact = self.find_or_insert(who, out)?;
        if u32::from(self.contacts.row(contact).conn_count) >= self.cfg.limits.per_peer {
            return Err(Refusal::Full(Limit::PerPeer));
        }
        self.conns.row_mut(row).met = true;
        self.attach(row, contact);
        match self.cfg.rules(who.stack).duplicates {
            Duplicates::Numbers => self.weigh_hello(row, contact, greeting.unwrap_or_default(), out),
            Duplicates::HoldAndConfirm => self.weigh_plain(row, contact, out),
            Duplicates::Allowed => {
                self.offer(row, out);
                self.settle(contact, out);
                Ok(())
            }
        }
    }

    /// Steps 1 to 5 of the rule.
    fn weigh_hello(
        &mut self,
        row: u32,
        contact: u32,
        hello: Greeting,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let theirs = (hello.epoch, hello.dial);
        self.conns.row_mut(row).dial = hello.dial;
        self.conns.row_mut(row).peer_epoch = hello.epoch;
        self.displace_older_epochs(row, contact, hello.epoch, out)?;
        if canary::on(Canary::KeepFirst) && self.live_conns(contact) > 1 {
            return Err(Refusal::AlreadyConnected);
        }
        let accepted = self.contacts.row(contact).accepted;
        let mut newer_epoch = 0;
        // An equal number is no later dial either: the peer began to count anew within one epoch, as when it lost its
        // store and was back within the second. It has to pass that epoch, or its numbers would be old for long.
        let mut stale = accepted >= theirs && accepted != (0, 0);
        if stale {
            newer_epoch = accepted.0;
        }
        let others = self.conns_of(contact);
        for other in others.iter().copied().filter(|other| *other != row) {
            let other = self.conns.row(other);
            if !other.is_up() {
                continue;
            }
            stale |= other.is_outbound() && (other.my_epoch, other.dial) > hello.accepted;
            if other.peer_epoch > hello.epoch {
                stale = true;
                newer_epoch = newer_epoch.max(other.peer_epoch);
            }
        }
        if stale {
            return Err(Refusal::Stale { newer: newer_epoch });
        }
        self.contacts.row_mut(contact).accepted = accepted.max(theirs);
        self.conns.row_mut(row).replaces = hello.replaces;
        for other in others.iter().copied().filter(|other| *other != row) {
            let conn = self.conns.row(other);
            if hello.replaces && conn.may_be_replaced() {
                // Make before break: closed at the confirm.
                continue;
            }
            if !conn.is_outbound() {
                self.close(other, Close::Replaced, out);
            } else if conn.is_up() && (conn.my_epoch, conn.dial) <= hello.accepted {
                self.close(other, Close::Dead, out);
            }
        }
        self.hold_or_offer(row, contact, out);
        Ok(())
    }

    /// Step 1, and the alarm when it happens too often to be one machine that restarts.
    fn displace_older_epochs(
        &mut self,
        row: u32,
        contact: u32,
        epoch: u64,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        for other in self.conns_of(contact) {
            let conn = self.conns.row(other);
            if other == row
                || conn.peer_epoch == 0
                || conn.peer_epoch >= epoch
                || conn.stage == Stage::Closing
            {
                continue;
            }
            if conn.stage == Stage::Up {
                if self.contacts.row(contact).epoch_changes >= CLONE_AT {
                    // One stable spell must not be enough to begin again: two clones would take turns for ever.
                    self.contacts.row_mut(contact).epoch_changes = CLONE_AT + 1;
                    self.tell(contact, row, Told::CloneSuspected, out);
                    return Err(Refusal::AlreadyConnected);
                }
                self.contacts.row_mut(contact).epoch_changes += 1;
            }
            self.close(other, Close::Dead, out);
        }
        Ok(())
    }

    /// Hold and confirm without numbers: a connection that is up is probed; the new one waits for the outcome. So it
    /// does for one whose confirm may be on its way: nothing tells which of the two was dialled later.
    fn weigh_plain(&mut self, row: u32, contact: u32, out: &mut Effects) -> Result<(), Refusal> {
        let mut offered = false;
        for other in self.conns_of(contact) {
            let conn = self.conns.row(other);
            if other == row || conn.stage == Stage::Closing {
                continue;
            }
            if conn.is_up() {
                self.probe(other, out);
                self.hold(row, contact);
                return Ok(());
            }
            if conn.stage == Stage::Offered {
                offered = true;
            } else if !conn.is_outbound() {
                self.close(other, Close::Replaced, out);
            }
        }
        if offered {
            self.hold(row, contact);
            self.settle(contact, out);
            return Ok(());
        }
        self.hold_or_offer(row, contact, out);
        Ok(())
    }

    fn probe(&mut self, row: u32, out: &mut Effects) {
        self.conns.row_mut(row).probe_at = self.now;
        let conn = self.conn_ref(row);
        self.emit(out, Effect::Probe { conn });
    }

    /// Step 5: the lower identity holds while its own dial is pending, the higher cancels its own.
    fn hold_or_offer(&mut self, row: u32, contact: u32, out: &mut Effects) {
        let pending =
            self.conns_of(contact).into_iter().find(|other| self.conns.row(*other).is_pending_dial());
        match pending {
            Some(_) if self.cfg.me < self.contacts.row(contact).who.key => self.hold(row, contact),
            Some(own) => {
                self.offer(row, out);
                self.close(own, Close::Duplicate, out);
            }
            None => self.offer(row, out),
        }
        self.settle(contact, out);
    }

    fn hold(&mut self, row: u32, contact: u32) {
        let hold = self.cfg.rules(self.contacts.row(contact).who.stack).hold;
        self.set_stage(row, Stage::Held);
        let at = (self.now + hold).min(self.conns.row(row).deadline);
        self.wheel.arm(Owner::Conn(row), at);
    }

    /// The hold is over: our own dial went into the void, or what was up did not answer; or the reverse.
    pub(crate) fn on_hold_over(&mut self, row: u32, out: &mut Effects) {
        let contact = self.conns.row(row).contact;
        let (since, replaces) = (self.conns.row(row).began, self.conns.row(row).replaces);
        for other in self.conns_of(contact) {
            let conn = self.conns.row(other);
            if conn.is_pending_dial() {
                self.close(other, Close::Cancelled, out);
            } else if other != row && conn.is_up() && !replaces {
                if conn.report.received_at > conn.probe_at.max(since) {
                    self.turn(row, Refusal::AlreadyConnected, out);
                    return;
                }
                self.close(other, Close::Dead, out);
            } else if other != row && conn.stage == Stage::Offered && !replaces {
                self.close(other, Close::Timeout, out);
            }
        }
        self.settle(contact, out);
    }

    /// Our dial was answered. Another conn that is up, or offered by us in ignorance, loses or wins by identity.
    fn meet_outbound(
        &mut self,
        row: u32,
        key: PeerKey,
        at: Addr,
        greeting: Option<Greeting>,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let contact = self.identify(row, key, at, out)?;
        self.recheck(key, at)?;
        let epoch = greeting.map_or(0, |answer| answer.epoch);
        if epoch > MAX_EPOCH {
            return Err(Refusal::Stale { newer: 0 });
        }
        self.conns.row_mut(row).peer_epoch = epoch;
        if epoch > 0 {
            self.displace_older_epochs(row, contact, epoch, out)?;
        }
        let lower = self.cfg.me < key;
        let mut others = self.conns_of(contact);
        // What is up beside its successor stays: the acceptor closes it, at the confirm.
        let replaces = self.conns.row(row).replaces;
        others.retain(|other| !(replaces && self.conns.row(*other).stage == Stage::Up));
        for other in others.iter().copied().filter(|other| *other != row) {
            let conn = self.conns.row(other);
            let rival = conn.is_up() || conn.stage == Stage::Offered;
            if rival && !conn.is_outbound() && !lower {
                return Err(Refusal::AlreadyConnected);
            }
        }
        for other in others.iter().copied().filter(|other| *other != row) {
            let conn = self.conns.row(other);
            match conn.stage {
                Stage::Held | Stage::Offered => self.close(other, Close::Duplicate, out),
                Stage::Up if conn.is_outbound() => self.close(other, Close::Replaced, out),
                Stage::Up => self.close(other, Close::Duplicate, out),
                Stage::Resolving | Stage::Dialing => self.close(other, Close::Duplicate, out),
                _ => {}
            }
        }
        let mut proven = Addrs::new();
        proven.push(at);
        self.add_addresses(contact, &proven, Source::Proven);
        self.clear_failures(contact, at);
        self.offer(row, out);
        self.settle(contact, out);
        Ok(())
    }

    /// Finds out whom our dial reached: the contact it was for, or, when that was only an address, the identity that
    /// takes its place. `at` is where, when that is certain.
    pub(crate) fn identify(
        &mut self,
        row: u32,
        key: PeerKey,
        at: Addr,
        out: &mut Effects,
    ) -> Result<u32, Refusal> {
        let old = self.conns.row(row).contact;
        let who = Who { stack: self.conns.row(row).stack, key };
        if key == self.cfg.me {
            self.detach_address(old, at);
            self.contacts.row_mut(old).flags.doomed = !self.contacts.row(old).who.key.is_identity();
            return Err(Refusal::Myself);
        }
        self.count_conn(row, false);
        let conn = self.conns.row_mut(row);
        (conn.met, conn.remote) = (true, at);
        self.count_conn(row, true);
        let expected = self.contacts.row(old).who.key;
        if expected == key {
            return Ok(old);
        }
        if expected.is_identity() {
            self.detach_address(old, at);
            self.conns.row_mut(row).fault = Some(Fault::new(Step::Secure, FaultKind::Identity));
            return Err(Refusal::Unknown);
        }
        let new = self.find_or_insert(who, out)?;
        if u32::from(self.contacts.row(new).conn_count) >= self.cfg.limits.per_peer {
            return Err(Refusal::Full(Limit::PerPeer));
        }
        self.detach(row);
        self.attach(row, new);
        let flags = self.contacts.row(old).flags;
        let known: Addrs = self.addresses(old).iter().map(|known| known.addr).collect();
        self.add_addresses(new, &known, Source::Named);
        let was_desired = self.contacts.row(new).is_desired();
        self.contacts.row_mut(new).flags.inherit(flags);
        if !was_desired && self.contacts.row(new).is_desired() {
            self.end_cool_down(new);
        }
        self.relist(new);
        let as_contact = self.contact_ref(new);
        self.tell(old, row, Told::Identified { as_contact }, out);
        self.contacts.row_mut(old).flags.doomed = true;
        self.set_standing(old, Standing::Idle);
        self.doom_if_alone(old);
        self.store(old, out);
        self.store(new, out);
        Ok(new)
    }

    /// They refused us. An epoch of ours that they hold for newer makes us take one well above it. Whether this
    /// is still about an attempt.
    pub(crate) fn note_declined(
        &mut self,
        row: u32,
        fault: Fault,
        retry_after: Duration,
        newer_epoch: u64,
    ) -> bool {
        let conn = self.conns.row_mut(row);
        if conn.stage != Stage::Dialing {
            self.stats.late_facts += 1;
            return false;
        }
        conn.retry_after = retry_after;
        conn.fault = Some(fault);
        let mine = self.cfg.epoch;
        if newer_epoch >= mine && newer_epoch - mine < EPOCH_REACH && newer_epoch < MAX_EPOCH - EPOCH_LEAP {
            self.cfg.epoch = newer_epoch + EPOCH_LEAP;
        }
        true
    }

    /// Who refused us is known now: the next attempt carries the numbers that belong to it.
    pub(crate) fn handle_declined(&mut self, row: u32, key: Option<PeerKey>, at: Addr, out: &mut Effects) {
        if let Some(key) = key
            && let Ok(contact) = self.identify(row, key, at, out)
        {
            // It is over but for its `Gone`; a dial to the same peer under its own name may be under way.
            let dials = |core: &Core, other: &u32| core.conns.row(*other).is_pending_dial();
            if self.conns_of(contact).iter().filter(|other| dials(self, other)).count() > 1 {
                self.close(row, Close::Cancelled, out);
            }
            self.settle(contact, out);
        }
    }

    /// Go on: the acceptor answers, the dialler confirms.
    pub(crate) fn offer(&mut self, row: u32, out: &mut Effects) {
        self.set_stage(row, Stage::Offered);
        let deadline = self.conns.row(row).deadline;
        self.wheel.arm(Owner::Conn(row), deadline);
        let conn = self.conn_ref(row);
        self.emit(out, Effect::Admit { conn });
        if canary::on(Canary::NoConfirm) && !self.conns.row(row).is_outbound() {
            self.handle_ready(row, out);
        }
    }

    /// Tell them why not. The conn keeps its deadline and ends with `Gone`.
    pub(crate) fn turn(&mut self, row: u32, why: Refusal, out: &mut Effects) {
        self.stats.refused += 1;
        let conn = self.conns.row_mut(row);
        // Whom we dialled and then had to refuse is an attempt that failed, and is followed by a delay as any other.
        let failed = conn.is_outbound() && !matches!(why, Refusal::AlreadyConnected | Refusal::Draining);
        if failed && conn.fault.is_none_or(|fault| fault.kind != FaultKind::Identity) {
            let kind = match why {
                Refusal::Full(_) => FaultKind::Closed,
                Refusal::Stale { .. } => FaultKind::Protocol,
                _ => FaultKind::Identity,
            };
            conn.fault = Some(Fault::new(Step::Hello, kind));
        }
        conn.why = Some(match why {
            _ if failed => Close::Cancelled,
            Refusal::Banned { .. } => Close::Banned,
            Refusal::Full(_) => Close::Resources,
            _ => Close::Duplicate,
        });
        let (contact, deadline) = (conn.contact, conn.deadline);
        self.set_stage(row, Stage::Closing);
        self.wheel.arm(Owner::Conn(row), deadline);
        let conn = self.conn_ref(row);
        self.emit(out, Effect::Turn { conn, why });
        if failed {
            self.offer_held(contact, out);
        } else if contact != NONE {
            self.settle(contact, out);
        }
    }

    /// Both sides agreed.
    pub(crate) fn handle_ready(&mut self, row: u32, out: &mut Effects) {
        let conn = self.conns.row_mut(row);
        if conn.stage != Stage::Offered {
            self.stats.late_facts += 1;
            return;
        }
        conn.up_at = self.now;
        conn.report.received_at = self.now;
        conn.report.used_at = self.now;
        let (contact, replaces, outbound) = (conn.contact, conn.replaces, conn.is_outbound());
        self.set_stage(row, Stage::Up);
        self.arm_liveness(row);
        self.stats.connected += 1;
        self.net.local_faults = 0;
        if self.contacts.row(contact).flags.gossip {
            self.contacts.row_mut(contact).flags.gossip = false;
            self.counts.gossip -= 1;
        }
        self.tell(contact, row, Told::Connected, out);
        if replaces {
            self.close_replaced(row, contact, outbound, out);
        }
        if self.cfg.rules(self.conns.row(row).stack).duplicates == Duplicates::HoldAndConfirm {
            for other in self.conns_of(contact) {
                if self.conns.row(other).stage == Stage::Held {
                    // The confirm may be as old as the conn: only an answer shows that somebody is there now.
                    self.probe(row, out);
                    self.hold(other, contact);
                }
            }
        }
        self.settle(contact, out);
        self.store(contact, out);
    }

    /// Bans again, now that the key is known; and ourselves.
    fn recheck(&self, key: PeerKey, at: Addr) -> Result<(), Refusal> {
        if key == self.cfg.me {
            return Err(Refusal::Myself);
        }
        if self.draining {
            return Err(Refusal::Draining);
        }
        if canary::on(Canary::BanNotRechecked) {
            return Ok(());
        }
        let until = self.bans.key(key).max(self.bans.ip(at.ip));
        until.map_or(Ok(()), |until| Err(Refusal::Banned { until }))
    }

    fn find_or_insert(&mut self, who: Who, out: &mut Effects) -> Result<u32, Refusal> {
        if let Some(row) = self.find_row(&who) {
            return match self.banned_until(row) {
                Some(until) if !canary::on(Canary::BanNotRechecked) => Err(Refusal::Banned { until }),
                _ => Ok(row),
            };
        }
        self.make_room(who.stack, false).map_err(Refusal::Full)?;
        let row = self.insert_contact(who, false);
        self.tell(row, NONE, Told::Discovered, out);
        Ok(row)
    }
}
