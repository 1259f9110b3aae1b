//! Whole nodes at production settings, except for the limits, without a data folder. It refuses to reach below the library's
//! face.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench_parts::node;
use peerkeep::{EventKind, EventStream, ListenAddress, Node, Outcome, PeerAddress, PeerId};
use tokio::sync::Mutex;

const PATIENCE: Duration = Duration::from_secs(10);
const MOMENTS: u32 = 50;

/// A node that listens there.
pub async fn listen(at: ListenAddress, own_threads: bool) -> Result<Node> {
    start([at], own_threads).await
}

async fn start(at: impl IntoIterator<Item = ListenAddress>, own_threads: bool) -> Result<Node> {
    match own_threads {
        true => node::start(node::roomy(at), None).await,
        false => node::start_here(node::roomy(at)).await,
    }
}

/// Waits until that many have been up and none is any more; says how many there were. A dialler may be gone again before its
/// last word is believed, so a few are never seen here: they are not waited for any longer than a moment.
pub async fn met(node: &Node, expected: u64) -> Result<u64> {
    let mut moments = 0;
    loop {
        let met = node.status().await.context("the node stopped")?.totals.connected;
        moments += u32::from(node.connection_count() == 0);
        if node.connection_count() == 0 && (met >= expected || moments > MOMENTS) {
            return Ok(met);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Nodes that dial, one for each connection at a time: there is one connection for a pair of identities.
pub struct Dialler {
    address: PeerAddress,
    peer: PeerId,
    nodes: Vec<(Node, Mutex<EventStream>)>,
}

impl Dialler {
    /// So many nodes.
    pub async fn new(address: &str, count: usize, own_threads: bool) -> Result<Dialler> {
        let address: PeerAddress = address.parse()?;
        let peer = address.id.context("an address without an identity")?;
        let mut nodes = Vec::new();
        for _ in 0..count {
            let node = start([], own_threads).await?;
            let events = Mutex::new(node.events());
            nodes.push((node, events));
        }
        Ok(Dialler { address, peer, nodes })
    }

    /// One connection from beginning to end.
    pub async fn cycle(&self, slot: usize) -> Result<()> {
        let (node, events) = self.nodes.get(slot).context("no such slot")?;
        match node.connect(self.address.clone(), PATIENCE).await? {
            Outcome::Connected { already: false, .. } => {}
            other => bail!("connect came to {other:?}: {:?}", node.why(self.peer).await),
        }
        node.disconnect(self.peer).await?;
        let mut events = events.lock().await;
        while let Some(event) = events.next().await {
            if matches!(event.what, EventKind::Lost { .. }) {
                return Ok(());
            }
        }
        bail!("the node stopped")
    }
}
