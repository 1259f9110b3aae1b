//! What of a running node's sockets and files can be exchanged: its open ports, the options of its TCP connections and
//! its journal. It holds the new and lets go of the old; it decides nothing.

use crate::recorder::Recorder;
use crate::{Serving, TcpOptions};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The open ports of a node. Cheap to clone. Once closed for a shutdown, none is opened again.
#[derive(Debug, Clone, Default)]
pub struct Listeners(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    serving: Vec<Serving>,
    is_closed: bool,
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps ports open; closes them at once when the node is going down.
    pub fn add(&self, more: impl IntoIterator<Item = Serving>) {
        let mut open = self.lock();
        if !open.is_closed {
            open.serving.extend(more);
        }
    }

    /// Takes out those that are not to stay, for the caller to stop.
    pub fn take_all_but(&self, stays: impl Fn(SocketAddr) -> bool) -> Vec<Serving> {
        self.lock().serving.extract_if(.., |serving| !stays(serving.local())).collect()
    }

    /// Closes them all, for good.
    pub fn close(&self) {
        let mut open = self.lock();
        open.is_closed = true;
        open.serving.clear();
    }
}

/// The options of TCP connections, when they are others than at the start.
#[derive(Debug, Clone, Default)]
pub struct Tuning(watch::Sender<Option<TcpOptions>>);

impl Tuning {
    /// From now on these, also for connections that are up. Their stacks are told in any case, so set it last.
    pub fn set(&self, options: TcpOptions) {
        self.0.send_replace(Some(options));
    }

    /// What holds in place of those of the start.
    pub(crate) fn over(&self, start: TcpOptions) -> TcpOptions {
        self.now().unwrap_or(start)
    }

    /// Those of the last change.
    pub(crate) fn now(&self) -> Option<TcpOptions> {
        *self.0.borrow()
    }

    /// Tells of every change from now on.
    pub(crate) fn follow(&self) -> watch::Receiver<Option<TcpOptions>> {
        self.0.subscribe()
    }
}

/// A journal that is no longer written. Dropping it waits for the disk, so drop it where that holds nobody up.
pub struct Retired(pub(crate) Option<Recorder>);

impl std::fmt::Debug for Retired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Retired").field(&self.0.is_some()).finish()
    }
}
