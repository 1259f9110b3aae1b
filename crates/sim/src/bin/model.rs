//! Runs the model checker over its setups, or those whose name contains a word: progress on stderr, then a table, and
//! with `--json` one object on the last line. It judges nothing itself.

use peerkeep_sim::model::{Limits, Report, Setup, full, quick, run};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "peerkeep-model [--quick] [--only WORD] [--list] [--json] [--threads N] [--canary NAME]";

#[derive(Default)]
struct Args {
    quick: bool,
    list: bool,
    json: bool,
    only: Option<String>,
    canary: Option<String>,
    threads: Option<usize>,
}

fn parse() -> Option<Args> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => args.quick = true,
            "--list" => args.list = true,
            "--json" => args.json = true,
            "--only" => args.only = Some(words.next()?),
            "--canary" => args.canary = Some(words.next()?),
            "--threads" => args.threads = Some(words.next()?.parse().ok().filter(|threads| *threads > 0)?),
            _ => return None,
        }
    }
    Some(args)
}

fn main() -> ExitCode {
    let Some(args) = parse() else {
        eprintln!("usage: {USAGE}");
        return ExitCode::from(2);
    };
    if let Some(why) = args.canary.as_deref().and_then(set_canary) {
        eprintln!("model: {why}");
        return ExitCode::from(2);
    }
    let mut setups = if args.quick { quick() } else { full() };
    setups.retain(|setup| args.only.as_ref().is_none_or(|word| setup.name.contains(word.as_str())));
    if args.list {
        setups.iter().for_each(|setup| println!("{}", setup.name));
        return ExitCode::SUCCESS;
    }
    let mut limits = Limits::default();
    limits.threads = args.threads.unwrap_or(limits.threads);
    let began = Instant::now();
    println!(
        "{:<42} {:>10} {:>10} {:>6} {:>8} {:>8} {:>8}  result",
        "setup", "states", "unique", "depth", "seconds", "cpu s", "peak MB"
    );
    let mut runs = Vec::new();
    for setup in setups {
        let (report, cost) = one(setup, limits);
        line(&report, &cost);
        runs.push((report, cost));
        if args.canary.is_some() && runs.iter().any(|(report, _)| !report.violations.is_empty()) {
            break;
        }
    }
    let passed = !runs.is_empty() && runs.iter().all(|(report, _)| report.passed());
    if args.json {
        println!("{}", summary(&runs, began.elapsed(), passed));
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "canaries")]
fn set_canary(name: &str) -> Option<String> {
    let Some(canary) = peerkeep_core::canary::Canary::named(name) else {
        return Some(format!("no canary is called {name}"));
    };
    peerkeep_core::canary::set(Some(canary));
    None
}

#[cfg(not(feature = "canaries"))]
fn set_canary(_: &str) -> Option<String> {
    Some("built without the feature canaries".into())
}

/// What a run has cost besides time.
struct Cost {
    cpu_seconds: f64,
    peak_mb: u64,
}

fn one(setup: Setup, limits: Limits) -> (Report, Cost) {
    reset_peak();
    let cpu = cpu_seconds();
    let (name, began) = (setup.name, Instant::now());
    let (mut last, terminal) = (began, std::io::stderr().is_terminal());
    let report = run(setup, limits, |states, unique| {
        if terminal && last.elapsed() >= Duration::from_secs(1) {
            last = Instant::now();
            eprint!("\r{name}: {states} states, {unique} different, {} s ", began.elapsed().as_secs());
            let _ = std::io::stderr().flush();
        }
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    (report, Cost { cpu_seconds: cpu_seconds() - cpu, peak_mb: peak_mb() })
}

fn line(report: &Report, cost: &Cost) {
    let result = match () {
        () if !report.violations.is_empty() => "VIOLATED".to_owned(),
        () if !report.finished => "UNFINISHED".to_owned(),
        () if !report.unreached.is_empty() => format!("EMPTY: never {}", report.unreached.join(", ")),
        () => "holds".to_owned(),
    };
    let Report { name, states, unique, depth, took, .. } = report;
    let (seconds, Cost { cpu_seconds, peak_mb }) = (took.as_secs_f64(), cost);
    println!(
        "{name:<42} {states:>10} {unique:>10} {depth:>6} {seconds:>8.1} {cpu_seconds:>8.1} {peak_mb:>8}  {result}"
    );
    for broken in &report.violations {
        println!("  {}:", broken.promise);
        broken.story.iter().for_each(|step| println!("    {step}"));
    }
}

fn summary(runs: &[(Report, Cost)], took: Duration, passed: bool) -> Value {
    let violations: usize = runs.iter().map(|(report, _)| report.violations.len()).sum();
    let states: usize = runs.iter().map(|(report, _)| report.unique).sum();
    let run = |(report, cost): &(Report, Cost)| {
        json!({
            "name": report.name,
            "states": report.unique,
            "transitions": report.states,
            "depth": report.depth,
            "seconds": report.took.as_secs_f64(),
            "cpu_seconds": cost.cpu_seconds,
            "peak_mb": cost.peak_mb,
            "finished": report.finished,
            "violations": report.violations.iter().map(|broken| broken.promise).collect::<Vec<_>>(),
            "unreached": report.unreached,
        })
    };
    json!({
        "states": states,
        "seconds": took.as_secs_f64(),
        "violations": violations,
        "passed": passed,
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
    })
}

/// Lets the kernel count this process's peak anew, where it does so at all.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The peak since then in megabytes; 0 where the system does not tell.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) / 1_024
}

/// Processor time of this process so far, all threads; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    // User and system time, in hundredths of a second.
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
