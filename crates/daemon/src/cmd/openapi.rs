//! `peerkeep openapi`.

use crate::api::routes;
use crate::cli::Shared;
use crate::exit::Ended;
use crate::out;

/// Print the description of the daemon's API as an OpenAPI 3.1 document.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep openapi > peerkeep.json
  curl --unix-socket ~/.local/state/peerkeep/peerkeep.sock http://peerkeep/openapi.json      (the same, served)

It needs no daemon.")]
pub struct Args {}

/// Prints it.
pub fn run(shared: &Shared, _: &Args) -> Ended {
    let document = routes::document();
    out::either(shared.json, &document, || serde_json::to_string_pretty(&document).unwrap_or_default());
    Ok(())
}
