//! TCP sockets the way every stack gets them: options set explicitly before the first byte, errors in the core's
//! words. It opens sockets; it does not choose addresses.

use peerkeep_core::{Fault, FaultKind, Step};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// What is set on every socket, both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// Silence before the first keepalive probe. Default 30 s.
    pub keepalive_idle: Duration,
    /// Between probes. Default 10 s.
    pub keepalive_interval: Duration,
    /// Unanswered probes that end the connection. Default 3; Linux's own default of 9 would make it two minutes.
    pub keepalive_count: u32,
    /// How long sent data may stay unacknowledged. Keepalive does not run while data is in flight, and without this
    /// the kernel tries for a quarter of an hour. It also cuts the probing short, so a dead link ends within
    /// `max(idle + interval, user_timeout)` rounded up to a probe: 50 s with the defaults. Default 50 s.
    pub user_timeout: Duration,
    /// The kernel's send buffer in bytes (Linux doubles it). Default 128 KiB, against up to 4 MiB of its own choice.
    pub send_buffer_bytes: usize,
    /// The kernel's receive buffer in bytes. Default 128 KiB.
    pub recv_buffer_bytes: usize,
}

/// Bytes that may wait in the kernel before they are sent. Less, and a quick reader finds the socket dry.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES: u32 = 96 * 1024;

impl Default for TcpOptions {
    fn default() -> TcpOptions {
        TcpOptions {
            keepalive_idle: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(10),
            keepalive_count: 3,
            user_timeout: Duration::from_secs(50),
            send_buffer_bytes: 128 * 1024,
            recv_buffer_bytes: 128 * 1024,
        }
    }
}

impl TcpOptions {
    /// Connects, with the options set before the SYN, so that the window is right from the start.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        self.set_buffers(&SockRef::from(&socket))?;
        self.set_liveness(&SockRef::from(&socket))?;
        TcpSocket::from_std_stream(socket.into()).connect(to).await
    }

    /// Takes over an accepted socket. Call it on the runtime that will serve it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn adopt(&self, socket: std::net::TcpStream) -> io::Result<TcpStream> {
        self.set_liveness(&SockRef::from(&socket))?;
        socket.set_nonblocking(true)?;
        TcpStream::from_std(socket)
    }

    /// Sets keepalive and user timeout of a connection that is up. Its buffers stay as they are.
    ///
    /// # Errors
    /// The operating system's.
    pub fn retune(&self, stream: &TcpStream) -> io::Result<()> {
        self.set_liveness(&SockRef::from(stream))
    }

    /// Buffer sizes: accepted sockets inherit them from the listener.
    pub(crate) fn set_buffers(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_send_buffer_size(self.send_buffer_bytes)?;
        socket.set_recv_buffer_size(self.recv_buffer_bytes)
    }

    fn set_liveness(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive_idle)
            .with_interval(self.keepalive_interval)
            .with_retries(self.keepalive_count);
        socket.set_tcp_keepalive(&keepalive)?;
        // What waits here for its turn on the way is all that a full socket can tell of the way's rate, and keeps
        // later questions waiting.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        Ok(())
    }
}

/// An error of the operating system in the core's words; the detail is its number.
pub fn io_fault(step: Step, error: &io::Error) -> Fault {
    use io::ErrorKind;
    let kind = match error.kind() {
        ErrorKind::ConnectionRefused => FaultKind::Refused,
        ErrorKind::TimedOut => FaultKind::Timeout,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => FaultKind::Reset,
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::NotConnected => FaultKind::Closed,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            FaultKind::Unreachable
        }
        // No free port to dial from (fault D11).
        ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory => FaultKind::Resources,
        _ if is_shortage(error) => FaultKind::Resources,
        _ => FaultKind::Os,
    };
    let detail = error.raw_os_error().and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    Fault { step, kind, detail }
}

/// Whether the process or the machine lacks descriptors or memory (fault L1).
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_d11_d12_l1_are_ours() {
        for errno in [
            Errno::ADDRNOTAVAIL,
            Errno::NETUNREACH,
            Errno::HOSTUNREACH,
            Errno::NETDOWN,
            Errno::MFILE,
            Errno::NFILE,
        ] {
            let fault = io_fault(Step::Connect, &errno.into());
            assert!(fault.is_ours(), "{errno} became {fault:?}");
            assert_eq!(fault.detail, u32::try_from(errno.raw_os_error()).expect("positive"));
        }
    }

    #[test]
    fn faults_of_the_other_side_are_theirs() {
        for (errno, kind) in [
            (Errno::CONNREFUSED, FaultKind::Refused),
            (Errno::TIMEDOUT, FaultKind::Timeout),
            (Errno::CONNRESET, FaultKind::Reset),
            (Errno::PIPE, FaultKind::Closed),
            (Errno::PROTO, FaultKind::Os),
        ] {
            let fault = io_fault(Step::Live, &errno.into());
            assert_eq!((fault.kind, fault.is_ours()), (kind, false), "{errno}");
        }
    }

    #[tokio::test]
    async fn every_option_is_set_on_both_ends() {
        let options = TcpOptions::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let dialled = options.connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let accepted = options.adopt(listener.accept().expect("a connection").0).expect("adopted");
        for stream in [&dialled, &accepted] {
            let socket = SockRef::from(stream);
            assert!(socket.tcp_nodelay().expect("readable"));
            assert!(socket.keepalive().expect("readable"));
            assert_eq!(socket.tcp_keepalive_time().expect("readable"), options.keepalive_idle);
            assert_eq!(socket.tcp_keepalive_interval().expect("readable"), options.keepalive_interval);
            assert_eq!(socket.tcp_keepalive_retries().expect("readable"), options.keepalive_count);
            assert_eq!(socket.tcp_user_timeout().expect("readable"), Some(options.user_timeout));
        }
        assert!(SockRef::from(&dialled).recv_buffer_size().expect("readable") <= 2 * 128 * 1024);
    }
}
