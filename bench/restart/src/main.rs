//! How soon a wanted js-libp2p node is connected again after each of its restarts. It starts the partner itself, kills it,
//! and starts it again on the same port with the same identity; Peerkeep is told nothing.

use anyhow::{Context, Result, bail};
use clap::Parser;
use peerkeep::{EventKind, EventStream, Node, PeerAddress, Settings, Stack};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// How soon a wanted js-libp2p node is connected again after each of its restarts
#[derive(Debug, Parser)]
struct Args {
    /// End with one JSON object on one line instead of a table
    #[arg(long)]
    json: bool,
    /// For how long the partner is restarted again and again, in seconds
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Seconds between two restarts
    #[arg(long, default_value_t = 20)]
    every: u64,
    /// The partner's program; `cargo xtask interop js-libp2p` installs it there
    #[arg(long, default_value = "target/interop-js-libp2p/partner.mjs")]
    partner: PathBuf,
}

const METHOD: &str = "A node with default settings and libp2p.enabled wants a js-libp2p listener (TCP, Noise, Yamux) by its \
     address. The listener is killed and started again at once, on the same port with the same identity. From the line in \
     which it says that it listens to our `connected` event, by this process's clock; negative would be before.";

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut settings = Settings::default();
    settings.listen.addresses.clear();
    settings.libp2p.enabled = true;
    settings.libp2p.listen.clear();
    let node = Node::builder().config(settings).start().await?;
    let mut events = node.events();
    let mut partner = Partner::start(&args, 0)?;
    let address: PeerAddress = partner.address.parse().context("the partner's address")?;
    let port = partner.port()?;
    node.want(PeerAddress { stack: Some(Stack::Libp2p), ..address }).await?;
    connected(&mut events).await?;
    let (began, mut waits_ms) = (Instant::now(), Vec::new());
    while began.elapsed() < Duration::from_secs(args.seconds) {
        tokio::time::sleep(Duration::from_secs(args.every)).await;
        partner.kill()?;
        partner = tokio::task::block_in_place(|| Partner::start(&args, port))?;
        connected(&mut events).await?;
        let wait = partner.listens_since.elapsed().as_secs_f64() * 1_000.0;
        eprintln!("restart {}: connected again after {wait:.0} ms", waits_ms.len() + 1);
        waits_ms.push(wait);
    }
    let connections = node.connection_count();
    partner.kill()?;
    node.shutdown().await;
    let worst = waits_ms.iter().copied().fold(0.0, f64::max);
    let mean = waits_ms.iter().sum::<f64>() / f64::from(u32::try_from(waits_ms.len())?).max(1.0);
    if args.json {
        let figures = json!({ "restarts": waits_ms.len(), "worst_ms": worst, "mean_ms": mean, "connections": connections,
            "waits_ms": waits_ms, "method": METHOD });
        println!("{figures}");
    } else {
        println!("{METHOD}\n\n{} restarts: worst {worst:.0} ms, mean {mean:.0} ms", waits_ms.len());
    }
    if worst > 2_000.0 || connections != 1 {
        bail!("asked for: again within 2 s each time, over one connection");
    }
    Ok(())
}

/// Waits for the next connection.
async fn connected(events: &mut EventStream) -> Result<()> {
    let next = async {
        while let Some(event) = events.next().await {
            if matches!(event.what, EventKind::Connected { .. }) {
                return Ok(());
            }
        }
        bail!("the node has stopped")
    };
    tokio::time::timeout(PATIENCE, next).await.context("not connected again within a minute")?
}

/// A js-libp2p node; it ends with its standard input, or when it is killed.
struct Partner {
    child: Child,
    _told: ChildStdin,
    address: String,
    listens_since: Instant,
}

impl Partner {
    fn start(args: &Args, port: u16) -> Result<Partner> {
        let mut command = Command::new("node");
        command.arg(&args.partner).args(["--tcp", &port.to_string(), "--seed", "7", "--security", "noise"]);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.context("node does not start; is it installed?")?;
        let told = child.stdin.take().context("a pipe")?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let ready = loop {
            let line = lines.next().with_context(|| {
                format!(
                    "{} does not run: `cargo xtask interop js-libp2p` installs it",
                    args.partner.display()
                )
            })??;
            let said: Value = serde_json::from_str(&line).context("the partner speaks JSON")?;
            if said["event"] == "ready" {
                break said;
            }
        };
        let listens_since = Instant::now();
        // Nobody reads on: what it says afterwards must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = ready["addrs"][0].as_str().context("it listens")?.to_owned();
        Ok(Partner { child, _told: told, address, listens_since })
    }

    fn port(&self) -> Result<u16> {
        let port = self.address.split('/').nth(4).context("a port")?;
        Ok(port.parse()?)
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}
