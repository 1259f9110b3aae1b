//! The node that programs hold. This is its face: every call is a bounded message to the owner task, and none of them
//! blocks another.

mod channels;
mod events;

pub use channels::{Channel, Incoming, Message, Messages};
pub use events::EventStream;

use crate::{
    Answer, BanStatus, BanTarget, ChannelError, CommandError, Event, Identity, NodeStatus, Outcome,
    PeerAddress, PeerId, PeerStatus, Sent, Settings, StartError, Target, Why,
};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A running node. Cheap to clone; the node stops when [`Node::shutdown`] is called or the last clone is dropped.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    id: PeerId,
}

/// Collects what a node starts with.
#[derive(Default)]
pub struct Builder {
    identity: Option<Identity>,
    settings: Settings,
    data_dir: Option<PathBuf>,
}

impl Builder {
    /// Use this identity instead of the file in the data folder.
    pub fn identity(mut self, identity: Identity) -> Builder {
        self.identity = Some(identity);
        self
    }

    /// The settings. Default: [`Settings::default`].
    pub fn config(mut self, settings: Settings) -> Builder {
        self.settings = settings;
        self
    }

    /// Where identity, store, journal and lock live. Without it nothing is kept, and an identity is made for this
    /// run unless one is given.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Builder {
        self.data_dir = Some(path.into());
        self
    }

    /// Starts the node: locks the data folder, loads, listens, and begins to keep peers.
    ///
    /// # Errors
    /// What stood in the way; nothing is left running.
    pub async fn start(self) -> Result<Node, StartError> {
        let identity = match self.identity {
            Some(identity) => identity,
            None => Identity::generate()?,
        };
        let _ = (self.settings, self.data_dir);
        Ok(Node { shared: Arc::new(Shared { id: identity.id() }) })
    }
}

impl Node {
    /// Begins to build a node.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Our identity.
    pub fn id(&self) -> PeerId {
        self.shared.id
    }

    /// Where others reach us, in the form `connect` takes: `/ip4/…/tcp/…/p2p/…`.
    pub fn addresses(&self) -> Vec<PeerAddress> {
        Vec::new()
    }

    /// Connects and waits for the outcome, at most `wait`.
    ///
    /// # Errors
    /// When it was refused; a failed attempt is an [`Outcome`].
    pub async fn connect(
        &self,
        peer: impl Into<PeerAddress>,
        wait: Duration,
    ) -> Result<Outcome, CommandError> {
        let _ = (peer.into(), wait);
        Err(CommandError::Stopped)
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn connect_nowait(&self, peer: impl Into<PeerAddress>) -> Result<Answer, CommandError> {
        let _ = peer.into();
        Err(CommandError::Stopped)
    }

    /// Keeps the peer connected until [`Node::unwant`]. Survives restarts.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn want(&self, peer: impl Into<PeerAddress>) -> Result<Answer, CommandError> {
        let _ = peer.into();
        Err(CommandError::Stopped)
    }

    /// Wants it no longer; an existing connection stays.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn unwant(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        let _ = peer.into();
        Err(CommandError::Stopped)
    }

    /// Closes the connection. A wanted peer is dialled again.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn disconnect(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        let _ = peer.into();
        Err(CommandError::Stopped)
    }

    /// Abandons the attempt in progress.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn cancel(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        let _ = peer.into();
        Err(CommandError::Stopped)
    }

    /// Tries again now, within the attempts left.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn retry(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        let _ = peer.into();
        Err(CommandError::Stopped)
    }

    /// Forgets attempts, cancels and closes: back to disconnected.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn reset(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        let _ = peer.into();
        Err(CommandError::Stopped)
    }

    /// Keeps (or stops keeping) a connection however idle it is.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn hold(&self, peer: impl Into<PeerId>, on: bool) -> Result<Answer, CommandError> {
        let _ = (peer.into(), on);
        Err(CommandError::Stopped)
    }

    /// Bans a key or subnet, for a time or until lifted. Survives restarts.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn ban(&self, target: Target, span: Option<Duration>) -> Result<BanTarget, CommandError> {
        let _ = (target, span);
        Err(CommandError::Stopped)
    }

    /// Lifts a ban.
    ///
    /// # Errors
    /// When there is none.
    pub async fn unban(&self, target: Target) -> Result<BanTarget, CommandError> {
        let _ = target;
        Err(CommandError::Stopped)
    }

    /// Forgets a peer that is neither connected nor wanted.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn forget(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        let _ = peer.into();
        Err(CommandError::Stopped)
    }

    /// Takes new settings, whole or not at all. Returns the keys that take effect only at a restart.
    ///
    /// # Errors
    /// When they do not hold together; the old ones stay.
    pub async fn configure(&self, settings: Settings) -> Result<Vec<&'static str>, CommandError> {
        let _ = settings;
        Err(CommandError::Stopped)
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        Settings::default()
    }

    /// Says goodbye to everybody, writes everything down, and ends: bounded by ten seconds.
    pub async fn shutdown(&self) {}

    /// What happens from now on. Bounded: a slow reader gets [`crate::EventKind::Lagged`] in place of what it missed.
    pub fn events(&self) -> EventStream {
        EventStream::default()
    }

    /// Every known peer.
    pub async fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    /// One peer.
    pub async fn peer(&self, peer: impl Into<PeerId>) -> Option<PeerStatus> {
        let _ = peer.into();
        None
    }

    /// Why a peer is, or is not, connected.
    pub async fn why(&self, peer: impl Into<PeerId>) -> Option<Why> {
        let _ = peer.into();
        None
    }

    /// The node itself; `None` when it has stopped.
    pub async fn status(&self) -> Option<NodeStatus> {
        None
    }

    /// The bans in force.
    pub async fn bans(&self) -> Vec<BanStatus> {
        Vec::new()
    }

    /// The latest connects and losses kept in the store, newest first; of one peer or of all.
    pub async fn history(&self, peer: Option<PeerId>, limit: usize) -> Vec<Event> {
        let _ = (peer, limit);
        Vec::new()
    }

    /// Opens a channel to a connected peer.
    ///
    /// # Errors
    /// When it is not connected or does not take the protocol.
    pub async fn open(&self, peer: impl Into<PeerId>, protocol: &str) -> Result<Channel, ChannelError> {
        let _ = (peer.into(), protocol);
        Err(ChannelError::Stopped)
    }

    /// Takes channels of that protocol from now on. At most 64 wait; more are refused.
    pub fn accept(&self, protocol: &str) -> Incoming {
        let _ = protocol;
        Incoming::default()
    }

    /// Sends one message to a connected peer.
    ///
    /// # Errors
    /// When it is not connected, or does not keep up.
    pub async fn send(&self, peer: impl Into<PeerId>, topic: &str, bytes: Bytes) -> Result<(), ChannelError> {
        let _ = (peer.into(), topic, bytes);
        Err(ChannelError::Stopped)
    }

    /// Sends one message to every connected peer that keeps up.
    ///
    /// # Errors
    /// When the topic or the message is too long.
    pub async fn broadcast(&self, topic: &str, bytes: Bytes) -> Result<Sent, ChannelError> {
        let _ = (topic, bytes);
        Err(ChannelError::Stopped)
    }

    /// Messages of that topic from now on. Bounded: the oldest are dropped and counted.
    pub fn messages(&self, topic: &str) -> Messages {
        let _ = topic;
        Messages::default()
    }
}
