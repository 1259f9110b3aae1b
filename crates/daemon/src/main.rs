//! The `peerkeep` binary: a node that runs as a daemon, and the commands that talk to it over its unix socket.
//! It decides nothing about peers; the library it wraps does.

mod api;
mod cli;
mod client;
mod cmd;
mod daemon;
mod demo;
mod exit;
mod level;
mod out;
mod place;
mod settings;
mod story;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let json = cli.shared.json;
    match cmd::perform(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => out::failure(json, &failure),
    }
}
