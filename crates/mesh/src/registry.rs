//! Who in this program takes channels and messages: protocol names to bounded queues, topics to bounded broadcasts.
//! Nothing here waits: a full queue refuses a channel, and a subscriber that does not read is told what it missed.

use crate::{Channel, PREFACE_MAX_BYTES};
use bytes::Bytes;
use peerkeep_core::PeerKey;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use tokio::sync::{broadcast, mpsc};

/// Channels that peers opened for one protocol. Dropping it makes the protocol unknown again.
pub type Incoming = mpsc::Receiver<Channel>;
/// Messages on one topic; `RecvError::Lagged` says how many were missed.
pub type Messages = broadcast::Receiver<Message>;

/// A message from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub from: PeerKey,
    /// What it says.
    pub payload: Bytes,
}

/// The protocols and topics of one node. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Tables>);

#[derive(Debug, Default)]
struct Tables {
    protocols: RwLock<BTreeMap<Box<str>, mpsc::Sender<Channel>>>,
    topics: RwLock<BTreeMap<Box<str>, broadcast::Sender<Message>>>,
}

/// Why a protocol or topic cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Empty, longer than 128 bytes, or beginning with the mesh's own `peerkeep/`.
    #[error("a name must have 1 to {PREFACE_MAX_BYTES} bytes and not begin with peerkeep/")]
    Name,
    /// Somebody takes this protocol's channels already.
    #[error("this protocol is taken already")]
    Taken,
}

/// What became of an inbound channel.
pub(crate) enum Taken {
    Yes,
    Unknown,
    Busy,
}

impl Registry {
    /// Takes the channels that peers open for `protocol`. At most `capacity` (at least 1) wait to be taken; a peer
    /// that opens more is told to come back.
    ///
    /// # Errors
    /// A bad name, or one that is taken.
    pub fn accept(&self, protocol: &str, capacity: usize) -> Result<Incoming, RegistryError> {
        check_name(protocol)?;
        let mut protocols = self.0.protocols.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if protocols.get(protocol).is_some_and(|sender| !sender.is_closed()) {
            return Err(RegistryError::Taken);
        }
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        protocols.insert(protocol.into(), sender);
        Ok(receiver)
    }

    /// Subscribes to a topic; the first subscriber's `capacity` (at least 1) holds for all of its subscribers.
    ///
    /// # Errors
    /// A bad name.
    pub fn messages(&self, topic: &str, capacity: usize) -> Result<Messages, RegistryError> {
        check_name(topic)?;
        let mut topics = self.0.topics.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        topics.retain(|_, sender| sender.receiver_count() > 0);
        Ok(match topics.get(topic) {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = broadcast::channel(capacity.max(1));
                topics.insert(topic.into(), sender);
                receiver
            }
        })
    }

    /// Whether somebody takes this protocol, and has room.
    pub(crate) fn room(&self, protocol: &str) -> Taken {
        let protocols = self.0.protocols.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        match protocols.get(protocol) {
            Some(sender) if sender.is_closed() => Taken::Unknown,
            Some(sender) if sender.capacity() == 0 => Taken::Busy,
            Some(_) => Taken::Yes,
            None => Taken::Unknown,
        }
    }

    /// Hands a channel over; false when nobody takes it after all.
    pub(crate) fn deliver(&self, channel: Channel) -> bool {
        let protocols = self.0.protocols.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        protocols.get(channel.protocol()).is_some_and(|sender| sender.try_send(channel).is_ok())
    }

    /// Hands a message to the topic's subscribers; false when there are none.
    pub(crate) fn publish(&self, topic: &str, message: Message) -> bool {
        let topics = self.0.topics.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        topics.get(topic).is_some_and(|sender| sender.send(message).is_ok())
    }
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    let good = !name.is_empty() && name.len() <= PREFACE_MAX_BYTES && !name.starts_with("peerkeep/");
    if good { Ok(()) } else { Err(RegistryError::Name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_has_one_taker_and_is_free_again_when_that_goes() {
        let registry = Registry::default();
        let first = registry.accept("echo", 1).expect("free");
        assert_eq!(registry.accept("echo", 1).unwrap_err(), RegistryError::Taken);
        drop(first);
        assert!(matches!(registry.room("echo"), Taken::Unknown));
        registry.accept("echo", 1).expect("free again");
    }

    #[test]
    fn names_are_bounded_and_ours_are_ours() {
        let registry = Registry::default();
        for name in ["", "peerkeep/control", &"x".repeat(129)] {
            assert_eq!(registry.accept(name, 1).unwrap_err(), RegistryError::Name);
            assert!(registry.messages(name, 1).is_err());
        }
    }

    #[test]
    fn fault_c11_a_subscriber_that_does_not_read_is_told_what_it_missed() {
        let registry = Registry::default();
        let mut slow = registry.messages("news", 2).expect("a name");
        let message = Message { from: PeerKey::ed25519([1; 32]), payload: Bytes::from_static(b"x") };
        for _ in 0..5 {
            assert!(registry.publish("news", message.clone()));
        }
        assert_eq!(slow.try_recv(), Err(broadcast::error::TryRecvError::Lagged(3)));
        assert_eq!(slow.try_recv(), Ok(message.clone()));
        assert!(!registry.publish("other", message));
    }
}
