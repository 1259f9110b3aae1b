//! `peerkeep run`.

use crate::cli::Shared;
use crate::daemon::{Daemon, Start};
use crate::exit::{Ended, Failure};
use crate::settings::Overrides;
use crate::{cmd, out};
use peerkeep::{NodeStatus, PeerAddress};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use serde_json::json;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Run a node until it is told to stop. This is what `peerkeep` alone does.
///
/// The first start makes an identity and prints the address by which others connect. SIGTERM or Ctrl-C says goodbye
/// to all peers and stops within ten seconds, a second one stops at once; SIGHUP reads the configuration again.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  peerkeep run
  peerkeep run --listen 0.0.0.0:7330 --secret network.secret
  peerkeep run --data ./second --listen 127.0.0.1:0 --want /ip4/127.0.0.1/tcp/7330/p2p/12D3KooW...

Without a network secret or an allow-list a node talks to programs on this machine only. A secret is any file of at
least 16 bytes, the same on every machine:  head -c 32 /dev/urandom | base64 > network.secret; chmod 600 network.secret

Logs go to standard error; RUST_LOG sets how much, such as RUST_LOG=peerkeep=debug.")]
pub struct Args {
    /// Listen here instead of where the configuration says; port 0 takes a free one. May be repeated.
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// The file with the network secret, which every node of the network has.
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
    /// Keep this peer connected. May be repeated; it is remembered like `peerkeep want`.
    #[arg(long, value_name = "ADDR")]
    want: Vec<PeerAddress>,
    /// Log as JSON, one object on one line.
    #[arg(long)]
    log_json: bool,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    die_with_parent: bool,
}

/// Runs it to its end.
pub fn run(shared: &Shared, args: Args) -> Ended {
    harden(args.die_with_parent);
    log_to_stderr(args.log_json);
    let start = Start {
        place: cmd::place(shared)?,
        overrides: Overrides { listen: args.listen, secret: args.secret },
        want: args.want,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no event loop: {error}")))?;
    let option = start.place.option();
    let ended = runtime.block_on(async {
        let daemon = Daemon::start(start).await?;
        if let Some(status) = daemon.node.status().await {
            announce(shared.json, &status, &option);
        }
        daemon.live().await
    });
    // Lookups of names may still block a thread; nobody waits for them.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

/// Says where the node is, in the form that `connect` takes.
fn announce(as_json: bool, status: &NodeStatus, option: &str) {
    let value = json!({
        "id": status.id,
        "addresses": status.addresses,
        "version": status.version,
        "pid": status.pid,
        "admission": status.admission,
    });
    out::either(as_json, &value, || {
        let mut text = format!("peerkeep {} is {}\n", status.version, status.id);
        text.push_str(&format!("who may join: {}\n", cmd::status::admission(status.admission)));
        for address in &status.addresses {
            text.push_str(&format!("listening: {address}\n"));
        }
        if let Some(first) = status.addresses.first() {
            text.push_str(&format!("from another node: peerkeep connect {first}\n"));
        }
        text.push_str(&format!("how it is going: peerkeep status{option}\n"));
        text
    });
}

/// No memory of this process may end in a file (fault K11).
fn harden(die_with_parent: bool) {
    let hard = getrlimit(Resource::Core).maximum;
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: hard });
    // As many sockets as the system lets us have; the default of 1,024 is below our own limits.
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
    if die_with_parent {
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}

fn log_to_stderr(as_json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if as_json {
        log.json().init();
    } else {
        log.with_ansi(io::stderr().is_terminal()).init();
    }
}
