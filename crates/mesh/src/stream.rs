//! One stream of a link, whatever carries it: Yamux inside TLS, or QUIC's own. It adds no byte and keeps no buffer.

use futures::io::{AsyncRead, AsyncWrite};
use quinn::{RecvStream, SendStream, VarInt};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A bidirectional stream. Dropping an unfinished one resets it.
pub(crate) enum Stream {
    /// Inside TLS over TCP.
    Yamux(yamux::Stream),
    /// QUIC's own.
    Quic(QuicStream),
}

/// Both directions of a QUIC stream.
pub(crate) struct QuicStream {
    send: SendStream,
    recv: RecvStream,
    finished: bool,
}

/// The code of every reset, stop and close of ours: reasons are said in words, on the control stream.
pub(crate) const NO_CODE: VarInt = VarInt::from_u32(0);

impl Stream {
    /// Whether the end that was read is a loss: nobody finished the stream.
    pub fn is_cut(&self) -> bool {
        match self {
            Stream::Yamux(stream) => stream.is_closed(),
            // The end of a QUIC stream that nobody finished is an error.
            Stream::Quic(_) => false,
        }
    }

    /// What other streams hold goes out before this one's.
    pub fn yield_to_others(&self) {
        if let Stream::Quic(stream) = self {
            // Fails only when the stream is over.
            let _ = stream.send.set_priority(-1);
        }
    }
}

impl QuicStream {
    pub fn new(send: SendStream, recv: RecvStream) -> QuicStream {
        QuicStream { send, recv, finished: false }
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.send.reset(NO_CODE);
        }
    }
}

/// A stream lost in any way is reset, as over TCP.
fn lost(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Yamux(stream) => Pin::new(stream).poll_read(cx, bytes),
            Stream::Quic(stream) => stream.recv.poll_read(cx, bytes).map_err(lost),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Yamux(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Quic(stream) => Pin::new(&mut stream.send).poll_write(cx, bytes).map_err(lost),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Yamux(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Quic(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Yamux(stream) => ready!(Pin::new(stream).poll_close(cx))?,
            Stream::Quic(stream) => {
                if !std::mem::replace(&mut stream.finished, true) {
                    // They may have stopped it before: then nobody waits for its end.
                    let _ = stream.send.finish();
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
