//! What carries a link's streams: Yamux over a secured byte stream, or a QUIC connection. The link's task sees one set
//! of verbs; what they cost and how each ends is here.

use crate::pipe::Pipe;
use crate::{Carrier, NO_CODE, QuicStream, Stream};
use peerkeep_core::{Addr, AddrKind, Fault, FaultKind, PeerKey, Step, Violation};
use peerkeep_net::{Ended, Meter, TcpOptions};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The multiplexer of one link.
pub enum Mux<C> {
    /// Over a byte stream.
    Yamux {
        /// The stream.
        pipe: Pipe<C>,
        /// What is spoken in it.
        conn: Box<yamux::Connection<Pipe<C>>>,
    },
    /// QUIC.
    Quic(Box<QuicMux>),
}

/// A stream that is being opened or accepted.
type Coming = Pin<Box<dyn Future<Output = Result<(SendStream, RecvStream), ConnectionError>>>>;

/// A QUIC connection, and how much of it the core has been told.
pub struct QuicMux {
    connection: Connection,
    accept: Coming,
    open: Option<Coming>,
    meter: Option<Meter>,
    peer: PeerKey,
    remote: Addr,
    frames: u64,
    received: u64,
    sent: u64,
}

impl<C: Carrier> Mux<C> {
    /// Yamux, as the side that dialled or the other one. `last` leaves before its first frame. No more than `most` streams
    /// are open at once, whatever the settings say now or later: how many of them get past their name is the link's
    /// business, and it drops those that do not.
    pub fn yamux(tcp: C, last: Vec<u8>, dialled: bool, most: usize) -> Mux<C> {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(most);
        // Beside the least that each stream has, a megabyte for all that are busy.
        config.set_max_connection_receive_window(Some((most + 4) * yamux::DEFAULT_CREDIT as usize));
        let mode = if dialled { yamux::Mode::Client } else { yamux::Mode::Server };
        let pipe = Pipe::new(tcp, last);
        let conn = Box::new(yamux::Connection::new(pipe.clone(), config, mode));
        Mux::Yamux { pipe, conn }
    }

    /// QUIC, to a peer at that address.
    pub fn quic(connection: Connection, peer: PeerKey, remote: Addr) -> Mux<C> {
        let accept = accept(&connection);
        let (open, meter) = (None, None);
        Mux::Quic(Box::new(QuicMux {
            connection,
            accept,
            open,
            meter,
            peer,
            remote,
            frames: 0,
            received: 0,
            sent: 0,
        }))
    }

    /// What is carried is counted there from now on, with what was carried before.
    pub fn attach(&mut self, meter: Meter) {
        match self {
            Mux::Yamux { pipe, .. } => pipe.attach(meter),
            Mux::Quic(quic) => {
                quic.meter = Some(meter);
                quic.sense();
            }
        }
    }

    /// How many streams the other side may have open from now on. With Yamux the link sees to that itself.
    pub fn limit(&mut self, streams: usize) {
        if let Mux::Quic(quic) = self {
            let streams = u32::try_from(streams).unwrap_or(u32::MAX);
            quic.connection.set_max_concurrent_bi_streams(streams.into());
        }
    }

    /// Other options for its socket. QUIC has one for all connections, and keeps them alive itself.
    pub fn retune(&mut self, options: &TcpOptions) {
        if let Mux::Yamux { pipe, .. } = self {
            pipe.retune(options);
        }
    }

    /// The next stream that the other side opened. An error is how the link ended.
    pub fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, Ended>> {
        match self {
            Mux::Yamux { conn, pipe } => {
                let result = conn.poll_next_inbound(cx);
                if pipe.accuses() {
                    // It only says so, and would go on with whoever does not listen.
                    let _ = pipe.poll_push(cx);
                    return Poll::Ready(Err(Ended::Violation(Violation::StreamAbuse)));
                }
                Poll::Ready(match ready!(result) {
                    Some(Ok(stream)) => Ok(Stream::yamux(stream)),
                    Some(Err(error)) => Err(end_of::<C>(error)),
                    None => Err(Ended::Fault(Fault::new(Step::Live, FaultKind::Closed))),
                })
            }
            Mux::Quic(quic) => {
                let result = ready!(quic.accept.as_mut().poll(cx));
                quic.accept = accept(&quic.connection);
                Poll::Ready(stream::<C>(result))
            }
        }
    }

    /// A fresh stream of ours.
    pub fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, Ended>> {
        match self {
            Mux::Yamux { conn, .. } => conn.poll_new_outbound(cx).map_ok(Stream::yamux).map_err(end_of::<C>),
            Mux::Quic(quic) => {
                let connection = &quic.connection;
                let opening = quic.open.get_or_insert_with(|| {
                    let connection = connection.clone();
                    Box::pin(async move { connection.open_bi().await })
                });
                let result = ready!(opening.as_mut().poll(cx));
                quic.open = None;
                Poll::Ready(stream::<C>(result))
            }
        }
    }

    /// Hands what was gathered to the socket.
    pub fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Mux::Yamux { pipe, .. } => pipe.poll_push(cx),
            Mux::Quic(_) => Poll::Ready(Ok(())),
        }
    }

    /// Says that no more streams come. Over QUIC that is the end of the control stream, which is not here.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        match self {
            Mux::Yamux { conn, .. } => conn.poll_close(cx).map_err(|_| ()),
            Mux::Quic(_) => Poll::Ready(Ok(())),
        }
    }

    /// Waits until the other side has closed, reading and dropping what still comes.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Mux::Yamux { pipe, .. } => pipe.poll_drain(cx),
            Mux::Quic(quic) => {
                while let Ok((_dropped, _)) = ready!(quic.accept.as_mut().poll(cx)) {
                    quic.accept = accept(&quic.connection);
                }
                Poll::Ready(())
            }
        }
    }

    /// Ends it now.
    pub fn close(&mut self, cx: &mut Context<'_>) {
        match self {
            Mux::Yamux { conn, .. } => {
                let _ = conn.poll_close(cx);
            }
            Mux::Quic(quic) => quic.connection.close(NO_CODE, b""),
        }
    }

    /// Whether everything has arrived that the other side sent, while our streams live on. Over QUIC that is not known.
    pub fn is_held(&self) -> bool {
        matches!(self, Mux::Yamux { pipe, .. } if pipe.is_held())
    }

    /// The streams may end, now that everything has arrived.
    pub fn release(&mut self) {
        if let Mux::Yamux { pipe, .. } = self {
            pipe.release();
        }
    }

    /// A number that grows with what arrives.
    pub fn heard(&self) -> u64 {
        match self {
            Mux::Yamux { pipe, .. } => pipe.heard(),
            Mux::Quic(quic) => quic.frames,
        }
    }

    /// Three round trips: whoever has more to say is heard by then. Zero where the end of all is heard anyway.
    pub fn patience(&self) -> Duration {
        match self {
            Mux::Yamux { .. } => Duration::ZERO,
            Mux::Quic(quic) => quic.connection.rtt() * 3,
        }
    }

    /// Bytes carried so far, both ways; over QUIC nobody asks, because it measures for itself.
    pub fn carried(&self) -> u64 {
        match self {
            Mux::Yamux { pipe, .. } => pipe.carried(),
            Mux::Quic(_) => 0,
        }
    }

    /// A ping of the link's own came back, and so many bytes were carried before it left.
    pub fn sample(&self, rtt: Duration, before: u64) {
        if let Mux::Yamux { pipe, .. } = self {
            pipe.sample(rtt, before);
        }
    }

    /// Whether its streams are QUIC's own.
    pub fn is_quic(&self) -> bool {
        matches!(self, Mux::Quic(_))
    }

    /// Tells the meter what the connection knows. Over TCP the pipe does that as bytes pass.
    pub fn sense(&mut self) {
        if let Mux::Quic(quic) = self {
            quic.sense();
        }
    }
}

impl QuicMux {
    /// A frame was read from a packet that proved to be theirs: they live. Bytes alone prove nothing, since anybody can
    /// send some to a connection's number.
    fn sense(&mut self) {
        let Some(meter) = &self.meter else { return };
        let stats = self.connection.stats();
        let rx = stats.frame_rx;
        let frames = rx.acks + rx.stream + rx.ping + rx.max_data + rx.max_stream_data + rx.path_challenge;
        if frames != self.frames {
            self.frames = frames;
            meter.received(gain(&mut self.received, stats.udp_rx.bytes));
            meter.rtt(stats.path.rtt);
        }
        let sent = gain(&mut self.sent, stats.udp_tx.bytes);
        if sent > 0 {
            meter.sent(sent);
        }
        let remote = Addr::new(self.connection.remote_address(), AddrKind::Quic);
        if remote != self.remote {
            self.remote = remote;
            meter.moved(self.peer, remote);
        }
    }
}

impl Drop for QuicMux {
    /// Channels that applications hold keep the connection otherwise.
    fn drop(&mut self) {
        self.connection.close(NO_CODE, b"");
    }
}

fn gain(known: &mut u64, now: u64) -> usize {
    let more = now.saturating_sub(*known);
    *known = now;
    usize::try_from(more).unwrap_or(usize::MAX)
}

fn accept(connection: &Connection) -> Coming {
    let connection = connection.clone();
    Box::pin(async move { connection.accept_bi().await })
}

fn stream<C: Carrier>(result: Result<(SendStream, RecvStream), ConnectionError>) -> Result<Stream, Ended> {
    match result {
        Ok((send, recv)) => Ok(Stream::Quic(QuicStream::new(send, recv))),
        Err(error) => Err(quic_end_of::<C>(&error)),
    }
}

/// How the end of a QUIC connection is called. What it did against QUIC's rules is misbehaviour; a close without a
/// goodbye is a loss.
fn quic_end_of<C: Carrier>(error: &ConnectionError) -> Ended {
    match error {
        ConnectionError::TransportError(_) => Ended::Violation(Violation::Malformed),
        other => Ended::Fault(C::quic_fault(Step::Live, other)),
    }
}

/// How the multiplexer's end is called.
fn end_of<C: Carrier>(error: yamux::ConnectionError) -> Ended {
    use yamux::FrameDecodeError;
    match error {
        yamux::ConnectionError::Io(error) | yamux::ConnectionError::Decode(FrameDecodeError::Io(error)) => {
            Ended::Fault(C::fault(Step::Live, &error))
        }
        yamux::ConnectionError::Decode(FrameDecodeError::FrameTooLarge(_)) => {
            Ended::Violation(Violation::TooLarge)
        }
        yamux::ConnectionError::Decode(_) => Ended::Violation(Violation::Malformed),
        yamux::ConnectionError::Closed => Ended::Fault(Fault::new(Step::Live, FaultKind::Closed)),
        _ => Ended::Fault(Fault::new(Step::Live, FaultKind::Resources)),
    }
}
