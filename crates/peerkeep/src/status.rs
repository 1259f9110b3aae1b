//! What a node tells about itself and its peers: plain values that serialise as they are (the daemon's API sends them
//! unchanged). Optional fields are left out of the JSON when unknown. No key material, secret or payload is in any.

use crate::{
    AddressSource, CloseReason, ConnectionHealth, ConnectionState, ErrorKind, LimitName, LinkStatus, PeerId,
    SixState, Stack, StepName, ThreeState, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a peer stands. One word of the core's; the projections to the documents' words are in [`crate::Facets`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Known; nothing is going on.
    Idle,
    /// A dial is due and waits for a limit.
    Queued,
    /// Waiting for the next attempt, or for the other side to dial.
    Waiting,
    /// An attempt is being made.
    Dialing,
    /// Connected.
    Connected,
    /// The attempts are used up.
    GaveUp,
}

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Looking up names.
    Resolving,
    /// Opening, securing, greeting, outbound.
    Dialing,
    /// Securing and greeting, inbound.
    Arriving,
    /// Inbound, held while our own dial is pending.
    Held,
    /// Identified and offered; the confirm is awaited.
    Offered,
    /// Carries data.
    Up,
    /// Being told why it is refused.
    Refusing,
    /// Being closed.
    Closing,
}

/// Who opened a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// They did.
    Inbound,
    /// We did.
    Outbound,
}

/// An address and where it came from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddressStatus {
    /// As a multiaddress, without the peer's id.
    pub address: String,
    /// Says who.
    pub source: AddressSource,
}

/// What went wrong last: typed, and as a sentence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorStatus {
    /// What kind of thing.
    pub kind: ErrorKind,
    /// At which step.
    pub step: StepName,
    /// The operating system's or stack's number; 0 when there is none.
    pub detail: u32,
    /// One sentence: at which step, and what.
    pub text: String,
}

/// One connection of a peer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConnStatus {
    /// Its handle in logs and events, such as `#12.3`.
    pub conn: String,
    /// Where it stands.
    pub stage: Stage,
    /// Who opened it.
    pub direction: Direction,
    /// When it began (outbound: the dial; inbound: the accept).
    pub began_at: Timestamp,
    /// When it was agreed by both sides.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connected_at: Option<Timestamp>,
    /// The other end, as `ip:port`. It changes when a peer over QUIC moves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remote: Option<String>,
    /// What carries it: `tcp` or `quic`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub transport: Option<String>,
    /// Whether nobody on the way can read or change what it carries: TLS, or QUIC. Only while it is up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secure: Option<bool>,
    /// The version of the protocol that both speak. Only while it is up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<u32>,
    /// What both sides can do, as their hellos said: `exchange` (telling of peers), `mail` (messages).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub capabilities: Vec<String>,
    /// Our end as the peer sees it, as `ip:port`: behind a router that is the router's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub local: Option<String>,
    /// Smoothed round trip in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rtt_ms: Option<f64>,
    /// Open application channels.
    pub channels: u32,
    /// How long ago anything arrived on it, in milliseconds, right to a quarter of a second. Only while it is up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_received_ms_ago: Option<u64>,
    /// The same for what applications sent or got; what keeps the connection alive does not count.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_used_ms_ago: Option<u64>,
    /// How long ago anything was sent on it, in milliseconds. Only while it is up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_sent_ms_ago: Option<u64>,
    /// How good it is. Only while it is up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub health: Option<HealthStatus>,
}

/// A connection that is being set up, in either direction.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PendingStatus {
    /// Whom it is with: the peer that is dialled, or has said its name. Nothing yet for most that arrive.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<PeerId>,
    /// The connection.
    #[serde(flatten)]
    pub conn: ConnStatus,
}

/// How good a connection is: the parts, their mean, and what was measured. Parts without samples are left out.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthStatus {
    /// The mean as a word; unknown until there are samples.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grade: Option<ConnectionHealth>,
    /// The mean of the parts, 0 to 1,000.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub score: Option<u16>,
    /// Score of the round trip, 0 to 1,000.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency: Option<u16>,
    /// Score of the share of answers, 0 to 1,000.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reliability: Option<u16>,
    /// Score of the rate, 0 to 1,000.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bandwidth: Option<u16>,
    /// Questions answered in time, per mille, smoothed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub success_per_mille: Option<u16>,
    /// Rate at which bytes left when the link was last busy, in kbit/s.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bandwidth_kbps: Option<u32>,
    /// Whether it is worse than it should be; entered and left with hysteresis.
    pub degraded: bool,
    /// Until a replacement may be tried again, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calm_for_ms: Option<u64>,
}

/// All about one peer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerStatus {
    /// Who.
    pub id: PeerId,
    /// The stacks it is known on.
    pub stacks: Vec<Stack>,
    /// Where it stands.
    pub standing: Standing,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<Timestamp>,
    /// Kept connected until unwanted.
    pub wanted: bool,
    /// Its connection is kept however idle it is.
    pub held: bool,
    /// Whether a ban applies to its key.
    pub banned: bool,
    /// Whether its key was taken from its first answer instead of being named.
    pub trusted_on_first_use: bool,
    /// Where it can be reached, best first.
    pub addresses: Vec<AddressStatus>,
    /// The connection that matters: the one that is up, else the newest.
    #[serde(flatten, skip_serializing_if = "Option::is_none", default)]
    pub link: Option<ConnStatus>,
    /// How long it has been connected, in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub age_seconds: Option<u64>,
    /// Attempts used in the current series.
    pub attempts: u32,
    /// Attempts in a series; 0 when it is never given up.
    pub max_attempts: u32,
    /// Until the next attempt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_retry_in_ms: Option<u64>,
    /// What failed last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<ErrorStatus>,
    /// How the last connection ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_close: Option<CloseReason>,
    /// What it calls its program; escaped, at most 128 bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// The same in the four documents' words.
    pub states: States,
}

/// What a measurement found that somebody asked for.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Measurement {
    /// With whom.
    pub peer: PeerId,
    /// The quickest of three round trips through both programs.
    pub rtt_ms: f64,
    /// The rate at which bytes arrived there, in kbit/s.
    pub bandwidth_kbps: u32,
    /// Filling that was sent for it.
    pub sent_bytes: u64,
    /// How long it took.
    pub took_ms: u64,
}

/// A peer's state in the words of documents 000, 001, 002 and 004.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct States {
    /// Document 000's four.
    pub connection: ConnectionState,
    /// Document 001's connection status.
    pub link: LinkStatus,
    /// Document 002's six.
    pub actor: SixState,
    /// Document 004's three; nothing when it has none for this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lan: Option<ThreeState>,
}

/// Why a peer is, or is not, connected. The reason is the one the code used.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    /// Who.
    pub id: PeerId,
    /// Where it stands.
    pub standing: Standing,
    /// One plain sentence.
    pub summary: String,
    /// The typed reason.
    pub reason: Reason,
    /// When that reason passes by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
    /// The same from now, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until_in_ms: Option<u64>,
    /// What would change it: something to do, or to wait for.
    pub remedy: String,
    /// What failed last, when something did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<ErrorStatus>,
}

/// The typed answer of `why`, and the reason of a refused command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// It is connected.
    Connected,
    /// An attempt is under way.
    InProgress,
    /// Nothing stands against it: it is due now.
    Due,
    /// It is this node itself.
    Myself,
    /// Nobody by that name is known.
    Unknown,
    /// It is banned.
    Banned,
    /// The node is shutting down.
    Draining,
    /// The attempts are used up.
    GaveUp,
    /// There is no address that may be dialled.
    NoAddress,
    /// Nobody wants it connected.
    Unwanted,
    /// The command does not fit where the peer stands.
    NotNow,
    /// It is connected, or being connected, already.
    AlreadyConnected,
    /// The other side is expected to dial first.
    TheirTurn,
    /// Waiting before the next attempt.
    Backoff,
    /// This machine has no network.
    Offline,
    /// A limit is reached.
    Full {
        /// Which.
        limit: LimitName,
    },
    /// The ban's subnet is too wide or malformed.
    BadTarget,
    /// The configuration does not hold together.
    BadConfig,
    /// The greeting was older than what was known.
    Stale,
}

/// The node itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeStatus {
    /// Our identity.
    pub id: PeerId,
    /// Where others reach us, in the form `connect` takes.
    pub addresses: Vec<String>,
    /// This program's version.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// When the node started.
    pub started_at: Timestamp,
    /// How long ago, in seconds.
    pub uptime_seconds: u64,
    /// The boot epoch of this start.
    pub boot_epoch: u64,
    /// How it is decided who may join.
    pub admission: Admission,
    /// How many of what.
    pub counts: Counts,
    /// Totals since the start.
    pub totals: Totals,
    /// What is wrong with the node itself, if anything.
    pub health: Vec<Ailment>,
    /// Whether it is going down.
    pub draining: bool,
}

/// How it is decided who may join.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Whoever proves the network secret.
    Secret,
    /// Whoever is on the allow-list.
    AllowList,
    /// Both are asked for.
    SecretAndAllowList,
    /// Loopback only.
    Loopback,
    /// Anybody: the operator said so.
    Open,
}

/// How many there are now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    /// Known peers.
    pub known: u32,
    /// Wanted ones.
    pub wanted: u32,
    /// Connected ones.
    pub connected: u32,
    /// Connections that hold a slot, inbound.
    pub inbound: u32,
    /// The same, outbound.
    pub outbound: u32,
    /// Of all, those not up yet.
    pub pending: u32,
    /// Bans in force.
    pub bans: u32,
    /// Given up.
    pub gave_up: u32,
}

/// Totals since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Totals {
    /// Attempts begun.
    pub dials: u64,
    /// Connections agreed.
    pub connected: u64,
    /// Connections lost or closed.
    pub lost: u64,
    /// Attempts failed.
    pub failed: u64,
    /// Of those, handshakes: the connection was opened and not agreed.
    pub handshake_failures: u64,
    /// Peers given up.
    pub gave_up: u64,
    /// Acts of misbehaviour.
    pub violations: u64,
    /// Inbound connections refused or dropped unseen.
    pub refused: u64,
    /// Events that slow readers missed.
    pub events_missed: u64,
}

/// Something wrong with the node itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ailment {
    /// Which part: `store`, `journal`, `listener`, `network`.
    pub part: String,
    /// What is wrong, as a sentence.
    pub text: String,
    /// Since when.
    pub since: Timestamp,
}

/// A ban in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BanStatus {
    /// A peer id, an IP address or a subnet in CIDR form.
    pub target: BanTarget,
    /// When it ends; nothing when it has to be lifted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
    /// The same from now, in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remaining_seconds: Option<u64>,
    /// Why.
    pub reason: BanReason,
}

/// What a ban names, as people write it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct BanTarget(pub String);

/// Where a ban came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BanReason {
    /// A person or program asked for it.
    Operator,
    /// The peer misbehaved.
    Misbehaviour,
}

impl fmt::Display for BanTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        })
    }
}

impl fmt::Display for BanReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BanReason::Operator => "operator",
            BanReason::Misbehaviour => "misbehaviour",
        })
    }
}
