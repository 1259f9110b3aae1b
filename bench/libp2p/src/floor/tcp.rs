//! The floor over TCP: Noise and Yamux, each agreed on by multistream-select, and one task that drives the connection.

use std::{
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    task::{Context as Waker, Poll},
};

use anyhow::{Context, Result, ensure};
use bench_parts::tally::Tally;
use libp2p::{
    Multiaddr, PeerId,
    core::upgrade::{InboundConnectionUpgrade as _, OutboundConnectionUpgrade as _},
    identity::Keypair,
    multiaddr::Protocol,
    noise,
};
use multistream_select::{Negotiated, Version, dialer_select_proto, listener_select_proto};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::{
    greet::{self, Own},
    own,
};
use crate::contender::Until;

const NOISE: &str = "/noise";
const YAMUX: &str = "/yamux/1.0.0";

type Secured = noise::Output<Negotiated<Compat<TcpStream>>>;
type Muxed = yamux::Connection<Negotiated<Secured>>;
type Ask = oneshot::Sender<yamux::Stream>;

/// An identity that dials.
pub struct Slot {
    noise: noise::Config,
    own: Arc<Own>,
}

impl Slot {
    pub fn new(key: &Keypair) -> Result<Slot> {
        Ok(Slot { noise: noise::Config::new(key)?, own: own(key, Vec::new()) })
    }
}

/// An open connection, driven by a task of its own.
pub struct Link {
    asks: mpsc::Sender<Ask>,
    task: JoinHandle<()>,
}

impl Link {
    pub async fn dial(slot: &Slot, to: SocketAddr, peer: PeerId, until: Until) -> Result<Link> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let (name, io) = dialer_select_proto(stream.compat(), [NOISE], Version::V1Lazy).await?;
        let (proven, io) = slot.noise.clone().upgrade_outbound(io, name).await?;
        ensure!(proven == peer, "somebody else is there");
        let (_, io) = dialer_select_proto(io, [YAMUX], Version::V1Lazy).await?;
        let conn = yamux::Connection::new(io, yamux::Config::default(), yamux::Mode::Client);
        let (asks, asked) = mpsc::channel(16);
        let mut driving =
            Driving { conn, asked: Some(asked), asking: None, own: slot.own.clone(), seen: multiaddr(to) };
        let task = tokio::spawn(async move {
            driving.run(true).await;
        });
        let link = Link { asks, task };
        let identify = link.open().await?;
        match until {
            Until::Identified => greet::ask_identify(identify, peer).await?,
            // The connection may be closed before it is done.
            Until::Up => drop(tokio::spawn(greet::ask_identify(identify, peer))),
        }
        Ok(link)
    }

    pub async fn open(&self) -> Result<yamux::Stream> {
        open(&self.asks).await
    }

    pub async fn close(self) -> Result<()> {
        drop(self.asks);
        self.task.await.context("closing")
    }
}

async fn open(asks: &mpsc::Sender<Ask>) -> Result<yamux::Stream> {
    let (answer, answered) = oneshot::channel();
    asks.send(answer).await.context("the connection ended")?;
    answered.await.context("the connection ended")
}

/// Listens and accepts for ever.
pub async fn listen(key: &Keypair, tally: Tally) -> Result<(Multiaddr, JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = multiaddr(listener.local_addr()?);
    let (noise, own) = (noise::Config::new(key)?, own(key, vec![address.clone()]));
    let accepting = tokio::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            let (noise, own, tally) = (noise.clone(), own.clone(), tally.clone());
            // A task of its own, so that what is held afterwards is no larger than it must be.
            tokio::spawn(async move {
                if let Ok((peer, conn)) = accept(stream, noise).await {
                    tally.rise();
                    let (asks, asked) = mpsc::channel(1);
                    let mut driving =
                        Driving { conn, asked: Some(asked), asking: None, own, seen: multiaddr(from) };
                    tokio::spawn(async move {
                        driving.run(false).await;
                        tally.fall();
                    });
                    // The dialler may have closed by now.
                    if let Ok(stream) = open(&asks).await {
                        drop(asks);
                        let _ = greet::ask_identify(stream, peer).await;
                    }
                }
            });
        }
    });
    Ok((address, accepting))
}

async fn accept(stream: TcpStream, noise: noise::Config) -> Result<(PeerId, Muxed)> {
    stream.set_nodelay(true)?;
    let (name, io) = listener_select_proto(stream.compat(), [NOISE]).await?;
    let (peer, io) = noise.upgrade_inbound(io, name).await?;
    let (_, io) = listener_select_proto(io, [YAMUX]).await?;
    Ok((peer, yamux::Connection::new(io, yamux::Config::default(), yamux::Mode::Server)))
}

struct Driving {
    conn: Muxed,
    /// `None` when nobody can ask any more.
    asked: Option<mpsc::Receiver<Ask>>,
    asking: Option<Ask>,
    own: Arc<Own>,
    seen: Multiaddr,
}

impl Driving {
    /// Until the connection ends, or, with `close`, nobody can ask for a stream.
    async fn run(&mut self, close: bool) {
        poll_fn(|cx| self.poll(cx, close)).await;
        // The other side may have gone first: either way it is closed.
        let _ = poll_fn(|cx| self.conn.poll_close(cx)).await;
    }

    fn poll(&mut self, cx: &mut Waker<'_>, close: bool) -> Poll<()> {
        loop {
            if let (None, Some(asked)) = (&self.asking, &mut self.asked) {
                match asked.poll_recv(cx) {
                    Poll::Ready(Some(ask)) => self.asking = Some(ask),
                    Poll::Ready(None) if close => return Poll::Ready(()),
                    Poll::Ready(None) => self.asked = None,
                    Poll::Pending => {}
                }
            }
            if self.asking.is_some() {
                match self.conn.poll_new_outbound(cx) {
                    Poll::Ready(Ok(stream)) => {
                        // Whoever asked may have gone.
                        let _ = self.asking.take().map(|ask| ask.send(stream));
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            match self.conn.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    let (own, seen) = (self.own.clone(), self.seen.clone());
                    tokio::spawn(async move { greet::serve(stream, &own, &seen).await });
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn multiaddr(at: SocketAddr) -> Multiaddr {
    Multiaddr::from(at.ip()).with(Protocol::Tcp(at.port()))
}
