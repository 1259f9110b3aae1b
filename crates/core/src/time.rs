//! The core's clock value. It is always an argument: nothing here, or anywhere in this crate, can read a clock.

use core::ops::{Add, Sub};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// Microseconds since the owner's own zero (net uses the moment the node started). Monotonic; a `now` that goes
/// back is clamped by [`crate::Core::step`] and counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// The owner's zero.
    pub const ZERO: Time = Time(0);
    /// Later than every deadline: "never".
    pub const NEVER: Time = Time(u64::MAX);

    /// A time that many milliseconds after zero.
    pub const fn from_millis(ms: u64) -> Time {
        Time(ms.saturating_mul(1_000))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// This time and `span` after it; `NEVER` when that does not fit (fault T-5).
    pub fn after(self, span: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, span: Duration) -> Time {
        self.after(span)
    }
}

impl Sub for Time {
    type Output = Duration;
    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}
