//! One of the two processes: starts nodes, dials at an instant, and shows what came of it. It refuses to keep anything on disk.

use std::{
    collections::HashMap,
    io::{BufRead as _, Write as _},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use peerkeep::{
    DialOrder, Direction, EventKind, EventStream, Messages, Node, PeerAddress, PeerId, Settings, Stage,
};
use tokio::runtime::Runtime;

use crate::judge::{Look, Side};

/// Answers lines until the input ends.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut nodes: HashMap<usize, Party> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["start", pair] => {
                let party = runtime.block_on(Party::start())?;
                let address = party.address()?;
                nodes.insert(pair.parse()?, party);
                address
            }
            ["dial", pair, at, address] => {
                let party = nodes.get_mut(&pair.parse()?).context("no such node")?;
                party.dial(&runtime, Duration::from_nanos(at.parse()?), address.parse()?)?;
                "ok".to_owned()
            }
            ["look", pair] => {
                let party = nodes.get(&pair.parse()?).context("no such node")?;
                serde_json::to_string(&runtime.block_on(party.look()))?
            }
            ["say", pair] => {
                let party = nodes.get(&pair.parse()?).context("no such node")?;
                runtime.block_on(party.say());
                "ok".to_owned()
            }
            ["stop", pair] => {
                if let Some(party) = nodes.remove(&pair.parse()?) {
                    // In the background: both sides of all pairs say goodbye at the same time.
                    runtime.spawn(async move { party.node.shutdown().await });
                }
                "ok".to_owned()
            }
            _ => bail!("what is {line:?}?"),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).context("the parent went away")?;
    }
    Ok(())
}

/// A node and what it has announced.
struct Party {
    node: Node,
    seen: Arc<Mutex<Look>>,
    other: Option<PeerId>,
}

impl Party {
    async fn start() -> Result<Party> {
        let node = Node::builder().config(settings()).start().await?;
        let seen = Arc::new(Mutex::new(Look::default()));
        tokio::spawn(listen(node.events(), seen.clone()));
        tokio::spawn(hear(node.messages(TOPIC)?, seen.clone()));
        Ok(Party { node, seen, other: None })
    }

    fn address(&self) -> Result<String> {
        let address = self.node.addresses().into_iter().next().context("the node does not listen")?;
        Ok(address.to_multiaddr().context("an address without a place")?.to_string())
    }

    fn dial(&mut self, runtime: &Runtime, at: Duration, address: PeerAddress) -> Result<()> {
        self.other = address.id;
        let node = self.node.clone();
        runtime.spawn(async move {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(at);
            tokio::time::sleep(at.saturating_sub(now).saturating_sub(Duration::from_millis(1))).await;
            // The timer is no finer than a millisecond; the rest is waited for awake.
            while SystemTime::now().duration_since(UNIX_EPOCH).is_ok_and(|now| now < at) {
                std::hint::spin_loop();
            }
            if let Err(refused) = node.connect_nowait(address).await {
                eprintln!("connect: {refused}");
            }
        });
        Ok(())
    }

    async fn look(&self) -> Look {
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

    /// Sends one message over whatever connection this side holds.
    async fn say(&self) {
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
