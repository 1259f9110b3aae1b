//! The byte stream under the multiplexer: TLS over TCP, with writes gathered into few records and reads measured. Lives
//! on the link's shard; the link pushes, the multiplexer only fills.

use crate::frames::Frames;
use futures::io::{AsyncRead, AsyncWrite};
use peerkeep_net::Meter;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// Bytes gathered before the multiplexer has to wait for the socket.
const GATHER_BYTES: usize = 32 * 1024;

/// Two holders of one stream, the multiplexer and the link, both on one task.
#[derive(Clone)]
pub(crate) struct Pipe(Rc<RefCell<Inner>>);

struct Inner {
    tls: Box<TlsStream<TcpStream>>,
    out: Vec<u8>,
    at: usize,
    frames: Frames,
    uncounted: usize,
    meter: Meter,
}

impl Pipe {
    pub fn new(tls: Box<TlsStream<TcpStream>>, meter: Meter) -> Pipe {
        let inner = Inner { tls, out: Vec::new(), at: 0, frames: Frames::default(), uncounted: 0, meter };
        Pipe(Rc::new(RefCell::new(inner)))
    }

    /// Hands what was gathered to the socket.
    pub fn poll_push(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_push(cx)
    }

    /// Reads and drops until the other side has closed.
    pub fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 1024];
        let mut inner = self.0.borrow_mut();
        loop {
            let mut buf = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut *inner.tls).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl Inner {
    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.at < self.out.len() {
            let count = ready!(Pin::new(&mut *self.tls).poll_write(cx, &self.out[self.at..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.at += count;
            self.meter.sent(count);
        }
        ready!(Pin::new(&mut *self.tls).poll_flush(cx))?;
        self.out = Vec::new();
        self.at = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        let mut buf = ReadBuf::new(bytes);
        ready!(Pin::new(&mut *inner.tls).poll_read(cx, &mut buf))?;
        let count = buf.filled().len();
        inner.uncounted += count;
        if inner.frames.handle(buf.filled()) > 0 {
            let count = std::mem::take(&mut inner.uncounted);
            inner.meter.received(count);
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        if inner.out.len() >= GATHER_BYTES {
            ready!(inner.poll_push(cx))?;
        }
        inner.out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// The link pushes once all frames of a wake-up are gathered.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_push(cx))?;
        Pin::new(&mut *inner.tls).poll_shutdown(cx)
    }
}
