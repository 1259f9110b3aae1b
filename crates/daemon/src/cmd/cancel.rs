//! `peerkeep cancel`.

use crate::cli::Shared;
use crate::exit::Ended;

/// Abandon the attempt to connect that is under way.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  peerkeep cancel 12D3KooW...\n  peerkeep cancel 3kQ9xYzA      (the end of an id is enough)"
)]
pub struct Args {
    /// The peer: its id, or the end of its id.
    #[arg(value_name = "ID")]
    peer: String,
}

/// Asks the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    super::order(shared, "cancel", &args.peer, "cancelled").await
}
