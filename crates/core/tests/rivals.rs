//! Our dial is answered by somebody we already have a conn with: which of the two goes, by identity, direction and stage.
//! Dials to an address get there, because whom they lead to is known only from the answer.

use crate::rig::{Rig, addrs, at, peer};
use peerkeep_core::*;

/// A dial to an address, whose answer comes from peer `n` with that epoch; what it did.
fn answered(rig: &mut Rig, dial: ConnRef, n: u8, epoch: u64) -> (bool, Vec<(ConnRef, Close)>) {
    let greeting = Some(Greeting { epoch, ..Greeting::default() });
    rig.saw(Fact::Met { conn: dial, key: peer(n).key, at: at(200), greeting });
    match rig.turned(dial) {
        Some(why) => assert_eq!(why, Refusal::AlreadyConnected),
        None => assert!(rig.out.contains(&Effect::Admit { conn: dial })),
    }
    (rig.turned(dial).is_none(), rig.closed())
}

fn dial_address(rig: &mut Rig) -> ConnRef {
    let who = Who::mesh(PeerKey::from_addr(at(200)));
    rig.ask(Command::Connect { who, addrs: addrs(&[at(200)]), named: false });
    rig.dialled().expect("a dial")
}

fn offered(rig: &mut Rig, n: u8) -> ConnRef {
    let conn = rig.arrive(at(n)).expect("room");
    rig.hello(conn, n, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    assert!(rig.out.contains(&Effect::Admit { conn }));
    conn
}

const LOWER: u8 = 1;
const HIGHER: u8 = 101;

#[test]
fn against_their_connection_our_dial_wins_when_we_are_the_lower() {
    for is_up in [true, false] {
        for (n, wins) in [(LOWER, false), (HIGHER, true)] {
            let mut rig = Rig::new(|_| ());
            let dial = dial_address(&mut rig);
            let theirs = offered(&mut rig, n);
            if is_up {
                rig.saw(Fact::Ready { conn: theirs });
            }
            let closed = if wins { vec![(theirs, Close::Duplicate)] } else { Vec::new() };
            assert_eq!(answered(&mut rig, dial, n, 500), (wins, closed), "{n}, up: {is_up}");
        }
    }
}

#[test]
fn a_newer_dial_of_ours_takes_the_place_of_an_older_one() {
    for n in [LOWER, HIGHER] {
        let mut rig = Rig::new(|_| ());
        let dial = dial_address(&mut rig);
        let older = rig.up(n);
        assert_eq!(answered(&mut rig, dial, n, 500), (true, vec![(older, Close::Replaced)]), "{n}");

        let mut rig = Rig::new(|_| ());
        let dial = dial_address(&mut rig);
        rig.connect(n);
        let pending = rig.dialled().expect("a dial");
        assert_eq!(answered(&mut rig, dial, n, 500), (true, vec![(pending, Close::Duplicate)]), "{n}");
    }
}

#[test]
fn what_was_held_for_our_dial_goes_when_that_is_answered() {
    let mut rig = Rig::new(|_| ());
    rig.connect(HIGHER);
    let dial = rig.dialled().expect("a dial");
    let held = rig.arrive(at(HIGHER)).expect("room");
    rig.hello(held, HIGHER, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    assert_eq!(rig.core.view().conn(held).map(|conn| conn.stage), Some(Stage::Held));
    assert_eq!(answered(&mut rig, dial, HIGHER, 500), (true, vec![(held, Close::Duplicate)]));
}

#[test]
fn a_connection_of_an_older_boot_is_dead_whoever_is_the_lower() {
    for n in [LOWER, HIGHER] {
        let mut rig = Rig::new(|_| ());
        let dial = dial_address(&mut rig);
        let old = offered(&mut rig, n);
        rig.saw(Fact::Ready { conn: old });
        assert_eq!(answered(&mut rig, dial, n, 501), (true, vec![(old, Close::Dead)]), "{n}");
    }
}
