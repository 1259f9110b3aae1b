//! What an action costs the core, with journal encoding and digest on, bans standing and limits counting, at 1,000, 100,000
//! and 1,000,000 known contacts; and how much memory a known contact takes. It refuses to measure a bare reducer.

mod report;
mod world;

use std::{alloc::System, collections::BTreeMap, hint::black_box, time::Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use peerkeep_core::{Action, Core, Effects, Time, journal};
use serde::Serialize;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use world::{Event, World, config};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Measures actions a second, what more known peers cost, and bytes per known peer.
#[derive(Parser)]
struct Args {
    /// End with one JSON object on one line instead of a table.
    #[arg(long)]
    json: bool,
    /// Rounds; the figures are their medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Actions per round.
    #[arg(long, default_value_t = 500_000)]
    actions: usize,
    /// Connections up at any time, at every size.
    #[arg(long, default_value_t = 400)]
    connected: usize,
    /// Leave the journal out, to see its share; never for the figures that count.
    #[arg(long)]
    no_journal: bool,
    /// Numbers of known contacts to measure at.
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000")]
    sizes: Vec<u64>,
}

/// What was found at one size.
#[derive(Serialize)]
struct Size {
    mix: BTreeMap<&'static str, usize>,
    up: usize,
    contacts: u64,
    ns_per_action: f64,
    bytes_per_peer: f64,
    allocations_per_action: f64,
    checkpoint_ms: f64,
    checkpoint_bytes: usize,
}

const SEED: u64 = 0x7065_6572_6b65_6570;

fn main() -> Result<()> {
    let args = Args::parse();
    let mut sizes = Vec::new();
    for contacts in &args.sizes {
        eprintln!("{contacts} contacts");
        sizes.push(measure(&args, *contacts)?);
    }
    println!("{}", if args.json { report::json(&args, &sizes) } else { report::table(&args, &sizes) });
    Ok(())
}

fn measure(args: &Args, contacts: u64) -> Result<Size> {
    let Record { segments, digest, up } = record(args, contacts)?;
    let (mut core, bytes_per_peer) = populated(args, contacts)?;
    let mut effects = Effects::new();
    warm_up(args, contacts, &mut core, &mut effects);
    let mut journal = Vec::with_capacity(SEGMENT_BYTES + 4_096);
    let (mut figures, mut allocations) = (Vec::new(), 0);
    for segment in &segments {
        let region = Region::new(GLOBAL);
        let start = Instant::now();
        for (now, action) in segment {
            if !args.no_journal {
                record_one(&core, *now, action, &mut journal);
            }
            core.step(*now, action, &mut effects);
            effects.clear();
        }
        figures.push(start.elapsed().as_nanos() as f64 / segment.len() as f64);
        allocations += region.change().allocations;
    }
    ensure!(core.digest() == digest, "the same actions led to another digest");
    let start = Instant::now();
    let mut checkpoint = Vec::new();
    journal::begin(&core, 0, &mut checkpoint);
    let checkpoint_ms = start.elapsed().as_secs_f64() * 1e3;
    figures.sort_by(f64::total_cmp);
    Ok(Size {
        mix: mix(&segments),
        up,
        contacts,
        ns_per_action: figures.get(figures.len() / 2).copied().context("no rounds")?,
        bytes_per_peer,
        allocations_per_action: allocations as f64 / (args.actions * args.rounds) as f64,
        checkpoint_ms,
        checkpoint_bytes: checkpoint.len(),
    })
}

/// What the world did.
struct Record {
    segments: Vec<Vec<Event>>,
    digest: u64,
    up: usize,
}

const SEGMENT_BYTES: usize = 1 << 20;

/// What the owner does before every step: the action goes to the journal with the digest so far.
fn record_one(core: &Core, now: Time, action: &Action, journal: &mut Vec<u8>) {
    if journal.len() > SEGMENT_BYTES {
        black_box(&journal);
        journal.clear();
    }
    journal::append(core.digest(), now, action, journal);
}

/// A core that knows `contacts` contacts with two addresses each, and its live bytes for each of them.
fn populated(args: &Args, contacts: u64) -> Result<(Core, f64)> {
    let region = Region::new(GLOBAL);
    let mut effects = Effects::new();
    let now = Time::from_millis(1);
    let mut core = Core::new(config(contacts, args.connected), [7; 32], now)
        .map_err(|error| anyhow!("the configuration: {error:?}"))?;
    for n in 0..contacts {
        core.step(now, &World::introduction(n), &mut effects);
        effects.clear();
    }
    drop(effects);
    let change = region.change();
    let live = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
    Ok((core, live / contacts as f64))
}

/// Runs the world against a core of its own and keeps what happened, so that only the core is timed afterwards.
fn record(args: &Args, contacts: u64) -> Result<Record> {
    let (mut core, _) = populated(args, contacts)?;
    let mut effects = Effects::new();
    let mut world = warm_up(args, contacts, &mut core, &mut effects);
    let mut segments = Vec::new();
    for _ in 0..args.rounds {
        let mut segment = Vec::with_capacity(args.actions);
        for _ in 0..args.actions {
            segment.push(live(&mut world, &mut core, &mut effects));
        }
        segments.push(segment);
    }
    Ok(Record { segments, digest: core.digest(), up: world.up() })
}

/// Sets the bans and lets the world run until connections come and go.
fn warm_up(args: &Args, contacts: u64, core: &mut Core, effects: &mut Effects) -> World {
    for ban in World::bans(contacts) {
        core.step(Time::from_millis(2), &ban, effects);
        effects.clear();
    }
    let mut world = World::new(SEED, contacts, args.connected);
    for _ in 0..args.actions {
        live(&mut world, core, effects);
    }
    world
}

fn live(world: &mut World, core: &mut Core, effects: &mut Effects) -> Event {
    let (now, action) = world.next(core);
    core.step(now, &action, effects);
    world.hear(core, &action, effects);
    effects.clear();
    (now, action)
}

/// How often each kind of action occurs, per mille.
fn mix(segments: &[Vec<Event>]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for (_, action) in segments.iter().flatten() {
        *counts.entry(world::kind(action)).or_insert(0) += 1;
    }
    let whole: usize = segments.iter().map(Vec::len).sum();
    counts.into_iter().map(|(kind, count)| (kind, count * 1_000 / whole.max(1))).collect()
}
