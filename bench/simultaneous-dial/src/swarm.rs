//! libp2p's stock swarm as one side of a pair: identify, ping, and a stream to say something on. One change to its defaults:
//! idle connections are kept. It refuses to close anything by itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify,
    multiaddr::Protocol,
    noise, ping,
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use tokio::{runtime::Runtime, sync::mpsc};

use crate::{
    child::instant,
    judge::{Look, Side},
};

/// The protocol by which a side says that it is here.
pub const HERE: &str = "/bench/here/1";
/// How much it says.
pub const BYTES: usize = 4;

/// A swarm, driven by a task that ends with this.
pub struct Rival {
    address: Multiaddr,
    asks: mpsc::Sender<Multiaddr>,
    control: libp2p_stream::Control,
    seen: Arc<Mutex<Look>>,
    other: Option<PeerId>,
}

#[derive(NetworkBehaviour)]
struct Stock {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: libp2p_stream::Behaviour,
}

impl Rival {
    pub async fn start(at: &str) -> Result<Rival> {
        let mut swarm = swarm()?;
        let mut control = swarm.behaviour().streams.new_control();
        let mut incoming = control.accept(StreamProtocol::new(HERE))?;
        swarm.listen_on(at.parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.with_p2p(*swarm.local_peer_id()).map_err(|_| anyhow!("an address"))?;
            }
        };
        let seen = Arc::new(Mutex::new(Look { foreign: true, ..Look::default() }));
        let hearing = seen.clone();
        tokio::spawn(async move {
            while let Some((_, mut stream)) = incoming.next().await {
                if stream.read_exact(&mut [0; BYTES]).await.is_ok() {
                    hearing.lock().unwrap_or_else(PoisonError::into_inner).heard += 1;
                }
            }
        });
        let (asks, asked) = mpsc::channel(1);
        tokio::spawn(Driving { swarm, held: HashMap::new(), seen: seen.clone() }.run(asked));
        Ok(Rival { address, asks, control, seen, other: None })
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn dial(&mut self, runtime: &Runtime, at: Duration, address: &str) -> Result<()> {
        let address: Multiaddr = address.parse()?;
        self.other = address.iter().find_map(|part| match part {
            Protocol::P2p(peer) => Some(peer),
            _ => None,
        });
        self.other.context("no peer id")?;
        let asks = self.asks.clone();
        runtime.spawn(async move {
            instant(at).await;
            // It may have been stopped.
            let _ = asks.send(address).await;
        });
        Ok(())
    }

    pub fn look(&self) -> Look {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub async fn say(&self) {
        let Some(other) = self.other else { return };
        match self.control.clone().open_stream(other, StreamProtocol::new(HERE)).await {
            Ok(mut stream) => {
                // The other side does not answer: what counts is what it heard.
                if stream.write_all(&[1; BYTES]).await.is_err() || stream.close().await.is_err() {
                    eprintln!("say: the stream ended");
                }
            }
            Err(error) => eprintln!("say: {error}"),
        }
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

struct Driving {
    swarm: Swarm<Stock>,
    held: HashMap<ConnectionId, Side>,
    seen: Arc<Mutex<Look>>,
}

impl Driving {
    async fn run(mut self, mut asked: mpsc::Receiver<Multiaddr>) {
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.handle_event(event),
                ask = asked.recv() => match ask {
                    Some(address) => self.dial(address),
                    None => return,
                },
            }
        }
    }

    fn dial(&mut self, address: Multiaddr) {
        let opts = DialOpts::unknown_peer_id().address(address).build();
        match self.swarm.dial(opts) {
            Ok(()) => {
                let mut look = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                look.dials += 1;
                look.dialled_first += usize::from(look.announced == 0);
            }
            Err(error) => eprintln!("dial: {error}"),
        }
    }

    fn handle_event(&mut self, event: SwarmEvent<StockEvent>) {
        let mut look = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            SwarmEvent::ConnectionEstablished { connection_id, endpoint, .. } => {
                let side = if endpoint.is_dialer() { Side::Dialled } else { Side::Accepted };
                self.held.insert(connection_id, side);
                look.announced += 1;
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                self.held.remove(&connection_id);
                look.lost += 1;
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => eprintln!("dial: {error}"),
            _ => {}
        }
        look.slots = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        look.up = self.held.values().next().copied();
    }
}
