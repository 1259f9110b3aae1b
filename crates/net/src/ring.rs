//! The journal's files: a ring of segments, written by a thread of its own behind a short queue. A full or slow disk
//! never blocks the caller: what does not fit is refused, and the caller starts a new segment later (fault K7). It
//! knows nothing of what is in a segment.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where the journal lies and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalOptions {
    /// The folder; made when missing, mode 0700.
    pub dir: PathBuf,
    /// A segment that reached this many bytes is ended. Default 16 MiB.
    pub segment_bytes: u64,
    /// How many segments are kept, at least 2. Default 8.
    pub segments: usize,
}

impl JournalOptions {
    /// The defaults in that folder.
    pub fn new(dir: PathBuf) -> JournalOptions {
        JournalOptions { dir, segment_bytes: 16 * 1024 * 1024, segments: 8 }
    }
}

/// The ring, as its one user sees it.
#[derive(Debug)]
pub(crate) struct Ring {
    jobs: Option<SyncSender<Job>>,
    spare: Receiver<Vec<u8>>,
    is_broken: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    /// End the current segment, begin the next one with these bytes.
    Begin(Vec<u8>),
    /// Append.
    Append(Vec<u8>),
    /// Say when everything before this is written.
    Tell(SyncSender<()>),
}

/// The disk is full, broken, or too slow for now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotNow;

/// Buffers that may wait for the disk.
const QUEUE: usize = 64;

impl Ring {
    /// Opens the folder; the first segment comes with the first `begin`, numbered after what is there.
    pub fn open(options: &JournalOptions) -> io::Result<Ring> {
        fs::DirBuilder::new().recursive(true).mode_private().create(&options.dir)?;
        let next = numbers(&options.dir)?.last().map_or(1, |last| last.saturating_add(1));
        let (jobs, work) = sync_channel(QUEUE);
        let (give_back, spare) = sync_channel(QUEUE);
        let is_broken = Arc::new(AtomicBool::new(false));
        let writer = Writer { options: options.clone(), next, file: None, is_broken: is_broken.clone() };
        let thread = std::thread::Builder::new()
            .name("peerkeep-journal".into())
            .spawn(move || writer.run(&work, &give_back))?;
        Ok(Ring { jobs: Some(jobs), spare, is_broken, thread: Some(thread) })
    }

    /// An empty buffer, used before where possible.
    pub fn buffer(&self) -> Vec<u8> {
        self.spare.try_recv().unwrap_or_default()
    }

    /// Begins a segment.
    pub fn begin(&self, bytes: Vec<u8>) -> Result<(), NotNow> {
        self.is_broken.store(false, Ordering::Release);
        self.send(Job::Begin(bytes))
    }

    /// Appends to the segment begun last. After an error nothing is taken until the next `begin`.
    pub fn append(&self, bytes: Vec<u8>) -> Result<(), NotNow> {
        if self.is_broken.load(Ordering::Acquire) {
            return Err(NotNow);
        }
        self.send(Job::Append(bytes))
    }

    /// Waits until all that was taken is written, at most that long.
    pub fn settle(&self, limit: Duration) -> bool {
        let (tell, told) = sync_channel(1);
        self.send(Job::Tell(tell)).is_ok() && told.recv_timeout(limit).is_ok()
    }

    fn send(&self, job: Job) -> Result<(), NotNow> {
        let Some(jobs) = &self.jobs else { return Err(NotNow) };
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => NotNow,
        })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    options: JournalOptions,
    next: u64,
    file: Option<File>,
    is_broken: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self, work: &Receiver<Job>, give_back: &SyncSender<Vec<u8>>) {
        while let Ok(job) = work.recv() {
            let (result, mut bytes) = match job {
                Job::Begin(bytes) => (self.begin(&bytes), bytes),
                Job::Append(bytes) => (self.append(&bytes), bytes),
                Job::Tell(tell) => {
                    let _ = tell.try_send(());
                    continue;
                }
            };
            if let Err(error) = result {
                if !self.is_broken.swap(true, Ordering::AcqRel) {
                    tracing::warn!(dir = %self.options.dir.display(), %error, "the journal cannot be written; it will have a gap");
                }
                self.file = None;
            }
            bytes.clear();
            let _ = give_back.try_send(bytes);
        }
    }

    fn begin(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file = None;
        let numbers = numbers(&self.options.dir)?;
        let keep = self.options.segments.max(2) - 1;
        for old in numbers.iter().take(numbers.len().saturating_sub(keep)) {
            fs::remove_file(segment(&self.options.dir, *old))?;
        }
        let path = segment(&self.options.dir, self.next);
        // Never over an existing file, whoever made it.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.next += 1;
        file.write_all(bytes)?;
        self.file = Some(file);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            // Appends behind a failed begin: told once, dropped after.
            None => Ok(()),
        }
    }
}

/// A segment's file.
fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.pkj"))
}

/// The numbers of the segments that exist, ascending. A file whose name is not spelled as ours, such as a copy that
/// somebody left there, is none of them: it would be looked for under another name when its turn to go comes.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".pkj"))
            .and_then(|text| text.parse::<u64>().ok())
            .filter(|number| segment(dir, *number).file_name() == Some(&name));
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// `DirBuilder::mode`, by a name that says what for.
trait Private {
    fn mode_private(&mut self) -> &mut Self;
}

impl Private for fs::DirBuilder {
    fn mode_private(&mut self) -> &mut Self {
        std::os::unix::fs::DirBuilderExt::mode(self, 0o700)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SOON: Duration = Duration::from_secs(10);

    fn ring(dir: &Path, segments: usize) -> Ring {
        let options = JournalOptions { segments, ..JournalOptions::new(dir.join("journal")) };
        Ring::open(&options).expect("a writable folder")
    }

    fn contents(dir: &Path) -> Vec<String> {
        let dir = dir.join("journal");
        let read = |number: &u64| fs::read_to_string(segment(&dir, *number)).expect("readable");
        numbers(&dir).expect("listable").iter().map(read).collect()
    }

    #[test]
    fn segments_form_a_ring_that_survives_restarts() {
        let dir = tempfile::tempdir().expect("a folder");
        for round in 0..2 {
            let ring = ring(dir.path(), 3);
            for number in 0..4 {
                ring.begin(format!("{round}{number}:").into_bytes()).expect("room");
                ring.append(b"ab".to_vec()).expect("room");
                ring.append(b"cd".to_vec()).expect("room");
                assert!(ring.settle(SOON));
            }
        }
        assert_eq!(contents(dir.path()), ["11:abcd", "12:abcd", "13:abcd"]);
    }

    #[test]
    fn fault_k7_files_that_are_not_spelled_as_ours_are_left_alone_and_break_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let ring = ring(dir.path(), 2);
        let strange =
            ["7.pkj", "+0000000008.pkj", "copy.pkj"].map(|name| dir.path().join("journal").join(name));
        for path in &strange {
            fs::write(path, "mine").expect("writable");
        }
        for number in 0..4 {
            ring.begin(format!("{number}:").into_bytes()).expect("room");
            ring.append(b"ab".to_vec()).expect("room");
            assert!(ring.settle(SOON));
        }
        assert_eq!(contents(dir.path()), ["2:ab", "3:ab"]);
        assert!(strange.iter().all(|path| path.exists()));
    }

    #[test]
    fn files_are_private() {
        let dir = tempfile::tempdir().expect("a folder");
        let ring = ring(dir.path(), 3);
        ring.begin(Vec::new()).expect("room");
        assert!(ring.settle(SOON));
        let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
        assert_eq!(mode(&segment(&dir.path().join("journal"), 1)), 0o600);
        assert_eq!(mode(&dir.path().join("journal")), 0o700);
    }

    #[test]
    fn fault_k7_a_broken_disk_refuses_and_recovers_with_a_new_segment() {
        let dir = tempfile::tempdir().expect("a folder");
        let ring = ring(dir.path(), 8);
        ring.begin(b"one:".to_vec()).expect("room");
        assert!(ring.settle(SOON));
        // Works for root too, whom permissions do not stop: the next segment's name is taken by a folder.
        let blocked = segment(&dir.path().join("journal"), 2);
        fs::create_dir(&blocked).expect("free");
        ring.begin(b"two:".to_vec()).expect("only queued");
        assert!(ring.settle(SOON));
        assert_eq!(ring.append(b"lost".to_vec()), Err(NotNow));
        fs::remove_dir(&blocked).expect("ours");
        ring.begin(b"three:".to_vec()).expect("room");
        ring.append(b"kept".to_vec()).expect("room");
        assert!(ring.settle(SOON));
        assert_eq!(contents(dir.path()), ["one:", "three:kept"]);
    }
}
