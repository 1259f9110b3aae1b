//! Our node as one side of a pair. It refuses to keep anything on disk.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Error, Result};
use bytes::Bytes;
use peerkeep::{
    DialOrder, Direction, EventKind, EventStream, Incoming, ListenAddress, Messages, Node, PeerAddress,
    PeerId, Settings, Stack, Stage,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    time::timeout,
};

use crate::{
    child::{Kind, instant},
    judge::{Look, Side},
    swarm::{BYTES, HERE},
};

/// A node and what it has announced.
pub struct Ours {
    node: Node,
    /// `None` for the mesh.
    stack: Option<Stack>,
    seen: Arc<Mutex<Look>>,
    other: Option<PeerId>,
}

impl Ours {
    pub async fn start(kind: Kind) -> Result<Ours> {
        let node = Node::builder().config(settings(kind)).start().await?;
        let seen = Arc::new(Mutex::new(Look::default()));
        tokio::spawn(listen(node.events(), seen.clone()));
        tokio::spawn(hear(node.messages(TOPIC)?, seen.clone()));
        tokio::spawn(hear_channels(node.accept(HERE)?, seen.clone()));
        let stack = if kind == Kind::Mesh { None } else { Some(Stack::Libp2p) };
        Ok(Ours { node, stack, seen, other: None })
    }

    pub fn address(&self) -> Result<String> {
        let speaks = |address: &PeerAddress| address.stack == self.stack;
        let address = self.node.addresses().into_iter().find(speaks).context("the node does not listen")?;
        Ok(address.to_multiaddr().context("an address without a place")?.to_string())
    }

    pub fn dial(&mut self, runtime: &Runtime, at: Duration, address: &str) -> Result<()> {
        let address = PeerAddress { stack: self.stack, ..address.parse()? };
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

    /// Sends one message over whatever connection this side holds; over libp2p, which has none, a few bytes on a channel.
    pub async fn say(&self) {
        let Some(other) = self.other else { return };
        let said = match self.stack {
            None => self.node.send(other, TOPIC, Bytes::from_static(b"here")).await.map_err(Error::from),
            Some(_) => self.say_on_a_channel(other).await,
        };
        if let Err(error) = said {
            eprintln!("say: {error}");
        }
    }

    async fn say_on_a_channel(&self, other: PeerId) -> Result<()> {
        let mut channel = self.node.open_at_once(other, HERE).await?;
        channel.write_all(&[1; BYTES]).await?;
        channel.shutdown().await?;
        // Held until the other side lets go: its word about the protocol must find us, or it gives the channel up. Whether it
        // ends or resets is the same here.
        let _ = timeout(PATIENCE, channel.read_u8()).await;
        Ok(())
    }
}

const TOPIC: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(5);

async fn hear(mut messages: Messages, seen: Arc<Mutex<Look>>) {
    while messages.next().await.is_some() {
        seen.lock().unwrap_or_else(PoisonError::into_inner).heard += 1;
    }
}

async fn hear_channels(mut incoming: Incoming, seen: Arc<Mutex<Look>>) {
    while let Some((_, mut channel)) = incoming.next().await {
        if channel.read_exact(&mut [0; BYTES]).await.is_ok() {
            seen.lock().unwrap_or_else(PoisonError::into_inner).heard += 1;
        }
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

/// Defaults, but for three things: what it listens with, any free port, and no preference, which would make one side wait for
/// the other.
fn settings(kind: Kind) -> Settings {
    let mut settings = Settings::default();
    let any = ([127, 0, 0, 1], 0).into();
    settings.listen.addresses = Vec::new();
    settings.libp2p.listen = Vec::new();
    settings.libp2p.enabled = kind != Kind::Mesh;
    match kind {
        Kind::Libp2p => settings.libp2p.listen.push(ListenAddress::tcp(any)),
        Kind::Libp2pQuic => settings.libp2p.listen.push(ListenAddress::quic(any)),
        _ => settings.listen.addresses.push(any.into()),
    }
    settings.preference.order = DialOrder::Nobody;
    settings
}
