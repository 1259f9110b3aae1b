//! What the owner task tells: turned into events, log lines and stored rows, at once and without waiting. It shows; it
//! changes nothing in the core.

use super::hub::Hub;
use super::look;
use super::quiet::{Quiet, Trouble};
use super::turns::Turns;
use super::whom::shown_names;
use crate::store::{StoredBan, StoredEvent, StoredPeer};
use crate::{
    BanReason, BanTarget, CloseReason, Event, EventKind, Misbehaviour, PeerId, Reason, Timestamp,
    print_target,
};
use peerkeep_core::{
    Addrs, BanRef, Change, ConnRef, ContactRef, ContactView, End, FaultKind, Refusal, Source, StackId,
    Standing, Step, Ticket, Time, Told, View,
};
use peerkeep_net::Observer;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) struct Watcher {
    hub: Arc<Hub>,
    quiet: Quiet,
    /// Since when conns are up: the core's row of one that ended by itself is gone before its end is told.
    up: HashMap<ConnRef, Time>,
    /// Those that were asked to end and whose sockets are not closed yet.
    ending: HashMap<ConnRef, PeerId>,
    turns: Turns,
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Observer for Watcher {
    fn told(&mut self, view: View<'_>, contact: ContactRef, conn: ConnRef, what: Told, now: Time) {
        self.say_left_out(now);
        let Some(seen) = view.contact(contact) else { return };
        let peer = PeerId(seen.who.key);
        self.hub.risen_epoch(view.epoch());
        self.turns.look(view, &seen);
        let event = match what {
            Told::Discovered => EventKind::Discovered { peer },
            Told::Dialing { attempt } => {
                self.dialing(view, &seen, conn, attempt.into(), now);
                EventKind::Dialing {
                    peer,
                    conn: conn.to_string(),
                    attempt: attempt.into(),
                    max_attempts: look::max_attempts(&seen),
                }
            }
            Told::Connected => self.connected(view, &seen, conn, now),
            Told::Lost(why) => self.lost(view, &seen, conn, why.into(), now),
            Told::Failed => self.failed(view, &seen, conn, now),
            Told::GaveUp => {
                self.count_failure(&seen);
                one_more(&self.hub.tallies.gave_up);
                let (address, _) = self.turns.failed(&seen.who);
                let attempts = seen.failures.into();
                if self.quiet.may_say(seen.who, Trouble::GaveUp, now).is_some() {
                    let error = look::error_text(&seen).unwrap_or_default();
                    tracing::warn!(%peer, %address, attempts, error, "given up: all attempts failed");
                }
                EventKind::GaveUp { peer, address, error: seen.last_fault.map(look::error), attempts }
            }
            Told::Identified { as_contact } => return self.identified(view, &seen, as_contact),
            Told::Violated(what) => {
                one_more(&self.hub.tallies.violations);
                let what = Misbehaviour::from(what);
                if let Some(times) = self.quiet.may_say(seen.who, Trouble::Misbehaved, now) {
                    tracing::warn!(%peer, %conn, %what, times, "a peer misbehaved");
                }
                EventKind::Violated { peer, what }
            }
            // The ban itself is told by `store_ban`, once, whether its peer is known or not.
            Told::Banned | Told::Unbanned => return,
            Told::Routed => EventKind::Routed { peer },
            Told::CloneSuspected => {
                if let Some(times) = self.quiet.may_say(seen.who, Trouble::Clone, now) {
                    tracing::warn!(%peer, times, "two machines seem to use one identity");
                }
                EventKind::CloneSuspected { peer }
            }
            Told::Degraded(grade) => {
                let health = grade.into();
                let measures = look::measures(view.conn(conn).as_ref());
                tracing::info!(%peer, %conn, %health, measures, "the connection is degraded");
                EventKind::Degraded { peer, conn: conn.to_string(), health }
            }
            Told::Restored => {
                tracing::info!(%peer, %conn, "the connection is good again");
                EventKind::Restored { peer, conn: conn.to_string() }
            }
            Told::Replacing => {
                tracing::info!(%peer, %conn, "connection quality degraded, replacing");
                EventKind::Replacing { peer, conn: conn.to_string() }
            }
        };
        self.remember(&seen, &event);
        self.hub.bell.ring(event);
    }

    fn store(&mut self, view: View<'_>, contact: ContactRef) {
        let Some(seen) = view.contact(contact) else { return };
        if seen.forgotten {
            self.hub.forget(seen.who);
            self.quiet.forget(seen.who);
            self.turns.forget(&seen.who);
            if let Some(store) = &self.hub.store {
                store.remove_peer(seen.who);
            }
            return;
        }
        self.turns.look(view, &seen);
        self.put(view, &seen);
    }

    fn store_ban(&mut self, view: View<'_>, ban: BanRef) {
        let Some(ban) = view.ban(ban) else { return };
        let target = BanTarget(print_target(&ban.target));
        if ban.over {
            self.hub.unmark_ban(&ban.target);
            if let Some(store) = &self.hub.store {
                store.remove_ban(ban.target);
            }
            tracing::info!(%target, "a ban is over");
            self.hub.bell.ring(EventKind::Unbanned { target });
            return;
        }
        let mark = self.hub.ban_mark(&ban.target);
        let reason = mark.map_or(BanReason::Misbehaviour, |mark| mark.reason);
        let set_at = Timestamp::now();
        self.hub.mark_ban(ban.target, reason, set_at);
        let span = (ban.until != Time::NEVER).then(|| ban.until.since(view.now()));
        if let Some(store) = &self.hub.store {
            store.put_ban(StoredBan { target: ban.target, set_at, span, reason });
        }
        tracing::info!(%target, by = %reason, span = %look::ban_span(span), "banned");
        self.hub.bell.ring(EventKind::Banned { target });
    }

    fn gone(&mut self, conn: ConnRef, end: End, now: Time) {
        let age = self.up.remove(&conn).map_or(Duration::ZERO, |at| now.since(at));
        if let Some(peer) = self.ending.remove(&conn) {
            let reason = CloseReason::Requested;
            tracing::debug!(%conn, ?end, "its socket is closed");
            tracing::info!(%peer, %conn, %reason, age = %look::rounded(age), "disconnected");
        }
    }

    fn network(&mut self, _change: Change) {
        self.hub.moved.notify_one();
    }

    fn refused(&mut self, _ticket: Ticket, why: Refusal) {
        one_more(&self.hub.tallies.refused);
        tracing::debug!(why = crate::why::clause(&Reason::from(why)), "an arrival was refused");
    }
}

impl Watcher {
    pub fn new(hub: Arc<Hub>) -> Watcher {
        Watcher {
            hub,
            quiet: Quiet::default(),
            up: HashMap::new(),
            ending: HashMap::new(),
            turns: Turns::default(),
        }
    }

    fn say_left_out(&mut self, now: Time) {
        if let Some(lines) = self.quiet.left_out(now) {
            tracing::warn!(
                lines,
                "more was wrong with peers than is worth the log; see `peers` and `events`"
            );
        }
    }

    fn connected(&mut self, view: View<'_>, seen: &ContactView, conn: ConnRef, now: Time) -> EventKind {
        one_more(&self.hub.tallies.connected);
        self.hub.seen(seen.who);
        let peer = PeerId(seen.who.key);
        let addrs: Addrs = seen
            .addrs
            .iter()
            .filter(|known| matches!(known.source, Source::Told | Source::Proven | Source::Named))
            .map(|known| known.addr)
            .collect();
        if seen.who.stack == StackId::Mesh {
            self.hub.tell_of(seen.who.key, addrs);
        }
        self.put(view, seen);
        let about = view.conn(conn);
        let remote = about.as_ref().map(|conn| conn.remote.socket().to_string());
        let direction = look::direction(about.as_ref());
        let took = about.map_or(Duration::ZERO, |conn| now.since(conn.began));
        self.quiet.connected(seen.who);
        self.turns.forget(&seen.who);
        self.came_up(view, conn, now);
        let remote_text = remote.as_deref().unwrap_or("?");
        tracing::info!(%peer, %conn, %direction, remote = %remote_text, took = %look::rounded(took), "connected");
        EventKind::Connected { peer, conn: conn.to_string(), direction, remote, took_ms: look::millis(took) }
    }

    /// Bounded by the conns that there are, also if the end of one were never told.
    fn came_up(&mut self, view: View<'_>, conn: ConnRef, now: Time) {
        self.up.insert(conn, now);
        let counts = view.counts();
        let most = usize::try_from(counts.inbound.saturating_add(counts.outbound)).unwrap_or(usize::MAX);
        if self.up.len() > most.saturating_mul(2).saturating_add(64) {
            self.up.retain(|conn, _| view.conn(*conn).is_some());
        }
    }

    fn lost(
        &mut self,
        view: View<'_>,
        seen: &ContactView,
        conn: ConnRef,
        reason: CloseReason,
        now: Time,
    ) -> EventKind {
        one_more(&self.hub.tallies.lost);
        self.hub.seen(seen.who);
        let peer = PeerId(seen.who.key);
        // During a replacement another connection is up already.
        if seen.conn.is_none_or(|other| other == conn) {
            self.hub.untell(&seen.who.key);
        }
        self.put(view, seen);
        let age = self.up.get(&conn).map_or(Duration::ZERO, |at| now.since(*at));
        let error = look::loss(view.conn(conn).as_ref(), seen, reason).map(look::error);
        let error_text = error.as_ref().map(|error| error.text.as_str());
        let age_text = look::rounded(age);
        if reason == CloseReason::Requested {
            // Said when it is true of the socket too, see `gone`.
            self.ending.insert(conn, peer);
        } else {
            if let Some(silence) = look::silence(view.conn(conn).as_ref(), seen, reason, now) {
                tracing::warn!(%peer, %conn, %silence, "the connection is inactive, disconnecting");
            }
            tracing::info!(%peer, %conn, %reason, age = %age_text, error = error_text, "connection lost");
        }
        EventKind::Lost { peer, conn: conn.to_string(), reason, age_ms: look::millis(age), error }
    }

    /// The first attempt of a need is news, and of those that follow as many as a trouble may have.
    fn dialing(&mut self, view: View<'_>, seen: &ContactView, conn: ConnRef, attempt: u32, now: Time) {
        let peer = PeerId(seen.who.key);
        let address = place(view, seen, conn, &self.hub);
        let why = self.turns.why_we_dial(seen, self.hub.preference());
        match self.quiet.may_say(seen.who, Trouble::Dialing, now) {
            Some(_) => tracing::info!(%peer, %address, attempt, why, "connecting"),
            None => tracing::debug!(%peer, %address, attempt, why, "connecting"),
        }
        self.turns.dialled(seen.who, address, attempt);
        self.put(view, seen);
    }

    fn failed(&mut self, view: View<'_>, seen: &ContactView, conn: ConnRef, now: Time) -> EventKind {
        self.put(view, seen);
        self.count_failure(seen);
        let peer = PeerId(seen.who.key);
        let error = look::error_text(seen).unwrap_or_default();
        let (address, attempt) = self.turns.failed(&seen.who);
        let next = seen.retry_at.map(|at| at.since(now));
        let next_try = next.map_or_else(|| "none".to_owned(), look::rounded);
        match self.quiet.may_say(seen.who, Trouble::Failed, now) {
            Some(times) => {
                tracing::warn!(%peer, %address, attempt, times, error, next_try = %next_try, "could not connect");
            }
            None => {
                tracing::debug!(%peer, %address, attempt, error, next_try = %next_try, "could not connect")
            }
        }
        EventKind::Failed {
            peer,
            conn: if conn == ConnRef::NONE { String::new() } else { conn.to_string() },
            address,
            error: seen.last_fault.map(look::error),
            attempts: seen.failures.into(),
            max_attempts: look::max_attempts(seen),
            next_retry_in_ms: next.map(look::millis),
        }
    }

    /// A connection that was opened and not agreed is a failed handshake; a refusal is an answer.
    fn count_failure(&self, seen: &ContactView) {
        one_more(&self.hub.tallies.failed);
        let greeting = |step| matches!(step, Step::Secure | Step::Hello);
        if seen.last_fault.is_some_and(|fault| greeting(fault.step) && fault.kind != FaultKind::Declined) {
            one_more(&self.hub.tallies.handshakes);
        }
    }

    /// An address turned out to be an identity: it is trusted from now on, which is worth saying aloud.
    fn identified(&self, view: View<'_>, old: &ContactView, heir: ContactRef) {
        let Some(heir) = view.contact(heir) else { return };
        let addrs: Vec<_> = old.addrs.iter().map(|known| known.addr).collect();
        tracing::warn!(
            peer = %PeerId(heir.who.key),
            address = %PeerId(old.who.key),
            "no identity was given for this address: the one that answered first is trusted from now on"
        );
        self.hub.pin(heir.who, &addrs);
        let mut names = self.hub.names.of(&heir.who);
        for name in self.hub.names.of(&old.who) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if let Err(error) = self.hub.names.set(heir.who, names) {
            tracing::warn!(%error, "the host names of a peer were not kept");
        }
        self.put(view, &heir);
    }

    fn put(&self, view: View<'_>, seen: &ContactView) {
        if seen.forgotten {
            return;
        }
        self.hub.note_wanted(seen.who, seen.wanted);
        let Some(store) = &self.hub.store else { return };
        let extra = self.hub.extra(&seen.who);
        let (failures, wait) = backoff(view, seen);
        store.put_peer(StoredPeer {
            who: seen.who,
            addresses: seen.addrs.iter().map(|known| (known.addr, known.source.into())).collect(),
            names: shown_names(&seen.who, &self.hub.names),
            wanted: seen.wanted,
            held: seen.held,
            first_use: extra.first_use,
            seen_at: extra.seen_at,
            updated_at: Timestamp::now(),
            last_error: seen.last_fault.map(look::error),
            failures,
            wait,
        });
    }

    /// Connects and what ended them go into the history; single failures would only fill it.
    fn remember(&self, seen: &ContactView, event: &EventKind) {
        let worth = matches!(
            event,
            EventKind::Connected { .. }
                | EventKind::Lost { .. }
                | EventKind::GaveUp { .. }
                | EventKind::Degraded { .. }
                | EventKind::Restored { .. }
                | EventKind::Replacing { .. }
                | EventKind::Violated { .. }
                | EventKind::CloneSuspected { .. }
        );
        if let (true, Some(store)) = (worth, &self.hub.store) {
            store.put_event(StoredEvent { who: seen.who, at: Timestamp::now(), event: event.clone() });
        }
    }
}

/// What the next start has to know of failures (fault K9). An attempt under way counts as failed, so that a node that
/// is killed in the middle of it does not begin it anew.
fn backoff(view: View<'_>, seen: &ContactView) -> (u16, Duration) {
    let wait = seen.backoff_until.since(view.now());
    match seen.standing {
        Standing::Connected => (0, Duration::ZERO),
        Standing::Dialing => (seen.failures.saturating_add(1), view.backoff_after(seen)),
        // Also without a failure somebody may have asked us to stay away.
        _ => (seen.failures.max(u16::from(!wait.is_zero())), wait),
    }
}

/// Where an attempt goes: every address that it tries, or the names it looks up first.
fn place(view: View<'_>, seen: &ContactView, conn: ConnRef, hub: &Hub) -> String {
    let addrs = view.dial(conn).map(|dial| dial.addrs).unwrap_or_default();
    let all: Vec<String> = match addrs.is_empty() {
        false => addrs.iter().map(|addr| addr.socket().to_string()).collect(),
        true => shown_names(&seen.who, &hub.names).iter().map(ToString::to_string).collect(),
    };
    all.join(", ")
}

/// A remembered event as it is shown; its number is not kept.
pub(super) fn shown(stored: StoredEvent) -> Event {
    Event { seq: 0, at: stored.at, what: stored.event }
}
