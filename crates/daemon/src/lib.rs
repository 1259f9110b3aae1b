//! What the `peerkeep` binary does: a node that runs as a daemon, and the commands that talk to it over its unix socket.
//! It decides nothing about peers; the library it wraps does. No other program builds on this crate: it is a library
//! only so that its fuzz targets and their corpora reach the decoders of the API.

mod api;
mod cli;
mod client;
mod cmd;
mod daemon;
mod demo;
mod exit;
#[doc(hidden)]
pub mod fuzzing;
mod level;
mod lines;
mod metrics;
mod out;
mod place;
mod settings;
mod story;

use clap::Parser;
use std::process::ExitCode;

/// Reads the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let json = cli.shared.json;
    match cmd::perform(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => out::failure(json, &failure),
    }
}

/// Prints help and usage errors as clap does, unless a program asked: then an error is an object like any other.
fn not_understood(error: &clap::Error) -> ExitCode {
    let asks_json = std::env::args_os().any(|arg| arg == "--json");
    if asks_json && error.use_stderr() {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let failure =
            exit::Failure::new(exit::Code::Usage, message).next("`peerkeep help` lists the commands");
        return out::failure(true, &failure);
    }
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
