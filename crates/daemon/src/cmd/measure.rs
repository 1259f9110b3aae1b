//! `peerkeep measure`.

use crate::api::PeerRequest;
use crate::cli::Shared;
use crate::exit::Ended;
use crate::out;
use peerkeep::Measurement;
use std::time::Duration;

/// The daemon gives up before this.
const LONGEST: Duration = Duration::from_secs(40);

/// Measure round trip and bandwidth to a connected peer.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep measure 12D3KooW...
  peerkeep measure 3kQ9xYzA --json | jq .bandwidth_kbps      (the end of an id is enough)

Sends the peer filling that it throws away: up to 22 MiB, less on slow links, for a second or three. Nothing is sent
unless you ask; `peerkeep peer` shows what the connection's own traffic tells.")]
pub struct Args {
    /// The peer: its id, or the end of its id.
    #[arg(value_name = "ID")]
    peer: String,
}

/// Asks the daemon, and waits.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    let mut client = super::daemon(shared).await?;
    let request = PeerRequest { peer: args.peer.clone(), wait_ms: None, queue: None };
    let spinner = super::spinner(shared, format!("measuring {}", out::clean(&args.peer)));
    let asked = client.post_within("/v1/measure", &request, LONGEST).await;
    spinner.finish_and_clear();
    let measured: Measurement = asked?;
    out::either(shared.json, &measured, || people(&measured));
    Ok(())
}

fn people(measured: &Measurement) -> String {
    let rate = f64::from(measured.bandwidth_kbps) / 1_000.0;
    out::facts(&[
        ("peer", measured.peer.to_string()),
        ("round trip", super::peers::rtt(measured.rtt_ms)),
        ("bandwidth", format!("{rate:.1} Mbit/s")),
        ("sent", format!("{} KiB in {}", measured.sent_bytes >> 10, out::span_ms(measured.took_ms))),
    ])
}
