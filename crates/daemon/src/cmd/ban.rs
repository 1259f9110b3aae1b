//! `peerkeep ban`.

use crate::api::{BanRequest, Banned};
use crate::cli::Shared;
use crate::exit::Ended;
use crate::out;
use std::time::Duration;

/// Ban a peer, an address or a subnet: connections are closed, and none is made or taken.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep ban 12D3KooW... --for 1h
  peerkeep ban 203.0.113.9
  peerkeep ban 203.0.113.0/24 --for 7days")]
pub struct Args {
    /// A peer id, an IP address or a subnet.
    #[arg(value_name = "TARGET")]
    target: String,
    /// For how long, such as 30s, 10m, 1h or 7days [default: until `peerkeep unban`]
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    span: Option<Duration>,
}

/// Asks the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    let mut client = super::daemon(shared).await?;
    let for_ms = args.span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let request = BanRequest { target: args.target.clone(), for_ms };
    let banned: Banned = client.post("/v1/bans", &request).await?;
    out::either(shared.json, &banned, || match args.span {
        Some(span) => format!("{} is banned for {}", banned.target, out::span(span)),
        None => format!("{} is banned until `peerkeep unban {}`", banned.target, banned.target),
    });
    Ok(())
}
