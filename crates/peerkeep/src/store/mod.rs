//! What a node remembers between starts: peers, bans and history, in one SQLite file.
//!
//! The node never waits for the disk: changes go into a queue that keeps one entry per peer and per ban, and a thread
//! writes them in batches. When the disk is full or read-only the node goes on from memory, says so, and tries again
//! (fault K3). A damaged file is put aside and read for what is still good (fault K4); a file of a newer program is left
//! alone (fault K5). It decides nothing and knows nothing of connections.

mod error;
mod file;
pub mod fuzzing;
mod queue;
mod row;
mod writer;

pub use error::StoreError;
pub use file::Loaded;
pub use row::{StoredBan, StoredEvent, StoredPeer};

use crate::Ailment;
use file::Trouble;
use peerkeep_core::{Target, Who};
use queue::{Change, Queue};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// Peers that are remembered to be dialled first, at most.
pub const MAX_ANCHORS: usize = 4;

/// The file's name in the data folder.
pub const STORE_FILE: &str = "peerkeep.db";

/// How much a store keeps at most (fault K6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreLimits {
    /// Peers.
    pub peers: u32,
    /// Bans.
    pub bans: u32,
    /// Events of one peer.
    pub history_per_peer: u32,
    /// Events in all.
    pub history: u32,
}

impl Default for StoreLimits {
    fn default() -> StoreLimits {
        StoreLimits { peers: 100_000, bans: 10_000, history_per_peer: 64, history: 50_000 }
    }
}

/// An open store. Cheap to clone; the thread that writes ends with [`Store::close`].
#[derive(Clone)]
pub struct Store {
    queue: Arc<Queue>,
    ended: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
}

impl Store {
    /// Keeps from now on so much at most; what is too much goes with the next writing of its kind.
    pub fn limit(&self, limits: StoreLimits) {
        self.queue.limit(limits);
    }

    /// Opens the store in that folder, or makes one.
    ///
    /// # Errors
    /// Only when going on could destroy something: a newer program's file, or a damaged one that cannot be put aside.
    pub async fn open(folder: &Path, limits: StoreLimits) -> Result<(Store, Loaded), StoreError> {
        let path = folder.join(STORE_FILE);
        let queue = Arc::new(Queue::new(limits));
        let (opened, loaded) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let shared = queue.clone();
        let thread = std::thread::Builder::new().name("peerkeep-store".to_owned());
        let unborn =
            |error: io::Error| StoreError::Database { path: folder.into(), error: sqlx::Error::Io(error) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(unborn)?;
        thread
            .spawn(move || {
                runtime.block_on(serve(path, shared, opened));
                let _ = done.send(());
            })
            .map_err(unborn)?;
        let loaded = loaded.await.map_err(|_| unborn(io::Error::other("the store's thread ended")))??;
        Ok((Store { queue, ended: Arc::new(Mutex::new(Some(ended))) }, loaded))
    }

    /// Remembers a peer, in place of what was known of it.
    pub fn put_peer(&self, peer: StoredPeer) {
        self.queue.push_peer(peer.who, Change::Put(peer));
    }

    /// Forgets a peer.
    pub fn remove_peer(&self, who: Who) {
        self.queue.push_peer(who, Change::Remove);
    }

    /// Remembers a ban.
    pub fn put_ban(&self, ban: StoredBan) {
        self.queue.push_ban(ban.target, Change::Put(ban));
    }

    /// Forgets a ban.
    pub fn remove_ban(&self, target: Target) {
        self.queue.push_ban(target, Change::Remove);
    }

    /// Adds to a peer's history. Dropped when 4,096 wait already.
    pub fn put_event(&self, event: StoredEvent) {
        self.queue.push_event(event);
    }

    /// Remembers the boot epoch.
    pub fn put_epoch(&self, epoch: u64) {
        self.queue.push_epoch(epoch);
    }

    /// Remembers whom to dial first at the next start; at most [`MAX_ANCHORS`].
    pub fn put_anchors(&self, anchors: Vec<Who>) {
        self.queue.push_anchors(anchors);
    }

    /// Waits until everything that was put before is on the disk; false when it cannot be now.
    pub async fn flush(&self) -> bool {
        let (done, answer) = oneshot::channel();
        self.queue.ask(queue::Ask::Flush(done));
        answer.await.unwrap_or(false)
    }

    /// The latest events of one peer or of all, newest first, at most `limit`.
    pub async fn history(&self, who: Option<Who>, limit: u32) -> Vec<StoredEvent> {
        let (done, answer) = oneshot::channel();
        self.queue.ask(queue::Ask::History { who, limit, done });
        answer.await.unwrap_or_default()
    }

    /// What is wrong with the store, if anything.
    pub fn ailment(&self) -> Option<Ailment> {
        self.queue.ailment()
    }

    /// Waits until the store falls ill or recovers. One waiter.
    pub async fn health_changed(&self) {
        self.queue.health.notified().await;
    }

    /// Writes what waits, as far as it can be written, and closes the file.
    pub async fn close(&self) {
        self.queue.close();
        let ended = self.ended.lock().ok().and_then(|mut ended| ended.take());
        if let Some(ended) = ended {
            let _ = ended.await;
        }
    }
}

/// The store's thread: opens, tells what was found, and writes until the queue is closed.
async fn serve(path: PathBuf, queue: Arc<Queue>, opened: oneshot::Sender<Result<Loaded, StoreError>>) {
    let (conn, loaded) = match open_or_repair(&path, queue.limits()).await {
        Ok(Opened::Whole(conn, loaded)) => (Some(conn), loaded),
        Ok(Opened::Nothing(trouble)) => {
            queue.fell_ill(trouble);
            (None, Loaded::default())
        }
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    if loaded.bad_rows > 0 {
        tracing::error!(rows = loaded.bad_rows, "damaged rows in the store were left out");
    }
    if opened.send(Ok(loaded)).is_ok() {
        writer::run(path, conn, queue).await;
    }
}

enum Opened {
    Whole(sqlx::SqliteConnection, Loaded),
    Nothing(String),
}

async fn open_or_repair(path: &Path, limits: StoreLimits) -> Result<Opened, StoreError> {
    let most = limits.peers.max(limits.bans);
    match open_and_load(path, most).await {
        Ok((conn, loaded)) => Ok(Opened::Whole(conn, loaded)),
        Err(Trouble::Newer { theirs, ours }) => Err(StoreError::Newer { path: path.into(), theirs, ours }),
        Err(Trouble::Disk(error)) => {
            tracing::warn!(path = %path.display(), %error, "the store cannot be opened; going on without it");
            Ok(Opened::Nothing(error.to_string()))
        }
        Err(Trouble::Damaged(error)) => {
            let (aside, saved) = file::quarantine(path, most).await?;
            report_damage(path, &aside, &error.to_string(), &saved);
            match open_and_load(path, most).await {
                Ok((mut conn, _)) => {
                    if let Err(trouble) = writer::restore(&mut conn, &saved).await {
                        return Ok(Opened::Nothing(trouble.text()));
                    }
                    Ok(Opened::Whole(conn, Loaded { bad_rows: 0, ..saved }))
                }
                Err(trouble) => Ok(Opened::Nothing(trouble.text())),
            }
        }
    }
}

async fn open_and_load(path: &Path, most: u32) -> Result<(sqlx::SqliteConnection, Loaded), Trouble> {
    let mut conn = file::open(path).await?;
    let loaded = file::load(&mut conn, most).await?;
    Ok((conn, loaded))
}

fn report_damage(path: &Path, aside: &Path, error: &str, saved: &Loaded) {
    tracing::error!(
        path = %path.display(),
        put_aside = %aside.display(),
        error,
        peers_saved = saved.peers.len(),
        bans_saved = saved.bans.len(),
        "the store was damaged: it was put aside and a new one was made of what could be read"
    );
}

#[cfg(test)]
mod power;
#[cfg(test)]
mod tests;
