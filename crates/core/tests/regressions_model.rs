//! What the model checker found, each as the shortest story that shows it. Through the public door only.

use crate::rig::{Rig, at, peer};
use peerkeep_core::*;
use std::time::Duration;

/// A node boots at 1,001 and answers a dial, dies, and boots at 999 because its clock went back. A peer that remembers
/// its boot at 1,000 refuses it before that answer arrives; at 1,001 it would be taken for the boot that died.
#[test]
fn an_epoch_taken_after_a_refusal_is_none_that_a_lost_boot_may_have_had() {
    let mut low = Rig::new(|config| config.epoch = 999);
    low.want(1);
    let conn = low.dialled().expect("a dial");
    let key = Some(peer(1).key);
    low.saw(Fact::Declined {
        conn,
        key,
        at: at(1),
        code: 0,
        retry_after: Duration::ZERO,
        newer_epoch: 1_000,
    });
    let taken = low.core.view().epoch();
    assert!(taken > 1_000 + 3_600, "{taken} may be the epoch of a boot an hour later");

    let mut other = Rig::new(|_| ());
    other.want(1);
    let old = other.dialled().expect("a dial");
    let answer = Greeting { epoch: 1_001, ..Greeting::default() };
    other.saw(Fact::Met { conn: old, key: peer(1).key, at: at(1), greeting: Some(answer) });
    other.saw(Fact::Ready { conn: old });
    let new = other.arrive(at(1)).expect("room");
    other.hello(new, 1, Greeting { epoch: taken, dial: 2, ..Greeting::default() });
    assert_eq!(other.turned(new), None, "a working dial is not refused for a dead connection");
    assert!(other.closed().contains(&(old, Close::Dead)));
}

fn without_numbers() -> Rig {
    Rig::new(|config| config.rules[0].duplicates = Duplicates::HoldAndConfirm)
}

fn hello(rig: &mut Rig) -> ConnRef {
    let conn = rig.arrive(at(1)).expect("room");
    rig.saw(Fact::Met { conn, key: peer(1).key, at: at(1), greeting: None });
    conn
}

/// A dial that its sender has cancelled arrives after a later one of the same sender, which is offered already and may
/// be announced over there: without numbers nobody can tell which is which.
#[test]
fn without_numbers_an_offer_is_not_withdrawn_for_a_hello_that_comes_late() {
    let mut rig = without_numbers();
    let first = hello(&mut rig);
    let late = hello(&mut rig);
    assert_eq!(rig.closed(), [], "it waits");
    rig.saw(Fact::Ready { conn: first });
    assert!(rig.out.contains(&Effect::Probe { conn: first }), "the confirm may be as old as the connection");
    rig.seconds(1);
    let report = Report { received_at: rig.now, ..Report::default() };
    rig.saw(Fact::Reported { conn: first, report });
    rig.seconds(1);
    assert_eq!((rig.turned(late), rig.standing(1)), (Some(Refusal::AlreadyConnected), Standing::Connected));
}

#[test]
fn without_numbers_an_offer_that_nobody_confirms_gives_way_after_the_hold() {
    let mut rig = without_numbers();
    let void = hello(&mut rig);
    let good = hello(&mut rig);
    rig.seconds(2);
    assert!(rig.closed().contains(&(void, Close::Timeout)));
    assert!(rig.out.contains(&Effect::Admit { conn: good }));
    let mut rig = without_numbers();
    let void = hello(&mut rig);
    let good = hello(&mut rig);
    rig.gone(void, End::Goodbye(Close::Cancelled));
    assert!(rig.out.contains(&Effect::Admit { conn: good }), "nothing to wait for");
}
