//! `peerkeep replay`.

use crate::cli::Shared;
use crate::exit::{Ended, Failure};
use std::path::PathBuf;

/// Run a journal again: check that it gives the same, show a moment, or tell a peer's story.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep replay journal/00000012.pkj
  peerkeep replay journal/00000012.pkj --at 12.5s
  peerkeep replay journal/00000012.pkj --at 2026-01-29T12:00:00Z
  peerkeep replay journal/00000012.pkj --peer 12D3KooW...")]
pub struct Args {
    /// A segment of the journal.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Show the state then: a time since the segment's beginning, or a moment as RFC 3339.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Tell this peer's story.
    #[arg(long, value_name = "ID")]
    peer: Option<String>,
}

/// Runs it.
pub fn run(shared: &Shared, args: &Args) -> Ended {
    let _ = (shared, args.at.as_ref(), args.peer.as_ref());
    Err(Failure::failed(format!("{} cannot be replayed yet", args.file.display())))
}
