//! How much of something a peer may send: token buckets with time as an argument, and a bounded memory of them so that
//! reconnecting does not fill a bucket. Pure; no timers.

use peerkeep_core::{PeerKey, Time};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// A token bucket. Starts full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    level: u32,
    at: Time,
}

/// What a bucket holds and how fast it fills.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Tokens in a full bucket.
    pub burst: u32,
    /// Time for one more token.
    pub each: Duration,
}

impl Bucket {
    /// A full one.
    pub const fn full(rate: &Rate, now: Time) -> Bucket {
        Bucket { level: rate.burst, at: now }
    }

    /// Takes up to `count` tokens; gives how many there were.
    pub fn take(&mut self, rate: &Rate, now: Time, count: u32) -> u32 {
        self.refill(rate, now);
        let taken = self.level.min(count);
        self.level -= taken;
        taken
    }

    fn refill(&mut self, rate: &Rate, now: Time) {
        let each = rate.each.as_micros().max(1);
        let fresh = now.since(self.at).as_micros() / each;
        if let Ok(fresh) = u32::try_from(fresh) {
            self.level = self.level.saturating_add(fresh).min(rate.burst);
            self.at = self.at.after(rate.each.saturating_mul(fresh));
        } else {
            *self = Bucket::full(rate, now);
        }
        if self.level == rate.burst {
            self.at = self.at.max(now);
        }
    }

    fn is_full(&mut self, rate: &Rate, now: Time) -> bool {
        self.refill(rate, now);
        self.level == rate.burst
    }
}

/// The buckets of peers that went away before theirs were full again; at most [`Memory::MOST`].
#[derive(Debug)]
pub struct Memory {
    rate: Rate,
    buckets: Mutex<BTreeMap<PeerKey, Bucket>>,
}

impl Memory {
    /// More identities than this start afresh: whoever makes so many needs no memory lost.
    const MOST: usize = 4096;

    /// An empty memory of buckets that fill at that rate.
    pub fn new(rate: Rate) -> Memory {
        Memory { rate, buckets: Mutex::default() }
    }

    /// How fast its buckets fill.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// A peer's bucket: as it was left, or full.
    pub fn recall(&self, peer: &PeerKey, now: Time) -> Bucket {
        let mut buckets = self.buckets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        buckets.remove(peer).unwrap_or(Bucket::full(&self.rate, now))
    }

    /// Keeps the bucket of a peer that goes.
    pub fn keep(&self, peer: PeerKey, mut bucket: Bucket, now: Time) {
        if bucket.is_full(&self.rate, now) {
            return;
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if buckets.len() >= Memory::MOST {
            buckets.pop_first();
        }
        buckets.insert(peer, bucket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 4, each: Duration::from_secs(1) };

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::full(&RATE, Time::ZERO);
        assert_eq!(bucket.take(&RATE, Time::ZERO, 3), 3);
        assert_eq!(bucket.take(&RATE, Time::ZERO, 3), 1);
        assert_eq!(bucket.take(&RATE, Time::from_millis(999), 1), 0);
        assert_eq!(bucket.take(&RATE, Time::from_millis(2500), 9), 2);
        assert_eq!(bucket.take(&RATE, Time::from_millis(3000), 9), 1, "the half second is not lost");
        assert_eq!(bucket.take(&RATE, Time::NEVER, 9), 4);
    }

    #[test]
    fn coming_back_does_not_fill_the_bucket() {
        let (memory, peer) = (Memory::new(RATE), PeerKey::ed25519([1; 32]));
        let mut bucket = memory.recall(&peer, Time::ZERO);
        bucket.take(&RATE, Time::ZERO, 4);
        memory.keep(peer, bucket, Time::ZERO);
        assert_eq!(memory.recall(&peer, Time::from_millis(1000)).take(&RATE, Time::from_millis(1000), 9), 1);
    }

    #[test]
    fn the_memory_is_bounded() {
        let memory = Memory::new(RATE);
        for number in 0..5000u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            memory.keep(PeerKey::ed25519(key), Bucket { level: 0, at: Time::ZERO }, Time::ZERO);
        }
        assert_eq!(memory.buckets.lock().expect("sound").len(), Memory::MOST);
    }
}
