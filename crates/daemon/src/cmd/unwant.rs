//! `peerkeep unwant`.

use crate::cli::Shared;
use crate::exit::Ended;

/// Want a peer no longer. An existing connection stays until it is idle or ends.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  peerkeep unwant 12D3KooW...\n  peerkeep unwant 3kQ9xYzA      (the end of an id is enough)"
)]
pub struct Args {
    /// The peer: its id, or the end of its id.
    #[arg(value_name = "ID")]
    peer: String,
}

/// Asks the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    super::order(shared, "unwant", &args.peer, "no longer wanted").await
}
