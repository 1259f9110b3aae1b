//! How many connections a listener has, for programs that must know that both sides agree on it. It refuses to count anything
//! but what it is told.

use anyhow::{Context, Result};
use tokio::sync::watch;

/// Counts the connections of a listener.
#[derive(Clone)]
pub struct Tally(watch::Sender<Counts>);

/// What a [`Tally`] has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Connections up now.
    pub up: usize,
    /// Connections that ever came up.
    pub met: u64,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new()
    }
}

impl Tally {
    /// Counts nothing yet.
    pub fn new() -> Tally {
        Tally(watch::Sender::new(Counts::default()))
    }

    /// A connection came up.
    pub fn rise(&self) {
        self.0.send_modify(|counts| {
            counts.up += 1;
            counts.met += 1;
        });
    }

    /// A connection that was up has ended.
    pub fn fall(&self) {
        self.0.send_modify(|counts| counts.up = counts.up.saturating_sub(1));
    }

    /// Waits until exactly `up` connections are up and exactly `met` have ever been.
    pub async fn settle(&self, up: usize, met: u64) -> Result<()> {
        let mut seen = self.0.subscribe();
        let wait = seen.wait_for(|counts| counts.up == up && counts.met == met);
        wait.await.context("the listener ended")?;
        Ok(())
    }

    /// Waits until exactly `up` connections are up, however many have been.
    pub async fn rest(&self, up: usize) -> Result<()> {
        let mut seen = self.0.subscribe();
        seen.wait_for(|counts| counts.up == up).await.context("the listener ended")?;
        Ok(())
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        *self.0.borrow()
    }
}
