//! Whether the machine has slept: the clock that counts sleep runs ahead of the one that does not (fault C9). The wall
//! clock cannot tell a sleep from somebody who sets it.

use std::time::Duration;

/// The gap between the two clocks as it was last seen.
#[derive(Debug, Default)]
pub(crate) struct Sleep {
    gap: Option<Duration>,
}

/// Less than this is no sleep that a peer could have noticed.
const NAP: Duration = Duration::from_secs(1);

impl Sleep {
    /// How long the machine has slept since this was last asked; `None` for not, or where it cannot be told.
    pub fn look(&mut self) -> Option<Duration> {
        self.handle(gap()?)
    }

    fn handle(&mut self, gap: Duration) -> Option<Duration> {
        let before = self.gap.replace(gap)?;
        gap.checked_sub(before).filter(|slept| *slept >= NAP)
    }
}

#[cfg(target_os = "linux")]
fn gap() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| {
        let time = clock_gettime(clock);
        let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
        Some(Duration::new(seconds, nanos))
    };
    // In this order a pause between the two only makes the gap smaller.
    let boot = read(ClockId::Boottime)?;
    boot.checked_sub(read(ClockId::Monotonic)?).or(Some(Duration::ZERO))
}

#[cfg(not(target_os = "linux"))]
fn gap() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_c9_a_sleep_is_told_once_and_clocks_that_drift_are_no_sleep() {
        let mut sleep = Sleep::default();
        let at = Duration::from_millis;
        assert_eq!(sleep.handle(at(5_000)), None, "the first look knows nothing to compare with");
        assert_eq!(sleep.handle(at(5_003)), None);
        assert_eq!(sleep.handle(at(65_003)), Some(Duration::from_secs(60)));
        assert_eq!(sleep.handle(at(65_003)), None, "once");
        assert_eq!(sleep.handle(at(65_000)), None, "and never back");
    }

    #[test]
    fn a_machine_that_is_awake_does_not_sleep() {
        let mut sleep = Sleep::default();
        assert_eq!((sleep.look(), sleep.look()), (None, None));
    }
}
