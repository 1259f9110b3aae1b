//! Bugs that simulated worlds found: each seed reduced to the few facts that matter, and failing before its fix.

use crate::rig::{Rig, addrs, at, peer};
use peerkeep_core::*;
use std::time::Duration;

/// Found by `cargo xtask sim --seed 871`.
#[test]
fn a_refused_dial_to_an_address_leaves_the_peers_own_dial_the_only_one() {
    let mut rig = Rig::new(|_| ());
    let who = Who::mesh(PeerKey::from_addr(at(1)));
    rig.ask(Command::Want { who, addrs: addrs(&[at(1)]), named: false });
    let stranger = rig.dialled().expect("a dial by address");
    rig.want(1);
    let own = rig.dialled().expect("a dial by name");
    let (key, retry_after) = (Some(peer(1).key), Duration::from_secs(30));
    rig.saw(Fact::Declined { conn: stranger, key, at: at(1), code: 4, retry_after, newer_epoch: 0 });
    rig.gone(stranger, End::Asked);
    assert_eq!(rig.standing(1), Standing::Dialing);
    rig.answer(own, 1);
    assert_eq!(rig.standing(1), Standing::Connected);
}

/// Found by `cargo xtask sim --seed 2098`.
#[test]
fn a_new_wish_for_a_peer_that_let_us_go_waits_for_the_backoff_and_not_for_the_cool_down() {
    for wish in 0..2 {
        let mut rig = Rig::new(|_| ());
        let conn = rig.inbound(1, 1).expect("it is let in");
        rig.seconds(10);
        rig.gone(conn, End::Goodbye(Close::Requested));
        assert_eq!(rig.dialled(), None, "by itself it stays away");
        rig.seconds(1);
        if wish == 0 {
            rig.want(1)
        } else {
            rig.connect(1)
        };
        rig.seconds(3);
        assert!(rig.dialled().is_some(), "asked for again, it is dialled within the first backoff");
    }
}

/// Found by seed 15460 of the first worlds: the hello of a dial that had waited for names said that it had accepted a
/// conn which was only held, and when it came late it took the good connection down.
#[test]
fn a_dial_that_waits_for_names_does_not_claim_what_was_accepted_since() {
    let mut rig = Rig::new(|_| ());
    // Higher than we are: we hold its conn while our own dial is pending.
    rig.ask(Command::Want { who: peer(200), addrs: addrs(&[]), named: true });
    let looking = rig.core.view().conns().next().expect("a look-up").conn;
    let inbound = rig.arrive(at(200)).expect("it is let in");
    rig.hello(inbound, 200, Greeting { epoch: 500, dial: 2, ..Greeting::default() });
    assert!(rig.core.view().conn(inbound).is_some_and(|conn| conn.stage == Stage::Held));
    rig.saw(Fact::Resolved { conn: looking, addrs: addrs(&[at(200)]) });
    let dial = rig.core.view().dial(looking).expect("a dial");
    assert_eq!(
        dial.greeting.accepted,
        (0, 0),
        "its number was given before the other side's dial was accepted"
    );
}

/// Found by seed 23626 of the first worlds: a peer that lost its store and was back within the second counts its dials
/// anew in the same epoch. A number that was accepted before is no later dial, and the refusal heals the peer at once.
#[test]
fn fault_h15_a_dial_number_seen_before_is_refused_with_the_epoch_to_pass() {
    let mut rig = Rig::new(|_| ());
    let up = rig.inbound(1, 5).expect("it is let in");
    for dial in [5, 1] {
        let again = rig.arrive(at(1)).expect("it is let in");
        rig.hello(again, 1, Greeting { epoch: 500, dial, ..Greeting::default() });
        assert_eq!(rig.turned(again), Some(Refusal::Stale { newer: 500 }), "dial {dial}");
        assert_eq!(rig.closed(), [], "what is up stays up");
        rig.gone(again, End::Asked);
    }
    let healed = rig.arrive(at(1)).expect("it is let in");
    rig.hello(healed, 1, Greeting { epoch: 501, dial: 2, ..Greeting::default() });
    assert_eq!(rig.turned(healed), None);
    assert_eq!(rig.closed(), [(up, Close::Dead)]);
}

/// Found by `cargo xtask sim --seed 83831`: the wish was for an address, and its heir had a cool-down of its own.
#[test]
fn a_wish_for_an_address_ends_the_cool_down_of_the_peer_that_answers_there() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.inbound(1, 1).expect("it is let in");
    rig.seconds(10);
    rig.gone(conn, End::Goodbye(Close::Requested));
    rig.seconds(1);
    let who = Who::mesh(PeerKey::from_addr(at(1)));
    rig.ask(Command::Want { who, addrs: addrs(&[at(1)]), named: false });
    let stranger = rig.dialled().expect("a dial by address");
    rig.answer(stranger, 1);
    rig.ask(Command::Disconnect(peer(1)));
    rig.gone(stranger, End::Asked);
    rig.seconds(5);
    assert!(rig.dialled().is_some(), "a wanted peer comes back within the first backoff: {:?}", rig.why(1));
}
