//! What all clones of a node share, and the two tasks beside the owner: one tells links of new peers, one waits for the
//! end and closes everything in order.

use super::hub::Hub;
use super::libp2p::Libp2p;
use super::look::Agreed;
use super::ports::{Bound, Ports};
use super::start::{DRAIN, Mesh, journal, mesh_config, read_secret, store_limits, tcp_options};
use super::{local, whom};
use crate::{
    Ailment, CommandError, DataDir, EventKind, PeerAddress, PeerId, Place, Reason, Settings, SettingsError,
    Stack, Timestamp,
};
use peerkeep_core::{Addr, Answer as CoreAnswer, Command, ConnRef, StackId, Who};
use peerkeep_mesh::{Handle, MeshConfig, MeshStack, Registry};
use peerkeep_net::{Directory, Owner, OwnerError, Running, Shards, Stopped};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Links are told of new peers at most this often.
const GATHER_NEWS: Duration = Duration::from_millis(200);
/// A wanted peer whose name does not resolve is looked up again after this.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(30);

/// What all clones share.
pub(super) struct Shared {
    pub id: PeerId,
    pub owner: Owner,
    pub hub: Arc<Hub>,
    pub registry: Registry,
    pub directory: Directory<Handle>,
    pub ports: Ports,
    pub libp2p: Option<Libp2p>,
    pub started_at: Timestamp,
    pub stopped: watch::Receiver<bool>,
    stack: MeshStack,
    taken: Mutex<Taken>,
    /// Closed when the last clone goes: the supervisor then shuts the node down.
    _alive: watch::Sender<()>,
}

/// The settings in force, and what came of them.
struct Taken {
    settings: Settings,
    mesh: MeshConfig,
    journal: Option<Ailment>,
    folder: Option<PathBuf>,
}

/// The supervisor's ends of the channels.
pub(super) struct Ends {
    alive: watch::Receiver<()>,
    stopped: watch::Sender<bool>,
}

/// Settings that take effect at a start only.
const AT_START: &[&str] = &[
    "quic.enabled",
    "quic.early_data",
    "libp2p.enabled",
    "libp2p.listen",
    "libp2p.announce",
    "libp2p.security",
    "libp2p.psk_file",
];

impl Shared {
    pub fn new(
        id: PeerId,
        settings: Settings,
        owner: Owner,
        hub: Arc<Hub>,
        mesh: Mesh,
        libp2p: Option<Libp2p>,
    ) -> (Arc<Shared>, Ends) {
        let Mesh { stack, config: mesh, registry, directory, ports } = mesh;
        let (alive, is_alive) = watch::channel(());
        let (stopped, is_stopped) = watch::channel(false);
        let shared = Shared {
            id,
            owner,
            hub,
            registry,
            directory,
            ports,
            libp2p,
            started_at: Timestamp::now(),
            stopped: is_stopped,
            stack,
            taken: Mutex::new(Taken { settings, mesh, journal: None, folder: None }),
            _alive: alive,
        };
        (Arc::new(shared), Ends { alive: is_alive, stopped })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn settings(&self) -> Settings {
        self.taken().settings.clone()
    }

    pub fn note_journal(&self, ailment: Option<Ailment>) {
        self.taken().journal = ailment;
    }

    pub fn note_folder(&self, folder: Option<&Path>) {
        self.taken().folder = folder.map(Path::to_owned);
    }

    /// What is wrong with the node's parts.
    pub fn ailments(&self, online: bool) -> Vec<Ailment> {
        let store = self.hub.store.as_ref().and_then(|store| store.ailment());
        let network = (!online).then(|| Ailment {
            part: "network".to_owned(),
            text: "this machine has no network, or lacks something to dial with; dialling pauses".to_owned(),
            since: Timestamp::now(),
        });
        let journal = self.taken().journal.clone();
        store.into_iter().chain(journal).chain(network).collect()
    }

    /// Gives the core a command.
    pub async fn command(&self, command: Command) -> Result<crate::Answer, CommandError> {
        match self.owner.command(command).await.map_err(owner_error)? {
            CoreAnswer::Done => Ok(crate::Answer::Done),
            CoreAnswer::Begun(_) => Ok(crate::Answer::Begun),
            CoreAnswer::Queued(why) => Ok(crate::Answer::Queued { reason: why.into() }),
            CoreAnswer::No(why) => Err(CommandError::Refused(why.into())),
        }
    }

    /// Gives the core the same command for a peer on every stack where it is known. It is carried out if one takes it.
    pub async fn each(
        &self,
        peer: impl Into<PeerId>,
        command: impl Fn(Who) -> Command,
    ) -> Result<crate::Answer, CommandError> {
        let mut answer = None;
        for who in whom::all(peer.into().key(), &self.hub) {
            let next = self.command(command(who)).await;
            if !matches!(answer, Some(Ok(_))) {
                answer = Some(next);
            }
        }
        answer.unwrap_or(Err(CommandError::Refused(Reason::Unknown)))
    }

    /// What was agreed on a connection that is up.
    pub fn agreed(&self, who: &Who, conn: ConnRef) -> Option<Agreed> {
        if who.stack == StackId::Libp2p {
            let link = self.libp2p.as_ref()?.directory.find_conn(&who.key, conn)?;
            return Some(link.handle.info().into());
        }
        self.directory.find_conn(&who.key, conn).map(|link| link.handle.info().into())
    }

    /// Where others reach us, on every wire.
    pub fn addresses(&self) -> Vec<PeerAddress> {
        let settings = self.settings();
        let mesh = local::announced(&settings.listen.announce, &settings, &self.ports.locals());
        let over = |stack| move |addr| PeerAddress { stack, ..PeerAddress::at(Some(self.id), addr) };
        let libp2p = self.libp2p.as_ref().map(|libp2p| libp2p.addresses(&settings)).unwrap_or_default();
        mesh.into_iter().map(over(None)).chain(libp2p.into_iter().map(over(Some(Stack::Libp2p)))).collect()
    }

    /// Takes new settings, whole or not at all.
    pub async fn configure(&self, mut new: Settings) -> Result<Vec<&'static str>, CommandError> {
        new.check()?;
        let (old, mut mesh) = {
            let taken = self.taken();
            (taken.settings.clone(), taken.mesh.clone())
        };
        let changes = old.changes(&new);
        let fixed: Vec<&'static str> = Settings::FIXED
            .iter()
            .copied()
            .filter(|key| changes.iter().any(|change| change == key))
            .collect();
        if !fixed.is_empty() {
            return Err(CommandError::NeedsRestart(fixed));
        }
        let later: Vec<&'static str> =
            AT_START.iter().copied().filter(|key| changes.iter().any(|change| change == key)).collect();
        keep_until_restart(&mut new, &old);
        // What stays from before and what is new must hold together too: a list that guarded an open port, say.
        new.check()?;
        let epoch = self.owner.ask(|view, _| view.epoch()).await.map_err(owner_error)?;
        let config = new.core_config(self.id.key(), epoch)?;
        let (old_secret, old_name) = (mesh.secret.clone(), mesh.network.clone());
        mesh = mesh_config(&new, read_secret(&new)?, mesh.listen.clone());
        let same_secret = match (&old_secret, &mesh.secret) {
            (None, None) => true,
            (Some(old), Some(new)) => old.is_same(new),
            _ => false,
        };
        let moved_out = !same_secret || old_name != mesh.network || old.tls != new.tls;
        mesh.check().map_err(|error| part_error("network", error.to_string()))?;
        let preference = config.preference;
        // Bound before anything is changed: an address that cannot be had changes nothing.
        let bound =
            self.ports.bind(&new).map_err(|error| part_error("listen.addresses", error.to_string()))?;
        self.command(Command::Configure(Box::new(config))).await?;
        self.hub.prefer(preference);
        self.stack.configure(&mesh).map_err(|error| part_error("network", error.to_string()))?;
        self.exchange_ports(bound, &new).await;
        mesh.listen.set(local::announced(&new.listen.announce, &new, &self.ports.locals()));
        {
            let mut taken = self.taken();
            taken.settings = new.clone();
            taken.mesh = mesh;
        }
        self.apply_parts(&old, &new).await;
        if moved_out {
            self.leave_network().await;
        }
        self.apply_wishes(&old, &new).await;
        let before = old.warnings();
        for warning in new.warnings().iter().filter(|warning| !before.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.hub.bell.ring(EventKind::Configured);
        Ok(later)
    }

    /// What hellos from now on say about where we are.
    fn refresh_addresses(&self) -> Vec<Addr> {
        let taken = self.taken();
        let addrs = local::announced(&taken.settings.listen.announce, &taken.settings, &self.ports.locals());
        taken.mesh.listen.set(addrs.clone());
        if let Some(libp2p) = &self.libp2p {
            libp2p.refresh(&taken.settings);
        }
        addrs
    }

    async fn exchange_ports(&self, bound: Bound, new: &Settings) {
        match self.ports.serve(bound) {
            Ok(serving) => self.owner.listeners().add(serving),
            Err(error) => tracing::warn!(%error, "an address is not listened on"),
        }
        let others = self.libp2p.as_ref().map(|libp2p| libp2p.ports.locals()).unwrap_or_default();
        self.ports.close_all_but(&new.listen.addresses, &others).await;
    }

    /// Parts beside the core and the mesh. None of them can refuse: what fails is an ailment, as at a start.
    async fn apply_parts(&self, old: &Settings, new: &Settings) {
        self.hub.exchange.store(new.peers.exchange, Ordering::Relaxed);
        self.owner.tuning().set(tcp_options(new));
        self.owner.names().ask_servers(new.dns.servers.clone());
        self.ports.tune(new);
        if let Some(store) = &self.hub.store {
            store.limit(store_limits(new));
        }
        if old.journal == new.journal {
            return;
        }
        let folder = self.taken().folder.clone();
        let (options, mut ailment) = journal(new, folder.as_deref());
        if let Ok(Err(error)) = self.owner.record(options).await {
            tracing::warn!(%error, "no journal is kept");
            let (part, text) = ("journal".to_owned(), error.to_string());
            ailment = Some(Ailment { part, text, since: Timestamp::now() });
        }
        self.note_journal(ailment);
    }

    /// Whoever was met under another name or secret has to show that it belongs to this network, too, and what was
    /// agreed without TLS does not go on beside it.
    async fn leave_network(&self) {
        tracing::info!("the network, its secret or its TLS changed: all connections are made anew");
        for (key, _) in self.directory.all() {
            let _ = self.command(Command::Disconnect(Who::mesh(key))).await;
        }
    }

    /// Peers that the settings want, want no longer, or no longer allow.
    async fn apply_wishes(&self, old: &Settings, new: &Settings) {
        let (was, is) = (&old.peers.wanted, &new.peers.wanted);
        for peer in is.iter().filter(|peer| !was.contains(peer)) {
            if let Err(error) = self.want(peer).await {
                tracing::warn!(%peer, %error, "a peer of the settings cannot be wanted");
            }
        }
        for peer in was.iter().filter(|peer| !is.contains(peer)) {
            if let Ok(whom) = whom::find(peer, &self.hub, &self.hub.names).await {
                // It may have been unwanted by hand meanwhile.
                let _ = self.command(Command::Unwant(whom.who)).await;
            }
        }
        let allow = &new.network.allow;
        if allow.is_empty() {
            return;
        }
        let mesh = self.directory.all().into_iter().map(|(key, _)| Who::mesh(key));
        let libp2p = self.libp2p.iter().flat_map(|libp2p| libp2p.directory.all());
        let libp2p = libp2p.map(|(key, _)| Who { stack: StackId::Libp2p, key });
        for who in mesh.chain(libp2p).filter(|who| !allow.contains(&PeerId(who.key))) {
            tracing::info!(peer = %PeerId(who.key), "no longer on the allow-list: disconnecting");
            let _ = self.command(Command::Disconnect(who)).await;
        }
    }

    /// Wants a peer.
    pub async fn want(&self, peer: &PeerAddress) -> Result<crate::Answer, CommandError> {
        let whom = self.whom(peer).await?;
        self.command(Command::Want { who: whom.who, addrs: whom.addrs, named: whom.named }).await
    }

    /// Wants the peers of the settings that are named by host name: those that resolve now, and the rest when they do.
    pub async fn want_names(self: &Arc<Self>) {
        let named = |peer: &PeerAddress| matches!(peer.place, Some(Place::Name { .. } | Place::List(_)));
        let mut left: Vec<PeerAddress> = self.settings().peers.wanted.into_iter().filter(named).collect();
        // With an identity nothing has to be looked up to begin.
        for peer in left.extract_if(.., |peer| peer.id.is_some()) {
            if let Err(error) = self.want(&peer).await {
                tracing::warn!(%peer, %error, "a peer of the settings cannot be wanted");
            }
        }
        if !left.is_empty() {
            tokio::spawn(keep_looking(Arc::downgrade(self), self.stopped.clone(), left));
        }
    }
}

/// Looks names up until every one has resolved once or the node stops.
async fn keep_looking(shared: Weak<Shared>, mut stopped: watch::Receiver<bool>, mut left: Vec<PeerAddress>) {
    for round in 1_u32.. {
        let mut missing = Vec::new();
        for peer in left {
            let Some(shared) = shared.upgrade() else { return };
            match shared.want(&peer).await {
                Err(CommandError::Name(name)) => {
                    // Worth a line at first, and ever more rarely later.
                    if round.is_power_of_two() {
                        tracing::warn!(
                            name,
                            round,
                            "a wanted peer's name does not resolve; trying again later"
                        );
                    }
                    missing.push(peer);
                }
                Err(error) => tracing::warn!(%peer, %error, "a peer of the settings cannot be wanted"),
                Ok(_) => {}
            }
        }
        left = missing;
        if left.is_empty() {
            return;
        }
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(LOOK_UP_AGAIN) => {}
        }
    }
}

/// Puts back what only a start can change, so that the settings in force say what is so.
fn keep_until_restart(new: &mut Settings, old: &Settings) {
    (new.quic.enabled, new.quic.early_data) = (old.quic.enabled, old.quic.early_data);
    new.libp2p.clone_from(&old.libp2p);
}

fn part_error(key: &str, what: String) -> SettingsError {
    SettingsError {
        file: None,
        mistakes: vec![crate::Mistake { key: key.to_owned(), line: 0, origin: None, what }],
    }
}

pub(super) fn owner_error(error: OwnerError) -> CommandError {
    match error {
        OwnerError::Busy => CommandError::Busy,
        OwnerError::Stopped => CommandError::Stopped,
    }
}

/// A command refused because there is no such peer.
pub(super) fn is_unknown(error: &CommandError) -> bool {
    matches!(error, CommandError::Refused(Reason::Unknown))
}

/// Starts the two tasks.
pub(super) fn supervise(
    shared: &Arc<Shared>,
    ends: Ends,
    running: Running,
    shards: Shards,
    folder: Option<DataDir>,
) {
    let Ends { mut alive, stopped } = ends;
    let (owner, hub, directory) = (shared.owner.clone(), shared.hub.clone(), shared.directory.clone());
    let libp2p = shared.libp2p.as_ref().map(|libp2p| libp2p.ports.endpoints());
    let endpoints: Vec<_> = std::iter::once(shared.ports.endpoints()).chain(libp2p).collect();
    tokio::spawn(spread_news(hub.clone(), directory, shared.stopped.clone()));
    tokio::spawn(super::anchors::keep(owner.clone(), hub.clone(), shared.stopped.clone()));
    tokio::spawn(tell_health(hub.clone(), shared.stopped.clone()));
    tokio::spawn(follow_network(Arc::downgrade(shared), hub.clone(), shared.stopped.clone()));
    tokio::spawn(async move {
        let ended = running.stopped();
        tokio::pin!(ended);
        let how = tokio::select! {
            how = &mut ended => how,
            // Nothing is ever sent: this ends when the last clone of the node is gone.
            _ = alive.changed() => {
                let _ = owner.shutdown(DRAIN).await;
                ended.await
            }
        };
        if let Stopped::Asked { cut } = how
            && cut > 0
        {
            tracing::warn!(connections = cut, "not everybody could be told goodbye in time");
        }
        shards.end().await;
        if let Some(store) = &hub.store {
            store.close().await;
        }
        for endpoints in endpoints {
            *endpoints.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        hub.bell.close();
        // Unlocked last: whoever waits for the folder finds everything written.
        drop(folder);
        let _ = stopped.send(true);
    });
}

/// Tells links that there are new peers to tell of.
async fn spread_news(hub: Arc<Hub>, directory: Directory<Handle>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = hub.news.notified() => {}
        }
        tokio::time::sleep(GATHER_NEWS).await;
        for (_, link) in directory.all() {
            link.handle.announce();
        }
    }
}

/// Tells when the store falls ill and when it recovers.
async fn tell_health(hub: Arc<Hub>, mut stopped: watch::Receiver<bool>) {
    let Some(store) = &hub.store else { return };
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = store.health_changed() => {}
        }
        match store.ailment() {
            Some(ailment) => hub.bell.ring(EventKind::Ailing { ailment }),
            None => hub.bell.ring(EventKind::Recovered { part: "store".to_owned() }),
        }
    }
}

/// Keeps what we tell others of our addresses in line with those the machine has (fault L6).
async fn follow_network(shared: Weak<Shared>, hub: Arc<Hub>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = hub.moved.notified() => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        let addrs = shared.refresh_addresses();
        let addresses: Vec<String> =
            addrs.iter().map(|addr| PeerAddress::at(Some(shared.id), *addr).to_string()).collect();
        tracing::info!(addresses = addresses.join(", "), "reachable at");
        hub.bell.ring(EventKind::NetworkChanged { addresses });
    }
}

#[cfg(test)]
mod tests {
    use crate::{Node, Settings};
    use std::time::Duration;

    /// Fault R9. The daemon waits for this to end with an error instead of serving an API without a node.
    #[tokio::test]
    async fn a_node_whose_core_panics_has_stopped() {
        let mut settings = Settings::default();
        settings.listen.addresses = vec![([127, 0, 0, 1], 0).into()];
        let node = Node::builder().config(settings).start().await.expect("the node starts");
        let mut events = node.events();
        let answer = node.shared.owner.ask(|_, _| panic!("a test asked for it")).await;
        assert!(answer.is_err());
        tokio::time::timeout(Duration::from_secs(20), node.stopped()).await.expect("it has stopped");
        assert!(node.status().await.is_none() && events.next().await.is_none());
    }
}
