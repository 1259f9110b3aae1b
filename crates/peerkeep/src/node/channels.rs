//! Channels and messages: what applications exchange over a connection. Bounded on both sides; a reader that is too
//! slow slows or loses its own, never anybody else's.

use super::Node;
use crate::{ChannelError, Measurement, PeerId, Sent};
use bytes::Bytes;
use peerkeep_libp2p as libp2p;
use peerkeep_mesh as mesh;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};

/// Channels of one protocol that may wait to be taken.
const INCOMING: usize = 64;
/// Messages of one topic that may wait for the slowest reader.
const MESSAGES: usize = 1_024;

/// A byte stream to a peer, both ways, whichever wire carries it. Dropping it resets it; `shutdown` ends our direction.
#[derive(Debug)]
pub struct Channel(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    Mesh(mesh::Channel),
    Libp2p(Box<libp2p::Channel>),
}

impl Channel {
    /// Who is at the other end.
    pub fn peer(&self) -> PeerId {
        PeerId(match &self.0 {
            Kind::Mesh(channel) => channel.peer(),
            Kind::Libp2p(channel) => channel.peer(),
        })
    }

    /// What is spoken.
    pub fn protocol(&self) -> &str {
        match &self.0 {
            Kind::Mesh(channel) => channel.protocol(),
            Kind::Libp2p(channel) => channel.protocol(),
        }
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Mesh(channel) => Pin::new(channel).poll_read(cx, buf).map_err(refused),
            Kind::Libp2p(channel) => Pin::new(channel).poll_read(cx, buf).map_err(refused),
        }
    }
}

/// The other side's word against a channel, in this crate's words.
fn refused(error: io::Error) -> io::Error {
    let inner = error.get_ref();
    let word = inner.and_then(|inner| inner.downcast_ref::<mesh::ChannelError>()).copied().map(open_error);
    let other = || inner?.downcast_ref::<libp2p::ChannelError>().copied().map(libp2p_error);
    match word.or_else(other) {
        Some(word) => io::Error::new(error.kind(), word),
        None => error,
    }
}

impl AsyncWrite for Channel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Mesh(channel) => Pin::new(channel).poll_write(cx, bytes),
            Kind::Libp2p(channel) => Pin::new(channel).poll_write(cx, bytes),
        }
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Mesh(channel) => Pin::new(channel).poll_flush(cx),
            Kind::Libp2p(channel) => Pin::new(channel).poll_flush(cx),
        }
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Mesh(channel) => Pin::new(channel).poll_shutdown(cx),
            Kind::Libp2p(channel) => Pin::new(channel).poll_shutdown(cx),
        }
    }
}

/// Channels that peers open for one protocol. At most 64 wait on each wire; a peer that opens more is told to come back.
/// Dropping it makes the protocol unknown again.
#[derive(Debug)]
pub struct Incoming {
    mesh: mesh::Incoming,
    libp2p: Option<mpsc::Receiver<libp2p::Channel>>,
    stopped: watch::Receiver<bool>,
}

impl Incoming {
    /// The next channel and who opened it; `None` when the node has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<(PeerId, Channel)> {
        let Incoming { mesh, libp2p, stopped } = self;
        let over_libp2p = async {
            match libp2p {
                Some(libp2p) => libp2p.recv().await,
                None => std::future::pending().await,
            }
        };
        let channel = tokio::select! {
            channel = mesh.recv() => Channel(Kind::Mesh(channel?)),
            channel = over_libp2p => Channel(Kind::Libp2p(Box::new(channel?))),
            _ = stopped.wait_for(|stopped| *stopped) => return None,
        };
        Some((channel.peer(), channel))
    }
}

/// A message from a peer.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// From whom.
    pub peer: PeerId,
    /// What.
    pub bytes: Bytes,
}

/// The payload is nobody's business in a log.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("peer", &self.peer).field("length", &self.bytes.len()).finish()
    }
}

/// Messages of one topic. At most 1,024 wait; the oldest are dropped then, and counted.
#[derive(Debug)]
pub struct Messages {
    pub(super) inner: mesh::Messages,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) missed: u64,
}

impl Messages {
    /// The next message; `None` when the node has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let received = tokio::select! {
                biased;
                received = self.inner.recv() => received,
                _ = self.stopped.wait_for(|stopped| *stopped) => return None,
            };
            match received {
                Ok(message) => return Some(Message { peer: PeerId(message.from), bytes: message.payload }),
                Err(RecvError::Lagged(missed)) => self.missed += missed,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// How many were dropped because nobody read them.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Node {
    /// Opens a channel to a connected peer.
    ///
    /// # Errors
    /// When it is not connected or does not take the protocol.
    pub async fn open(&self, peer: impl Into<PeerId>, protocol: &str) -> Result<Channel, ChannelError> {
        let peer = peer.into();
        match self.libp2p_link(&peer).filter(|_| self.speaks_libp2p(&peer, protocol)) {
            Some(link) => link.open(protocol).await.map(over_libp2p).map_err(libp2p_error),
            None => self.link(&peer)?.open(protocol).await.map(over_mesh).map_err(open_error),
        }
    }

    /// Opens a channel that can be written to without waiting for the other side, which spares a round trip. Its word
    /// comes with the first bytes that are read: reading fails with a `ConnectionRefused` that holds
    /// [`ChannelError::Unsupported`] or [`ChannelError::Busy`] when it does not take the channel, and what was written
    /// is lost.
    ///
    /// # Errors
    /// When it is not connected, or has as many channels as it may.
    pub async fn open_at_once(
        &self,
        peer: impl Into<PeerId>,
        protocol: &str,
    ) -> Result<Channel, ChannelError> {
        let peer = peer.into();
        match self.libp2p_link(&peer).filter(|_| self.speaks_libp2p(&peer, protocol)) {
            Some(link) => link.open_at_once(protocol).await.map(over_libp2p).map_err(libp2p_error),
            None => self.link(&peer)?.open_at_once(protocol).await.map(over_mesh).map_err(open_error),
        }
    }

    /// Takes channels of that protocol from now on. At most 64 wait; more are refused. One whose name begins with `/` is
    /// offered to libp2p peers as well, where the node speaks that.
    ///
    /// # Errors
    /// When the name is no name, or somebody takes it already.
    pub fn accept(&self, protocol: &str) -> Result<Incoming, ChannelError> {
        let mesh = self.shared.registry.accept(protocol, INCOMING).map_err(name_error)?;
        let libp2p = match &self.shared.libp2p {
            Some(libp2p) if protocol.starts_with('/') => {
                Some(libp2p.protocols.accept(protocol, INCOMING).ok_or(ChannelError::Taken)?)
            }
            _ => None,
        };
        Ok(Incoming { mesh, libp2p, stopped: self.shared.stopped.clone() })
    }

    /// Sends one message to a connected peer: queued at once or not at all.
    ///
    /// # Errors
    /// When it is not connected, or does not keep up.
    pub async fn send(&self, peer: impl Into<PeerId>, topic: &str, bytes: Bytes) -> Result<(), ChannelError> {
        self.link(&peer.into())?.send(topic, bytes).map_err(send_error)
    }

    /// Sends one message to every connected peer that keeps up.
    ///
    /// # Errors
    /// When the topic or the message is too long.
    pub async fn broadcast(&self, topic: &str, bytes: Bytes) -> Result<Sent, ChannelError> {
        let mut sent = Sent::default();
        for (_, link) in self.shared.directory.all() {
            match link.handle.send(topic, bytes.clone()) {
                Ok(()) => sent.delivered += 1,
                Err(mesh::SendError::TooLarge) => return Err(ChannelError::TooLong),
                Err(_) => sent.skipped += 1,
            }
        }
        Ok(sent)
    }

    /// Messages of that topic from now on. Bounded: the oldest are dropped and counted.
    ///
    /// # Errors
    /// When the name is no name.
    pub fn messages(&self, topic: &str) -> Result<Messages, ChannelError> {
        let inner = self.shared.registry.messages(topic, MESSAGES).map_err(name_error)?;
        Ok(Messages { inner, stopped: self.shared.stopped.clone(), missed: 0 })
    }

    /// Whether a channel goes over the libp2p link of a peer that has one: where it has no other, or the name says so.
    fn speaks_libp2p(&self, peer: &PeerId, protocol: &str) -> bool {
        protocol.starts_with('/') || self.shared.directory.find(&peer.key()).is_none()
    }

    fn link(&self, peer: &PeerId) -> Result<mesh::Handle, ChannelError> {
        match self.shared.directory.find(&peer.key()) {
            Some(entry) => Ok(entry.handle),
            None if *self.shared.stopped.borrow() => Err(ChannelError::Stopped),
            None => Err(ChannelError::NotConnected),
        }
    }

    /// Measures round trip and rate to a connected peer, by sending it up to 22 MiB that it throws away; less on slow
    /// links, and never longer than 20 s. It happens only when asked for. The rate also counts for the connection's
    /// health.
    ///
    /// # Errors
    /// When it is not connected, does not measure, or another measurement is under way ([`ChannelError::Busy`]).
    pub async fn measure(&self, peer: impl Into<PeerId>) -> Result<Measurement, ChannelError> {
        let (peer, began) = (peer.into(), Instant::now());
        let measured = self.link(&peer)?.measure().await.map_err(open_error)?;
        let took = began.elapsed();
        tracing::debug!(%peer, ?measured, ?took, "measured");
        Ok(Measurement {
            peer,
            rtt_ms: measured.rtt.as_secs_f64() * 1_000.0,
            bandwidth_kbps: measured.kbps.unwrap_or(0),
            sent_bytes: measured.bytes,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Asks a connected peer's program for a sign of life, beside the questions that are asked after a silence: how long
    /// its answer took.
    ///
    /// # Errors
    /// As [`Node::measure`].
    pub async fn ping(&self, peer: impl Into<PeerId>) -> Result<Duration, ChannelError> {
        let peer = peer.into();
        match self.libp2p_link(&peer) {
            Some(link) if self.shared.directory.find(&peer.key()).is_none() => {
                super::libp2p::ping(&link).await
            }
            _ => self.link(&peer)?.ping().await.map_err(open_error),
        }
    }
}

fn over_mesh(channel: mesh::Channel) -> Channel {
    Channel(Kind::Mesh(channel))
}

fn over_libp2p(channel: libp2p::Channel) -> Channel {
    Channel(Kind::Libp2p(Box::new(channel)))
}

pub(super) fn libp2p_error(error: libp2p::ChannelError) -> ChannelError {
    match error {
        libp2p::ChannelError::Name => ChannelError::Name,
        libp2p::ChannelError::TooMany => ChannelError::TooMany,
        libp2p::ChannelError::Unknown => ChannelError::Unsupported,
        libp2p::ChannelError::Closed => ChannelError::Closed,
        libp2p::ChannelError::Timeout => ChannelError::Timeout,
    }
}

pub(super) fn open_error(error: mesh::ChannelError) -> ChannelError {
    match error {
        mesh::ChannelError::Name => ChannelError::Name,
        mesh::ChannelError::TooMany => ChannelError::TooMany,
        mesh::ChannelError::Unknown => ChannelError::Unsupported,
        mesh::ChannelError::Busy => ChannelError::Busy,
        mesh::ChannelError::Closed => ChannelError::Closed,
        mesh::ChannelError::Timeout => ChannelError::Timeout,
    }
}

fn send_error(error: mesh::SendError) -> ChannelError {
    match error {
        mesh::SendError::Full { .. } => ChannelError::Full,
        mesh::SendError::TooLarge => ChannelError::TooLong,
        mesh::SendError::Unsupported => ChannelError::Unsupported,
        mesh::SendError::Closed => ChannelError::Closed,
    }
}

fn name_error(error: mesh::RegistryError) -> ChannelError {
    match error {
        mesh::RegistryError::Name => ChannelError::Name,
        mesh::RegistryError::Taken => ChannelError::Taken,
    }
}
