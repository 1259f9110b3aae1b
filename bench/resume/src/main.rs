//! When application data can leave on a QUIC connection to a peer met before, with and without early data, over a link
//! with delay. Whole nodes, one run for both. It refuses to be a test: it prints figures and its method.

mod way;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use peerkeep::{ListenAddress, Node, Outcome, PeerAddress, PeerId, Settings, Standing};
use serde_json::{Value, json};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Measures when application data leaves and arrives on a resumed QUIC connection.
#[derive(Debug, Parser)]
struct Args {
    /// End with one JSON object on one line instead of a table
    #[arg(long)]
    json: bool,
    /// Delay of the link in each direction; a round trip is twice that
    #[arg(long, default_value_t = 50)]
    delay_ms: u64,
    /// Connections of each kind; the figures are medians
    #[arg(long, default_value_t = 11)]
    rounds: usize,
}

const METHOD: &str = "Two nodes in one process, joined over QUIC by a relay in user space that holds each UDP packet for \
     the delay. They connect and part once, so that the dialler has a ticket where early data is on; then each round: \
     `connect`, the time until it says connected (application data may leave), one message at once, the time until the \
     other node's application has it, and a parting. Both kinds in one run; medians.";

const WAIT: Duration = Duration::from_secs(30);

struct Figures {
    ready_ms: f64,
    arrived_ms: f64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let args = Args::parse();
    let delay = Duration::from_millis(args.delay_ms);
    let plain = measure(delay, args.rounds, false).await.context("without early data")?;
    let early = measure(delay, args.rounds, true).await.context("with early data")?;
    let trip = 2.0 * delay.as_secs_f64() * 1_000.0;
    if args.json {
        let one = |figures: &Figures| -> Value {
            json!({
                "data_leaves_ms": round(figures.ready_ms),
                "data_leaves_round_trips": round(figures.ready_ms / trip),
                "data_arrives_ms": round(figures.arrived_ms),
            })
        };
        let object = json!({
            "delay_ms": args.delay_ms,
            "round_trip_ms": trip,
            "link": "a UDP relay in user space",
            "resumed": one(&early),
            "full": one(&plain),
            "round_trips_resumed": (early.ready_ms / trip).round(),
            "round_trips_full": (plain.ready_ms / trip).round(),
            "method": METHOD,
        });
        println!("{object}");
        return Ok(());
    }
    println!("{METHOD}\n\nround trip {trip:.0} ms     data leaves   round trips   data arrives");
    for (name, figures) in [("resumed, early data", &early), ("full handshake", &plain)] {
        let (ready, arrived) = (figures.ready_ms, figures.arrived_ms);
        println!("{name:<22} {ready:>9.1} ms {:>13.2} {arrived:>11.1} ms", ready / trip);
    }
    Ok(())
}

async fn measure(delay: Duration, rounds: usize, early: bool) -> Result<Figures> {
    // A port that is free now; the way has to be known before the node that announces it.
    let to = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let way = way::open(to, delay).await?;
    let listener = start(Some(to), Some(way), early).await?;
    let dialler = start(None, None, early).await?;
    let address: PeerAddress =
        format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{}", way.port(), listener.id()).parse()?;
    let mut messages = listener.messages("resume")?;
    let (mut ready, mut arrived) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let begin = Instant::now();
        let outcome = dialler.connect(address.clone(), WAIT).await?;
        let up = begin.elapsed();
        ensure!(matches!(outcome, Outcome::Connected { already: false, .. }), "{outcome:?}");
        dialler.send(listener.id(), "resume", "data".into()).await?;
        let message = tokio::time::timeout(WAIT, messages.next()).await?.context("the listener stopped")?;
        ensure!(message.peer == dialler.id(), "a message of somebody else");
        // The first is where the ticket comes from.
        if round > 0 {
            ready.push(up.as_secs_f64() * 1_000.0);
            arrived.push(begin.elapsed().as_secs_f64() * 1_000.0);
        }
        dialler.disconnect(listener.id()).await?;
        apart(&dialler, listener.id()).await?;
        apart(&listener, dialler.id()).await?;
    }
    dialler.shutdown().await;
    listener.shutdown().await;
    Ok(Figures { ready_ms: median(ready), arrived_ms: median(arrived) })
}

async fn start(listen: Option<SocketAddr>, announce: Option<SocketAddr>, early: bool) -> Result<Node> {
    let mut settings = Settings::default();
    settings.listen.addresses = listen.map(ListenAddress::quic).into_iter().collect();
    settings.listen.announce = announce.map(ListenAddress::quic).into_iter().collect();
    settings.quic.early_data = early;
    settings.peers.target = 0;
    Ok(Node::builder().config(settings).start().await?)
}

async fn apart(node: &Node, peer: PeerId) -> Result<()> {
    let begin = Instant::now();
    while node.peer(peer).await.is_some_and(|peer| peer.standing == Standing::Connected) {
        if begin.elapsed() > WAIT {
            bail!("they do not part");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
