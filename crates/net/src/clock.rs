//! The node's clock: turns the machine's monotonic clock into the core's [`Time`] and back. The only place in net that
//! reads a clock for the core; it keeps no timers.

use peerkeep_core::Time;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// When the node started; everything is counted from there. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// A clock whose zero is now.
    pub fn start() -> Clock {
        Clock { zero: Instant::now() }
    }

    /// Microseconds since zero.
    pub fn now(&self) -> Time {
        Time::ZERO.after(self.zero.elapsed())
    }

    /// When to wake for what is due at `at`: up to 33 ms late, so that timers due close together are one wake-up, of the
    /// owner and of every shard it then gives orders.
    pub(crate) fn gather(at: Time, now: Time) -> Time {
        const STEP_US: u64 = 1 << 15;
        if at > now { Time(at.0.checked_next_multiple_of(STEP_US).unwrap_or(at.0)) } else { at }
    }

    /// The instant of a core time, for tokio's timers. Times too far ahead become a year from zero.
    pub fn instant(&self, time: Time) -> tokio::time::Instant {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        tokio::time::Instant::from_std(self.zero + time.since(Time::ZERO).min(YEAR))
    }

    /// The wall clock: milliseconds since 1970, UTC; 0 when it stands before that.
    pub fn unix_ms() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_gathered_and_never_early_or_late_by_much() {
        let now = Time::from_millis(1_000);
        let mut wakes = Vec::new();
        for us in (1_000_001..2_000_000).step_by(997) {
            let wake = Clock::gather(Time(us), now);
            assert!(wake >= Time(us) && wake.since(Time(us)) < Duration::from_millis(33), "{us}: {wake:?}");
            wakes.push(wake);
        }
        wakes.dedup();
        assert!(wakes.len() <= 32, "{}", wakes.len());
        assert_eq!(Clock::gather(Time(999_999), now), Time(999_999), "what is overdue does not wait");
        assert_eq!(Clock::gather(Time::NEVER, now), Time::NEVER);
    }
}
