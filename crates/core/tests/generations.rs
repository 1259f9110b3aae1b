//! Connections that repeat, stop halfway or come from clones: late news of an old one changes nothing, deadlines free
//! every slot, and nothing flaps. Through the public door only.

use crate::rig::{Rig, at, fault, peer};
use crate::world::{self, World};
use peerkeep_core::*;
use std::time::Duration;

/// How to begin, and after how many seconds it must be over.
type Case = (&'static str, fn(&mut Rig) -> ConnRef, u64);

fn hello(dial: u32) -> Greeting {
    Greeting { epoch: 500, dial, ..Greeting::default() }
}

#[test]
fn fault_l11_the_same_pair_of_ports_is_a_new_connection_and_news_of_the_old_one_is_late() {
    let mut rig = Rig::new(|_| ());
    let old = rig.inbound(1, 1).expect("room");
    // The same address and port again, before the end of the first was heard of.
    let new = rig.inbound(1, 2).expect("room");
    assert_ne!(new, old);
    assert!(rig.core.view().conn(old).is_some_and(|conn| conn.stage == Stage::Closing), "superseded");
    rig.gone(old, End::Fault(fault(FaultKind::Reset)));
    let late = |rig: &mut Rig, old: ConnRef, up: ConnRef| {
        let before = rig.core.canonical(rig.now);
        let counted = rig.core.stats().late_facts;
        let report = Report { received_at: rig.now, ..Report::default() };
        let facts = [
            Fact::Ready { conn: old },
            Fact::Met { conn: old, key: peer(1).key, at: at(1), greeting: Some(hello(9)) },
            Fact::Reported { conn: old, report },
            Fact::Violated { conn: old, what: Violation::Malformed },
            Fact::Gone { conn: old, end: End::Fault(fault(FaultKind::Reset)) },
        ];
        for fact in &facts {
            assert_eq!(rig.saw(fact.clone()), [], "{fact:?} is about a connection that is over");
        }
        assert_eq!(rig.core.stats().late_facts, counted + facts.len() as u64);
        assert_eq!(rig.core.canonical(rig.now), before, "nothing changed");
        assert_eq!(rig.core.view().conn(up).expect("it stays").stage, Stage::Up);
    };
    late(&mut rig, old, new);
    // And once more in the row of the first: only the generation tells them apart.
    let third = rig.inbound(1, 3).expect("room");
    assert_eq!((third.row, third.generation), (old.row, old.generation + 1));
    rig.gone(new, End::Asked);
    late(&mut rig, old, third);
    assert_eq!(rig.slots(), 1);
}

#[test]
fn fault_h16_a_peer_that_falls_silent_between_the_hellos_costs_a_slot_until_the_deadline() {
    let cases: [Case; 3] = [
        (
            "inbound, our answer sent",
            |rig| {
                let conn = rig.arrive(at(1)).expect("room");
                rig.hello(conn, 1, hello(1));
                assert_eq!(rig.out.last(), Some(&Effect::Admit { conn }));
                conn
            },
            5,
        ),
        (
            "outbound, no answer",
            |rig| {
                rig.connect(1);
                rig.dialled().expect("a dial")
            },
            10,
        ),
        (
            "outbound, the confirm does not leave",
            |rig| {
                rig.connect(1);
                let conn = rig.dialled().expect("a dial");
                rig.saw(Fact::Met { conn, key: peer(1).key, at: at(1), greeting: Some(hello(0)) });
                conn
            },
            10,
        ),
    ];
    for (name, begin, deadline) in cases {
        let mut rig = Rig::new(|_| ());
        let conn = begin(&mut rig);
        rig.pass(Duration::from_secs(deadline) - Duration::from_millis(10));
        assert_eq!((rig.closed(), rig.slots()), (vec![], 1), "{name}: until then it may still come");
        rig.pass(Duration::from_millis(20));
        assert_eq!(rig.closed(), [(conn, Close::Timeout)], "{name}");
        rig.gone(conn, End::Asked);
        assert_eq!(rig.slots(), 0, "{name}");
        assert_eq!(rig.core.view().counts().pending, 0, "{name}");
        assert!(!rig.told().contains(&Told::Connected), "{name}: never announced");
    }
}

#[test]
fn fault_h16_a_held_connection_whose_peer_dies_is_freed_as_well() {
    let mut rig = Rig::new(|_| ());
    rig.connect(200);
    let own = rig.dialled().expect("a dial");
    let conn = rig.arrive(at(200)).expect("room");
    rig.hello(conn, 200, hello(1));
    assert_eq!(rig.core.view().conn(conn).expect("it is there").stage, Stage::Held);
    let mut closed = Vec::new();
    for _ in 0..6 {
        rig.seconds(1);
        for (one, why) in rig.closed() {
            closed.push((one, why));
            rig.gone(one, End::Asked);
        }
    }
    assert_eq!(closed[..2], [(own, Close::Cancelled), (conn, Close::Timeout)]);
}

/// Our end of the old connection is half open: what the peer says it has seen proves it dead.
#[test]
fn fault_d4_a_hello_that_has_seen_our_dial_takes_over_a_half_open_connection_at_once() {
    let mut rig = Rig::new(|_| ());
    let old = rig.up(1);
    let dial = rig.core.view().conn(old).expect("up").dial;
    // Sent before they heard of our dial: no proof, and refused.
    let early = rig.arrive(at(1)).expect("room");
    rig.hello(early, 1, hello(1));
    assert_eq!(rig.turned(early), Some(Refusal::Stale { newer: 0 }));
    assert_eq!(rig.core.view().conn(old).expect("up").stage, Stage::Up);
    rig.gone(early, End::Asked);
    let new = rig.arrive(at(1)).expect("room");
    rig.hello(new, 1, Greeting { accepted: (1_000, dial), ..hello(2) });
    assert_eq!(rig.closed(), [(old, Close::Dead)], "no probe and no wait");
    assert!(rig.out.contains(&Effect::Admit { conn: new }));
    rig.saw(Fact::Ready { conn: new });
    rig.gone(old, End::Asked);
    assert_eq!((rig.standing(1), rig.slots()), (Standing::Connected, 1));
}

#[test]
fn fault_i1_two_clones_that_alternate_neither_flap_nor_storm() {
    for seed in 0..8 {
        let mut world = World::new(3, seed, |config| {
            if config.me == world::key(2) {
                (config.me, config.epoch) = (world::key(1), 1_007);
            }
        });
        world.nodes[2].key = world::key(1);
        for clone in [1, 2] {
            world.want(clone, 0);
        }
        let mut minutes = Vec::new();
        let connected = |world: &World| world.nodes[0].told_kinds().get("Connected").copied().unwrap_or(0);
        for _ in 0..20 {
            let before = (connected(&world), world.dials);
            world.run_for(Duration::from_secs(60));
            minutes.push((connected(&world) - before.0, world.dials - before.1));
        }
        assert!(world.nodes[0].told_kinds().contains_key("CloneSuspected"), "seed {seed}");
        assert!(minutes[0].0 <= 6, "seed {seed}: {minutes:?}");
        assert!(minutes[1..].iter().all(|(ups, _)| *ups == 0), "seed {seed}: one stays: {minutes:?}");
        assert!(minutes.iter().all(|(_, dials)| *dials <= 60), "seed {seed}: {minutes:?}");
        assert!(minutes[3..].iter().all(|(_, dials)| *dials < 10), "seed {seed}: {minutes:?}");
        let links = world.links(0, 1).len() + world.links(0, 2).len();
        assert_eq!(links, 1, "seed {seed}");
    }
}
