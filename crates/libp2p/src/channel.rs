//! An application's channel: one negotiated stream as tokio's reader and writer, usable from any thread. A channel that is
//! not read fills its own window and nobody else's.

use crate::capped::Capped;
use crate::handle::{Open, Seat, Shared};
use crate::{ChannelError, Handle};
use futures::FutureExt as _;
use futures::future::Either;
use futures::io::{AsyncRead as _, AsyncWrite as _};
use multistream_select::{Negotiated, NegotiatedComplete, NegotiationError, Version, dialer_select_proto};
use peerkeep_channels::{Named, Stream};
use peerkeep_core::{AddrKind, PeerKey};
use std::fmt;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A channel with a peer. Dropping it resets the stream; `shutdown` finishes our direction.
pub struct Channel {
    /// Agreed, or with the peer's word still to come.
    stream: Option<Either<Stream, Negotiated<Stream>>>,
    seat: Seat,
    protocol: Box<str>,
    finished: bool,
    /// Something has been read, so the peer's word was for the channel.
    heard: bool,
    /// The stream, while the end of our direction waits for the peer's word.
    ending: Option<NegotiatedComplete<Stream>>,
    /// How it failed: the stream must not be asked again.
    failed: Option<io::ErrorKind>,
}

impl Channel {
    pub(crate) fn new(stream: Either<Stream, Negotiated<Stream>>, seat: Seat, protocol: Box<str>) -> Channel {
        let (stream, ending) = (Some(stream), None);
        Channel { stream, seat, protocol, finished: false, heard: false, ending, failed: None }
    }

    /// On a fresh stream; what names it leaves with the first bytes.
    pub(crate) fn unasked(stream: Stream, seat: Seat, protocol: Box<str>) -> Option<Channel> {
        // Nothing is written before there is something to say, so there is nothing to wait for.
        let select = dialer_select_proto(stream, [protocol.clone()], Version::V1Lazy);
        let (_, stream) = select.now_or_never()?.ok()?;
        Some(Channel::new(Either::Right(stream), seat, protocol))
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

    fn check(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// The stream to read or write, once an end that is waited for has come.
    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<&mut Either<Stream, Negotiated<Stream>>>> {
        self.check()?;
        if let Some(ending) = &mut self.ending {
            let ended = ready!(Pin::new(ending).poll(cx));
            self.ending = None;
            match ended {
                Ok(stream) => self.stream = Some(Either::Right(stream)),
                Err(error) => return Poll::Ready(Err(self.note(error.into()))),
            }
        }
        Poll::Ready(self.stream.as_mut().ok_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }

    /// A failed negotiation is the peer's word against the channel.
    fn note(&mut self, error: io::Error) -> io::Error {
        let refused = error.get_ref().is_some_and(|inner| inner.is::<NegotiationError>());
        let error = match refused {
            true => io::Error::new(io::ErrorKind::ConnectionRefused, ChannelError::Unknown),
            false => error,
        };
        self.failed = Some(error.kind());
        error
    }

    /// The end of a stream that nobody finished is a loss, not an end (fault C4): where we had finished, only the link
    /// tells which it was. QUIC tells by itself.
    fn check_end(&self) -> io::Result<()> {
        let over_tcp = self.shared().info.remote.kind == AddrKind::Tcp;
        let lost = over_tcp && self.finished && self.shared().is_ended();
        if lost { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl Named for Channel {
    fn protocol(&self) -> &str {
        Channel::protocol(self)
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
        let stream = ready!(self.poll_stream(cx))?;
        match ready!(Pin::new(stream).poll_read(cx, buf.initialize_unfilled())) {
            Ok(0) => Poll::Ready(self.check_end()),
            Ok(count) => {
                self.heard = true;
                buf.advance(count);
                self.shared().touch();
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.note(error))),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = ready!(self.poll_stream(cx))?;
        match ready!(Pin::new(stream).poll_write(cx, bytes)) {
            Ok(count) => {
                self.shared().touch();
                Poll::Ready(Ok(count))
            }
            Err(error) => Poll::Ready(Err(self.note(error))),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = ready!(self.poll_stream(cx))?;
        let flushed = ready!(Pin::new(stream).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.note(error)))
    }

    /// Waits for the peer's word where that is still to come: a stream that is dropped before would take with it what was
    /// written, because the peer could not answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let finished = self.finished;
        let stream = ready!(self.poll_stream(cx))?;
        if finished {
            return Poll::Ready(Ok(()));
        }
        if let Err(error) = ready!(Pin::new(stream).poll_close(cx)) {
            return Poll::Ready(Err(self.note(error)));
        }
        self.finished = true;
        if self.heard {
            return Poll::Ready(Ok(()));
        }
        match self.stream.take() {
            Some(Either::Right(stream)) => self.ending = Some(stream.complete()),
            agreed => self.stream = agreed,
        }
        self.poll_stream(cx).map_ok(drop)
    }
}

/// Names the protocol on a fresh stream and hands the channel, or the peer's word against it, to whoever asked. Whether
/// the peer answered; `None` when that cannot be said.
pub(crate) async fn open(mut stream: Stream, want: Open) -> Option<bool> {
    let Open { protocol, seat, mut reply, .. } = want;
    let began = tokio::time::Instant::now();
    let asked = dialer_select_proto(Capped::new(&mut stream), [protocol.clone()], Version::V1);
    let answer = tokio::select! {
        answer = asked => answer.map(drop),
        () = reply.closed() => return (began.elapsed() >= crate::OPEN_TIMEOUT).then_some(false),
    };
    let (answered, answer) = match answer {
        Ok(()) => (Some(true), Ok(Channel::new(Either::Left(stream), seat, protocol))),
        Err(NegotiationError::Failed) => (Some(true), Err(ChannelError::Unknown)),
        Err(_) if seat.shared().is_ended() => (None, Err(ChannelError::Closed)),
        Err(_) => (None, Err(ChannelError::Unknown)),
    };
    // Who asked may have left.
    let _ = reply.send(answer);
    answered
}
