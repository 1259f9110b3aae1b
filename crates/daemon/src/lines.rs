//! Lines of the log on their way to standard error. Nobody who logs waits for whoever reads them (fault R7): one thread
//! writes, what waits for it is bounded, and lines that do not fit are counted and told of. Nothing here formats a line.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Most bytes of lines that wait; further lines are lost.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// Where lines are put. All clones are one queue.
#[derive(Clone)]
pub struct Lines(Arc<Queue>);

struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
    lost: u64,
}

impl Lines {
    /// A thread that writes to `out` whatever is put here.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<Lines> {
        let lines = Lines(Arc::new(Queue { waiting: Mutex::default(), changed: Condvar::new() }));
        let queue = lines.0.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || queue.write(out))?;
        Ok(lines)
    }

    /// Waits until all is written, for a while.
    pub fn settle(&self, limit: Duration) {
        let busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        let _ = self.0.changed.wait_timeout_while(self.0.lock(), limit, busy);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes.saturating_add(line.len()) > MAX_WAITING_BYTES {
            waiting.lost = waiting.lost.saturating_add(1);
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.to_vec());
        self.changed.notify_all();
    }

    fn write(&self, mut out: impl Write) {
        let mut told = 0;
        loop {
            let (line, lost) = self.next();
            // Standard error may be closed for good; the node goes on.
            let _ = out.write_all(&line).and_then(|()| out.flush());
            if lost > told {
                told = lost;
                tracing::warn!(lost, "lines of the log were lost: nobody took them for too long");
            }
        }
    }

    fn next(&self) -> (Vec<u8>, u64) {
        let mut waiting = self.lock();
        waiting.is_writing = false;
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.is_writing = true;
                return (line, waiting.lost);
            }
            self.changed.notify_all();
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The formatter writes each line by one call.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Lines;

    fn make_writer(&self) -> Lines {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Fault R7.
    #[test]
    fn a_reader_that_sleeps_holds_nobody_up_and_misses_what_did_not_fit() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let lines = Lines::to(writer).expect("a thread");
        let line = [b'x'; 1024];
        for _ in 0..3 * MAX_WAITING_BYTES / line.len() {
            lines.clone().write_all(&line).expect("never fails");
        }
        let lost = lines.0.lock().lost;
        assert!(lost > 400 && lines.0.lock().bytes <= MAX_WAITING_BYTES, "{lost} lost");
        lines.settle(Duration::from_millis(1));
        assert!(lines.0.lock().bytes > 0, "nobody read");
        let kept = 3 * MAX_WAITING_BYTES - usize::try_from(lost).expect("few") * line.len();
        reader.read_exact(&mut vec![0; kept]).expect("what was kept");
        lines.settle(Duration::from_secs(20));
        assert_eq!(lines.0.lock().bytes, 0);
    }
}
