//! Why a connection is refused, in numbers for the wire and words for people. The only table between the core's
//! refusals and the wire's reasons.

use crate::wire;
use peerkeep_core::{Close, Refusal};
use std::time::Duration;

/// A reason's number on the wire. Unknown numbers are read as `Unsaid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// None given, or one that this code does not know.
    Unsaid = 0,
    /// Another network, or no proof of its secret.
    Network = 1,
    /// No common version.
    Version = 2,
    /// This identity is not on the list of those who may join.
    NotAllowed = 3,
    /// The frame before could not be understood.
    Malformed = 4,
    /// Banned.
    Banned = 5,
    /// A limit is reached.
    Full = 6,
    /// The hello was sent before its sender knew what we know; see the epoch beside it.
    Stale = 7,
    /// There is a connection already.
    Duplicate = 8,
    /// The node is going down.
    Shutdown = 9,
    /// You are me.
    Myself = 10,
    /// Not at this moment.
    NotNow = 11,
}

impl Reason {
    /// Its number.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The reason with that number.
    pub fn from_code(code: u32) -> Reason {
        use Reason::*;
        const ALL: [Reason; 12] = [
            Unsaid, Network, Version, NotAllowed, Malformed, Banned, Full, Stale, Duplicate, Shutdown,
            Myself, NotNow,
        ];
        usize::try_from(code).ok().and_then(|index| ALL.get(index)).copied().unwrap_or(Unsaid)
    }

    /// The same for people, in English.
    pub const fn text(self) -> &'static str {
        match self {
            Reason::Unsaid => "refused without a reason",
            Reason::Network => "another network, or another network secret",
            Reason::Version => "no common version",
            Reason::NotAllowed => "this identity may not join",
            Reason::Malformed => "the greeting could not be understood",
            Reason::Banned => "banned",
            Reason::Full => "no room for another connection",
            Reason::Stale => "an outdated greeting",
            Reason::Duplicate => "connected already",
            Reason::Shutdown => "going down",
            Reason::Myself => "this is the same node",
            Reason::NotNow => "not now",
        }
    }

    /// The frame that says it.
    pub fn refusal(self) -> wire::Refusal {
        wire::Refusal { reason: self.code(), text: self.text().to_owned(), ..Default::default() }
    }
}

/// The frame that tells the core's word.
pub fn turn(why: &Refusal, retry_after: Duration) -> wire::Refusal {
    let (reason, newer_epoch) = match why {
        Refusal::Myself => (Reason::Myself, 0),
        Refusal::Banned { .. } => (Reason::Banned, 0),
        Refusal::Draining => (Reason::Shutdown, 0),
        Refusal::AlreadyConnected => (Reason::Duplicate, 0),
        Refusal::Full(_) => (Reason::Full, 0),
        Refusal::Stale { newer } => (Reason::Stale, *newer),
        Refusal::Unknown
        | Refusal::GaveUp
        | Refusal::NoAddress
        | Refusal::Unwanted
        | Refusal::NotNow
        | Refusal::TheirTurn { .. }
        | Refusal::Backoff { .. }
        | Refusal::Offline
        | Refusal::BadTarget
        | Refusal::BadConfig => (Reason::NotNow, 0),
    };
    let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    wire::Refusal { retry_after_ms, newer_epoch, ..reason.refusal() }
}

/// The same for a dialler that takes itself for connected, because its early hello was answered.
pub fn goodbye(why: &Refusal) -> Close {
    match Reason::from_code(turn(why, Duration::ZERO).reason) {
        Reason::Banned => Close::Banned,
        Reason::Full => Close::Resources,
        Reason::Stale | Reason::Duplicate | Reason::Myself => Close::Duplicate,
        Reason::Shutdown => Close::Shutdown,
        _ => Close::Requested,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back_and_unknown_ones_say_nothing() {
        for code in 0..12 {
            assert_eq!(Reason::from_code(code).code(), code);
        }
        assert_eq!(Reason::from_code(12), Reason::Unsaid);
        assert_eq!(Reason::from_code(u32::MAX), Reason::Unsaid);
    }

    #[test]
    fn a_stale_hello_is_told_the_epoch_we_hold() {
        let said = turn(&Refusal::Stale { newer: 77 }, Duration::from_secs(2));
        assert_eq!((said.reason, said.newer_epoch, said.retry_after_ms), (7, 77, 2000));
    }
}
