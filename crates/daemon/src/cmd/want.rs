//! `peerkeep want`.

use crate::cli::Shared;
use crate::exit::Ended;

/// Keep a peer connected from now on, also after a restart. It is never given up, only spaced out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep want /ip4/192.0.2.7/tcp/7330/p2p/12D3KooW...
  peerkeep want /dns4/node.example.org/tcp/7330/p2p/12D3KooW...
  peerkeep want 192.0.2.7:7330        (whoever answers first is trusted from then on)")]
pub struct Args {
    /// Its address, or its id when it is known already.
    #[arg(value_name = "ADDR")]
    peer: String,
}

/// Asks the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    super::order(shared, "want", &args.peer, "wanted").await
}
