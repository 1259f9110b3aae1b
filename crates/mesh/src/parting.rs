//! The way out of a link: say goodbye, shut, wait for the other side to shut. A link that another one replaces first lets
//! what is open on it come to its end, on both sides. It keeps the stage; the link's task does the work.

use peerkeep_core::Close;
use peerkeep_net::Ended;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// A link on its way out.
pub(crate) struct Parting {
    /// It is over then, whatever happens.
    pub deadline: Pin<Box<Sleep>>,
    pub stage: Stage,
    pub why: Close,
    /// The other side has said goodbye.
    pub heard: bool,
    ours: bool,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Replaced: channels and messages come to their end.
    Finishing,
    /// The goodbye is due,
    Greeting,
    /// on its way,
    Saying,
    /// and, if replaced, answered by theirs.
    Hearing,
    /// The multiplexer is closing.
    Shutting,
    /// The other side is awaited.
    Draining,
}

impl Parting {
    /// How long a link waits for channels when the other side alone has begun: its own order or theirs comes before.
    pub const LONGEST: Duration = Duration::from_secs(3_600);

    /// `ours` when the owner ordered it.
    pub fn new(why: Close, deadline: Instant, ours: bool) -> Box<Parting> {
        let stage = if why == Close::Replaced { Stage::Finishing } else { Stage::Greeting };
        Box::new(Parting { deadline: Box::pin(sleep_until(deadline)), stage, why, heard: false, ours })
    }

    /// The owner orders it, perhaps again: another reason does not wait for what is open.
    pub fn order(&mut self, why: Close, deadline: Instant) {
        self.ours = true;
        self.deadline.as_mut().reset(deadline);
        if why != self.why && !self.is_shut() {
            (self.why, self.stage) = (why, Stage::Greeting);
        }
    }

    /// Nothing is read or written by the link itself any more.
    pub fn is_shut(&self) -> bool {
        matches!(self.stage, Stage::Shutting | Stage::Draining)
    }

    /// All is said: whatever ends it now is its end.
    pub fn is_said(&self) -> bool {
        self.stage == Stage::Hearing || self.is_shut()
    }

    /// It has not come to shutting yet, for the sake of what is open.
    pub fn is_finishing(&self) -> bool {
        self.why == Close::Replaced && !self.is_shut()
    }

    /// How the link has ended, when this is how.
    pub fn end(&self) -> Ended {
        if self.ours { Ended::Asked } else { Ended::Goodbye(self.why) }
    }
}
