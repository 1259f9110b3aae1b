//! Whole Peerkeep nodes at production settings, speaking libp2p and nothing else, through the library's face. It refuses to
//! reach below it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench_channels::{Stream, duty};
use bench_parts::{node, tally::Tally};
use peerkeep::{EventKind, EventStream, ListenAddress, Node, Outcome, PeerAddress, PeerId, Settings, Stack};
use tokio::{sync::Mutex, task::JoinHandle};

use crate::contender::{Contender, Dialler, Listener, Over, Until};

/// See the head of this file. With threads of its own the node is as a program has it by default; without, its work is done
/// on the calling thread, where the rivals' is done.
pub struct Ours<const THREADS: bool>;

/// Accepts until dropped.
pub struct OursListener {
    address: String,
    tally: Tally,
    tasks: [JoinHandle<()>; 2],
    _node: Node,
}

/// A node for each slot: one holds at most one connection to a peer.
pub struct OursDialler {
    address: PeerAddress,
    peer: PeerId,
    slots: Vec<Slot>,
}

struct Slot {
    node: Node,
    events: Mutex<EventStream>,
}

const PATIENCE: Duration = Duration::from_secs(10);

fn settings(listen: impl IntoIterator<Item = ListenAddress>) -> Settings {
    let mut settings = node::roomy([]);
    settings.limits.channels = 256;
    settings.libp2p.enabled = true;
    settings.libp2p.listen = listen.into_iter().collect();
    settings
}

async fn start<const THREADS: bool>(settings: Settings) -> Result<Node> {
    match THREADS {
        true => node::start(settings, None).await,
        false => node::start_here(settings).await,
    }
}

impl<const THREADS: bool> Contender for Ours<THREADS> {
    type Listener = OursListener;
    type Dialler = OursDialler;

    async fn listen(over: Over) -> Result<OursListener> {
        let at = match over {
            Over::Tcp => node::tcp(),
            Over::Quic => node::quic(),
        };
        let node = start::<THREADS>(settings([at])).await?;
        let mut incoming = node.accept(duty::PROTOCOL)?;
        let serving = tokio::spawn(async move {
            while let Some((_, channel)) = incoming.next().await {
                tokio::spawn(duty::serve(channel));
            }
        });
        let speaks = |address: &PeerAddress| address.stack == Some(Stack::Libp2p);
        let address = node.addresses().into_iter().find(speaks).context("the node does not listen")?;
        let address = address.to_multiaddr().context("an address without a place")?.to_string();
        let tally = Tally::new();
        let counting = tokio::spawn(count(node.events(), tally.clone()));
        Ok(OursListener { address, tally, tasks: [serving, counting], _node: node })
    }

    async fn dialler(_over: Over, address: &str, slots: usize) -> Result<OursDialler> {
        let address: PeerAddress = format!("libp2p:{address}").parse()?;
        let peer = address.id.context("an address without an identity")?;
        let mut nodes = Vec::with_capacity(slots);
        for _ in 0..slots {
            let node = start::<THREADS>(settings([])).await?;
            let events = Mutex::new(node.events());
            nodes.push(Slot { node, events });
        }
        Ok(OursDialler { address, peer, slots: nodes })
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
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Dialler for OursDialler {
    /// The slot it belongs to.
    type Conn = usize;

    /// Connected is identified: there is nothing earlier to wait for.
    async fn open(&self, slot: usize, _until: Until) -> Result<usize> {
        let node = &self.slots.get(slot).context("no such slot")?.node;
        match node.connect(self.address.clone(), PATIENCE).await? {
            Outcome::Connected { already: false, .. } => Ok(slot),
            other => bail!("connect came to {other:?}: {:?}", node.why(self.peer).await),
        }
    }

    async fn stream(&self, slot: &usize) -> Result<Box<dyn Stream>> {
        let node = &self.slots.get(*slot).context("no such slot")?.node;
        Ok(Box::new(node.open_at_once(self.peer, duty::PROTOCOL).await?))
    }

    async fn close(&self, _slot: usize, slot: usize) -> Result<()> {
        let Slot { node, events } = self.slots.get(slot).context("no such slot")?;
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
