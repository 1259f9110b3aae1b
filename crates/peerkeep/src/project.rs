//! One state, four vocabularies: total functions from the core's standing and stage to the words of documents 000,
//! 001, 002 and 004. They lose detail on purpose and decide nothing.

use crate::{CloseReason, PeerId, Stage, Standing, Timestamp};
use multiaddr::Multiaddr;
use serde::{Deserialize, Serialize};

/// Document 000's four states, field by field.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub enum ConnectionState {
    /// Not connected, and nothing failed.
    Disconnected,
    /// An attempt is in progress, in either direction.
    Connecting {
        /// When the attempt began.
        time: Timestamp,
        /// Whom.
        peer_id: PeerId,
        /// Where.
        address: Multiaddr,
        /// The number of this attempt, from 1.
        attempts: u32,
        /// Attempts in the series; 0 when unlimited.
        max_attempts: u32,
    },
    /// Connected.
    Connected {
        /// Since when.
        time: Timestamp,
        /// With whom.
        peer_id: PeerId,
        /// Where.
        address: Multiaddr,
    },
    /// The last attempt failed; another may be due.
    ConnectionFailed {
        /// When it failed.
        time: Timestamp,
        /// Whom it was for.
        peer_id: PeerId,
        /// Where.
        address: Multiaddr,
        /// Why, as a sentence.
        error: String,
        /// Attempts used.
        attempts: u32,
        /// Attempts in the series; 0 when unlimited.
        max_attempts: u32,
    },
}

/// Document 001's status of a connection.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum LinkStatus {
    /// Being set up.
    Connecting,
    /// In use.
    Active,
    /// In use and worse than it should be.
    Degraded,
    /// Being closed, and why.
    Disconnecting(CloseReason),
    /// None.
    Disconnected,
}

/// Document 002's six states of a connection actor.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SixState {
    /// None.
    Disconnected,
    /// The transport is being opened.
    Connecting,
    /// The greeting is under way.
    AwaitingHandshake,
    /// In use.
    Connected,
    /// Over capacity: being told so.
    Rejected,
    /// Given up.
    Failed,
}

/// Document 004's three states.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ThreeState {
    /// In use, below 200 ms.
    Connected,
    /// In use, at 200 ms or above.
    Degraded,
    /// Attempts failed.
    Failed,
}

/// From this round trip on a connection counts as degraded in document 004's words (pitfall E8).
pub const DEGRADED_RTT_MS: f64 = 200.0;

/// What the projections look at.
#[derive(Clone, Copy, Debug)]
pub struct Facets {
    /// The contact's standing.
    pub standing: Standing,
    /// The stage of its leading conn.
    pub stage: Option<Stage>,
    /// Whether the last attempt of the current series failed.
    pub failed: bool,
    /// Whether the connection is worse than it should be.
    pub degraded: bool,
    /// Why a conn that is closing is closing.
    pub closing: Option<CloseReason>,
    /// Smoothed round trip in milliseconds.
    pub rtt_ms: Option<f64>,
}

/// The tag of a [`ConnectionState`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FourState {
    /// [`ConnectionState::Disconnected`].
    Disconnected,
    /// [`ConnectionState::Connecting`].
    Connecting,
    /// [`ConnectionState::Connected`].
    Connected,
    /// [`ConnectionState::ConnectionFailed`].
    ConnectionFailed,
}

impl Facets {
    /// Document 000: `Connecting` as long as an attempt exists, `Disconnected` from the order to close on (pitfall A7),
    /// `ConnectionFailed` between attempts and after the last.
    pub fn four(&self) -> FourState {
        use FourState::*;
        match (self.stage, self.standing) {
            (Some(Stage::Up), _) => Connected,
            (Some(Stage::Resolving | Stage::Dialing | Stage::Arriving | Stage::Held | Stage::Offered), _) => {
                Connecting
            }
            (Some(Stage::Refusing | Stage::Closing) | None, standing) => match standing {
                Standing::GaveUp => ConnectionFailed,
                Standing::Queued | Standing::Waiting if self.failed => ConnectionFailed,
                Standing::Dialing => Connecting,
                Standing::Idle | Standing::Queued | Standing::Waiting | Standing::Connected => Disconnected,
            },
        }
    }

    /// Document 001.
    pub fn link(&self) -> LinkStatus {
        match self.stage {
            Some(Stage::Up) if self.degraded => LinkStatus::Degraded,
            Some(Stage::Up) => LinkStatus::Active,
            Some(Stage::Refusing) => {
                LinkStatus::Disconnecting(self.closing.unwrap_or(CloseReason::Resources))
            }
            Some(Stage::Closing) => LinkStatus::Disconnecting(self.closing.unwrap_or(CloseReason::Requested)),
            Some(Stage::Resolving | Stage::Dialing | Stage::Arriving | Stage::Held | Stage::Offered) => {
                LinkStatus::Connecting
            }
            None => LinkStatus::Disconnected,
        }
    }

    /// Document 002.
    pub fn six(&self) -> SixState {
        match self.stage {
            Some(Stage::Up) => SixState::Connected,
            Some(Stage::Resolving | Stage::Dialing) => SixState::Connecting,
            Some(Stage::Arriving | Stage::Held | Stage::Offered) => SixState::AwaitingHandshake,
            Some(Stage::Refusing) => SixState::Rejected,
            Some(Stage::Closing) => SixState::Disconnected,
            None => match self.standing {
                Standing::GaveUp => SixState::Failed,
                Standing::Dialing => SixState::Connecting,
                Standing::Idle | Standing::Queued | Standing::Waiting | Standing::Connected => {
                    SixState::Disconnected
                }
            },
        }
    }

    /// Document 004; nothing where it has no word.
    pub fn three(&self) -> Option<ThreeState> {
        match self.four() {
            FourState::Connected => {
                let slow = self.rtt_ms.is_some_and(|rtt| rtt >= DEGRADED_RTT_MS);
                Some(if slow || self.degraded { ThreeState::Degraded } else { ThreeState::Connected })
            }
            FourState::ConnectionFailed => Some(ThreeState::Failed),
            FourState::Disconnected | FourState::Connecting => None,
        }
    }
}
