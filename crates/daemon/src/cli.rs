//! The command line as clap sees it: names, options and help texts. What a command does is in its file under `cmd/`.

use crate::cmd;
use crate::exit;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Two machines, five minutes:
  first$  peerkeep run --listen 0.0.0.0:7330 --secret network.secret
  second$ peerkeep run --listen 0.0.0.0:7330 --secret network.secret \\
            --want /ip4/192.0.2.1/tcp/7330/p2p/12D3KooW...
  either$ peerkeep peers

`peerkeep` without a command is `peerkeep run`. Every command takes --json and then ends with one object on one line.";

/// Peerkeep keeps peers connected.
///
/// You tell it which peers you want; it decides who dials, when to retry, when to let go and whom to refuse, and can
/// always say why a peer is or is not connected.
#[derive(Debug, Parser)]
#[command(
    name = "peerkeep",
    version,
    after_help = EXAMPLES,
    after_long_help = long_help(),
    disable_help_subcommand = false,
    subcommand_required = false,
    args_conflicts_with_subcommands = false
)]
pub struct Cli {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Shared {
    /// The data folder [default: $XDG_STATE_HOME/peerkeep or ~/.local/state/peerkeep]
    #[arg(long, global = true, value_name = "DIR", env = "PEERKEEP_DATA", help_heading = "Everywhere")]
    pub data: Option<PathBuf>,
    /// The configuration file [default: peerkeep.toml in the data folder]
    #[arg(long, global = true, value_name = "FILE", env = "PEERKEEP_CONFIG", help_heading = "Everywhere")]
    pub config: Option<PathBuf>,
    /// For programs: end with one JSON object on one line
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(cmd::run::Args),
    Status(cmd::status::Args),
    Peers(cmd::peers::Args),
    Peer(cmd::peer::Args),
    Pending(cmd::pending::Args),
    Why(cmd::why::Args),
    Measure(cmd::measure::Args),
    Ping(cmd::ping::Args),
    Channel(cmd::channel::Args),
    Connect(cmd::connect::Args),
    Disconnect(cmd::disconnect::Args),
    Want(cmd::want::Args),
    Unwant(cmd::unwant::Args),
    Retry(cmd::retry::Args),
    Reset(cmd::reset::Args),
    Cancel(cmd::cancel::Args),
    Ban(cmd::ban::Args),
    Unban(cmd::unban::Args),
    Bans(cmd::bans::Args),
    Events(cmd::events::Args),
    Config(cmd::config::Args),
    Identity(cmd::identity::Args),
    Openapi(cmd::openapi::Args),
    Replay(cmd::replay::Args),
    Demo(cmd::demo::Args),
    Sim(cmd::sim::Args),
    Completions(cmd::completions::Args),
}

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{}", exit::HELP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_help_text_and_an_example() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} says nothing about itself");
            let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(more.contains(&format!("peerkeep {name}")), "{name} has no example");
        }
    }

    #[test]
    fn fault_g5_no_option_takes_a_secret_itself() {
        let words = Cli::command().render_long_help().to_string();
        assert!(!words.contains("--secret <SECRET>") && !words.contains("--key <"));
    }
}
