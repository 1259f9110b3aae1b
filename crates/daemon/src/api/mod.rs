//! The HTTP API on a unix socket: its address, its version and the shapes that are not the library's own status types.
//! No TCP listener: other machines have no business here.

pub mod events;
pub mod group;
pub mod routes;
pub mod server;

use crate::exit::{Code, Failure};
use peerkeep::{Answer, BanTarget, Outcome};
use serde::{Deserialize, Serialize};

/// The version of the routes and their types. It grows when a client of the old one would misread the new one.
pub const VERSION: u32 = 1;

/// The header that carries [`VERSION`] in every response.
pub const VERSION_HEADER: &str = "peerkeep-api";

/// Largest request body in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What `/v1/version` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerRequest {
    /// Which peer.
    pub peer: String,
    /// `connect` only: how long to wait for the outcome, in milliseconds; 0 does not wait. Default 15,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// A request to ban.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanRequest {
    /// A peer id, an IP address or a subnet such as `10.0.0.0/8`.
    pub target: String,
    /// For how long, in milliseconds; without it until lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// What a ban or the lifting of one names, in the form it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Banned {
    /// The key, address or subnet.
    pub target: BanTarget,
}

/// What became of a `connect`: the outcome, or the answer when nobody waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Connected {
    /// It was waited for.
    Outcome(Outcome),
    /// It was not.
    Answer(Answer),
}

/// What a reload of the configuration did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reloaded {
    /// The file that was read.
    pub file: String,
    /// Keys whose new values take effect only at the next start.
    pub needs_restart: Vec<String>,
}

/// Every response that is not a success.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// One of the words of the exit codes.
    pub error: String,
    /// What happened.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        Problem { error: failure.code.word().into(), message: failure.message, next: failure.next }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure { code: Code::from_word(&problem.error), message: problem.message, next: problem.next }
    }
}
