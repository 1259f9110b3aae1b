//! `peerkeep unban`.

use crate::api::{BanRequest, Banned};
use crate::cli::Shared;
use crate::exit::Ended;
use crate::out;

/// Lift a ban.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  peerkeep unban 12D3KooW...\n  peerkeep unban 203.0.113.0/24")]
pub struct Args {
    /// The peer id, IP address or subnet as `peerkeep bans` shows it.
    #[arg(value_name = "TARGET")]
    target: String,
}

/// Asks the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    let mut client = super::daemon(shared).await?;
    let request = BanRequest { target: args.target.clone(), for_ms: None };
    let banned: Banned = client.post("/v1/unban", &request).await?;
    out::either(shared.json, &banned, || format!("{} is no longer banned", banned.target));
    Ok(())
}
