//! QUIC ports: one UDP socket and endpoint per address listened on, used for dialling too where its address allows; and
//! the leg of a race that is a QUIC connection. It knows no protocol: a stack brings the TLS configuration.

use crate::listener::{ListenError, name_error};
use crate::tcp::io_fault;
use peerkeep_core::{Fault, FaultKind, Step};
use quinn::crypto::HmacKey;
use quinn::{ConnectError, Connecting, Connection, ConnectionError, Endpoint, EndpointConfig, TokioRuntime};
use quinn::{RecvStream, SendStream, ServerConfig};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// How QUIC ports behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuicOptions {
    /// With so many inbound handshakes under way, a newcomer first has to show that packets reach it at its address.
    /// Default 32; 0 asks everybody.
    pub retry_above: usize,
    /// The kernel's buffers of a socket in bytes, as far as it grants them: all connections share one. Default 2 MiB.
    pub buffer_bytes: usize,
}

impl Default for QuicOptions {
    fn default() -> QuicOptions {
        QuicOptions { retry_above: 32, buffer_bytes: 2 * 1024 * 1024 }
    }
}

/// What a stack answers QUIC with.
#[derive(Clone)]
pub struct QuicServer {
    /// TLS, transport parameters and limits.
    pub config: ServerConfig,
    /// Makes stateless resets; the same after every start of a node, so that peers learn at once that it restarted.
    pub reset_key: Arc<dyn HmacKey>,
    /// Tells our connection ids from others; the same after every start, for the same reason.
    pub id_key: u64,
}

/// What a stack dials QUIC with.
#[derive(Clone)]
pub struct QuicDial {
    /// TLS and transport parameters.
    pub config: quinn::ClientConfig,
    /// The name that TLS is given; tickets are kept under it.
    pub server_name: String,
    /// What the first stream begins with when early data can be sent; empty for no early data.
    pub early: Vec<u8>,
}

/// A QUIC connection as a stack gets it.
#[derive(Debug)]
pub enum QuicIo {
    /// We dialled, and TLS is done.
    Dialled {
        /// The connection.
        connection: Connection,
        /// What went out as early data and was taken.
        early: Option<QuicEarly>,
    },
    /// They dialled, and TLS goes on.
    Arrived(Connecting),
}

/// The first stream of a connection whose early data the other side took.
#[derive(Debug)]
pub struct QuicEarly {
    /// Our direction; `sent` is in it.
    pub send: SendStream,
    /// Theirs.
    pub recv: RecvStream,
    /// What [`QuicDial::early`] held.
    pub sent: Vec<u8>,
}

/// The QUIC ports of one stack of one node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Quic(Arc<Ports>);

struct Ports {
    server: QuicServer,
    options: QuicOptions,
    retry_above: AtomicUsize,
    runtime: Handle,
    listening: Mutex<Vec<Endpoint>>,
    /// Opened when a dial needs them: one for IPv4, one for IPv6.
    dialling: Mutex<[Option<Endpoint>; 2]>,
    pending: Arc<AtomicUsize>,
}

/// A bound UDP port, not accepting yet.
#[derive(Debug)]
pub struct QuicListener {
    pub(crate) socket: UdpSocket,
    local: SocketAddr,
}

/// An inbound handshake under way; counted until dropped.
#[derive(Debug)]
pub(crate) struct Pending(Arc<AtomicUsize>);

impl Pending {
    fn new(count: &Arc<AtomicUsize>) -> Pending {
        count.fetch_add(1, Ordering::Relaxed);
        Pending(count.clone())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl QuicListener {
    /// Binds. An IPv6 address never takes IPv4 packets too: list both. Port 0 takes a free one.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(addr: SocketAddr, options: &QuicOptions) -> Result<QuicListener, ListenError> {
        let open = || -> io::Result<QuicListener> {
            let socket = open(addr, options)?;
            Ok(QuicListener { local: socket.local_addr()?, socket })
        };
        open().map_err(|error| name_error(addr, error))
    }

    /// Where it listens, with the port filled in.
    pub fn local(&self) -> SocketAddr {
        self.local
    }
}

fn open(addr: SocketAddr, options: &QuicOptions) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let asked = SockRef::from(&socket);
    // Smaller ones than asked for lose packets in bursts and nothing else.
    let _ = asked.set_recv_buffer_size(options.buffer_bytes);
    let _ = asked.set_send_buffer_size(options.buffer_bytes);
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

impl Quic {
    /// For a stack that answers with `server`. Call it on the runtime that shall run the sockets.
    pub fn new(server: QuicServer, options: QuicOptions) -> Quic {
        Quic(Arc::new(Ports {
            server,
            options,
            retry_above: AtomicUsize::new(options.retry_above),
            runtime: Handle::current(),
            listening: Mutex::default(),
            dialling: Mutex::default(),
            pending: Arc::default(),
        }))
    }

    /// Puts a bound port into service.
    pub(crate) fn endpoint(&self, socket: UdpSocket, answers: bool) -> io::Result<Endpoint> {
        let server = &self.0.server;
        let mut config = EndpointConfig::new(server.reset_key.clone());
        let id_key = server.id_key;
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
        let answer = answers.then(|| server.config.clone());
        // Its task and its socket belong to the node, whichever shard happens to ask.
        let _entered = self.0.runtime.enter();
        let endpoint = Endpoint::new(config, answer, socket, Arc::new(TokioRuntime))?;
        if answers {
            lock(&self.0.listening).push(endpoint.clone());
        }
        Ok(endpoint)
    }

    pub(crate) fn retry_above(&self) -> usize {
        self.0.retry_above.load(Ordering::Relaxed)
    }

    /// Takes another [`QuicOptions::retry_above`], for who arrives from now on.
    pub fn ask_above(&self, pending: usize) {
        self.0.retry_above.store(pending, Ordering::Relaxed);
    }

    /// How many inbound handshakes are under way.
    pub fn pending(&self) -> usize {
        self.0.pending.load(Ordering::Relaxed)
    }

    pub(crate) fn note_pending(&self) -> Pending {
        Pending::new(&self.0.pending)
    }

    /// Gives the sockets that only dial new ports, as a change of network would; connections move along.
    ///
    /// # Errors
    /// The operating system's; the old sockets are kept then.
    pub fn rebind(&self) -> io::Result<()> {
        for endpoint in lock(&self.0.dialling).iter().flatten() {
            let any = unspecified(endpoint.local_addr()?.is_ipv6());
            endpoint.rebind(open(any, &self.0.options)?)?;
        }
        Ok(())
    }

    /// The socket to dial from: one that we listen on, so that the other side sees the port we answer at, when packets
    /// from it can get there; else one of its own.
    fn endpoint_towards(&self, to: SocketAddr) -> io::Result<Endpoint> {
        for endpoint in lock(&self.0.listening).iter() {
            let local = endpoint.local_addr()?;
            if local.is_ipv6() == to.is_ipv6() && reaches(local.ip(), to.ip()) {
                return Ok(endpoint.clone());
            }
        }
        let mut dialling = lock(&self.0.dialling);
        let slot = &mut dialling[usize::from(to.is_ipv6())];
        if let Some(endpoint) = slot {
            return Ok(endpoint.clone());
        }
        let endpoint = self.endpoint(open(unspecified(to.is_ipv6()), &self.0.options)?, false)?;
        Ok(slot.insert(endpoint).clone())
    }

    /// One leg of a race: done when TLS is, or when it failed. Dropping it closes the connection.
    ///
    /// # Errors
    /// The fault, in the words of `fault`.
    pub async fn connect(
        &self,
        to: SocketAddr,
        dial: QuicDial,
        fault: impl Fn(Step, &ConnectionError) -> Fault,
    ) -> Result<QuicIo, Fault> {
        let endpoint = self.endpoint_towards(to).map_err(|error| io_fault(Step::Connect, &error))?;
        let connecting = endpoint
            .connect_with(dial.config, to, &dial.server_name)
            .map_err(|error| connect_fault(&error))?;
        tokio::select! {
            biased;
            fault = refused(to) => Err(fault),
            done = finish(connecting, dial.early, fault) => done,
        }
    }
}

/// An answer that takes longer than this may never come.
const KNOCK_AFTER: Duration = Duration::from_millis(20);

/// Nobody listens there: the kernel tells a socket that is connected, and no other. One byte is no QUIC packet and is
/// dropped without an answer by whoever does listen. Never done when nothing is heard. Most dials are over before it is
/// due, and spare themselves the socket.
async fn refused(to: SocketAddr) -> Fault {
    tokio::time::sleep(KNOCK_AFTER).await;
    let knock = async {
        let socket = tokio::net::UdpSocket::bind(unspecified(to.is_ipv6())).await?;
        socket.connect(to).await?;
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 1]).await
    };
    match knock.await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => io_fault(Step::Connect, &error),
        _ => std::future::pending().await,
    }
}

/// From the first packet to the end of TLS.
async fn finish(
    connecting: Connecting,
    early: Vec<u8>,
    fault: impl Fn(Step, &ConnectionError) -> Fault,
) -> Result<QuicIo, Fault> {
    let lost = |error: ConnectionError| fault(Step::Connect, &error);
    if early.is_empty() {
        return Ok(QuicIo::Dialled { connection: connecting.await.map_err(lost)?, early: None });
    }
    match connecting.into_0rtt() {
        Err(connecting) => Ok(QuicIo::Dialled { connection: connecting.await.map_err(lost)?, early: None }),
        Ok((connection, accepted)) => {
            let early = say_early(&connection, early).await;
            let taken = accepted.await;
            if let Some(error) = connection.close_reason() {
                return Err(lost(error));
            }
            Ok(QuicIo::Dialled { connection, early: early.filter(|_| taken) })
        }
    }
}

/// Writes the early bytes; what does not fit at once is no early data.
async fn say_early(connection: &Connection, bytes: Vec<u8>) -> Option<QuicEarly> {
    let (mut send, recv) = connection.open_bi().await.ok()?;
    send.write_all(&bytes).await.ok()?;
    Some(QuicEarly { send, recv, sent: bytes })
}

fn unspecified(v6: bool) -> SocketAddr {
    let ip: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, 0)
}

/// Whether packets from a socket bound to `local` get to `to` and back.
fn reaches(local: IpAddr, to: IpAddr) -> bool {
    local.is_unspecified() || local.is_loopback() == to.is_loopback()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect_fault(error: &ConnectError) -> Fault {
    let kind = match error {
        ConnectError::EndpointStopping | ConnectError::CidsExhausted => FaultKind::Resources,
        ConnectError::InvalidRemoteAddress(_) => FaultKind::Unreachable,
        ConnectError::InvalidServerName(_)
        | ConnectError::NoDefaultClientConfig
        | ConnectError::UnsupportedVersion => FaultKind::Protocol,
    };
    Fault::new(Step::Connect, kind)
}

/// Transport codes from here to 0x1ff carry a TLS alert in the low byte (RFC 9001, section 4.8).
const CRYPTO: u64 = 0x100;
/// CONNECTION_REFUSED.
const REFUSED: u64 = 0x2;
/// The TLS alert that rustls ends with when a verifier of ours says no.
const ACCESS_DENIED: u64 = 49;
/// The TLS alert for no common protocol name.
const NO_APPLICATION_PROTOCOL: u64 = 120;

/// How a QUIC connection ended, in the core's words; the detail is the TLS alert, when there was one.
pub fn quic_fault(step: Step, error: &ConnectionError) -> Fault {
    let (code, ours) = match error {
        ConnectionError::TransportError(error) => (u64::from(error.code), true),
        ConnectionError::ConnectionClosed(close) => (u64::from(close.error_code), false),
        ConnectionError::VersionMismatch => return Fault::new(step, FaultKind::Version),
        ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed => {
            return Fault::new(step, FaultKind::Closed);
        }
        ConnectionError::Reset => return Fault::new(step, FaultKind::Reset),
        ConnectionError::TimedOut => return Fault::new(step, FaultKind::Timeout),
        ConnectionError::CidsExhausted => return Fault::new(step, FaultKind::Resources),
    };
    if (CRYPTO..2 * CRYPTO).contains(&code) {
        let alert = code - CRYPTO;
        let kind = match alert {
            ACCESS_DENIED if ours => FaultKind::Identity,
            NO_APPLICATION_PROTOCOL => FaultKind::Protocol,
            _ => FaultKind::Secure,
        };
        return Fault { step: Step::Secure, kind, detail: u32::try_from(alert).unwrap_or(0) };
    }
    match (code, ours) {
        (REFUSED, false) => Fault::new(step, FaultKind::Refused),
        (0, _) => Fault::new(step, FaultKind::Closed),
        _ => Fault::new(step, FaultKind::Protocol),
    }
}

impl fmt::Debug for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listening: Vec<_> = lock(&self.0.listening).iter().filter_map(|e| e.local_addr().ok()).collect();
        f.debug_struct("Quic").field("listening", &listening).finish_non_exhaustive()
    }
}

impl fmt::Debug for QuicServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicServer")
    }
}

impl fmt::Debug for QuicDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicDial")
    }
}
