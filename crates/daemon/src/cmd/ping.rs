//! `peerkeep ping`.

use super::visit::Visit;
use crate::cli::Shared;
use crate::exit::{Ended, Failure};
use crate::out;
use peerkeep::{Node, PeerId};
use serde::Serialize;
use std::time::Duration;

/// Ping a libp2p node: connect, ask for signs of life, and tell how long each took. Needs no daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep ping /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW...
  peerkeep ping /dns4/node.example.org/udp/4001/quic-v1/p2p/12D3KooW... --count 10
  peerkeep ping /ip4/127.0.0.1/tcp/4001 --json | jq .rtt_ms      (whoever answers is taken)

Ends with 1 when it could not connect or an answer did not come.")]
pub struct Args {
    #[command(flatten)]
    visit: Visit,
    /// How many times, 1 to 1000
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    count: u16,
    /// Between two of them
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
}

/// What was measured.
#[derive(Serialize)]
struct Pinged {
    peer: PeerId,
    agent: Option<String>,
    transport: Option<String>,
    rtt_ms: Vec<f64>,
}

/// Visits, asks, and says what came.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    let (node, peer) = args.visit.begin(shared).await?;
    let pinged = ping(shared, &node, peer, args.count, args.interval).await;
    node.shutdown().await;
    let pinged = pinged?;
    let people = || {
        let best = pinged.rtt_ms.iter().copied().fold(f64::INFINITY, f64::min);
        format!("{} of {} answered, the quickest in {best:.2} ms", pinged.rtt_ms.len(), args.count)
    };
    out::either(shared.json, &pinged, people);
    Ok(())
}

async fn ping(
    shared: &Shared,
    node: &Node,
    peer: PeerId,
    count: u16,
    interval: Duration,
) -> Result<Pinged, Failure> {
    let seen = node.peer(peer).await;
    let agent = seen.as_ref().and_then(|seen| seen.agent.clone());
    let transport = seen.and_then(|seen| seen.link?.transport);
    let mut pinged = Pinged { peer, agent, transport, rtt_ms: Vec::new() };
    if !shared.json {
        let (agent, over) = (pinged.agent.as_deref(), pinged.transport.as_deref());
        let agent = out::clean(agent.unwrap_or("unknown program"));
        out::text(&format!("{peer} ({agent}) over {}", over.unwrap_or("?")));
    }
    for round in 0..count {
        if round > 0 {
            tokio::time::sleep(interval).await;
        }
        let rtt = node.ping(peer).await.map_err(|error| Failure::failed(format!("no answer: {error}")))?;
        let rtt = rtt.as_secs_f64() * 1_000.0;
        pinged.rtt_ms.push(rtt);
        if !shared.json {
            out::text(&format!("answered in {rtt:.2} ms"));
        }
    }
    Ok(pinged)
}
