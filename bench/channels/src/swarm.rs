//! The rival: a stock `libp2p` swarm over TCP with Noise and Yamux, identify and ping as an ordinary node runs them, and
//! `libp2p-stream` for its streams. One change to its defaults: idle connections are kept.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify,
    multiaddr::Protocol,
    noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use crate::duty;

#[derive(NetworkBehaviour)]
struct Stock {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: libp2p_stream::Behaviour,
}

fn swarm() -> Result<Swarm<Stock>> {
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| Stock {
            identify: identify::Behaviour::new(identify::Config::new("/bench/1".into(), key.public())),
            ping: ping::Behaviour::default(),
            streams: libp2p_stream::Behaviour::new(),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(86_400)))
        .build())
}

/// Listens and serves.
pub async fn serve(tell: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let mut swarm = swarm()?;
    let mut incoming = swarm.behaviour().streams.new_control().accept(StreamProtocol::new(duty::PROTOCOL))?;
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.with_p2p(*swarm.local_peer_id()).map_err(|_| anyhow!("an address"))?;
        }
    };
    tell(&address.to_string())?;
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(duty::serve(stream.compat()));
        }
    });
    loop {
        swarm.select_next_some().await;
    }
}

/// A swarm that is connected, driven by a task of its own.
pub struct Client {
    control: libp2p_stream::Control,
    peer: PeerId,
}

impl Client {
    /// Connects and waits for identify, the first proof that the other side agrees.
    pub async fn connect(address: &str) -> Result<Client> {
        let address: Multiaddr = address.parse()?;
        let peer = address.iter().find_map(|part| match part {
            Protocol::P2p(peer) => Some(peer),
            _ => None,
        });
        let mut swarm = swarm()?;
        let control = swarm.behaviour().streams.new_control();
        swarm.dial(address)?;
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(StockEvent::Identify(identify::Event::Received { .. })) => break,
                SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
                _ => {}
            }
        }
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Ok(Client { control, peer: peer.context("no peer id")? })
    }

    /// A stream.
    pub async fn open(&self) -> Result<Compat<libp2p::Stream>> {
        let protocol = StreamProtocol::new(duty::PROTOCOL);
        let stream = self.control.clone().open_stream(self.peer, protocol).await;
        Ok(stream.map_err(|error| anyhow!("{error}"))?.compat())
    }
}
