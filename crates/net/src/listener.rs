//! Accepting: sockets wait, numbered, in a small table until the core has judged them. When the table is full they are
//! dropped and counted; when descriptors run out accepting pauses and nothing else does. It reads no byte.

use crate::quic::Pending;
use crate::tcp::is_shortage;
use crate::{Counters, Facts, TcpOptions};
use peerkeep_core::{Addr, Fact, StackId, Ticket};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Most accepted sockets that may wait for the core's judgement, per stack.
pub const MAX_UNDECIDED: usize = 128;

/// What waits for the core's judgement.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// An accepted socket.
    Tcp(TcpStream),
    /// A first packet, and its place among the handshakes under way.
    Quic(Box<quinn::Incoming>, Pending),
}

/// Accepted sockets of one stack that the core has not judged. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tickets {
    stack: StackId,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<Ticket, (Waiting, Addr)>,
    last: u32,
}

impl Tickets {
    /// An empty table.
    pub fn new(stack: StackId) -> Tickets {
        Tickets { stack, table: Arc::default() }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn stack(&self) -> StackId {
        self.stack
    }

    /// Which stack a ticket belongs to.
    pub(crate) fn stack_of(ticket: Ticket) -> StackId {
        match ticket.0 >> NUMBER_BITS {
            0 => StackId::Mesh,
            1 => StackId::Libp2p,
            2 => StackId::Bitcoin,
            _ => StackId::Lan,
        }
    }

    pub(crate) fn take(&self, ticket: Ticket) -> Option<(Waiting, Addr)> {
        self.lock().waiting.remove(&ticket)
    }

    /// Numbers a socket; gives it back when the table is full.
    pub(crate) fn put(&self, socket: Waiting, remote: Addr) -> Result<Ticket, Waiting> {
        let mut table = self.lock();
        if table.waiting.len() >= MAX_UNDECIDED {
            return Err(socket);
        }
        table.last = (table.last + 1) & ((1 << NUMBER_BITS) - 1);
        let ticket = Ticket(u32::from(self.stack as u8) << NUMBER_BITS | table.last);
        table.waiting.insert(ticket, (socket, remote));
        Ok(ticket)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ticket is two bits of stack and a number, so that it names its driver.
const NUMBER_BITS: u32 = 30;

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there already (fault L4).
    #[error("{0} is already in use by another program")]
    Taken(SocketAddr),
    /// The address is not one of this machine's.
    #[error("{0} is not an address of this machine")]
    NotOurs(SocketAddr),
    /// Ports below 1024 need a privilege.
    #[error("no permission to listen on {0}")]
    Forbidden(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {addr}: {error}")]
    Os {
        /// Where.
        addr: SocketAddr,
        /// The operating system's words.
        #[source]
        error: io::Error,
    },
}

pub(crate) fn name_error(addr: SocketAddr, error: io::Error) -> ListenError {
    match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(addr),
        io::ErrorKind::AddrNotAvailable => ListenError::NotOurs(addr),
        io::ErrorKind::PermissionDenied => ListenError::Forbidden(addr),
        _ => ListenError::Os { addr, error },
    }
}

/// A bound TCP port, not accepting yet.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    local: SocketAddr,
}

/// A listener that accepts. Dropping or stopping it closes the port at once; sockets that wait stay until judged.
#[derive(Debug)]
pub struct Serving {
    local: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    /// Binds. An IPv6 address never takes IPv4 connections too: list both. Port 0 takes a free one.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(addr: SocketAddr, options: &TcpOptions) -> Result<Listener, ListenError> {
        let open = || -> io::Result<Listener> {
            let kind = Type::STREAM.nonblocking();
            let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
            if addr.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            // A restart must not wait for old connections to fade; on Linux this takes no port from a live listener.
            socket.set_reuse_address(true)?;
            options.set_buffers(&SockRef::from(&socket))?;
            socket.bind(&addr.into())?;
            socket.listen(BACKLOG)?;
            let socket = std::net::TcpListener::from(socket);
            Ok(Listener { local: socket.local_addr()?, socket })
        };
        open().map_err(|error| name_error(addr, error))
    }

    /// Where it listens, with the port filled in.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Starts accepting on the current tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub fn serve(self, tickets: Tickets, facts: Facts, counters: Arc<Counters>) -> io::Result<Serving> {
        let local = self.local;
        let socket = TcpListener::from_std(self.socket)?;
        let acceptor = Acceptor { socket, local, tickets, facts, counters, away: Away::default() };
        Ok(Serving { local, task: tokio::spawn(acceptor.run()) })
    }
}

/// The kernel's queue of connections not accepted yet.
const BACKLOG: i32 = 1_024;

impl Serving {
    pub(crate) fn new(local: SocketAddr, task: JoinHandle<()>) -> Serving {
        Serving { local, task }
    }

    /// Where it listens.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Closes the port. Returns when it is closed.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Acceptor {
    socket: TcpListener,
    local: SocketAddr,
    tickets: Tickets,
    facts: Facts,
    counters: Arc<Counters>,
    away: Away,
}

/// Takes a socket off this thread's poller: a shard will serve it.
fn detach((stream, remote): (tokio::net::TcpStream, SocketAddr)) -> io::Result<(TcpStream, SocketAddr)> {
    Ok((stream.into_std()?, remote))
}

/// Arrivals dropped and not told yet.
#[derive(Debug, Default)]
pub(crate) struct Away {
    count: u32,
    told_at: Option<Instant>,
}

/// First pause when there are no descriptors; doubles to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// `TurnedAway` is told at most this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl Acceptor {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let due = self.away.due();
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted.and_then(detach),
                () = until(due) => {
                    self.away.tell(&self.facts);
                    continue;
                }
            };
            match accepted {
                Ok((socket, remote)) => {
                    pause = FIRST_PAUSE;
                    self.arrived(socket, remote);
                    // A flood must not keep this thread from other tasks.
                    tokio::task::coop::consume_budget().await;
                }
                Err(error) if is_shortage(&error) => {
                    self.counters.accept_pauses.add_one();
                    if pause == FIRST_PAUSE {
                        tracing::warn!(local = %self.local, %error, "cannot accept connections for now");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                // All other errors belong to the connection that was about to be accepted (fault L3).
                Err(error) => {
                    self.counters.aborted_arrivals.add_one();
                    tracing::debug!(local = %self.local, %error, "a connection ended before it was accepted");
                    tokio::task::coop::consume_budget().await;
                }
            }
        }
    }

    fn arrived(&mut self, socket: TcpStream, remote: SocketAddr) {
        self.counters.arrivals.add_one();
        let remote = Addr::tcp(remote);
        match self.tickets.put(Waiting::Tcp(socket), remote) {
            Ok(ticket) => self.facts.saw(Fact::Arrived { ticket, stack: self.tickets.stack, remote }),
            Err(_dropped) => {
                self.counters.turned_away.add_one();
                self.away.add_one();
            }
        }
    }
}

impl Away {
    pub(crate) fn add_one(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        (self.count > 0).then(|| self.told_at.map_or_else(Instant::now, |at| at + TELL_EVERY))
    }

    pub(crate) fn tell(&mut self, facts: &Facts) {
        facts.saw(Fact::TurnedAway { count: std::mem::take(&mut self.count) });
        self.told_at = Some(Instant::now());
    }
}

/// Sleeps until then; without a time, for ever and without a timer.
pub(crate) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
