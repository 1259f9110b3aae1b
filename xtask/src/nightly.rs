//! `cargo xtask nightly`: what takes longer than a build service has: many seeds, many executions of every fuzz target, the
//! model checker, and mutants of the core. It only calls the commands that do each; their figures go to docs/proof.md.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{Outcome, project, run};

/// How much.
#[derive(clap::Args)]
pub struct Options {
    /// Seeds of simulated worlds.
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// Executions of each fuzz target.
    #[arg(long, default_value_t = 10_000_000)]
    runs: u64,
    /// Only this part; may be repeated.
    #[arg(long, value_parser = PARTS.map(|(name, _)| name))]
    only: Vec<String>,
    /// End with one JSON object on one line.
    #[arg(long)]
    pub json: bool,
}

/// Every part and what it says when it starts.
const PARTS: [(&str, &str); 5] = [
    ("model", "the model checker, every setup"),
    ("canaries", "deliberately wrong variants"),
    ("sim", "simulated worlds"),
    ("fuzz", "every fuzz target"),
    ("mutants", "mutants of the core; needs cargo-mutants"),
];

/// Runs the parts in turn, also after one has failed.
pub fn run(options: &Options) -> Result<Outcome> {
    let mut parts = Vec::new();
    for (name, what) in PARTS {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        println!("\n== {name}: {what}");
        let (began, mut figures) = (Instant::now(), Value::Null);
        let result = run::tee(&mut command(name, options), |line| {
            if let Some(object) = serde_json::from_str::<Value>(line).ok().filter(Value::is_object) {
                figures = object;
            }
        });
        let result = if name == "mutants" { judge_mutants(&mut figures) } else { result };
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        if let Err(error) = &result {
            println!("{error:#}");
        }
        println!("== {name}: {} in {minutes:.1} min", if result.is_ok() { "ok" } else { "FAILED" });
        parts.push(json!({ "name": name, "passed": result.is_ok(), "minutes": minutes, "figures": figures }));
    }
    let passed = !parts.is_empty() && parts.iter().all(|part| part["passed"] == true);
    Ok(Outcome { passed, json: Some(json!({ "passed": passed, "parts": parts })) })
}

/// Of a hundred mutants so many must be killed; cargo-mutants itself is content with none alive only.
const KILLED_PER_CENT: f64 = 90.0;

/// What cargo-mutants wrote down is the verdict, not its exit code.
fn judge_mutants(figures: &mut Value) -> Result<()> {
    let path = project::root().join("mutants.out/outcomes.json");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("{} was not written", path.display()))?;
    *figures = mutants(&serde_json::from_str(&text)?);
    let killed = figures["killed_per_cent"].as_f64().unwrap_or(0.0);
    println!("mutants: {figures}");
    if killed < KILLED_PER_CENT {
        bail!("{killed:.1} % of the mutants were killed, {KILLED_PER_CENT} % must be");
    }
    Ok(())
}

/// The counts; a mutant that does not build is neither killed nor alive.
fn mutants(outcomes: &Value) -> Value {
    let count = |name: &str| outcomes[name].as_u64().unwrap_or(0);
    let (caught, missed, timeout) = (count("caught"), count("missed"), count("timeout"));
    let killed = (caught + timeout) as f64 * 100.0 / (caught + timeout + missed).max(1) as f64;
    json!({
        "caught": caught, "missed": missed, "timeout": timeout, "unviable": count("unviable"),
        "killed_per_cent": killed,
    })
}

fn command(part: &str, options: &Options) -> std::process::Command {
    let mut command = run::cargo();
    if part == "mutants" {
        command.args(["mutants", "--package", "peerkeep-core"]);
        return command;
    }
    command.args(["run", "--quiet", "--package", "xtask", "--", part, "--json"]);
    match part {
        "sim" => command.args(["--seeds", &options.seeds.to_string()]),
        "fuzz" => command.args(["--runs", &options.runs.to_string()]),
        _ => &mut command,
    };
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_that_run_out_of_time_are_killed_and_unbuilt_ones_do_not_count() {
        let figures = mutants(&json!({ "caught": 80, "missed": 10, "timeout": 10, "unviable": 50 }));
        assert_eq!(figures["killed_per_cent"], 90.0);
        assert_eq!(mutants(&json!({}))["killed_per_cent"], 0.0);
    }

    #[test]
    fn every_part_but_the_mutants_is_a_command_of_this_program() {
        use clap::CommandFactory as _;
        let cli = crate::Cli::command();
        for (name, _) in PARTS.iter().filter(|(name, _)| *name != "mutants") {
            assert!(cli.find_subcommand(name).is_some(), "there is no command {name}");
        }
    }
}
