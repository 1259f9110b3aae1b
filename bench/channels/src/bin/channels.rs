//! The time of a 32-byte echo on a fresh channel: ours beside libp2p's swarm, in turns, in one run on 127.0.0.1. It refuses to
//! be a test: it prints figures and its method.

use std::time::Instant;

use anyhow::Result;
use bench_channels::{Name, duty};
use bench_parts::{
    cost, median, quantile,
    worker::{Worker, orders, say},
};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::task::LocalSet;

/// Measures echoes on fresh channels.
#[derive(Parser)]
struct Args {
    /// End with one JSON object on one line instead of a table.
    #[arg(long)]
    json: bool,
    /// Rounds; the figures are their medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Echoes per round and contender.
    #[arg(long, default_value_t = 3_000)]
    echoes: usize,
    /// Ours on threads of their own, as a node starts by default; else on the caller's thread, as the swarm is.
    #[arg(long)]
    own_threads: bool,
    #[arg(long, hide = true)]
    role: Option<Role>,
    #[arg(long, hide = true, value_enum, default_value_t = Name::Ours)]
    contender: Name,
    #[arg(long, hide = true, default_value = "-")]
    address: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Serve,
    Ask,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Round {
    p50_us: f64,
    p99_us: f64,
    /// Of the asking process, per echo.
    cpu_us: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let Some(role) = args.role else { return measure(&args) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        match role {
            Role::Serve => args.contender.serve(args.own_threads, say).await,
            Role::Ask => ask(&args).await,
        }
    })
}

async fn ask(args: &Args) -> Result<()> {
    let client = args.contender.connect(args.own_threads, &args.address).await?;
    let mut lines = orders();
    say("ready")?;
    while let Some(line) = lines.recv().await {
        let count: usize = line.parse()?;
        let (mut times, before) = (Vec::with_capacity(count), cost::own_cpu_ns());
        for _ in 0..count {
            let begun = Instant::now();
            let mut stream = client.open().await?;
            duty::echo(&mut *stream).await?;
            times.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        let cpu_us = (cost::own_cpu_ns() - before) as f64 / 1e3 / count.max(1) as f64;
        let round = Round { p50_us: median(times.clone()), p99_us: quantile(times, 0.99), cpu_us };
        say(&serde_json::to_string(&round)?)?;
    }
    Ok(())
}

fn measure(args: &Args) -> Result<()> {
    let names = [Name::Ours, Name::OursWaiting, Name::Swarm];
    let (mut pairs, mut rounds) = (Vec::new(), [const { Vec::new() }; 3]);
    for name in names {
        let mut common = vec!["--contender", name.word()];
        common.extend(args.own_threads.then_some("--own-threads"));
        let (server, address) = Worker::start(&[&["--role", "serve"], &common[..]].concat())?;
        let (mut client, _) =
            Worker::start(&[&["--role", "ask", "--address", &address], &common[..]].concat())?;
        client.ask("200")?;
        pairs.push((server, client));
    }
    for round in 1..=args.rounds {
        for ((name, (_, client)), rounds) in names.iter().zip(&mut pairs).zip(&mut rounds) {
            eprintln!("round {round} of {}: {}", args.rounds, name.word());
            rounds.push(serde_json::from_str::<Round>(&client.ask(&args.echoes.to_string())?)?);
        }
    }
    let middle = |rounds: &[Round]| Round {
        p50_us: median(rounds.iter().map(|round| round.p50_us).collect()),
        p99_us: median(rounds.iter().map(|round| round.p99_us).collect()),
        cpu_us: median(rounds.iter().map(|round| round.cpu_us).collect()),
    };
    let [ours, waiting, swarm] = rounds.map(|rounds| middle(&rounds));
    let (ratio, ratio_waiting) = (ours.p50_us / swarm.p50_us, waiting.p50_us / swarm.p50_us);
    if args.json {
        let all = serde_json::json!({
            "ours": ours, "ours_waiting": waiting, "swarm": swarm,
            "own_threads": args.own_threads, "p50_ratio": ratio, "p50_ratio_waiting": ratio_waiting,
        });
        println!("{all}");
        return Ok(());
    }
    println!("{:<14}{:>12}{:>12}{:>22}", "", "p50, us", "p99, us", "client CPU, us/echo");
    for (name, round) in [("ours", ours), ("ours-waiting", waiting), ("swarm", swarm)] {
        println!("{name:<14}{:>12.0}{:>12.0}{:>22.0}", round.p50_us, round.p99_us, round.cpu_us);
    }
    println!("ratio of the p50s: {ratio:.2}, waiting {ratio_waiting:.2}");
    println!(
        "\nMethod: on a connection that is up, open a channel, write 32 bytes, read them back, drop the channel; {} times a\n\
         round, {} rounds in turns, medians of rounds. Each side is a process of its own. Ours opens at once, so the name\n\
         leaves with the bytes; waiting, it has the other side's word first. The swarm negotiates as it does by default.\n\
         It runs on the asking thread; ours {}.",
        args.echoes,
        args.rounds,
        if args.own_threads { "on a thread of its own" } else { "does, too" },
    );
    Ok(())
}
