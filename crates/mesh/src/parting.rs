//! The way out of a link: say goodbye, shut, wait for the other side to shut. A link that another one replaces first lets
//! what is open on it come to its end, on both sides. It keeps the stage; the link's task does the work.

use peerkeep_core::{Close, ConnRef};
use peerkeep_net::Ended;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
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
    /// Messages that wait go first, until then.
    empty_by: Pin<Box<Sleep>>,
    /// It is heard out until then at most,
    longest: Instant,
    /// as long as this number changes.
    seen: u64,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// They have said goodbye, and what they sent before is read.
    HearingOut,
    /// Replaced: channels and messages come to their end. Else in good order: messages do.
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

    /// How long somebody who said goodbye is heard out,
    const HEARD_OUT: Duration = Duration::from_secs(5);
    /// and without news from the way or from those who read.
    const QUIET: Duration = Duration::from_millis(250);

    /// `ours` when the owner ordered it.
    pub fn new(why: Close, deadline: Instant, ours: bool) -> Box<Parting> {
        let now = Instant::now();
        let half = now + deadline.saturating_duration_since(now) / 2;
        Box::new(Parting {
            deadline: Box::pin(sleep_until(deadline)),
            stage: if is_gentle(why) { Stage::Finishing } else { Stage::Greeting },
            why,
            heard: false,
            ours,
            empty_by: Box::pin(sleep_until(half)),
            longest: deadline,
            seen: 0,
        })
    }

    /// They have said goodbye while channels are open or messages come in.
    pub fn hear_out(why: Close) -> Box<Parting> {
        let parting = Parting::new(why, Instant::now() + Parting::HEARD_OUT, false);
        Box::new(Parting { stage: Stage::HearingOut, heard: true, ..*parting })
    }

    /// There is, or is no, news while they are heard out: `number` changes with it. `last` when nothing but the readers
    /// is waited for.
    pub fn note(&mut self, number: u64, last: bool, patience: Duration) {
        if last && std::mem::replace(&mut self.seen, number) != number {
            let quiet = Instant::now() + Parting::QUIET.max(patience);
            self.deadline.as_mut().reset(quiet.min(self.longest));
        }
    }

    /// Whether the goodbye need not wait for messages any longer.
    pub fn poll_impatient(&mut self, cx: &mut Context<'_>) -> bool {
        self.why != Close::Replaced && self.empty_by.as_mut().poll(cx).is_ready()
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

    /// They have said goodbye, and what they sent before is read.
    pub fn is_hearing_out(&self) -> bool {
        self.stage == Stage::HearingOut
    }

    /// It has not come to shutting yet, for the sake of what is open.
    pub fn is_finishing(&self) -> bool {
        self.why == Close::Replaced && !self.is_shut()
    }

    /// What became of the goodbye, for whoever looks closer.
    pub fn log(&self, conn: ConnRef) {
        let (why, goodbye) = (self.why, self.fate());
        tracing::debug!(%conn, ?why, goodbye, "a connection was closed");
    }

    fn fate(&self) -> &'static str {
        match self.stage {
            Stage::HearingOut => "heard",
            Stage::Finishing | Stage::Greeting | Stage::Saying => "not sent in time",
            _ if self.heard => "sent and answered",
            Stage::Hearing | Stage::Shutting | Stage::Draining => "sent and not answered",
        }
    }

    /// How the link has ended, when this is how.
    pub fn end(&self) -> Ended {
        if self.ours { Ended::Asked } else { Ended::Goodbye(self.why) }
    }
}

/// Whether what was sent before the end is worth waiting for.
pub(crate) fn is_gentle(why: Close) -> bool {
    !matches!(why, Close::Banned | Close::Violation | Close::Dead | Close::Timeout | Close::Cancelled)
}
