//! Which links are up, so that applications reach them without passing the core. Entries come at `Ready` and go with
//! the link. The lock is held for a look-up only, never across an await.

use crate::Bytes;
use peerkeep_core::{ConnRef, PeerKey};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The handles of one stack's links. Cheap to clone. Bounded by the core's limit on conns.
#[derive(Debug)]
pub struct Directory<H>(Arc<RwLock<HashMap<PeerKey, Vec<Entry<H>>>>>);

/// One link that is up.
#[derive(Debug, Clone)]
pub struct Entry<H> {
    /// Which conn.
    pub conn: ConnRef,
    /// What uses it.
    pub handle: H,
    /// Its byte counters.
    pub bytes: Arc<Bytes>,
}

impl<H> Clone for Directory<H> {
    fn clone(&self) -> Self {
        Directory(self.0.clone())
    }
}

impl<H> Default for Directory<H> {
    fn default() -> Self {
        Directory(Arc::default())
    }
}

impl<H: Clone> Directory<H> {
    /// The link to a peer; of two, the later one.
    pub fn find(&self, key: &PeerKey) -> Option<Entry<H>> {
        self.read().get(key).and_then(|links| links.last().cloned())
    }

    /// A certain link to a peer.
    pub fn find_conn(&self, key: &PeerKey, conn: ConnRef) -> Option<Entry<H>> {
        self.read().get(key)?.iter().find(|link| link.conn == conn).cloned()
    }

    /// One link per peer, in no order: for broadcasts.
    pub fn all(&self) -> Vec<(PeerKey, Entry<H>)> {
        self.read().iter().filter_map(|(key, links)| Some((*key, links.last()?.clone()))).collect()
    }

    /// How many peers have a link.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether no peer has a link.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn insert(&self, key: PeerKey, entry: Entry<H>) {
        self.write().entry(key).or_default().push(entry);
    }

    pub(crate) fn remove(&self, key: &PeerKey, conn: ConnRef) {
        let mut table = self.write();
        if let Some(links) = table.get_mut(key) {
            links.retain(|link| link.conn != conn);
            if links.is_empty() {
                table.remove(key);
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<PeerKey, Vec<Entry<H>>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<PeerKey, Vec<Entry<H>>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_links_is_found_and_the_earlier_after_it() {
        let directory = Directory::default();
        let key = PeerKey::ed25519([1; 32]);
        let conn = |row| ConnRef { row, generation: 0 };
        for row in [1, 2] {
            directory.insert(key, Entry { conn: conn(row), handle: row, bytes: Arc::default() });
        }
        assert_eq!(directory.find(&key).map(|link| link.handle), Some(2));
        assert_eq!(directory.find_conn(&key, conn(1)).map(|link| link.handle), Some(1));
        assert_eq!((directory.len(), directory.all().len()), (1, 1));
        directory.remove(&key, conn(2));
        assert_eq!(directory.find(&key).map(|link| link.handle), Some(1));
        directory.remove(&key, conn(2));
        directory.remove(&key, conn(1));
        assert!(directory.find(&key).is_none() && directory.is_empty());
    }
}
