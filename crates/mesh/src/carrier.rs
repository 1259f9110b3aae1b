//! What a link over TCP runs in: TLS, or TCP itself where TLS is left to somebody else. It keeps no buffer.

use peerkeep_core::{Fault, Step};
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A TCP connection whose other end is proven.
pub(crate) enum Carrier {
    /// Private, and safe from change.
    Tls(Box<TlsStream<TcpStream>>),
    /// Neither.
    Plain(TcpStream),
}

impl Carrier {
    /// Whether nobody on the way can read or change what it carries.
    pub fn is_secure(&self) -> bool {
        matches!(self, Carrier::Tls(_))
    }
}

impl peerkeep_channels::Carrier for Carrier {
    fn socket(&self) -> &TcpStream {
        match self {
            Carrier::Tls(tls) => tls.get_ref().0,
            Carrier::Plain(tcp) => tcp,
        }
    }

    fn gather(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Carrier::Tls(_) if bytes.is_empty() => Ok(0),
            Carrier::Tls(tls) => match &mut **tls {
                TlsStream::Client(tls) => tls.get_mut().1.writer().write(bytes),
                TlsStream::Server(tls) => tls.get_mut().1.writer().write(bytes),
            },
            Carrier::Plain(_) => Ok(0),
        }
    }

    fn fault(step: Step, error: &io::Error) -> Fault {
        crate::tls::fault_of(step, error)
    }

    fn quic_fault(step: Step, error: &quinn::ConnectionError) -> Fault {
        crate::quic::fault(step, error)
    }
}

impl AsyncRead for Carrier {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Carrier::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Carrier::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Carrier::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
            Carrier::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Carrier::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Carrier::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Carrier::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Carrier::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
        }
    }
}
