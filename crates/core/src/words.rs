//! The words for what went wrong. A *refusal*: we may not. A *violation*: they misbehaved. A *fault*: the world
//! failed. (An assert: we are wrong.) Nothing here decides; `verdict.rs` is the only table from these to consequences.

use crate::Time;
use serde::{Deserialize, Serialize};

/// A limit that admission counts against.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Limit {
    /// All conns that hold a slot.
    Total,
    /// Inbound ones.
    Inbound,
    /// Outbound ones.
    Outbound,
    /// Those not up yet, both directions.
    Pending,
    /// Conns with one contact.
    PerPeer,
    /// Conns with one IP address.
    PerIp,
    /// Conns with one IPv4 /24 or IPv6 /64.
    PerSubnet,
    /// Dials in the last minute, over all peers.
    DialRate,
    /// Dials in the last minute to one IP address (fault D10).
    DestinationRate,
    /// Inbound conns that are only being told why they are refused.
    Courtesy,
    /// Known contacts.
    Contacts,
    /// Bans.
    Bans,
}

/// Why we may not. Ordered by how long it lasts, longest first; `why` shows the first that holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// This is ourselves.
    Myself,
    /// No such contact or conn (any more).
    Unknown,
    /// Banned; until a time, or [`Time::NEVER`].
    Banned {
        /// When the ban ends.
        until: Time,
    },
    /// The node is shutting down.
    Draining,
    /// All attempts were used up; `Reset`, `Connect` or `Want` revives it.
    GaveUp,
    /// There is no address that may be dialled.
    NoAddress,
    /// Nobody wants a connection to this contact now.
    Unwanted,
    /// The command does not fit the contact's standing (document 000's enabling conditions).
    NotNow,
    /// Connected, or being connected, already.
    AlreadyConnected,
    /// The other side is expected to dial; we do after this time.
    TheirTurn {
        /// When it becomes our turn.
        until: Time,
    },
    /// Waiting before the next attempt.
    Backoff {
        /// When the next attempt is due.
        until: Time,
    },
    /// No network; nobody is punished for it.
    Offline,
    /// A limit is reached.
    Full(Limit),
    /// The subnet of a ban is too wide, or its length is not sensible.
    BadTarget,
    /// The configuration does not hold together.
    BadConfig,
    /// The hello was sent before its sender knew what we know (two-dials, step 2); carries our epoch for the sender.
    Stale {
        /// The epoch of theirs that we hold to be newer, or 0.
        newer: u64,
    },
}

/// At which stage of a connection something happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Step {
    /// Looking up a name.
    Resolve,
    /// Opening the transport.
    Connect,
    /// TLS, Noise or the like.
    Secure,
    /// The stack's own greeting.
    Hello,
    /// After the connection was up.
    Live,
}

/// What kind of thing failed, in the world's words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum FaultKind {
    /// Nobody listens there.
    Refused,
    /// The deadline passed.
    Timeout,
    /// The other side reset the connection.
    Reset,
    /// The other side closed the connection.
    Closed,
    /// No route, network or interface: ours, nobody is punished.
    Unreachable,
    /// No descriptors, ports or memory of our own: ours, nobody is punished.
    Resources,
    /// The name could not be resolved.
    Name,
    /// The secure channel could not be made.
    Secure,
    /// The greeting could not be understood or agreed.
    Protocol,
    /// Another network.
    Network,
    /// No common version.
    Version,
    /// Another identity answered than the one expected.
    Identity,
    /// They refused us; the detail is their reason.
    Declined,
    /// A task of ours panicked: counted, contained.
    Panic,
    /// Any other error of the operating system; the detail is its number.
    Os,
}

/// The world failed: where, how, and a number (an errno, a stack's own code) for the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// At which step.
    pub step: Step,
    /// What failed.
    pub kind: FaultKind,
    /// An errno or a code of the stack; 0 when there is none.
    pub detail: u32,
}

impl Fault {
    /// A fault without a number.
    pub const fn new(step: Step, kind: FaultKind) -> Fault {
        Fault { step, kind, detail: 0 }
    }

    /// Whether it is our own machine's: it pauses us and punishes nobody.
    pub const fn is_ours(&self) -> bool {
        matches!(self.kind, FaultKind::Unreachable | FaultKind::Resources | FaultKind::Panic)
    }
}

/// The classes of misbehaviour. Stacks map their own, exhaustively, to these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Violation {
    /// Bytes that cannot be parsed.
    Malformed,
    /// A length or a count above its limit.
    TooLarge,
    /// More of something than the rate allows.
    TooMuch,
    /// A message that does not fit the state.
    OutOfOrder,
    /// Cryptographic proof that does not hold.
    BadProof,
    /// A claim known to be false (an address, an epoch beyond sense).
    Lie,
    /// Another network, or one that we never talk to.
    WrongNetwork,
    /// An agent that the operator has banned by pattern.
    BannedAgent,
    /// Streams opened, reset or left unacknowledged beyond the caps.
    StreamAbuse,
}

/// Why a connection is closed, by either side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Close {
    /// An operator or program asked for it.
    Requested,
    /// Nobody used it for the idle time.
    Idle,
    /// A newer connection to the same peer took its place.
    Replaced,
    /// The two-dials rule kept another one.
    Duplicate,
    /// The peer is banned.
    Banned,
    /// The other end is known, or held, to be dead.
    Dead,
    /// A deadline of establishment passed.
    Timeout,
    /// The attempt was cancelled.
    Cancelled,
    /// The peer misbehaved.
    Violation,
    /// A limit was lowered, or resources ran out.
    Resources,
    /// The node is going down.
    Shutdown,
}

/// How a conn ended: the content of its one and only `Gone`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum End {
    /// As ordered by `Close`, `Refuse` or `Turn`.
    Asked,
    /// The other side said goodbye, with its reason.
    Goodbye(Close),
    /// The world failed.
    Fault(Fault),
    /// They misbehaved.
    Violation(Violation),
}
