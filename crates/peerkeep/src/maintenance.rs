//! Document 001's words for maintenance and disconnection: its six reasons, its four ways to come back, its scores as
//! fractions. Total functions from the core's words and whole numbers; they decide nothing.

use crate::{CloseReason, ConnectionHealth};
use peerkeep_core as core;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Document 001's six reasons for a disconnection.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum DisconnectReason {
    /// In good order: asked for, unused, or the node goes down.
    Normal,
    /// No answer in time.
    Timeout,
    /// The peer broke the protocol's rules.
    ProtocolViolation,
    /// A limit was lowered or resources ran out.
    ResourceConstraint,
    /// The peer is banned.
    PeerBanned,
    /// Another connection to the same peer took its place.
    NetworkRestructure,
}

/// Document 001's four ways to come back.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ReconnectStrategy {
    /// Nothing keeps it: it is dialled when it is wanted or the target needs it.
    AllowImmediate,
    /// After a delay that grows from loss to loss.
    WithBackoff,
    /// When a slot frees, in the order of the queue.
    AfterResourcesAvailable,
    /// Not as long as the ban lasts.
    Never,
}

impl CloseReason {
    /// The same in document 001's words.
    pub const fn disconnect_reason(self) -> DisconnectReason {
        match self {
            CloseReason::Requested | CloseReason::Idle | CloseReason::Cancelled | CloseReason::Shutdown => {
                DisconnectReason::Normal
            }
            CloseReason::Dead | CloseReason::Timeout => DisconnectReason::Timeout,
            CloseReason::Violation => DisconnectReason::ProtocolViolation,
            CloseReason::Resources => DisconnectReason::ResourceConstraint,
            CloseReason::Banned => DisconnectReason::PeerBanned,
            CloseReason::Replaced | CloseReason::Duplicate => DisconnectReason::NetworkRestructure,
        }
    }
}

impl DisconnectReason {
    /// All six, in the document's order.
    pub const ALL: [DisconnectReason; 6] = [
        DisconnectReason::Normal,
        DisconnectReason::Timeout,
        DisconnectReason::ProtocolViolation,
        DisconnectReason::ResourceConstraint,
        DisconnectReason::PeerBanned,
        DisconnectReason::NetworkRestructure,
    ];

    /// How a peer comes back after it.
    pub const fn strategy(self) -> ReconnectStrategy {
        match self {
            DisconnectReason::Normal | DisconnectReason::NetworkRestructure => {
                ReconnectStrategy::AllowImmediate
            }
            DisconnectReason::Timeout | DisconnectReason::ProtocolViolation => ReconnectStrategy::WithBackoff,
            DisconnectReason::ResourceConstraint => ReconnectStrategy::AfterResourcesAvailable,
            DisconnectReason::PeerBanned => ReconnectStrategy::Never,
        }
    }
}

/// The latency score from 0 to 1.
pub fn score_latency(latency: Duration) -> f32 {
    let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
    fraction(core::score_latency(micros))
}

/// The reliability score from 0 to 1; `None` for what is no share.
pub fn score_reliability(success: f32) -> Option<f32> {
    Some(fraction(core::score_reliability(per_mille(success)?)))
}

/// The bandwidth score from 0 to 1.
pub fn score_bandwidth(kbps: u32) -> f32 {
    fraction(core::score_bandwidth(kbps))
}

impl ConnectionHealth {
    /// The word for a score from 0 to 1; `None` for one that is no number.
    pub fn of_score(score: f32) -> Option<ConnectionHealth> {
        per_mille(score).map(|score| core::Grade::of(score).into())
    }
}

fn fraction(score: u16) -> f32 {
    f32::from(score) / 1_000.0
}

/// Numbers beyond the ends count as the ends; what is no number counts as nothing.
fn per_mille(share: f32) -> Option<u16> {
    if share.is_nan() {
        return None;
    }
    // The hundred-thousandth is what a fraction such as 0.8 lacks in this type.
    let wanted = f64::from(share.clamp(0.0, 1.0)) * 1_000.0 + 0.01;
    format!("{:.0}", wanted.floor()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S1.80: each of the core's reasons is one of the six, and each of the six has its way back.
    #[test]
    fn s1_80_six_reasons_and_four_strategies() {
        use {CloseReason as C, DisconnectReason as D, ReconnectStrategy as S};
        let table = [
            (C::Requested, D::Normal),
            (C::Idle, D::Normal),
            (C::Replaced, D::NetworkRestructure),
            (C::Duplicate, D::NetworkRestructure),
            (C::Banned, D::PeerBanned),
            (C::Dead, D::Timeout),
            (C::Timeout, D::Timeout),
            (C::Cancelled, D::Normal),
            (C::Violation, D::ProtocolViolation),
            (C::Resources, D::ResourceConstraint),
            (C::Shutdown, D::Normal),
        ];
        assert_eq!(table.map(|(close, _)| close).as_slice(), C::ALL);
        for (close, reason) in table {
            assert_eq!(close.disconnect_reason(), reason);
        }
        let strategies = [
            S::AllowImmediate,
            S::WithBackoff,
            S::WithBackoff,
            S::AfterResourcesAvailable,
            S::Never,
            S::AllowImmediate,
        ];
        assert_eq!(D::ALL.map(D::strategy), strategies);
        for reason in D::ALL {
            assert!(table.iter().any(|(_, have)| *have == reason), "{reason:?} has a cause");
        }
    }

    #[test]
    fn s1_49_a_score_that_is_no_number_has_no_word() {
        use ConnectionHealth as H;
        assert_eq!(H::of_score(f32::NAN), None);
        assert_eq!(score_reliability(f32::NAN), None);
        let words = [(0.8, H::Excellent), (0.6, H::Good), (0.4, H::Fair), (0.2, H::Poor), (0.0, H::Critical)];
        for (score, word) in words {
            assert_eq!(H::of_score(score), Some(word), "{score}");
            if score > 0.0 {
                assert!(H::of_score(score - 0.002) < Some(word), "below {score}");
            }
        }
        assert_eq!(H::of_score(f32::INFINITY), Some(H::Excellent));
        assert_eq!(H::of_score(-1.0), Some(H::Critical));
    }

    #[test]
    fn scores_are_fractions() {
        assert_eq!(score_latency(Duration::ZERO), 1.0);
        assert_eq!(score_latency(Duration::MAX), 0.0);
        assert_eq!(score_reliability(1.0), Some(1.0));
        assert_eq!(score_bandwidth(10_000), 0.8);
    }
}
