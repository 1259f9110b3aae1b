//! `peerkeep completions`.

use crate::cli::Cli;
use crate::exit::Ended;
use crate::out;
use clap::CommandFactory;
use clap_complete::Shell;

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
pub fn run(args: &Args) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "peerkeep", &mut script);
    out::text(&String::from_utf8_lossy(&script));
    Ok(())
}
