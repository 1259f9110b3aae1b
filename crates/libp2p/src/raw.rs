//! The byte stream that is secured: TCP, or TCP inside a private network's cipher. It adds no byte of its own.

use crate::pnet::{NetworkKey, PrivateStream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};

/// A TCP connection, nothing proven yet.
pub(crate) enum Raw {
    /// As it is.
    Open(TcpStream),
    /// Inside a private network.
    Private(Box<Compat<PrivateStream<Compat<TcpStream>>>>),
}

/// The same for what wants the other kind of traits.
pub(crate) type Wire = Compat<Raw>;

impl Raw {
    /// Puts the private network around it, if there is one.
    pub fn new(tcp: TcpStream, network: Option<&NetworkKey>) -> io::Result<Wire> {
        let raw = match network {
            None => Raw::Open(tcp),
            Some(key) => Raw::Private(Box::new(key.secure(tcp.compat())?.compat())),
        };
        Ok(raw.compat())
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Raw::Open(tcp) => tcp,
            Raw::Private(stream) => stream.get_ref().get_ref().get_ref(),
        }
    }
}

impl AsyncRead for Raw {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Raw::Open(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Raw::Private(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Raw {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Raw::Open(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Raw::Private(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Raw::Open(tcp) => Pin::new(tcp).poll_flush(cx),
            Raw::Private(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Raw::Open(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Raw::Private(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
