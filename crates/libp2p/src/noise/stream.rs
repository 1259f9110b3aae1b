//! Bytes over a finished Noise handshake: frames of at most 65,535 bytes, each decrypted whole. Holds no buffer while
//! nothing is on its way, and never more than one frame each way.

use super::LENGTH_BYTES;
use futures::io::{AsyncRead, AsyncWrite};
use snow::TransportState;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Longest frame, without its length.
const MAX_FRAME_BYTES: usize = 65_535;
/// What encryption adds to a frame.
const TAG_BYTES: usize = 16;
/// Most that one of our frames carries.
const MAX_PLAIN_BYTES: usize = MAX_FRAME_BYTES - TAG_BYTES;
/// A frame's buffer grows by this as its bytes arrive: its length alone costs nothing.
const GROW_BYTES: usize = 8_192;

/// An encrypted stream over `T`. After an error it stays broken.
pub struct NoiseStream<T> {
    io: T,
    state: Box<TransportState>,
    inbound: Inbound,
    out: Vec<u8>,
    /// How much of `out` the stream below has taken.
    at: usize,
}

enum Inbound {
    /// So many bytes of a length are here.
    Head([u8; LENGTH_BYTES], usize),
    /// A frame of that length is on its way.
    Body { frame: Vec<u8>, length: usize },
    /// Decrypted, and read up to there.
    Plain(Vec<u8>, usize),
    /// Nothing more comes.
    Ended,
    /// What came was not theirs.
    Broken,
}

impl<T> NoiseStream<T> {
    pub(super) fn new(io: T, state: TransportState) -> NoiseStream<T> {
        NoiseStream { io, state: Box::new(state), inbound: Inbound::EMPTY, out: Vec::new(), at: 0 }
    }

    /// The stream below.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// Bytes of buffers that are held.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let inbound = match &self.inbound {
            Inbound::Body { frame, .. } => frame.capacity(),
            Inbound::Plain(plain, _) => plain.capacity(),
            Inbound::Head(..) | Inbound::Ended | Inbound::Broken => 0,
        };
        inbound + self.out.capacity()
    }
}

impl Inbound {
    const EMPTY: Inbound = Inbound::Head([0; LENGTH_BYTES], 0);
}

impl<T: AsyncRead + Unpin> NoiseStream<T> {
    /// Brings `inbound` to plain bytes or the end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.inbound {
                Inbound::Plain(plain, at) if *at < plain.len() => return Poll::Ready(Ok(())),
                Inbound::Plain(..) => self.inbound = Inbound::EMPTY,
                Inbound::Ended => return Poll::Ready(Ok(())),
                Inbound::Broken => return Poll::Ready(Err(broken())),
                Inbound::Head(head, have) => {
                    let count = ready!(Pin::new(&mut self.io).poll_read(cx, &mut head[*have..]))?;
                    *have += count;
                    match (count, *have) {
                        (0, 0) => self.inbound = Inbound::Ended,
                        (0, _) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                        (_, LENGTH_BYTES) => {
                            let length = usize::from(u16::from_be_bytes(*head));
                            self.inbound = Inbound::Body { frame: Vec::new(), length };
                        }
                        _ => {}
                    }
                }
                Inbound::Body { frame, length } if frame.len() == *length => {
                    let mut plain = vec![0; length.saturating_sub(TAG_BYTES)];
                    match self.state.read_message(frame, &mut plain) {
                        Ok(_) => self.inbound = Inbound::Plain(plain, 0),
                        Err(_) => self.inbound = Inbound::Broken,
                    }
                }
                Inbound::Body { frame, length } => {
                    let have = frame.len();
                    frame.resize((have + GROW_BYTES).min(*length), 0);
                    let read = Pin::new(&mut self.io).poll_read(cx, &mut frame[have..]);
                    frame.truncate(have + if let Poll::Ready(Ok(count)) = read { count } else { 0 });
                    if ready!(read)? == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> NoiseStream<T> {
    /// Hands what is encrypted to the stream below.
    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.at < self.out.len() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.at..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.at += count;
        }
        (self.out, self.at) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for NoiseStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_frame(cx))?;
        let Inbound::Plain(plain, at) = &mut this.inbound else { return Poll::Ready(Ok(0)) };
        let count = bytes.len().min(plain.len() - *at);
        bytes[..count].copy_from_slice(&plain[*at..*at + count]);
        *at += count;
        if *at == plain.len() {
            this.inbound = Inbound::EMPTY;
        }
        Poll::Ready(Ok(count))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for NoiseStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_push(cx))?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let count = bytes.len().min(MAX_PLAIN_BYTES);
        this.out.resize(LENGTH_BYTES + count + TAG_BYTES, 0);
        let (head, frame) = this.out.split_at_mut(LENGTH_BYTES);
        let length = this.state.write_message(&bytes[..count], frame).map_err(io::Error::other)?;
        let length = u16::try_from(length).map_err(io::Error::other)?;
        head.copy_from_slice(&length.to_be_bytes());
        // As much as goes at once; the rest with the next write or flush.
        match this.poll_push(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(cx))?;
        Pin::new(&mut self.io).poll_close(cx)
    }
}

#[cfg(test)]
impl<T: AsyncWrite + Unpin> NoiseStream<T> {
    /// Bytes that were never encrypted.
    pub(super) async fn inject(&mut self, bytes: &[u8]) {
        use futures::io::AsyncWriteExt;
        self.io.write_all(bytes).await.expect("room");
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame that the other side did not encrypt")
}
