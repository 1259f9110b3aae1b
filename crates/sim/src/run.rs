//! One seed, from its scenario to a verdict: a safety phase under faults, then faults stop and everybody who is wanted
//! and reachable must be connected; then everybody goes home, no slot is left, and every journal replays.

use crate::promises::{Violation, pair};
use crate::scenario::{self, Scenario, node_of_addr, node_of_key};
use crate::story::Story;
use crate::world::{Options, World};
use peerkeep_core::{Action, Change, Command, ContactView, Refusal, Source, Stage, Standing, Time, Who, Why};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Actions that cores stepped, replays not counted.
    pub actions: u64,
    /// Actions that were replayed from journals.
    pub replayed: u64,
    /// Connections that were announced.
    pub connected: u64,
    /// How long it took from the end of faults until every pair was connected, virtual time.
    pub healed_in: Duration,
    /// Pairs that had to be connected at the end.
    pub pairs: usize,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    /// The story about the nodes concerned; empty unless it was asked for.
    pub story: String,
}

/// With everything switched on: what a seed is judged by.
const STRICT: Options = Options { journal: true, check: true, disk: true, exchange: false, strict: true };
/// Lines of a story shown.
const STORY_LINES: usize = 120;

/// Runs a scenario. A panic inside is a broken promise like any other.
pub fn run(scenario: &Scenario, with_story: bool) -> Outcome {
    silence_panics();
    let story = if with_story { Story::kept() } else { Story::default() };
    let mut world =
        World::new(scenario, Options { exchange: scenario.seed.is_multiple_of(2), ..STRICT }, story);
    let mut end = End::default();
    let result = catch_unwind(AssertUnwindSafe(|| phases(&mut world, scenario, &mut end)));
    let mut violation = world.promises.violation.take();
    if let Err(panic) = result {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("of unknown content");
        let nodes = world.stepping.map_or([0, 0], |node| [node; 2]);
        violation =
            Some(Violation { what: format!("panic: {text}"), nodes, detail: String::new(), at: world.now });
    }
    let story = match &violation {
        Some(violation) => world.story.about(&violation.nodes, STORY_LINES),
        None => world.story.about(&[], STORY_LINES),
    };
    Outcome {
        actions: world.tally.actions,
        replayed: world.tally.replayed,
        connected: world.tally.connected,
        healed_in: end.healed_in,
        pairs: end.pairs,
        violation,
        story,
    }
}

/// A caught panic is told by its seed, not by the hook's lines on stderr.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let inside = std::thread::current().name().is_some_and(|name| name.starts_with(QUIET_THREAD));
            if !inside {
                loud(info);
            }
        }));
    });
}

/// Threads whose panics are caught and told by their seed have names that begin so.
pub const QUIET_THREAD: &str = "world";

#[derive(Default)]
struct End {
    healed_in: Duration,
    pairs: usize,
}

fn phases(world: &mut World, scenario: &Scenario, end: &mut End) {
    for node in 0..count(world) {
        world.boot(node);
    }
    world.run_until(scenario.faults_until);
    heal(world);
    let began = world.now;
    let wait = 2 * scenario.longest_backoff() + SLACK;
    let until = began + wait;
    let mut steady = 0;
    while world.promises.violation.is_none() && steady < STEADY {
        let missing = missing(world, end);
        match missing {
            None => {
                if steady == 0 {
                    end.healed_in = world.now - began;
                }
                steady += 1;
            }
            Some((nodes, detail)) if world.now >= until => {
                world.fail("every wanted and reachable pair is connected in time", nodes, detail);
            }
            Some(_) => steady = 0,
        }
        let next = world.now + Duration::from_secs(2);
        world.run_until(next);
    }
    hold_progress(world);
    go_home(world);
}

/// Besides twice the longest backoff: the time to notice a dead link, one look at a lifted ban, one attempt.
const SLACK: Duration = Duration::from_secs(25 + 60 + 15);
/// Everybody must stay connected over so many looks, two seconds apart.
const STEADY: u32 = 4;

fn count(world: &World) -> u32 {
    u32::try_from(world.nodes.len()).unwrap_or(u32::MAX)
}

/// Faults stop: networks are whole, machines run, bans are lifted, operators fall silent.
fn heal(world: &mut World) {
    let settle = world.now + Duration::from_millis(10);
    world.weather.loss_per_mille = 0;
    world.weather.burst_per_mille = 0;
    world.weather.extra_us = 0;
    world.run_until(settle);
    for node in 0..count(world) {
        let at = world.node(node);
        if at.plan.is_absent {
            continue;
        }
        at.disk.deaf_until = Time::ZERO;
        let (is_alive, is_draining) = (at.is_alive, at.known.is_draining);
        if is_alive && is_draining {
            world.crash(node, false);
        }
        if !is_alive || is_draining {
            world.boot(node);
        }
        for (target, _) in world.node(node).known.bans.clone() {
            world.command(node, Command::Unban(target));
        }
        world.step(node, Action::Network(Change::Online));
    }
}

/// The first pair that should be connected and is not.
fn missing(world: &World, end: &mut End) -> Option<([u32; 2], String)> {
    let mut found = None;
    end.pairs = 0;
    for (number, node) in (0..count(world)).zip(&world.nodes) {
        if !node.is_alive {
            continue;
        }
        for contact in node.core.view().contacts().filter(|contact| contact.wanted && !contact.forgotten) {
            let Some(other) = peer_of(&contact) else { continue };
            if !is_expected(world, number, other, &contact) {
                continue;
            }
            end.pairs += 1;
            let shared = world.promises.shared(number, other);
            let here = is_connected(world, number, other);
            let there = is_connected(world, other, number);
            if (shared == 1 && here && there) || is_spare(world, shared) {
                continue;
            }
            let why = node.core.view().why(contact.contact);
            let (stands, at) = (contact.standing, contact.retry_at);
            found = found.or(Some((
                [number, other],
                format!("{shared} shared, {here} here, {there} there; {stands:?}, due {at:?}: {why:?}"),
            )));
        }
    }
    found
}

/// Where duplicates are allowed, more than one is as good.
fn is_spare(world: &World, shared: u32) -> bool {
    world.promises.duplicates == peerkeep_core::Duplicates::Allowed && shared >= 1
}

fn peer_of(contact: &ContactView) -> Option<u32> {
    if contact.who.key.is_identity() {
        return node_of_key(&contact.who.key);
    }
    contact.addrs.first().and_then(|known| node_of_addr(&known.addr))
}

fn is_connected(world: &World, from: u32, to: u32) -> bool {
    let view = world.nodes[from as usize].core.view();
    let contact = view.find(&Who::mesh(scenario::key(to))).and_then(|contact| view.contact(contact));
    contact.is_some_and(|contact| contact.standing == Standing::Connected)
}

/// Whether the one who wants can get there, and nobody holds something against somebody.
fn is_expected(world: &World, from: u32, to: u32, contact: &ContactView) -> bool {
    let Some(target) = world.nodes.get(to as usize) else { return false };
    let addr = scenario::addr(to, target.plan.nat);
    let config = world.nodes[from as usize].core.config();
    let knows = contact.addrs.iter().any(|known| {
        let hidden = addr.is_private() && known.source == Source::Gossip && !config.dial_private_gossip;
        known.addr == addr && !hidden
    });
    from != to
        && target.is_alive
        && world.reaches(from, to, &addr)
        && (knows || contact.named)
        && !is_let_go(world, from, to)
        && !world.promises.estranged.contains(&pair(from, to))
        && !is_tight(world, from)
        && !is_tight(world, to)
}

/// Whether the one who is wanted closes what it does not want itself when nobody uses it.
fn is_let_go(world: &World, from: u32, to: u32) -> bool {
    let core = &world.nodes[to as usize].core;
    let view = core.view();
    let contact = view.find(&Who::mesh(scenario::key(from))).and_then(|contact| view.contact(contact));
    core.config().rules[0].idle.is_some() && !contact.is_some_and(|contact| contact.wanted || contact.held)
}

/// Whether a node's limits may rightly keep a wanted peer away for ever.
fn is_tight(world: &World, node: u32) -> bool {
    let limits = world.nodes[node as usize].core.config().limits;
    (limits.total as usize) < 2 * world.nodes.len() || limits.dials_per_minute < 100
}

/// Whoever wants something and does not have it has a reason that ends, and a time at which it looks again.
fn hold_progress(world: &mut World) {
    for number in 0..count(world) {
        let node = &world.nodes[number as usize];
        if !node.is_alive || world.promises.violation.is_some() {
            continue;
        }
        let view = node.core.view();
        let wishes =
            view.contacts().filter(|contact| (contact.wanted || contact.asked) && !contact.forgotten);
        let stuck = wishes.map(|contact| (view.why(contact.contact), contact)).find(|(why, contact)| {
            match contact.standing {
                Standing::Idle => {
                    // A ban that was lifted early is noticed by a timer of the contact.
                    let waits = matches!(why, Why::Refused(Refusal::NoAddress | Refusal::Banned { .. }));
                    !waits && node.core.next_wake().is_none()
                }
                Standing::GaveUp => true,
                // A slot that is being given back is as good as a timer.
                Standing::Waiting | Standing::Queued(_) => {
                    node.core.next_wake().is_none() && view.conns().all(|conn| conn.stage == Stage::Up)
                }
                Standing::Dialing | Standing::Connected => false,
            }
        });
        if let Some((why, contact)) = stuck {
            let other = peer_of(&contact).unwrap_or(number);
            world.fail("nobody who is wanted is stuck", [number, other], format!("{contact:?}: {why:?}"));
        }
    }
}

/// Everybody shuts down; no slot is left; every record replays.
fn go_home(world: &mut World) {
    for node in 0..count(world) {
        if world.nodes[node as usize].is_alive {
            world.command(node, Command::Shutdown);
        }
    }
    let until = world.now + Duration::from_secs(40);
    world.run_until(until);
    for number in 0..count(world) {
        let node = &world.nodes[number as usize];
        if !node.is_alive {
            continue;
        }
        let counts = node.core.view().counts();
        let left = [counts.total(), counts.pending, counts.courtesy, counts.up()];
        if left != [0; 4] {
            world.fail("no slot is left at the end", [number; 2], format!("{left:?}"));
        }
        world.replay(number);
    }
    if world.wires.len() > 0 && world.promises.violation.is_none() {
        let left = world.wires.len();
        world.fail("no socket is left at the end", [0, 0], format!("{left} wires"));
    }
}
