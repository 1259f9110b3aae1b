//! Whole Peerkeep nodes at production settings, through the library's face.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench_parts::node;
use peerkeep::{Channel, ListenAddress, Node, Outcome, PeerAddress, PeerId};

use crate::duty;

/// Listens and serves.
pub async fn serve(own_threads: bool, tell: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let node = start([node::tcp()], own_threads).await?;
    let mut incoming = node.accept(duty::PROTOCOL)?;
    tell(&node::address(&node)?)?;
    while let Some((_, channel)) = incoming.next().await {
        tokio::spawn(duty::serve(channel));
    }
    Ok(())
}

async fn start(at: impl IntoIterator<Item = ListenAddress>, own_threads: bool) -> Result<Node> {
    match own_threads {
        true => node::start(node::roomy(at), None).await,
        false => node::start_here(node::roomy(at)).await,
    }
}

/// A node that is connected.
pub struct Client {
    node: Node,
    peer: PeerId,
    at_once: bool,
}

impl Client {
    /// Connects. `at_once`: its channels do not wait for the other side's word.
    pub async fn connect(address: &str, at_once: bool, own_threads: bool) -> Result<Client> {
        let address: PeerAddress = address.parse()?;
        let peer = address.id.context("an address without an identity")?;
        let node = start([], own_threads).await?;
        match node.connect(address, Duration::from_secs(10)).await? {
            Outcome::Connected { .. } => Ok(Client { node, peer, at_once }),
            other => bail!("connect came to {other:?}"),
        }
    }

    /// A channel.
    pub async fn open(&self) -> Result<Channel> {
        Ok(match self.at_once {
            true => self.node.open_at_once(self.peer, duty::PROTOCOL).await?,
            false => self.node.open(self.peer, duty::PROTOCOL).await?,
        })
    }
}
