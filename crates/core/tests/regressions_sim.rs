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
