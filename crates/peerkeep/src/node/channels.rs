//! Channels and messages: what applications exchange over a connection.

use crate::PeerId;
use bytes::Bytes;

/// A byte stream to a peer, both ways.
pub struct Channel {}

/// Channels that peers open.
#[derive(Default)]
pub struct Incoming {}

impl Incoming {
    /// The next channel and who opened it; `None` when the node has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<(PeerId, Channel)> {
        None
    }
}

/// A message from a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// From whom.
    pub peer: PeerId,
    /// On which topic.
    pub topic: String,
    /// What.
    pub bytes: Bytes,
}

/// Messages of a topic.
#[derive(Default)]
pub struct Messages {}

impl Messages {
    /// The next message; `None` when the node has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<Message> {
        None
    }

    /// How many were dropped because nobody read them.
    pub fn missed(&self) -> u64 {
        0
    }
}
