//! Runs seeds of simulated worlds on all cores and says which broke a promise. Progress goes to stderr, the result to
//! stdout. It judges nothing itself.

use anyhow::{Context, Result};
use clap::Parser;
use peerkeep_sim::{Outcome, QUIET_THREAD, Scenario, run, shrink};
use serde_json::json;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Simulated worlds: each seed decides one.
#[derive(Parser, Clone, Debug)]
struct Args {
    /// Run this one seed, and tell its story.
    #[arg(long, conflicts_with_all = ["seeds", "from", "seconds"])]
    seed: Option<u64>,
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Stop after this many seconds, however many seeds are left.
    #[arg(long)]
    seconds: Option<u64>,
    /// Worlds at the same time; 0 for one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Stop at the first seed that fails.
    #[arg(long)]
    first: bool,
    /// Switch on a deliberately wrong variant of the core.
    #[cfg(feature = "canaries")]
    #[arg(long)]
    canary: Option<String>,
    /// End with one JSON object on one line.
    #[arg(long)]
    json: bool,
}

/// A seed that failed, and how.
struct Failure {
    seed: u64,
    what: String,
    detail: String,
}

#[derive(Default)]
struct Totals {
    seeds: AtomicU64,
    actions: AtomicU64,
    replayed: AtomicU64,
    connected: AtomicU64,
    stop: AtomicBool,
    failures: Mutex<Vec<Failure>>,
}

/// Failures told with their stories; of the rest only the seeds.
const STORIES: usize = 3;
/// How often a log is told how far it is.
const LOG_EVERY: Duration = Duration::from_secs(15);

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    #[cfg(feature = "canaries")]
    if let Some(name) = &args.canary {
        let canary = peerkeep_core::canary::Canary::named(name).context("no canary has that name")?;
        peerkeep_core::canary::set(Some(canary));
    }
    match args.seed {
        Some(seed) => one(seed, args.json),
        None => many(&args),
    }
}

/// On a thread whose panics are caught and told by their seed.
fn quietly<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let thread = std::thread::Builder::new().name(QUIET_THREAD.into()).spawn(work).context("no thread")?;
    thread.join().map_err(|_| anyhow::anyhow!("the run ended by a panic outside the world"))
}

fn one(seed: u64, as_json: bool) -> Result<ExitCode> {
    let outcome = quietly(move || match shrink(&Scenario::of(seed)) {
        Some((scenario, outcome)) => (Some(scenario), outcome),
        None => (None, run(&Scenario::of(seed), true)),
    })?;
    let (scenario, outcome) = outcome;
    tell(seed, scenario.as_ref(), &outcome);
    if as_json {
        let failed: Vec<u64> = outcome.violation.iter().map(|_| seed).collect();
        let object = json!({
            "violations": failed.len(), "seeds": 1, "actions": outcome.actions, "failed_seeds": failed,
        });
        println!("{object}");
    }
    Ok(if outcome.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn tell(seed: u64, scenario: Option<&Scenario>, outcome: &Outcome) {
    println!("seed {seed}:");
    if let Some(scenario) = scenario {
        let nodes: Vec<String> = (0..scenario.nodes.len())
            .filter(|n| !scenario.nodes[*n].is_absent)
            .map(|n| n.to_string())
            .collect();
        println!("made smaller: nodes {}, disturbances:", nodes.join(", "));
        for disturbance in &scenario.disturbances {
            println!("  {:?} at node {}: {:?}", disturbance.at, disturbance.node, disturbance.kind);
        }
    }
    print!("{}", outcome.story);
    match &outcome.violation {
        Some(violation) => {
            println!("BROKEN: {} (nodes {:?}): {}", violation.what, violation.nodes, violation.detail);
            println!("again with: cargo xtask sim --seed {seed}");
        }
        None => println!(
            "every promise held: {} actions, {} pairs connected {:?} after the faults stopped",
            outcome.actions, outcome.pairs, outcome.healed_in
        ),
    }
}

fn many(args: &Args) -> Result<ExitCode> {
    let threads = match args.threads {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        threads => threads,
    };
    let totals = Totals::default();
    let next = AtomicU64::new(args.from);
    let began = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let mut workers = Vec::new();
        for _ in 0..threads {
            let worker = std::thread::Builder::new().name(QUIET_THREAD.into());
            workers
                .push(worker.spawn_scoped(scope, || work(args, &next, &totals, began)).context("no thread")?);
        }
        // A log gets a line now and then, a terminal one line that moves.
        let terminal = std::io::stderr().is_terminal();
        let mut shown = Instant::now();
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(200));
            if terminal || shown.elapsed() >= LOG_EVERY {
                shown = Instant::now();
                progress(args, &totals, began, if terminal { '\r' } else { '\n' });
            }
        }
        Ok(())
    })?;
    eprintln!();
    report(args, &totals, began)
}

fn work(args: &Args, next: &AtomicU64, totals: &Totals, began: Instant) {
    let limit = args.seconds.map(Duration::from_secs);
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let late = limit.is_some_and(|limit| began.elapsed() >= limit);
        if seed >= args.from.saturating_add(args.seeds) || late || totals.stop.load(Ordering::Relaxed) {
            return;
        }
        let outcome = run(&Scenario::of(seed), false);
        totals.seeds.fetch_add(1, Ordering::Relaxed);
        totals.actions.fetch_add(outcome.actions, Ordering::Relaxed);
        totals.replayed.fetch_add(outcome.replayed, Ordering::Relaxed);
        totals.connected.fetch_add(outcome.connected, Ordering::Relaxed);
        if let Some(violation) = outcome.violation {
            if args.first {
                totals.stop.store(true, Ordering::Relaxed);
            }
            eprintln!("seed {seed} failed: {}                                        ", violation.what);
            let failure = Failure { seed, what: violation.what, detail: violation.detail };
            if let Ok(mut failures) = totals.failures.lock() {
                failures.push(failure);
            }
        }
    }
}

fn progress(args: &Args, totals: &Totals, began: Instant, end: char) {
    let (seeds, actions) = (totals.seeds.load(Ordering::Relaxed), totals.actions.load(Ordering::Relaxed));
    let failed = totals.failures.lock().map_or(0, |failures| failures.len());
    let seconds = began.elapsed().as_secs_f64().max(0.001);
    eprint!(
        "sim: {seeds} of {} seeds, {:.1} M actions, {:.2} M a second, {failed} failed   {end}",
        args.seeds,
        actions as f64 / 1e6,
        actions as f64 / 1e6 / seconds
    );
}

fn report(args: &Args, totals: &Totals, began: Instant) -> Result<ExitCode> {
    let seconds = began.elapsed().as_secs_f64().max(0.001);
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (seeds, actions) = (load(&totals.seeds), load(&totals.actions));
    let mut failures = totals.failures.lock().map(|mut list| std::mem::take(&mut *list)).unwrap_or_default();
    failures.sort_by_key(|failure| failure.seed);
    for failure in &failures {
        println!("seed {}: {}: {:.300}", failure.seed, failure.what, failure.detail);
    }
    for failure in failures.iter().take(STORIES) {
        let seed = failure.seed;
        println!();
        match quietly(move || shrink(&Scenario::of(seed)))? {
            Some((scenario, outcome)) => tell(seed, Some(&scenario), &outcome),
            None => println!("seed {seed} failed, and does not fail again: the world is not deterministic"),
        }
    }
    let rate = actions as f64 / seconds;
    println!(
        "sim: {seeds} seeds from {}, {actions} actions in {seconds:.1} s ({rate:.0} a second), {} replayed, \
         {} connections, {} failed",
        args.from,
        load(&totals.replayed),
        load(&totals.connected),
        failures.len()
    );
    if args.json {
        let failed: Vec<u64> = failures.iter().map(|failure| failure.seed).collect();
        let object = json!({
            "violations": failed.len(), "seeds": seeds, "from": args.from, "actions": actions,
            "replayed": load(&totals.replayed), "seconds": seconds,
            "actions_per_second": rate.round(), "failed_seeds": failed,
        });
        println!("{object}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
