//! `peerkeep peer`.

use super::peers::{direction, rtt, state};
use crate::cli::Shared;
use crate::client::segment;
use crate::exit::Ended;
use crate::out;
use peerkeep::{ConnStatus, HealthStatus, PeerStatus};

/// All about one peer.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  peerkeep peer 12D3KooW...\n  peerkeep peer 3kQ9xYzA      (the end of an id is enough)"
)]
pub struct Args {
    /// The peer: its id, or the end of its id.
    #[arg(value_name = "ID")]
    peer: String,
}

/// Asks the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    let mut client = super::daemon(shared).await?;
    let peer: PeerStatus = client.get(&format!("/v1/peers/{}", segment(&args.peer))).await?;
    out::either(shared.json, &peer, || people(&peer));
    Ok(())
}

fn people(peer: &PeerStatus) -> String {
    let mut rows = vec![("id", peer.id.to_string()), ("state", state(peer))];
    if let Some(since) = peer.since {
        rows.push(("since", since.to_string()));
    }
    if peer.trusted_on_first_use {
        rows.push(("identity", "taken from its first answer; nobody named it".into()));
    }
    if let Some(link) = &peer.link {
        rows.push(("connection", connection(link)));
        if let Some(known) = &link.health {
            rows.push(("health", health(known)));
        }
    }
    let addresses: Vec<String> = peer
        .addresses
        .iter()
        .map(|known| format!("{}  ({})", out::clean(&known.address), known.source))
        .collect();
    rows.push(("addresses", if addresses.is_empty() { "none known".into() } else { addresses.join("\n") }));
    let most =
        if peer.max_attempts == 0 { "without end".into() } else { format!("of {}", peer.max_attempts) };
    rows.push(("attempts", format!("{} {most}", peer.attempts)));
    if let Some(ms) = peer.next_retry_in_ms {
        rows.push(("next try", format!("in {}", out::span_ms(ms))));
    }
    if let Some(error) = &peer.last_error {
        rows.push(("last error", format!("{} ({})", out::clean(&error.text), error.step)));
    }
    if let Some(close) = peer.last_close {
        rows.push(("last closed", close.to_string()));
    }
    if let Some(agent) = &peer.agent {
        rows.push(("its program", out::clean(agent)));
    }
    let stacks: Vec<&str> = peer.stacks.iter().map(|stack| stack.text()).collect();
    rows.push(("stacks", stacks.join(", ")));
    out::facts(&rows)
}

fn connection(link: &ConnStatus) -> String {
    let mut text = format!("{}, dialled by {}", out::clean(&link.conn), direction(link.direction));
    if let Some(remote) = &link.remote {
        text.push_str(&format!("\nto {}", out::clean(remote)));
    }
    if let Some(local) = &link.local {
        text.push_str(&format!(" from {}", out::clean(local)));
    }
    if let Some(transport) = &link.transport {
        text.push_str(&format!(" over {}", out::clean(&transport.to_uppercase())));
    }
    if link.secure == Some(false) {
        text.push_str("\nWITHOUT TLS: neither private nor safe from change");
    }
    if let Some(version) = link.version {
        let can = link.capabilities.join(", ");
        text.push_str(&format!("\nversion {version}{}{can}", if can.is_empty() { "" } else { ", " }));
    }
    if let Some(ms) = link.rtt_ms {
        text.push_str(&format!("\nround trip {}", rtt(ms)));
    }
    text.push_str(&format!("\n{} channels open", link.channels));
    for (what, ms) in [("received", link.last_received_ms_ago), ("sent", link.last_sent_ms_ago)] {
        if let Some(ms) = ms {
            text.push_str(&format!("\nlast {what} {} ago", out::span_ms(ms)));
        }
    }
    text
}

/// The grade, and each part with its score out of a thousand.
fn health(health: &HealthStatus) -> String {
    let mut text = health.grade.map_or_else(|| "not known yet".to_owned(), |grade| grade.to_string());
    if health.degraded {
        text.push_str(", degraded");
    }
    if let Some(score) = health.score {
        text.push_str(&format!(" ({score} of 1000)"));
    }
    let success = health.success_per_mille.map(|share| format!(", {}.{} % answered", share / 10, share % 10));
    let rate = health.bandwidth_kbps.map(|kbps| format!(", {kbps} kbit/s"));
    let parts = [
        ("latency", health.latency, None),
        ("reliability", health.reliability, success),
        ("bandwidth", health.bandwidth, rate),
    ];
    for (name, score, more) in parts {
        match score {
            Some(score) => text.push_str(&format!("\n{name} {score}{}", more.unwrap_or_default())),
            None => text.push_str(&format!("\n{name} not measured yet")),
        }
    }
    if let Some(ms) = health.calm_for_ms {
        text.push_str(&format!("\nnot replaced for another {}", out::span_ms(ms)));
    }
    text
}
