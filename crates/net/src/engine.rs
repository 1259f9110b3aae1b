//! Starting the owner task, and what is left when it has stopped. The task itself is in `task`.

use crate::task::Task;
use crate::{Clock, Counters, Driver, JournalOptions, Observer, Owner, Serving, Shards};
use peerkeep_core::{Action, Config, ConfigError};
use std::sync::Arc;
use tokio::sync::oneshot;

/// An owner that is not running yet: drivers and listeners are built on its handle first.
#[derive(Debug)]
pub struct Engine {
    owner: Owner,
}

/// What a node starts with.
pub struct Setup {
    /// The core's configuration.
    pub config: Config,
    /// Feeds jitter and hashing only, never a secret; goes into the journal.
    pub seed: [u8; 32],
    /// Where to keep the journal; `None` keeps none.
    pub journal: Option<JournalOptions>,
    /// Stepped before anything else: stored peers (`Learned`), stored bans and wishes.
    pub first: Box<dyn Iterator<Item = Action> + Send>,
    /// One per stack at most.
    pub drivers: Vec<Box<dyn Driver>>,
    /// Stopped when a shutdown begins.
    pub listeners: Vec<Serving>,
    /// Who hears what happens.
    pub observer: Box<dyn Observer>,
}

/// Why the owner did not start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The configuration does not hold together.
    #[error("the configuration does not hold together: {0:?}")]
    Config(ConfigError),
    /// The journal's folder cannot be used.
    #[error("the journal cannot be written: {0}")]
    Journal(#[source] std::io::Error),
}

/// The running owner.
#[derive(Debug)]
pub struct Running {
    ended: oneshot::Receiver<Stopped>,
}

/// Why the owner stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// A shutdown was asked for; how many conns had to be cut.
    Asked {
        /// Conns that were not gone in time.
        cut: usize,
    },
    /// A bug: the core panicked. The journal was flushed; the process should exit and be restarted.
    Panicked,
}

impl Running {
    /// Waits until the owner has stopped.
    pub async fn stopped(self) -> Stopped {
        self.ended.await.unwrap_or(Stopped::Panicked)
    }
}

/// A handle and the engine behind it.
pub fn prepare() -> (Owner, Engine) {
    let owner = Owner::new(Clock::start(), Arc::new(Counters::default()));
    (owner.clone(), Engine { owner })
}

impl Engine {
    /// Starts the owner task on the current tokio runtime.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn start(self, setup: Setup) -> Result<Running, SetupError> {
        let (task, first) = Task::new(self.owner, setup)?;
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            // Nobody may want to know.
            let _ = end.send(task.run(first).await);
        });
        Ok(Running { ended })
    }

    /// The same among the link tasks of the first shard: on one thread a fact costs no system call on its way to the
    /// owner, and an order none on its way back.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn start_on(self, shards: &Shards, setup: Setup) -> Result<Running, SetupError> {
        let home = shards.home();
        let _at = home.enter();
        let (task, first) = Task::new(self.owner, setup)?;
        let (end, ended) = oneshot::channel();
        shards.spawn(0, move || async move {
            let _ = end.send(task.run(first).await);
        });
        Ok(Running { ended })
    }
}
