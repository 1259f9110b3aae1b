//! `cargo xtask test`: every check a change must pass, in order, each with its time.
//!
//! Stops at the first stage that fails. It decides nothing itself: each stage is a command of its own as well.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use crate::{Outcome, canaries, no_std, requirements, run, setup, sim, tidy};

/// On a build service a stage that hangs is ended after this time, so that the log says which one it was.
/// Well above the slowest stage on two cores from an empty target folder.
const STAGE_LIMIT: Duration = Duration::from_secs(40 * 60);

/// One stage that ran, or was left out with a reason.
struct Stage {
    name: &'static str,
    took: Duration,
    end: End,
}

enum End {
    Passed,
    Failed(String),
    Skipped(&'static str),
}

/// The sums of cargo's `test result:` lines.
#[derive(Default)]
struct Tests {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs the stages.
pub fn run() -> Result<Outcome> {
    let started = Instant::now();
    let mut stages = Vec::new();
    let mut tests = Tests::default();
    let result = all(&mut stages, &mut tests);

    println!("\nSummary");
    for stage in &stages {
        let end = match &stage.end {
            End::Passed => "ok".to_owned(),
            End::Failed(why) => format!("FAILED: {why}"),
            End::Skipped(why) => format!("skipped: {why}"),
        };
        println!("  {:<14} {:>7.1} s  {end}", stage.name, stage.took.as_secs_f64());
    }
    println!("  {:<14} {:>7.1} s", "total", started.elapsed().as_secs_f64());
    let Tests { passed, failed, ignored } = tests;
    println!("  tests: {passed} passed, {failed} failed, {ignored} ignored");
    println!("  advisories are not checked: their database cannot be fetched without a network");
    let json = json!({
        "passed": result.is_ok(),
        "stages": stages.iter().map(Stage::json).collect::<Vec<_>>(),
        "tests": { "passed": passed, "failed": failed, "ignored": ignored },
        "seconds": started.elapsed().as_secs_f64(),
    });
    Ok(Outcome { passed: result.is_ok(), json: Some(json) })
}

fn all(stages: &mut Vec<Stage>, tests: &mut Tests) -> Result<()> {
    stage(stages, "setup", || passed(setup::run()?))?;
    stage(stages, "format", format_check)?;
    stage(stages, "clippy", || {
        let args = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        run::status(limited_cargo().args(args))
    })?;
    stage(stages, "tidy", || passed(tidy::run()?))?;
    stage(stages, "no-std", || passed(no_std::run()?))?;
    stage(stages, "tests", || {
        let args = ["test", "--workspace", "--lib", "--bins", "--tests"];
        run::tee(limited_cargo().args(args), |line| tests.count(line))
    })?;
    // What stands behind features that the product never has.
    stage(stages, "model", || {
        let of = ["--package", "peerkeep-sim", "--features", "model,canaries"];
        let lint = ["--all-targets", "--", "-D", "warnings"];
        run::status(limited_cargo().arg("clippy").args(of).args(lint))?;
        run::tee(
            limited_cargo().arg("test").args(of).args(["--test", "model", "--test", "model_canaries"]),
            |line| tests.count(line),
        )
    })?;
    stage(stages, "doc tests", || {
        run::tee(limited_cargo().args(["test", "--workspace", "--doc"]), |line| tests.count(line))
    })?;
    stage(stages, "sim", || passed(sim::stage()?))?;
    stage(stages, "canaries", || passed(canaries::run()?))?;
    stage(stages, "requirements", || passed(requirements::run()?))?;
    if run::find("cargo-deny").is_none() {
        println!("\n== deny: skipped, cargo-deny is not installed");
        stages.push(Stage {
            name: "deny",
            took: Duration::ZERO,
            end: End::Skipped("cargo-deny is not installed"),
        });
        return Ok(());
    }
    stage(stages, "deny", || {
        let args = ["deny", "--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
        run::status(limited_cargo().args(args))
    })
}

/// Runs one stage, with a heading before and its time after.
fn stage(stages: &mut Vec<Stage>, name: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("\n== {name}");
    let started = Instant::now();
    let result = work();
    let took = started.elapsed();
    println!("== {name}: {} in {:.1} s", if result.is_ok() { "ok" } else { "FAILED" }, took.as_secs_f64());
    let end = match &result {
        Ok(()) => End::Passed,
        Err(error) => End::Failed(format!("{error:#}")),
    };
    stages.push(Stage { name, took, end });
    result
}

fn passed(outcome: Outcome) -> Result<()> {
    if !outcome.passed {
        bail!("see above");
    }
    Ok(())
}

/// The workspace, and the crates that are workspaces of their own.
fn format_check() -> Result<()> {
    for manifest in ["Cargo.toml", "bench/Cargo.toml", "fuzz/Cargo.toml", no_std::MANIFEST] {
        if !crate::project::root().join(manifest).exists() {
            continue;
        }
        let color = if run::plain() { "never" } else { "auto" };
        let args = ["fmt", "--all", "--check", "--manifest-path", manifest, "--", "--color", color];
        run::status(limited_cargo().args(args))?;
    }
    Ok(())
}

/// Cargo; on a build service under `timeout`. Not on a terminal, where `timeout` would keep Ctrl-C from the stage.
fn limited_cargo() -> Command {
    if !run::plain() || run::find("timeout").is_none() {
        return run::cargo();
    }
    let mut command = run::program("timeout");
    command.args(["--verbose", "--kill-after=10"]).arg(STAGE_LIMIT.as_secs().to_string());
    command.arg(run::cargo().get_program());
    command
}

impl Stage {
    fn json(&self) -> serde_json::Value {
        let (end, why) = match &self.end {
            End::Passed => ("ok", None),
            End::Failed(why) => ("failed", Some(why.as_str())),
            End::Skipped(why) => ("skipped", Some(*why)),
        };
        json!({ "name": self.name, "seconds": self.took.as_secs_f64(), "end": end, "why": why })
    }
}

impl Tests {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`; other lines add nothing.
    fn count(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split(';') {
            let Some((number, word)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_result_lines() {
        let mut tests = Tests::default();
        tests.count("running 3 tests");
        tests.count(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        tests.count("test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!((tests.passed, tests.failed, tests.ignored), (5, 4, 1));
    }

    #[test]
    fn a_failed_stage_stops_the_run_and_is_recorded() {
        let mut stages = Vec::new();
        assert!(stage(&mut stages, "good", || Ok(())).is_ok());
        assert!(stage(&mut stages, "bad", || bail!("no")).is_err());
        assert!(matches!(stages[0].end, End::Passed));
        assert!(matches!(&stages[1].end, End::Failed(why) if why == "no"));
    }
}
