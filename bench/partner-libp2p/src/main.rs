//! A stock rust-libp2p node that tests start: it listens, dials, pings and echoes, as told by lines. The protocol of lines,
//! the same as the js-libp2p partner's, is in interop/README.md. It measures nothing and refuses to outlive its standard
//! input.

mod node;
mod streams;

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, stdin},
    time::timeout,
};

use node::Partner;

/// A stock rust-libp2p node for tests.
#[derive(Parser)]
struct Args {
    /// Listen on this TCP port of 127.0.0.1; 0 is any.
    #[arg(long)]
    tcp: Option<u16>,
    /// Listen on this UDP port of 127.0.0.1 for QUIC; 0 is any.
    #[arg(long)]
    quic: Option<u16>,
    /// An Ed25519 identity made of this number, the same at every start.
    #[arg(long)]
    seed: Option<u64>,
    /// The kind of a fresh identity.
    #[arg(long, value_enum, default_value_t = Kind::Ed25519)]
    key: Kind,
    /// What it offers over TCP.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Security::Noise, Security::Tls])]
    security: Vec<Security>,
    /// Show addresses that name another peer.
    #[arg(long)]
    wrong_identity: bool,
    /// Seconds until the swarm closes a connection without streams; its own default is 10.
    #[arg(long)]
    idle: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Ed25519,
    Secp256k1,
    Ecdsa,
}

/// What secures a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Security {
    /// Noise XX.
    Noise,
    /// TLS 1.3.
    Tls,
}

impl std::fmt::Display for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Security::Noise { "noise" } else { "tls" })
    }
}

/// Prints one event.
pub fn say(event: &str, mut rest: Value) {
    if let Some(fields) = rest.as_object_mut() {
        fields.insert("event".to_owned(), event.into());
    }
    println!("{rest}");
}

/// Longer than any listener takes to come up.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ran = runtime.block_on(run(&args));
    // The thread that waits for standard input cannot be told to stop waiting.
    runtime.shutdown_background();
    ran
}

async fn run(args: &Args) -> Result<()> {
    let key = identity(args)?;
    let shown = match args.wrong_identity {
        true => Keypair::generate_ed25519().public().to_peer_id(),
        false => key.public().to_peer_id(),
    };
    let mut partner = Partner::new(key, &args.security, args.idle.map(Duration::from_secs))?;
    let wanted = [
        args.tcp.map(|port| Multiaddr::from(Ipv4Addr::LOCALHOST).with(Protocol::Tcp(port))),
        args.quic.map(|port| {
            Multiaddr::from(Ipv4Addr::LOCALHOST).with(Protocol::Udp(port)).with(Protocol::QuicV1)
        }),
    ];
    let addrs = timeout(PATIENCE, partner.listen(wanted.into_iter().flatten())).await??;
    ready(shown, addrs);
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            () = partner.progress() => {}
            line = lines.next_line() => match line? {
                Some(line) if line.trim() != "quit" => partner.obey(&line),
                _ => return Ok(()),
            },
        }
    }
}

fn ready(peer: PeerId, addrs: Vec<Multiaddr>) {
    let addrs: Vec<String> =
        addrs.into_iter().map(|addr| addr.with(Protocol::P2p(peer)).to_string()).collect();
    let pid = std::process::id();
    say("ready", json!({ "partner": "rust-libp2p", "pid": pid, "peer": peer.to_string(), "addrs": addrs }));
}

fn identity(args: &Args) -> Result<Keypair> {
    if let Some(seed) = args.seed {
        ensure!(args.key == Kind::Ed25519, "--seed makes an Ed25519 identity");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        return Ok(Keypair::ed25519_from_bytes(bytes)?);
    }
    Ok(match args.key {
        Kind::Ed25519 => Keypair::generate_ed25519(),
        Kind::Secp256k1 => Keypair::generate_secp256k1(),
        Kind::Ecdsa => Keypair::generate_ecdsa(),
    })
}
