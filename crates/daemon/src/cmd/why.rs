//! `peerkeep why`.

use crate::cli::Shared;
use crate::client::segment;
use crate::exit::Ended;
use crate::out;
use peerkeep::Why;

/// Say why a peer is, or is not, connected, and what would change it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  peerkeep why 12D3KooW...")]
pub struct Args {
    /// The peer: its id, or the end of its id.
    #[arg(value_name = "ID")]
    peer: String,
}

/// Asks the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    let mut client = super::daemon(shared).await?;
    let why: Why = client.get(&format!("/v1/peers/{}/why", segment(&args.peer))).await?;
    out::either(shared.json, &why, || people(&why));
    Ok(())
}

fn people(why: &Why) -> String {
    let mut rows = vec![("why", out::clean(&why.summary))];
    if let Some(left) = why.until_in_ms {
        rows.push(("passes in", out::span_ms(left)));
    }
    if !why.remedy.is_empty() {
        rows.push(("to change it", out::clean(&why.remedy)));
    }
    if let Some(error) = &why.last_error {
        rows.push(("last error", out::clean(&error.text)));
    }
    out::facts(&rows)
}
