//! How many connections one process holds, what each costs while idle, and how much of a core a crowd takes: a whole node on
//! one side, bare mesh links on the other, TCP and QUIC mixed, on 127.0.0.1. It refuses to be a test: it prints figures and
//! its method.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bench_parts::{
    cost,
    lean::{Lean, LeanLink},
    node,
    worker::{Worker, orders, say},
};
use clap::{Parser, ValueEnum};
use futures::future::try_join_all;
use peerkeep::Node;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// Holds many idle connections in one process and takes their cost.
#[derive(Parser)]
struct Args {
    /// End with one JSON object on one line instead of a table.
    #[arg(long)]
    json: bool,
    /// Connections to hold.
    #[arg(long, default_value_t = 18_000)]
    connections: usize,
    /// Of a hundred, how many over QUIC.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    quic_percent: u8,
    /// Descriptors that the holding process may have.
    #[arg(long, default_value_t = 20_000)]
    descriptors: u64,
    /// With how many of the connections the processor time is taken.
    #[arg(long, default_value_t = 10_000)]
    idle_at: usize,
    /// Seconds over which it is taken.
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
    #[arg(long, hide = true)]
    role: Option<Role>,
    #[arg(long, hide = true, default_value = "-")]
    address: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Listen,
    Dial,
}

/// What one dialling process holds at most.
const PER_DIALLER: usize = 6_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let args = Args::parse();
    let Some(role) = args.role else { return measure(&args) };
    limit_descriptors(args.descriptors)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Listen => listen().await,
            Role::Dial => dial(&args.address).await,
        }
    })
}

fn limit_descriptors(wanted: u64) -> Result<()> {
    let hard = getrlimit(Resource::Nofile).maximum;
    let maximum = Some(hard.map_or(wanted, |hard| hard.max(wanted)));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
        .with_context(|| format!("{wanted} descriptors are more than this system allows ({hard:?})"))
}

async fn listen() -> Result<()> {
    let node = node::start(node::roomy([node::tcp(), node::quic()]), None).await?;
    say(&node::all_addresses(&node)?)?;
    let mut lines = orders();
    while let Some(line) = lines.recv().await {
        let count = line.parse().context("a number of connections")?;
        settle(&node, count).await?;
        say("settled")?;
    }
    Ok(())
}

/// Waits until exactly that many are up.
async fn settle(node: &Node, count: usize) -> Result<()> {
    let wait = async {
        while node.connection_count() != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.with_context(|| format!("{} of {count} connections are up", node.connection_count()))
}

async fn dial(address: &str) -> Result<()> {
    let lean = Lean::start(&address.parse()?)?;
    let mut held: Vec<LeanLink> = Vec::new();
    let mut lines = orders();
    say("ready")?;
    while let Some(line) = lines.recv().await {
        let count: usize = line.parse()?;
        // Eight at a time: a crowd of unfinished handshakes would leave the listener a larger heap than it then needs.
        while held.len() < count {
            let crowd = (count - held.len()).min(8);
            held.extend(try_join_all((0..crowd).map(|_| lean.open())).await?);
        }
        say("held")?;
    }
    Ok(())
}

/// The connections over one transport: as many diallers as they need, and what they cost the listener.
struct Side {
    name: &'static str,
    address: String,
    diallers: Vec<Worker>,
    held: usize,
    /// Connections that the growth is counted over: all but the first.
    counted: usize,
    grown_kib: f64,
    seconds: f64,
}

impl Side {
    fn new(name: &'static str, address: &str) -> Side {
        let address = address.to_owned();
        Side { name, address, diallers: Vec::new(), held: 0, counted: 0, grown_kib: 0.0, seconds: 0.0 }
    }

    /// Dials until `to` are held.
    fn grow(&mut self, to: usize, descriptors: u64) -> Result<()> {
        let began = Instant::now();
        let limit = descriptors.to_string();
        while self.held < to {
            if self.held == self.diallers.len() * PER_DIALLER {
                let args = ["--role", "dial", "--address", &self.address, "--descriptors", &limit];
                self.diallers.push(Worker::start(&args)?.0);
            }
            let before = (self.diallers.len() - 1) * PER_DIALLER;
            let step = (self.held + 500).min(to).min(before + PER_DIALLER);
            self.diallers.last_mut().context("no dialler")?.ask(&(step - before).to_string())?;
            self.held = step;
            eprintln!("{} of {to} over {}", self.held, self.name);
        }
        self.seconds += began.elapsed().as_secs_f64();
        Ok(())
    }

    fn kib_each(&self) -> Option<f64> {
        (self.counted > 0).then(|| self.grown_kib / self.counted as f64)
    }
}

struct Crowd {
    listener: Worker,
    sides: [Side; 2],
    descriptors: u64,
}

impl Crowd {
    fn start(args: &Args) -> Result<Crowd> {
        let descriptors = args.descriptors.to_string();
        let (listener, addresses) = Worker::start(&["--role", "listen", "--descriptors", &descriptors])?;
        let (tcp, quic) = addresses.split_once(' ').context("two addresses")?;
        ensure!(tcp.contains("/tcp/") && quic.contains("/quic-v1"), "{addresses}");
        let sides = [Side::new("TCP", tcp), Side::new("QUIC", quic)];
        Ok(Crowd { listener, sides, descriptors: args.descriptors })
    }

    /// Holds that many of each, and notes what the listener grew by.
    fn grow(&mut self, to: [usize; 2]) -> Result<()> {
        for (index, to) in to.into_iter().enumerate() {
            let (before, had) = (cost::resident_kib(self.listener.pid())?, self.sides[index].held);
            self.sides[index].grow(to, self.descriptors)?;
            self.check()?;
            // Whatever the handshakes left to do is neither memory of idle connections nor idling.
            sleep(Duration::from_secs(3));
            let grown = cost::resident_kib(self.listener.pid())? - before;
            let side = &mut self.sides[index];
            if had > 0 {
                side.counted += side.held - had;
                side.grown_kib += grown;
            }
        }
        self.check()
    }

    fn held(&self) -> usize {
        self.sides.iter().map(|side| side.held).sum()
    }

    /// The listener must count what the diallers hold.
    fn check(&mut self) -> Result<()> {
        let held = self.held();
        self.listener.ask(&held.to_string()).map(drop)
    }
}

#[derive(Serialize)]
struct Figures {
    connections: usize,
    connections_tcp: usize,
    connections_quic: usize,
    kib_per_idle_connection: Each,
    cpu_percent_idle: f64,
    cpu_percent_taken_at: usize,
    descriptors: usize,
    descriptors_allowed: u64,
    handshakes_per_second: Each,
}

#[derive(Serialize)]
struct Each {
    tcp: Option<f64>,
    quic: Option<f64>,
}

fn measure(args: &Args) -> Result<()> {
    ensure!(args.connections >= 32, "--connections must not be below 32");
    let share = |all: usize| {
        let quic = all * usize::from(args.quic_percent) / 100;
        [all - quic, quic]
    };
    let mut crowd = Crowd::start(args)?;
    let pid = crowd.listener.pid();
    // The first ones touch the code and the tables, whose memory is the process's and not a connection's.
    crowd.grow(share(16))?;
    let middle = args.idle_at.clamp(16, args.connections);
    crowd.grow(share(middle))?;
    eprintln!("{} s of idling with {middle} connections", args.idle_seconds);
    let before = cost::processor(pid)?;
    sleep(Duration::from_secs(args.idle_seconds));
    let spent = cost::processor(pid)?.saturating_sub(before);
    crowd.check()?;
    crowd.grow(share(args.connections))?;
    if crowd.held() != args.connections {
        bail!("{} of {} connections are held", crowd.held(), args.connections);
    }
    let [tcp, quic] = &crowd.sides;
    let pace = |side: &Side| (side.held > 0).then(|| side.held as f64 / side.seconds);
    let figures = Figures {
        connections: crowd.held(),
        connections_tcp: tcp.held,
        connections_quic: quic.held,
        kib_per_idle_connection: Each { tcp: tcp.kib_each(), quic: quic.kib_each() },
        cpu_percent_idle: 100.0 * spent.as_secs_f64() / args.idle_seconds as f64,
        cpu_percent_taken_at: middle,
        descriptors: cost::descriptors(pid)?,
        descriptors_allowed: args.descriptors,
        handshakes_per_second: Each { tcp: pace(tcp), quic: pace(quic) },
    };
    print(args, &figures)
}

fn print(args: &Args, figures: &Figures) -> Result<()> {
    if args.json {
        println!("{}", serde_json::to_string(figures)?);
        return Ok(());
    }
    let each = |each: &Each| {
        let show = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.1}"));
        format!("TCP {}, QUIC {}", show(each.tcp), show(each.quic))
    };
    println!(
        "connections held by one process   {} (TCP {}, QUIC {})",
        figures.connections, figures.connections_tcp, figures.connections_quic
    );
    println!("KiB per idle connection           {}", each(&figures.kib_per_idle_connection));
    println!(
        "CPU, per cent of a core           {:.2} at {}",
        figures.cpu_percent_idle, figures.cpu_percent_taken_at
    );
    println!("descriptors                       {} of {}", figures.descriptors, figures.descriptors_allowed);
    println!("handshakes a second, 8 at once    {}", each(&figures.handshakes_per_second));
    println!(
        "\nMethod: a whole node without a data folder listens on 127.0.0.1; other processes hold bare mesh links, an\n\
         identity each. Memory is what the listener's resident set grew by for each but the first connections, three\n\
         seconds after the last of them; processor time is the listener's over {} s without traffic but the\n\
         liveness probes, that is, of its threads and of nobody else.",
        args.idle_seconds
    );
    Ok(())
}
