//! What happens, as users are told: typed, numbered, serialised as it is. Nothing in an event comes from a peer unescaped.

use crate::{
    Ailment, BanTarget, CloseReason, ConnectionHealth, Direction, ErrorStatus, Misbehaviour, PeerId,
    Timestamp,
};
use serde::{Deserialize, Serialize};

/// Something that happened, in the order it happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Counts up by one per event of this start; gaps were missed.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: EventKind,
}

/// What happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A peer became known.
    Discovered {
        /// Who.
        peer: PeerId,
    },
    /// An attempt began.
    Dialing {
        /// Whom.
        peer: PeerId,
        /// Which connection.
        conn: String,
        /// Its number in the series, from 1.
        attempt: u32,
        /// Attempts in the series; 0 when unlimited.
        max_attempts: u32,
    },
    /// Both sides agreed on a connection.
    Connected {
        /// With whom.
        peer: PeerId,
        /// Which connection.
        conn: String,
        /// Who opened it.
        direction: Direction,
        /// The other end.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        remote: Option<String>,
        /// From the first act to the agreement, in milliseconds.
        took_ms: u64,
    },
    /// A connection is over.
    Lost {
        /// With whom.
        peer: PeerId,
        /// Which connection.
        conn: String,
        /// Why.
        reason: CloseReason,
        /// How long it was up, in milliseconds.
        age_ms: u64,
        /// What failed, when something did.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<ErrorStatus>,
    },
    /// An attempt failed.
    Failed {
        /// With whom.
        peer: PeerId,
        /// Which connection.
        conn: String,
        /// Where it went: every address it had, or the host names it had to look up first; empty when not known.
        #[serde(skip_serializing_if = "String::is_empty", default)]
        address: String,
        /// What.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<ErrorStatus>,
        /// Attempts used.
        attempts: u32,
        /// Attempts in the series; 0 when unlimited.
        max_attempts: u32,
        /// Until the next one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        next_retry_in_ms: Option<u64>,
    },
    /// The last attempt failed as well (it has no `failed` of its own), or there is nothing left to try.
    GaveUp {
        /// With whom.
        peer: PeerId,
        /// Where the last attempt went; empty when there was none.
        #[serde(skip_serializing_if = "String::is_empty", default)]
        address: String,
        /// How it failed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<ErrorStatus>,
        /// Attempts used.
        #[serde(default)]
        attempts: u32,
    },
    /// A peer misbehaved.
    Violated {
        /// Who.
        peer: PeerId,
        /// How.
        what: Misbehaviour,
    },
    /// A ban was set.
    Banned {
        /// What.
        target: BanTarget,
    },
    /// A ban was lifted or has expired.
    Unbanned {
        /// What.
        target: BanTarget,
    },
    /// The route changed.
    Routed {
        /// To whom.
        peer: PeerId,
    },
    /// Two machines seem to use one identity.
    CloneSuspected {
        /// Whose.
        peer: PeerId,
    },
    /// A connection is worse than it should be. It goes on, and is replaced when that can help.
    Degraded {
        /// With whom.
        peer: PeerId,
        /// Which connection.
        conn: String,
        /// How good it is.
        health: ConnectionHealth,
    },
    /// A degraded connection is good again.
    Restored {
        /// With whom.
        peer: PeerId,
        /// Which connection.
        conn: String,
    },
    /// A degraded connection is being replaced: it goes on until the new one is up, and is then lost as `replaced`.
    Replacing {
        /// With whom.
        peer: PeerId,
        /// Which connection.
        conn: String,
    },
    /// A part of the node works less than fully.
    Ailing {
        /// What is wrong.
        ailment: Ailment,
    },
    /// A part of the node works fully again.
    Recovered {
        /// Which.
        part: String,
    },
    /// The machine's network changed: an interface, an address or a route came or went.
    NetworkChanged {
        /// Where others reach us now.
        addresses: Vec<String>,
    },
    /// The configuration was taken.
    Configured,
    /// The node is going down.
    ShuttingDown,
    /// The reader was too slow: so many events were left out here.
    Lagged {
        /// How many.
        missed: u64,
    },
}

impl EventKind {
    /// The peer it is about.
    pub fn peer(&self) -> Option<&PeerId> {
        use EventKind::*;
        match self {
            Discovered { peer }
            | Dialing { peer, .. }
            | Connected { peer, .. }
            | Lost { peer, .. }
            | Failed { peer, .. }
            | GaveUp { peer, .. }
            | Violated { peer, .. }
            | Routed { peer }
            | Degraded { peer, .. }
            | Restored { peer, .. }
            | Replacing { peer, .. }
            | CloneSuspected { peer } => Some(peer),
            Banned { .. }
            | Unbanned { .. }
            | Ailing { .. }
            | Recovered { .. }
            | NetworkChanged { .. }
            | Configured
            | ShuttingDown
            | Lagged { .. } => None,
        }
    }
}
