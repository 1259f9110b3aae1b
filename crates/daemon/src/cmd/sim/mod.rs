//! `peerkeep sim`: what a network that somebody plans would do, on this machine and in virtual time. The world and the
//! cores are `peerkeep-sim`'s; here is only how it is asked and shown.

mod plot;

use crate::cli::Shared;
use crate::exit::{Code, Ended, Failure};
use crate::out;
use crate::place::Place;
use crate::settings::{self, Overrides};
use indicatif::{ProgressBar, ProgressStyle};
use peerkeep_core::{Config, PeerKey};
use peerkeep_sim::plan::{Plan, Report, Sample, Split};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Simulate a network before you build it.
///
/// Real connection managers, as many as you say, in a simulated network: loss, nodes that leave and come back, nodes
/// behind routers that let nothing in, a partition. It shows how well they stay connected, and what it costs. One seed
/// decides everything: the same command gives the same result.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep sim
  peerkeep sim --nodes 1000 --minutes 10 --loss 5 --churn 1 --nat 30 --seed 7 --plot out.svg
  peerkeep sim --nodes 200 --partition 3:2         (in two halves from minute 3 on, for 2 minutes)
  peerkeep sim --config peerkeep.toml              (every node with your own settings)

It needs no daemon and no network.")]
pub struct Args {
    /// How many nodes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    nodes: u32,
    /// How long, in simulated minutes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Packets lost, per cent, up to 90.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    loss: f64,
    /// Nodes that leave in a minute, per cent; each comes back after 5 to 65 seconds.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    churn: f64,
    /// Nodes behind routers that let nothing in, per cent.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    nat: u8,
    /// From one node to another, on average, in milliseconds.
    #[arg(long, default_value_t = 30, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    latency: u64,
    /// Cut the network in two halves: at which minute, and for how many.
    #[arg(long, value_name = "AT:MINUTES", value_parser = split)]
    partition: Option<Split>,
    /// Connections each node tries to have [default: as the settings say, 8]
    #[arg(long)]
    target: Option<u16>,
    /// Nodes that all know at the start; the rest they hear of from each other.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    bootstrap: u32,
    /// Decides everything that is left to chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw the curves into this SVG file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

fn split(text: &str) -> Result<Split, String> {
    let minutes = |part: &str| part.parse::<f64>().ok().filter(|minutes| (0.0..=10_080.0).contains(minutes));
    let parsed = text.split_once(':').and_then(|(at, lasts)| Some((minutes(at)?, minutes(lasts)?)));
    let (at, lasts) = parsed.ok_or("write it as 3:2, from minute 3 on and for 2 minutes")?;
    let span = |minutes: f64| Duration::from_secs_f64(minutes * 60.0);
    Ok(Split { at: span(at), lasts: span(lasts), share_percent: 50 })
}

/// Simulates it.
pub fn run(shared: &Shared, args: &Args) -> Ended {
    let plan = Plan {
        nodes: args.nodes,
        duration: Duration::from_secs(args.minutes * 60),
        loss_percent: args.loss,
        churn_percent_per_minute: args.churn,
        nat_percent: args.nat,
        seed: args.seed,
        partition: args.partition,
        target: args.target,
        latency: Duration::from_millis(args.latency),
        config: own_settings(shared)?,
        bootstrap: args.bootstrap,
    };
    let bar = progress(shared, args);
    let began = Instant::now();
    let report = peerkeep_sim::plan::run(&plan, &mut |progress| {
        bar.set_position(u64::try_from(progress.at.as_millis()).unwrap_or(0));
        bar.set_message(format!("{:.1} % connected", progress.connected_share * 100.0));
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
    let took = began.elapsed();
    if let Some(file) = &args.plot {
        plot::draw(file, args, &report).map_err(|error| {
            Failure::failed(format!("cannot draw {}: {error}", file.display()))
                .next("name a file in a folder you may write to")
        })?;
    }
    out::either(shared.json, &Shown::new(args, &report, took), || people(args, &report, took));
    Ok(())
}

/// The user's settings, when a file was named; its identity plays no part.
fn own_settings(shared: &Shared) -> Result<Option<Config>, Failure> {
    if shared.config.is_none() {
        return Ok(None);
    }
    let place = Place::find(shared.data.as_deref(), shared.config.as_deref())?;
    let settings = settings::load(&place, &Overrides::default())?;
    let config = settings.core_config(PeerKey::ed25519([1; 32]), 1);
    config.map(Some).map_err(|error| Failure::new(Code::Config, error.to_string()))
}

fn progress(shared: &Shared, args: &Args) -> ProgressBar {
    if shared.json || !out::watched() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(args.minutes * 60_000);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} % of {prefix}, {msg} ({elapsed})")
    {
        bar.set_style(style);
    }
    bar.set_prefix(format!("{} minutes", args.minutes));
    bar
}

/// What programs read.
#[derive(Serialize)]
struct Shown {
    nodes: u32,
    minutes: u64,
    seed: u64,
    target: u32,
    connected_share: f64,
    reachable_share: f64,
    dials: u64,
    wasted_dials: u64,
    duplicates: u64,
    actions: u64,
    actions_per_node_p50: u64,
    actions_per_node_p99: u64,
    actions_per_node_most: u64,
    bytes: u64,
    time_to_connect_ms: Option<u64>,
    time_to_heal_ms: Option<u64>,
    seconds: f64,
    actions_per_second: f64,
    samples: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    at_ms: u64,
    alive: u32,
    connected_share: f64,
    reachable_share: f64,
    links: u64,
    dials: u64,
    wasted_dials: u64,
}

impl Shown {
    fn new(args: &Args, report: &Report, took: Duration) -> Shown {
        let last = report.samples.last().copied().unwrap_or_default();
        let [p50, p99, most] = report.actions_per_node;
        Shown {
            nodes: args.nodes,
            minutes: args.minutes,
            seed: args.seed,
            target: report.target,
            connected_share: last.connected_share,
            reachable_share: last.reachable_share,
            dials: last.dials,
            wasted_dials: last.wasted,
            duplicates: last.duplicates,
            actions: last.actions,
            actions_per_node_p50: p50,
            actions_per_node_p99: p99,
            actions_per_node_most: most,
            bytes: last.bytes,
            time_to_connect_ms: report.time_to_connect.map(millis),
            time_to_heal_ms: report.time_to_heal.map(millis),
            seconds: took.as_secs_f64(),
            actions_per_second: last.actions as f64 / took.as_secs_f64().max(1e-6),
            samples: report.samples.iter().map(Point::new).collect(),
        }
    }
}

impl Point {
    fn new(sample: &Sample) -> Point {
        Point {
            at_ms: millis(sample.at),
            alive: sample.alive,
            connected_share: sample.connected_share,
            reachable_share: sample.reachable_share,
            links: sample.links,
            dials: sample.dials,
            wasted_dials: sample.wasted,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Rows of the table over time.
const ROWS: usize = 12;

fn people(args: &Args, report: &Report, took: Duration) -> String {
    let mut table = out::table(&[
        "TIME",
        "NODES UP",
        "CONNECTED",
        "IN ONE GROUP",
        "LINKS",
        "DIALS",
        "WASTED",
        "DUPLICATES",
    ]);
    let step = report.samples.len().div_ceil(ROWS).max(1);
    for sample in report.samples.iter().skip(step - 1).step_by(step) {
        table.add_row(vec![
            out::span(sample.at),
            sample.alive.to_string(),
            format!("{:.1} %", sample.connected_share * 100.0),
            format!("{:.1} %", sample.reachable_share * 100.0),
            sample.links.to_string(),
            sample.dials.to_string(),
            sample.wasted.to_string(),
            sample.duplicates.to_string(),
        ]);
    }
    let last = report.samples.last().copied().unwrap_or_default();
    let [p50, p99, most] = report.actions_per_node;
    let never = || "not within this time".to_owned();
    let mut rows = vec![
        ("connections each node wants", report.target.to_string()),
        ("until 99 % of them were there", report.time_to_connect.map_or_else(never, out::span)),
    ];
    if args.partition.is_some() {
        rows.push(("until the halves were one again", report.time_to_heal.map_or_else(never, out::span)));
    }
    let minutes = args.minutes as f64 * f64::from(args.nodes);
    rows.extend([
        ("dials a node and minute", format!("{:.2}", last.dials as f64 / minutes)),
        ("actions per node, p50 / p99 / most", format!("{p50} / {p99} / {most}")),
        ("bytes of our own a node and minute", format!("{:.0}", last.bytes as f64 / minutes)),
        (
            "simulated in",
            format!("{}, {:.0} actions a second", out::span(took), last.actions as f64 / took.as_secs_f64()),
        ),
    ]);
    let drawn = args.plot.as_ref().map_or_else(String::new, |file| format!("\ncurves: {}", file.display()));
    format!("{table}\n\n{}{drawn}", out::facts(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_a_minute_and_a_length() {
        let split = split("3:2.5").expect("good");
        assert_eq!((split.at, split.lasts), (Duration::from_secs(180), Duration::from_secs(150)));
        for bad in ["3", "3:", ":", "a:b", "3:-1", "3:nan", "99999:1"] {
            assert!(super::split(bad).is_err(), "{bad}");
        }
    }
}
