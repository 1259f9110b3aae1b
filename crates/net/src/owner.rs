//! The handle on the owner task: what the library calls. Every call is a bounded message that is answered exactly
//! once; none of them waits for another. The task itself is in `engine`.

use crate::waiters::{Outcome, Until};
use crate::{Clock, Counters, Facts, JournalOptions, Listeners, Names, Retired, Surroundings, Tuning};
use peerkeep_core::{Addrs, Answer, Change, Command, ContactRef, Time, View, Who};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Commands that may wait for the owner; further ones are refused as [`OwnerError::Busy`].
pub const MAX_COMMANDS: usize = 1_024;

/// Questions that may wait for the owner; further ones are refused as [`OwnerError::Busy`].
pub const MAX_ASKS: usize = 1_024;

/// A handle on the owner task. Cheap to clone; usable from any thread.
#[derive(Debug, Clone)]
pub struct Owner(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    facts: Facts,
    names: Names,
    clock: Clock,
    counters: Arc<Counters>,
    listeners: Listeners,
    tuning: Tuning,
    requests: Mutex<Requests>,
    ready: Arc<Notify>,
}

/// What was asked of the owner and not looked at yet.
#[derive(Default)]
pub(crate) struct Requests {
    pub commands: Vec<Request>,
    pub asks: Vec<Ask>,
    pub changes: Vec<Change>,
    pub journals: Vec<Rerecord>,
    is_closed: bool,
}

/// Another journal, or none, and who gets the old one.
pub(crate) struct Rerecord {
    pub options: Option<JournalOptions>,
    pub to: oneshot::Sender<std::io::Result<Retired>>,
}

/// A command and who waits for it.
pub(crate) struct Request {
    pub command: Command,
    pub then: Then,
}

/// Who gets what of a command.
pub(crate) enum Then {
    /// The answer.
    Answer(oneshot::Sender<Answer>),
    /// The outcome of an attempt to connect.
    Outcome(Until, oneshot::Sender<Outcome>),
    /// The answer to a shutdown, which then takes at most that long.
    Drain(Duration, oneshot::Sender<Answer>),
}

/// Whom the current command's answer is for.
pub(crate) struct Waiting {
    pub then: Then,
    /// Whom a connect is about.
    pub who: Option<Who>,
    /// The contact whose attempt the command ends.
    pub called_off: Option<ContactRef>,
}

/// A question, run on the owner task between two steps.
pub(crate) type Ask = Box<dyn FnOnce(View<'_>, Time) + Send>;

/// Why the owner did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Too many requests wait; nothing was done.
    #[error("too many requests are waiting")]
    Busy,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

impl Owner {
    pub(crate) fn new(clock: Clock, counters: Arc<Counters>) -> Owner {
        let ready = Arc::new(Notify::new());
        Owner(Arc::new(Shared {
            facts: Facts::waking(ready.clone()),
            names: Names::default(),
            clock,
            counters,
            listeners: Listeners::default(),
            tuning: Tuning::default(),
            requests: Mutex::default(),
            ready,
        }))
    }

    /// Gives a command; its answer comes from its own step.
    ///
    /// # Errors
    /// See [`OwnerError`].
    pub async fn command(&self, command: Command) -> Result<Answer, OwnerError> {
        let (tx, rx) = oneshot::channel();
        self.request(Request { command, then: Then::Answer(tx) })?;
        rx.await.map_err(|_| OwnerError::Stopped)
    }

    /// Connects and waits for the outcome, at most `wait`; then [`Outcome::TimedOut`], and the attempt goes on.
    /// Dropping the future abandons the waiting, not the attempt.
    ///
    /// # Errors
    /// See [`OwnerError`]; a refusal is an [`Outcome`].
    pub async fn connect(
        &self,
        who: Who,
        addrs: Addrs,
        until: Until,
        wait: Duration,
    ) -> Result<Outcome, OwnerError> {
        let named = !self.0.names.of(&who).is_empty();
        let (tx, rx) = oneshot::channel();
        let command = Command::Connect { who, addrs, named };
        self.request(Request { command, then: Then::Outcome(until, tx) })?;
        match tokio::time::timeout(wait, rx).await {
            Ok(outcome) => outcome.map_err(|_| OwnerError::Stopped),
            Err(_elapsed) => Ok(Outcome::TimedOut),
        }
    }

    /// Asks something of the core's state. The closure runs on the owner task and must be quick.
    ///
    /// # Errors
    /// See [`OwnerError`].
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(View<'_>, Time) -> T + Send + 'static,
    ) -> Result<T, OwnerError> {
        let (tx, rx) = oneshot::channel();
        let ask: Ask = Box::new(move |view, now| {
            // Who asked may have given up.
            let _ = tx.send(question(view, now));
        });
        self.put(|requests| {
            (requests.asks.len() < MAX_ASKS).then(|| requests.asks.push(ask)).ok_or(OwnerError::Busy)
        })?;
        rx.await.map_err(|_| OwnerError::Stopped)
    }

    /// Says goodbye to everybody and stops: listeners first, and whatever is left after `limit` is cut. Returns once
    /// the core has taken it; await [`crate::Running`] for the end.
    ///
    /// # Errors
    /// See [`OwnerError`].
    pub async fn shutdown(&self, limit: Duration) -> Result<Answer, OwnerError> {
        let (tx, rx) = oneshot::channel();
        self.request(Request { command: Command::Shutdown, then: Then::Drain(limit, tx) })?;
        rx.await.map_err(|_| OwnerError::Stopped)
    }

    /// Tells of a change of the machine's network. Changes that wait are told once.
    pub fn network_changed(&self, change: Change) {
        let _ = self.put(|requests| {
            if requests.changes.last() != Some(&change) {
                // Only the last word on the network matters.
                requests.changes.clear();
                requests.changes.push(change);
            }
            Ok(())
        });
    }

    /// Where drivers and listeners report.
    pub fn facts(&self) -> Facts {
        self.0.facts.clone()
    }

    /// The host names of contacts.
    pub fn names(&self) -> &Names {
        &self.0.names
    }

    /// The node's clock.
    pub fn clock(&self) -> Clock {
        self.0.clock
    }

    /// What net has counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.0.counters
    }

    /// The open ports.
    pub fn listeners(&self) -> &Listeners {
        &self.0.listeners
    }

    /// The options of TCP connections made from now on.
    pub fn tuning(&self) -> &Tuning {
        &self.0.tuning
    }

    /// Ends the journal in use, and then begins another, or none. What happens in between is in neither; a journal
    /// begins with all there is.
    ///
    /// # Errors
    /// See [`OwnerError`]; the inner one is that the new journal's folder cannot be used, and none is kept then.
    pub async fn record(&self, options: Option<JournalOptions>) -> Result<std::io::Result<()>, OwnerError> {
        let old = match self.rerecord(None).await? {
            Ok(old) => old,
            Err(error) => return Ok(Err(error)),
        };
        // The files are numbered: the old one has to be through before the new one looks at the folder.
        let _ = tokio::task::spawn_blocking(move || drop(old)).await;
        match options {
            Some(options) => Ok(self.rerecord(Some(options)).await?.map(drop)),
            None => Ok(Ok(())),
        }
    }

    async fn rerecord(
        &self,
        options: Option<JournalOptions>,
    ) -> Result<std::io::Result<Retired>, OwnerError> {
        let (to, rx) = oneshot::channel();
        let request = Rerecord { options, to };
        self.put(|requests| match requests.journals.len() {
            0 => {
                requests.journals.push(request);
                Ok(())
            }
            _ => Err(OwnerError::Busy),
        })?;
        rx.await.map_err(|_| OwnerError::Stopped)
    }

    /// What a driver needs of this node.
    pub fn surroundings(&self) -> Surroundings {
        let (facts, counters) = (self.facts(), self.0.counters.clone());
        Surroundings { clock: self.0.clock, facts, counters, tuning: self.0.tuning.clone() }
    }

    fn request(&self, request: Request) -> Result<(), OwnerError> {
        self.put(|requests| {
            // A shutdown is never refused for want of room.
            if requests.commands.len() >= MAX_COMMANDS && !matches!(request.then, Then::Drain(..)) {
                return Err(OwnerError::Busy);
            }
            requests.commands.push(request);
            Ok(())
        })
    }

    fn put(&self, act: impl FnOnce(&mut Requests) -> Result<(), OwnerError>) -> Result<(), OwnerError> {
        let result = {
            let mut requests = self.requests();
            if requests.is_closed { Err(OwnerError::Stopped) } else { act(&mut requests) }
        };
        match result {
            Ok(()) => self.0.ready.notify_one(),
            Err(OwnerError::Busy) => self.0.counters.busy.add_one(),
            Err(OwnerError::Stopped) => {}
        }
        result
    }

    /// Waits until facts or requests are there.
    pub(crate) async fn ready(&self) {
        self.0.ready.notified().await;
    }

    /// Takes all requests that wait.
    pub(crate) fn take(&self) -> Requests {
        let mut requests = self.requests();
        let is_closed = requests.is_closed;
        std::mem::replace(&mut requests, Requests { is_closed, ..Requests::default() })
    }

    /// Takes no more requests; those that wait are answered `Stopped`.
    pub(crate) fn close(&self) {
        self.0.listeners.close();
        *self.requests() = Requests { is_closed: true, ..Requests::default() };
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.0.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests")
            .field("commands", &self.commands.len())
            .field("asks", &self.asks.len())
            .finish_non_exhaustive()
    }
}
