//! `peerkeep run`.

use crate::cli::Shared;
use crate::daemon::{Daemon, Start};
use crate::exit::{Ended, Failure};
use crate::level::{Level, filter};
use crate::lines::Lines;
use crate::settings::{self, Overrides};
use crate::{cmd, out};
use peerkeep::{Admission, LogFormat, LogSettings, NodeStatus, PeerAddress, TEMPLATE};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// How long the end waits for whoever takes the log.
const LAST_LINES: Duration = Duration::from_secs(1);

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
least 16 bytes, the same on every machine:  (umask 077; head -c 32 /dev/urandom | base64 > network.secret)

Logs go to standard error; RUST_LOG sets how much, such as RUST_LOG=peerkeep=debug.")]
pub struct Args {
    #[command(flatten)]
    overrides: Overrides,
    /// Keep this peer connected. May be repeated; it is remembered like `peerkeep want`.
    #[arg(long, value_name = "ADDR")]
    want: Vec<PeerAddress>,
    /// Let debuggers, and whoever else runs as this user, read the memory of this process, its keys included.
    #[arg(long)]
    debuggable: bool,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    die_with_parent: bool,
}

/// Runs it to its end.
pub fn run(shared: &Shared, args: Args) -> Ended {
    harden(&args);
    let place = cmd::place(shared)?;
    let settings = settings::load(&place, &args.overrides)?;
    let (level, lines) = log_to_stderr(&settings.log)?;
    let start = Start { place, settings, overrides: args.overrides, level, want: args.want };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no event loop: {error}")))?;
    let option = start.place.option();
    let file = start.place.config.clone();
    let ended = runtime.block_on(async {
        let daemon = Daemon::start(start).await?;
        offer_file(&file);
        if let Some(status) = daemon.node.status().await {
            announce(shared.json, &status, &option);
        }
        daemon.live().await
    });
    // Lookups of names may still block a thread; nobody waits for them.
    runtime.shutdown_timeout(Duration::from_millis(200));
    lines.settle(LAST_LINES);
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
    out::offer(as_json, &value, || {
        let mut text = format!("peerkeep {} is {}\n", status.version, status.id);
        text.push_str(&format!("who may join: {}\n", cmd::status::admission(status.admission)));
        for address in &status.addresses {
            text.push_str(&format!("listening: {address}\n"));
        }
        if let Some(first) = status.addresses.first() {
            text.push_str(&format!("from another node: peerkeep connect {first}\n"));
        }
        if status.admission == Admission::Loopback {
            text.push_str("from other machines: run with --listen 0.0.0.0:7330 --secret FILE, see `peerkeep run --help`\n");
        }
        text.push_str(&format!("how it is going: peerkeep status{option}\n"));
        text
    });
}

/// Puts the commented file with every default where the settings are looked for, unless there is one.
fn offer_file(file: &Path) {
    // A dangling link is somebody's intention, too: `create_new` leaves it alone.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    if let Ok(mut file) = made
        && let Err(error) = file.write_all(TEMPLATE.as_bytes())
    {
        tracing::warn!(%error, "the commented configuration file could not be written");
    }
}

/// No memory of this process may end in a file (fault K11). The limit alone would not do: it does not hold where the
/// kernel hands dumps to a program.
fn harden(args: &Args) {
    let hard = getrlimit(Resource::Core).maximum;
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: hard });
    if !args.debuggable {
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
    // As many sockets as the system lets us have; the default of 1,024 is below our own limits.
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
    if args.die_with_parent {
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}

/// Logs to standard error. `RUST_LOG` wins over the file; the level of the file can change with a reload.
fn log_to_stderr(log: &LogSettings) -> Result<(Level, Lines), Failure> {
    let fixed = std::env::var("RUST_LOG").is_ok_and(|filter| !filter.is_empty());
    let text = if fixed { std::env::var("RUST_LOG").unwrap_or_default() } else { log.level.clone() };
    let (filter, filter_handle) = reload::Layer::new(filter(&text)?);
    let lines = Lines::to(io::stderr())
        .map_err(|error| Failure::failed(format!("the log cannot be written: {error}")))?;
    let (layer, look_handle) = reload::Layer::new(look(log.format, lines.clone()));
    tracing_subscriber::registry().with(layer).with(filter).init();
    let to = lines.clone();
    let level = Level::new(fixed, move |filter, format| {
        let filtered = filter.is_none_or(|filter| filter_handle.reload(filter).is_ok());
        filtered && look_handle.reload(look(format, to.clone())).is_ok()
    });
    Ok((level, lines))
}

/// How lines look. Boxed, so that one can take the other's place.
fn look(format: LogFormat, to: Lines) -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer().with_writer(to);
    match format {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
    }
}
