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

    /// Ends the segment; dropping the recorder waits for the disk.
    pub fn end(&mut self, core: &Core, now: Time) {
        journal::end(core.digest(), &mut self.buffer);
        self.hand_over(now);
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

#[cfg(test)]
mod tests {
    use super::*;
    use peerkeep_core::{Change, Config, Effects, PeerKey, journal::Replay};
    use std::path::Path;

    fn core() -> Core {
        Core::new(Config::new(PeerKey::ed25519([1; 32]), 1), [3; 32], Time::ZERO)
            .expect("the defaults hold together")
    }

    fn recorder(dir: &Path, segment_bytes: u64, core: &Core) -> (Recorder, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let options = JournalOptions { segment_bytes, ..JournalOptions::new(dir.to_path_buf()) };
        (Recorder::start(&options, core, Time::ZERO, counters.clone()).expect("a folder"), counters)
    }

    fn run(recorder: &mut Recorder, core: &mut Core, seconds: std::ops::Range<u64>) {
        let mut out = Effects::new();
        for second in seconds {
            let (now, action) = (Time::from_millis(second * 1_000), Action::Network(Change::Moved));
            recorder.append(core, now, &action);
            core.step(now, &action, &mut out);
            recorder.tick(now);
            out.clear();
        }
    }

    /// Replays every segment; how many there are, and how many actions in all.
    fn replay(dir: &Path) -> (usize, u64) {
        let (mut segments, mut actions) = (0, 0);
        for entry in std::fs::read_dir(dir).expect("listable") {
            let bytes = std::fs::read(entry.expect("listable").path()).expect("readable");
            let mut replay = Replay::new(&bytes).expect("begins with a checkpoint");
            let mut out = Effects::new();
            while replay.step(&mut out).expect("the same digests").is_some() {}
            segments += 1;
            actions += replay.actions;
        }
        (segments, actions)
    }

    #[test]
    fn full_segments_are_ended_and_each_replays_by_itself() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut core = core();
        let (mut recorder, counters) = recorder(dir.path(), 200, &core);
        run(&mut recorder, &mut core, 0..50);
        recorder.close(Some(&core), Time::from_millis(50_000));
        let (segments, actions) = replay(dir.path());
        assert!(segments > 2 && actions == 50, "{segments} segments, {actions} actions");
        assert_eq!(counters.journal_gaps.read(), 0);
    }

    #[test]
    fn fault_k7_a_gap_is_counted_and_followed_by_a_checkpoint() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut core = core();
        let (mut recorder, counters) = recorder(dir.path(), 1 << 20, &core);
        run(&mut recorder, &mut core, 0..5);
        recorder.leave_gap(Time::from_millis(5_000));
        run(&mut recorder, &mut core, 5..7);
        assert_eq!(counters.journal_gaps.read(), 1);
        run(&mut recorder, &mut core, 7..20);
        recorder.close(Some(&core), Time::from_millis(20_000));
        let (segments, actions) = replay(dir.path());
        assert_eq!(segments, 2);
        assert!((13..20).contains(&actions), "{actions} of 20 actions, two of them in the gap");
    }
}
