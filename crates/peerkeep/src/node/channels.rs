//! Channels and messages: what applications exchange over a connection. Bounded on both sides; a reader that is too
//! slow slows or loses its own, never anybody else's.

use super::Node;
use crate::{ChannelError, Measurement, PeerId};
use bytes::Bytes;
use peerkeep_mesh as mesh;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

/// Channels of one protocol that may wait to be taken.
pub(super) const INCOMING: usize = 64;
/// Messages of one topic that may wait for the slowest reader.
pub(super) const MESSAGES: usize = 1_024;

/// A byte stream to a peer, both ways. Dropping it resets it; `shutdown` ends our direction.
#[derive(Debug)]
pub struct Channel(pub(super) mesh::Channel);

impl Channel {
    /// Who is at the other end.
    pub fn peer(&self) -> PeerId {
        PeerId(self.0.peer())
    }

    /// What is spoken.
    pub fn protocol(&self) -> &str {
        self.0.protocol()
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf).map_err(refused)
    }
}

/// The other side's word against a channel, in this crate's words.
fn refused(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<mesh::ChannelError>()) {
        Some(word) => io::Error::new(error.kind(), open_error(*word)),
        None => error,
    }
}

impl AsyncWrite for Channel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Channels that peers open for one protocol. At most 64 wait; a peer that opens more is told to come back. Dropping it
/// makes the protocol unknown again.
#[derive(Debug)]
pub struct Incoming {
    pub(super) inner: mesh::Incoming,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Incoming {
    /// The next channel and who opened it; `None` when the node has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<(PeerId, Channel)> {
        let channel = tokio::select! {
            biased;
            channel = self.inner.recv() => Channel(channel?),
            _ = self.stopped.wait_for(|stopped| *stopped) => return None,
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
        self.link(&peer.into())?.ping().await.map_err(open_error)
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

pub(super) fn send_error(error: mesh::SendError) -> ChannelError {
    match error {
        mesh::SendError::Full { .. } => ChannelError::Full,
        mesh::SendError::TooLarge => ChannelError::TooLong,
        mesh::SendError::Unsupported => ChannelError::Unsupported,
        mesh::SendError::Closed => ChannelError::Closed,
    }
}

pub(super) fn name_error(error: mesh::RegistryError) -> ChannelError {
    match error {
        mesh::RegistryError::Name => ChannelError::Name,
        mesh::RegistryError::Taken => ChannelError::Taken,
    }
}
