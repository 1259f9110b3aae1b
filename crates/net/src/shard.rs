//! Shards: threads that each run one single-threaded executor for link tasks, so that sockets, handshakes and frames
//! need no lock and stay off the threads of whoever uses the node; or one such executor on the caller's own thread, where
//! nothing is handed over between threads. A shard runs what it is given and knows nothing about links.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, LocalSet};

/// The shards of a node. Dropping them ends every task on them and waits for the threads.
#[derive(Debug)]
pub struct Shards(Vec<Shard>);

#[derive(Debug)]
struct Shard {
    board: Arc<Board>,
    runtime: Handle,
    thread: Option<thread::JoinHandle<()>>,
    /// Fails when its [`Here`] is over.
    here: Option<oneshot::Receiver<()>>,
}

#[derive(Default)]
struct Board {
    posted: Mutex<Posted>,
    ready: Notify,
}

#[derive(Default)]
struct Posted {
    jobs: Vec<Job>,
    must_stop: bool,
}

/// Makes, on the shard, a future that need not be `Send`.
type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

impl Shards {
    /// Starts `count` threads, at least one. Four handshakes a millisecond fit on one; half the cores is plenty.
    ///
    /// # Errors
    /// When the operating system gives no thread or no poller.
    pub fn start(count: usize) -> io::Result<Shards> {
        (0..count.max(1)).map(Shard::start).collect::<io::Result<Vec<_>>>().map(Shards)
    }

    /// One without a thread: it runs while the second is polled, on the current tokio runtime.
    pub fn here() -> (Shards, Here) {
        let (board, local) = (Arc::new(Board::default()), LocalSet::new());
        let (over, here) = oneshot::channel();
        let its_board = board.clone();
        let serving = local.spawn_local(async move { its_board.serve().await });
        let shard = Shard { board, runtime: Handle::current(), thread: None, here: Some(here) };
        (Shards(vec![shard]), Here { local, serving, _over: over })
    }

    /// As many as suit this machine: half its cores.
    pub fn fitting_count() -> usize {
        thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The runtime of the first one, for what all links have to do with: listeners and UDP sockets. What is woken on its
    /// own thread costs no system call.
    pub fn home(&self) -> Handle {
        self.0[0].runtime.clone()
    }

    /// Ends every task on them. Returns when the threads are gone, or [`Here`] is.
    pub async fn end(mut self) {
        let here: Vec<_> = self.0.iter_mut().filter_map(|shard| shard.here.take()).collect();
        // Joining takes as long as their last task.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
        for over in here {
            let _ = over.await;
        }
    }

    /// Runs a job on one of them, for as long as it likes. Meant for one attendant per stack, not for links.
    pub(crate) fn spawn<F>(&self, index: usize, make: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let shard = &self.0[index % self.0.len()];
        shard.board.lock().jobs.push(Box::new(move || Box::pin(make())));
        shard.board.ready.notify_one();
    }
}

impl Shard {
    fn start(index: usize) -> io::Result<Shard> {
        let board = Arc::new(Board::default());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (its_board, handle) = (board.clone(), runtime.handle().clone());
        let thread = thread::Builder::new().name(format!("peerkeep-link-{index}")).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, its_board.serve());
            // The tasks go before the runtime, so that their sockets can still deregister.
            drop(local);
        })?;
        Ok(Shard { board, runtime: handle, thread: Some(thread), here: None })
    }
}

/// What runs a shard on the thread that polls this. Over when the node is; dropping it earlier ends every task at once.
#[derive(Debug)]
#[must_use = "nothing happens on the shard unless this is polled"]
pub struct Here {
    local: LocalSet,
    serving: JoinHandle<()>,
    _over: oneshot::Sender<()>,
}

impl Future for Here {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let _ = Pin::new(&mut self.local).poll(cx);
        // Links and attendants would go on for ever; they go with this.
        Pin::new(&mut self.serving).poll(cx).map(drop)
    }
}

impl Board {
    async fn serve(&self) {
        loop {
            self.ready.notified().await;
            let posted = std::mem::take(&mut *self.lock());
            if posted.must_stop {
                return;
            }
            for job in posted.jobs {
                tokio::task::spawn_local(job());
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        for shard in &self.0 {
            shard.board.lock().must_stop = true;
            shard.board.ready.notify_one();
        }
        for shard in &mut self.0 {
            if let Some(thread) = shard.thread.take() {
                // A panic there is counted where it happened.
                let _ = thread.join();
            }
        }
    }
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Board")
    }
}
