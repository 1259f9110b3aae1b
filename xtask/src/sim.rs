//! `cargo xtask sim`: simulated worlds of real cores. Builds the program that runs seeds, with every assertion on, and
//! passes on its verdict. It knows no promise itself.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Outcome, run};

/// Which seeds.
#[derive(clap::Args)]
pub struct Options {
    /// Run this one seed, make it smaller if it fails, and tell its story.
    #[arg(long, conflicts_with_all = ["seeds", "from", "seconds", "rotate"])]
    seed: Option<u64>,
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Begin at a seed that the commit decides.
    #[arg(long, conflicts_with = "from")]
    rotate: bool,
    /// Stop after this many seconds, however many seeds are left.
    #[arg(long)]
    seconds: Option<u64>,
    /// End with one JSON object on one line.
    #[arg(long)]
    pub json: bool,
}

/// Seconds that the stage of `cargo xtask test` takes, besides building; `PEERKEEP_SIM_SECONDS` sets another number.
const STAGE_SECONDS: u64 = 60;

/// Runs the seeds.
pub fn run(options: &Options) -> Result<Outcome> {
    let mut command = program();
    match options.seed {
        Some(seed) => {
            command.args(["--seed", &seed.to_string()]);
        }
        None => {
            let from = if options.rotate { of_commit() } else { options.from };
            command.args(["--seeds", &options.seeds.to_string(), "--from", &from.to_string()]);
            if let Some(seconds) = options.seconds {
                command.args(["--seconds", &seconds.to_string()]);
            }
        }
    }
    Ok(judge(&mut command))
}

/// What fits in a bounded time, from seeds that each commit draws anew.
pub fn stage() -> Result<Outcome> {
    let seconds = match std::env::var("PEERKEEP_SIM_SECONDS") {
        Ok(text) => text.parse().context("PEERKEEP_SIM_SECONDS is not a number of seconds")?,
        Err(_) => STAGE_SECONDS,
    };
    let options = Options {
        seed: None,
        seeds: u64::from(u32::MAX),
        from: 0,
        rotate: true,
        seconds: Some(seconds),
        json: false,
    };
    run(&options)
}

fn program() -> Command {
    let mut command = run::cargo();
    command.args([
        "run",
        "--profile",
        "sim",
        "--package",
        "peerkeep-sim",
        "--bin",
        "peerkeep-seeds",
        "--",
        "--json",
    ]);
    command
}

/// Runs it to its end: its exit code is the verdict, its last object the figures.
fn judge(command: &mut Command) -> Outcome {
    let mut figures = None;
    let end = run::tee(command, |line| {
        let object = serde_json::from_str(line).ok().filter(Value::is_object);
        figures = object.or(figures.take());
    });
    if let Err(error) = &end {
        println!("sim: {error:#}");
    }
    if figures.is_none() {
        println!("sim: there was no result");
    }
    Outcome { passed: end.is_ok() && figures.is_some(), json: figures }
}

/// A seed of the commit: the first 48 bits of its name. 0 outside a repository.
fn of_commit() -> u64 {
    let output = run::program("git").args(["rev-parse", "HEAD"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    seed_of(&text)
}

fn seed_of(commit: &str) -> u64 {
    commit.get(..12).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(script: &str) -> Outcome {
        judge(run::program("sh").args(["-c", script]))
    }

    #[test]
    fn the_exit_code_and_the_last_object_decide() {
        let print = "echo words; echo '{\"violations\":0}'";
        let good = judged(print);
        assert!(good.passed);
        assert_eq!(good.json.as_ref().and_then(|json| json["violations"].as_u64()), Some(0));
        assert!(!judged(&format!("{print}; exit 1")).passed);
        assert!(!judged("echo words").passed, "no figures are no success");
    }

    #[test]
    fn every_commit_begins_elsewhere_and_none_at_zero() {
        assert_eq!(seed_of("0123456789abcdef"), 0x0123_4567_89ab);
        assert_ne!(seed_of("1123456789abcdef"), seed_of("2123456789abcdef"));
        assert_eq!(seed_of(""), 0);
    }
}
