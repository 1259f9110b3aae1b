//! `peerkeep demo`.

use crate::cli::Shared;
use crate::demo::{self, Plan};
use crate::exit::{Ended, Failure};
use std::time::Duration;

/// Show it: real nodes on this machine find each other, and lose and find each other again.
///
/// Each node is a process of its own on 127.0.0.1, 127.0.0.2, ... with a temporary data folder. They start at once and
/// are told one address. When all are connected, one is killed and restarted, one is paused, one is banned and
/// unbanned. At the end comes a summary; nothing is left behind.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep demo
  peerkeep demo --nodes 6 --seconds 60
  peerkeep demo --no-faults --seconds 600 --json

Ends with 1 if a figure is missed.")]
pub struct Args {
    /// How many nodes, 2 to 16.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=16))]
    nodes: u8,
    /// How long to hold them once they are connected.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,
    /// Only hold them: nothing is killed, paused or banned.
    #[arg(long)]
    no_faults: bool,
    /// At the end kill one node for good, and count the others' dials once their fast window is over (two minutes).
    #[arg(long)]
    one_dead: bool,
    /// Keep the data folders and logs, and say where they are.
    #[arg(long)]
    keep: bool,
}

/// Plays it.
pub fn run(shared: &Shared, args: Args) -> Ended {
    let plan = Plan {
        nodes: usize::from(args.nodes),
        hold: Duration::from_secs(args.seconds),
        faults: !args.no_faults,
        one_dead: args.one_dead,
        keep: args.keep,
        json: shared.json,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::failed(format!("no event loop: {error}")))?.block_on(demo::play(plan))
}
