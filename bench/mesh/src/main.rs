//! What a handshake and an idle connection cost: the mesh beside the floor (the same cryptography without a manager) and a
//! stock libp2p swarm, in one run on 127.0.0.1. It refuses to be a test: it prints figures and its method, it judges nothing.

mod child;
mod contender;
mod floor;
mod measure;
mod ours;
mod report;
mod swarm;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use child::Role;
use measure::Figures;

/// Measures CPU per handshake, KiB per idle connection and idle CPU of the mesh, the floor and the swarm.
#[derive(Parser)]
pub struct Args {
    /// End with one JSON object on one line instead of a table.
    #[arg(long)]
    json: bool,
    /// Rounds; the figures are their medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Handshakes per round and kind.
    #[arg(long, default_value_t = 2_000)]
    handshakes: usize,
    /// Idle connections held for the memory figure.
    #[arg(long, default_value_t = 2_000)]
    idle: usize,
    /// Seconds to wait before idle connections are looked at.
    #[arg(long, default_value_t = 3)]
    settle: u64,
    /// Seconds over which the CPU of idle peers is taken.
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
    /// Worker threads of the floor's and the swarm's processes; 0 is one thread for everything.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Only these contenders.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Name>,
    #[arg(long, hide = true)]
    role: Option<Role>,
    #[arg(long, hide = true, value_enum, default_value_t = Name::Floor)]
    contender: Name,
    #[arg(long, hide = true, default_value = "-")]
    address: String,
    #[arg(long, hide = true, default_value_t = 1)]
    slots: usize,
}

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Name {
    /// The mesh: whole nodes that keep nothing on disk.
    Ours,
    /// The mesh: whole nodes with store and journal.
    OursOnDisk,
    /// TLS, hello bytes and Yamux without a manager.
    Floor,
    /// libp2p's swarm.
    Swarm,
}

impl Name {
    /// As the command line and the JSON spell it.
    pub fn word(self) -> &'static str {
        match self {
            Name::Ours => "ours",
            Name::OursOnDisk => "ours-on-disk",
            Name::Floor => "floor",
            Name::Swarm => "swarm",
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.role {
        Some(role) => play(&args, role),
        None => measure_all(&args),
    }
}

fn play(args: &Args, role: Role) -> Result<()> {
    let runtime = match args.threads {
        0 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        threads => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?
        }
    };
    runtime.block_on(async {
        match args.contender {
            Name::Ours => child::run::<ours::Ours>(role, &args.address, args.slots).await,
            Name::OursOnDisk => child::run::<ours::OursOnDisk>(role, &args.address, args.slots).await,
            Name::Floor => child::run::<floor::Floor>(role, &args.address, args.slots).await,
            Name::Swarm => child::run::<swarm::Rival>(role, &args.address, args.slots).await,
        }
    })
}

fn measure_all(args: &Args) -> Result<()> {
    let names = if args.only.is_empty() { Name::value_variants().to_vec() } else { args.only.clone() };
    let mut rounds: Vec<Vec<[f64; 4]>> = vec![Vec::new(); names.len()];
    for round in 1..=args.rounds {
        for (name, rounds) in names.iter().zip(&mut rounds) {
            eprintln!("round {round} of {}: {}", args.rounds, name.word());
            let one = measure::handshakes(args, *name, args.handshakes, 1)?;
            let many = measure::handshakes(args, *name, args.handshakes / 16 * 16, 16)?;
            let memory = measure::idle_memory(args, *name, args.idle)?;
            rounds.push([one.cpu_us, many.cpu_us, many.per_second, memory]);
        }
    }
    eprintln!("{} s with 100 idle peers each", args.idle_seconds);
    let idle = measure::idle_cpu(args, &names, 100)?;
    let mut figures = Vec::new();
    for ((name, rounds), cpu_percent_100_idle) in names.iter().zip(&rounds).zip(idle) {
        let middle = |index: usize| bench_parts::median(rounds.iter().map(|round| round[index]).collect());
        let figure = Figures {
            cpu_us_per_handshake: middle(0),
            cpu_us_per_handshake_16: middle(1),
            handshakes_per_second_16: middle(2),
            kib_per_idle_connection: middle(3),
            cpu_percent_100_idle,
        };
        figures.push((*name, figure));
    }
    println!("{}", if args.json { report::json(args, &figures)? } else { report::table(args, &figures) });
    Ok(())
}
