//! `peerkeep reset`.

use crate::cli::Shared;
use crate::exit::Ended;

/// Forget a peer's attempts, cancel its dial and close its connection.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  peerkeep reset 12D3KooW...\n  peerkeep reset 3kQ9xYzA      (the end of an id is enough)"
)]
pub struct Args {
    /// The peer: its id, or the end of its id.
    #[arg(value_name = "ID")]
    peer: String,
}

/// Asks the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    super::order(shared, "reset", &args.peer, "reset").await
}
