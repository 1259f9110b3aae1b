//! `cargo xtask`: the repository's front desk, one command per thing a contributor does.
//!
//! It runs tools and reads files; it holds no product logic, and nothing in the product may depend on it. A command
//! is listed here only when it does its whole job.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod canaries;
mod fuzz;
mod interop;
mod kill;
mod model;
mod nightly;
mod no_std;
mod project;
mod requirements;
mod run;
mod setup;
mod sim;
mod soak;
mod test;
mod tidy;

/// What every command ends with: whether it passed, and one object for `--json`.
struct Outcome {
    passed: bool,
    json: Option<serde_json::Value>,
}

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, check and measure Peerkeep")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests need, where this machine allows it.
    Setup(Json),
    /// Run every check, in order, and stop at the first that fails.
    Test(Json),
    /// Check arrows between crates, sizes, first lines, banned words and links.
    Tidy(Json),
    /// Prove that the deciding crates and all they use build without std.
    NoStd(Json),
    /// Check that each test named in docs/requirements.md exists, and count what is shown.
    Requirements(Json),
    /// Run a measuring program of bench/, e.g. `bench core --json`; arguments after its name are the program's.
    Bench {
        /// The program's name.
        name: String,
        /// Passed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Hold four nodes without faults and check that they stay connected.
    Soak {
        /// How long to hold, in minutes.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_080))]
        minutes: u64,
        #[command(flatten)]
        json: Json,
    },
    /// Run our protocol against a foreign implementation: openssl, quic, js-libp2p, rust-libp2p.
    Interop {
        /// Which.
        partner: String,
        #[command(flatten)]
        json: Json,
    },
    /// Kill a real daemon at random moments and check what it finds at its next start.
    Kill(kill::Options),
    /// Run simulated worlds of real cores, each decided by a seed.
    Sim(sim::Options),
    /// Check that each deliberately wrong variant is found.
    Canaries(Json),
    /// Run the model checker over the real core, exhaustively.
    Model {
        /// Only the setups that take a second or two.
        #[arg(long)]
        quick: bool,
        /// Only the setups whose name contains this.
        #[arg(long)]
        only: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Run the fuzz targets and look for inputs that break a promise.
    Fuzz(fuzz::Options),
    /// Run everything that takes too long for every change: seeds, fuzz targets, mutants.
    Nightly(nightly::Options),
}

#[derive(clap::Args)]
struct Json {
    /// End with one JSON object on one line.
    #[arg(long)]
    json: bool,
}

impl Command {
    fn wants_json(&self) -> bool {
        match self {
            Command::Setup(j)
            | Command::Test(j)
            | Command::Tidy(j)
            | Command::NoStd(j)
            | Command::Canaries(j)
            | Command::Requirements(j) => j.json,
            Command::Model { json, .. } | Command::Soak { json, .. } | Command::Interop { json, .. } => {
                json.json
            }
            Command::Kill(options) => options.json,
            Command::Sim(options) => options.json,
            Command::Fuzz(options) => options.json,
            Command::Nightly(options) => options.json,
            // The program prints its own object, as its own last line.
            Command::Bench { .. } => false,
        }
    }

    fn run(&self) -> Result<Outcome> {
        match self {
            Command::Setup(_) => setup::run(),
            Command::Test(_) => test::run(),
            Command::Tidy(_) => tidy::run(),
            Command::NoStd(_) => no_std::run(),
            Command::Requirements(_) => requirements::run(),
            Command::Bench { name, args } => bench::run(name, args),
            Command::Soak { minutes, .. } => soak::run(*minutes),
            Command::Interop { partner, .. } => interop::run(partner),
            Command::Kill(options) => kill::run(options),
            Command::Sim(options) => sim::run(options),
            Command::Canaries(_) => canaries::run(),
            Command::Model { quick, only, .. } => model::run(*quick, only.as_deref()),
            Command::Fuzz(options) => fuzz::run(options),
            Command::Nightly(options) => nightly::run(options),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run() {
        Ok(outcome) => {
            if let Some(json) = outcome.json.filter(|_| cli.command.wants_json()) {
                println!("{json}");
            }
            if outcome.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
