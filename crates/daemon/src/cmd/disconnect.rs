//! `peerkeep disconnect`.

use crate::cli::Shared;
use crate::exit::Ended;

/// Close the connection to a peer. A wanted peer is dialled again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  peerkeep disconnect 12D3KooW...\n  peerkeep disconnect 3kQ9xYzA      (the end of an id is enough)"
)]
pub struct Args {
    /// The peer: its id, or the end of its id.
    #[arg(value_name = "ID")]
    peer: String,
}

/// Asks the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    super::order(shared, "disconnect", &args.peer, "disconnecting").await
}
