//! `peerkeep bans`.

use crate::cli::Shared;
use crate::exit::Ended;
use crate::out;
use peerkeep::{BanReason, BanStatus};
use serde_json::json;

/// The bans in force.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  peerkeep bans")]
pub struct Args {}

/// Asks the daemon.
pub async fn run(shared: &Shared, _: Args) -> Ended {
    let mut client = super::daemon(shared).await?;
    let bans: Vec<BanStatus> = client.get("/v1/bans").await?;
    out::either(shared.json, &json!({ "bans": bans }), || people(&bans));
    Ok(())
}

fn people(bans: &[BanStatus]) -> String {
    if bans.is_empty() {
        return "Nobody is banned.".into();
    }
    let mut table = out::table(&["TARGET", "UNTIL", "LEFT", "WHY"]);
    for ban in bans {
        let why = match ban.reason {
            BanReason::Operator => "asked for",
            BanReason::Misbehaviour => "misbehaved",
        };
        table.add_row(vec![
            out::clean(&ban.target.0),
            ban.until.map_or("lifted by hand".into(), |until| until.to_string()),
            ban.remaining_seconds.map_or_else(String::new, |left| out::span_ms(left.saturating_mul(1_000))),
            why.into(),
        ]);
    }
    table.to_string()
}
