//! Whole Peerkeep nodes at production settings, through the library's face.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench_parts::node;
use peerkeep::{Channel, Node, Outcome, PeerAddress, PeerId};

use crate::duty;

/// Listens and serves.
pub async fn serve(tell: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let node = node::start(node::roomy([node::tcp()]), None).await?;
    let mut incoming = node.accept(duty::PROTOCOL)?;
    tell(&node::address(&node)?)?;
    while let Some((_, channel)) = incoming.next().await {
        tokio::spawn(duty::serve(channel));
    }
    Ok(())
}

/// A node that is connected.
pub struct Client {
    node: Node,
    peer: PeerId,
}

impl Client {
    /// Connects.
    pub async fn connect(address: &str) -> Result<Client> {
        let address: PeerAddress = address.parse()?;
        let peer = address.id.context("an address without an identity")?;
        let node = node::start(node::roomy([]), None).await?;
        match node.connect(address, Duration::from_secs(10)).await? {
            Outcome::Connected { .. } => Ok(Client { node, peer }),
            other => bail!("connect came to {other:?}"),
        }
    }

    /// A channel.
    pub async fn open(&self) -> Result<Channel> {
        Ok(self.node.open(self.peer, duty::PROTOCOL).await?)
    }
}
