//! Who in this program takes channels and messages: protocol names to bounded queues, topics to bounded broadcasts.
//! Nothing here waits: a full queue refuses a channel, and a subscriber that does not read is told what it missed.

use crate::{Channel, PREFACE_MAX_BYTES};
use bytes::Bytes;
use peerkeep_channels::{Named, Protocols};
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
    protocols: Protocols<Channel>,
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

impl Named for Channel {
    fn protocol(&self) -> &str {
        Channel::protocol(self)
    }
}

impl Registry {
    /// Takes the channels that peers open for `protocol`. At most `capacity` (at least 1) wait to be taken; a peer
    /// that opens more is told to come back.
    ///
    /// # Errors
    /// A bad name, or one that is taken.
    pub fn accept(&self, protocol: &str, capacity: usize) -> Result<Incoming, RegistryError> {
        check_name(protocol)?;
        self.0.protocols.accept(protocol, capacity).ok_or(RegistryError::Taken)
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

    /// Who takes which channels.
    pub(crate) fn protocols(&self) -> &Protocols<Channel> {
        &self.0.protocols
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
