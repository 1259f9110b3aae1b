//! What libp2p's connections cost: ours beside the floor (the same cryptography without a manager) and a stock swarm, over TCP
//! and QUIC, in one run on 127.0.0.1. It refuses to be a test: it prints figures and its method, it judges nothing.

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
use contender::Over;

/// Measures handshakes, idle connections, echoes and uploads of libp2p's wire.
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
    #[arg(long, default_value_t = 1_000)]
    idle: usize,
    /// Seconds to wait before idle connections are looked at.
    #[arg(long, default_value_t = 3)]
    settle: u64,
    /// Dials to a first echo per round.
    #[arg(long, default_value_t = 500)]
    firsts: usize,
    /// Echoes on fresh channels per round.
    #[arg(long, default_value_t = 3_000)]
    echoes: usize,
    /// MiB per upload.
    #[arg(long, default_value_t = 512)]
    mib: u64,
    /// Only this transport.
    #[arg(long, value_enum)]
    over: Option<Over>,
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
    /// Whole Peerkeep nodes that keep nothing on disk, on the calling thread as the others.
    Ours,
    /// The same with threads of their own, which is the default of programs.
    Threads,
    /// The same crates on bare connections.
    Floor,
    /// libp2p's swarm.
    Swarm,
}

impl Name {
    /// As the command line spells it.
    pub fn word(self) -> &'static str {
        match self {
            Name::Ours => "ours",
            Name::Threads => "threads",
            Name::Floor => "floor",
            Name::Swarm => "swarm",
        }
    }

    /// Before its keys in the JSON.
    pub fn prefix(self) -> &'static str {
        match self {
            Name::Ours => "",
            Name::Threads => "threads_",
            Name::Floor => "floor_",
            Name::Swarm => "swarm_",
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (over, address, slots) = (args.over.unwrap_or(Over::Tcp), &args.address, args.slots);
    tokio::task::LocalSet::new().block_on(&runtime, async {
        match args.contender {
            Name::Ours => child::run::<ours::Ours<false>>(role, over, address, slots).await,
            Name::Threads => child::run::<ours::Ours<true>>(role, over, address, slots).await,
            Name::Floor => child::run::<floor::Floor>(role, over, address, slots).await,
            Name::Swarm => child::run::<swarm::Rival>(role, over, address, slots).await,
        }
    })
}

fn measure_all(args: &Args) -> Result<()> {
    let names = if args.only.is_empty() { Name::value_variants().to_vec() } else { args.only.clone() };
    let overs = args.over.map_or_else(|| vec![Over::Tcp, Over::Quic], |over| vec![over]);
    let mut figures = Vec::new();
    for over in overs {
        let mut rounds = vec![Vec::new(); names.len()];
        for round in 1..=args.rounds {
            for (name, rounds) in names.iter().zip(&mut rounds) {
                eprintln!("{}: round {round} of {}: {}", over.word(), args.rounds, name.word());
                rounds.push(measure::round(args, *name, over)?);
            }
        }
        let middles = rounds.iter().map(|rounds| measure::middle(rounds));
        figures.push((over, names.iter().copied().zip(middles).collect()));
    }
    println!("{}", if args.json { report::json(args, &figures) } else { report::table(args, &figures) });
    Ok(())
}
