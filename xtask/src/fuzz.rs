//! `cargo xtask fuzz`: builds the fuzz targets and runs one after another, each for a time or a number of executions.
//!
//! It drives libFuzzer through cargo-fuzz, on the stable compiler. It keeps what was found in the target folder and
//! commits nothing; replaying the committed corpora is a test like any other and needs none of this.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{Outcome, project, run};

/// A target that holds more memory than this has a leak or sizes something by the input.
const RSS_LIMIT_MB: u32 = 1_024;
/// A single allocation larger than this is sized by the input.
const MALLOC_LIMIT_MB: u32 = 128;
/// One input may take this long in seconds.
const INPUT_SECONDS: u32 = 10;
/// How much less often a slow target runs.
const SLOW: u64 = 1_000;
/// Names of the files that libFuzzer writes for what it calls a failure.
const FAILURES: &[&str] = &["crash-", "leak-", "oom-", "timeout-"];

/// What to run.
#[derive(clap::Args)]
pub struct Options {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Executions for each target instead of a time; a thousandth of it for targets that take milliseconds.
    #[arg(long)]
    runs: Option<u64>,
    /// Only this target; may be repeated.
    #[arg(long)]
    target: Vec<String>,
    /// Targets to run at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// `address` finds leaks and bad memory accesses as well; `none` is several times faster, and looks less closely at
    /// what an input is compared with.
    #[arg(long, default_value = "address", value_parser = ["address", "none"])]
    sanitizer: String,
    /// End with one JSON object on one line.
    #[arg(long)]
    pub json: bool,
}

/// A target and what `fuzz/Cargo.toml` says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    name: String,
    max_len: u64,
    slow: bool,
    /// Features of `fuzz/Cargo.toml` that its program needs.
    needs: BTreeSet<String>,
}

/// What came of one target.
#[derive(Debug, Default, PartialEq)]
struct Found {
    executions: u64,
    per_second: u64,
    peak_rss_mb: u64,
    seconds: f64,
    failures: Vec<PathBuf>,
    ended_well: bool,
}

/// Builds and runs.
pub fn run(options: &Options) -> Result<Outcome> {
    if run::find("cargo-fuzz").is_none() {
        bail!(
            "cargo-fuzz is not installed: `cargo xtask setup` installs it, as does `cargo install cargo-fuzz`"
        );
    }
    let metadata = project::metadata("fuzz/Cargo.toml")?;
    let targets = chosen(targets(&metadata)?, &options.target)?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    let needs = targets.iter().flat_map(|target| target.needs.clone()).collect();
    let programs = build(Path::new(folder), &options.sanitizer, &needs)?;
    let queue = Mutex::new(targets.into_iter());
    let found: Mutex<Vec<(Target, Result<Found>)>> = Mutex::new(Vec::new());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let result = fuzz(&target, &programs, Path::new(folder), options);
                    report(&target, &result);
                    if let Ok(mut found) = found.lock() {
                        found.push((target, result));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_default();
    found.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    let mut passed = true;
    let mut list = Vec::new();
    for (target, result) in found {
        let result = result?;
        passed &= result.ended_well && result.failures.is_empty();
        list.push(result.json(&target));
    }
    let json = json!({ "passed": passed, "sanitizer": options.sanitizer, "targets": list });
    Ok(Outcome { passed, json: Some(json) })
}

fn targets(metadata: &Value) -> Result<Vec<Target>> {
    let package = &metadata["packages"][0];
    let ours = &package["metadata"]["peerkeep"];
    let lengths = ours["max-len"].as_object().context("fuzz/Cargo.toml names no targets")?;
    let slow: Vec<&str> = ours["slow"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let needs = |name: &str| -> BTreeSet<String> {
        let mut programs = package["targets"].as_array().into_iter().flatten();
        let program = programs.find(|program| program["name"] == name && program["kind"][0] == "bin");
        let features = program.and_then(|program| program["required-features"].as_array());
        features.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let target = |(name, length): (&String, &Value)| Target {
        name: name.clone(),
        max_len: length.as_u64().unwrap_or(4_096),
        slow: slow.contains(&name.as_str()),
        needs: needs(name),
    };
    Ok(lengths.iter().map(target).collect())
}

fn chosen(targets: Vec<Target>, names: &[String]) -> Result<Vec<Target>> {
    if names.is_empty() {
        return Ok(targets);
    }
    let known: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("there is no fuzz target {unknown}; the targets are {}", known.join(", "));
    }
    Ok(targets.into_iter().filter(|target| names.contains(&target.name)).collect())
}

/// Builds the targets that need no more than these features; where their programs are.
fn build(folder: &Path, sanitizer: &str, needs: &BTreeSet<String>) -> Result<PathBuf> {
    let mut command = run::program("cargo-fuzz");
    command.args(["fuzz", "build", "--sanitizer", sanitizer]).current_dir(project::root().join("fuzz"));
    command.arg("--no-default-features");
    if !needs.is_empty() {
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        command.arg("--features").arg(needs.join(","));
    }
    if sanitizer == "none" {
        command.arg("--no-trace-compares");
    }
    // What cargo-fuzz needs of the compiler is not stable, and no other compiler is wanted for it.
    command.env("RUSTC_BOOTSTRAP", "1");
    run::status(&mut command)?;
    let output = run::program("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(folder.join(host).join("release"))
}

fn fuzz(target: &Target, programs: &Path, folder: &Path, options: &Options) -> Result<Found> {
    let root = project::root();
    let artifacts = root.join("fuzz/artifacts").join(&target.name);
    let working = folder.join("corpus").join(&target.name);
    let committed = root.join("fuzz/corpus").join(&target.name);
    for folder in [&artifacts, &working, &committed] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let before = failures(&artifacts);
    let mut command = Command::new(programs.join(&target.name));
    command.current_dir(root.join("fuzz")).stdin(Stdio::null()).stdout(Stdio::null());
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg(format!("-max_len={}", target.max_len));
    command.arg(match options.runs {
        Some(runs) => format!("-runs={}", if target.slow { (runs / SLOW).max(1) } else { runs }),
        None => format!("-max_total_time={}", options.seconds),
    });
    command.arg(format!("-rss_limit_mb={RSS_LIMIT_MB}")).arg(format!("-malloc_limit_mb={MALLOC_LIMIT_MB}"));
    command.arg(format!("-timeout={INPUT_SECONDS}")).arg("-print_final_stats=1");
    // SQLite has two private tables of one name, which is its own affair.
    command.env("ASAN_OPTIONS", "detect_odr_violation=0");
    let started = Instant::now();
    let output = command
        .arg(&working)
        .arg(&committed)
        .output()
        .with_context(|| format!("cannot start the target {}", target.name))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let mut found = read(&text);
    found.seconds = started.elapsed().as_secs_f64();
    found.ended_well = output.status.success();
    found.failures = failures(&artifacts).into_iter().filter(|path| !before.contains(path)).collect();
    if !found.ended_well {
        let tail: Vec<&str> = text.lines().rev().take(60).collect();
        for line in tail.iter().rev() {
            println!("fuzz: {}: {line}", target.name);
        }
    }
    Ok(found)
}

/// libFuzzer's figures, from its last lines.
fn read(text: &str) -> Found {
    let stat = |name: &str| {
        let value = text.lines().rev().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
        value.and_then(|value| value.trim_start_matches(':').trim().parse().ok()).unwrap_or(0)
    };
    Found {
        executions: stat("number_of_executed_units"),
        per_second: stat("average_exec_per_sec"),
        peak_rss_mb: stat("peak_rss_mb"),
        ..Found::default()
    }
}

fn failures(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let is_failure = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        FAILURES.iter().any(|kind| name.starts_with(kind))
    };
    entries.map(|entry| entry.path()).filter(is_failure).collect()
}

fn report(target: &Target, result: &Result<Found>) {
    let name = &target.name;
    match result {
        Ok(found) => {
            println!(
                "fuzz: {name:<16} {:>11} executions, {:>7} a second, {:>5} MB, {:>6.0} s: {}",
                found.executions,
                found.per_second,
                found.peak_rss_mb,
                found.seconds,
                if found.ended_well { "ok" } else { "FAILED" },
            );
            for path in &found.failures {
                println!("fuzz: {name}: the input is {}", path.display());
                let repeat = format!("RUSTC_BOOTSTRAP=1 cargo fuzz run {name} {}", path.display());
                println!("fuzz: {name}: in fuzz/, this repeats it: {repeat}");
            }
        }
        Err(error) => println!("fuzz: {name}: {error:#}"),
    }
}

impl Found {
    fn json(&self, target: &Target) -> Value {
        let crashes = self.failures.len().max(usize::from(!self.ended_well));
        let inputs: Vec<String> = self.failures.iter().map(|path| path.display().to_string()).collect();
        json!({
            "target": target.name,
            "executions": self.executions,
            "per_second": self.per_second,
            "seconds": self.seconds,
            "crashes": crashes,
            "inputs": inputs,
            "peak_rss_mb": self.peak_rss_mb,
            "slow": target.slow,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzers_figures_are_read() {
        let text = "#8 DONE\nstat::number_of_executed_units: 12345\nstat::average_exec_per_sec:     678\n\
                    stat::new_units_added:          1\nstat::peak_rss_mb:              90\n";
        let found = read(text);
        assert_eq!((found.executions, found.per_second, found.peak_rss_mb), (12_345, 678, 90));
        assert_eq!(read("nothing"), Found::default());
    }

    #[test]
    fn targets_come_from_the_manifest_and_unknown_ones_are_refused() {
        let metadata = project::metadata("fuzz/Cargo.toml").unwrap();
        let all = targets(&metadata).unwrap();
        assert!(all.len() >= 8, "{all:?}");
        assert!(all.iter().any(|target| target.slow) && all.iter().any(|target| !target.slow));
        assert!(all.iter().any(|target| target.needs.is_empty()));
        assert!(all.iter().any(|target| target.needs.contains("node")));
        let one = chosen(all.clone(), &["core_actions".into()]).unwrap();
        assert_eq!(one.len(), 1);
        assert!(chosen(all, &["nothing".into()]).unwrap_err().to_string().contains("core_actions"));
    }

    #[test]
    fn only_files_of_failures_count() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["crash-1", "slow-unit-2", "oom-3", "notes"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(failures(folder.path()).len(), 2);
    }
}
