//! The life of a node as a process: start, serve the API, take signals, reload, drain, end. It holds no state of peers.

use crate::api::group::Group;
use crate::api::routes::{Api, router};
use crate::api::server::{Gate, Listening};
use crate::api::{Reloaded, server};
use crate::exit::{Code, Ended, Failure};
use crate::level::{Level, filter};
use crate::metrics::Endpoint;
use crate::place::Place;
use crate::settings::Overrides;
use axum::Router;
use peerkeep::{CommandError, IdentityError, Node, PeerAddress, PlaceError, Settings, StartError};
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Most time between the first signal to stop and the end (fault K10).
const DRAIN: Duration = Duration::from_secs(10);
/// Reloads that wait; more are refused, and signals are merged.
const WAITING_RELOADS: usize = 16;

/// What a node starts from.
#[derive(Debug)]
pub struct Start {
    /// Its folder and file.
    pub place: Place,
    /// What all of it says at the start.
    pub settings: Settings,
    /// What the command line says about settings; it wins over the file at every reload too.
    pub overrides: Overrides,
    /// The log's level, which a reload may change.
    pub level: Level,
    /// Whom to want at once.
    pub want: Vec<PeerAddress>,
}

/// A running node with its API, ready to be announced.
pub struct Daemon {
    /// The node.
    pub node: Node,
    start: Start,
    signals: Signals,
    reload_inbox: mpsc::Receiver<Asked>,
    /// Serves the routes wherever the socket is.
    routes: Router,
    served: Served,
    metrics: Option<Endpoint>,
}

/// The API socket in use.
struct Served {
    path: PathBuf,
    group: String,
    gate: Gate,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Served {
    fn start(listening: Listening, path: PathBuf, group: &str, routes: &Router) -> Served {
        let (stop, stopped) = watch::channel(false);
        let gate = listening.gate();
        let task = tokio::spawn(listening.serve(routes.clone(), stopped));
        Served { path, group: group.to_owned(), gate, stop, task }
    }

    /// Those who are being answered have a moment to read the last of it.
    async fn end(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// What a reload opened and not yet put in the place of what was there.
struct Opened {
    socket: Option<(Listening, PathBuf)>,
    group: Option<Option<Group>>,
    metrics: Option<Option<Endpoint>>,
}

/// Where reloads are asked for. Whoever asks while one is due gets that one's answer.
#[derive(Debug, Clone)]
pub struct Reloads(mpsc::Sender<Asked>);

type Asked = oneshot::Sender<Result<Reloaded, Failure>>;

impl Reloads {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The new configuration was refused, whole; the old one stays.
    pub async fn ask(&self) -> Result<Reloaded, Failure> {
        let (sender, answer) = oneshot::channel();
        self.0
            .try_send(sender)
            .map_err(|_| Failure::failed("too many reloads are waiting").next("try again in a moment"))?;
        answer.await.map_err(|_| Failure::new(Code::NotRunning, "the daemon is going down"))?
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

enum Heard {
    Stop(&'static str),
    Reload,
}

impl Daemon {
    /// Starts the node and its API.
    ///
    /// # Errors
    /// What stood in the way, with its own exit code.
    pub async fn start(start: Start) -> Result<Daemon, Failure> {
        // Before anything else, so that no signal kills a node half started.
        let signals = Signals::catch()?;
        let settings = crate::settings::load(&start.place, &start.overrides)?;
        let node =
            Node::builder().config(settings).data_dir(&start.place.data).start().await.map_err(started)?;
        match Daemon::serve(node.clone(), start, signals).await {
            Ok(daemon) => Ok(daemon),
            Err(failure) => {
                node.shutdown().await;
                Err(failure)
            }
        }
    }

    async fn serve(node: Node, start: Start, signals: Signals) -> Result<Daemon, Failure> {
        let group = Group::find(&start.settings.api.group)?;
        let path = start.place.socket_of(&start.settings);
        let listening = server::bind(&path, group)?;
        let metrics = Endpoint::open(&start.settings.metrics, &node).await?;
        let (sender, reload_inbox) = mpsc::channel(WAITING_RELOADS);
        let routes = router(Api::new(node.clone(), Reloads(sender)));
        let served = Served::start(listening, path, &start.settings.api.group, &routes);
        for peer in &start.want {
            if let Err(error) = node.want(peer.clone()).await {
                tracing::warn!(%error, "a peer named on the command line cannot be wanted");
            }
        }
        Ok(Daemon { node, start, signals, reload_inbox, routes, served, metrics })
    }

    /// Serves until somebody asks it to stop, then drains: ten seconds at most, or until asked a second time.
    ///
    /// # Errors
    /// It was asked twice, the drain took too long, or the node stopped without being asked.
    pub async fn live(mut self) -> Ended {
        let Some(name) = self.attend().await else {
            self.served.end().await;
            let failure = Failure::failed("the node stopped by itself, which is a bug");
            return Err(failure.next("start it again, and keep the journal and the log for a bug report"));
        };
        tracing::info!("{name}: saying goodbye to all peers; a second signal stops at once");
        let drained = tokio::select! {
            drained = tokio::time::timeout(DRAIN, self.node.shutdown()) => drained.is_ok(),
            name = self.signals.stop() => {
                tracing::warn!("{name} again: stopped at once");
                return Err(Failure::failed("stopped at once, as asked twice"));
            }
        };
        self.served.end().await;
        if drained {
            tracing::info!("stopped");
            Ok(())
        } else {
            Err(Failure::failed(format!("not every peer could be told within {}", crate::out::span(DRAIN))))
        }
    }

    /// Takes signals and reloads until one says stop; `None` when the node is gone before.
    async fn attend(&mut self) -> Option<&'static str> {
        loop {
            let asked = tokio::select! {
                heard = self.signals.next() => match heard {
                    Heard::Stop(name) => return Some(name),
                    Heard::Reload => None,
                },
                asked = self.reload_inbox.recv() => asked,
                // A supervisor restarts a process that ended, not one that serves nothing any more.
                () = self.node.stopped() => return None,
            };
            // All that wait now want the same: one reload answers them, and a storm of signals is one signal.
            let mut waiting: Vec<Asked> = asked.into_iter().collect();
            while let Ok(asked) = self.reload_inbox.try_recv() {
                waiting.push(asked);
            }
            let answer = self.reload().await;
            match &answer {
                Ok(reloaded) if reloaded.needs_restart.is_empty() => {
                    let changed = reloaded.changed.join(", ");
                    tracing::info!(file = %reloaded.file, changed, "the configuration was reloaded");
                }
                Ok(reloaded) => {
                    let keys = reloaded.needs_restart.join(", ");
                    tracing::warn!("the configuration was reloaded; a restart is needed for: {keys}");
                }
                Err(failure) => tracing::warn!("the configuration stays as it was: {}", failure.message),
            }
            for asked in waiting {
                let _ = asked.send(answer.clone());
            }
        }
    }

    /// Whole or not at all: what is new is opened first, and what was there goes when all of it holds.
    async fn reload(&mut self) -> Result<Reloaded, Failure> {
        let settings = crate::settings::load(&self.start.place, &self.start.overrides)?;
        filter(&settings.log.level)?;
        let changed = self.node.settings().changes(&settings);
        let opened = self.open(&settings).await?;
        let later = self.node.configure(settings.clone()).await.map_err(|error| match error {
            CommandError::Settings(_) | CommandError::NeedsRestart(_) => {
                Failure::new(Code::Config, error.to_string())
            }
            other => Failure::failed(other.to_string()),
        })?;
        self.exchange(opened, &settings);
        self.start.level.change(&settings.log);
        Ok(Reloaded {
            file: self.start.place.config.display().to_string(),
            changed,
            needs_restart: later.into_iter().map(str::to_owned).collect(),
        })
    }

    async fn open(&self, settings: &Settings) -> Result<Opened, Failure> {
        let path = self.start.place.socket_of(settings);
        let (mut socket, mut group) = (None, None);
        if path != self.served.path {
            socket = Some((server::bind(&path, Group::find(&settings.api.group)?)?, path));
        } else if settings.api.group != self.served.group {
            group = Some(Group::find(&settings.api.group)?);
        }
        let metrics = match &self.metrics {
            Some(endpoint) if endpoint.listens_at(&settings.metrics) => None,
            None if !settings.metrics.enabled => None,
            _ => Some(Endpoint::open(&settings.metrics, &self.node).await?),
        };
        Ok(Opened { socket, group, metrics })
    }

    fn exchange(&mut self, opened: Opened, settings: &Settings) {
        if let Some((listening, path)) = opened.socket {
            let served = Served::start(listening, path, &settings.api.group, &self.routes);
            let old = std::mem::replace(&mut self.served, served);
            // Whoever asked for the reload is answered over the old one.
            tokio::spawn(old.end());
        }
        if let Some(group) = opened.group {
            match self.served.gate.admit(group) {
                Ok(()) => self.served.group.clone_from(&settings.api.group),
                Err(failure) => tracing::warn!("api.group stays as it was: {}", failure.message),
            }
        }
        match (opened.metrics, &self.metrics) {
            (Some(endpoint), _) => self.metrics = endpoint,
            (None, Some(endpoint)) => endpoint.rename(&settings.metrics),
            (None, None) => {}
        }
    }
}

impl Signals {
    fn catch() -> Result<Signals, Failure> {
        let told = |error: std::io::Error| Failure::failed(format!("signals cannot be caught: {error}"));
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).map_err(told)?,
            interrupt: signal(SignalKind::interrupt()).map_err(told)?,
            hangup: signal(SignalKind::hangup()).map_err(told)?,
        })
    }

    /// The next signal. Cancel-safe.
    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Heard::Stop("SIGINT"),
            _ = self.hangup.recv() => Heard::Reload,
        }
    }

    /// The next signal to stop; reloads are pointless now.
    async fn stop(&mut self) -> &'static str {
        loop {
            if let Heard::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}

/// Why a node did not start, with the exit code and the advice for it.
fn started(error: StartError) -> Failure {
    let message = error.to_string();
    match error {
        StartError::Place(PlaceError::InUse { .. }) => Failure::new(Code::Running, message)
            .next("`peerkeep status` asks it how it is; a second node needs a folder of its own: --data DIR"),
        StartError::Place(_) => Failure::failed(message),
        StartError::Identity(IdentityError::NoRandomness) => Failure::new(Code::Identity, message),
        StartError::Identity(_) => Failure::new(Code::Identity, message)
            .next("nothing was changed; `peerkeep identity show` checks the file again"),
        StartError::Settings(_) => {
            Failure::new(Code::Config, message).next("`peerkeep config check` checks the file again")
        }
        StartError::Listen { .. } => Failure::new(Code::Listen, message)
            .next("stop the program that listens there, or choose another address: --listen IP:PORT"),
        StartError::Store(_) | StartError::System { .. } | StartError::Part(_) => Failure::failed(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault R9: a supervisor starts it again.
    #[tokio::test]
    async fn a_node_that_stops_by_itself_ends_the_daemon_with_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place::find(Some(&folder.path().join("data")), None).expect("a place");
        let overrides = Overrides { listen: vec![([127, 0, 0, 1], 0).into()], ..Overrides::default() };
        let settings = crate::settings::load(&place, &overrides).expect("settings");
        let level = Level::new(true, |_, _| true);
        let daemon = Daemon::start(Start { place, settings, overrides, level, want: Vec::new() })
            .await
            .expect("it starts");
        let node = daemon.node.clone();
        let (ended, ()) = tokio::time::timeout(SOON, async { tokio::join!(daemon.live(), node.shutdown()) })
            .await
            .expect("it ends");
        let failure = ended.expect_err("nobody asked the daemon");
        assert_eq!(failure.code, Code::Failed);
        assert!(failure.message.contains("stopped by itself"), "{failure}");
    }

    /// Only a failure takes this long.
    const SOON: Duration = Duration::from_secs(30);
}
