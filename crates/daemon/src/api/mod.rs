//! The HTTP API on a unix socket: its address, its version and the shapes that are not the library's own status types.
//! No TCP listener: other machines have no business here.

pub mod describe;
pub mod events;
pub mod group;
pub mod once;
pub mod refuse;
pub mod routes;
pub mod server;
pub mod stall;

use crate::exit::{Code, Failure};
use peerkeep::{Ailment, Answer, BanTarget, EstablishError, LimitName, Outcome, PeerId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the routes and their types. It grows when a client of the old one would misread the new one.
pub const VERSION: u32 = 1;

/// The header that carries [`VERSION`] in every response.
pub const VERSION_HEADER: &str = "peerkeep-api";

/// Largest request body in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What `/v1/version` says.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// Always `peerkeep`.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// The API's version.
    pub api: u32,
    /// The daemon's process.
    pub pid: u32,
}

/// A request that names a peer: an id, or an address in any form that `connect` takes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerRequest {
    /// Which peer.
    pub peer: String,
    /// `connect` only: how long to wait for the outcome, in milliseconds; 0 does not wait. Default 15,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// `connect` only: false refuses where it would have to wait for a slot. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<bool>,
}

/// A question about an address.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressQuery {
    /// Which.
    pub address: Option<String>,
}

/// What `/v1/limits` says.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LimitsReached {
    /// An inbound connection would be turned away for want of a slot.
    pub inbound_full: bool,
    /// The limit that a new connection to the address asked about would meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<LimitName>,
}

/// What `/v1/resolve` says.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Resolved {
    /// Whose address it is, as proven, named or told by the peer itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerId>,
    /// Whether that peer is connected, from whichever port.
    pub connected: bool,
}

/// What `/v1/live` and `/v1/ready` say.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Whether orders are taken.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What works less than fully.
    pub ailments: Vec<Ailment>,
}

/// The settings in force.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Configuration {
    /// By section and key.
    pub settings: serde_json::Value,
    /// The same as a configuration file.
    pub text: String,
    /// Keys that a reload cannot change.
    pub fixed: Vec<String>,
}

/// A request to ban.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BanRequest {
    /// A peer id, an IP address or a subnet such as `10.0.0.0/8`.
    pub target: String,
    /// For how long, in milliseconds; without it until lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// What a ban or the lifting of one names, in the form it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Banned {
    /// The key, address or subnet.
    pub target: BanTarget,
}

/// What became of a `connect`: the outcome, or the answer when nobody waits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Connected {
    /// It was waited for.
    Outcome(Outcome),
    /// It was not.
    Answer(Answer),
}

/// What a reload of the configuration did.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// The file that was read.
    pub file: String,
    /// The keys whose values changed.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Keys whose new values take effect only at the next start.
    pub needs_restart: Vec<String>,
}

/// Every response that is not a success.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// One of the words of the exit codes.
    pub error: String,
    /// What happened.
    pub message: String,
    /// Document 001's word for a refused connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<EstablishError>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        Problem {
            error: failure.code.word().into(),
            message: failure.message,
            refusal: failure.refusal,
            next: failure.next,
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        let code = Code::from_word(&problem.error);
        Failure { code, message: problem.message, refusal: problem.refusal, next: problem.next }
    }
}
