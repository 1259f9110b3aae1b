//! Whether a node leaks: a hundred thousand connects and disconnects between whole nodes, with memory and descriptors of both
//! sides looked at on the way. It refuses to be a test: it prints figures and its method.

#[path = "../cycle.rs"]
mod cycle;

use std::time::Instant;

use anyhow::{Context, Error, Result, bail};
use bench_parts::{
    cost,
    node::{self, Folder},
    worker::{Worker, orders, say},
};
use clap::{Parser, ValueEnum};
use futures::future::try_join_all;
use serde::Serialize;

use cycle::{Cycler, rest};

/// Connects and disconnects many times and looks at what stays behind.
#[derive(Parser)]
struct Args {
    /// End with one JSON object on one line instead of a table.
    #[arg(long)]
    json: bool,
    /// Cycles in all.
    #[arg(long, default_value_t = 100_000)]
    cycles: usize,
    /// Dialling nodes that take turns.
    #[arg(long, default_value_t = 16)]
    nodes: usize,
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

/// Looks on the way.
const LOOKS: usize = 10;

#[derive(Clone, Copy, Serialize)]
struct Look {
    cycles: usize,
    listener_kib: f64,
    dialler_kib: f64,
    listener_descriptors: usize,
    dialler_descriptors: usize,
}

#[derive(Serialize)]
struct Figures {
    cycles: usize,
    per_second: f64,
    /// From the first look, after a tenth of the cycles, to the last.
    listener_growth_kib: f64,
    dialler_growth_kib: f64,
    listener_bytes_per_cycle: f64,
    descriptor_growth: i64,
    looks: Vec<Look>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let Some(role) = args.role else { return measure(&args) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Listen => listen().await,
            Role::Dial => dial(&args.address, args.nodes).await,
        }
    })
}

async fn listen() -> Result<()> {
    let folders = [Folder::new()?, Folder::new()?];
    let tcp = node::start(node::roomy([node::tcp()]), Some(folders[0].path())).await?;
    let quic = node::start(node::roomy([node::quic()]), Some(folders[1].path())).await?;
    say(&format!("{} {}", node::address(&tcp)?, node::address(&quic)?))?;
    let mut lines = orders();
    while lines.recv().await.is_some() {
        rest(&[&tcp, &quic]).await.map_err(Error::msg)?;
        say("rests")?;
    }
    Ok(())
}

async fn dial(addresses: &str, count: usize) -> Result<()> {
    let mut cyclers = Vec::new();
    for address in addresses.split(' ').cycle().take(count) {
        let node = node::start(node::roomy([]), None).await?;
        cyclers.push(Cycler::new(node, address.parse()?).context("an address without an identity")?);
    }
    let mut lines = orders();
    say("ready")?;
    while let Some(line) = lines.recv().await {
        let cycles: usize = line.parse()?;
        try_join_all(cyclers.iter_mut().map(|cycler| cycler.run(cycles))).await.map_err(Error::msg)?;
        say("done")?;
    }
    Ok(())
}

fn measure(args: &Args) -> Result<()> {
    let (mut listener, address) = Worker::start(&["--role", "listen"])?;
    let nodes = args.nodes.to_string();
    let (mut dialler, _) = Worker::start(&["--role", "dial", "--address", &address, "--nodes", &nodes])?;
    let each = (args.cycles / LOOKS / args.nodes).max(1);
    let (mut looks, begun) = (Vec::new(), Instant::now());
    for number in 1..=LOOKS {
        dialler.ask(&each.to_string())?;
        listener.ask("rest")?;
        let look = Look {
            cycles: number * each * args.nodes,
            listener_kib: cost::resident_kib(listener.pid())?,
            dialler_kib: cost::resident_kib(dialler.pid())?,
            listener_descriptors: cost::descriptors(listener.pid())?,
            dialler_descriptors: cost::descriptors(dialler.pid())?,
        };
        eprintln!(
            "{} cycles: listener {:.0} KiB and {} descriptors, diallers {:.0} KiB and {}",
            look.cycles,
            look.listener_kib,
            look.listener_descriptors,
            look.dialler_kib,
            look.dialler_descriptors
        );
        looks.push(look);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (Some(first), Some(last)) = (looks.first().copied(), looks.last().copied()) else { bail!("no look") };
    let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let grown = last.listener_kib - first.listener_kib;
    let figures = Figures {
        cycles: last.cycles,
        per_second: last.cycles as f64 / seconds,
        listener_growth_kib: grown,
        dialler_growth_kib: last.dialler_kib - first.dialler_kib,
        listener_bytes_per_cycle: grown * 1_024.0 / (last.cycles - first.cycles).max(1) as f64,
        descriptor_growth: signed(last.listener_descriptors) + signed(last.dialler_descriptors)
            - signed(first.listener_descriptors)
            - signed(first.dialler_descriptors),
        looks,
    };
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    println!("cycles                  {} at {:.0} a second", figures.cycles, figures.per_second);
    println!(
        "listener grew by        {:.0} KiB, {:.2} bytes a cycle",
        grown, figures.listener_bytes_per_cycle
    );
    println!("diallers grew by        {:.0} KiB", figures.dialler_growth_kib);
    println!("descriptors grew by     {}", figures.descriptor_growth);
    println!(
        "\nMethod: {} whole nodes in one process dial two whole nodes with data folders in another, half over TCP and half\n\
         over QUIC; each waits until it is connected, disconnects, and waits until that is over. Growth is counted from\n\
         the first of {LOOKS} looks.",
        args.nodes
    );
    Ok(())
}
