//! A refused connection in document 001's words. They are fewer than ours: what has none there stays a [`Reason`].

use crate::{CommandError, LimitName, Reason};
use serde::{Deserialize, Serialize};

/// Why no connection is established, as document 001 names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "error")]
pub enum EstablishError {
    /// As many connections are being set up as may be.
    #[error("too many connections are being set up")]
    TooManyPendingConnections,
    /// A ban applies to the peer or its address.
    #[error("the peer is banned")]
    PeerBanned,
    /// Another limit is reached.
    #[error("the limit on {limit} is reached")]
    ConnectionLimitReached {
        /// Which one.
        limit: LimitName,
    },
    /// It is connected, or being connected, already.
    #[error("the peer is connected already")]
    AlreadyConnected,
    /// There is no address that may be dialled.
    #[error("no address of the peer is known")]
    PeerAddressUnknown,
}

impl EstablishError {
    /// The word for a reason; nothing where document 001 has none.
    pub const fn of(reason: Reason) -> Option<EstablishError> {
        Some(match reason {
            Reason::Full { limit: LimitName::Pending } => EstablishError::TooManyPendingConnections,
            Reason::Full { limit } => EstablishError::ConnectionLimitReached { limit },
            Reason::Banned => EstablishError::PeerBanned,
            Reason::AlreadyConnected | Reason::Connected => EstablishError::AlreadyConnected,
            Reason::NoAddress => EstablishError::PeerAddressUnknown,
            _ => return None,
        })
    }
}

impl CommandError {
    /// The refusal in document 001's words, where it has one.
    pub const fn establish_error(&self) -> Option<EstablishError> {
        match self {
            CommandError::Refused(reason) => EstablishError::of(*reason),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_27_every_limit_has_its_word_and_pending_one_of_its_own() {
        for &limit in LimitName::ALL {
            let word = EstablishError::of(Reason::Full { limit }).expect("a limit has a word");
            let expected = match limit {
                LimitName::Pending => EstablishError::TooManyPendingConnections,
                limit => EstablishError::ConnectionLimitReached { limit },
            };
            assert_eq!(word, expected);
        }
        let json = serde_json::to_string(&EstablishError::of(Reason::Full { limit: LimitName::PerIp }));
        assert_eq!(json.expect("writes"), r#"{"error":"ConnectionLimitReached","limit":"per_ip"}"#);
        assert_eq!(EstablishError::of(Reason::Backoff), None);
    }
}
