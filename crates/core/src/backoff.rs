//! When to try again. One engine; every document's scheme is a preset of it (SX.4). Pure arithmetic: the caller keeps
//! the counters and supplies the randomness.

use core::time::Duration;
use serde::{Deserialize, Serialize};

/// A retry profile: a fast window after a loss, then growing delays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Backoff {
    /// Delay after the first failure. Default 2 s.
    pub first: Duration,
    /// Growth per failure, per mille: 2,000 doubles. Default 2,000; at least 1,000.
    pub growth_per_mille: u32,
    /// Longest delay. Default 5 min.
    pub max: Duration,
    /// How much of a delay is random, per mille: 300 takes away up to 30 %. Default 300; at most 1,000.
    pub jitter_per_mille: u16,
    /// Attempts before a contact that is merely asked for or known is given up; 0 never. Default 8.
    pub max_attempts: u16,
    /// For this long after losing an established connection, retries come at `fast_interval`. Default 60 s.
    pub fast_window: Duration,
    /// Longest delay within the fast window. Default 1.5 s.
    pub fast_interval: Duration,
    /// A connection must stay up for this long before the attempts are forgotten. Default 10 s: a peer that is restarted every
    /// twenty seconds comes back at once each time, and one that drops what it has accepted does not.
    pub stable: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            first: Duration::from_secs(2),
            growth_per_mille: 2_000,
            max: Duration::from_secs(300),
            jitter_per_mille: 300,
            max_attempts: 8,
            fast_window: Duration::from_secs(60),
            fast_interval: Duration::from_millis(1_500),
            stable: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// Document 000 to the letter: three attempts, at once.
    pub const THREE_AT_ONCE: Backoff = Backoff {
        first: Duration::ZERO,
        growth_per_mille: 1_000,
        max: Duration::ZERO,
        jitter_per_mille: 0,
        max_attempts: 3,
        fast_window: Duration::ZERO,
        fast_interval: Duration::ZERO,
        stable: Duration::from_secs(30),
    };
    /// Document 000 as it is meant: three attempts, spaced.
    pub const THREE_TRIES: Backoff = Backoff {
        first: Duration::from_secs(2),
        growth_per_mille: 2_000,
        max: Duration::from_secs(300),
        jitter_per_mille: 300,
        max_attempts: 3,
        fast_window: Duration::ZERO,
        fast_interval: Duration::ZERO,
        stable: Duration::from_secs(30),
    };
    /// Document 001 after a timeout: exponential.
    pub const AFTER_TIMEOUT: Backoff = Backoff {
        first: Duration::from_secs(1),
        growth_per_mille: 2_000,
        max: Duration::from_secs(300),
        jitter_per_mille: 300,
        max_attempts: 0,
        fast_window: Duration::ZERO,
        fast_interval: Duration::ZERO,
        stable: Duration::from_secs(60),
    };
    /// Document 001 after a violation: slower than after a timeout.
    pub const AFTER_VIOLATION: Backoff =
        Backoff { first: Duration::from_secs(60), max: Duration::from_secs(3_600), ..Backoff::AFTER_TIMEOUT };
    /// Document 002: 5 s doubling, ten attempts.
    pub const TEN_DOUBLING: Backoff = Backoff {
        first: Duration::from_secs(5),
        growth_per_mille: 2_000,
        max: Duration::from_secs(2_560),
        jitter_per_mille: 0,
        max_attempts: 10,
        fast_window: Duration::ZERO,
        fast_interval: Duration::ZERO,
        stable: Duration::from_secs(3_600),
    };
    /// Document 004: three attempts, 5 s apart.
    pub const THREE_SPACED: Backoff = Backoff {
        first: Duration::from_secs(5),
        growth_per_mille: 1_000,
        max: Duration::from_secs(5),
        jitter_per_mille: 0,
        max_attempts: 3,
        fast_window: Duration::ZERO,
        fast_interval: Duration::ZERO,
        stable: Duration::from_secs(30),
    };

    /// The delay after `failures` failures in a row (1 for the first), never above `max`. `random` is uniform.
    pub fn delay(&self, failures: u16, random: u64) -> Duration {
        let mut micros = micros(self.first);
        let most = micros_of_max(self);
        for _ in 1..failures.clamp(1, 64) {
            if micros >= most {
                break;
            }
            micros = micros.saturating_mul(u64::from(self.growth_per_mille)) / 1_000;
        }
        self.jittered(micros.min(most), random)
    }

    /// The delay within the fast window: the first retry after a loss that was not ours comes at once.
    pub fn fast_delay(&self, failures: u16, random: u64) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        self.jittered(micros(self.fast_interval), random)
    }

    /// So many failures that more change nothing any more, misbehaviour aside; 0 when none ever does.
    pub(crate) fn enough(&self) -> u16 {
        if self.max_attempts == 0 && self.first == self.max && self.fast_window == Duration::ZERO {
            return 0;
        }
        let settled = (1..64).find(|n| self.delay(*n, 0) == self.max).unwrap_or(64);
        settled.max(self.max_attempts)
    }

    fn jittered(&self, micros: u64, random: u64) -> Duration {
        // Nothing checks a profile that a caller made for itself; more than all of a delay is all of it.
        let span = micros.saturating_mul(u64::from(self.jitter_per_mille.min(1_000))) / 1_000;
        let cut = if span == 0 { 0 } else { random % (span + 1) };
        Duration::from_micros(micros - cut)
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        const MOST: Duration = Duration::from_secs(30 * 24 * 3600);
        if self.growth_per_mille < 1_000 || self.growth_per_mille > 100_000 {
            return Err("backoff growth");
        }
        if self.jitter_per_mille > 1_000 {
            return Err("backoff jitter");
        }
        if self.first > self.max || self.max > MOST {
            return Err("backoff first and max");
        }
        if self.fast_window > MOST || self.fast_interval > MOST || self.stable > MOST {
            return Err("backoff fast window or stable time");
        }
        Ok(())
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn micros_of_max(backoff: &Backoff) -> u64 {
    micros(backoff.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SX.4
    #[test]
    fn each_documents_scheme_is_a_preset() {
        let secs = |b: Backoff, n| b.delay(n, 0).as_secs();
        assert_eq!([1, 2].map(|n| secs(Backoff::THREE_TRIES, n)), [2, 4]);
        assert_eq!([1, 2, 3].map(|n| secs(Backoff::THREE_AT_ONCE, n)), [0, 0, 0]);
        assert_eq!([1, 2, 3, 9].map(|n| secs(Backoff::AFTER_TIMEOUT, n)), [1, 2, 4, 256]);
        assert_eq!([1, 2, 3].map(|n| secs(Backoff::AFTER_VIOLATION, n)), [60, 120, 240]);
        assert_eq!([1, 2, 3, 10].map(|n| secs(Backoff::TEN_DOUBLING, n)), [5, 10, 20, 2_560]);
        assert_eq!([1, 2, 3].map(|n| secs(Backoff::THREE_SPACED, n)), [5, 5, 5]);
    }

    /// Fault D13: the jitter that spreads redials.
    #[test]
    fn delays_grow_to_the_cap_and_stay_within_the_jitter() {
        let b = Backoff::default();
        for failures in 1..=u16::MAX {
            for random in [0, 1, u64::MAX, 12_345_678_901] {
                let delay = b.delay(failures, random);
                assert!(delay <= b.max);
                assert!(delay >= b.delay(failures, 0).mul_f64(0.699));
            }
            if failures > 70 {
                break;
            }
        }
        assert_eq!(b.delay(40, 0), b.max);
    }

    /// Found by fuzzing: the profile of a caller that asks for more jitter than there is delay.
    #[test]
    fn senseless_profiles_stay_within_their_delays() {
        let b = Backoff { jitter_per_mille: u16::MAX, max: Duration::MAX, ..Backoff::default() };
        for random in [0, 1, u64::MAX] {
            assert!(b.delay(64, random) <= b.max && b.fast_delay(9, random) <= b.fast_interval);
        }
    }

    #[test]
    fn the_first_fast_retry_is_immediate_and_the_rest_at_most_the_interval() {
        let b = Backoff::default();
        assert_eq!(b.fast_delay(0, 77), Duration::ZERO);
        assert!(b.fast_delay(5, 77) <= b.fast_interval);
        assert!(b.fast_delay(5, 77) >= b.fast_interval.mul_f64(0.699));
    }
}
