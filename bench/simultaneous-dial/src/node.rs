//! Our node as one side of a pair. It refuses to keep anything on disk.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use peerkeep::{
    DialOrder, Direction, EventKind, EventStream, Messages, Node, PeerAddress, PeerId, Settings, Stage,
};
use tokio::runtime::Runtime;

use crate::{
    child::instant,
    judge::{Look, Side},
};

/// A node and what it has announced.
pub struct Ours {
    node: Node,
    seen: Arc<Mutex<Look>>,
    other: Option<PeerId>,
}

impl Ours {
    pub async fn start() -> Result<Ours> {
        let node = Node::builder().config(settings()).start().await?;
        let seen = Arc::new(Mutex::new(Look::default()));
        tokio::spawn(listen(node.events(), seen.clone()));
        tokio::spawn(hear(node.messages(TOPIC)?, seen.clone()));
        Ok(Ours { node, seen, other: None })
    }

    pub fn address(&self) -> Result<String> {
        let address = self.node.addresses().into_iter().next().context("the node does not listen")?;
        Ok(address.to_multiaddr().context("an address without a place")?.to_string())
    }

    pub fn dial(&mut self, runtime: &Runtime, at: Duration, address: &str) -> Result<()> {
        let address: PeerAddress = address.parse()?;
        self.other = address.id;
        let node = self.node.clone();
        runtime.spawn(async move {
            instant(at).await;
            if let Err(refused) = node.connect_nowait(address).await {
                eprintln!("connect: {refused}");
            }
        });
        Ok(())
    }

    pub async fn look(&self) -> Look {
        let mut look = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(status) = self.node.status().await {
            look.slots = status.counts.inbound + status.counts.outbound;
        }
        if let Some(other) = self.other {
            let link = self.node.peer(other).await.and_then(|peer| peer.link);
            look.up = link.filter(|link| link.stage == Stage::Up).map(|link| match link.direction {
                Direction::Inbound => Side::Accepted,
                Direction::Outbound => Side::Dialled,
            });
        }
        look
    }

    pub fn stop(self, runtime: &Runtime) {
        // In the background: both sides of all pairs say goodbye at the same time.
        runtime.spawn(async move { self.node.shutdown().await });
    }

    /// Sends one message over whatever connection this side holds.
    pub async fn say(&self) {
        if let Some(other) = self.other
            && let Err(error) = self.node.send(other, TOPIC, Bytes::from_static(b"here")).await
        {
            eprintln!("send: {error}");
        }
    }
}

const TOPIC: &str = "bench";

async fn hear(mut messages: Messages, seen: Arc<Mutex<Look>>) {
    while messages.next().await.is_some() {
        seen.lock().unwrap_or_else(PoisonError::into_inner).heard += 1;
    }
}

async fn listen(mut events: EventStream, seen: Arc<Mutex<Look>>) {
    while let Some(event) = events.next().await {
        let mut look = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event.what {
            EventKind::Dialing { .. } => {
                look.dials += 1;
                look.dialled_first += usize::from(look.announced == 0);
            }
            EventKind::Connected { .. } => look.announced += 1,
            EventKind::Lost { .. } => look.lost += 1,
            EventKind::Lagged { missed } => look.missed += missed,
            _ => {}
        }
    }
}

/// Defaults, but for two things: any free port, and no preference, which would make one side wait for the other.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.listen.addresses = vec![([127, 0, 0, 1], 0).into()];
    settings.preference.order = DialOrder::Nobody;
    settings
}
