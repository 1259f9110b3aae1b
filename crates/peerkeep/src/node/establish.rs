//! Document 001's face of a node: a connection now or a typed refusal, and the questions it asks beforehand. An address
//! means a peer by proof or by word, never by the source port of a connection.

use super::look::{self, Moment};
use super::shared::Shared;
use super::shared::owner_error;
use super::whom::{self, Whom};
use super::{EventStream, Node, PAGE};
use crate::{Answer, CommandError, LimitName, Outcome, PeerAddress, PeerId, PendingStatus, Place, Reason};
use peerkeep_core::{Addr, ConnView, Direction, Limit, Source, StackId, Stage, Target, View, Who};
use std::time::Duration;

impl Node {
    /// The boot epoch of this start; nothing when the node has stopped.
    pub async fn boot_epoch(&self) -> Option<u64> {
        self.shared.owner.ask(|view, _| view.epoch()).await.ok()
    }

    /// What happened after the event with that number, or since the start, as far as it is remembered (about 1,000
    /// events), and what happens from now on. A gap is told as [`crate::EventKind::Lagged`].
    pub fn events_after(&self, seq: Option<u64>) -> EventStream {
        self.shared.hub.bell.listen_after(seq)
    }

    /// Connects like [`Node::connect`], but is refused where that would wait for a slot, or would find the peer
    /// connected. [`CommandError::establish_error`] puts the refusal in document 001's words.
    ///
    /// # Errors
    /// The refusal; nothing was begun then.
    pub async fn establish(
        &self,
        peer: impl Into<PeerAddress>,
        wait: Duration,
    ) -> Result<Outcome, CommandError> {
        let peer = peer.into();
        let whom = self.shared.whom(&peer).await?;
        let (who, addrs) = (whom.who, whom.addrs.clone());
        let question = move |view: View<'_>, _| {
            let seen = view.find(&who).and_then(|contact| view.contact(contact));
            match seen {
                Some(seen) if seen.conn.is_some() => None,
                Some(seen) if addrs.is_empty() => {
                    let known: Vec<Addr> = seen.addrs.iter().map(|known| known.addr).collect();
                    view.limit_around(Direction::Outbound, &known)
                }
                _ => view.limit_around(Direction::Outbound, &addrs),
            }
        };
        if let Some(limit) = self.shared.owner.ask(question).await.map_err(owner_error)? {
            return Err(CommandError::Refused(Reason::Full { limit: limit.into() }));
        }
        match self.connect_nowait(peer.clone()).await? {
            // The slot went to somebody else in between.
            Answer::Queued { reason: reason @ Reason::Full { .. } } => {
                let _ = self.cancel(PeerId(who.key)).await;
                Err(CommandError::Refused(reason))
            }
            _ => self.connect(peer, wait).await,
        }
    }

    /// The connections that are being set up, in both directions; those that are only told why not are among them.
    pub async fn pending(&self) -> Vec<PendingStatus> {
        let copy = |view: View<'_>, now| {
            let pending = view.conns().filter(|conn| !matches!(conn.stage, Stage::Up | Stage::Closing));
            let key = |conn: &ConnView| Some(view.contact(conn.contact?)?.who.key);
            (pending.map(|conn| (key(&conn), conn)).collect::<Vec<_>>(), Moment::new(now))
        };
        let Ok((pending, moment)) = self.shared.owner.ask(copy).await else { return Vec::new() };
        pending.iter().map(|(key, conn)| look::pending(conn, *key, moment)).collect()
    }

    /// Whether an inbound connection would be turned away for want of a slot.
    ///
    /// # Errors
    /// When the node is busy or has stopped.
    pub async fn is_inbound_full(&self) -> Result<bool, CommandError> {
        let question = |view: View<'_>, _| view.limit_around(Direction::Inbound, &[]);
        let limit = self.shared.owner.ask(question).await.map_err(owner_error)?;
        Ok(matches!(limit, Some(Limit::Total | Limit::Inbound)))
    }

    /// The limit that a new connection to that address would meet now.
    ///
    /// # Errors
    /// When the node is busy or has stopped.
    pub async fn connection_limits_reached(&self, at: Addr) -> Result<Option<LimitName>, CommandError> {
        let question = move |view: View<'_>, _| view.limit_around(Direction::Outbound, &[at]);
        Ok(self.shared.owner.ask(question).await.map_err(owner_error)?.map(LimitName::from))
    }

    /// Whose address this is: as proven, named or told by the peer itself; hearsay does not count. A scan over all known
    /// peers in pages, for people and for rare use.
    ///
    /// # Errors
    /// When the node is busy or has stopped.
    pub async fn resolve_peer_id(&self, address: &PeerAddress) -> Result<Option<PeerId>, CommandError> {
        let at = match (&address.id, &address.place) {
            (Some(id), _) => return Ok(Some(*id)),
            (None, Some(Place::Ip(at))) => *at,
            (None, _) => return Ok(None),
        };
        if let Some(key) = self.shared.hub.pinned(address.stack.map_or(StackId::Mesh, StackId::from), &at) {
            return Ok(Some(PeerId(key)));
        }
        let (mut best, mut from) = (None, 0);
        loop {
            let question = move |view: View<'_>, _| {
                let (mut found, mut last, mut count) = (None, 0, 0);
                for contact in view.contacts_from(from).take(PAGE) {
                    (last, count) = (contact.contact.row, count + 1);
                    let known = contact.addrs.iter().find(|known| known.addr == at);
                    if let Some(known) = known
                        && contact.who.key.is_identity()
                        && known.source > Source::Gossip
                    {
                        found = found.max(Some((known.source, contact.who.key)));
                    }
                }
                (found, (count == PAGE).then_some(last + 1))
            };
            let (found, next) = self.shared.owner.ask(question).await.map_err(owner_error)?;
            best = best.max(found);
            match next {
                Some(next) => from = next,
                None => return Ok(best.map(|(_, key)| PeerId(key))),
            }
        }
    }

    /// Whether the peer that has this address is connected, whoever dialled and from whichever port.
    ///
    /// # Errors
    /// When the node is busy or has stopped.
    pub async fn is_connected_to_address(&self, address: &PeerAddress) -> Result<bool, CommandError> {
        if let Some(peer) = self.resolve_peer_id(address).await? {
            return Ok(self.is_connected(peer));
        }
        let Some(Place::Ip(at)) = address.place else { return Ok(false) };
        let question = move |view: View<'_>, _| {
            let ours = |conn: &ConnView| conn.direction == Direction::Outbound;
            view.conns().any(|conn| conn.stage == Stage::Up && ours(&conn) && conn.remote == at)
        };
        self.shared.owner.ask(question).await.map_err(owner_error)
    }
}

impl Shared {
    /// Whom a caller means. An address where a banned peer was met, or was named to be, stands for that peer, so that
    /// nothing is sent there (S1.12); what a peer says about its own address does not, or it could bar others from us.
    pub(super) async fn whom(&self, peer: &PeerAddress) -> Result<Whom, CommandError> {
        let whom = whom::find(peer, &self.hub, &self.hub.names).await?;
        if whom.who.key.is_identity() {
            return Ok(whom);
        }
        let (addrs, stack) = (whom.addrs.clone(), whom.who.stack);
        let banned = move |view: View<'_>, _| {
            let is_there = |who: &Who| {
                let seen = view.find(who).and_then(|contact| view.contact(contact));
                seen.is_some_and(|seen| {
                    let there = seen.addrs.iter().filter(|known| known.source >= Source::Named);
                    seen.banned_until.is_some() && there.into_iter().any(|known| addrs.contains(&known.addr))
                })
            };
            let keys = view.bans().filter_map(|ban| match ban.target {
                Target::Key(key) => Some(Who { stack, key }),
                Target::Subnet(_) => None,
            });
            keys.into_iter().find(is_there)
        };
        let banned = self.owner.ask(banned).await.map_err(owner_error)?;
        Ok(Whom { who: banned.unwrap_or(whom.who), ..whom })
    }
}
