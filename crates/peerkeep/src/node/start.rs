//! How a node starts: lock, identity, store, boot epoch, listeners, owner; in that order, and nothing is left running
//! when one of them fails. Also what of the settings goes where.

use super::hub::{Extra, Hub, Teller};
use super::libp2p::Libp2p;
use super::observer::Watcher;
use super::ports::Ports;
use super::shared::{Shared, supervise};
use super::whom;
use super::{Node, local};
use crate::store::{Loaded, Store, StoreLimits, StoredPeer};
use crate::{
    Ailment, DataDir, IDENTITY_FILE, Identity, LivenessMode, PeerAddress, Place, Settings, SettingsError,
    StartError, Timestamp,
};
use peerkeep_core::{
    Action, Addr, Addrs, Command, CommandId, Config, Fact, PeerKey, Source, StackId, Target, Who,
};
use peerkeep_mesh::{Handle, Listen, MeshConfig, MeshStack, Protection, QuicKeepalive, Registry, Secret};
use peerkeep_net::{
    Directory, Driver, Here, JournalOptions, ListenError, Listener, Names, Owner, Quic, QuicListener,
    QuicOptions, Serving, Setup, Shards, StreamDriver, StreamOptions, TcpOptions, Tickets, prepare,
};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Further ports that `listen.next_port` tries.
const NEXT_PORTS: u16 = 16;

/// Collects what a node starts with.
#[derive(Default)]
pub struct Builder {
    identity: Option<Identity>,
    settings: Settings,
    data_dir: Option<PathBuf>,
}

impl Builder {
    /// Use this identity instead of the file in the data folder.
    pub fn identity(mut self, identity: Identity) -> Builder {
        self.identity = Some(identity);
        self
    }

    /// The settings. Default: [`Settings::default`].
    pub fn config(mut self, settings: Settings) -> Builder {
        self.settings = settings;
        self
    }

    /// Where identity, store, journal and lock live. Without it nothing is kept, and an identity is made for this
    /// run unless one is given.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Builder {
        self.data_dir = Some(path.into());
        self
    }

    /// Starts the node on the current tokio runtime: locks the data folder, loads, listens, begins to keep peers.
    ///
    /// # Errors
    /// What stood in the way; nothing is left running.
    pub async fn start(self) -> Result<Node, StartError> {
        self.start_on(shards).await
    }

    /// Starts the node without threads of its own (`node.threads` means nothing then): all its work is done by the second
    /// value, which has to be polled on this thread until it is over, for instance by `tokio::task::spawn_local`. Nothing
    /// is handed over between threads, which is cheaper; but a program that blocks this thread stops its node, too.
    /// Dropping the second value cuts all connections; to end in good order, [`Node::shutdown`] while it is polled.
    ///
    /// # Errors
    /// See [`Builder::start`].
    pub async fn start_here(self) -> Result<(Node, Here), StartError> {
        let (shards, mut here) = Shards::here();
        let started = self.start_on(move |_| Ok(shards));
        tokio::pin!(started);
        // Starting asks the node questions, so it has to run already.
        tokio::select! {
            started = &mut started => Ok((started?, here)),
            () = &mut here => Ok((started.await?, here)),
        }
    }

    async fn start_on(self, shards: impl MakeShards) -> Result<Node, StartError> {
        // Before anything is written, and before a library asks and has no way to say no (fault R10).
        seed()?;
        let settings = self.settings;
        settings.check()?;
        for warning in settings.warnings() {
            tracing::warn!("{warning}");
        }
        let secret = read_secret(&settings)?;
        let folder = self.data_dir.as_deref().map(DataDir::open).transpose()?;
        let identity = identity(self.identity, folder.as_ref().map(DataDir::path))?;
        let (store, loaded) = match &folder {
            Some(folder) => {
                let (store, loaded) = Store::open(folder.path(), store_limits(&settings)).await?;
                (Some(store), loaded)
            }
            None => (None, Loaded::default()),
        };
        let started = launch(settings, shards, secret, identity, folder, store.clone(), loaded).await;
        if let (Err(_), Some(store)) = (&started, store) {
            store.close().await;
        }
        started
    }
}

/// Makes what the links run on, once the settings were checked.
trait MakeShards: FnOnce(&Settings) -> Result<Shards, StartError> {}
impl<F: FnOnce(&Settings) -> Result<Shards, StartError>> MakeShards for F {}

fn identity(given: Option<Identity>, folder: Option<&Path>) -> Result<Identity, StartError> {
    match (given, folder) {
        (Some(identity), _) => Ok(identity),
        (None, Some(folder)) => {
            let (identity, new) = Identity::load_or_create(&folder.join(IDENTITY_FILE))?;
            if new {
                tracing::info!(id = %identity.id(), "a new identity was made");
            }
            Ok(identity)
        }
        (None, None) => Ok(Identity::generate()?),
    }
}

pub(super) fn read_secret(settings: &Settings) -> Result<Option<Secret>, SettingsError> {
    let Some(bytes) = settings.read_secret()? else { return Ok(None) };
    // `read_secret` has seen to the length.
    Ok(Secret::new(bytes.to_vec()).ok())
}

pub(super) fn store_limits(settings: &Settings) -> StoreLimits {
    StoreLimits { peers: settings.limits.known_peers, bans: settings.limits.bans, ..StoreLimits::default() }
}

/// Everything after the files are open.
async fn launch(
    settings: Settings,
    shards: impl MakeShards,
    secret: Option<Secret>,
    identity: Identity,
    folder: Option<DataDir>,
    store: Option<Store>,
    loaded: Loaded,
) -> Result<Node, StartError> {
    let part = |error: &dyn std::fmt::Display| StartError::Part(error.to_string());
    let me = identity.id().key();
    // Larger than at any earlier start, also when the clock went back (fault H15).
    let epoch = loaded.epoch.saturating_add(1).max(Timestamp::now().unix_seconds()).max(1);
    let config = settings.core_config(me, epoch)?;
    if let Some(store) = &store {
        store.put_epoch(epoch);
        if !store.flush().await {
            tracing::warn!("the boot epoch could not be stored; going on");
        }
    }
    let (owner, engine) = prepare();
    owner.names().ask_servers(settings.dns.servers.clone());
    let mut hub = Hub::new(store, owner.names().clone(), epoch, config.preference);
    hub.libp2p = settings.libp2p.enabled;
    let hub = Arc::new(hub);
    hub.exchange.store(settings.peers.exchange, Ordering::Relaxed);
    let shards = shards(&settings)?;
    let (mesh, driver, mut listeners) = Mesh::start(&settings, secret, &identity, &hub, &owner, &shards)?;
    let mut drivers: Vec<Box<dyn Driver>> = vec![Box::new(driver)];
    let libp2p = Libp2p::start(&settings, &identity, &owner, &shards)?.map(|(side, driver, more)| {
        drivers.push(Box::new(driver));
        listeners.extend(more);
        side
    });
    let (journal, journal_ailment) = journal(&settings, folder.as_ref().map(DataDir::path));
    let first = first_actions(&settings, loaded, &config, &hub, owner.names());
    let setup = Setup {
        config,
        seed: seed()?,
        journal,
        first: Box::new(first.into_iter()),
        drivers,
        listeners,
        observer: Box::new(Watcher::new(hub.clone())),
    };
    let running = engine.start_on(&shards, setup).map_err(|error| part(&error))?;
    let (shared, ends) = Shared::new(identity.id(), settings, owner, hub, mesh, libp2p);
    shared.note_journal(journal_ailment);
    shared.note_folder(folder.as_ref().map(DataDir::path));
    supervise(&shared, ends, running, shards, folder);
    shared.want_names().await;
    tracing::info!(id = %shared.id, epoch, "started");
    Ok(Node { shared })
}

/// The mesh's side of a node: its stack, and what is open or known there.
pub(super) struct Mesh {
    pub stack: MeshStack,
    pub config: MeshConfig,
    pub registry: Registry,
    pub directory: Directory<Handle>,
    pub ports: Ports,
}

impl Mesh {
    /// Opens the ports and makes the driver.
    fn start(
        settings: &Settings,
        secret: Option<Secret>,
        identity: &Identity,
        hub: &Arc<Hub>,
        owner: &Owner,
        shards: &Shards,
    ) -> Result<(Mesh, StreamDriver, Vec<Serving>), StartError> {
        let part = |error: &dyn std::fmt::Display| StartError::Part(error.to_string());
        let listen = Listen::default();
        let config = mesh_config(settings, secret, listen.clone());
        let registry = Registry::default();
        let keys = peerkeep_mesh::Identity::from_seed(identity.seed()).map_err(|error| part(&error))?;
        let teller = Arc::new(Teller { hub: hub.clone() });
        let stack = MeshStack::new(&keys, &config, registry.clone(), teller).map_err(|error| part(&error))?;
        let tickets = Tickets::new(StackId::Mesh);
        let home = shards.home();
        let quic = {
            let _at = home.enter();
            Quic::new(stack.quic_server(), quic_options(settings))
        };
        let ports = Ports::new(quic.clone(), tickets.clone(), owner.clone(), home);
        let serving = ports.serve(ports.bind(settings)?)?;
        listen.set(local::announced(&settings.listen.announce, settings, &ports.locals()));
        let directory = Directory::default();
        let dials = settings.quic.enabled.then_some(quic);
        let options = StreamOptions { tcp: tcp_options(settings), quic: dials, ..StreamOptions::default() };
        let around = owner.surroundings();
        let driver = StreamDriver::new(stack.clone(), options, shards, &around, tickets, &directory);
        Ok((Mesh { stack, config, registry, directory, ports }, driver, serving))
    }
}

fn shards(settings: &Settings) -> Result<Shards, StartError> {
    let threads = match usize::from(settings.node.threads) {
        0 => Shards::fitting_count().min(8),
        some => some,
    };
    Shards::start(threads).map_err(|error| StartError::System { what: "starting threads", error })
}

/// Jitter and hashing only; it goes into the journal, so it is nobody's secret.
fn seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| crate::IdentityError::NoRandomness)?;
    Ok(seed)
}

pub(super) fn tcp_options(settings: &Settings) -> TcpOptions {
    let live = &settings.liveness;
    TcpOptions {
        keepalive_idle: live.keepalive_idle,
        keepalive_interval: live.keepalive_interval,
        keepalive_count: live.keepalive_count.into(),
        // As long as keepalive takes on an idle connection: data in flight is given no longer.
        user_timeout: live.keepalive_idle + live.keepalive_interval * u32::from(live.keepalive_count - 1),
        ..TcpOptions::default()
    }
}

pub(super) fn mesh_config(settings: &Settings, secret: Option<Secret>, listen: Listen) -> MeshConfig {
    let (allow, live) = (&settings.network.allow, &settings.liveness);
    let quic_keepalive = (live.mode == LivenessMode::KeepaliveOnly).then(|| QuicKeepalive {
        interval: live.keepalive_idle,
        timeout: live.keepalive_idle + live.keepalive_interval * u32::from(live.keepalive_count),
    });
    MeshConfig {
        network: settings.network.name.clone(),
        secret,
        allow: (!allow.is_empty()).then(|| allow.iter().map(|id| id.key()).collect()),
        listen,
        agent: settings.node.agent.clone(),
        max_channels: settings.limits.channels,
        // The settings were checked: both fit.
        send_budget_bytes: u32::try_from(settings.limits.send_budget.0).unwrap_or(u32::MAX),
        max_message_bytes: u32::try_from(settings.limits.message.0).unwrap_or(u32::MAX),
        early_data: settings.quic.early_data,
        protection: match settings.tls.enabled {
            true => Protection::Tls,
            false => Protection::Plain { anywhere: settings.tls.insecure },
        },
        quic_keepalive,
        ..MeshConfig::default()
    }
}

pub(super) fn quic_options(settings: &Settings) -> QuicOptions {
    QuicOptions { retry_above: settings.quic.retry_above.into(), ..QuicOptions::default() }
}

/// Further free ports that are asked for when one is free for one transport alone.
const FREE_PORTS: u16 = 16;

type Bound = (Option<Listener>, Option<QuicListener>);

pub(super) fn bind(
    settings: &Settings,
    tcp: &TcpOptions,
    quic: &QuicOptions,
) -> Result<(Vec<Listener>, Vec<QuicListener>), StartError> {
    let (mut over_tcp, mut over_quic) = (Vec::new(), Vec::new());
    for address in &settings.listen.addresses {
        let wants_quic = address.has_quic() && settings.quic.enabled;
        let one = |socket| -> Result<Bound, ListenError> {
            let listener = address.has_tcp().then(|| Listener::bind(socket, tcp)).transpose()?;
            let socket = listener.as_ref().map_or(socket, Listener::local);
            Ok((listener, wants_quic.then(|| QuicListener::bind(socket, quic)).transpose()?))
        };
        let mut result = one(address.socket);
        let port = address.socket.port();
        let more = match (port, settings.listen.next_port) {
            (0, _) => FREE_PORTS,
            (_, true) => NEXT_PORTS,
            (_, false) => 0,
        };
        for step in 1..=more {
            let next = if port == 0 { Some(0) } else { port.checked_add(step) };
            let (Err(ListenError::Taken(_)), Some(port)) = (&result, next) else { break };
            result = one(SocketAddr::new(address.socket.ip(), port));
        }
        let (listener, quic_listener) = result.map_err(StartError::Listen)?;
        over_tcp.extend(listener);
        over_quic.extend(quic_listener);
    }
    Ok((over_tcp, over_quic))
}

/// A journal that cannot be kept is no reason not to start (fault K7).
pub(super) fn journal(
    settings: &Settings,
    folder: Option<&Path>,
) -> (Option<JournalOptions>, Option<Ailment>) {
    let Some(folder) = folder.filter(|_| settings.journal.enabled) else { return (None, None) };
    let dir = folder.join("journal");
    let probe = dir.join(".probe");
    let tried = DataDir::check(&dir).map_err(|error| error.to_string()).and_then(|()| {
        let written = std::fs::write(&probe, b"peerkeep").and_then(|()| std::fs::remove_file(&probe));
        written.map_err(|error| format!("{}: {error}", dir.display()))
    });
    if let Err(text) = tried {
        tracing::warn!(error = text, "no journal is kept");
        return (None, Some(Ailment { part: "journal".to_owned(), text, since: Timestamp::now() }));
    }
    let options = JournalOptions {
        segment_bytes: settings.journal.segment.0,
        segments: settings.journal.segments.into(),
        ..JournalOptions::new(dir)
    };
    (Some(options), None)
}

/// What the core is told before anything else. Bans come before any address, so that nobody who is banned is met or
/// dialled; but a banned peer has to be known before its ban, because afterwards the core takes in no news of it.
fn first_actions(
    settings: &Settings,
    loaded: Loaded,
    config: &Config,
    hub: &Hub,
    names: &Names,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let (bans, over): (Vec<_>, Vec<_>) = {
        let now = Timestamp::now();
        let left = loaded.bans.into_iter().map(|ban| (ban.remaining(now), ban));
        left.partition(|(left, _)| left.is_some())
    };
    for (_, ban) in over {
        hub.store.iter().for_each(|store| store.remove_ban(ban.target));
    }
    let banned: HashSet<Target> = bans.iter().map(|(_, ban)| ban.target).collect();
    for peer in &loaded.peers {
        if banned.contains(&Target::Key(peer.who.key)) {
            let (who, addrs) = (peer.who, Addrs::new());
            actions.push(Action::Saw(Fact::Learned { who, addrs, source: Source::Stored }));
        }
    }
    for (left, ban) in bans {
        hub.mark_ban(ban.target, ban.reason, ban.set_at);
        actions.push(act(Command::Ban { target: ban.target, span: left.flatten() }));
    }
    // The target is filled from the first on: those who served us well last time come first.
    let (first, rest): (Vec<_>, Vec<_>) =
        loaded.peers.iter().partition(|peer| loaded.anchors.contains(&peer.who));
    for peer in first.into_iter().chain(rest).filter(|peer| peer.who.key != config.me) {
        restore_peer(peer, hub, names, &mut actions);
    }
    for known in &settings.peers.known {
        if let Some((who, addrs)) = at_once(known, hub) {
            actions.push(Action::Saw(Fact::Learned { who, addrs, source: Source::Named }));
        }
    }
    for wanted in &settings.peers.wanted {
        if let Some((who, addrs)) = at_once(wanted, hub) {
            actions.push(act(Command::Want { who, addrs, named: false }));
        }
    }
    actions
}

fn act(command: Command) -> Action {
    Action::Do(CommandId(0), command)
}

/// One remembered peer: its pins and names here, its addresses and wishes for the core.
fn restore_peer(peer: &StoredPeer, hub: &Hub, names: &Names, actions: &mut Vec<Action>) {
    let who = peer.who;
    if who.stack == StackId::Libp2p && !hub.libp2p {
        // It stays in the store, for a start that speaks to it.
        return;
    }
    hub.restore(who, Extra { first_use: peer.first_use, seen_at: peer.seen_at });
    if peer.first_use {
        let trusted = |source| matches!(Source::from(source), Source::Named | Source::Proven);
        let addrs: Vec<Addr> =
            peer.addresses.iter().filter(|(_, source)| trusted(*source)).map(|(addr, _)| *addr).collect();
        hub.pin(who, &addrs);
    }
    for name in &peer.names {
        if let Some(place) = &name.place {
            whom::add_name(who, place, names);
        }
    }
    if let Some((failures, wait)) = peer.backoff_left(Timestamp::now()) {
        actions.push(Action::Saw(Fact::Recalled { who, failures, wait }));
    }
    let addrs: Addrs = peer.addresses.iter().map(|(addr, _)| *addr).take(peerkeep_core::MAX_ADDRS).collect();
    actions.push(Action::Saw(Fact::Learned { who, addrs, source: Source::Stored }));
    if peer.wanted {
        let named = !peer.names.is_empty();
        actions.push(act(Command::Want { who, addrs: Addrs::new(), named }));
    }
    if peer.held {
        actions.push(act(Command::Hold { who, on: true }));
    }
}

/// The contact and addresses of a peer that needs no lookup.
fn at_once(peer: &PeerAddress, hub: &Hub) -> Option<(Who, Addrs)> {
    let addrs: Addrs = match &peer.place {
        Some(Place::Ip(addr)) => [*addr].into_iter().collect(),
        Some(Place::Name { .. } | Place::List(_)) => return None,
        None => Addrs::new(),
    };
    let stack = peer.stack.map_or(StackId::Mesh, StackId::from);
    let who = match (&peer.id, addrs.first()) {
        (Some(id), _) => whom::named(id, peer, hub),
        (None, Some(addr)) => {
            let key = hub.pinned(stack, addr).unwrap_or_else(|| PeerKey::from_addr(*addr));
            Who { stack, key }
        }
        (None, None) => return None,
    };
    hub.name(who);
    Some((who, addrs))
}

/// How long a goodbye to everybody may take.
pub(super) const DRAIN: Duration = Duration::from_secs(8);
