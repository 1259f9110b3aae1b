//! The rival: a stock `libp2p` swarm over TCP with Noise and Yamux, running identify and ping as an ordinary node does.
//! One change to its defaults: idle connections are kept. It refuses to tune anything else.

use std::{collections::HashMap, future::pending, time::Duration};

use anyhow::{Context, Result, anyhow};
use bench_parts::tally::Tally;
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, identify, noise, ping,
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

use crate::contender::{Contender, Dialler, Listener};

/// See the head of this file.
pub struct Rival;

/// Accepts until dropped.
pub struct RivalListener {
    address: String,
    tally: Tally,
    driving: JoinHandle<()>,
}

/// One swarm that dials the same listener as often as it is asked. One identity for all slots is cheaper for the
/// listener than an identity each, so this favours the swarm.
pub struct RivalDialler {
    asks: mpsc::Sender<Ask>,
}

enum Ask {
    Open(oneshot::Sender<Result<ConnectionId>>),
    Close(ConnectionId, oneshot::Sender<()>),
}

#[derive(NetworkBehaviour)]
struct Stock {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

impl Contender for Rival {
    type Listener = RivalListener;
    type Dialler = RivalDialler;

    async fn listen() -> Result<RivalListener> {
        let mut swarm = swarm()?;
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.with_p2p(*swarm.local_peer_id()).map_err(|_| anyhow!("an address"))?;
            }
        };
        let tally = Tally::new();
        let driving = tokio::spawn(serve(swarm, tally.clone()));
        Ok(RivalListener { address: address.to_string(), tally, driving })
    }

    async fn dialler(address: &str, slots: usize) -> Result<RivalDialler> {
        let address: Multiaddr = address.parse()?;
        let peer = address.iter().find_map(|part| match part {
            libp2p::multiaddr::Protocol::P2p(peer) => Some(peer),
            _ => None,
        });
        let (asks, asked) = mpsc::channel(slots.max(1));
        let dialling = Dialling {
            swarm: swarm()?,
            peer: peer.context("no peer id")?,
            address,
            opening: HashMap::new(),
            closing: HashMap::new(),
        };
        tokio::spawn(dialling.run(asked));
        Ok(RivalDialler { asks })
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

    async fn open(&self, _slot: usize) -> Result<ConnectionId> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Open(answer)).await.context("the swarm ended")?;
        answered.await.context("the swarm ended")?
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
        .with_behaviour(|key| Stock {
            identify: identify::Behaviour::new(identify::Config::new("/bench/1".into(), key.public())),
            ping: ping::Behaviour::default(),
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
    opening: HashMap<ConnectionId, oneshot::Sender<Result<ConnectionId>>>,
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
        match ask {
            Ask::Open(answer) => {
                let opts = DialOpts::peer_id(self.peer)
                    .condition(PeerCondition::Always)
                    .addresses(vec![self.address.clone()])
                    .build();
                let conn = opts.connection_id();
                match self.swarm.dial(opts) {
                    Ok(()) => {
                        self.opening.insert(conn, answer);
                    }
                    Err(error) => {
                        let _ = answer.send(Err(error.into()));
                    }
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

    fn handle_event(&mut self, event: SwarmEvent<StockEvent>) {
        // Whoever asked may have gone: then nobody is left to tell.
        match event {
            // The dialler's swarm announces before the listener has spoken: its identify is the first proof.
            SwarmEvent::Behaviour(StockEvent::Identify(identify::Event::Received {
                connection_id, ..
            })) => {
                if let Some(answer) = self.opening.remove(&connection_id) {
                    let _ = answer.send(Ok(connection_id));
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(answer) = self.opening.remove(&connection_id) {
                    let _ = answer.send(Err(error.into()));
                }
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                if let Some(answer) = self.opening.remove(&connection_id) {
                    let _ = answer.send(Err(anyhow!("closed while opening: {cause:?}")));
                }
                if let Some(answer) = self.closing.remove(&connection_id) {
                    let _ = answer.send(());
                }
            }
            _ => {}
        }
    }
}
