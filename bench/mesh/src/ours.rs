//! The mesh: whole Peerkeep nodes, with and without a data folder, at default settings except for the limits, which must
//! let a crowd from one address in. It refuses to reach below the library's face on the side that is measured.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use peerkeep::{EventKind, EventStream, Node, Outcome, PeerAddress, PeerId, Settings};
use tokio::{sync::Mutex, task::JoinHandle};

use crate::{
    contender::{Contender, Dialler, Listener, Tally},
    lean::{Lean, LeanLink},
};

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
        let node = start(vec![SocketAddr::from(([127, 0, 0, 1], 0))], folder.as_ref()).await?;
        let address = node.addresses().into_iter().next().context("the node does not listen")?;
        let address = address.to_multiaddr().context("an address without a place")?.to_string();
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
                let node = start(Vec::new(), folders.last()).await?;
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

async fn start(listen: Vec<SocketAddr>, folder: Option<&Folder>) -> Result<Node> {
    let mut settings = Settings::default();
    settings.listen.addresses = listen.into_iter().map(Into::into).collect();
    let limits = &mut settings.limits;
    for limit in [
        &mut limits.total,
        &mut limits.inbound,
        &mut limits.outbound,
        &mut limits.pending,
        &mut limits.per_ip,
        &mut limits.per_subnet,
    ] {
        *limit = 16_384;
    }
    limits.dials_per_minute = 1 << 20;
    limits.dials_per_minute_per_ip = 1 << 20;
    let mut builder = Node::builder().config(settings);
    if let Some(folder) = folder {
        builder = builder.data_dir(&folder.0);
    }
    Ok(builder.start().await?)
}

/// A folder that goes when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("peerkeep-bench-{}-{number}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: what is left is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
