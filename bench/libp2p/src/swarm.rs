//! The rival: a stock `libp2p` swarm over TCP with Noise and Yamux and over QUIC, running identify and ping as an ordinary node
//! does, and `libp2p-stream` for its streams. One change to its defaults: idle connections are kept. It refuses to tune
//! anything else.

use std::{collections::HashMap, future::pending, time::Duration};

use anyhow::{Context, Result, anyhow};
use bench_channels::{Stream, duty};
use bench_parts::tally::Tally;
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify,
    multiaddr::Protocol,
    noise, ping,
    swarm::{
        ConnectionId, NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
    tcp, yamux,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::contender::{Contender, Dialler, Listener, Over, Until};

/// See the head of this file.
pub struct Rival;

/// Accepts until dropped.
pub struct RivalListener {
    address: String,
    tally: Tally,
    driving: JoinHandle<()>,
}

/// One swarm that dials the same listener as often as it is asked, always as the same peer.
pub struct RivalDialler {
    asks: mpsc::Sender<Ask>,
    control: libp2p_stream::Control,
    peer: PeerId,
}

enum Ask {
    Open(Until, oneshot::Sender<Result<ConnectionId>>),
    Close(ConnectionId, oneshot::Sender<()>),
}

#[derive(NetworkBehaviour)]
struct Stock {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: libp2p_stream::Behaviour,
}

impl Contender for Rival {
    type Listener = RivalListener;
    type Dialler = RivalDialler;

    async fn listen(over: Over) -> Result<RivalListener> {
        let mut swarm = swarm()?;
        let mut incoming =
            swarm.behaviour().streams.new_control().accept(StreamProtocol::new(duty::PROTOCOL))?;
        let at = match over {
            Over::Tcp => "/ip4/127.0.0.1/tcp/0",
            Over::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
        };
        swarm.listen_on(at.parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.with_p2p(*swarm.local_peer_id()).map_err(|_| anyhow!("an address"))?;
            }
        };
        tokio::spawn(async move {
            while let Some((_, stream)) = incoming.next().await {
                tokio::spawn(duty::serve(stream.compat()));
            }
        });
        let tally = Tally::new();
        let driving = tokio::spawn(serve(swarm, tally.clone()));
        Ok(RivalListener { address: address.to_string(), tally, driving })
    }

    async fn dialler(_over: Over, address: &str, slots: usize) -> Result<RivalDialler> {
        let address: Multiaddr = address.parse()?;
        let peer = address.iter().find_map(|part| match part {
            Protocol::P2p(peer) => Some(peer),
            _ => None,
        });
        let peer = peer.context("no peer id")?;
        let swarm = swarm()?;
        let control = swarm.behaviour().streams.new_control();
        let (asks, asked) = mpsc::channel(slots.max(1));
        let dialling = Dialling { swarm, peer, address, opening: HashMap::new(), closing: HashMap::new() };
        tokio::spawn(dialling.run(asked));
        Ok(RivalDialler { asks, control, peer })
    }
}

impl Listener for RivalListener {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for RivalListener {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

impl Dialler for RivalDialler {
    type Conn = ConnectionId;

    async fn open(&self, _slot: usize, until: Until) -> Result<ConnectionId> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Open(until, answer)).await.context("the swarm ended")?;
        answered.await.context("the swarm ended")?
    }

    async fn stream(&self, _conn: &ConnectionId) -> Result<Box<dyn Stream>> {
        let stream = self.control.clone().open_stream(self.peer, StreamProtocol::new(duty::PROTOCOL)).await;
        Ok(Box::new(stream.map_err(|error| anyhow!("{error}"))?.compat()))
    }

    async fn close(&self, _slot: usize, conn: ConnectionId) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Close(conn, answer)).await.context("the swarm ended")?;
        answered.await.context("the swarm ended")
    }
}

fn swarm() -> Result<Swarm<Stock>> {
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_behaviour(|key| Stock {
            identify: identify::Behaviour::new(identify::Config::new("/bench/1".into(), key.public())),
            ping: ping::Behaviour::default(),
            streams: libp2p_stream::Behaviour::new(),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(86_400)))
        .build())
}

async fn serve(mut swarm: Swarm<Stock>, tally: Tally) {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => tally.rise(),
            SwarmEvent::ConnectionClosed { .. } => tally.fall(),
            _ => {}
        }
    }
}

struct Dialling {
    swarm: Swarm<Stock>,
    peer: PeerId,
    address: Multiaddr,
    opening: HashMap<ConnectionId, (Until, oneshot::Sender<Result<ConnectionId>>)>,
    closing: HashMap<ConnectionId, oneshot::Sender<()>>,
}

impl Dialling {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.handle_event(event),
                ask = asked.recv() => match ask {
                    Some(ask) => self.handle_ask(ask),
                    None => pending().await,
                },
            }
        }
    }

    fn handle_ask(&mut self, ask: Ask) {
        // Whoever asked may have gone: then nobody is left to tell. So everywhere below.
        match ask {
            Ask::Open(until, answer) => {
                let opts = DialOpts::peer_id(self.peer)
                    .condition(PeerCondition::Always)
                    .addresses(vec![self.address.clone()])
                    .build();
                let conn = opts.connection_id();
                match self.swarm.dial(opts) {
                    Ok(()) => drop(self.opening.insert(conn, (until, answer))),
                    Err(error) => drop(answer.send(Err(error.into()))),
                }
            }
            Ask::Close(conn, answer) => {
                if self.swarm.close_connection(conn) {
                    self.closing.insert(conn, answer);
                } else {
                    let _ = answer.send(());
                }
            }
        }
    }

    fn opened(&mut self, conn: ConnectionId, how: Result<ConnectionId>) {
        if let Some((_, answer)) = self.opening.remove(&conn) {
            let _ = answer.send(how);
        }
    }

    fn handle_event(&mut self, event: SwarmEvent<StockEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { connection_id, .. }
                if self.opening.get(&connection_id).is_some_and(|(until, _)| *until == Until::Up) =>
            {
                self.opened(connection_id, Ok(connection_id));
            }
            // The dialler's swarm announces before the listener has spoken: its identify is the first proof.
            SwarmEvent::Behaviour(StockEvent::Identify(identify::Event::Received {
                connection_id, ..
            })) => self.opened(connection_id, Ok(connection_id)),
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.opened(connection_id, Err(error.into()));
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                self.opened(connection_id, Err(anyhow!("closed while opening: {cause:?}")));
                if let Some(answer) = self.closing.remove(&connection_id) {
                    let _ = answer.send(());
                }
            }
            _ => {}
        }
    }
}
