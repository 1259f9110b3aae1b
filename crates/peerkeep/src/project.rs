//! One state, four vocabularies: total functions from the core's standing and stage to the words of documents 000,
//! 001, 002 and 004. They lose detail on purpose and decide nothing.

use crate::{CloseReason, PeerId, Stage, Standing, Timestamp};
use multiaddr::Multiaddr;
use serde::{Deserialize, Serialize};

/// Document 000's four states, field by field.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
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
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        address: Multiaddr,
    },
    /// The last attempt failed; another may be due.
    ConnectionFailed {
        /// When it failed.
        time: Timestamp,
        /// Whom it was for.
        peer_id: PeerId,
        /// Where.
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

#[cfg(test)]
mod tests {
    use super::*;

    const STANDINGS: [Standing; 6] = [
        Standing::Idle,
        Standing::Queued,
        Standing::Waiting,
        Standing::Dialing,
        Standing::Connected,
        Standing::GaveUp,
    ];
    const STAGES: [Option<Stage>; 9] = [
        None,
        Some(Stage::Resolving),
        Some(Stage::Dialing),
        Some(Stage::Arriving),
        Some(Stage::Held),
        Some(Stage::Offered),
        Some(Stage::Up),
        Some(Stage::Refusing),
        Some(Stage::Closing),
    ];

    fn facets(standing: Standing, stage: Option<Stage>) -> Facets {
        Facets { standing, stage, failed: false, degraded: false, closing: None, rtt_ms: None }
    }

    /// Every pair that the core can show: one line per stage when there is a conn, one per standing when there is none.
    #[test]
    fn sx_2_every_state_has_one_word_in_each_vocabulary() {
        use {FourState as F, LinkStatus as L, SixState as S, ThreeState as T};
        let with_conn = [
            (Stage::Resolving, F::Connecting, L::Connecting, S::Connecting, None),
            (Stage::Dialing, F::Connecting, L::Connecting, S::Connecting, None),
            (Stage::Arriving, F::Connecting, L::Connecting, S::AwaitingHandshake, None),
            (Stage::Held, F::Connecting, L::Connecting, S::AwaitingHandshake, None),
            (Stage::Offered, F::Connecting, L::Connecting, S::AwaitingHandshake, None),
            (Stage::Up, F::Connected, L::Active, S::Connected, Some(T::Connected)),
            (Stage::Refusing, F::Disconnected, L::Disconnecting(CloseReason::Resources), S::Rejected, None),
            (
                Stage::Closing,
                F::Disconnected,
                L::Disconnecting(CloseReason::Requested),
                S::Disconnected,
                None,
            ),
        ];
        for (stage, four, link, six, three) in with_conn {
            let facets = facets(Standing::Idle, Some(stage));
            assert_eq!(
                (facets.four(), facets.link(), facets.six(), facets.three()),
                (four, link, six, three),
                "{stage:?}"
            );
        }
        let without = [
            (Standing::Idle, F::Disconnected, S::Disconnected, None),
            (Standing::Queued, F::Disconnected, S::Disconnected, None),
            (Standing::Waiting, F::Disconnected, S::Disconnected, None),
            (Standing::Dialing, F::Connecting, S::Connecting, None),
            (Standing::Connected, F::Disconnected, S::Disconnected, None),
            (Standing::GaveUp, F::ConnectionFailed, S::Failed, Some(T::Failed)),
        ];
        for (standing, four, six, three) in without {
            let facets = facets(standing, None);
            assert_eq!((facets.four(), facets.six(), facets.three()), (four, six, three), "{standing:?}");
            assert_eq!(facets.link(), LinkStatus::Disconnected);
        }
    }

    #[test]
    fn between_attempts_a_peer_has_failed_and_a_slow_link_is_degraded() {
        for standing in [Standing::Waiting, Standing::Queued] {
            let failed = Facets { failed: true, ..facets(standing, None) };
            assert_eq!(
                (failed.four(), failed.three()),
                (FourState::ConnectionFailed, Some(ThreeState::Failed))
            );
        }
        let up = facets(Standing::Connected, Some(Stage::Up));
        for (rtt, three) in [(199.9, ThreeState::Connected), (200.0, ThreeState::Degraded)] {
            assert_eq!(Facets { rtt_ms: Some(rtt), ..up }.three(), Some(three), "{rtt}");
        }
        let degraded = Facets { degraded: true, ..up };
        assert_eq!((degraded.link(), degraded.three()), (LinkStatus::Degraded, Some(ThreeState::Degraded)));
        let closing =
            Facets { closing: Some(CloseReason::Idle), ..facets(Standing::Idle, Some(Stage::Closing)) };
        assert_eq!(closing.link(), LinkStatus::Disconnecting(CloseReason::Idle));
    }

    #[test]
    fn sx_2_the_projections_are_total() {
        for standing in STANDINGS {
            for stage in STAGES {
                for failed in [false, true] {
                    let facets = Facets { failed, ..facets(standing, stage) };
                    let up = stage == Some(Stage::Up);
                    assert_eq!(facets.four() == FourState::Connected, up);
                    assert_eq!(facets.link() == LinkStatus::Active, up);
                    assert_eq!(facets.six() == SixState::Connected, up);
                    assert_eq!(facets.three() == Some(ThreeState::Connected), up);
                }
            }
        }
    }

    /// S0.10 to S0.14: the four states with their fields, as they are written.
    #[test]
    fn s0_10_to_s0_14_connection_states_are_written_field_by_field_and_read_back() {
        let peer_id = PeerId(peerkeep_core::PeerKey::ed25519([0; 32]));
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/7330".parse().expect("an address");
        let time = Timestamp(1_769_688_000_000);
        let head = format!(
            r#""time":"2026-01-29T12:00:00.000Z","peer_id":"{peer_id}","address":"/ip4/192.0.2.1/tcp/7330""#
        );
        let golden = [
            (ConnectionState::Disconnected, r#""Disconnected""#.to_owned()),
            (
                ConnectionState::Connecting {
                    time,
                    peer_id,
                    address: address.clone(),
                    attempts: 2,
                    max_attempts: 3,
                },
                format!(r#"{{"Connecting":{{{head},"attempts":2,"max_attempts":3}}}}"#),
            ),
            (
                ConnectionState::Connected { time, peer_id, address: address.clone() },
                format!(r#"{{"Connected":{{{head}}}}}"#),
            ),
            (
                ConnectionState::ConnectionFailed {
                    time,
                    peer_id,
                    address,
                    error: "refused".to_owned(),
                    attempts: 3,
                    max_attempts: 3,
                },
                format!(
                    r#"{{"ConnectionFailed":{{{head},"error":"refused","attempts":3,"max_attempts":3}}}}"#
                ),
            ),
        ];
        for (state, json) in golden {
            assert_eq!(serde_json::to_string(&state.clone()).expect("is written"), json);
            assert_eq!(serde_json::from_str::<ConnectionState>(&json).expect("is read"), state, "{state:?}");
        }
    }
}
