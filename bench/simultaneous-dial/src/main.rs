//! Two processes dial each other at the same instant, again and again: is there exactly one connection each time, the same
//! one on both sides, and was any announced and then withdrawn? It refuses to be a timed test: it counts and prints.

mod child;
mod judge;
mod node;
mod swarm;
mod worker;

use std::{
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use clap::Parser;

use child::Kind;
use judge::{Look, Tally};
use worker::Worker;

/// Lets pairs of nodes in two processes dial each other at the same instant and counts what comes of it.
#[derive(Parser)]
pub struct Args {
    /// End with one JSON object on one line instead of text.
    #[arg(long)]
    json: bool,
    /// Pairs of nodes.
    #[arg(long, default_value_t = 1_000)]
    pairs: usize,
    /// Pairs alive at the same time; their instants are 3 ms apart.
    #[arg(long, default_value_t = 25)]
    group: usize,
    /// How long a pair is watched after both sides are connected, in milliseconds: longer than any hold, turn or goodbye.
    #[arg(long, default_value_t = 3_500)]
    watch_ms: u64,
    /// What one side of each pair is.
    #[arg(long, value_enum, default_value_t = Kind::Mesh)]
    stack: Kind,
    /// What the other side is; the same unless told.
    #[arg(long, value_enum)]
    against: Option<Kind>,
    #[arg(long, hide = true)]
    child: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.child {
        return child::run(args.stack);
    }
    let against = args.against.unwrap_or(args.stack);
    let (mut left, mut right) = (Worker::start(args.stack)?, Worker::start(against)?);
    let mut tally = Tally::default();
    let mut first = 0;
    while first < args.pairs {
        let group = first..(first + args.group.max(1)).min(args.pairs);
        eprintln!("pairs {} to {} of {}", group.start + 1, group.end, args.pairs);
        first = group.end;
        run_group(&args, group, &mut left, &mut right, &mut tally)?;
    }
    println!("{}", if args.json { tally.json(&method(&args)) } else { tally.text(&method(&args)) });
    Ok(())
}

/// Starts the nodes of a group, lets each pair dial, watches, and judges.
fn run_group(
    args: &Args,
    group: std::ops::Range<usize>,
    left: &mut Worker,
    right: &mut Worker,
    tally: &mut Tally,
) -> Result<()> {
    let mut addresses = Vec::new();
    for pair in group.clone() {
        addresses.push((pair, left.ask(&format!("start {pair}"))?, right.ask(&format!("start {pair}"))?));
    }
    let start =
        SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")? + Duration::from_millis(100);
    for (index, (pair, of_left, of_right)) in addresses.iter().enumerate() {
        let at = (start + Duration::from_millis(3 * index as u64)).as_nanos();
        left.ask(&format!("dial {pair} {at} {of_right}"))?;
        right.ask(&format!("dial {pair} {at} {of_left}"))?;
    }
    await_all(&group, left, right, |look| look.announced > 0)?;
    sleep(Duration::from_millis(args.watch_ms));
    for pair in group.clone() {
        left.ask(&format!("say {pair}"))?;
        right.ask(&format!("say {pair}"))?;
    }
    let said = Instant::now();
    await_all(&group, left, right, |look| look.heard > 0)?;
    tally.heard_within(said.elapsed());
    for pair in group {
        let mut looks = Vec::new();
        for worker in [&mut *left, &mut *right] {
            let seen: Look = serde_json::from_str(&worker.ask(&format!("look {pair}"))?)?;
            looks.push(seen);
        }
        if let [left, right] = &looks[..] {
            tally.judge(pair, left, right);
        }
    }
    for (pair, ..) in addresses {
        left.ask(&format!("stop {pair}"))?;
        right.ask(&format!("stop {pair}"))?;
    }
    Ok(())
}

/// Until it holds for every node of the group, or long enough to call it failed.
fn await_all(
    group: &std::ops::Range<usize>,
    left: &mut Worker,
    right: &mut Worker,
    holds: impl Fn(&Look) -> bool,
) -> Result<()> {
    let patience = Instant::now() + Duration::from_secs(20);
    for pair in group.clone() {
        for worker in [&mut *left, &mut *right] {
            loop {
                let seen: Look = serde_json::from_str(&worker.ask(&format!("look {pair}"))?)?;
                if holds(&seen) || Instant::now() > patience {
                    break;
                }
                sleep(Duration::from_millis(10));
            }
        }
    }
    Ok(())
}

fn method(args: &Args) -> String {
    format!(
        "One side {stack}, the other {against}. Two processes, a fresh node in each per pair on 127.0.0.1 with a fresh identity. Both are told an instant of the system's \
         clock and each other's address, and call connect at that instant ({group} pairs alive at a time, instants 3 ms apart). \
         When both sides are connected the pair is watched for {watch} ms more. exactly_one: both nodes list one connection, up. \
         same_on_both_sides: it is dialled on one side and accepted on the other, and a message sent each way over it arrives. \
         slowest_message_ms: until the last of \
         a group's messages had arrived. withdrawn: connections announced as events \
         and not up any more at the end, our sides; foreign_withdrawn: the same of libp2p's swarm, which announces what nobody has \
         proven and is kept from closing idle connections. crossed: pairs in which each side began its dial before it was connected.",
        stack = args.stack.word(),
        against = args.against.unwrap_or(args.stack).word(),
        group = args.group,
        watch = args.watch_ms,
    )
}
