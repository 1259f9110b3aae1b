//! One dialling node that connects and disconnects, again and again; each time over is over on both of its sides. The product's
//! own test of the same promise includes this file, so it needs nothing but the library. It refuses to look at memory.

use peerkeep::{EventKind, EventStream, Node, Outcome, PeerAddress, PeerId};
use std::time::Duration;

/// A node and whom it dials.
pub struct Cycler {
    node: Node,
    events: EventStream,
    address: PeerAddress,
    peer: PeerId,
}

const PATIENCE: Duration = Duration::from_secs(10);

impl Cycler {
    /// `address` names whom it leads to.
    pub fn new(node: Node, address: PeerAddress) -> Option<Cycler> {
        let (events, peer) = (node.events(), address.id?);
        Some(Cycler { node, events, address, peer })
    }

    /// So many times.
    ///
    /// # Errors
    /// What came instead of a fresh connection, or of its end.
    pub async fn run(&mut self, cycles: usize) -> Result<(), String> {
        for _ in 0..cycles {
            match self.node.connect(self.address.clone(), PATIENCE).await {
                Ok(Outcome::Connected { already: false, .. }) => {}
                other => return Err(format!("connect came to {other:?}")),
            }
            self.node.disconnect(self.peer).await.map_err(|error| error.to_string())?;
            loop {
                let event = self.events.next().await.ok_or("the node stopped")?;
                if matches!(event.what, EventKind::Lost { .. }) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Waits until nothing is connected.
pub async fn rest(nodes: &[&Node]) -> Result<(), String> {
    let wait = async {
        while nodes.iter().any(|node| node.connection_count() > 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.map_err(|_| "connections are left over".to_owned())
}
