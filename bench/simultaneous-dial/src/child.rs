//! One of the two processes: starts nodes, dials at an instant, and shows what came of it. It refuses to know what kind of node
//! it has.

use std::{
    collections::HashMap,
    io::{BufRead as _, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use tokio::runtime::Runtime;

use crate::{judge::Look, node::Ours, swarm::Rival};

/// What a side of the pairs is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Kind {
    /// Our node, over the mesh.
    Mesh,
    /// Our node, over libp2p on TCP.
    Libp2p,
    /// The same on QUIC.
    Libp2pQuic,
    /// libp2p's stock swarm over TCP.
    Swarm,
    /// The same over QUIC.
    SwarmQuic,
}

impl Kind {
    /// As the command line spells it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Mesh => "mesh",
            Kind::Libp2p => "libp2p",
            Kind::Libp2pQuic => "libp2p-quic",
            Kind::Swarm => "swarm",
            Kind::SwarmQuic => "swarm-quic",
        }
    }
}

/// Answers lines until the input ends.
pub fn run(kind: Kind) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut nodes: HashMap<usize, Party> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["start", pair] => {
                let party = runtime.block_on(Party::start(kind))?;
                let address = party.address()?;
                nodes.insert(pair.parse()?, party);
                address
            }
            ["dial", pair, at, address] => {
                let party = nodes.get_mut(&pair.parse()?).context("no such node")?;
                party.dial(&runtime, Duration::from_nanos(at.parse()?), address)?;
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
                    party.stop(&runtime);
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

/// One side of a pair.
enum Party {
    Ours(Ours),
    Rival(Rival),
}

impl Party {
    async fn start(kind: Kind) -> Result<Party> {
        Ok(match kind {
            Kind::Mesh | Kind::Libp2p | Kind::Libp2pQuic => Party::Ours(Ours::start(kind).await?),
            Kind::Swarm => Party::Rival(Rival::start("/ip4/127.0.0.1/tcp/0").await?),
            Kind::SwarmQuic => Party::Rival(Rival::start("/ip4/127.0.0.1/udp/0/quic-v1").await?),
        })
    }

    fn address(&self) -> Result<String> {
        match self {
            Party::Ours(ours) => ours.address(),
            Party::Rival(rival) => Ok(rival.address()),
        }
    }

    fn dial(&mut self, runtime: &Runtime, at: Duration, address: &str) -> Result<()> {
        match self {
            Party::Ours(ours) => ours.dial(runtime, at, address),
            Party::Rival(rival) => rival.dial(runtime, at, address),
        }
    }

    async fn look(&self) -> Look {
        match self {
            Party::Ours(ours) => ours.look().await,
            Party::Rival(rival) => rival.look(),
        }
    }

    async fn say(&self) {
        match self {
            Party::Ours(ours) => ours.say().await,
            Party::Rival(rival) => rival.say().await,
        }
    }

    fn stop(self, runtime: &Runtime) {
        match self {
            Party::Ours(ours) => ours.stop(runtime),
            // Ends with what it was asked through.
            Party::Rival(_) => {}
        }
    }
}

/// Waits until the system's clock says so.
pub async fn instant(at: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(at);
    tokio::time::sleep(at.saturating_sub(now).saturating_sub(Duration::from_millis(1))).await;
    // The timer is no finer than a millisecond; the rest is waited for awake.
    while SystemTime::now().duration_since(UNIX_EPOCH).is_ok_and(|now| now < at) {
        std::hint::spin_loop();
    }
}
