//! Whom to keep: contacts that are wanted, asked for, or known and picked to fill the target; what is learned about
//! them; their timers.

use crate::contact::Standing;
use crate::slab::NONE;
use crate::wheel::Owner;
use crate::{Addrs, Answer, Close, Core, Effects, Refusal, STACKS, Source, StackId, Stage, Time, Told, Who};
use core::time::Duration;

/// Contacts picked to fill a target per step at most.
const FILL_PER_STEP: u32 = 8;
/// How often a node that is alone tries one of those it gave up on.
pub(crate) const REVIVE_EVERY: Duration = Duration::from_secs(30);
/// How many useless contacts it looks past each time.
const REVIVE_LOOKS: u32 = 64;
/// The longest that any failure keeps us away from a contact, if its profile has no longer delay.
const LONGEST_RECALL: Duration = Duration::from_secs(3_600);
/// Contacts proven to be one peer at most.
pub(crate) const MAX_RING: usize = 8;
pub(crate) const ALL: [StackId; STACKS] = [StackId::Mesh, StackId::Libp2p, StackId::Bitcoin, StackId::Lan];

impl Core {
    // ---- commands

    pub(crate) fn handle_connect(
        &mut self,
        who: &Who,
        addrs: &Addrs,
        named: bool,
        out: &mut Effects,
    ) -> Result<Answer, Refusal> {
        self.can_ask(who, addrs, named)?;
        let row = self.name(who, addrs, named, out)?;
        if self.contacts.row(row).standing == Standing::GaveUp {
            self.set_standing(row, Standing::Idle);
        }
        let contact = self.contacts.row_mut(row);
        // Asking again is no way around the backoff while attempts are left; after giving up it starts a new budget.
        if contact.failures >= contact_budget(self.cfg.rules(who.stack).backoff.max_attempts) {
            contact.failures = 0;
            contact.retry_at = Time::ZERO;
        }
        // A restart keeps us from dialling again and again, not people from asking for the first time.
        if contact.is_recalled() {
            contact.retry_at = Time::ZERO;
        }
        let fresh = !contact.is_desired();
        contact.flags.asked = true;
        if fresh {
            self.end_cool_down(row);
        }
        self.begin(row, out)
    }

    pub(crate) fn handle_want(
        &mut self,
        who: &Who,
        addrs: &Addrs,
        named: bool,
        out: &mut Effects,
    ) -> Result<Answer, Refusal> {
        let row = self.name(who, addrs, named, out)?;
        let contact = self.contacts.row_mut(row);
        let fresh = !contact.flags.wanted;
        contact.flags.wanted = true;
        contact.flags.resting = false;
        if contact.standing == Standing::GaveUp {
            contact.failures = 0;
            contact.retry_at = Time::ZERO;
            self.set_standing(row, Standing::Idle);
        }
        if fresh {
            self.end_cool_down(row);
            self.store(row, out);
        }
        if self.has_live_conn(row) || self.contacts.row(row).standing != Standing::Idle {
            self.relist(row);
            return Ok(Answer::Done);
        }
        match self.begin(row, out) {
            // Wanted is wanted, also without an address or during a ban: it waits for the reason to go away.
            Err(why @ (Refusal::NoAddress | Refusal::Banned { .. })) => Ok(Answer::Queued(why)),
            other => other,
        }
    }

    /// Whoever let us go on purpose is left in peace by the target, for long. A wish comes back by backoff.
    pub(crate) fn end_cool_down(&mut self, row: u32) {
        let backoff = self.backoff(row);
        let random = self.random();
        let now = self.now;
        let contact = self.contacts.row_mut(row);
        let was_let_go = matches!(contact.last_close, Some(Close::Requested | Close::Cancelled));
        if was_let_go && contact.failures == 0 {
            contact.retry_at = contact.retry_at.min(now + backoff.delay(1, random));
            let (standing, due) = (contact.standing, contact.retry_at.max(contact.turn_until));
            // Who waits already waits for the end of the cool-down.
            if standing == Standing::Waiting && self.wheel.due(Owner::Contact(row)).is_some_and(|at| at > due)
            {
                self.wheel.arm(Owner::Contact(row), due);
            }
        }
    }

    pub(crate) fn handle_unwant(&mut self, who: &Who, out: &mut Effects) -> Result<Answer, Refusal> {
        let row = self.find_row(who).ok_or(Refusal::Unknown)?;
        if !self.contacts.row(row).flags.wanted {
            return Err(Refusal::NotNow);
        }
        self.contacts.row_mut(row).flags.wanted = false;
        if matches!(self.contacts.row(row).standing, Standing::Waiting | Standing::Queued(_))
            && !self.contacts.row(row).is_desired()
            && !self.has_live_conn(row)
        {
            self.set_standing(row, Standing::Idle);
        }
        self.relist(row);
        self.store(row, out);
        Ok(Answer::Done)
    }

    pub(crate) fn handle_hold(&mut self, who: &Who, on: bool, out: &mut Effects) -> Result<Answer, Refusal> {
        let row = self.find_row(who).ok_or(Refusal::Unknown)?;
        self.contacts.row_mut(row).flags.held = on;
        self.store(row, out);
        Ok(Answer::Done)
    }

    /// Try again now: allowed after a failure while attempts are left.
    pub(crate) fn handle_retry(&mut self, who: &Who, out: &mut Effects) -> Result<Answer, Refusal> {
        let row = self.find_row(who).ok_or(Refusal::Unknown)?;
        match self.contacts.row(row).standing {
            Standing::GaveUp => return Err(Refusal::GaveUp),
            Standing::Waiting | Standing::Idle if !self.has_live_conn(row) => {}
            _ => return Err(Refusal::NotNow),
        }
        if self.contacts.row(row).last_fault.is_none() && !self.contacts.row(row).is_recalled() {
            return Err(Refusal::NotNow);
        }
        self.can_ask(who, &Addrs::new(), false)?;
        let contact = self.contacts.row_mut(row);
        contact.retry_at = Time::ZERO;
        contact.turn_until = self.now;
        // What is wanted needs no second wish, which would outlive the first.
        contact.flags.asked |= !contact.flags.wanted;
        self.begin(row, out)
    }

    pub(crate) fn handle_forget(&mut self, who: &Who, out: &mut Effects) -> Result<Answer, Refusal> {
        let row = self.find_row(who).ok_or(Refusal::Unknown)?;
        let contact = self.contacts.row(row);
        if contact.flags.wanted || contact.conn_count > 0 {
            return Err(Refusal::NotNow);
        }
        self.contacts.row_mut(row).flags.doomed = true;
        self.set_standing(row, Standing::Idle);
        self.doom_if_alone(row);
        self.store(row, out);
        Ok(Answer::Done)
    }

    /// What would make a connect be refused, before anything of it is noted: a refusal changes nothing (S0.26).
    fn can_ask(&self, who: &Who, addrs: &Addrs, named: bool) -> Result<(), Refusal> {
        if who.key == self.cfg.me {
            return Err(Refusal::Myself);
        }
        if self.draining {
            return Err(Refusal::Draining);
        }
        let row = self.find_row(who);
        if row.is_some_and(|row| self.has_live_conn(row)) {
            return Err(Refusal::AlreadyConnected);
        }
        let banned = row.map_or_else(|| self.bans.key(who.key), |row| self.banned_until(row));
        if let Some(until) = banned {
            return Err(Refusal::Banned { until });
        }
        let known = row.map_or(Err(Refusal::NoAddress), |row| self.freeze(row).map(|_| ()));
        let Err(why) = known else { return Ok(()) };
        if named || !self.cfg.rules(who.stack).dials_addresses {
            return Ok(());
        }
        let fresh = addrs.iter().filter(|addr| addr.check().is_ok()).map(|addr| self.bans.ip(addr.ip));
        match fresh.max_by_key(|ban| ban.map_or((1, Time::ZERO), |until| (0, until))) {
            Some(None) => Ok(()),
            Some(Some(until)) => Err(Refusal::Banned { until }),
            None => Err(why),
        }
    }

    fn begin(&mut self, row: u32, out: &mut Effects) -> Result<Answer, Refusal> {
        match self.try_connect(row, out) {
            Ok(()) => Ok(Answer::Begun(self.contact_ref(row))),
            Err(
                why @ (Refusal::TheirTurn { .. }
                | Refusal::Backoff { .. }
                | Refusal::Offline
                | Refusal::Full(_)),
            ) => Ok(Answer::Queued(why)),
            Err(why) => {
                self.contacts.row_mut(row).flags.asked = false;
                self.relist(row);
                Err(why)
            }
        }
    }

    /// The contact somebody named, made if new.
    fn name(&mut self, who: &Who, addrs: &Addrs, named: bool, out: &mut Effects) -> Result<u32, Refusal> {
        if who.key == self.cfg.me {
            return Err(Refusal::Myself);
        }
        if self.draining {
            return Err(Refusal::Draining);
        }
        let row = match self.find_row(who) {
            Some(row) => row,
            None => {
                if let Some(until) = self.bans.key(who.key) {
                    return Err(Refusal::Banned { until });
                }
                self.make_room(who.stack, false).map_err(Refusal::Full)?;
                let row = self.insert_contact(*who, false);
                self.tell(row, NONE, Told::Discovered, out);
                row
            }
        };
        let contact = self.contacts.row_mut(row);
        contact.flags.named |= named;
        contact.flags.doomed = false;
        if contact.flags.gossip {
            contact.flags.gossip = false;
            self.counts.gossip -= 1;
        }
        if self.add_addresses(row, addrs, Source::Named) {
            self.relist(row);
            self.store(row, out);
        }
        Ok(row)
    }

    // ---- what is learned

    pub(crate) fn handle_learned(&mut self, who: &Who, addrs: &Addrs, source: Source, out: &mut Effects) {
        if who.key == self.cfg.me || (source == Source::Gossip && !who.key.is_identity()) {
            return;
        }
        let gossip = source == Source::Gossip;
        let row = match self.find_row(who) {
            Some(row) => row,
            None => {
                if self.bans.key(who.key).is_some() || self.make_room(who.stack, gossip).is_err() {
                    return;
                }
                let row = self.insert_contact(*who, gossip);
                if source != Source::Stored {
                    self.tell(row, NONE, Told::Discovered, out);
                }
                row
            }
        };
        // A third peer may not replace or crowd out what the peer itself, an operator or a proof has told.
        if gossip && self.addresses(row).iter().any(|known| known.source > Source::Gossip) {
            return;
        }
        if !self.add_addresses(row, addrs, source) {
            return;
        }
        let contact = self.contacts.row_mut(row);
        contact.flags.resting &= gossip;
        if contact.standing == Standing::GaveUp && !gossip {
            contact.failures = 0;
            self.set_standing(row, Standing::Idle);
        }
        if source != Source::Stored {
            self.store(row, out);
        }
        let contact = self.contacts.row(row);
        if contact.standing == Standing::Idle && contact.flags.wanted && !self.has_live_conn(row) {
            self.pursue(row, out);
        }
        self.relist(row);
    }

    /// What an earlier run noted of a contact's failures (fault K9). However long the store says, an attempt follows
    /// within the longest delay that there is.
    pub(crate) fn handle_recalled(&mut self, who: &Who, failures: u16, wait: Duration, out: &mut Effects) {
        self.handle_learned(who, &Addrs::new(), Source::Stored, out);
        let Some(row) = self.find_row(who) else { return };
        let longest = self.backoff(row).max.max(LONGEST_RECALL);
        let until = self.now + wait.min(longest);
        let contact = self.contacts.row_mut(row);
        // What was met in this run is truer.
        if contact.failures == 0 && contact.last_fault.is_none() && contact.last_close.is_none() {
            contact.failures = failures.max(1);
            contact.retry_at = until;
        }
    }

    /// Two contacts are one peer: their rings become one. No handle moves.
    pub(crate) fn handle_bound(&mut self, a: &Who, b: &Who, out: &mut Effects) {
        let (Some(a), Some(b)) = (self.find_row(a), self.find_row(b)) else { return };
        let (ring_a, ring_b) = (self.ring(a), self.ring(b));
        if ring_a.contains(&b) || ring_a.len() + ring_b.len() > MAX_RING {
            return;
        }
        let next = self.contacts.row(a).ring;
        self.contacts.row_mut(a).ring = self.contacts.row(b).ring;
        self.contacts.row_mut(b).ring = next;
        // A ban of one of its keys holds for the whole peer, from the moment that is known.
        if self.banned_until(a).is_some() {
            for row in self.ring(a) {
                self.expel(row, out);
            }
        }
    }

    /// All contacts of the same peer, this one first.
    pub(crate) fn ring(&self, row: u32) -> arrayvec::ArrayVec<u32, MAX_RING> {
        let mut rows = arrayvec::ArrayVec::new();
        let mut at = row;
        while !rows.is_full() {
            rows.push(at);
            at = self.contacts.row(at).ring;
            if at == row {
                break;
            }
        }
        rows
    }

    /// Until when a contact's peer is banned, by any of its keys.
    pub(crate) fn banned_until(&self, row: u32) -> Option<Time> {
        self.ring(row).into_iter().filter_map(|row| self.bans.key(self.contacts.row(row).who.key)).max()
    }

    /// Whether a conn exists that is, or may yet be, a connection.
    pub(crate) fn has_live_conn(&self, row: u32) -> bool {
        let mut at = self.contacts.row(row).head;
        while at != NONE {
            let conn = self.conns.row(at);
            if conn.stage != Stage::Closing {
                return true;
            }
            at = conn.next;
        }
        false
    }

    /// Whether a conn is in one of those stages.
    pub(crate) fn has_conn_in(&self, row: u32, stages: &[Stage]) -> bool {
        let mut at = self.contacts.row(row).head;
        while at != NONE {
            let conn = self.conns.row(at);
            if stages.contains(&conn.stage) {
                return true;
            }
            at = conn.next;
        }
        false
    }

    // ---- timers and targets

    pub(crate) fn on_contact_timer(&mut self, row: u32, out: &mut Effects) {
        let contact = self.contacts.row_mut(row);
        match contact.standing {
            Standing::Connected => {
                contact.failures = 0;
                contact.penalty = 0;
                contact.fast_until = Time::ZERO;
                contact.epoch_changes = contact.epoch_changes.saturating_sub(1);
            }
            Standing::Waiting | Standing::Queued(_) | Standing::Idle => {
                let (stack, desired) = (contact.who.stack, contact.is_desired());
                if desired || (contact.flags.filling && !self.is_target_met(stack)) {
                    self.pursue(row, out);
                } else {
                    self.set_standing(row, Standing::Idle);
                }
            }
            Standing::Dialing | Standing::GaveUp => {}
        }
    }

    /// Contacts of that stack with that standing.
    pub(crate) fn standing_count(&self, stack: StackId, standing: Standing) -> u32 {
        self.counts.standing[stack.index()][standing.index()]
    }

    /// Whether enough contacts of that stack are connected or on their way.
    fn is_target_met(&self, stack: StackId) -> bool {
        let busy = self.standing_count(stack, Standing::Connected)
            + self.standing_count(stack, Standing::Dialing)
            + self.standing_count(stack, Standing::Queued(crate::Limit::Total));
        busy >= u32::from(self.cfg.rules(stack).target)
    }

    fn may_fill(&self) -> bool {
        self.net.online && self.net.paused_until <= self.now && !self.draining && self.queue.len() == 0
    }

    /// Picks known contacts until the target is met.
    pub(crate) fn fill_targets(&mut self, out: &mut Effects) {
        if !self.may_fill() {
            return;
        }
        for stack in ALL {
            for _ in 0..FILL_PER_STEP {
                if self.is_target_met(stack) {
                    break;
                }
                let Some(row) = self.candidates[stack.index()].front(&mut self.contacts) else { break };
                self.work += 1;
                self.contacts.row_mut(row).flags.filling = true;
                self.pursue(row, out);
            }
        }
        if self.now >= self.revive_at && ALL.iter().any(|stack| self.is_alone(*stack)) {
            self.revive_one(out);
        }
    }

    /// Whether a stack has a target, nobody connected, and nobody left to try by itself.
    fn is_alone(&self, stack: StackId) -> bool {
        let counts = &self.counts.standing[stack.index()];
        let (idle, gave_up) = (Standing::Idle.index(), Standing::GaveUp.index());
        let busy = counts.iter().enumerate().any(|(at, count)| at != idle && at != gave_up && *count > 0);
        self.cfg.rules(stack).target > 0
            && !busy
            && self.candidates[stack.index()].len() == 0
            && counts[gave_up] > 0
    }

    /// Who gave up on everybody in a long outage would stay alone for ever: one contact that gave up gets one more
    /// attempt, the longest forgotten first.
    fn revive_one(&mut self, out: &mut Effects) {
        // Whoever cannot be tried yet is looked for again then, not at once: nothing may change until then.
        self.revive_at = self.now + REVIVE_EVERY;
        for _ in 0..REVIVE_LOOKS {
            let Some(row) = self.spent.front(&mut self.contacts) else { return };
            self.work += 1;
            let contact = self.contacts.row(row);
            if contact.standing == Standing::GaveUp && self.is_alone(contact.who.stack) {
                let attempts = self.backoff(row).max_attempts;
                self.set_standing(row, Standing::Idle);
                let contact = self.contacts.row_mut(row);
                contact.failures = attempts.saturating_sub(1);
                contact.retry_at = Time::ZERO;
                contact.flags.filling = true;
                self.pursue(row, out);
                return;
            }
            // To the back of the queue.
            self.spent.leave(&mut self.contacts, row);
            self.spent.front(&mut self.contacts);
            self.spent.join(&mut self.contacts, row);
        }
    }

    /// When a candidate could be picked although nothing else happens.
    pub(crate) fn target_wake(&self) -> Time {
        let open = ALL.iter().any(|s| self.candidates[s.index()].len() > 0 && !self.is_target_met(*s));
        let alone = ALL.iter().any(|stack| self.is_alone(*stack));
        match open {
            false if alone && self.may_fill() => self.revive_at,
            true if self.may_fill() => self.now,
            true if self.net.online && !self.draining && self.queue.len() == 0 => self.net.paused_until,
            _ => Time::NEVER,
        }
    }
}

fn contact_budget(max_attempts: u16) -> u16 {
    if max_attempts == 0 { u16::MAX } else { max_attempts }
}
