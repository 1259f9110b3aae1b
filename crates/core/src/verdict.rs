//! The only table from what went wrong to what follows: a penalty, how to come back, a ban.

use crate::{Close, End, FaultKind, Violation};
use core::time::Duration;

/// How to come back to a contact whose connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Return {
    /// Fast window: it is expected back soon.
    Fast,
    /// The profile's backoff.
    Backoff,
    /// They let us go on purpose: a lasting wish comes back by backoff, the target not for [`COOL_DOWN`].
    CoolDown,
    /// They misbehaved or banned us: much slower.
    Slow,
    /// Not by ourselves, unless it is wanted.
    Stay,
}

/// After an established connection: by our reason if we ended it, else by theirs.
pub(crate) const fn after_loss(ours: Option<Close>, end: End) -> Return {
    match (ours, end) {
        (Some(why), _) => match why {
            Close::Dead | Close::Replaced | Close::Duplicate => Return::Fast,
            Close::Requested | Close::Idle | Close::Banned | Close::Shutdown | Close::Cancelled => {
                Return::Stay
            }
            Close::Violation => Return::Slow,
            Close::Resources | Close::Timeout => Return::Backoff,
        },
        (None, End::Goodbye(why)) => match why {
            Close::Shutdown | Close::Dead | Close::Replaced | Close::Duplicate => Return::Fast,
            Close::Requested | Close::Cancelled => Return::CoolDown,
            Close::Resources | Close::Timeout => Return::Backoff,
            Close::Idle => Return::Stay,
            Close::Banned | Close::Violation => Return::Slow,
        },
        (None, End::Fault(_) | End::Asked) => Return::Fast,
        (None, End::Violation(_)) => Return::Slow,
    }
}

/// How long a peer that disconnected us on purpose is not picked to fill the target.
pub(crate) const COOL_DOWN: Duration = Duration::from_secs(600);

/// Whether an attempt that failed so should be followed by a slow return.
pub(crate) const fn is_slow_fault(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::Network | FaultKind::Version | FaultKind::Identity)
}

/// What the user is told about how a connection was lost.
pub(crate) const fn lost_reason(end: End) -> Close {
    match end {
        End::Goodbye(why) => why,
        End::Violation(_) => Close::Violation,
        End::Asked | End::Fault(_) => Close::Dead,
    }
}

/// What a violation costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Penalty {
    /// Points; [`BAN_AT`] of them ban the key.
    pub points: u16,
    /// Whether the conn is closed.
    pub close: bool,
}

/// Points at which a key is banned for [`BAN_SPAN`].
pub(crate) const BAN_AT: u16 = 100;
/// How long points ban.
pub(crate) const BAN_SPAN: Duration = Duration::from_secs(3_600);

/// The price list.
pub(crate) const fn penalty(what: Violation) -> Penalty {
    let (points, close) = match what {
        Violation::Malformed | Violation::TooLarge | Violation::OutOfOrder => (25, true),
        Violation::BadProof | Violation::Lie => (35, true),
        Violation::StreamAbuse => (50, true),
        Violation::TooMuch => (5, false),
        Violation::WrongNetwork => (10, true),
        Violation::BannedAgent => (BAN_AT, true),
    };
    Penalty { points, close }
}
