//! `peerkeep completions`.

use crate::cli::{Cli, Shared};
use crate::exit::Ended;
use crate::out;
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

/// Print the completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep completions bash > ~/.local/share/bash-completion/completions/peerkeep
  peerkeep completions zsh  > ~/.zfunc/_peerkeep
  peerkeep completions fish > ~/.config/fish/completions/peerkeep.fish")]
pub struct Args {
    /// Which shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints them.
pub fn run(shared: &Shared, args: &Args) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "peerkeep", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    out::either(shared.json, &json!({ "shell": args.shell.to_string(), "script": script }), || {
        script.clone()
    });
    Ok(())
}
