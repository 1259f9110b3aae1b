//! `peerkeep retry`.

use crate::cli::Shared;
use crate::exit::Ended;

/// Try a peer again now, within the attempts left.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  peerkeep retry 12D3KooW...\n  peerkeep retry 3kQ9xYzA      (the end of an id is enough)"
)]
pub struct Args {
    /// The peer: its id, or the end of its id.
    #[arg(value_name = "ID")]
    peer: String,
}

/// Asks the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    super::order(shared, "retry", &args.peer, "trying again").await
}
