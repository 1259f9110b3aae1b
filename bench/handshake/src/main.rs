//! The processor time of a handshake: our TCP beside rustls alone and our QUIC beside quinn alone, with the same certificates and
//! the same hello bytes, in turns, in one run on 127.0.0.1. It refuses to be a test: it prints figures and its method.

mod child;
mod greeting;
mod ours;
mod quinn_alone;
mod rustls_alone;

use anyhow::{Result, ensure};
use bench_parts::{median, worker::Worker};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use tokio::task::LocalSet;

/// Measures processor time per handshake, both sides.
#[derive(Parser)]
struct Args {
    /// End with one JSON object on one line instead of a table.
    #[arg(long)]
    json: bool,
    /// Rounds; the figures are their medians.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Handshakes per round, contender and kind.
    #[arg(long, default_value_t = 800)]
    handshakes: usize,
    /// How many at once in the second figure.
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// Only this pair: `tcp` or `quic`.
    #[arg(long, value_enum)]
    only: Option<Over>,
    /// Ours on threads of their own, as a node starts by default; else on the caller's thread, as the rivals are.
    #[arg(long)]
    own_threads: bool,
    #[arg(long, hide = true, value_enum)]
    role: Option<Role>,
    #[arg(long, hide = true, value_enum, default_value_t = Name::Rustls)]
    contender: Name,
    #[arg(long, hide = true, default_value = "-")]
    address: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Listen,
    Dial,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Over {
    Tcp,
    Quic,
}

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Name {
    /// Whole nodes over TCP.
    OursTcp,
    /// rustls over TCP.
    Rustls,
    /// Whole nodes over QUIC.
    OursQuic,
    /// quinn.
    Quinn,
}

impl Name {
    fn word(self) -> &'static str {
        match self {
            Name::OursTcp => "ours-tcp",
            Name::Rustls => "rustls",
            Name::OursQuic => "ours-quic",
            Name::Quinn => "quinn",
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let Some(role) = args.role else { return measure(&args) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        match role {
            Role::Listen => child::listen(args.contender, args.own_threads).await,
            Role::Dial => child::dial(args.contender, &args.address, args.at_once, args.own_threads).await,
        }
    })
}

/// A listener and a dialler of one contender, for all rounds.
struct Pair {
    name: Name,
    listener: Worker,
    dialler: Worker,
    met: usize,
    /// Microseconds per handshake: one at a time, and many at once.
    rounds: [Vec<f64>; 2],
    spent: f64,
}

impl Pair {
    fn start(args: &Args, name: Name) -> Result<Pair> {
        let at_once = args.at_once.to_string();
        let mut common = vec!["--contender", name.word(), "--at-once", &at_once];
        common.extend(args.own_threads.then_some("--own-threads"));
        let (listener, address) = Worker::start(&[&["--role", "listen"], &common[..]].concat())?;
        let dial = ["--role", "dial", "--address", &address];
        let (dialler, _) = Worker::start(&[&dial, &common[..]].concat())?;
        let mut pair = Pair { name, listener, dialler, met: 0, rounds: Default::default(), spent: 0.0 };
        // Every thread and every table has been used once before anything counts.
        pair.run(args.at_once * 8, args.at_once)?;
        Ok(pair)
    }

    /// Microseconds of both processes for each of so many.
    fn run(&mut self, count: usize, at_once: usize) -> Result<f64> {
        let dialler: f64 = self.dialler.ask(&format!("{count} {at_once}"))?.parse()?;
        self.met += count / at_once * at_once;
        let listener: f64 = self.listener.ask(&self.met.to_string())?.parse()?;
        let before = std::mem::replace(&mut self.spent, dialler + listener);
        Ok((self.spent - before) / 1e3 / count as f64)
    }
}

#[derive(Clone, Copy, Serialize)]
struct Cost {
    cpu_us: f64,
    cpu_us_many: f64,
}

/// Of each round, because what disturbs a round disturbs both of its halves.
#[derive(Clone, Copy, Serialize)]
struct Ratio {
    one: f64,
    many: f64,
}

fn measure(args: &Args) -> Result<()> {
    ensure!(args.at_once > 0 && args.handshakes >= args.at_once, "--handshakes must not be below --at-once");
    let names = match args.only {
        None => vec![Name::OursTcp, Name::Rustls, Name::OursQuic, Name::Quinn],
        Some(Over::Tcp) => vec![Name::OursTcp, Name::Rustls],
        Some(Over::Quic) => vec![Name::OursQuic, Name::Quinn],
    };
    let mut pairs = names.iter().map(|name| Pair::start(args, *name)).collect::<Result<Vec<_>>>()?;
    let count = args.handshakes / args.at_once * args.at_once;
    for round in 1..=args.rounds {
        for (index, at_once) in [1, args.at_once].into_iter().enumerate() {
            eprint!("round {round} of {}, {at_once} at once:", args.rounds);
            for pair in &mut pairs {
                let cpu_us = pair.run(count, at_once)?;
                eprint!(" {} {cpu_us:.0} us", pair.name.word());
                pair.rounds[index].push(cpu_us);
            }
            eprintln!();
        }
    }
    print(args, &pairs)
}

fn ratio(ours: &Pair, alone: &Pair) -> Ratio {
    let of = |index: usize| {
        let each = ours.rounds[index].iter().zip(&alone.rounds[index]);
        median(each.map(|(ours, alone)| ours / alone).collect())
    };
    Ratio { one: of(0), many: of(1) }
}

fn print(args: &Args, pairs: &[Pair]) -> Result<()> {
    let costs = pairs.iter().map(|pair| Cost {
        cpu_us: median(pair.rounds[0].clone()),
        cpu_us_many: median(pair.rounds[1].clone()),
    });
    let ratios = pairs.chunks_exact(2).map(|two| (two[0].name, ratio(&two[0], &two[1])));
    let hello_bytes = greeting::Frames::new()?.lengths();
    if args.json {
        let mut whole = serde_json::Map::new();
        for (pair, cost) in pairs.iter().zip(costs) {
            whole.insert(pair.name.word().replace('-', "_"), serde_json::to_value(cost)?);
        }
        for (name, ratio) in ratios {
            let key = if name == Name::OursTcp { "ratio_tcp" } else { "ratio_quic" };
            whole.insert(key.to_owned(), serde_json::to_value(ratio)?);
        }
        whole.insert("own_threads".to_owned(), args.own_threads.into());
        whole.insert("at_once".to_owned(), args.at_once.into());
        whole.insert("hello_bytes".to_owned(), hello_bytes.to_vec().into());
        println!("{}", serde_json::Value::Object(whole));
        return Ok(());
    }
    println!("{:<12}{:>16}{:>16}", "CPU us each", "one at a time", format!("{} at once", args.at_once));
    for (pair, cost) in pairs.iter().zip(costs) {
        println!("{:<12}{:>16.0}{:>16.0}", pair.name.word(), cost.cpu_us, cost.cpu_us_many);
    }
    for (name, ratio) in ratios {
        println!("{} against alone: {:.2} and {:.2}", name.word(), ratio.one, ratio.many);
    }
    println!(
        "\nMethod: CPU of both processes from dial to closed, {} handshakes a round, {} rounds in turns; medians, the ratios'\n\
         of the rounds' ratios. Ours: whole nodes without a data folder, connect and disconnect. Alone: the mesh's own TLS\n\
         configurations with Ed25519 certificates on both sides, its hello, answer and confirm ({hello_bytes:?} bytes), one task\n\
         per connection, closed in good order. Children are single-threaded{}.",
        args.handshakes / args.at_once * args.at_once,
        args.rounds,
        if args.own_threads { " beside a node's own threads" } else { ", nodes included" },
    );
    Ok(())
}
