//! Who in this program takes the channels that peers open: protocol names to bounded queues. Nothing here waits: a full
//! queue refuses a channel. What a name may look like is the stack's.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::mpsc;

/// A channel that knows what is spoken on it.
pub trait Named {
    /// Its protocol.
    fn protocol(&self) -> &str;
}

/// The protocols of one node for one kind of channel. Cheap to clone; all clones are one.
#[derive(Debug)]
pub struct Protocols<C>(Arc<RwLock<Table<C>>>);

type Table<C> = BTreeMap<Box<str>, mpsc::Sender<C>>;

/// Whether a protocol has a taker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It has, and one with room.
    Yes,
    /// It has none.
    Unknown,
    /// Its taker has as many waiting as it may.
    Busy,
}

impl<C> Clone for Protocols<C> {
    fn clone(&self) -> Protocols<C> {
        Protocols(self.0.clone())
    }
}

impl<C> Default for Protocols<C> {
    fn default() -> Protocols<C> {
        Protocols(Arc::default())
    }
}

impl<C: Named> Protocols<C> {
    /// Takes the channels that peers open for `protocol` until the receiver is dropped. At most `capacity` (at least 1)
    /// wait to be taken. `None` when somebody takes them already.
    pub fn accept(&self, protocol: &str, capacity: usize) -> Option<mpsc::Receiver<C>> {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if table.get(protocol).is_some_and(|sender| !sender.is_closed()) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        table.insert(protocol.into(), sender);
        Some(receiver)
    }

    /// Whether somebody takes this protocol, and has room.
    pub fn room(&self, protocol: &str) -> Room {
        match self.table().get(protocol) {
            Some(sender) if sender.is_closed() => Room::Unknown,
            Some(sender) if sender.capacity() == 0 => Room::Busy,
            Some(_) => Room::Yes,
            None => Room::Unknown,
        }
    }

    /// The protocols that have a taker now.
    pub fn names(&self) -> Vec<Box<str>> {
        let table = self.table();
        table.iter().filter(|(_, sender)| !sender.is_closed()).map(|(name, _)| name.clone()).collect()
    }

    /// Hands a channel over; false when nobody takes it after all.
    pub fn deliver(&self, channel: C) -> bool {
        self.table().get(channel.protocol()).is_some_and(|sender| sender.try_send(channel).is_ok())
    }

    fn table(&self) -> RwLockReadGuard<'_, Table<C>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Named for u8 {
        fn protocol(&self) -> &str {
            "echo"
        }
    }

    #[test]
    fn a_protocol_has_one_taker_and_is_free_again_when_that_goes() {
        let protocols = Protocols::default();
        let mut first = protocols.accept("echo", 1).expect("free");
        assert!(protocols.accept("echo", 1).is_none());
        assert!(protocols.deliver(7_u8));
        assert_eq!((protocols.room("echo"), protocols.deliver(8)), (Room::Busy, false));
        assert_eq!(first.try_recv(), Ok(7));
        drop(first);
        assert_eq!((protocols.room("echo"), protocols.names().len()), (Room::Unknown, 0));
        let _second = protocols.accept("echo", 1).expect("free again");
        assert_eq!(protocols.names(), ["echo".into()]);
    }
}
