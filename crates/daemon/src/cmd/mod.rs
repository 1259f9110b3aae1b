//! One command per file. Each has its options as `Args` and one `run`; what several need is here.

pub mod ban;
pub mod bans;
pub mod cancel;
pub mod channel;
pub mod completions;
pub mod config;
pub mod connect;
pub mod demo;
pub mod disconnect;
pub mod events;
pub mod identity;
pub mod measure;
pub mod openapi;
pub mod peer;
pub mod peers;
pub mod pending;
pub mod ping;
pub mod replay;
pub mod reset;
pub mod retry;
pub mod run;
pub mod sim;
pub mod status;
pub mod unban;
pub mod unwant;
mod visit;
pub mod want;
pub mod why;

use crate::api::PeerRequest;
use crate::cli::{Cli, Command, Shared};
use crate::client::Client;
use crate::exit::{Ended, Failure};
use crate::out;
use crate::place::Place;
use indicatif::{ProgressBar, ProgressStyle};
use peerkeep::Answer;
use std::time::Duration;

/// Does what the command line says.
///
/// # Errors
/// The failure that ends the program.
pub fn perform(cli: Cli) -> Ended {
    let shared = cli.shared;
    match cli.command {
        None => run::run(&shared, run::Args::default()),
        Some(Command::Run(args)) => run::run(&shared, args),
        Some(Command::Completions(args)) => completions::run(&shared, &args),
        Some(Command::Identity(args)) => identity::run(&shared, args),
        Some(Command::Openapi(args)) => openapi::run(&shared, &args),
        Some(Command::Replay(args)) => replay::run(&shared, &args),
        Some(Command::Demo(args)) => demo::run(&shared, args),
        Some(Command::Sim(args)) => sim::run(&shared, &args),
        Some(command) => on_runtime(talk(&shared, command))?,
    }
}

async fn talk(shared: &Shared, command: Command) -> Ended {
    match command {
        Command::Status(args) => status::run(shared, args).await,
        Command::Peers(args) => peers::run(shared, args).await,
        Command::Peer(args) => peer::run(shared, args).await,
        Command::Pending(args) => pending::run(shared, args).await,
        Command::Why(args) => why::run(shared, args).await,
        Command::Connect(args) => connect::run(shared, args).await,
        Command::Disconnect(args) => disconnect::run(shared, args).await,
        Command::Want(args) => want::run(shared, args).await,
        Command::Unwant(args) => unwant::run(shared, args).await,
        Command::Retry(args) => retry::run(shared, args).await,
        Command::Reset(args) => reset::run(shared, args).await,
        Command::Cancel(args) => cancel::run(shared, args).await,
        Command::Ban(args) => ban::run(shared, args).await,
        Command::Unban(args) => unban::run(shared, args).await,
        Command::Bans(args) => bans::run(shared, args).await,
        Command::Measure(args) => measure::run(shared, args).await,
        Command::Ping(args) => ping::run(shared, args).await,
        Command::Channel(args) => channel::run(shared, args).await,
        Command::Events(args) => events::run(shared, args).await,
        Command::Config(args) => config::run(shared, args).await,
        Command::Run(_)
        | Command::Completions(_)
        | Command::Identity(_)
        | Command::Openapi(_)
        | Command::Replay(_)
        | Command::Demo(_)
        | Command::Sim(_) => Ok(()),
    }
}

/// Runs a client's command: one thread is enough.
fn on_runtime<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| Failure::failed(format!("no event loop: {error}")))?.block_on(work))
}

/// The place the options name.
pub fn place(shared: &Shared) -> Result<Place, Failure> {
    Place::find(shared.data.as_deref(), shared.config.as_deref())
}

/// The daemon the options name.
pub async fn daemon(shared: &Shared) -> Result<Client, Failure> {
    Client::open(&place(shared)?).await
}

/// An order about one peer that is answered at once.
pub async fn order(shared: &Shared, route: &str, peer: &str, done: &str) -> Ended {
    let mut client = daemon(shared).await?;
    let request = PeerRequest { peer: peer.into(), wait_ms: None, queue: None };
    let answer: Answer = client.post(&format!("/v1/{route}"), &request).await?;
    out::either(shared.json, &answer, || sentence(&answer, peer, done));
    Ok(())
}

/// An answer as a sentence.
pub fn sentence(answer: &Answer, peer: &str, done: &str) -> String {
    let peer = out::clean(peer);
    match answer {
        Answer::Done => format!("{peer}: {done}"),
        Answer::Begun => format!("{peer}: {done}; begun, `peerkeep events` shows how it goes on"),
        Answer::Queued { .. } => format!("{peer}: {done}; it has to wait, `peerkeep why` says for what"),
    }
}

/// A spinner for what may take longer than a second; silent when nobody watches.
pub fn spinner(shared: &Shared, what: impl Into<String>) -> ProgressBar {
    if shared.json || !out::watched() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(what.into());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
