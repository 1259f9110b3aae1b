//! The node that programs hold. This is its face: every call is a bounded message to the owner task, and none of them
//! blocks another. What happens behind it is in `start` (starting), `shared` (what clones share, reload, the end),
//! `observer`, `quiet` and `hub` (what the core tells), `whom` (what a caller names) and `look` (what a caller reads).

mod anchors;
mod channels;
mod establish;
mod events;
mod hub;
mod libp2p;
mod local;
mod look;
mod measure;
mod observer;
mod ports;
mod quiet;
mod shared;
mod start;
mod turns;
mod whom;

pub use channels::{Channel, Incoming, Message, Messages};
pub use events::{EVENT_QUEUE, EventStream};
pub use start::Builder;

use crate::{
    Answer, BanReason, BanStatus, BanTarget, CommandError, Counts, Event, EventKind, NodeStatus, Outcome,
    PeerAddress, PeerId, PeerStatus, Reason, Settings, Stack, Target, Timestamp, Why, print_target,
};
use look::{Beside, Moment, Seen};
use peerkeep_core::{Command, ContactRef, ContactView, Fact, STACKS, Source, Standing, Who};
use peerkeep_net::{Outcome as NetOutcome, Until};
use shared::{Shared, is_unknown, owner_error};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Peers copied on the owner task at a time.
const PAGE: usize = 1_000;

/// A running node. Cheap to clone; the node stops when [`Node::shutdown`] is called or the last clone is dropped.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.shared.id).finish()
    }
}

impl Node {
    /// Begins to build a node.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Our identity.
    pub fn id(&self) -> PeerId {
        self.shared.id
    }

    /// Where others reach us, in the form `connect` takes: `/ip4/…/tcp/…/p2p/…`.
    pub fn addresses(&self) -> Vec<PeerAddress> {
        self.shared.addresses()
    }

    // ---- commands

    /// Connects and waits for the outcome, at most `wait`. Abandoning the call does not abandon the attempt.
    ///
    /// # Errors
    /// When it was refused; a failed attempt is an [`Outcome`].
    pub async fn connect(
        &self,
        peer: impl Into<PeerAddress>,
        wait: Duration,
    ) -> Result<Outcome, CommandError> {
        let shared = &self.shared;
        let whom = shared.whom(&peer.into()).await?;
        let who = whom.who;
        let outcome =
            shared.owner.connect(who, whom.addrs, Until::Settled, wait).await.map_err(owner_error)?;
        match outcome {
            NetOutcome::Connected { who, conn, already, .. } => {
                Ok(Outcome::Connected { peer: PeerId(who.key), conn: conn.to_string(), already })
            }
            NetOutcome::Refused(why) => Err(CommandError::Refused(why.into())),
            NetOutcome::Failed(fault) | NetOutcome::GaveUp(fault) => {
                let attempts = self.seen(who).await.map_or(0, |seen| seen.contact.failures.into());
                Ok(Outcome::GaveUp { peer: PeerId(who.key), attempts, error: fault.map(look::error) })
            }
            NetOutcome::Cancelled => Ok(Outcome::Cancelled { peer: PeerId(who.key) }),
            NetOutcome::Banned => Err(CommandError::Refused(Reason::Banned)),
            NetOutcome::Shutdown => Err(CommandError::Stopped),
            NetOutcome::TimedOut | NetOutcome::Busy => {
                let error = self.seen(who).await.and_then(|seen| seen.contact.last_fault).map(look::error);
                Ok(Outcome::StillTrying { peer: PeerId(who.key), error })
            }
        }
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn connect_nowait(&self, peer: impl Into<PeerAddress>) -> Result<Answer, CommandError> {
        let whom = self.shared.whom(&peer.into()).await?;
        self.shared.command(Command::Connect { who: whom.who, addrs: whom.addrs, named: whom.named }).await
    }

    /// Keeps the peer connected until [`Node::unwant`]. Survives restarts.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn want(&self, peer: impl Into<PeerAddress>) -> Result<Answer, CommandError> {
        self.shared.want(&peer.into()).await
    }

    /// Tells of a peer that was discovered, by whatever means: a candidate, dialled as long as there are fewer
    /// connections than the target. Nothing is promised about it.
    ///
    /// # Errors
    /// A name that does not resolve, or [`CommandError::Busy`].
    pub async fn learn(&self, peer: impl Into<PeerAddress>) -> Result<(), CommandError> {
        let whom::Whom { who, addrs, .. } =
            whom::find(&peer.into(), &self.shared.hub, &self.shared.hub.names).await?;
        let news = Fact::Learned { who, addrs, source: Source::Named };
        self.shared.owner.facts().offer(news).then_some(()).ok_or(CommandError::Busy)
    }

    /// Wants it no longer; an existing connection stays.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn unwant(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        self.shared.each(peer, Command::Unwant).await
    }

    /// Closes the connection. A wanted peer is dialled again.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn disconnect(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        let peer = peer.into();
        if self.is_connected(peer) {
            tracing::info!(%peer, "disconnecting");
        }
        self.shared.each(peer, Command::Disconnect).await
    }

    /// Abandons the attempt in progress.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn cancel(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        self.shared.each(peer, Command::Cancel).await
    }

    /// Tries again now, within the attempts left.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn retry(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        self.shared.each(peer, Command::Retry).await
    }

    /// Forgets attempts, cancels and closes: back to disconnected.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn reset(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        self.shared.each(peer, Command::Reset).await
    }

    /// Keeps (or stops keeping) a connection however idle it is.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn hold(&self, peer: impl Into<PeerId>, on: bool) -> Result<Answer, CommandError> {
        self.shared.each(peer, |who| Command::Hold { who, on }).await
    }

    /// Bans a key or subnet, for a time or until lifted. Survives restarts.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn ban(&self, target: Target, span: Option<Duration>) -> Result<BanTarget, CommandError> {
        let hub = &self.shared.hub;
        let before = hub.ban_mark(&target);
        hub.mark_ban(target, BanReason::Operator, Timestamp::now());
        if let Err(error) = self.shared.command(Command::Ban { target, span }).await {
            match before {
                Some(mark) => hub.mark_ban(target, mark.reason, mark.set_at),
                None => hub.unmark_ban(&target),
            }
            return Err(error);
        }
        Ok(BanTarget(print_target(&target)))
    }

    /// Lifts a ban.
    ///
    /// # Errors
    /// [`Reason::Unknown`] when there is none.
    pub async fn unban(&self, target: Target) -> Result<BanTarget, CommandError> {
        self.shared.command(Command::Unban(target)).await?;
        Ok(BanTarget(print_target(&target)))
    }

    /// Forgets a peer that is neither connected nor wanted: its addresses, its names, and the trust in its key.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn forget(&self, peer: impl Into<PeerId>) -> Result<Answer, CommandError> {
        let peer = peer.into();
        let all = whom::all(peer.key(), &self.shared.hub);
        let answer = self.shared.each(peer, Command::Forget).await;
        if answer.is_ok() || answer.as_ref().is_err_and(is_unknown) {
            all.into_iter().for_each(|who| self.shared.hub.forget(who));
        }
        answer
    }

    /// Waits until everything that was answered so far is in the store, where a killed process leaves it: at most `wait`.
    /// False when the store cannot take it now, or there is none; it is tried again by itself then.
    pub async fn saved(&self, wait: Duration) -> bool {
        let Some(store) = &self.shared.hub.store else { return false };
        // What was answered is carried out whole before the next question.
        if self.shared.owner.ask(|_, _| ()).await.is_err() {
            return false;
        }
        tokio::time::timeout(wait, store.flush()).await.unwrap_or(false)
    }

    /// Takes new settings, whole or not at all. Returns the keys that take effect only at a restart.
    ///
    /// # Errors
    /// When they do not hold together; the old ones stay.
    pub async fn configure(&self, settings: Settings) -> Result<Vec<&'static str>, CommandError> {
        self.shared.configure(settings).await
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.shared.settings()
    }

    /// Says goodbye to everybody, writes everything down, and ends: bounded by about ten seconds. Returns when it is
    /// over; the data folder is free again then.
    pub async fn shutdown(&self) {
        self.shared.hub.bell.ring(EventKind::ShuttingDown);
        anchors::note(&self.shared.owner, &self.shared.hub).await;
        // Stopped already is what was asked for.
        let _ = self.shared.owner.shutdown(start::DRAIN).await;
        self.stopped().await;
    }

    /// Waits until the node has stopped, for whatever reason.
    pub async fn stopped(&self) {
        let _ = self.shared.stopped.clone().wait_for(|stopped| *stopped).await;
    }

    // ---- questions

    /// What happens from now on. Bounded: a slow reader gets [`EventKind::Lagged`] in place of what it missed.
    pub fn events(&self) -> EventStream {
        self.shared.hub.bell.listen()
    }

    /// Every known peer. Taken in pages, so that the node goes on in between; one that comes or goes meanwhile may
    /// or may not be in it.
    pub async fn peers(&self) -> Vec<PeerStatus> {
        let (mut peers, mut from) = (Vec::new(), 0);
        loop {
            // Copied on the owner task, put into words here.
            let copy = move |view: peerkeep_core::View<'_>, now| {
                let page: Vec<ContactView> = view.contacts_from(from).take(PAGE).collect();
                let next = page.last().filter(|_| page.len() == PAGE).map(|last| last.contact.row + 1);
                let kept = page.into_iter().filter(|contact| !contact.forgotten);
                (kept.map(|contact| Seen::new(view, contact)).collect::<Vec<Seen>>(), next, Moment::new(now))
            };
            let Ok((page, next, moment)) = self.shared.owner.ask(copy).await else { return merged(peers) };
            peers.extend(page.iter().map(|seen| look::peer(seen, self.beside(seen), moment)));
            let Some(next) = next else { return merged(peers) };
            from = next;
        }
    }

    /// The connected peers.
    pub async fn connected(&self) -> Vec<PeerStatus> {
        let copy = |view: peerkeep_core::View<'_>, now| {
            let leads = |conn: peerkeep_core::ConnView| {
                let contact = view.contact(conn.contact?)?;
                // While one connection replaces another, its peer is listed once.
                let leads = conn.stage == peerkeep_core::Stage::Up && contact.conn == Some(conn.conn);
                leads.then(|| Seen::new(view, contact))
            };
            (view.conns().filter_map(leads).collect::<Vec<_>>(), Moment::new(now))
        };
        let Ok((all, moment)) = self.shared.owner.ask(copy).await else { return Vec::new() };
        merged(all.iter().map(|seen| look::peer(seen, self.beside(seen), moment)).collect())
    }

    /// Whether a peer is connected at this moment, whoever dialled. Asks nobody and waits for nothing.
    pub fn is_connected(&self, peer: impl Into<PeerId>) -> bool {
        let peer = peer.into();
        self.shared.directory.find(&peer.key()).is_some() || self.libp2p_link(&peer).is_some()
    }

    /// How many peers are connected at this moment, in either direction. Asks nobody and waits for nothing.
    pub fn connection_count(&self) -> usize {
        let mesh = &self.shared.directory;
        let others = self.shared.libp2p.as_ref().map(|libp2p| libp2p.directory.all()).unwrap_or_default();
        mesh.len() + others.iter().filter(|(key, _)| mesh.find(key).is_none()).count()
    }

    /// One peer.
    pub async fn peer(&self, peer: impl Into<PeerId>) -> Option<PeerStatus> {
        let mut all = Vec::new();
        for who in whom::all(peer.into().key(), &self.shared.hub) {
            if let Some(seen) = self.seen(who).await {
                let moment = Moment::new(self.shared.owner.clock().now());
                all.push(look::peer(&seen, self.beside(&seen), moment));
            }
        }
        merged(all).pop()
    }

    /// Why a peer is, or is not, connected.
    pub async fn why(&self, peer: impl Into<PeerId>) -> Option<Why> {
        let all = whom::all(peer.into().key(), &self.shared.hub);
        let question = move |view: peerkeep_core::View<'_>, now| {
            // Of two wires, the one that carries it.
            let known = || all.iter().filter_map(|who| view.find(who));
            let is_up = |contact: &ContactRef| view.contact(*contact).is_some_and(|seen| seen.conn.is_some());
            let contact = known().find(is_up).or_else(|| known().next())?;
            let seen = Seen::new(view, view.contact(contact)?);
            Some((seen, view.why(contact), Moment::new(now)))
        };
        let (seen, why, moment) = self.shared.owner.ask(question).await.ok()??;
        Some(look::why(&seen, why, moment))
    }

    /// The node itself; `None` when it has stopped.
    pub async fn status(&self) -> Option<NodeStatus> {
        let question = |view: peerkeep_core::View<'_>, _| {
            let counts = view.counts();
            let standing =
                |standing: Standing| (0..STACKS).map(|s| counts.standing[s][standing.index()]).sum();
            let shown = Counts {
                known: counts.standing.iter().flatten().sum(),
                wanted: 0,
                connected: standing(Standing::Connected),
                inbound: counts.inbound,
                outbound: counts.outbound,
                pending: counts.pending,
                bans: 0,
                gave_up: standing(Standing::GaveUp),
            };
            let counts = Counts { bans: small(view.bans().count()), ..shown };
            (counts, view.epoch(), view.draining().is_some(), view.online())
        };
        let shared = &self.shared;
        let (counts, boot_epoch, draining, online) = shared.owner.ask(question).await.ok()?;
        let counts = Counts { wanted: small(shared.hub.wanted_count()), ..counts };
        let counters = shared.owner.counters();
        Some(NodeStatus {
            id: shared.id,
            addresses: self.addresses().iter().map(PeerAddress::to_string).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: shared.started_at,
            uptime_seconds: Timestamp::now().since(shared.started_at).as_secs(),
            boot_epoch,
            admission: shared.settings().admission(),
            counts,
            totals: shared.hub.totals(counters.dials.read(), counters.turned_away.read()),
            health: shared.ailments(online),
            draining,
        })
    }

    /// The bans in force.
    pub async fn bans(&self) -> Vec<BanStatus> {
        let question =
            |view: peerkeep_core::View<'_>, now| (view.bans().collect::<Vec<_>>(), Moment::new(now));
        let Ok((bans, moment)) = self.shared.owner.ask(question).await else { return Vec::new() };
        let reason = |target| self.shared.hub.ban_mark(target).map(|mark| mark.reason);
        bans.iter().map(|ban| look::ban(ban, reason(&ban.target), moment)).collect()
    }

    /// The latest connects and losses kept in the store, newest first; of one peer or of all, at most 1,000.
    pub async fn history(&self, peer: Option<PeerId>, limit: usize) -> Vec<Event> {
        let Some(store) = &self.shared.hub.store else { return Vec::new() };
        let who = peer.map(|peer| whom::who(peer.key(), None, &self.shared.hub));
        let events = store.history(who, small(limit).min(1_000)).await;
        events.into_iter().map(observer::shown).collect()
    }

    async fn seen(&self, who: Who) -> Option<Seen> {
        let question = move |view: peerkeep_core::View<'_>, _| {
            let contact: ContactRef = view.find(&who)?;
            Some(Seen::new(view, view.contact(contact).filter(|contact| !contact.forgotten)?))
        };
        self.shared.owner.ask(question).await.ok()?
    }

    fn beside(&self, seen: &Seen) -> Beside {
        let who = &seen.contact.who;
        let up = seen.conn.as_ref().filter(|conn| conn.stage == peerkeep_core::Stage::Up);
        let agreed = up.and_then(|conn| self.shared.agreed(who, conn.conn));
        Beside {
            extra: self.shared.hub.extra(who),
            names: if seen.contact.named {
                whom::shown_names(who, &self.shared.hub.names)
            } else {
                Vec::new()
            },
            agreed,
        }
    }
}

/// One entry for each peer: what is said of it is said of the wire that carries it, or the first.
fn merged(peers: Vec<PeerStatus>) -> Vec<PeerStatus> {
    if peers.iter().all(|peer| peer.stacks == [Stack::Mesh]) {
        return peers;
    }
    let mut places: HashMap<PeerId, usize> = HashMap::new();
    let mut all: Vec<PeerStatus> = Vec::new();
    for mut peer in peers {
        let Some(at) = places.get(&peer.id) else {
            places.insert(peer.id, all.len());
            all.push(peer);
            continue;
        };
        let first = &mut all[*at];
        if first.link.is_none() && peer.link.is_some() {
            std::mem::swap(first, &mut peer);
        }
        first.stacks.extend(peer.stacks);
        first.stacks.sort_unstable();
        first.wanted |= peer.wanted;
        first.held |= peer.held;
        first.addresses.extend(peer.addresses);
    }
    all
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
