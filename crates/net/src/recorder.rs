//! Puts every action into the journal before it is stepped: encodes (with the core's own encoder), buffers, and hands
//! buffers to the ring of files. When the disk cannot follow it leaves a gap, counts it, and goes on with a new segment.

use crate::ring::{NotNow, Ring};
use crate::{Clock, Counters, JournalOptions};
use peerkeep_core::{Action, Core, Time, journal};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The journal of a running core.
pub(crate) struct Recorder {
    ring: Ring,
    counters: Arc<Counters>,
    segment_limit_bytes: u64,
    segment_bytes: u64,
    buffer: Vec<u8>,
    /// When the buffer is handed over at the latest.
    flush_at: Option<Time>,
    state: State,
}

enum State {
    /// A segment is open.
    Recording,
    /// Nothing is recorded until then; a failure after that doubles the pause.
    Gap { until: Time, pause: Duration },
}

/// A full buffer is handed over at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A record reaches the file at most this much later, also when nothing else happens.
const FLUSH_AFTER: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Recorder {
    /// Opens the folder and begins a segment with the core as it is.
    pub fn start(
        options: &JournalOptions,
        core: &Core,
        now: Time,
        counters: Arc<Counters>,
    ) -> io::Result<Recorder> {
        let mut recorder = Recorder {
            ring: Ring::open(options)?,
            counters,
            segment_limit_bytes: options.segment_bytes,
            segment_bytes: 0,
            buffer: Vec::new(),
            flush_at: None,
            state: State::Recording,
        };
        recorder.begin(core, now);
        Ok(recorder)
    }

    /// Records an action that is about to be stepped.
    pub fn append(&mut self, core: &Core, now: Time, action: &Action) {
        match self.state {
            State::Gap { until, .. } if now < until => return,
            State::Gap { .. } => self.begin(core, now),
            State::Recording if self.segment_bytes >= self.segment_limit_bytes => {
                journal::end(core.digest(), &mut self.buffer);
                self.hand_over(now);
                self.begin(core, now);
            }
            State::Recording => {}
        }
        if !matches!(self.state, State::Recording) {
            return;
        }
        let before = self.buffer.len();
        journal::append(core.digest(), now, action, &mut self.buffer);
        self.segment_bytes += u64::try_from(self.buffer.len() - before).unwrap_or_default();
        self.flush_at.get_or_insert(now.after(FLUSH_AFTER));
        if self.buffer.len() >= BUFFER_BYTES {
            self.hand_over(now);
        }
    }

    /// When `tick` has something to do.
    pub fn next_wake(&self) -> Option<Time> {
        self.flush_at
    }

    /// Hands over what has waited long enough.
    pub fn tick(&mut self, now: Time) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.hand_over(now);
        }
    }

    /// Ends the segment and waits a while for the disk. Also after a panic of the core.
    pub fn close(mut self, core: Option<&Core>, now: Time) {
        if let Some(core) = core {
            journal::end(core.digest(), &mut self.buffer);
        }
        self.hand_over(now);
        self.ring.settle(Duration::from_secs(5));
    }

    fn begin(&mut self, core: &Core, now: Time) {
        self.buffer.clear();
        journal::begin(core, Clock::unix_ms(), &mut self.buffer);
        self.segment_bytes = 0;
        let bytes = self.take();
        match self.ring.begin(bytes) {
            Ok(()) => self.state = State::Recording,
            Err(NotNow) => self.leave_gap(now),
        }
    }

    fn hand_over(&mut self, now: Time) {
        if self.buffer.is_empty() || !matches!(self.state, State::Recording) {
            self.flush_at = None;
            return;
        }
        let bytes = self.take();
        if self.ring.append(bytes) == Err(NotNow) {
            self.leave_gap(now);
        }
    }

    fn take(&mut self) -> Vec<u8> {
        self.flush_at = None;
        let bytes = std::mem::replace(&mut self.buffer, self.ring.buffer());
        self.counters.journal_bytes.add(u64::try_from(bytes.len()).unwrap_or_default());
        bytes
    }

    fn leave_gap(&mut self, now: Time) {
        self.counters.journal_gaps.add_one();
        let pause = match self.state {
            State::Recording => FIRST_PAUSE,
            State::Gap { pause, .. } => (pause * 2).min(LONGEST_PAUSE),
        };
        self.state = State::Gap { until: now.after(pause), pause };
        self.buffer.clear();
        self.flush_at = None;
    }
}
