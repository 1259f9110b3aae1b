//! What a connection over TCP is once it is secured: a Noise stream, or TLS. It adds no byte and keeps no buffer.

use crate::noise::NoiseStream;
use crate::raw::{Raw, Wire};
use crate::tls;
use futures::io::{AsyncRead as _, AsyncWrite as _};
use peerkeep_channels::Carrier;
use peerkeep_core::{Fault, FaultKind, Step};
use peerkeep_net::io_fault;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A TCP connection whose other end is proven.
pub(crate) enum Secure {
    /// By Noise.
    Noise(Box<NoiseStream<Wire>>),
    /// By TLS.
    Tls(Box<TlsStream<Raw>>),
}

impl Carrier for Secure {
    fn socket(&self) -> &TcpStream {
        match self {
            Secure::Noise(stream) => stream.get_ref().get_ref().socket(),
            Secure::Tls(stream) => stream.get_ref().0.socket(),
        }
    }

    fn gather(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Secure::Tls(stream) if !bytes.is_empty() => match &mut **stream {
                TlsStream::Client(stream) => stream.get_mut().1.writer().write(bytes),
                TlsStream::Server(stream) => stream.get_mut().1.writer().write(bytes),
            },
            Secure::Tls(_) | Secure::Noise(_) => Ok(0),
        }
    }

    fn fault(step: Step, error: &io::Error) -> Fault {
        stream_fault(step, error)
    }
}

/// What an error of a secured stream is called: what cannot be decrypted was not theirs.
pub(crate) fn stream_fault(step: Step, error: &io::Error) -> Fault {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return Fault::new(step, tls::kind_of(error));
    }
    match error.kind() {
        io::ErrorKind::InvalidData => Fault::new(step, FaultKind::Secure),
        _ => io_fault(step, error),
    }
}

impl AsyncRead for Secure {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Secure::Noise(stream) => {
                let count = ready!(Pin::new(stream).poll_read(cx, buf.initialize_unfilled()))?;
                buf.advance(count);
                Poll::Ready(Ok(()))
            }
            Secure::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Secure {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Secure::Noise(stream) => Pin::new(stream).poll_write(cx, bytes),
            Secure::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Secure::Noise(stream) => Pin::new(stream).poll_flush(cx),
            Secure::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Secure::Noise(stream) => Pin::new(stream).poll_close(cx),
            Secure::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
