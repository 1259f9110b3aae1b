//! `peerkeep status`.

use crate::cli::Shared;
use crate::exit::Ended;
use crate::out;
use peerkeep::{Admission, NodeStatus};

/// The node itself: its address, how many peers it has, and what is wrong with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  peerkeep status\n  peerkeep status --json")]
pub struct Args {}

/// Asks the daemon.
pub async fn run(shared: &Shared, _: Args) -> Ended {
    let mut client = super::daemon(shared).await?;
    let status: NodeStatus = client.get("/v1/status").await?;
    out::either(shared.json, &status, || people(&status));
    Ok(())
}

fn people(status: &NodeStatus) -> String {
    let counts = &status.counts;
    let totals = &status.totals;
    let mut rows = vec![
        ("id", status.id.to_string()),
        (
            "reach it at",
            status.addresses.iter().map(|address| out::clean(address)).collect::<Vec<_>>().join("\n"),
        ),
        ("who may join", admission(status.admission).into()),
        (
            "peers",
            format!(
                "{} connected, {} wanted, {} known, {} given up",
                counts.connected, counts.wanted, counts.known, counts.gave_up
            ),
        ),
        (
            "connections",
            format!(
                "{} inbound, {} outbound, {} being set up",
                counts.inbound, counts.outbound, counts.pending
            ),
        ),
        ("bans", counts.bans.to_string()),
        (
            "since start",
            format!(
                "{} dials, {} connected, {} lost, {} failed ({} handshakes), {} refused, {} misbehaved",
                totals.dials,
                totals.connected,
                totals.lost,
                totals.failed,
                totals.handshake_failures,
                totals.refused,
                totals.violations
            ),
        ),
        (
            "running",
            format!(
                "{}, process {}, version {}",
                out::span_ms(status.uptime_seconds.saturating_mul(1_000)),
                status.pid,
                out::clean(&status.version)
            ),
        ),
    ];
    let mut health: Vec<String> = Vec::new();
    if status.draining {
        health.push("going down".into());
    }
    health.extend(status.health.iter().map(|ailment| {
        format!("{}: {} (since {})", out::clean(&ailment.part), out::clean(&ailment.text), ailment.since)
    }));
    rows.push(("health", if health.is_empty() { "good".into() } else { health.join("\n") }));
    out::facts(&rows)
}

/// How it is decided who may join, as a phrase.
pub fn admission(admission: Admission) -> &'static str {
    match admission {
        Admission::Secret => "whoever has the network secret",
        Admission::AllowList => "whoever is on the allow-list",
        Admission::SecretAndAllowList => "whoever is on the allow-list and has the network secret",
        Admission::Loopback => "programs on this machine only",
        Admission::Open => "anybody",
    }
}
