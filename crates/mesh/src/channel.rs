//! An application's channel: one stream of a link as tokio's reader and writer, usable from any thread. Also the words
//! that every stream begins with. A channel that is not read fills its own window and nobody else's.

use crate::handle::{OPEN_TIMEOUT, Open, Seat, Shared};
use crate::{ChannelError, Handle};
use futures::io::{AsyncRead as _, AsyncReadExt, AsyncWrite as _, AsyncWriteExt};
use peerkeep_channels::Stream;
use peerkeep_core::PeerKey;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest protocol name or topic in bytes.
pub const PREFACE_MAX_BYTES: usize = 128;
/// The name of the control channel.
pub(crate) const CONTROL: &str = "peerkeep/control";
/// The name of the message stream.
pub(crate) const MAIL: &str = "peerkeep/mail";

/// The acceptor's one byte after a name.
pub(crate) const OK: u8 = 0;
pub(crate) const UNKNOWN: u8 = 1;
pub(crate) const BUSY: u8 = 2;
/// Most of the first bytes that leave in one frame with the name.
const FIRST_BYTES: usize = 4 * 1024;

/// A channel with a peer. Dropping it resets the stream; `shutdown` finishes our direction.
pub struct Channel {
    stream: Stream,
    seat: Seat,
    protocol: Box<str>,
    finished: bool,
    word: Word,
    /// Read already, and not by the application.
    ahead: Vec<u8>,
}

/// How far the two sides are about a channel.
enum Word {
    /// Agreed.
    Given,
    /// The other side has not been asked: these bytes go before all others.
    Unasked(Vec<u8>),
    /// Asked; the answer comes before all other bytes.
    Awaited,
    /// The other side did not wait for our word, these bytes: they leave with our first ones, or when we wait for more.
    Owed(Vec<u8>),
}

impl Channel {
    pub(crate) fn new(stream: Stream, seat: Seat, protocol: Box<str>) -> Channel {
        Channel { stream, seat, protocol, finished: false, word: Word::Given, ahead: Vec::new() }
    }

    /// On a fresh stream; the name leaves with the first bytes.
    pub(crate) fn unasked(stream: Stream, seat: Seat, protocol: Box<str>) -> Channel {
        let word = Word::Unasked(preface(&protocol));
        Channel { word, ..Channel::new(stream, seat, protocol) }
    }

    /// Taken from a side that sent these bytes without waiting for our word.
    pub(crate) fn unanswered(stream: Stream, seat: Seat, protocol: Box<str>, ahead: Vec<u8>) -> Channel {
        Channel { word: Word::Owed(vec![OK]), ahead, ..Channel::new(stream, seat, protocol) }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> PeerKey {
        self.shared().info.peer
    }

    /// What is spoken.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// The link it runs over.
    pub fn link(&self) -> Handle {
        Handle(self.shared().clone())
    }

    fn shared(&self) -> &Arc<Shared> {
        self.seat.shared()
    }

    /// Writes what goes before all other bytes, with as many of those as fit into one frame; how many of them.
    fn poll_ask(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while let Word::Unasked(first) | Word::Owed(first) = &mut self.word {
            let ahead = first.len();
            first.extend_from_slice(&bytes[..bytes.len().min(FIRST_BYTES)]);
            let wrote = Pin::new(&mut self.stream).poll_write(cx, first);
            first.truncate(ahead);
            let count = ready!(wrote)?;
            match count.checked_sub(ahead) {
                None => drop(first.drain(..count)),
                Some(more) => {
                    self.word = if matches!(self.word, Word::Owed(_)) { Word::Given } else { Word::Awaited };
                    return Poll::Ready(Ok(more));
                }
            }
        }
        Poll::Ready(Ok(0))
    }

    /// Reads the other side's word, if it is still to come.
    fn poll_word(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.word, Word::Unasked(_)) {
            ready!(self.poll_ask(cx, &[]))?;
        }
        if matches!(self.word, Word::Awaited) {
            let mut word = [UNKNOWN; 1];
            if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut word))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let error = match word[0] {
                OK => {
                    self.word = Word::Given;
                    return Poll::Ready(Ok(()));
                }
                BUSY => ChannelError::Busy,
                _ => ChannelError::Unknown,
            };
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, error)));
        }
        Poll::Ready(Ok(()))
    }

    /// The end of a stream that nobody finished is a loss, not an end (fault C4).
    fn check_end(&self) -> io::Result<()> {
        let lost = self.finished && self.stream.is_over() && self.shared().is_ended();
        if lost { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("peer", &self.peer()).field("protocol", &self.protocol).finish()
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_word(cx))?;
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..count]);
            self.ahead.drain(..count);
            self.shared().touch();
            return Poll::Ready(Ok(()));
        }
        let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf.initialize_unfilled()) else {
            // They may have to know that they are heard before they say more.
            return match self.poll_ask(cx, &[]) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            };
        };
        let count = read?;
        buf.advance(count);
        if count == 0 {
            return Poll::Ready(self.check_end());
        }
        self.shared().touch();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Channel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = match ready!(self.poll_ask(cx, bytes))? {
            0 => ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?,
            count => count,
        };
        self.shared().touch();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ask(cx, &[]))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ask(cx, &[]))?;
        ready!(Pin::new(&mut self.stream).poll_close(cx))?;
        self.finished = true;
        Poll::Ready(Ok(()))
    }
}

/// The bytes a stream begins with: one of length and the name.
pub(crate) fn preface(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + name.len());
    bytes.push(u8::try_from(name.len()).expect("names are checked before"));
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// Reads the name a stream begins with; `None` when it is none.
pub(crate) async fn read_preface(stream: &mut Stream) -> io::Result<Option<Box<str>>> {
    let mut length = [0; 1];
    stream.read_exact(&mut length).await?;
    let length = usize::from(length[0]);
    if length == 0 || length > PREFACE_MAX_BYTES {
        return Ok(None);
    }
    let mut name = vec![0; length];
    stream.read_exact(&mut name).await?;
    Ok(String::from_utf8(name).ok().map(String::into_boxed_str))
}

/// Names the protocol on a fresh stream and hands the channel, or the peer's word against it, to whoever asked.
/// Whether the peer answered in time; `None` when that cannot be said.
pub(crate) async fn open(mut stream: Stream, want: Open) -> Option<bool> {
    let began = tokio::time::Instant::now();
    let Open { protocol, seat, mut reply, .. } = want;
    let asked = async {
        stream.write_all(&preface(&protocol)).await?;
        let mut word = [UNKNOWN; 1];
        stream.read_exact(&mut word).await?;
        io::Result::Ok(word[0])
    };
    let word = tokio::select! {
        word = asked => word,
        () = reply.closed() => return (began.elapsed() >= OPEN_TIMEOUT).then_some(false),
    };
    let answered = word.is_ok().then_some(true);
    let answer = match word {
        Ok(OK) => Ok(Channel::new(stream, seat, protocol)),
        Ok(BUSY) => Err(ChannelError::Busy),
        Ok(_) => Err(ChannelError::Unknown),
        Err(_) if seat.shared().is_ended() => Err(ChannelError::Closed),
        Err(_) => Err(ChannelError::Unknown),
    };
    let _ = reply.send(answer);
    answered
}
