//! The mesh: whole Peerkeep nodes, with and without a data folder, at default settings except for the limits, which must
//! let a crowd from one address in. It refuses to reach below the library's face on the side that is measured.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench_parts::{
    lean::{Lean, LeanLink},
    node::{self, Folder},
    tally::Tally,
};
use peerkeep::{EventKind, EventStream, Node, Outcome, PeerAddress, PeerId};
use tokio::{sync::Mutex, task::JoinHandle};

use crate::contender::{Contender, Dialler, Listener};

/// Nodes that keep nothing on disk, as the rivals do.
pub struct Ours;

/// Nodes with a data folder: identity, store and journal, as the daemon runs them.
pub struct OursOnDisk;

/// A node that listens.
pub struct OursListener {
    address: String,
    tally: Tally,
    counting: JoinHandle<()>,
    _node: Node,
    _folder: Option<Folder>,
}

/// What dials: the mesh keeps one connection per pair of identities, so each slot needs its own.
pub struct OursDialler {
    address: PeerAddress,
    peer: PeerId,
    slots: Slots,
    _folders: Vec<Folder>,
}

enum Slots {
    /// Whole nodes, for the handshake figures.
    Nodes(Vec<Slot>),
    /// Bare mesh links, for crowds that are only held: a thousand nodes in one process would be a thousand threads.
    Lean(Lean),
}

struct Slot {
    node: Node,
    events: Mutex<EventStream>,
}

/// More slots than this are bare links.
const MOST_NODES: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);

impl Contender for Ours {
    type Listener = OursListener;
    type Dialler = OursDialler;

    async fn listen() -> Result<OursListener> {
        OursListener::start(None).await
    }

    async fn dialler(address: &str, slots: usize) -> Result<OursDialler> {
        OursDialler::start(address, slots, false).await
    }
}

impl Contender for OursOnDisk {
    type Listener = OursListener;
    type Dialler = OursDialler;

    async fn listen() -> Result<OursListener> {
        OursListener::start(Some(Folder::new()?)).await
    }

    async fn dialler(address: &str, slots: usize) -> Result<OursDialler> {
        OursDialler::start(address, slots, true).await
    }
}

impl OursListener {
    async fn start(folder: Option<Folder>) -> Result<OursListener> {
        let node = node::start(node::roomy([node::tcp()]), folder.as_ref().map(Folder::path)).await?;
        let address = node::address(&node)?;
        let tally = Tally::new();
        let counting = tokio::spawn(count(node.events(), tally.clone()));
        Ok(OursListener { address, tally, counting, _node: node, _folder: folder })
    }
}

impl OursDialler {
    async fn start(address: &str, slots: usize, on_disk: bool) -> Result<OursDialler> {
        let address: PeerAddress = address.parse()?;
        let peer = address.id.context("an address without an identity")?;
        let mut folders = Vec::new();
        let slots = if slots > MOST_NODES {
            Slots::Lean(Lean::start(&address)?)
        } else {
            let mut nodes = Vec::with_capacity(slots);
            for _ in 0..slots {
                if on_disk {
                    folders.push(Folder::new()?);
                }
                let node = node::start(node::roomy([]), folders.last().map(Folder::path)).await?;
                let events = Mutex::new(node.events());
                nodes.push(Slot { node, events });
            }
            Slots::Nodes(nodes)
        };
        Ok(OursDialler { address, peer, slots, _folders: folders })
    }
}

impl Listener for OursListener {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for OursListener {
    fn drop(&mut self) {
        self.counting.abort();
    }
}

impl Dialler for OursDialler {
    type Conn = Option<LeanLink>;

    async fn open(&self, slot: usize) -> Result<Option<LeanLink>> {
        match &self.slots {
            Slots::Lean(lean) => Ok(Some(lean.open().await?)),
            Slots::Nodes(nodes) => {
                let node = &nodes.get(slot).context("no such slot")?.node;
                match node.connect(self.address.clone(), PATIENCE).await? {
                    Outcome::Connected { already: false, .. } => Ok(None),
                    other => bail!("connect came to {other:?}: {:?}", node.why(self.peer).await),
                }
            }
        }
    }

    async fn close(&self, slot: usize, link: Option<LeanLink>) -> Result<()> {
        match (&self.slots, link) {
            (Slots::Nodes(nodes), _) => nodes.get(slot).context("no such slot")?.close(self.peer).await,
            (Slots::Lean(_), Some(link)) => link.close().await,
            (Slots::Lean(_), None) => Ok(()),
        }
    }
}

impl Slot {
    async fn close(&self, peer: PeerId) -> Result<()> {
        self.node.disconnect(peer).await?;
        let mut events = self.events.lock().await;
        while let Some(event) = events.next().await {
            if matches!(event.what, EventKind::Lost { .. }) {
                return Ok(());
            }
        }
        bail!("the node stopped")
    }
}

async fn count(mut events: EventStream, tally: Tally) {
    while let Some(event) = events.next().await {
        match event.what {
            EventKind::Connected { .. } => tally.rise(),
            EventKind::Lost { .. } => tally.fall(),
            EventKind::Lagged { missed } => eprintln!("the listener missed {missed} events"),
            _ => {}
        }
    }
}
