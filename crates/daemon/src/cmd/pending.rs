//! `peerkeep pending`.

use super::peers::{direction, short};
use crate::cli::Shared;
use crate::exit::Ended;
use crate::out;
use peerkeep::{PendingStatus, Stage, Timestamp};
use serde_json::json;

/// The connections being set up, in both directions.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  peerkeep pending")]
pub struct Args {}

/// Asks the daemon.
pub async fn run(shared: &Shared, _: Args) -> Ended {
    let mut client = super::daemon(shared).await?;
    let pending: Vec<PendingStatus> = client.get("/v1/pending").await?;
    out::either(shared.json, &json!({ "pending": pending }), || people(&pending));
    Ok(())
}

fn people(pending: &[PendingStatus]) -> String {
    if pending.is_empty() {
        return "No connection is being set up.".into();
    }
    let mut table = out::table(&["CONNECTION", "PEER", "DIALLED BY", "ADDRESS", "STAGE", "FOR"]);
    for one in pending {
        table.add_row(vec![
            out::clean(&one.conn.conn),
            one.peer.map_or_else(|| "not known yet".into(), |peer| short(&peer.to_string())),
            direction(one.conn.direction).into(),
            out::clean(one.conn.remote.as_deref().unwrap_or_default()),
            stage(one.conn.stage).into(),
            out::span(Timestamp::now().since(one.conn.began_at)),
        ]);
    }
    table.to_string()
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Resolving => "looking up names",
        Stage::Dialing | Stage::Arriving => "greeting",
        Stage::Held => "held for our own dial",
        Stage::Offered => "waiting for the confirm",
        Stage::Refusing => "being refused",
        Stage::Up => "up",
        Stage::Closing => "closing",
    }
}
