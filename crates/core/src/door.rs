//! The door: `Core::new`, `Core::step`, `Core::next_wake`. It hands each action to the file that decides about it, and
//! does the chores between actions. It decides nothing itself.

use crate::ban::{Bans, Hasher};
use crate::digest::Digest;
use crate::keep::ALL;
use crate::list::{Line, Queue};
use crate::shed::Shed;
use crate::slab::Slab;
use crate::state::{Core, Sweep, Weather};
use crate::wheel::{Owner, Wheel};
use crate::{
    Action, Answer, Change, Command, CommandId, Config, ConfigError, Effect, Effects, Fact, Fault, FaultKind,
    Refusal, Stage, Step, Time,
};
use crate::{Counts, Stats};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;
use hashbrown::{HashMap, HashTable};

/// Timers fired per step at most; the rest follow in the next (fault T-4).
const TIMERS_PER_STEP: u32 = 128;

/// After a change of our network, what fails for so long is ours: two probes and an attempt fit into it.
const UNSETTLED: Duration = Duration::from_secs(30);

impl Core {
    /// A new state machine. `seed` feeds jitter and hashing only, never a secret. `now` is the owner's time.
    ///
    /// # Errors
    /// What does not hold together in `config`.
    pub fn new(config: Config, seed: [u8; 32], now: Time) -> Result<Core, ConfigError> {
        config.check()?;
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&seed[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let hasher = Hasher(word(0), word(8));
        let limits = &config.limits;
        let room = |limit: u32| limit as usize;
        Ok(Core {
            hasher,
            random: word(16),
            now,
            digest: Digest(word(24)),
            contacts: Slab::default(),
            overflow: Slab::default(),
            index: HashTable::with_capacity(room(limits.contacts)),
            conns: Slab::default(),
            bans: Bans::new(hasher, room(limits.bans.min(1_024)), &config.exempt),
            wheel: Wheel::new(now),
            counts: Counts::default(),
            per_ip: HashMap::with_capacity_and_hasher(room(limits.total), hasher),
            per_subnet: HashMap::with_capacity_and_hasher(room(limits.total), hasher),
            dials: VecDeque::with_capacity(room(limits.dials_per_minute.min(4_096))),
            queue: Queue::new(Line::Slots, 64),
            queue_wake: Time::NEVER,
            candidates: ALL.map(|stack| Queue::new(Line::candidates(stack), 64)),
            spent: Queue::new(Line::Spent, 64),
            revive_at: Time::ZERO,
            sweep: Sweep::default(),
            shed: Shed::default(),
            net: Weather {
                online: true,
                paused_until: Time::ZERO,
                local_faults: 0,
                unsettled_until: Time::ZERO,
            },
            doomed: Vec::new(),
            ended_bans: Vec::new(),
            last_dial: 0,
            draining: false,
            stats: Stats::default(),
            work: 0,
            cfg: config,
        })
    }

    /// The one way in. Never fails, never blocks, allocates nothing once warm (tables at their working size).
    ///
    /// A `now` earlier than the last one is clamped and counted. The cost does not depend on how many peers there are.
    pub fn step(&mut self, now: Time, action: &Action, out: &mut Effects) {
        if now < self.now {
            self.stats.clock_back += 1;
        }
        self.now = self.now.max(now);
        self.stats.actions += 1;
        self.digest.mix(self.now.0);
        self.forget_what_ended();
        self.prune_dials();
        match action {
            Action::Wake => {}
            Action::Clock { .. } => {}
            Action::Network(change) => self.handle_network(*change),
            Action::Do(id, command) => {
                let answer = self.handle_command(command, out);
                self.emit(out, Effect::Reply { to: *id, answer });
            }
            Action::Saw(fact) => self.handle_fact(fact, out),
        }
        self.fire_timers(out);
        self.sweep_some(out);
        self.shed_some(out);
        self.drain_queue(out);
        self.fill_targets(out);
    }

    /// When to step next if nothing else happens; `None` when nothing is due. O(1).
    pub fn next_wake(&self) -> Option<Time> {
        if self.sweep.active || !self.doomed.is_empty() || !self.ended_bans.is_empty() {
            return Some(self.now);
        }
        let target = self.target_wake();
        let timer = self.wheel.next().unwrap_or(Time::NEVER);
        let at = self.queue_wake.min(target).min(timer).min(self.shed_wake());
        (at != Time::NEVER).then(|| at.max(self.now))
    }

    /// A number that two runs share as long as they have made the same decisions.
    pub fn digest(&self) -> u64 {
        self.digest.0
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.cfg
    }

    /// What happened since birth.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Rows touched by loops since birth, for the test that no step is proportional to the number of peers.
    pub fn work(&self) -> u64 {
        self.work
    }

    fn handle_command(&mut self, command: &Command, out: &mut Effects) -> Answer {
        let result = match command {
            Command::Connect { who, addrs, named } => self.handle_connect(who, addrs, *named, out),
            Command::Want { who, addrs, named } => self.handle_want(who, addrs, *named, out),
            Command::Unwant(who) => self.handle_unwant(who, out),
            Command::Disconnect(who) => self.handle_disconnect(who, out),
            Command::Cancel(who) => self.handle_cancel(who, out),
            Command::Retry(who) => self.handle_retry(who, out),
            Command::Reset(who) => self.handle_reset(who, out),
            Command::Hold { who, on } => self.handle_hold(who, *on, out),
            Command::Ban { target, span } => self.handle_ban(*target, *span, out),
            Command::Unban(target) => self.handle_unban(*target, out),
            Command::Forget(who) => self.handle_forget(who, out),
            Command::Configure(config) => self.handle_configure(config, out),
            Command::Replace(who) => self.handle_replace(who, out),
            Command::Shutdown => {
                self.draining = true;
                self.start_sweep();
                Ok(Answer::Done)
            }
        };
        result.unwrap_or_else(Answer::No)
    }

    fn handle_fact(&mut self, fact: &Fact, out: &mut Effects) {
        match fact {
            Fact::Learned { who, addrs, source } => self.handle_learned(who, addrs, *source, out),
            Fact::Bound { a, b } => self.handle_bound(a, b, out),
            Fact::Arrived { ticket, stack, remote } => self.handle_arrived(*ticket, *stack, *remote, out),
            Fact::Recalled { who, failures, wait } => self.handle_recalled(who, *failures, *wait, out),
            Fact::TurnedAway { count } => self.stats.turned_away += u64::from(*count),
            Fact::Resolved { conn, .. }
            | Fact::Missed { conn, .. }
            | Fact::Met { conn, .. }
            | Fact::Declined { conn, .. }
            | Fact::Ready { conn }
            | Fact::Routed { conn, .. }
            | Fact::Reported { conn, .. }
            | Fact::Violated { conn, .. }
            | Fact::Gone { conn, .. } => match self.conn_row(*conn) {
                Some(row) => self.handle_conn_fact(row, fact, out),
                None => self.stats.late_facts += 1,
            },
        }
    }

    fn handle_conn_fact(&mut self, row: u32, fact: &Fact, out: &mut Effects) {
        match fact {
            Fact::Resolved { addrs, .. } => self.handle_resolved(row, addrs, out),
            // Who did not dial has no address that could fail.
            Fact::Missed { .. } if !self.conns.row(row).is_outbound() => self.stats.late_facts += 1,
            Fact::Missed { addr, fault, .. } => self.handle_missed(row, *addr, *fault),
            Fact::Met { key, at, greeting, .. } => self.handle_met(row, *key, *at, *greeting, out),
            Fact::Declined { key, at, code, retry_after, newer_epoch, .. } => {
                let fault = Fault { step: Step::Hello, kind: FaultKind::Declined, detail: *code };
                if self.note_declined(row, fault, *retry_after, *newer_epoch) {
                    self.handle_declined(row, *key, *at, out);
                }
            }
            Fact::Ready { .. } => self.handle_ready(row, out),
            Fact::Routed { .. } => {
                let conn = self.conns.row(row);
                match (conn.stage, conn.contact) {
                    (Stage::Closing, _) | (_, crate::slab::NONE) => self.stats.late_facts += 1,
                    (_, contact) => self.tell(contact, row, crate::Told::Routed, out),
                }
            }
            Fact::Reported { report, .. } => self.handle_report(row, *report),
            Fact::Violated { what, .. } => self.handle_violated(row, *what, out),
            Fact::Gone { end, .. } => self.handle_gone(row, *end, out),
            _ => {}
        }
    }

    fn handle_network(&mut self, change: Change) {
        match change {
            Change::Offline => self.net.online = false,
            Change::Online | Change::Moved => {
                self.net.unsettled_until = self.now + UNSETTLED;
                self.net.online = true;
                self.net.local_faults = 0;
                self.net.paused_until = Time::ZERO;
                self.sweep.probe = true;
                self.start_sweep();
            }
        }
    }

    fn handle_configure(&mut self, config: &Config, out: &mut Effects) -> Result<Answer, Refusal> {
        let same_node = config.me == self.cfg.me && config.epoch == self.cfg.epoch;
        if !same_node || config.check().is_err() {
            return Err(Refusal::BadConfig);
        }
        self.cfg = config.clone();
        self.bans.set_exempt(self.hasher, &self.cfg.exempt);
        self.sweep.all = true;
        self.start_sweep();
        self.start_shedding();
        self.sweep_some(out);
        Ok(Answer::Done)
    }

    fn fire_timers(&mut self, out: &mut Effects) {
        for _ in 0..TIMERS_PER_STEP {
            let Some(owner) = self.wheel.pop(self.now) else { break };
            self.work += 1;
            match owner {
                Owner::Contact(row) => self.on_contact_timer(row, out),
                Owner::Conn(row) => self.on_conn_timer(row, out),
                Owner::Ban(row) => self.on_ban_expired(row, out),
            }
        }
    }

    /// Rows whose last effects the caller had until this step to look at.
    fn forget_what_ended(&mut self) {
        while let Some(row) = self.ended_bans.pop() {
            self.bans.forget(row);
        }
        while let Some(row) = self.doomed.pop() {
            self.remove_contact(row);
        }
    }

    /// A doomed contact is forgotten at the start of the step after its last conn is gone.
    pub(crate) fn doom_if_alone(&mut self, row: u32) {
        let contact = self.contacts.row(row);
        if contact.flags.doomed && contact.conn_count == 0 && !self.doomed.contains(&row) {
            self.doomed.push(row);
        }
    }
}

/// So that callers outside need not know what a command's number is made of.
impl From<u32> for CommandId {
    fn from(number: u32) -> CommandId {
        CommandId(number)
    }
}
