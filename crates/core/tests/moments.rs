//! Slots kept for those who are wanted, and the moments when faults are ours: a change of network, a sleep.

use crate::rig::{Rig, addr, addrs, at, fault, peer};
use peerkeep_core::*;
use std::time::Duration;

// ---- the reserve

fn eight_inbound() -> Rig {
    Rig::new(|config| {
        config.limits.inbound = 8;
        config.limits.reserve = 32;
    })
}

#[test]
fn an_eighth_of_the_slots_is_kept_for_wanted_peers_at_most() {
    let limits = |reserve| Limits { reserve, ..Limits::default() };
    assert_eq!(limits(32).share(250, false), 250 - 31);
    assert_eq!(limits(32).share(10_000, false), 10_000 - 32);
    assert_eq!(limits(32).share(7, false), 7);
    assert_eq!(limits(0).share(250, false), 250);
    assert_eq!(limits(32).share(250, true), 250);
}

/// Fault L7.
#[test]
fn a_wanted_peer_that_comes_when_only_the_reserve_is_left_is_let_in() {
    let mut rig = eight_inbound();
    rig.ask(Command::Want { who: peer(50), addrs: Addrs::new(), named: false });
    for n in 1..=7 {
        rig.inbound(n, 1).expect("room");
    }
    assert_eq!(rig.inbound(8, 1), Err(Refusal::Full(Limit::Inbound)), "a stranger is told why not");
    let wanted = rig.inbound(50, 1).expect("a slot is kept");
    assert_eq!(rig.core.view().conn(wanted).expect("a conn").stage, Stage::Up);
    assert_eq!((rig.slots(), rig.core.view().counts().courtesy), (8, 0));
    assert_eq!(rig.inbound(9, 1), Err(Refusal::Full(Limit::Inbound)));
    rig.ask(Command::Want { who: peer(51), addrs: Addrs::new(), named: false });
    assert_eq!(rig.inbound(51, 1), Err(Refusal::Full(Limit::Inbound)), "no limit is passed for anybody");
    rig.gone(wanted, End::Goodbye(Close::Shutdown));
    assert_eq!(rig.slots(), 7);
}

#[test]
fn a_banned_peer_gets_nothing_of_the_reserve() {
    let mut rig = eight_inbound();
    rig.ask(Command::Want { who: peer(50), addrs: Addrs::new(), named: false });
    for n in 1..=7 {
        rig.inbound(n, 1).expect("room");
    }
    rig.ask(Command::Ban { target: Target::Key(peer(50).key), span: None });
    assert!(rig.inbound(50, 1).is_err());
}

#[test]
fn whoever_only_fills_the_target_leaves_the_reserve_alone_and_nobody_waits_behind_it() {
    let mut rig = Rig::new(|config| {
        config.limits.outbound = 8;
        config.rules[0].target = 20;
    });
    for n in 1..=12 {
        let (who, addrs) = (peer(n), addrs(&[at(n)]));
        rig.saw(Fact::Learned { who, addrs, source: Source::Stored });
    }
    rig.seconds(1);
    assert_eq!(rig.core.view().counts().outbound, 7, "one of eight is kept");
    rig.want(40);
    assert_eq!(rig.standing(40), Standing::Dialing, "although others wait");
    assert_eq!(rig.core.view().counts().outbound, 8);
    rig.want(41);
    assert!(matches!(rig.standing(41), Standing::Queued(Limit::Outbound)));
    let freed = rig.core.view().conns().find(|conn| conn.remote == at(40)).expect("its dial").conn;
    rig.fail(freed, FaultKind::Refused);
    assert_eq!(rig.standing(41), Standing::Dialing, "S1.69: a slot that frees goes to who waits");
}

#[test]
fn the_reserve_can_be_changed_while_running() {
    let mut rig = eight_inbound();
    for n in 1..=7 {
        rig.inbound(n, 1).expect("room");
    }
    assert!(rig.inbound(8, 1).is_err());
    let mut config = rig.core.config().clone();
    config.limits.reserve = 0;
    assert_eq!(rig.ask(Command::Configure(Box::new(config))), Answer::Done);
    rig.inbound(8, 2).expect("none is kept any more");
}

// ---- moments

/// Fault C9, pitfall B16: everybody is asked, only the dead are dialled again, and not in one moment.
#[test]
fn fault_c9_after_a_move_only_the_dead_are_dialled_again_spread_out_and_nobody_pays() {
    let mut rig = Rig::new(|config| config.limits.per_subnet = 500);
    let mut conns = Vec::new();
    for n in 1..=40 {
        rig.want(n);
        let conn = rig.dialled().expect("a dial");
        rig.answer(conn, n);
        conns.push(conn);
    }
    rig.seconds(5);
    for conn in &conns {
        let report = Report { received_at: rig.now, ..Report::default() };
        rig.saw(Fact::Reported { conn: *conn, report });
    }
    rig.seconds(1);
    rig.step(Action::Network(Change::Moved));
    let mut probed = rig.out.iter().filter(|effect| matches!(effect, Effect::Probe { .. })).count();
    probed += rig.pass(Duration::ZERO).iter().filter(|e| matches!(e, Effect::Probe { .. })).count();
    assert_eq!(probed, 40, "probed first");
    let (alive, dead) = conns.split_at(20);
    let (mut closed, mut dialled) = (0, Vec::new());
    for tick in 0..280 {
        for conn in alive.iter().filter(|_| tick % 60 == 0) {
            let report = Report { received_at: rig.now, ..Report::default() };
            rig.saw(Fact::Reported { conn: *conn, report });
        }
        let mut effects = rig.pass(Duration::from_millis(60));
        for (conn, why) in rig.closed() {
            assert!(dead.contains(&conn) && why == Close::Dead, "{conn} {why:?}");
            closed += 1;
            rig.gone(conn, End::Asked);
            effects.append(&mut rig.out);
        }
        let dials = effects.iter().filter(|effect| matches!(effect, Effect::Dial { .. })).count();
        dialled.extend(std::iter::repeat_n(rig.now, dials));
    }
    assert_eq!((closed, dialled.len()), (20, 20));
    let moments: std::collections::BTreeSet<Time> = dialled.iter().copied().collect();
    assert!(moments.len() >= 8, "spread out: {} moments", moments.len());
    assert!(*dialled.last().expect("some") - dialled[0] < Duration::from_secs(3), "and soon");
    for n in 21..=40 {
        assert_eq!(rig.contact(n).expect("known").failures, 0, "nobody pays for our move");
    }
}

#[test]
fn fault_c9_what_fails_just_after_a_move_costs_no_attempt_and_later_it_does() {
    let mut rig = Rig::new(|_| ());
    rig.step(Action::Network(Change::Moved));
    rig.want(1);
    for _ in 0..8 {
        while rig.dialled().is_none() {
            rig.pass(Duration::from_millis(100));
        }
        let conn = rig.dialled().expect("a dial");
        rig.fail(conn, FaultKind::Timeout);
        if rig.now < Time(29_000_000) {
            assert_eq!(rig.contact(1).expect("known").failures, 0);
        }
    }
    rig.seconds(40);
    while rig.dialled().is_none() {
        rig.pass(Duration::from_millis(100));
    }
    let conn = rig.dialled().expect("a dial");
    rig.gone(conn, End::Fault(fault(FaultKind::Timeout)));
    assert_eq!(rig.contact(1).expect("known").failures, 1);
}

#[test]
fn a_refusal_is_theirs_also_after_a_move() {
    let mut rig = Rig::new(|_| ());
    rig.step(Action::Network(Change::Moved));
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Refused);
    assert_eq!(rig.contact(1).expect("known").failures, 1, "{:?}", addr("10.1.1.1:1"));
}

/// A new wish ends the cool-down of somebody who let us go, also when the wait for its end has begun already.
#[test]
fn a_wish_during_a_cool_down_is_dialled_when_it_says_so() {
    let mut rig = Rig::new(|config| config.rules[0].target = 1);
    rig.saw(Fact::Learned { who: peer(1), addrs: addrs(&[at(1)]), source: Source::Stored });
    let conn = rig.dialled().expect("to fill the target");
    rig.answer(conn, 1);
    rig.gone(conn, End::Goodbye(Close::Requested));
    rig.want(1);
    let mut waited = 0;
    while rig.dialled().is_none() {
        rig.seconds(1);
        waited += 1;
        assert!(waited < 10, "{:?} {:?}", rig.standing(1), rig.why(1));
    }
}
