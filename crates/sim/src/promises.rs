//! What every core promises, held against what it says from outside: no state of a core is read to judge it by, except
//! to look up what an effect is about. It says that a promise was broken; it mends nothing.

use crate::node::Socket;
use crate::scenario::{self, node_of_key};
use crate::wire::{Msg, NOBODY, PEERS, WireRef};
use crate::world::{World, in_words};
use peerkeep_core::{
    Close, ConnRef, ContactRef, Core, Dial, Duplicates, Effects, Target, Time, Told, journal,
};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// A broken promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which promise.
    pub what: String,
    /// The node, or the two nodes, concerned.
    pub nodes: [u32; 2],
    /// What exactly was seen.
    pub detail: String,
    /// When.
    pub at: Time,
}

/// What has to be remembered over the whole world.
#[derive(Debug)]
pub(crate) struct Promises {
    pub duplicates: Duplicates,
    pub violation: Option<Violation>,
    /// Connections up at both ends, by pair; pairs without one have no entry.
    shared: HashMap<(u32, u32), u32>,
    /// Pairs in which one has banned the other, or held something against it: they may stay apart for long.
    pub estranged: BTreeSet<(u32, u32)>,
    /// When a dial that may take another's place was last on its way: it said so, or it was to an address alone, and
    /// who dials an address cannot know that it leads to somebody it is connected to.
    replacing: HashMap<(u32, u32), Time>,
}

/// After an end of trouble, for this long a side may rightly hold a link for dead that is not.
const AFTERMATH: Duration = Duration::from_secs(60);

pub(crate) fn pair(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

impl Promises {
    pub fn new(duplicates: Duplicates) -> Promises {
        Promises {
            duplicates,
            violation: None,
            shared: HashMap::new(),
            estranged: BTreeSet::new(),
            replacing: HashMap::new(),
        }
    }

    /// How many connections of a pair are up at both ends.
    pub fn shared(&self, a: u32, b: u32) -> u32 {
        self.shared.get(&pair(a, b)).copied().unwrap_or(0)
    }

    /// The pairs that share a connection.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (u32, u32)> + '_ {
        self.shared.keys().copied()
    }

    /// A dial that may take another's place is on its way.
    pub fn replacing(&mut self, a: u32, b: u32, now: Time) {
        self.replacing.insert(pair(a, b), now);
    }

    fn is_replacing(&self, a: u32, b: u32, now: Time) -> bool {
        self.replacing.get(&pair(a, b)).is_some_and(|at| *at + Duration::from_secs(30) > now)
    }

    fn part(&mut self, a: u32, b: u32) {
        if let Some(count) = self.shared.get_mut(&pair(a, b)) {
            *count -= 1;
            if *count == 0 {
                self.shared.remove(&pair(a, b));
            }
        }
    }
}

impl World {
    pub fn told(&mut self, number: u32, contact: ContactRef, conn: ConnRef, what: Told) {
        let (now, strict) = (self.now, self.options.strict);
        self.story.add(now, [number; 2], || {
            let key = self.nodes[number as usize].core.view().contact(contact).map(|contact| contact.who.key);
            let whom = match key.as_ref().and_then(node_of_key) {
                Some(node) => format!("node {node}"),
                None => format!("{key:?}"),
            };
            format!("node {number}, about {whom} on {conn}: {}", in_words(what))
        });
        match what {
            Told::Connected => self.told_connected(number, conn),
            Told::Lost(why) => self.told_lost(number, conn, why),
            Told::Banned if strict => {
                let key = self.node(number).core.view().contact(contact).map(|contact| contact.who.key);
                if let Some(other) = key.as_ref().and_then(node_of_key) {
                    self.promises.estranged.insert(pair(number, other));
                }
            }
            _ => {}
        }
    }

    fn linked(&mut self, number: u32, conn: ConnRef) -> Option<(WireRef, usize)> {
        match self.socket(number, conn) {
            Some(Socket::Linked { wire, side }) => Some((*wire, usize::from(*side))),
            _ => None,
        }
    }

    fn told_connected(&mut self, number: u32, conn: ConnRef) {
        self.tally.connected += 1;
        let slot = self.node(number).slot(conn);
        let is_first = slot.is_some_and(|slot| !std::mem::replace(&mut slot.is_announced, true));
        if !is_first {
            return self.fail("a connection is announced once", [number; 2], format!("{conn}"));
        }
        // The link may have ended in the meantime; then its end is on the way, and nobody shares anything.
        let Some((wire, side)) = self.linked(number, conn) else { return };
        let Some(row) = self.wires.get_mut(wire) else { return };
        row.ends[side].is_up = true;
        let peer = row.ends[1 - side].node;
        let is_shared = row.ends[1 - side].is_up;
        row.is_shared = is_shared;
        self.hold_ban(number, peer, "a banned peer is not announced");
        if is_shared {
            let count = self.promises.shared.entry(pair(number, peer)).or_insert(0);
            *count += 1;
            let count = *count;
            if count > 1 && !self.promises.is_replacing(number, peer, self.now) {
                self.tally.duplicates += 1;
                if self.promises.duplicates != Duplicates::Allowed && self.options.strict {
                    let what = "two nodes share one connection at most";
                    self.fail(what, [number, peer], format!("{conn} is the second"));
                }
            }
        }
        if self.options.exchange {
            self.introduce(number, peer, wire, side);
        }
    }

    /// Peer exchange, as after a connection is ready: a few peers that this one knows.
    fn introduce(&mut self, number: u32, peer: u32, wire: WireRef, side: usize) {
        const REMEMBERED: usize = 24;
        let mut peers = [NOBODY; PEERS];
        let at = &mut self.nodes[number as usize];
        let from = at.rng.below(at.met.len() as u64);
        let from = usize::try_from(from).unwrap_or(0);
        for (place, index) in peers.iter_mut().zip(0..at.met.len()) {
            *place = at.met[(from + index) % at.met.len()];
        }
        if at.met.len() == REMEMBERED {
            let forget = usize::try_from(at.rng.below(at.met.len() as u64)).unwrap_or(0);
            at.met.swap_remove(forget);
        }
        if !at.met.contains(&peer) {
            at.met.push(peer);
        }
        if peers[0] != NOBODY {
            self.send(wire, side, Msg::Peers(peers));
        }
    }

    fn told_lost(&mut self, number: u32, conn: ConnRef, why: Close) {
        let slot = self.node(number).slot(conn);
        let was_announced = slot.is_some_and(|slot| std::mem::replace(&mut slot.is_announced, false));
        if !was_announced {
            return self.fail("only what was announced is lost", [number; 2], format!("{conn}"));
        }
        let Some((wire, side)) = self.linked(number, conn) else { return };
        let Some(row) = self.wires.get_mut(wire) else { return };
        let row_now = *row;
        row.ends[side].is_up = false;
        row.is_shared = false;
        let peer = row_now.ends[1 - side].node;
        if row_now.is_shared {
            self.promises.part(number, peer);
        }
        let by_rule = matches!(why, Close::Duplicate | Close::Replaced | Close::Dead);
        let replaced = self.promises.is_replacing(number, peer, self.now);
        if by_rule
            && !replaced
            && self.promises.duplicates == Duplicates::Numbers
            && self.is_sound(&row_now, side)
        {
            let what = "nothing announced is withdrawn with the link intact";
            self.fail(what, [number, peer], format!("{conn} {why:?}"));
        }
    }

    /// Whether a link works, and did for long enough that nobody can rightly doubt it.
    fn is_sound(&self, row: &crate::wire::Wire, side: usize) -> bool {
        let calm = |time: Time| time == Time::ZERO || time + AFTERMATH < self.now;
        row.ends.iter().all(|end| end.is_open && !end.is_cut)
            && row.ends[1 - side].is_up
            && calm(row.troubled_until)
            && calm(self.weather.rough_until)
            && row.ends.iter().all(|end| calm(self.nodes[end.node as usize].suspended_until))
    }

    /// A node's life ends: what it had announced is no longer shared.
    pub fn bury(&mut self, wire: WireRef, side: usize) {
        let Some(row) = self.wires.get_mut(wire) else { return };
        let (a, b, was_shared) = (row.ends[0].node, row.ends[1].node, row.is_shared);
        row.ends[side].is_up = false;
        row.is_shared = false;
        if was_shared {
            self.promises.part(a, b);
        }
    }

    pub fn hold_dial(&mut self, number: u32, dial: &Dial) {
        let shown = (dial.greeting.epoch, dial.greeting.dial);
        let known = &mut self.node(number).known;
        // Numbers are given when names are looked up and shown when that is done: they rise towards each peer alone.
        let before = known.shown.insert(dial.who, shown).unwrap_or_default();
        if shown <= before {
            let detail = format!("{shown:?} after {before:?}");
            return self.fail("epochs and dial numbers rise", [number; 2], detail);
        }
        let now = self.now;
        let known = &self.nodes[number as usize].known;
        let banned = |target: &Target| match target {
            Target::Key(key) => dial.who.key == *key || dial.expect == Some(*key),
            Target::Subnet(subnet) => dial.addrs.iter().any(|addr| subnet.contains(addr.ip)),
        };
        if let Some((target, _)) = known.bans.iter().find(|(target, until)| *until > now && banned(target)) {
            let detail = format!("{target:?} holds, and it dials {:?} at {:?}", dial.who, dial.addrs);
            self.fail("a banned peer is not dialled", [number; 2], detail);
        }
    }

    fn hold_ban(&mut self, number: u32, peer: u32, what: &'static str) {
        let now = self.now;
        let key = Target::Key(scenario::key(peer));
        let bans = &self.nodes[number as usize].known.bans;
        if bans.iter().any(|(target, until)| *target == key && *until > now) {
            self.fail(what, [number, peer], "a ban of its key holds".into());
        }
    }

    /// No count rises above its limit. One that a new configuration lowered may stay above and fall.
    pub fn hold_counts(&mut self, number: u32) {
        let node = &mut self.nodes[number as usize];
        let view = node.core.view();
        let (counts, limits) = (view.counts(), node.core.config().limits);
        let have = [counts.total(), counts.inbound, counts.outbound, counts.pending, counts.courtesy];
        let most = [limits.total, limits.inbound, limits.outbound, limits.pending, limits.courtesy];
        let before = std::mem::replace(&mut node.known.counts, have);
        for index in 0..have.len() {
            if have[index] > most[index] && have[index] > before[index] {
                let detail = format!("{have:?} against {most:?}");
                return self.fail("no count rises above its limit", [number; 2], detail);
            }
        }
    }
}

/// Replays a journal's segment; how many actions it held.
pub(crate) fn replay(segment: &[u8], live: &Core) -> Result<u64, String> {
    let mut replay = journal::Replay::new(segment).map_err(|error| format!("{error:?}"))?;
    let mut out = Effects::new();
    while replay.step(&mut out).map_err(|error| format!("{error:?}"))?.is_some() {}
    if !replay.ended {
        return Err("its end is missing".into());
    }
    let (mut here, mut there) = (Vec::new(), Vec::new());
    live.save(&mut here);
    replay.core.save(&mut there);
    if here != there {
        return Err("the digests agree, the states do not".into());
    }
    Ok(replay.actions)
}
