//! Whose turn it is to dial: a property over many pairs, one gate for every path, and clusters of nodes that do not
//! agree about the rule. Through the public door only.

use crate::rig::{Rig, addr, addrs, at, fault, peer};
use crate::world::{self, Rng, World};
use peerkeep_core::*;
use std::time::Duration;

/// Whether a node of that identity dials the other at once when it wants it.
fn dials_at_once(me: PeerKey, preference: Preference, other: PeerKey, their_addr: Addr) -> bool {
    let mut rig = Rig::new(|config| {
        (config.me, config.preference) = (me, preference);
        config.limits.contacts = 8;
    });
    let answer = rig.ask(Command::Want { who: Who::mesh(other), addrs: addrs(&[their_addr]), named: false });
    let dialled = rig.dialled().is_some();
    match answer {
        Answer::Begun(_) => assert!(dialled),
        answer => {
            assert!(matches!(answer, Answer::Queued(Refusal::TheirTurn { .. })) && !dialled, "{answer:?}")
        }
    }
    dialled
}

fn random_key(rng: &mut Rng) -> PeerKey {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&rng.next().to_le_bytes());
    }
    let kinds = [KeyKind::Ed25519, KeyKind::Secp256k1Even, KeyKind::Secp256k1Odd, KeyKind::Sha256];
    PeerKey { kind: kinds[rng.below(kinds.len())], bytes }
}

/// Some of them alike in all but their last bytes, and some equal.
fn random_addr(rng: &mut Rng) -> Addr {
    let [a, b, c, d, ..] = rng.next().to_le_bytes();
    match rng.below(4) {
        0 => addr(&format!("[2001:db8:{a:x}:{b:x}::{c:x}]:7330")),
        1 => addr(&format!("10.0.0.{}:7330", 1 + d % 4)),
        2 => addr(&format!("[::ffff:10.0.0.{}]:7330", 1 + d % 4)),
        _ => addr(&format!("{}.{b}.{c}.{}:7330", 11 + a % 100, 1 + d % 200)),
    }
}

#[test]
fn s3_18_s3_90_of_any_two_nodes_exactly_one_dials() {
    let mut rng = Rng(7);
    for _ in 0..600 {
        let (a, b) = (random_key(&mut rng), random_key(&mut rng));
        let (at_a, at_b) = (random_addr(&mut rng), random_addr(&mut rng));
        let one = dials_at_once(a, Preference::Identity, b, at_b);
        let other = dials_at_once(b, Preference::Identity, a, at_a);
        assert_ne!(one, other, "by identity: {a:?} {b:?}");
        assert_eq!(one, a < b);
        let one = dials_at_once(a, Preference::Address { local_ip: at_a.ip }, b, at_b);
        let other = dials_at_once(b, Preference::Address { local_ip: at_b.ip }, a, at_a);
        assert_ne!(one, other, "by address: {at_a:?} {at_b:?}");
        if at_a.ip != at_b.ip {
            assert_eq!(one, at_a.ip < at_b.ip);
        }
    }
}

/// Not our turn under either preference: its identity and its address are lower than ours.
const LOWER: u8 = 1;

fn waits_its_turn(name: &str, preference: Preference, target: u16, begin: fn(&mut Rig)) {
    let mut rig = Rig::new(|config| {
        (config.preference, config.rules[0].target) = (preference, target);
        config.dial_private_gossip = true;
    });
    begin(&mut rig);
    assert_eq!(rig.dialled(), None, "{name}, {preference:?}: the other side dials");
    let Why::Refused(Refusal::TheirTurn { until }) = rig.why(LOWER) else {
        panic!("{name}, {preference:?}: {:?}", rig.why(LOWER))
    };
    assert_eq!(until, rig.now + Duration::from_secs(2), "{name}");
    rig.pass(Duration::from_millis(1_990));
    assert_eq!(rig.dialled(), None, "{name}, {preference:?}: for the whole waiting time");
    rig.pass(Duration::from_millis(20));
    assert!(rig.dialled().is_some(), "{name}, {preference:?}: and then we do");
    assert_eq!(rig.why(LOWER), Why::OnItsWay { conn: rig.dialled().expect("it"), stage: Stage::Dialing });
}

fn knows(rig: &mut Rig, source: Source) {
    rig.saw(Fact::Learned { who: peer(LOWER), addrs: addrs(&[at(LOWER)]), source });
}

fn lost(rig: &mut Rig) {
    knows(rig, Source::Told);
    let conn = rig.inbound(LOWER, 1).expect("room");
    rig.seconds(5);
    rig.gone(conn, End::Fault(fault(FaultKind::Reset)));
}

#[test]
fn s3_34_every_path_to_a_dial_passes_the_one_gate() {
    let by_address = Preference::Address { local_ip: at(9).ip };
    for preference in [Preference::Identity, by_address] {
        let wait = |name, target, begin| waits_its_turn(name, preference, target, begin);
        wait("a want", 0, |rig| {
            rig.want(LOWER);
        });
        wait("stored and wanted at start", 0, |rig| {
            knows(rig, Source::Stored);
            rig.ask(Command::Want { who: peer(LOWER), addrs: Addrs::new(), named: false });
        });
        wait("stored, for the target", 1, |rig| knows(rig, Source::Stored));
        wait("discovered, for the target", 1, |rig| knows(rig, Source::Gossip));
        wait("lost, for the target", 1, lost);
        wait("lost while wanted", 0, |rig| {
            rig.want(LOWER);
            lost(rig);
        });
    }
    waits_its_turn("a manual connect", by_address, 0, |rig| {
        rig.connect(LOWER);
    });
    // By identity alone, an operator who says "connect" means now; the gate knows.
    let mut rig = Rig::new(|c| c.preference = Preference::Identity);
    assert!(matches!(rig.connect(LOWER), Answer::Begun(_)));
}

#[test]
fn s3_36_s3_16_the_preference_halves_the_dials_of_wants_at_the_same_moment() {
    const SEEDS: u64 = 100;
    let dials = |preference| -> u64 {
        (0..SEEDS)
            .map(|seed| {
                let mut world = World::new(2, seed, |c| c.preference = preference);
                world.want(0, 1);
                world.want(1, 0);
                world.run_for(Duration::from_secs(60));
                assert_eq!(world.links(0, 1).len(), 1, "seed {seed}");
                world.dials
            })
            .sum()
    };
    assert_eq!(dials(Preference::Identity), SEEDS, "one side of each pair");
    let without = dials(Preference::Nobody);
    assert!((2 * SEEDS..=2 * SEEDS + SEEDS / 10).contains(&without), "{without}");
}

#[test]
fn s3_52_nodes_with_different_rules_or_none_end_with_one_link_per_pair() {
    for seed in 0..60 {
        let mut world = World::new(6, seed, |config| {
            let n = (0..6).find(|n| world::key(*n) == config.me).expect("one of them");
            config.preference = match n % 3 {
                0 => Preference::Identity,
                1 => Preference::Nobody,
                _ => Preference::Address { local_ip: world::addr(n).ip },
            };
        });
        for a in 0..6 {
            for b in (0..6).filter(|b| *b != a) {
                world.want(a, b);
            }
        }
        world.run_for(Duration::from_secs(60));
        for a in 0..6 {
            for b in a + 1..6 {
                assert_eq!(world.links(a, b).len(), 1, "seed {seed}: {a} and {b}");
                assert_eq!(world.nodes[a].standing(b), Standing::Connected, "seed {seed}");
                assert_eq!(world.nodes[b].standing(a), Standing::Connected, "seed {seed}");
            }
            let ups = world.nodes[a].core.view().conns().count();
            assert_eq!(ups, 5, "seed {seed}: node {a} keeps nothing beside them");
        }
        assert_eq!(world.withdrawn, 0, "seed {seed}");
        assert!(
            world.dials <= 30,
            "seed {seed}: at most one from each side, and none again: {}",
            world.dials
        );
    }
}

fn goodbye(rig: &mut Rig) {
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    rig.seconds(40);
    rig.gone(conn, End::Goodbye(Close::Requested));
    assert!(rig.told().contains(&Told::Lost(Close::Requested)));
    assert_eq!(rig.dialled(), None, "never in the same breath");
}

#[test]
fn who_hung_up_on_purpose_is_left_alone_by_the_target_and_asked_again_by_a_wish() {
    let mut rig = Rig::new(|c| {
        c.rules[0].target = 1;
        c.rules[0].liveness = Liveness::Transport;
    });
    knows(&mut rig, Source::Told);
    goodbye(&mut rig);
    rig.seconds(599);
    assert_eq!(rig.dialled(), None, "ten minutes for whoever was only picked");
    rig.seconds(2);
    assert!(rig.dialled().is_some(), "then it is one of many again");

    let mut rig = Rig::new(|c| c.rules[0].liveness = Liveness::Transport);
    rig.want(1);
    goodbye(&mut rig);
    assert!(matches!(rig.why(1), Why::Refused(Refusal::Backoff { .. })));
    rig.seconds(3);
    assert!(rig.dialled().is_some(), "by the first step of the backoff");
}

#[test]
fn s3_59_one_dead_wanted_peer_costs_few_dials_a_minute_after_the_fast_window() {
    for seed in 0..8 {
        let mut rig = Rig::new(|c| c.rules[0].liveness = Liveness::Transport);
        // A different start of the jitter.
        for _ in 0..seed {
            rig.ask(Command::Hold { who: peer(9), on: true });
        }
        rig.want(1);
        let conn = rig.dialled().expect("a dial");
        rig.answer(conn, 1);
        rig.seconds(40 + seed);
        rig.gone(conn, End::Fault(fault(FaultKind::Reset)));
        let mut per_minute = [0; 30];
        for minute in &mut per_minute {
            let end = rig.now + Duration::from_secs(60);
            while rig.now < end {
                if let Some(conn) = rig.dialled() {
                    *minute += 1;
                    rig.fail(conn, FaultKind::Refused);
                }
                rig.pass(Duration::from_millis(100));
            }
        }
        let (window, after) = per_minute.split_at(1);
        assert!(window[0] > 20, "the fast window: {per_minute:?}");
        assert!(after[0] <= 4, "{per_minute:?}");
        assert!(after.iter().all(|dials| *dials < 10), "{per_minute:?}");
    }
}
