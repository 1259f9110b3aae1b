//! Between the multiplexer and its byte stream: writes are gathered into few, reads are measured by whole frames. Lives
//! on the link's shard; the link pushes, the multiplexer only fills.

use crate::Carrier;
use crate::frames::{Header, Inflow, Outflow};
use crate::gauge::Gauge;
use futures::io::{AsyncRead, AsyncWrite};
use peerkeep_core::Time;
use peerkeep_net::{Meter, TcpOptions};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;

/// Bytes gathered before the multiplexer has to wait for the socket, between two frames.
const GATHER_BYTES: usize = 32 * 1024;
/// Bytes waiting above which pings are left unanswered: the peer does not read.
const FULL_BYTES: usize = 2 * GATHER_BYTES;

/// Two holders of one stream, the multiplexer and the link, both on one task.
pub struct Pipe<C>(Rc<RefCell<Inner<C>>>);

struct Inner<C> {
    tcp: C,
    out: Vec<u8>,
    at: usize,
    outflow: Outflow,
    inflow: Inflow,
    uncounted: usize,
    /// Whole frames that came, and bytes that left, before there was a meter.
    early: (usize, usize),
    meter: Option<Meter>,
    gauge: Gauge,
    ending: Ending,
}

/// How far the end of what the other side sends has come. The multiplexer cuts its streams when it hears of that, also
/// those whose bytes wait to be read, so the link says when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// More may come.
    Open,
    /// Nothing more comes, and the multiplexer does not know.
    Held,
    /// It may know.
    Released,
}

impl<C> Clone for Pipe<C> {
    fn clone(&self) -> Pipe<C> {
        Pipe(self.0.clone())
    }
}

impl<C: Carrier> Pipe<C> {
    /// `out` leaves before the multiplexer's first frame, in one record with it.
    pub fn new(tcp: C, out: Vec<u8>) -> Pipe<C> {
        Pipe(Rc::new(RefCell::new(Inner {
            tcp,
            out,
            at: 0,
            outflow: Outflow::default(),
            inflow: Inflow::new(Time::ZERO),
            uncounted: 0,
            early: (0, 0),
            meter: None,
            gauge: Gauge::default(),
            ending: Ending::Open,
        })))
    }

    /// What is carried is counted there from now on, with what was carried before.
    pub fn attach(&self, meter: Meter) {
        let mut inner = self.0.borrow_mut();
        let (received, sent) = std::mem::take(&mut inner.early);
        if received > 0 {
            meter.received(received);
        }
        if sent > 0 {
            meter.sent(sent);
        }
        inner.meter = Some(meter);
    }

    /// Hands what was gathered to the socket.
    pub fn poll_push(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_push(cx)
    }

    /// Takes other options for the socket.
    pub fn retune(&self, options: &TcpOptions) {
        let inner = self.0.borrow();
        if let Err(error) = options.retune(inner.tcp.socket()) {
            let conn = inner.meter.as_ref().map(Meter::conn);
            tracing::debug!(?conn, %error, "a socket does not take its new options");
        }
    }

    /// Whether the multiplexer has called what came wrong.
    pub fn accuses(&self) -> bool {
        self.0.borrow().outflow.accuses()
    }

    /// Whether all has arrived that the other side sent, and the multiplexer is kept from knowing.
    pub fn is_held(&self) -> bool {
        self.0.borrow().ending == Ending::Held
    }

    /// The multiplexer may hear of the end.
    pub fn release(&self) {
        self.0.borrow_mut().ending = Ending::Released;
    }

    /// Bytes received so far.
    pub fn heard(&self) -> u64 {
        self.0.borrow().counted().0
    }

    /// Bytes carried so far, both ways.
    pub fn carried(&self) -> u64 {
        self.0.borrow().carried()
    }

    /// A ping of the link's own came back, and so many bytes were carried before it left.
    pub fn sample(&self, fresh: Duration, before: u64) {
        let mut inner = self.0.borrow_mut();
        let carried = inner.carried().saturating_sub(before);
        let rtt = inner.gauge.sample(fresh, carried);
        inner.tell(|meter| meter.rtt(rtt));
    }

    /// Reads and drops until the other side has closed.
    pub fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 1024];
        let mut inner = self.0.borrow_mut();
        loop {
            match ready!(read(&mut inner.tcp, cx, &mut waste)) {
                Ok(count) if count > 0 => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl<C: Carrier> Inner<C> {
    fn now(&self) -> Time {
        self.meter.as_ref().map_or(Time::ZERO, |meter| meter.clock().now())
    }

    fn tell(&self, news: impl FnOnce(&Meter)) {
        if let Some(meter) = &self.meter {
            news(meter);
        }
    }

    fn sent(&mut self, count: usize) {
        match &self.meter {
            Some(meter) => meter.sent(count),
            None => self.early.1 += count,
        }
    }

    /// Bytes received and sent so far.
    fn counted(&self) -> (u64, u64) {
        match &self.meter {
            Some(meter) => (meter.bytes().received(), meter.bytes().sent()),
            None => (0, 0),
        }
    }

    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.at < self.out.len() {
            let Poll::Ready(count) = Pin::new(&mut self.tcp).poll_write(cx, &self.out[self.at..]) else {
                return self.full();
            };
            let count = count?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.at += count;
            self.sent(count);
            self.gauge.wrote(self.now(), count);
        }
        let Poll::Ready(flushed) = Pin::new(&mut self.tcp).poll_flush(cx) else { return self.full() };
        flushed?;
        self.gauge.emptied(self.now());
        self.out = Vec::new();
        self.at = 0;
        Poll::Ready(Ok(()))
    }

    /// What is left and TLS's own last word go out in one packet.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let count = self.tcp.gather(&self.out[self.at..])?;
        self.sent(count);
        self.at += count;
        if self.at < self.out.len() {
            ready!(self.poll_push(cx))?;
        }
        (self.out, self.at) = (Vec::new(), 0);
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    /// The socket takes no more: what it takes from now on is what the way carries.
    fn full(&mut self) -> Poll<io::Result<()>> {
        if let Some(kbps) = self.gauge.full(self.now()) {
            self.tell(|meter| meter.rate(kbps));
        }
        Poll::Pending
    }

    fn carried(&self) -> u64 {
        let (received, sent) = self.counted();
        received + sent
    }

    /// Nothing more comes: true when the multiplexer has to wait for that news.
    fn hold(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ending == Ending::Open {
            self.ending = Ending::Held;
            cx.waker().wake_by_ref();
        }
        self.ending == Ending::Held
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.ending == Ending::Held || (self.inflow.is_go_away() && self.hold(cx)) {
                return Poll::Pending;
            }
            if self.inflow.body_left() > 0 {
                let most = bytes.len().min(self.inflow.body_left());
                let count = ready!(read(&mut self.tcp, cx, &mut bytes[..most]))?;
                self.uncounted += count;
                let ended = count > 0 && self.inflow.handle_body(count);
                return Poll::Ready(Ok(self.count(count, ended)));
            }
            let Some(room) = self.inflow.header_room() else {
                let (count, ended) = self.inflow.give(bytes);
                return Poll::Ready(Ok(self.count(count, ended)));
            };
            let count = ready!(read(&mut self.tcp, cx, room))?;
            if count == 0 {
                let cut = self.inflow.is_cut();
                if !cut && self.hold(cx) {
                    return Poll::Pending;
                }
                return Poll::Ready(if cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(0) });
            }
            self.uncounted += count;
            match self.inflow.handle_header(count, self.now()) {
                Header::Whole if self.inflow.is_pong() => {
                    let carried = self.carried();
                    if let Some(rtt) = self.gauge.pong(self.now(), carried) {
                        self.tell(|meter| meter.rtt(rtt));
                    }
                }
                Header::Partial | Header::Whole => {}
                Header::Ping(pong) => {
                    self.count(0, true);
                    self.answer(&pong);
                }
                Header::Flood => {
                    self.count(0, true);
                }
            }
        }
    }

    /// Between two frames of the multiplexer, which it never leaves half written.
    fn answer(&mut self, pong: &[u8]) {
        if self.outflow.is_between() && self.out.len() < FULL_BYTES {
            self.out.extend_from_slice(pong);
        }
    }

    fn count(&mut self, count: usize, ended: bool) -> usize {
        if ended {
            let whole = std::mem::take(&mut self.uncounted);
            match &self.meter {
                Some(meter) => meter.received(whole),
                None => self.early.0 += whole,
            }
        }
        count
    }
}

fn read<C: Carrier>(tcp: &mut C, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(bytes);
    ready!(Pin::new(tcp).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}

impl<C: Carrier> AsyncRead for Pipe<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_read(cx, bytes)
    }
}

impl<C: Carrier> AsyncWrite for Pipe<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        if inner.outflow.is_between() && inner.out.len() >= GATHER_BYTES {
            ready!(inner.poll_push(cx))?;
        }
        if inner.outflow.handle(bytes) {
            let (now, carried) = (inner.now(), inner.carried());
            inner.gauge.ping(now, carried);
        }
        inner.out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// The link pushes once all frames of a wake-up are gathered.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_close(cx)
    }
}
