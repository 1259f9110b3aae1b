//! The floor: what the same cryptography, multistream-select, Yamux and identify cost with nobody managing them. The crates
//! that the swarm is made of, on bare connections. It refuses to have a pool, limits, retries, deadlines, pings of its own or an
//! opinion on who may connect.

mod greet;
mod quic;
mod tcp;

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, bail};
use bench_channels::Stream;
use bench_parts::tally::Tally;
use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
use tokio::task::JoinHandle;

use crate::contender::{Contender, Dialler, Listener, Over, Until};
use greet::Own;

/// See the head of this file.
pub struct Floor;

/// Accepts until dropped.
pub struct FloorListener {
    address: Multiaddr,
    tally: Tally,
    accepting: JoinHandle<()>,
}

/// Dials one address, with an identity for each slot.
pub struct FloorDialler {
    to: SocketAddr,
    peer: PeerId,
    way: Way,
}

enum Way {
    Tcp(Vec<tcp::Slot>),
    Quic(quic::Dialler),
}

/// An open connection.
pub enum FloorConn {
    /// Over TCP.
    Tcp(tcp::Link),
    /// Over QUIC.
    Quic(quic::Link),
}

impl Contender for Floor {
    type Listener = FloorListener;
    type Dialler = FloorDialler;

    async fn listen(over: Over) -> Result<FloorListener> {
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        let tally = Tally::new();
        let (address, accepting) = match over {
            Over::Tcp => tcp::listen(&key, tally.clone()).await?,
            Over::Quic => quic::listen(&key, tally.clone())?,
        };
        Ok(FloorListener { address: address.with(Protocol::P2p(peer)), tally, accepting })
    }

    async fn dialler(over: Over, address: &str, slots: usize) -> Result<FloorDialler> {
        let (to, peer) = place(address)?;
        let keys = std::iter::repeat_with(Keypair::generate_ed25519).take(slots);
        let way = match over {
            Over::Tcp => Way::Tcp(keys.map(|key| tcp::Slot::new(&key)).collect::<Result<_>>()?),
            Over::Quic => Way::Quic(quic::Dialler::new(keys, peer)?),
        };
        Ok(FloorDialler { to, peer, way })
    }
}

impl Listener for FloorListener {
    fn address(&self) -> String {
        self.address.to_string()
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for FloorListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Dialler for FloorDialler {
    type Conn = FloorConn;

    async fn open(&self, slot: usize, until: Until) -> Result<FloorConn> {
        Ok(match &self.way {
            Way::Tcp(slots) => {
                let slot = slots.get(slot).context("no such slot")?;
                FloorConn::Tcp(tcp::Link::dial(slot, self.to, self.peer, until).await?)
            }
            Way::Quic(dialler) => FloorConn::Quic(dialler.dial(slot, self.to, self.peer, until).await?),
        })
    }

    async fn stream(&self, conn: &FloorConn) -> Result<Box<dyn Stream>> {
        Ok(match conn {
            FloorConn::Tcp(link) => Box::new(greet::ask_duty(link.open().await?).await?),
            FloorConn::Quic(link) => Box::new(greet::ask_duty(link.open().await?).await?),
        })
    }

    async fn close(&self, _slot: usize, conn: FloorConn) -> Result<()> {
        match conn {
            FloorConn::Tcp(link) => link.close().await,
            FloorConn::Quic(link) => {
                link.close();
                Ok(())
            }
        }
    }
}

fn place(address: &str) -> Result<(SocketAddr, PeerId)> {
    let parts: Multiaddr = address.parse()?;
    let parts: Vec<Protocol<'_>> = parts.iter().collect();
    match parts[..] {
        [Protocol::Ip4(ip), Protocol::Tcp(port), Protocol::P2p(peer)]
        | [Protocol::Ip4(ip), Protocol::Udp(port), Protocol::QuicV1, Protocol::P2p(peer)] => {
            Ok(((ip, port).into(), peer))
        }
        _ => bail!("{address} is no address of a listener here"),
    }
}

/// What it says of itself on connections where the other side is seen at `observed`.
fn own(key: &Keypair, listen: Vec<Multiaddr>) -> Arc<Own> {
    Arc::new(Own { public: key.public().encode_protobuf(), listen })
}
