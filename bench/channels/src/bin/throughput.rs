//! Bulk throughput of one and ten channels beside TLS over TCP alone and libp2p's swarm, in turns, in one run on 127.0.0.1. It
//! refuses to be a test: it prints figures and its method.

use std::time::Instant;

use anyhow::Result;
use bench_channels::{Name, duty};
use bench_parts::{
    cost, median,
    worker::{Worker, orders, say},
};
use clap::{Parser, ValueEnum};
use futures::future::try_join_all;

/// Measures bulk throughput.
#[derive(Parser)]
struct Args {
    /// End with one JSON object on one line instead of a table.
    #[arg(long)]
    json: bool,
    /// Rounds; the figures are their medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// MiB per round and contender.
    #[arg(long, default_value_t = 512)]
    mib: u64,
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
    Send,
}

/// Channels at once in the second figure.
const MANY: u64 = 10;
const NAMES: [Name; 3] = [Name::Ours, Name::Raw, Name::Swarm];

fn main() -> Result<()> {
    let args = Args::parse();
    let Some(role) = args.role else { return measure(&args) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Serve => args.contender.serve(true, say).await,
            Role::Send => send(&args).await,
        }
    })
}

async fn send(args: &Args) -> Result<()> {
    let client = args.contender.connect(true, &args.address).await?;
    let mut lines = orders();
    say("ready")?;
    while let Some(line) = lines.recv().await {
        let channels: u64 = line.parse()?;
        let total = args.mib * 1_024 * 1_024;
        let mut streams = try_join_all((0..channels).map(|_| client.open())).await?;
        let begun = Instant::now();
        try_join_all(streams.iter_mut().map(|stream| duty::fill(&mut **stream, total / channels))).await?;
        say(&begun.elapsed().as_secs_f64().to_string())?;
    }
    Ok(())
}

/// MiB a second, and seconds of processor time per GiB of both sides.
#[derive(Clone, Copy, serde::Serialize)]
struct Pace {
    mib_per_second: f64,
    cpu_seconds_per_gib: f64,
}

struct Pair {
    server: Worker,
    client: Worker,
    rounds: [Vec<Pace>; 2],
}

impl Pair {
    fn start(args: &Args, name: Name) -> Result<Pair> {
        let (server, address) = Worker::start(&["--role", "serve", "--contender", name.word()])?;
        let mib = args.mib.to_string();
        let common = ["--contender", name.word(), "--address", &address, "--mib", &mib];
        let (client, _) = Worker::start(&[&["--role", "send"], &common[..]].concat())?;
        Ok(Pair { server, client, rounds: [Vec::new(), Vec::new()] })
    }

    fn spent(&self) -> Result<f64> {
        let both = cost::processor(self.server.pid())? + cost::processor(self.client.pid())?;
        Ok(both.as_secs_f64())
    }

    fn run(&mut self, args: &Args, channels: u64) -> Result<Pace> {
        let before = self.spent()?;
        let seconds: f64 = self.client.ask(&channels.to_string())?.parse()?;
        let cpu = self.spent()? - before;
        let mib = args.mib as f64;
        Ok(Pace { mib_per_second: mib / seconds, cpu_seconds_per_gib: cpu * 1_024.0 / mib })
    }
}

fn measure(args: &Args) -> Result<()> {
    let mut pairs = NAMES.map(|name| Pair::start(args, name)).into_iter().collect::<Result<Vec<_>>>()?;
    for round in 0..=args.rounds {
        for (name, pair) in NAMES.iter().zip(&mut pairs) {
            eprintln!("round {round} of {} (0 warms up): {}", args.rounds, name.word());
            for (index, channels) in [1, MANY].into_iter().enumerate() {
                let pace = pair.run(args, channels)?;
                if round > 0 {
                    pair.rounds[index].push(pace);
                }
            }
        }
    }
    let middle = |rounds: &[Pace]| Pace {
        mib_per_second: median(rounds.iter().map(|pace| pace.mib_per_second).collect()),
        cpu_seconds_per_gib: median(rounds.iter().map(|pace| pace.cpu_seconds_per_gib).collect()),
    };
    let figures: Vec<[Pace; 2]> =
        pairs.iter().map(|pair| [middle(&pair.rounds[0]), middle(&pair.rounds[1])]).collect();
    let (ours, raw, swarm) = (figures[0], figures[1], figures[2]);
    let ratio = |index: usize| ours[index].mib_per_second / raw[0].mib_per_second;
    if args.json {
        let each = |pace: [Pace; 2]| serde_json::json!({ "one": pace[0], "ten": pace[1] });
        let all = serde_json::json!({
            "ours": each(ours), "raw": each(raw), "swarm": each(swarm),
            "ratio_one": ratio(0), "ratio_ten": ratio(1),
        });
        println!("{all}");
        return Ok(());
    }
    println!("{:<8}{:>16}{:>16}{:>20}", "", "1 channel, MiB/s", "10, MiB/s", "CPU s/GiB, 1 and 10");
    for (name, pace) in NAMES.iter().zip(&figures) {
        println!(
            "{:<8}{:>16.0}{:>16.0}{:>12.2}{:>8.2}",
            name.word(),
            pace[0].mib_per_second,
            pace[1].mib_per_second,
            pace[0].cpu_seconds_per_gib,
            pace[1].cpu_seconds_per_gib
        );
    }
    println!("against one raw TLS stream: one channel {:.2}, ten {:.2}", ratio(0), ratio(1));
    println!(
        "\nMethod: {} MiB in writes of 64 KiB to a sink that says when it has everything; {} rounds in turns, medians.\n\
         Raw is TLS over TCP alone, a connection for each stream. Each side is a process of its own.",
        args.mib, args.rounds
    );
    Ok(())
}
