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
