//! `peerkeep config`.

use crate::api::Reloaded;
use crate::cli::Shared;
use crate::exit::Ended;
use crate::out;
use crate::settings::{self, Overrides};
use clap::Subcommand;
use peerkeep::{Settings, TEMPLATE};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Show, check or reload the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep config show               (every setting in force)
  peerkeep config show --default > peerkeep.toml      (the commented file)
  peerkeep config check new.toml
  peerkeep config reload             (the same as SIGHUP)")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print every setting in force: of the running daemon, or without one what it would start with.
    Show {
        /// Print the commented file with every key at its default instead.
        #[arg(long)]
        default: bool,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Check the file without starting anything; mistakes are named by line and key.
    Check {
        /// Another file than the node's own
        file: Option<PathBuf>,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Make the running daemon read its file again. A file with mistakes changes nothing.
    Reload,
}

/// Does it.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    let place = super::place(shared)?;
    match args.action {
        Action::Show { default: true, .. } => {
            out::either(shared.json, &settings::to_json(&Settings::default()), || TEMPLATE.into());
            Ok(())
        }
        Action::Show { overrides, .. } => show(shared, &overrides).await,
        Action::Check { file, overrides } => {
            let place = match file {
                Some(file) => super::place(&Shared { config: Some(file), ..shared.clone() })?,
                None => place,
            };
            settings::load(&place, &overrides)?;
            let found = place.config.exists();
            let file = place.config.display().to_string();
            out::either(shared.json, &json!({ "ok": true, "file": file, "found": found }), || {
                if found {
                    format!("{file} is good")
                } else {
                    format!("there is no {file}: the defaults hold")
                }
            });
            Ok(())
        }
        Action::Reload => {
            let reloaded: Reloaded =
                super::daemon(shared).await?.post("/v1/config/reload", &json!({})).await?;
            out::either(shared.json, &reloaded, || people(&reloaded));
            Ok(())
        }
    }
}

async fn show(shared: &Shared, overrides: &Overrides) -> Ended {
    let place = super::place(shared)?;
    // A file named with --config is asked about as such, whatever a daemon runs with.
    if !place.config_named
        && let Ok(mut client) = super::daemon(shared).await
    {
        let shown: Value = client.get("/v1/config").await?;
        let text = shown["text"].as_str().unwrap_or_default().to_owned();
        out::either(shared.json, &shown["settings"], || with_fixed(&out::clean_lines(&text)));
        return Ok(());
    }
    let settings = settings::load(&place, overrides)?;
    out::either(shared.json, &settings::to_json(&settings), || with_fixed(&settings.to_toml()));
    Ok(())
}

/// With a word on what a reload cannot change.
fn with_fixed(text: &str) -> String {
    let fixed = Settings::FIXED.join(", ");
    format!("# A reload changes everything but {fixed}, the identity and the data folder.\n{text}")
}

fn people(reloaded: &Reloaded) -> String {
    let mut text = format!("{} was read again", out::clean(&reloaded.file));
    if !reloaded.changed.is_empty() {
        text.push_str(&format!("\nchanged: {}", out::clean(&reloaded.changed.join(", "))));
    }
    if !reloaded.needs_restart.is_empty() {
        text.push_str(&format!("\nonly a restart changes: {}", reloaded.needs_restart.join(", ")));
    }
    text
}
