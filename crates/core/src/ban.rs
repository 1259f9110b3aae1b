//! One ban table: keys, addresses and subnets, expiring. Never a port. Asked before dialling, at accept and after
//! identification; and the commands that set and lift bans.

use crate::contact::Standing;
use crate::keep::{ALL, MAX_RING};
use crate::slab::{NONE, Slab};
use crate::wheel::Owner;
use crate::{
    Answer, BanRef, Close, Core, Effect, Effects, Limit, PeerKey, Refusal, STACKS, Subnet, Target, Time,
    Told, Who,
};
use alloc::vec;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::time::Duration;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// A ban as others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ban {
    /// What is banned.
    pub target: Target,
    /// When it was set.
    pub set_at: Time,
    /// When it ends; [`Time::NEVER`] when only lifting ends it.
    pub until: Time,
    /// It was lifted or has expired, and is about to be forgotten.
    pub over: bool,
}

/// Hashes keyed by the core's seed, so that nobody outside can choose what collides (fault R4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hasher(pub u64, pub u64);

impl Hasher {
    pub fn of<T: core::hash::Hash>(self, value: &T) -> u64 {
        core::hash::BuildHasher::hash_one(&self, value)
    }
}

impl core::hash::BuildHasher for Hasher {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// A set of targets that answers for an address in one look-up per prefix length in use (at most 128).
#[derive(Clone, Debug)]
pub(crate) struct TargetSet {
    rows: HashTable<(Target, u32)>,
    /// How many subnets of each length.
    lengths: Vec<u32>,
    /// The lengths in use.
    used: Vec<u8>,
    hasher: Hasher,
}

impl TargetSet {
    pub fn new(hasher: Hasher, capacity: usize) -> TargetSet {
        TargetSet {
            rows: HashTable::with_capacity(capacity),
            lengths: vec![0; 129],
            used: Vec::with_capacity(129),
            hasher,
        }
    }

    pub fn insert(&mut self, target: Target, row: u32) {
        let hasher = self.hasher;
        self.rows.insert_unique(hasher.of(&target), (target, row), |(target, _)| hasher.of(target));
        if let Target::Subnet(Subnet { bits, .. }) = target {
            self.lengths[usize::from(bits)] += 1;
            if self.lengths[usize::from(bits)] == 1 {
                self.used.push(bits);
            }
        }
    }

    pub fn remove(&mut self, target: Target) -> Option<u32> {
        let entry = self.rows.find_entry(self.hasher.of(&target), |(have, _)| *have == target).ok()?;
        let ((_, row), _) = entry.remove();
        if let Target::Subnet(Subnet { bits, .. }) = target {
            self.lengths[usize::from(bits)] -= 1;
            if self.lengths[usize::from(bits)] == 0 {
                self.used.retain(|used| *used != bits);
            }
        }
        Some(row)
    }

    pub fn find(&self, target: Target) -> Option<u32> {
        self.rows.find(self.hasher.of(&target), |(have, _)| *have == target).map(|(_, row)| *row)
    }

    pub fn find_key(&self, key: PeerKey) -> Option<u32> {
        if self.rows.is_empty() { None } else { self.find(Target::Key(key)) }
    }

    /// The rows of all subnets that contain `ip`.
    pub fn find_ip(&self, ip: [u8; 16]) -> impl Iterator<Item = u32> + '_ {
        self.used.iter().filter_map(move |bits| self.find(Target::Subnet(Subnet::new(ip, *bits))))
    }
}

/// The table.
#[derive(Clone, Debug)]
pub(crate) struct Bans {
    pub rows: Slab<Ban>,
    index: TargetSet,
    pub exempt: TargetSet,
}

impl Bans {
    pub fn new(hasher: Hasher, capacity: usize, exempt: &[Target]) -> Bans {
        Bans::from_rows(Slab::default(), hasher, capacity, exempt)
    }

    pub fn from_rows(rows: Slab<Ban>, hasher: Hasher, capacity: usize, exempt: &[Target]) -> Bans {
        let mut index = TargetSet::new(hasher, capacity);
        for (row, ban) in rows.iter() {
            if !ban.over {
                index.insert(ban.target, row);
            }
        }
        let mut bans = Bans { rows, index, exempt: TargetSet::new(hasher, exempt.len()) };
        bans.set_exempt(hasher, exempt);
        bans
    }

    pub fn set_exempt(&mut self, hasher: Hasher, exempt: &[Target]) {
        self.exempt = TargetSet::new(hasher, exempt.len());
        for target in exempt {
            if self.exempt.find(*target).is_none() {
                self.exempt.insert(*target, 0);
            }
        }
    }

    /// Until when that key is banned, exemptions considered.
    pub fn key(&self, key: PeerKey) -> Option<Time> {
        let row = self.index.find_key(key)?;
        if self.exempt.find_key(key).is_some() { None } else { Some(self.rows.row(row).until) }
    }

    /// Until when that address is banned: the longest of all bans that hold.
    pub fn ip(&self, ip: [u8; 16]) -> Option<Time> {
        let until = self.index.find_ip(ip).map(|row| self.rows.row(row).until).max()?;
        if self.exempt.find_ip(ip).next().is_some() { None } else { Some(until) }
    }

    pub fn find(&self, target: Target) -> Option<u32> {
        self.index.find(target)
    }

    pub fn insert(&mut self, ban: Ban) -> BanRef {
        let (row, generation) = self.rows.insert(ban);
        self.index.insert(ban.target, row);
        BanRef { row, generation }
    }

    /// Takes it out of effect; the row stays readable until `forget`.
    pub fn end(&mut self, row: u32) {
        let ban = self.rows.row_mut(row);
        ban.over = true;
        let target = ban.target;
        self.index.remove(target);
    }

    pub fn forget(&mut self, row: u32) {
        self.rows.remove(row);
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

impl Core {
    /// Bans a key or a subnet: what is connected or on its way is closed, at once for a key, by a sweep for a subnet.
    pub(crate) fn handle_ban(
        &mut self,
        target: Target,
        span: Option<Duration>,
        out: &mut Effects,
    ) -> Result<Answer, Refusal> {
        let senseless = match target {
            Target::Key(key) => key == self.cfg.me,
            Target::Subnet(subnet) => subnet.bits > 128 || subnet.is_too_wide(),
        };
        if senseless || self.bans.exempt.find(target).is_some() {
            return Err(Refusal::BadTarget);
        }
        let until = span.map_or(Time::NEVER, |span| self.now + span);
        let ban = match self.bans.find(target) {
            Some(row) => {
                self.bans.rows.row_mut(row).until = until;
                BanRef { row, generation: self.bans.rows.generation(row) }
            }
            None if self.bans.len() >= self.cfg.limits.bans as usize => {
                return Err(Refusal::Full(Limit::Bans));
            }
            None => self.bans.insert(Ban { target, set_at: self.now, until, over: false }),
        };
        self.wheel.arm(Owner::Ban(ban.row), until);
        self.emit(out, Effect::StoreBan { ban });
        match target {
            Target::Key(key) => self.expel_all(key, out),
            Target::Subnet(subnet) => {
                self.sweep.many |= self.sweep.subnet.is_some();
                self.sweep.subnet = Some(subnet);
                self.start_sweep();
            }
        }
        Ok(Answer::Done)
    }

    fn expel_all(&mut self, key: PeerKey, out: &mut Effects) {
        for row in self.contacts_of(key) {
            self.expel(row, out);
            self.tell(row, NONE, Told::Banned, out);
        }
    }

    /// Every contact that a ban of `key` is about: those of that key, on all stacks, and whoever is one peer with them.
    fn contacts_of(&self, key: PeerKey) -> ArrayVec<u32, { STACKS * MAX_RING }> {
        let mut rows = ArrayVec::new();
        for stack in ALL {
            let Some(row) = self.find_row(&Who { stack, key }) else { continue };
            for row in self.ring(row) {
                if !rows.contains(&row) {
                    rows.push(row);
                }
            }
        }
        rows
    }

    /// Ends everything with a contact whose peer is banned.
    pub(crate) fn expel(&mut self, row: u32, out: &mut Effects) {
        self.close_all(row, Close::Banned, out);
        let flags = &mut self.contacts.row_mut(row).flags;
        flags.asked = false;
        flags.filling = false;
        self.set_standing(row, Standing::Idle);
        self.settle(row, out);
    }

    pub(crate) fn handle_unban(&mut self, target: Target, out: &mut Effects) -> Result<Answer, Refusal> {
        let row = self.bans.find(target).ok_or(Refusal::Unknown)?;
        self.on_ban_expired(row, out);
        Ok(Answer::Done)
    }

    /// The ban is over, by time or by word. Wanted contacts it kept away come back by their own timers.
    pub(crate) fn on_ban_expired(&mut self, row: u32, out: &mut Effects) {
        self.wheel.disarm(Owner::Ban(row));
        let ban = BanRef { row, generation: self.bans.rows.generation(row) };
        self.bans.end(row);
        self.ended_bans.push(row);
        self.emit(out, Effect::StoreBan { ban });
        let Target::Key(key) = self.bans.rows.row(row).target else { return };
        for row in self.contacts_of(key) {
            if self.banned_until(row).is_some() {
                // By another of the peer's keys.
                continue;
            }
            self.tell(row, NONE, Told::Unbanned, out);
            let contact = self.contacts.row_mut(row);
            contact.flags.resting = false;
            contact.retry_at = self.now;
            if contact.standing == Standing::Idle {
                self.settle(row, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Addr;

    fn ip(text: &str) -> [u8; 16] {
        Addr::tcp(text.parse().expect("an address")).ip
    }

    #[test]
    fn fault_i6_overlapping_bans_answer_with_the_longest_and_lift_one_by_one() {
        let mut bans = Bans::new(Hasher(1, 2), 8, &[]);
        let wide = Target::Subnet(Subnet::new(ip("10.1.2.3:1"), 96 + 16));
        let host = Target::Subnet(Subnet::host(ip("10.1.2.3:1")));
        let ban = |target, until| Ban { target, set_at: Time(0), until: Time(until), over: false };
        let first = bans.insert(ban(wide, 50));
        bans.insert(ban(host, 20));
        assert_eq!(bans.ip(ip("10.1.2.3:9")), Some(Time(50)));
        assert_eq!(bans.ip(ip("[::ffff:10.1.9.9]:9")), Some(Time(50)), "v4-mapped is the same address");
        bans.end(first.row);
        bans.forget(first.row);
        assert_eq!(bans.ip(ip("10.1.2.3:9")), Some(Time(20)));
        assert_eq!(bans.ip(ip("10.1.9.9:9")), None);
    }

    #[test]
    fn exemptions_win() {
        let key = PeerKey::ed25519([7; 32]);
        let trusted = Target::Subnet(Subnet::host(ip("10.1.2.3:1")));
        let mut bans = Bans::new(Hasher(1, 2), 8, &[trusted, Target::Key(key)]);
        for target in [Target::Key(key), Target::Subnet(Subnet::new(ip("10.1.2.3:1"), 96 + 8))] {
            bans.insert(Ban { target, set_at: Time(0), until: Time::NEVER, over: false });
        }
        assert_eq!(bans.key(key), None);
        assert_eq!(bans.ip(ip("10.1.2.3:1")), None);
        assert_eq!(bans.ip(ip("10.1.2.4:1")), Some(Time::NEVER));
    }
}
