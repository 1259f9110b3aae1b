//! `peerkeep peers`.

use crate::cli::Shared;
use crate::exit::Ended;
use crate::out;
use peerkeep::{Direction, PeerStatus, Standing};
use serde_json::json;
use std::io::IsTerminal;

/// Every peer: its state, since when, who dialled, where it is, and what went wrong last.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep peers
  peerkeep peers --connected
  peerkeep peers --json | jq '.peers[].id'")]
pub struct Args {
    /// Only those that are connected.
    #[arg(long)]
    connected: bool,
    /// Whole ids, also on a terminal.
    #[arg(long)]
    full: bool,
}

/// Asks the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    let mut client = super::daemon(shared).await?;
    let mut peers: Vec<PeerStatus> = client.get("/v1/peers").await?;
    if args.connected {
        peers.retain(|peer| peer.standing == Standing::Connected);
    }
    let full = args.full || !std::io::stdout().is_terminal();
    out::either(shared.json, &json!({ "peers": peers }), || people(&peers, full));
    Ok(())
}

fn people(peers: &[PeerStatus], full: bool) -> String {
    if peers.is_empty() {
        return "No peers. `peerkeep connect ADDR` or `peerkeep want ADDR` adds one.".into();
    }
    let mut table = out::table(&[
        "PEER",
        "STATE",
        "SINCE",
        "DIALLED BY",
        "WHERE",
        "RTT",
        "HEALTH",
        "NEXT TRY",
        "LAST ERROR",
    ]);
    for peer in peers {
        let link = peer.link.as_ref();
        table.add_row(vec![
            if full { peer.id.to_string() } else { short(&peer.id.to_string()) },
            state(peer),
            age(peer),
            link.map_or("", |link| direction(link.direction)).into(),
            place(peer),
            link.and_then(|link| link.rtt_ms).map_or_else(String::new, rtt),
            peer.link.as_ref().and_then(|link| link.health).map_or_else(String::new, |health| {
                let grade = health.grade.map_or("", peerkeep::ConnectionHealth::text);
                if health.degraded { format!("{grade}, degraded") } else { grade.into() }
            }),
            peer.next_retry_in_ms.map_or_else(String::new, |ms| format!("in {}", out::span_ms(ms))),
            peer.last_error.as_ref().map_or_else(String::new, |error| error.kind.to_string()),
        ]);
    }
    table.to_string()
}

/// The end of an id: enough to name the peer in any command.
pub fn short(id: &str) -> String {
    if let Some(address) = id.strip_prefix("address:") {
        return address.into();
    }
    let skip = id.chars().count().saturating_sub(10);
    if skip == 0 { id.into() } else { format!("…{}", id.chars().skip(skip).collect::<String>()) }
}

/// Where the peer stands, with what else matters about it.
pub fn state(peer: &PeerStatus) -> String {
    let standing = match peer.standing {
        Standing::Idle => "idle",
        Standing::Queued => "queued",
        Standing::Waiting => "waiting",
        Standing::Dialing => "dialing",
        Standing::Connected => "connected",
        Standing::GaveUp => "gave up",
    };
    let mut state = standing.to_string();
    for (holds, word) in [(peer.banned, "banned"), (peer.wanted, "wanted"), (peer.held, "held")] {
        if holds {
            state.push_str(", ");
            state.push_str(word);
        }
    }
    state
}

/// Who dialled.
pub fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "them",
        Direction::Outbound => "us",
    }
}

/// A round trip with the digits that matter.
pub fn rtt(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1}ms") } else { format!("{ms:.0}ms") }
}

fn age(peer: &PeerStatus) -> String {
    match (peer.age_seconds, peer.since) {
        (Some(seconds), _) => out::span_ms(seconds.saturating_mul(1_000)),
        (None, Some(since)) => out::span(peerkeep::Timestamp::now().since(since)),
        (None, None) => String::new(),
    }
}

fn place(peer: &PeerStatus) -> String {
    let over = |link: &peerkeep::ConnStatus| match (&link.remote, link.transport.as_deref()) {
        (Some(remote), Some("quic")) => Some(format!("{remote} over QUIC")),
        (remote, _) => remote.clone(),
    };
    let remote = peer.link.as_ref().and_then(over);
    out::clean(
        &remote.or_else(|| peer.addresses.first().map(|first| first.address.clone())).unwrap_or_default(),
    )
}
