//! Wall-clock moments and the way they are written: RFC 3339 in UTC. Nothing here is used to decide anything; the core
//! has its own clock.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment of the wall clock in milliseconds since 1970, UTC. Written as `2026-01-29T12:00:00.000Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub u64);

/// The last moment RFC 3339 can write: the end of the year 9999.
const LAST_MS: u64 = 253_402_300_799_999;

impl Timestamp {
    /// The wall clock now; 1970 when the clock stands before it.
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(LAST_MS).min(LAST_MS))
    }

    /// That many milliseconds later, at most the end of the year 9999.
    pub fn after(self, span: Duration) -> Timestamp {
        let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(ms).min(LAST_MS))
    }

    /// That much earlier, at the earliest 1970.
    pub fn before(self, span: Duration) -> Timestamp {
        let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_sub(ms))
    }

    /// How long after `earlier` this is; zero when it is before.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since 1970.
    pub const fn unix_seconds(self) -> u64 {
        self.0 / 1_000
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_millis(self.0.min(LAST_MS));
        fmt::Display::fmt(&humantime::format_rfc3339_millis(time), f)
    }
}

impl FromStr for Timestamp {
    type Err = humantime::TimestampError;
    fn from_str(text: &str) -> Result<Timestamp, Self::Err> {
        let time = humantime::parse_rfc3339(text)?;
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Timestamp(u64::try_from(since.as_millis()).unwrap_or(LAST_MS)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339_in_utc() {
        let moment = Timestamp(1_769_688_000_250);
        assert_eq!(moment.to_string(), "2026-01-29T12:00:00.250Z");
        assert_eq!("2026-01-29T12:00:00.250Z".parse::<Timestamp>().ok(), Some(moment));
    }

    #[test]
    fn no_moment_overflows() {
        assert!(Timestamp(u64::MAX).to_string().starts_with("9999-12-31"));
        assert_eq!(Timestamp(5).after(Duration::MAX).0, LAST_MS);
        assert_eq!(Timestamp(5).before(Duration::MAX).0, 0);
    }
}
