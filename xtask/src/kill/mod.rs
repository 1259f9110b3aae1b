//! `cargo xtask kill`: a real daemon with many peers stored is killed by SIGKILL at random moments while it is given
//! orders, and started again. What it said yes to must be there, its store whole, and its socket must answer in time.
//!
//! Linux only. It judges from outside: files, exit, log and API; it reads no database.

mod daemon;
mod orders;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::{Outcome, project, run};
use daemon::{Daemon, Home};
use orders::Ledger;

/// How often, and from which seed.
#[derive(clap::Args)]
pub struct Options {
    /// How many kills.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// Decides the orders and the moments; the clock draws one that is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Peers in the store before the first kill.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    peers: u32,
    /// The daemon's program; the released one is built when none is named.
    #[arg(long)]
    program: Option<PathBuf>,
    /// End with one JSON object on one line.
    #[arg(long)]
    pub json: bool,
}

/// The longest start that passes.
const READY_MS: u64 = 1_000;
/// A kill while orders are given comes at most so long after the first yes.
const WHILE_ORDERED: Duration = Duration::from_millis(400);
/// Of so many kills one comes before the daemon is ready.
const EARLY: u64 = 8;
/// The longest list that a configuration may hold.
const LIST: usize = 10_000;

/// What came of all of it.
#[derive(Default)]
struct Tally {
    kills: u32,
    early: u32,
    corrupt: u32,
    lost: u64,
    ready_ms: Vec<u64>,
    cpu_ms: Vec<u64>,
    stored: u64,
    troubles: Vec<String>,
}

/// Kills as often as asked.
pub fn run(options: &Options) -> Result<Outcome> {
    let seed = match options.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    println!("kill: seed {seed}, {} peers, {} kills", options.peers, options.times);
    let program = match &options.program {
        Some(program) => program.clone(),
        None => build()?,
    };
    let home = Home::new(program, options.peers)?;
    let tally = kill_all(&home, options, seed)?;
    Ok(report(&tally, options, seed))
}

/// The released daemon, built if it is not there.
fn build() -> Result<PathBuf> {
    let build = ["build", "--release", "--package", "peerkeep-daemon", "--bin", "peerkeep"];
    run::status(run::cargo().args(build))?;
    Ok(project::target()?.join("release/peerkeep"))
}

fn kill_all(home: &Home, options: &Options, seed: u64) -> Result<Tally> {
    let mut random = Random(seed);
    let mut ledger = Ledger::new();
    let mut tally = Tally::default();
    fill(home, options.peers)?;
    let bar = progress(options.times);
    while tally.kills < options.times {
        if tally.kills > 0 && random.below(EARLY) == 0 {
            kill_early(home, &mut random, &mut tally)?;
        } else {
            kill_while_ordered(home, &mut random, &mut ledger, &mut tally)?;
        }
        tally.kills += 1;
        bar.inc(1);
        // A log gets a line now and then, not a moving one.
        if bar.is_hidden() && tally.kills % 100 == 0 {
            println!("kill: {} of {}", tally.kills, options.times);
        }
    }
    // The last kill is judged, too.
    let daemon = begin(home, &mut tally)?;
    judge(&daemon, &mut ledger, home, &mut tally)?;
    bar.finish_and_clear();
    daemon.stop()?;
    println!("kill: {} orders were answered with yes", ledger.acknowledged());
    Ok(tally)
}

/// Starts that read peers from their configuration, store them and end in good order.
fn fill(home: &Home, peers: u32) -> Result<()> {
    println!("kill: storing {peers} peers");
    for from in (0..peers).step_by(LIST) {
        let to = from.saturating_add(u32::try_from(LIST)?).min(peers);
        home.configure(from..to)?;
        home.start(Duration::from_secs(600))?.stop()?;
    }
    home.configure(0..0)
}

/// A start that has to succeed within a time far longer than the one it is judged by.
fn begin(home: &Home, tally: &mut Tally) -> Result<Daemon> {
    match home.start(Duration::from_secs(60)) {
        Ok(daemon) => {
            tally.ready_ms.push(millis(daemon.ready_after));
            tally.cpu_ms.push(daemon.cpu_ms);
            Ok(daemon)
        }
        Err(error) => bail!("after {} kills the daemon did not start: {error:#}", tally.kills),
    }
}

fn kill_while_ordered(
    home: &Home,
    random: &mut Random,
    ledger: &mut Ledger,
    tally: &mut Tally,
) -> Result<()> {
    let mut daemon = begin(home, tally)?;
    judge(&daemon, ledger, home, tally)?;
    let after = Duration::from_micros(random.below(micros(WHILE_ORDERED)));
    ledger.order_until_killed(&mut daemon, random, after)?;
    Ok(())
}

/// Somewhere in a start: while the store is read, repaired or written for the first time.
fn kill_early(home: &Home, random: &mut Random, tally: &mut Tally) -> Result<()> {
    let usual = tally.ready_ms.last().copied().unwrap_or(READY_MS);
    let after = Duration::from_micros(random.below(usual.max(1) * 1_000));
    let mut child = home.spawn()?;
    let until = Instant::now() + after;
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    child.kill().context("SIGKILL")?;
    child.wait()?;
    tally.early += 1;
    Ok(())
}

/// What is there against what was promised.
fn judge(daemon: &Daemon, ledger: &mut Ledger, home: &Home, tally: &mut Tally) -> Result<()> {
    let missing = ledger.compare(daemon)?;
    for what in &missing {
        tally.troubles.push(format!("after kill {}: {what}", tally.kills));
    }
    tally.lost += missing.len() as u64;
    tally.stored = daemon.known()?;
    let short = u64::from(home.peers).saturating_sub(tally.stored);
    if short > 0 {
        tally.troubles.push(format!("after kill {}: {short} peers are gone", tally.kills));
        tally.lost += short;
    }
    for what in home.signs_of_damage()? {
        tally.troubles.push(format!("after kill {}: {what}", tally.kills));
        tally.corrupt += 1;
    }
    Ok(())
}

fn report(tally: &Tally, options: &Options, seed: u64) -> Outcome {
    let ready = sorted(&tally.ready_ms);
    let (p50, p99, max) = (share(&ready, 50), share(&ready, 99), share(&ready, 100));
    let passed = tally.corrupt == 0 && tally.lost == 0 && max <= READY_MS;
    let known: BTreeSet<&String> = tally.troubles.iter().collect();
    let mut text = String::new();
    for trouble in known.iter().take(20) {
        let _ = writeln!(text, "kill: {trouble}");
    }
    print!("{text}");
    println!(
        "kill: {} kills, {} of them during a start: {} corrupt, {} lost; ready after {p50} ms, p99 {p99} ms, at most \
         {max} ms, with {} peers stored: {}",
        tally.kills,
        tally.early,
        tally.corrupt,
        tally.lost,
        tally.stored,
        if passed { "passed" } else { "FAILED" }
    );
    let json = json!({
        "times": tally.kills,
        "during_start": tally.early,
        "seed": seed,
        "corrupt": tally.corrupt,
        "lost": tally.lost,
        "ready_ms_p50": p50,
        "ready_ms_p99": p99,
        "ready_ms_max": max,
        "ready_cpu_ms_p50": share(&sorted(&tally.cpu_ms), 50),
        "stored_peers": tally.stored,
        "peers": options.peers,
        "passed": passed,
    });
    Outcome { passed, json: Some(json) }
}

fn progress(times: u32) -> ProgressBar {
    if run::plain() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(times.into());
    let style = ProgressStyle::with_template("kill: [{bar:40}] {pos}/{len} {elapsed} (left {eta})");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar
}

fn sorted(all: &[u64]) -> Vec<u64> {
    let mut all = all.to_vec();
    all.sort_unstable();
    all
}

/// The smallest value that so many in a hundred do not exceed.
fn share(sorted: &[u64], percent: usize) -> u64 {
    let place = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(place - 1).copied().unwrap_or(0)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A sequence that its seed decides (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// Whether a file of that name tells of a store that was put aside.
fn is_put_aside(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(".corrupt-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_values_that_were_measured() {
        let all = sorted(&[5, 1, 3, 2, 4]);
        assert_eq!((share(&all, 50), share(&all, 99), share(&all, 100)), (3, 5, 5));
        assert_eq!(share(&[], 99), 0);
    }

    #[test]
    fn a_loss_damage_or_a_slow_start_fails() {
        let options = Options { times: 1, seed: Some(1), peers: 1, program: None, json: true };
        let good = || Tally { kills: 1, ready_ms: vec![READY_MS], stored: 1, ..Tally::default() };
        assert!(report(&good(), &options, 1).passed);
        assert!(!report(&Tally { lost: 1, ..good() }, &options, 1).passed);
        assert!(!report(&Tally { corrupt: 1, ..good() }, &options, 1).passed);
        assert!(!report(&Tally { ready_ms: vec![READY_MS + 1], ..good() }, &options, 1).passed);
    }

    #[test]
    fn one_seed_is_one_sequence() {
        let all = |seed| {
            let mut random = Random(seed);
            [random.next(), random.next()]
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        assert!(
            is_put_aside(Path::new("/x/peerkeep.db.corrupt-17"))
                && !is_put_aside(Path::new("/x/peerkeep.db"))
        );
    }
}
