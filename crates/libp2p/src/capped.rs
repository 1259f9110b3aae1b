//! A stream of which only so much is read: what somebody may say before they have agreed on a protocol (fault H4). Knows
//! nothing of what is said.

use futures::io::{AsyncRead, AsyncWrite};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What may be said on a stream before we agree on what it is for: a dozen names that we do not know, and ours. An answer
/// is far shorter.
pub(crate) const MAX_SELECT_BYTES: usize = 1_024;

/// `T`, up to a number of bytes; reading more of it fails.
pub(crate) struct Capped<'a, T> {
    io: &'a mut T,
    left: usize,
}

impl<'a, T> Capped<'a, T> {
    /// Reads at most [`MAX_SELECT_BYTES`] of it.
    pub fn new(io: &'a mut T) -> Capped<'a, T> {
        Capped { io, left: MAX_SELECT_BYTES }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Capped<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let most = bytes.len().min(self.left);
        if most == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "it says too much")));
        }
        let count = ready!(Pin::new(&mut *self.io).poll_read(cx, &mut bytes[..most]))?;
        self.left -= count;
        Poll::Ready(Ok(count))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Capped<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_close(cx)
    }
}
