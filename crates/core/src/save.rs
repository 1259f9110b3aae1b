//! The core as bytes and back: the checkpoint at the head of every journal segment. O(n), the only such act. What can
//! be rebuilt is not saved; what comes from outside is checked before it is believed.

use crate::ban::{Ban, Bans, Hasher};
use crate::conn::Conn;
use crate::contact::{Contact, Overflow};
use crate::digest::Digest;
use crate::list::Queue;
use crate::shed::Shed;
use crate::slab::Slab;
use crate::state::{Core, DialMark, PerIp, PerSubnet, Sweep, Weather};
use crate::wheel::{Owner, Wheel};
use crate::{Config, STACKS, Target, Time};
use crate::{Counts, Stats};
use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hashbrown::{HashMap, HashTable};
use serde::{Deserialize, Serialize};

/// Rises when the saved form changes; another version is refused (fault K5).
pub const SAVE_VERSION: u32 = 2;

/// Why bytes are not a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// Another version of the format.
    Version(u32),
    /// The bytes cannot be parsed.
    Malformed,
    /// They can, but what they say contradicts itself.
    Broken(&'static str),
}

#[derive(Serialize, Deserialize)]
struct Saved<'a> {
    cfg: Cow<'a, Config>,
    hasher: Hasher,
    random: u64,
    now: Time,
    digest: Digest,
    contacts: Cow<'a, Slab<Contact>>,
    overflow: Cow<'a, Slab<Overflow>>,
    conns: Cow<'a, Slab<Conn>>,
    bans: Cow<'a, Slab<Ban>>,
    wheel: Cow<'a, Wheel>,
    counts: Cow<'a, Counts>,
    dials: Cow<'a, VecDeque<DialMark>>,
    queue: Cow<'a, Queue>,
    queue_wake: Time,
    candidates: Cow<'a, [Queue; STACKS]>,
    spent: Cow<'a, Queue>,
    revive_at: Time,
    sweep: Sweep,
    shed: Cow<'a, Shed>,
    net: Weather,
    doomed: Cow<'a, [u32]>,
    ended_bans: Cow<'a, [u32]>,
    last_dial: u32,
    draining: bool,
    stats: Stats,
}

impl Core {
    /// Appends the whole state to `out`. Holds no secret: keys in it are public ones.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&SAVE_VERSION.to_le_bytes());
        let saved = Saved {
            cfg: Cow::Borrowed(&self.cfg),
            hasher: self.hasher,
            random: self.random,
            now: self.now,
            digest: self.digest,
            contacts: Cow::Borrowed(&self.contacts),
            overflow: Cow::Borrowed(&self.overflow),
            conns: Cow::Borrowed(&self.conns),
            bans: Cow::Borrowed(&self.bans.rows),
            wheel: Cow::Borrowed(&self.wheel),
            counts: Cow::Borrowed(&self.counts),
            dials: Cow::Borrowed(&self.dials),
            queue: Cow::Borrowed(&self.queue),
            queue_wake: self.queue_wake,
            candidates: Cow::Borrowed(&self.candidates),
            spent: Cow::Borrowed(&self.spent),
            revive_at: self.revive_at,
            sweep: self.sweep,
            shed: Cow::Borrowed(&self.shed),
            net: self.net,
            doomed: Cow::Borrowed(&self.doomed),
            ended_bans: Cow::Borrowed(&self.ended_bans),
            last_dial: self.last_dial,
            draining: self.draining,
            stats: self.stats,
        };
        let at = core::mem::take(out);
        *out = postcard::to_extend(&saved, at).expect("writing to memory cannot fail");
    }

    /// Reads a state back, which need not be trusted.
    ///
    /// # Errors
    /// See [`LoadError`]. Nothing that is returned without one breaks an invariant.
    pub fn load(bytes: &[u8]) -> Result<Core, LoadError> {
        let (version, body) = bytes.split_first_chunk::<4>().ok_or(LoadError::Malformed)?;
        let version = u32::from_le_bytes(*version);
        if version != SAVE_VERSION {
            return Err(LoadError::Version(version));
        }
        let saved: Saved<'_> = postcard::from_bytes(body).map_err(|_| LoadError::Malformed)?;
        saved.cfg.check().map_err(|_| LoadError::Broken("configuration"))?;
        if !(saved.contacts.is_sound()
            && saved.overflow.is_sound()
            && saved.conns.is_sound()
            && saved.bans.is_sound()
            && saved.wheel.is_sound())
        {
            return Err(LoadError::Broken("tables"));
        }
        let sensible = |(_, ban): (u32, &Ban)| !matches!(ban.target, Target::Subnet(net) if net.bits > 128);
        if !saved.bans.iter().all(sensible) {
            return Err(LoadError::Broken("bans"));
        }
        let core = Core::rebuild(saved)?;
        core.check().map_err(|broken| LoadError::Broken(broken.0))?;
        Ok(core)
    }

    fn rebuild(saved: Saved<'_>) -> Result<Core, LoadError> {
        let (hasher, cfg) = (saved.hasher, saved.cfg.into_owned());
        let bans = saved.bans.into_owned();
        let mut core = Core {
            hasher,
            random: saved.random,
            now: saved.now,
            digest: saved.digest,
            contacts: saved.contacts.into_owned(),
            overflow: saved.overflow.into_owned(),
            index: HashTable::new(),
            conns: saved.conns.into_owned(),
            bans: Bans::from_rows(bans, hasher, cfg.limits.bans.min(1_024) as usize, &cfg.exempt),
            wheel: saved.wheel.into_owned(),
            counts: saved.counts.into_owned(),
            per_ip: HashMap::with_hasher(hasher),
            per_subnet: HashMap::with_hasher(hasher),
            dials: saved.dials.into_owned(),
            queue: saved.queue.into_owned(),
            queue_wake: saved.queue_wake,
            candidates: saved.candidates.into_owned(),
            spent: saved.spent.into_owned(),
            revive_at: saved.revive_at,
            sweep: saved.sweep,
            shed: saved.shed.into_owned(),
            net: saved.net,
            doomed: saved.doomed.into_owned(),
            ended_bans: saved.ended_bans.into_owned(),
            last_dial: saved.last_dial,
            draining: saved.draining,
            stats: saved.stats,
            work: 0,
            cfg,
        };
        let (doomed_ok, ended_ok) = (
            core.doomed.iter().all(|row| core.contacts.live(*row).is_some_and(|c| c.conn_count == 0)),
            core.ended_bans.iter().all(|row| core.bans.rows.live(*row).is_some_and(|ban| ban.over)),
        );
        if !doomed_ok || !ended_ok {
            return Err(LoadError::Broken("rows about to be forgotten"));
        }
        let lives = |owner| match owner {
            Owner::Contact(row) => core.contacts.live(row).is_some(),
            Owner::Conn(row) => core.conns.live(row).is_some(),
            Owner::Ban(row) => core.bans.rows.live(row).is_some_and(|ban| !ban.over),
        };
        if !core.wheel.armed().all(lives) {
            return Err(LoadError::Broken("a timer of nobody"));
        }
        if !core.is_shed_sound() {
            return Err(LoadError::Broken("a look beyond the end"));
        }
        core.rebuild_indexes();
        Ok(core)
    }

    fn rebuild_indexes(&mut self) {
        let (hasher, contacts) = (self.hasher, &self.contacts);
        let room = contacts.len().max(self.cfg.limits.contacts.min(1 << 20) as usize);
        let mut index = HashTable::with_capacity(room);
        for (row, contact) in contacts.iter() {
            index.insert_unique(hasher.of(&contact.who), row, |row| hasher.of(&contacts.row(*row).who));
        }
        self.index = index;
        let (per_ip, per_subnet) = self.recount_addresses();
        self.per_ip = per_ip;
        self.per_subnet = per_subnet;
    }

    /// The address counters as they should be.
    pub(crate) fn recount_addresses(&self) -> (PerIp, PerSubnet) {
        let mut per_ip: PerIp = HashMap::with_hasher(self.hasher);
        let mut per_subnet: PerSubnet = HashMap::with_hasher(self.hasher);
        for (_, conn) in self.conns.iter().filter(|(_, conn)| conn.courtesy.is_none()) {
            for ip in conn.counted_ips() {
                per_ip.entry(ip).or_default().conns += 1;
            }
            for subnet in conn.counted_subnets() {
                *per_subnet.entry(subnet).or_default() += 1;
            }
        }
        for mark in &self.dials {
            per_ip.entry(mark.ip).or_default().dials += 1;
        }
        (per_ip, per_subnet)
    }

    pub(crate) fn is_row(&self, row: u32) -> bool {
        self.contacts.live(row).is_some()
    }
}
