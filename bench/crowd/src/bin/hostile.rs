//! What honest peers notice while a hundred times as many hostile ones attack a node at its production limits: silent ones, slow
//! ones, ones that send junk, and ones that connect and hang up. It refuses to be a test: it prints figures and its method.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bench_parts::{
    cost, median, node, quantile,
    worker::{Worker, orders, say},
};
use clap::{Parser, ValueEnum};
use peerkeep::{Channel, Node, PeerAddress, Settings};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream, UdpSocket},
    time::{sleep, timeout},
};

/// Pings honest peers, quiet and under attack.
#[derive(Parser)]
struct Args {
    /// End with one JSON object on one line instead of a table.
    #[arg(long)]
    json: bool,
    /// Hostile peers for each honest one.
    #[arg(long, default_value_t = 100)]
    ratio: usize,
    /// Honest peers.
    #[arg(long, default_value_t = 4)]
    honest: usize,
    /// Rounds; the pings' figures are medians of them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a round, quiet and under attack each.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// What a hostile peer waits before it comes again, milliseconds.
    #[arg(long, default_value_t = 100)]
    pause_ms: u64,
    #[arg(long, hide = true)]
    role: Option<Role>,
    #[arg(long, hide = true, default_value = "-")]
    address: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Listen,
    Honest,
    Hostile,
}

const ECHO: &str = "/bench/echo/1";
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two pings of one honest peer.
const PING_EVERY: Duration = Duration::from_millis(20);
/// What a handshake that is not over may cost at most: TLS and hello buffers and the task, KiB.
const KIB_PER_HANDSHAKE: f64 = 64.0;

#[derive(Serialize)]
struct Figures {
    ratio: usize,
    honest_ping_p99_us_quiet: f64,
    honest_ping_p99_us_attacked: f64,
    p99_ratio: f64,
    honest_lost: u64,
    refusals_per_second: f64,
    memory_quiet_kib: f64,
    memory_peak_kib: f64,
    memory_cap_kib: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let Some(role) = args.role else { return measure(&args) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Listen => listen().await,
            Role::Honest => honest(&args).await,
            Role::Hostile => hostile(&args).await,
        }
    })
}

async fn listen() -> Result<()> {
    let mut settings = Settings::default();
    settings.listen.addresses = vec![node::tcp(), node::quic()];
    let node = node::start(settings, None).await?;
    let mut incoming = node.accept(ECHO)?;
    tokio::spawn(async move {
        while let Some((_, channel)) = incoming.next().await {
            tokio::spawn(echo(channel));
        }
    });
    say(&node::all_addresses(&node)?)?;
    let mut lines = orders();
    while lines.recv().await.is_some() {
        let status = node.status().await.context("the node stopped")?;
        say(&serde_json::to_string(&status)?)?;
    }
    Ok(())
}

async fn echo(mut channel: Channel) {
    let mut bytes = [0; 32];
    while channel.read_exact(&mut bytes).await.is_ok() {
        if channel.write_all(&bytes).await.is_err() || channel.flush().await.is_err() {
            return;
        }
    }
}

async fn honest(args: &Args) -> Result<()> {
    let (tcp, _) = args.address.split_once(' ').context("two addresses")?;
    let address: PeerAddress = tcp.parse()?;
    let mut peers = Vec::new();
    for _ in 0..args.honest {
        let node = node::start(node::roomy([]), None).await?;
        node.connect(address.clone(), PATIENCE).await?;
        let channel = node.open(address.id.context("no identity")?, ECHO).await?;
        peers.push((node, channel));
    }
    let mut lines = orders();
    say("ready")?;
    while let Some(line) = lines.recv().await {
        let span = Duration::from_secs(line.parse()?);
        let pings = peers.iter_mut().map(|(node, channel)| ping(node, channel, span));
        let (mut all, mut lost) = (Vec::new(), 0);
        for (times, failed) in futures::future::join_all(pings).await {
            all.extend(times);
            lost += failed;
        }
        say(&serde_json::to_string(&(quantile(all, 0.99), lost))?)?;
    }
    Ok(())
}

/// Round trips in microseconds, and how many did not come back.
async fn ping(_alive: &Node, channel: &mut Channel, span: Duration) -> (Vec<f64>, u64) {
    let (mut times, mut lost, until) = (Vec::new(), 0, Instant::now() + span);
    while Instant::now() < until {
        let sent = Instant::now();
        let mut bytes = [7; 32];
        let trip = async {
            channel.write_all(&bytes).await?;
            channel.flush().await?;
            channel.read_exact(&mut bytes).await
        };
        match timeout(PATIENCE, trip).await {
            Ok(Ok(_)) => times.push(sent.elapsed().as_secs_f64() * 1e6),
            _ => lost += 1,
        }
        sleep(PING_EVERY).await;
    }
    (times, lost)
}

async fn hostile(args: &Args) -> Result<()> {
    let (tcp, udp) = args.address.split_once(' ').context("two addresses")?;
    let (tcp, udp, pause) = (socket(tcp)?, socket(udp)?, Duration::from_millis(args.pause_ms));
    let count = args.ratio * args.honest;
    for number in 0..count {
        tokio::spawn(attack(number, tcp, udp, pause));
    }
    say("attacking")?;
    let mut lines = orders();
    while lines.recv().await.is_some() {
        say("attacking")?;
    }
    Ok(())
}

fn socket(address: &str) -> Result<SocketAddr> {
    let address: PeerAddress = address.parse()?;
    let Some(peerkeep::Place::Ip(addr)) = address.place else { anyhow::bail!("an address without a socket") };
    Ok(addr.socket())
}

/// One hostile peer, from a /24 of its own, for ever.
async fn attack(number: usize, target: SocketAddr, udp: SocketAddr, pause: Duration) {
    let [high, low] = u16::try_from(number + 256).unwrap_or(u16::MAX).to_be_bytes();
    let source = SocketAddr::from((Ipv4Addr::new(127, high, low, 1), 0));
    loop {
        // Whatever the node does to it, it comes again.
        let _ = match number % 5 {
            0 => silent(connect(source, target)).await,
            1 => slow(connect(source, target)).await,
            2 => junk(connect(source, target)).await,
            3 => connect(source, target).await.map(drop),
            _ => packets(source, udp).await,
        };
        sleep(pause).await;
    }
}

async fn connect(source: SocketAddr, target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(source)?;
    socket.connect(target).await
}

async fn silent(stream: impl Future<Output = std::io::Result<TcpStream>>) -> std::io::Result<()> {
    let mut stream = stream.await?;
    stream.read(&mut [0; 64]).await.map(drop)
}

/// The first bytes of a TLS hello that promises 512 of them, ten a second.
async fn slow(stream: impl Future<Output = std::io::Result<TcpStream>>) -> std::io::Result<()> {
    let mut stream = stream.await?;
    for byte in [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc].into_iter().chain(std::iter::repeat_n(3, 500)) {
        stream.write_all(&[byte]).await?;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect()
}

async fn junk(stream: impl Future<Output = std::io::Result<TcpStream>>) -> std::io::Result<()> {
    let mut stream = stream.await?;
    stream.write_all(&noise(4_096)).await?;
    stream.read(&mut [0; 64]).await.map(drop)
}

/// A burst of what begins like a QUIC client's first packet and goes on as junk.
async fn packets(source: SocketAddr, target: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind(source).await?;
    let mut packet = noise(1_200);
    packet[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
    packet[14] = 0;
    for number in 0..8 {
        packet[6] = number;
        socket.send_to(&packet, target).await?;
    }
    Ok(())
}

fn measure(args: &Args) -> Result<()> {
    ensure!(args.ratio > 0 && args.honest > 0, "--ratio and --honest must be above 0");
    let (mut listener, addresses) = Worker::start(&["--role", "listen"])?;
    let number = |count: usize| count.to_string();
    let (ratio, honest, pause) = (number(args.ratio), number(args.honest), args.pause_ms.to_string());
    let common = ["--address", &addresses, "--ratio", &ratio, "--honest", &honest, "--pause-ms", &pause];
    let (mut friends, _) = Worker::start(&[&["--role", "honest"], &common[..]].concat())?;
    let seconds = args.seconds.to_string();
    let (mut quiet, mut attacked, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lost, mut refused, mut quiet_kib, mut peak_kib) = (0, 0.0, 0.0_f64, 0.0_f64);
    for round in 1..=args.rounds {
        eprint!("round {round} of {}: {seconds} s quiet,", args.rounds);
        let (before, failed): (f64, u64) = serde_json::from_str(&friends.ask(&seconds)?)?;
        lost += failed;
        if round == 1 {
            quiet_kib = cost::resident_kib(listener.pid())?;
        }
        let refused_before = refusals(&mut listener)?;
        let begun = Instant::now();
        let (_enemies, _) = Worker::start(&[&["--role", "hostile"], &common[..]].concat())?;
        friends.tell(&seconds)?;
        while begun.elapsed() < Duration::from_secs(args.seconds) {
            std::thread::sleep(Duration::from_millis(200));
            peak_kib = peak_kib.max(cost::resident_kib(listener.pid())?);
        }
        let (after, failed): (f64, u64) = serde_json::from_str(&friends.answer()?)?;
        lost += failed;
        refused += refusals(&mut listener)? - refused_before;
        eprintln!(" then attacked: p99 {before:.0} and {after:.0} us, {peak_kib:.0} KiB at most");
        (quiet.push(before), attacked.push(after), ratios.push(after / before));
    }
    let limits = Settings::default().limits;
    let crowd = f64::from(limits.pending) + f64::from(limits.courtesy);
    let figures = Figures {
        ratio: args.ratio,
        honest_ping_p99_us_quiet: median(quiet),
        honest_ping_p99_us_attacked: median(attacked),
        p99_ratio: median(ratios),
        honest_lost: lost,
        refusals_per_second: refused / (args.seconds * args.rounds as u64) as f64,
        memory_quiet_kib: quiet_kib,
        memory_peak_kib: peak_kib,
        memory_cap_kib: quiet_kib + crowd * KIB_PER_HANDSHAKE,
    };
    print(args, &figures)
}

/// Arrivals and hellos that the listener has refused.
fn refusals(listener: &mut Worker) -> Result<f64> {
    let status: serde_json::Value = serde_json::from_str(&listener.ask("status")?)?;
    Ok(status.pointer("/totals/refused").and_then(serde_json::Value::as_f64).unwrap_or(0.0))
}

fn print(args: &Args, figures: &Figures) -> Result<()> {
    if args.json {
        println!("{}", serde_json::to_string(figures)?);
        return Ok(());
    }
    println!("honest ping p99, quiet          {:.0} us", figures.honest_ping_p99_us_quiet);
    println!("honest ping p99, attacked       {:.0} us", figures.honest_ping_p99_us_attacked);
    println!("ratio                           {:.2}", figures.p99_ratio);
    println!("honest pings lost               {}", figures.honest_lost);
    println!("refusals a second               {:.0}", figures.refusals_per_second);
    println!(
        "listener's memory, KiB          {:.0} quiet, {:.0} at most, cap {:.0}",
        figures.memory_quiet_kib, figures.memory_peak_kib, figures.memory_cap_kib
    );
    println!(
        "\nMethod: {} honest nodes hold a channel to a node at its production limits and echo 32 bytes every 20 ms, {} s\n\
         without and {} s with {} hostile peers, {} rounds in turns, medians. Each enemy is in a /24 of its own on\n\
         loopback: a fifth connect and say nothing, a fifth send a byte of a TLS hello every 100 ms, a fifth send 4 KiB\n\
         of junk, a fifth hang up at once, a fifth send eight junk packets to the QUIC port; each comes again {} ms after\n\
         it was done or thrown out. The cap is the quiet memory and {KIB_PER_HANDSHAKE} KiB for each handshake and courtesy\n\
         slot the limits allow.",
        args.honest,
        args.seconds,
        args.seconds,
        args.ratio * args.honest,
        args.rounds,
        args.pause_ms
    );
    Ok(())
}
