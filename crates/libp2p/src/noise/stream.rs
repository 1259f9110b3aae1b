//! Bytes over a finished Noise handshake: frames of at most 65,535 bytes, each decrypted whole. Holds no buffer while
//! nothing is on its way, and never much more than one frame each way: it reads as much at once as has lately come at once.

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
/// Room for the first read after a pause. A frame's length alone costs nothing.
const FIRST_BYTES: usize = 4_096;
/// Most that is read at once: the longest frame.
const MOST_BYTES: usize = LENGTH_BYTES + MAX_FRAME_BYTES;

/// An encrypted stream over `T`. After an error it stays broken.
pub struct NoiseStream<T> {
    io: T,
    state: Box<TransportState>,
    inbound: Inbound,
    out: Vec<u8>,
    /// How much of `out` the stream below has taken.
    at: usize,
}

/// What has come.
struct Inbound {
    /// As it came; a whole frame or the beginning of one, and perhaps more.
    raw: Vec<u8>,
    /// How much of it has been decrypted.
    done: usize,
    /// Room for the next read.
    room: usize,
    /// Decrypted,
    plain: Vec<u8>,
    /// and read up to there.
    read: usize,
    end: Option<End>,
}

#[derive(Clone, Copy)]
enum End {
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
        self.inbound.raw.capacity() + self.inbound.plain.capacity() + self.out.capacity()
    }
}

impl Inbound {
    const EMPTY: Inbound =
        Inbound { raw: Vec::new(), done: 0, room: FIRST_BYTES, plain: Vec::new(), read: 0, end: None };

    /// Decrypts the next frame, if it is here whole; true when there is something to read.
    fn decrypt(&mut self, state: &mut TransportState) -> bool {
        while self.read == self.plain.len() {
            let come = &self.raw[self.done..];
            let Some((head, rest)) = come.split_at_checked(LENGTH_BYTES) else { return false };
            let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
            let Some(frame) = rest.get(..length) else { return false };
            self.plain.resize(length.saturating_sub(TAG_BYTES), 0);
            self.read = 0;
            if state.read_message(frame, &mut self.plain).is_err() {
                self.end = Some(End::Broken);
                self.plain = Vec::new();
                return false;
            }
            self.done += LENGTH_BYTES + length;
        }
        true
    }

    /// Nothing is on its way: so nothing is held.
    fn rest(&mut self) {
        self.room = FIRST_BYTES;
        if self.raw.is_empty() {
            (self.raw, self.plain, self.read) = (Vec::new(), Vec::new(), 0);
        }
    }
}

impl<T: AsyncRead + Unpin> NoiseStream<T> {
    /// Brings `inbound` to plain bytes or the end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inbound = &mut self.inbound;
        loop {
            if inbound.decrypt(&mut self.state) {
                return Poll::Ready(Ok(()));
            }
            match inbound.end {
                None => {}
                Some(End::Ended) => return Poll::Ready(Ok(())),
                Some(End::Broken) => return Poll::Ready(Err(broken())),
            }
            inbound.raw.drain(..std::mem::take(&mut inbound.done));
            let have = inbound.raw.len();
            let most = (have + inbound.room).min(MOST_BYTES);
            inbound.raw.resize(most, 0);
            let read = Pin::new(&mut self.io).poll_read(cx, &mut inbound.raw[have..]);
            let count = if let Poll::Ready(Ok(count)) = read { count } else { 0 };
            inbound.raw.truncate(have + count);
            if read.is_pending() {
                inbound.rest();
            }
            ready!(read)?;
            match (count, have) {
                (0, 0) => inbound.end = Some(End::Ended),
                (0, _) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                // All the room was needed: more may be there.
                _ if have + count == most => inbound.room = (2 * inbound.room).min(MOST_BYTES),
                _ => {}
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
        let Inbound { plain, read, .. } = &mut this.inbound;
        let count = bytes.len().min(plain.len() - *read);
        bytes[..count].copy_from_slice(&plain[*read..*read + count]);
        *read += count;
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
