//! What can go wrong for a caller, typed. A failed dial is not here: that is an [`Outcome`], and the world's business.

use crate::{AddressError, ErrorStatus, IdentityError, PeerId, Reason, SettingsError, StoreError};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// How a `connect` ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Connected, now or before.
    Connected {
        /// With whom: the identity that was met.
        peer: PeerId,
        /// The connection's handle.
        conn: String,
        /// It was connected already.
        already: bool,
    },
    /// The attempts are used up.
    GaveUp {
        /// With whom.
        peer: PeerId,
        /// Attempts made.
        attempts: u32,
        /// What failed last.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<ErrorStatus>,
    },
    /// It was cancelled, reset, banned or forgotten meanwhile.
    Cancelled {
        /// Whom.
        peer: PeerId,
    },
    /// The waiting time of the call is over; the attempts go on.
    StillTrying {
        /// Whom.
        peer: PeerId,
        /// What failed last, if anything did.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<ErrorStatus>,
    },
}

/// What became of a command that does not wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// It began.
    Begun,
    /// It is accepted, and waits for this to pass.
    Queued {
        /// What it waits for.
        reason: Reason,
    },
}

/// Why a command was not carried out. Nothing changed.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum CommandError {
    /// The text names no peer, address or target.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The core refused it.
    #[error("{}", crate::why::refusal(.0))]
    Refused(Reason),
    /// The new settings do not hold together; the old ones stay.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// These settings take effect only at a start.
    #[error("these settings take effect only after a restart: {}", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    /// The name of a peer could not be looked up.
    #[error("the name {0} could not be resolved")]
    Name(String),
    /// More commands wait than the node takes.
    #[error("the node is busy: too many commands are waiting")]
    Busy,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The settings do not hold together.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The store cannot be used, and going on would lose something.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] peerkeep_net::ListenError),
    /// Something else of the operating system's.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
    /// A part refused its configuration.
    #[error("{0}")]
    Part(String),
}

/// Why a data folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It cannot be made or read.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It is a symbolic link or no folder (fault K12).
    #[error("{} is not a folder (a symbolic link is not followed)", path.display())]
    NotAFolder {
        /// Which.
        path: PathBuf,
    },
    /// It belongs to somebody else (fault K12).
    #[error("{} belongs to user {owner}, not to user {me} who runs this", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        me: u32,
    },
    /// Others may write there (fault K12).
    #[error("{} can be written by others (mode {mode:03o}); run: chmod go-w {}", path.display(), path.display())]
    Writable {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Another node uses it (fault L5).
    #[error("another node is running with {}", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

/// Why a channel or message did not come about.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChannelError {
    /// The peer is not connected.
    #[error("the peer is not connected")]
    NotConnected,
    /// The other side does not take this protocol.
    #[error("the other side does not accept this protocol")]
    Unsupported,
    /// The name is empty, too long or reserved.
    #[error("a protocol or topic name has 1 to 128 bytes and does not begin with peerkeep/")]
    Name,
    /// Somebody in this program takes this protocol already.
    #[error("this protocol is taken already")]
    Taken,
    /// The other side has no room for another channel now.
    #[error("the other side has no room for another channel now")]
    Busy,
    /// The other side did not answer.
    #[error("the other side did not answer")]
    Timeout,
    /// Too many channels on this link.
    #[error("too many channels are open with this peer")]
    TooMany,
    /// The message is longer than allowed.
    #[error("the message or its topic is longer than allowed")]
    TooLong,
    /// The peer does not read fast enough: its budget for sending is used up.
    #[error("the peer does not keep up: its send budget is used up")]
    Full,
    /// The link ended meanwhile.
    #[error("the connection ended")]
    Closed,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// What became of a broadcast.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sent {
    /// Links that took it.
    pub delivered: usize,
    /// Links that did not, because they do not keep up or ended.
    pub skipped: usize,
}
