//! Arbitrary actions in arbitrary order, valid and senseless alike: every invariant after every one, every command
//! answered, every run replayed byte for byte, every slot back at the end.

use crate::rig::{self, Rig, addr, at, fault, peer};
use crate::world::Rng;
use peerkeep_core::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const RUNS: u64 = 150;
const ACTIONS: usize = 400;

struct Chaos {
    rig: Rig,
    rng: Rng,
    conns: Vec<ConnRef>,
    tickets: u32,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut rng = Rng(seed);
        let rig = Rig::new(|config| {
            config.rules[0].target = (rng.next() % 4) as u16;
            config.limits.reserve = 0;
            config.limits.total = 12;
            config.limits.inbound = 8;
            config.limits.outbound = 6;
            config.limits.pending = 6;
            config.limits.per_ip = 4;
            config.limits.contacts = 10;
            config.limits.bans = 4;
            config.limits.dials_per_minute = 30;
            config.limits.courtesy = 2;
            config.dial_private_gossip = true;
            config.preference = Preference::Identity;
            if rng.chance(30) {
                config.rules[0].duplicates = Duplicates::HoldAndConfirm;
            }
            if rng.chance(30) {
                config.rules[0].idle = Some(Duration::from_secs(20));
            }
        });
        Chaos { rig, rng, conns: Vec::new(), tickets: 0 }
    }

    fn who(&mut self) -> Who {
        let mut who = peer(95 + (self.rng.next() % 14) as u8);
        if self.rng.chance(25) {
            who.stack = [StackId::Libp2p, StackId::Bitcoin, StackId::Lan][self.rng.below(3)];
        }
        who
    }

    fn addrs(&mut self) -> Addrs {
        let n = self.rng.below(3);
        (0..n).map(|_| at((self.rng.next() % 6) as u8)).collect()
    }

    fn conn(&mut self) -> ConnRef {
        if self.conns.is_empty() || self.rng.chance(3) {
            return ConnRef { row: (self.rng.next() % 30) as u32, generation: (self.rng.next() % 3) as u32 };
        }
        let recent = self.conns.len().min(12);
        self.conns[self.conns.len() - 1 - self.rng.below(recent)]
    }

    fn greeting(&mut self) -> Option<Greeting> {
        if self.rng.chance(5) {
            return None;
        }
        let n = |rng: &mut Rng| rng.next() % 6;
        Some(Greeting {
            epoch: 498 + n(&mut self.rng),
            dial: n(&mut self.rng) as u32,
            accepted: (998 + n(&mut self.rng), n(&mut self.rng) as u32),
            replaces: self.rng.chance(5),
        })
    }

    fn command(&mut self) -> Command {
        let (who, addrs) = (self.who(), self.addrs());
        match self.rng.below(14) {
            0 | 1 => Command::Connect { who, addrs, named: self.rng.chance(10) },
            2 | 3 => Command::Want { who, addrs, named: self.rng.chance(10) },
            4 => Command::Unwant(who),
            5 => Command::Disconnect(who),
            6 => Command::Cancel(who),
            7 => Command::Retry(who),
            8 => Command::Reset(who),
            9 => Command::Hold { who, on: self.rng.chance(50) },
            10 => Command::Ban {
                target: self.target(who),
                span: Some(Duration::from_secs(self.rng.next() % 90)),
            },
            11 => Command::Unban(self.target(who)),
            12 => Command::Forget(who),
            _ => Command::Configure(Box::new(self.config())),
        }
    }

    fn target(&mut self, who: Who) -> Target {
        let ip = at((self.rng.next() % 6) as u8).ip;
        match self.rng.below(3) {
            0 => Target::Subnet(Subnet::new(ip, 96 + 24)),
            1 => Target::Subnet(Subnet::host(ip)),
            _ => Target::Key(who.key),
        }
    }

    fn config(&mut self) -> Config {
        let mut config = self.rig.core.config().clone();
        config.limits.inbound = 1 + (self.rng.next() % 10) as u32;
        config.rules[0].target = (self.rng.next() % 5) as u16;
        config
    }

    fn fact(&mut self) -> Fact {
        if self.rng.chance(60)
            && let Some(fact) = self.sensible_fact()
        {
            return fact;
        }
        let conn = self.conn();
        let key = if self.rng.chance(3) { rig::ME } else { self.who().key };
        match self.rng.below(15) {
            0 | 1 => {
                self.tickets += 1;
                let remote = addr(&format!("10.1.{}.1:{}", self.rng.next() % 6, self.rng.next() % 9));
                Fact::Arrived { ticket: Ticket(self.tickets), stack: self.who().stack, remote }
            }
            2..=4 => {
                let expected = self.rig.core.view().dial(conn).and_then(|dial| dial.expect);
                let key = expected.filter(|_| self.rng.chance(90)).unwrap_or(key);
                let at = at((self.rng.next() % 6) as u8);
                Fact::Met { conn, key, at, greeting: self.greeting() }
            }
            5 | 6 => Fact::Ready { conn },
            7 => Fact::Missed { conn, addr: at(1), fault: fault(FaultKind::Refused) },
            8 => {
                let report = Report { received_at: self.rig.now, used_at: self.rig.now, ..Report::default() };
                Fact::Reported { conn, report }
            }
            9 => Fact::Violated { conn, what: Violation::TooMuch },
            10 => {
                let newer_epoch = self.rng.next() % 2_000;
                Fact::Declined {
                    conn,
                    key: Some(key),
                    at: at(1),
                    code: 4,
                    retry_after: Duration::from_secs(3),
                    newer_epoch,
                }
            }
            11 => Fact::Resolved { conn, addrs: self.addrs() },
            12 => Fact::Learned { who: self.who(), addrs: self.addrs(), source: Source::Gossip },
            13 => Fact::Bound { a: self.who(), b: self.who() },
            _ => self.gone(conn),
        }
    }

    /// What a real stack could say next about one of the conns that live.
    fn sensible_fact(&mut self) -> Option<Fact> {
        let live: Vec<ConnView> = self.rig.core.view().conns().collect();
        let conn = live.get(self.rng.below(live.len()))?;
        let expected = self.rig.core.view().dial(conn.conn).and_then(|dial| dial.expect);
        let (key, at, conn, stage) = (expected.unwrap_or(self.who().key), conn.remote, conn.conn, conn.stage);
        Some(match stage {
            Stage::Resolving => Fact::Resolved { conn, addrs: self.addrs() },
            Stage::Arriving | Stage::Dialing | Stage::Refusing => {
                Fact::Met { conn, key, at, greeting: self.greeting() }
            }
            Stage::Offered => Fact::Ready { conn },
            Stage::Closing => Fact::Gone { conn, end: End::Asked },
            Stage::Up if self.rng.chance(80) => return None,
            Stage::Held | Stage::Up => self.gone(conn),
        })
    }

    fn gone(&mut self, conn: ConnRef) -> Fact {
        let end = match self.rng.below(4) {
            0 => End::Asked,
            1 => End::Goodbye(Close::Requested),
            2 => End::Violation(Violation::Malformed),
            _ => End::Fault(fault(FaultKind::Reset)),
        };
        Fact::Gone { conn, end }
    }

    fn note(&mut self) {
        for effect in &self.rig.out {
            match effect {
                Effect::Dial { conn, .. } | Effect::Accept { conn, .. } | Effect::Resolve { conn } => {
                    self.conns.push(*conn);
                }
                _ => {}
            }
        }
    }

    fn run(&mut self) {
        self.run_some(ACTIONS);
    }

    /// All there is to see of everybody.
    fn seen(&self) -> String {
        let view = self.rig.core.view();
        format!("{:?} {:?}", view.contacts().collect::<Vec<_>>(), view.conns().collect::<Vec<_>>())
    }

    fn action(&mut self) -> Action {
        match self.rng.below(10) {
            0..=2 => Action::Do(CommandId(0), self.command()),
            3..=7 => Action::Saw(self.fact()),
            8 => {
                self.rig.now = self.rig.now + Duration::from_millis(self.rng.next() % 3_000);
                Action::Wake
            }
            _ => Action::Network([Change::Online, Change::Offline, Change::Moved][self.rng.below(3)]),
        }
    }

    fn run_some(&mut self, actions: usize) {
        for _ in 0..actions {
            match self.action() {
                Action::Do(_, command) => drop(self.rig.ask(command)),
                action => drop(self.rig.step(action).len()),
            }
            self.note();
        }
    }

    /// Nobody who is desired is left where nothing will ever happen, and what could happen at once has happened.
    fn check_progress(&self) {
        let view = self.rig.core.view();
        for contact in view.contacts().filter(|c| (c.wanted || c.asked) && !c.forgotten) {
            let why = view.why(contact.contact);
            let stuck = match contact.standing {
                Standing::Idle => {
                    !matches!(why, Why::Refused(Refusal::Banned { .. } | Refusal::NoAddress))
                        || matches!(why, Why::Refused(Refusal::Banned { .. }))
                            && self.rig.core.next_wake().is_none()
                }
                Standing::GaveUp => true,
                Standing::Dialing => false,
                // Freed by others' conns, of which nobody tells it: it looks again by itself.
                Standing::Queued(
                    Limit::PerIp | Limit::PerSubnet | Limit::PerPeer | Limit::DestinationRate,
                ) => self.rig.core.next_wake().is_none(),
                // Timers are rounded up to their tick.
                _ => {
                    let soon = self.rig.now + Duration::from_micros(1_100);
                    why == Why::Due && self.rig.core.next_wake().is_none_or(|at| at > soon)
                }
            };
            assert!(!stuck, "{contact:?} is stuck: {why:?}");
        }
    }

    /// Every socket ends; nothing may be left behind.
    fn end(&mut self) {
        self.rig.step(Action::Network(Change::Online));
        // Until every ban is over and was looked at again; nobody answers any more.
        for _ in 0..170 {
            self.rig.seconds(1);
            let left: Vec<ConnRef> = self.rig.core.view().conns().map(|conn| conn.conn).collect();
            for conn in left {
                self.rig.gone(conn, End::Fault(fault(FaultKind::Refused)));
            }
        }
        self.check_progress();
        self.rig.ask(Command::Shutdown);
        for _ in 0..50 {
            self.rig.seconds(1);
            let left: Vec<ConnRef> = self.rig.core.view().conns().map(|conn| conn.conn).collect();
            for conn in left {
                self.rig.gone(conn, End::Asked);
            }
        }
        let counts = self.rig.core.view().counts().clone();
        assert_eq!((counts.total(), counts.pending, counts.courtesy, counts.up()), (0, 0, 0, 0));
        assert_eq!(self.rig.core.view().draining(), Some(0));
    }
}

#[test]
fn fault_c5_any_order_of_anything_breaks_no_invariant_and_leaks_no_slot() {
    let (mut connected, mut refused, mut failures, mut late) = (0, 0, 0, 0);
    for seed in 0..RUNS {
        let mut chaos = Chaos::new(seed);
        chaos.run();
        chaos.end();
        let stats = chaos.rig.core.stats();
        connected += stats.connected;
        refused += stats.refused;
        failures += stats.failures;
        late += stats.late_facts;
        journal::end(chaos.rig.core.digest(), &mut chaos.rig.journal);
        let mut replay = journal::Replay::new(&chaos.rig.journal).expect("a segment");
        let mut out = Effects::new();
        while replay.step(&mut out).expect("the same decisions").is_some() {}
        assert!(replay.ended, "seed {seed}");
    }
    let reached = [connected, refused, failures, late];
    assert!(reached.iter().all(|count| *count > 2 * RUNS), "the chaos gets everywhere: {reached:?}");
}

#[test]
fn a_checkpoint_in_the_middle_changes_nothing() {
    for seed in 0..RUNS / 3 {
        let mut chaos = Chaos::new(seed);
        chaos.run();
        let mut bytes = Vec::new();
        chaos.rig.core.save(&mut bytes);
        let mut again = Core::load(&bytes).expect("what was saved can be loaded");
        assert_eq!(again.digest(), chaos.rig.core.digest());
        for _ in 0..50 {
            let action = Action::Saw(chaos.fact());
            let mut out = Effects::new();
            again.step(chaos.rig.now, &action, &mut out);
            chaos.rig.step(action);
            assert_eq!(out.as_slice(), chaos.rig.out.as_slice(), "seed {seed}");
            assert_eq!(again.digest(), chaos.rig.core.digest());
            chaos.note();
        }
        assert_eq!(again.canonical(chaos.rig.now), chaos.rig.core.canonical(chaos.rig.now));
    }
}

#[test]
fn fault_k8_a_hostile_recording_is_refused_and_never_panics() {
    let mut chaos = Chaos::new(1);
    chaos.run();
    let good = chaos.rig.journal.clone();
    let mut out = Effects::new();
    let mut rng = Rng(9);
    for round in 0..1_500 {
        let mut bytes = good.clone();
        match round % 3 {
            0 => bytes.truncate(rng.below(good.len())),
            _ => {
                let flip = rng.below(good.len());
                bytes[flip] ^= 1 << rng.below(8);
            }
        }
        if let Ok(mut replay) = journal::Replay::new(&bytes) {
            while let Ok(Some(_)) = replay.step(&mut out) {}
            assert!(round % 3 == 0 || !replay.ended, "a flipped bit is noticed");
        }
    }
    for round in 0..1_500 {
        let mut bytes = Vec::new();
        chaos.rig.core.save(&mut bytes);
        let flip = rng.below(bytes.len());
        bytes[flip] ^= 1 << (round % 8);
        if let Ok(core) = Core::load(&bytes) {
            assert_eq!(core.check(), Ok(()), "what is loaded holds together");
        }
    }
    assert!(matches!(Core::load(&[9, 0, 0, 0, 1, 2]), Err(LoadError::Version(9))));
}

#[test]
fn s0_26_what_is_refused_changes_nothing_and_starts_nothing() {
    let mut reasons = BTreeSet::new();
    for seed in 0..RUNS {
        let mut chaos = Chaos::new(seed);
        for _ in 0..ACTIONS / 8 {
            chaos.run_some(4);
            // What was due has happened: what follows follows from the command.
            chaos.rig.pass(Duration::from_micros(1_200));
            let canonical = chaos.rig.core.canonical(chaos.rig.now);
            let seen = chaos.seen();
            let command = chaos.command();
            let text = format!("{command:?}");
            let answer = chaos.rig.ask(command);
            chaos.note();
            let Answer::No(why) = answer else { continue };
            assert_eq!(chaos.rig.out.len(), 1, "seed {seed}: the answer and nothing else: {text} {why:?}");
            assert_eq!(chaos.seen(), seen, "seed {seed}: {text} {why:?}");
            assert_eq!(chaos.rig.core.canonical(chaos.rig.now), canonical, "seed {seed}: {text} {why:?}");
            let first = |text: &str| text.split([' ', '(']).next().unwrap_or_default().to_string();
            reasons.insert((first(&text), first(&format!("{why:?}"))));
        }
    }
    assert!(reasons.len() >= 20, "the chaos gets everywhere: {reasons:?}");
}

/// The edges between standings: those of ARCHITECTURE.md. One step may take several of the
/// drawn ones in a row. `Connected` is reached from an attempt or an offer alone, and by nothing but `Ready`.
const STANDING_EDGES: [(&str, &[&str]); Standing::COUNT] = [
    ("Idle", &["Queued", "Waiting", "Dialing"]),
    ("Queued", &["Idle", "Waiting", "Dialing", "GaveUp"]),
    ("Waiting", &["Idle", "Queued", "Dialing", "Connected", "GaveUp"]),
    ("Dialing", &["Idle", "Queued", "Waiting", "Connected", "GaveUp"]),
    ("Connected", &["Idle", "Queued", "Waiting", "Dialing", "GaveUp"]),
    ("GaveUp", &["Idle", "Queued", "Waiting", "Dialing"]),
];

/// The edges between stages, from ARCHITECTURE.md; `new` and `gone` are before and after.
const STAGE_EDGES: [(&str, &[&str]); Stage::COUNT + 1] = [
    ("new", &["Resolving", "Dialing", "Arriving", "Refusing"]),
    ("Resolving", &["Dialing", "Closing", "gone"]),
    ("Dialing", &["Offered", "Closing", "gone"]),
    ("Arriving", &["Held", "Offered", "Closing", "gone"]),
    ("Held", &["Offered", "Closing", "gone"]),
    ("Offered", &["Up", "Closing", "gone"]),
    ("Up", &["Closing", "gone"]),
    // Somebody wanted, for whom a slot is kept.
    ("Refusing", &["Held", "Offered", "Closing", "gone"]),
    ("Closing", &["gone"]),
];

fn first_word(text: &str) -> String {
    text.split([' ', '(', '{']).next().unwrap_or_default().to_string()
}

/// The name of every contact's standing and every conn's stage.
fn places(view: &View<'_>) -> (BTreeMap<ContactRef, String>, BTreeMap<ConnRef, String>) {
    let standing = |c: ContactView| (c.contact, first_word(&format!("{:?}", c.standing)));
    let stage = |c: ConnView| (c.conn, first_word(&format!("{:?}", c.stage)));
    (view.contacts().map(standing).collect(), view.conns().map(stage).collect())
}

fn is_drawn(table: &[(&str, &[&str])], from: &str, to: &str) -> bool {
    table.iter().any(|(at, edges)| *at == from && edges.contains(&to))
}

#[test]
fn s0_9_no_edge_is_taken_that_is_not_drawn() {
    let mut seen = BTreeSet::new();
    for seed in 0..RUNS {
        let mut chaos = Chaos::new(seed);
        let mut before = places(&chaos.rig.core.view());
        for _ in 0..ACTIONS {
            let action = chaos.action();
            chaos.rig.step(action.clone());
            chaos.note();
            let after = places(&chaos.rig.core.view());
            for (contact, to) in &after.0 {
                let from = before.0.get(contact).map_or("Idle", String::as_str);
                if from != to {
                    assert!(is_drawn(&STANDING_EDGES, from, to), "{from} to {to} by {action:?}");
                    let ready = matches!(action, Action::Saw(Fact::Ready { .. }));
                    assert!(to != "Connected" || ready, "{from} to {to} by {action:?}");
                    seen.insert((from.to_string(), to.clone()));
                }
            }
            for conn in before.1.keys().chain(after.1.keys()) {
                let from = before.1.get(conn).map_or("new", String::as_str);
                let to = after.1.get(conn).map_or("gone", String::as_str);
                if from != to {
                    assert!(is_drawn(&STAGE_EDGES, from, to), "{from} to {to} by {action:?}");
                    let gone = matches!(action, Action::Saw(Fact::Gone { .. }));
                    assert!(to != "gone" || gone, "{from} to {to} by {action:?}");
                    seen.insert((from.to_string(), to.to_string()));
                }
            }
            before = after;
        }
    }
    let drawn: usize = STANDING_EDGES.iter().chain(&STAGE_EDGES).map(|(_, edges)| edges.len()).sum();
    assert!(seen.len() * 10 >= drawn * 9, "the chaos takes nearly all of them: {} of {drawn}", seen.len());
}
