//! One stream of a link, whatever carries it: Yamux over a byte stream, or QUIC's own. It adds no byte and keeps no
//! buffer; it tells the end of a stream from the loss of one.

use futures::io::{AsyncRead, AsyncWrite};
use quinn::{RecvStream, SendStream, VarInt};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A bidirectional stream. Dropping an unfinished one resets it.
pub enum Stream {
    /// Over a byte stream.
    Yamux(YamuxStream),
    /// QUIC's own.
    Quic(QuicStream),
}

/// A Yamux stream.
pub struct YamuxStream {
    stream: yamux::Stream,
    finished: bool,
}

/// Both directions of a QUIC stream.
pub struct QuicStream {
    send: SendStream,
    recv: RecvStream,
    finished: bool,
}

/// The code of every reset, stop and close of ours: reasons are said in words, on the control stream.
pub const NO_CODE: VarInt = VarInt::from_u32(0);

impl Stream {
    /// One of Yamux's.
    pub fn yamux(stream: yamux::Stream) -> Stream {
        Stream::Yamux(YamuxStream { stream, finished: false })
    }

    /// Whether the end that was read is a loss where the link has ended: then nobody finished the stream. Where it has
    /// not, and over QUIC, the end of a stream that nobody finished is an error of its own.
    pub fn is_over(&self) -> bool {
        matches!(self, Stream::Yamux(yamux) if yamux.stream.is_closed())
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
    /// Of its two directions.
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
            Stream::Yamux(yamux) => {
                let count = ready!(Pin::new(&mut yamux.stream).poll_read(cx, bytes))?;
                // Closed in both directions, and not by us: lost (fault C4).
                if count == 0 && !bytes.is_empty() && !yamux.finished && yamux.stream.is_closed() {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Poll::Ready(Ok(count))
            }
            Stream::Quic(stream) => stream.recv.poll_read(cx, bytes).map_err(lost),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Yamux(yamux) => Pin::new(&mut yamux.stream).poll_write(cx, bytes),
            Stream::Quic(stream) => Pin::new(&mut stream.send).poll_write(cx, bytes).map_err(lost),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Yamux(yamux) => Pin::new(&mut yamux.stream).poll_flush(cx),
            Stream::Quic(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Yamux(yamux) => {
                ready!(Pin::new(&mut yamux.stream).poll_close(cx))?;
                yamux.finished = true;
            }
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
