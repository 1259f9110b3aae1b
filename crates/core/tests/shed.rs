//! Limits lowered below what is in use (fault G2): who goes, in which order, and how slowly.

use crate::rig::{Rig, addr, peer};
use peerkeep_core::*;
use std::time::Duration;

fn roomy(config: &mut Config) {
    config.limits = Limits {
        total: 2_000,
        inbound: 2_000,
        outbound: 2_000,
        pending: 200,
        per_subnet: 2_000,
        per_ip: 2_000,
        ..Limits::default()
    };
    config.rules[0].liveness = Liveness::Transport;
}

/// Everybody closed is really gone a moment later.
fn let_go(rig: &mut Rig, span: Duration) -> Vec<(ConnRef, Close)> {
    let (until, mut all) = (rig.now + span, Vec::new());
    // What was closed in the step before this counts too.
    let mut closed = rig.closed();
    while rig.now < until {
        for (conn, _) in &closed {
            rig.gone(*conn, End::Asked);
        }
        all.extend(closed);
        rig.pass(Duration::from_millis(50));
        closed = rig.closed();
    }
    all
}

fn limit(rig: &mut Rig, change: impl FnOnce(&mut Limits)) {
    let mut config = rig.core.config().clone();
    change(&mut config.limits);
    assert_eq!(rig.ask(Command::Configure(Box::new(config))), Answer::Done);
}

fn in_use(rig: &mut Rig, conn: ConnRef) {
    let report = Report { received_at: rig.now, used_at: rig.now, channels: 1, ..Report::default() };
    rig.saw(Fact::Reported { conn, report });
}

#[test]
fn fault_g2_a_lowered_limit_drains_unwanted_idle_and_new_connections_first() {
    let mut rig = Rig::new(roomy);
    let mut conns = Vec::new();
    for n in 1..=8 {
        conns.push(rig.up(n));
        rig.seconds(1);
    }
    // 1 is wanted, 2 is held, 3 is in use; of the others 8 is the newest.
    rig.want(1);
    rig.ask(Command::Hold { who: peer(2), on: true });
    in_use(&mut rig, conns[2]);
    for (left, gone) in [(5, vec![8, 7, 6]), (3, vec![5, 4]), (2, vec![3]), (1, vec![2])] {
        limit(&mut rig, |limits| limits.total = left);
        let closed = let_go(&mut rig, Duration::from_secs(3));
        let expected: Vec<(ConnRef, Close)> =
            gone.iter().map(|n: &usize| (conns[n - 1], Close::Resources)).collect();
        assert_eq!(closed, expected, "down to {left}");
        assert_eq!(rig.core.view().counts().up(), left);
    }
    assert_eq!(rig.standing(1), Standing::Connected, "who is wanted outlives all others");
}

#[test]
fn fault_g2_a_wanted_peer_goes_last_and_waits_for_a_slot() {
    let mut rig = Rig::new(roomy);
    for n in 1..=3 {
        rig.up(n);
        rig.want(n);
        rig.seconds(1);
    }
    limit(&mut rig, |limits| limits.outbound = 2);
    assert_eq!(let_go(&mut rig, Duration::from_secs(2)).len(), 1);
    rig.seconds(60);
    assert_eq!(rig.why(3), Why::Refused(Refusal::Full(Limit::Outbound)));
    limit(&mut rig, |limits| limits.outbound = 3);
    let dialled = rig.dialled().or_else(|| {
        rig.seconds(400);
        rig.dialled()
    });
    assert!(dialled.is_some(), "it comes back when there is room");
}

#[test]
fn fault_g2_a_thousand_connections_are_drained_in_small_batches_and_no_further() {
    let mut rig = Rig::new(roomy);
    for n in 0..1_000_u32 {
        let remote = addr(&format!("10.{}.{}.1:7330", n / 250, n % 250));
        let conn = rig.arrive(remote).expect("room");
        let mut key = [9; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        let greeting = Some(Greeting { epoch: 500, dial: 1, ..Greeting::default() });
        rig.saw(Fact::Met { conn, key: PeerKey::ed25519(key), at: remote, greeting });
        rig.saw(Fact::Ready { conn });
    }
    limit(&mut rig, |limits| limits.inbound = 600);
    let (mut batches, mut closed) = (Vec::new(), 0);
    for _ in 0..200 {
        let at = rig.now;
        rig.pass(Duration::from_millis(50));
        let batch = rig.closed();
        for (conn, _) in &batch {
            rig.gone(*conn, End::Asked);
        }
        closed += batch.len();
        if !batch.is_empty() {
            batches.push((at, batch.len()));
        }
    }
    assert_eq!(closed, 400, "exactly the excess");
    assert_eq!(rig.core.view().counts().inbound, 600);
    assert!(batches.iter().all(|(_, count)| *count <= 64), "{batches:?}");
    assert!(batches.windows(2).all(|two| two[1].0 - two[0].0 >= Duration::from_millis(200)), "{batches:?}");
    assert!(rig.core.next_wake().is_none_or(|at| at > rig.now), "and then it rests");
}

#[test]
fn fault_g2_limits_per_address_and_subnet_are_drained_where_they_are_exceeded_only() {
    let mut rig = Rig::new(roomy);
    let enter = |rig: &mut Rig, n: u8, remote: &str| {
        let conn = rig.arrive(addr(remote)).expect("room");
        let greeting = Some(Greeting { epoch: 500, dial: 1, ..Greeting::default() });
        rig.saw(Fact::Met { conn, key: peer(n).key, at: addr(remote), greeting });
        rig.saw(Fact::Ready { conn });
    };
    for n in 1..=4 {
        enter(&mut rig, n, &format!("10.0.0.1:{n}"));
    }
    for n in 5..=8 {
        enter(&mut rig, n, &format!("10.0.1.{n}:7330"));
    }
    for n in 9..=12 {
        enter(&mut rig, n, &format!("10.{n}.1.1:7330"));
    }
    limit(&mut rig, |limits| limits.per_ip = 3);
    assert_eq!(let_go(&mut rig, Duration::from_secs(2)).len(), 1);
    limit(&mut rig, |limits| limits.per_subnet = 2);
    assert_eq!(let_go(&mut rig, Duration::from_secs(2)).len(), 1 + 2);
    for n in 9..=12 {
        assert_eq!(rig.standing(n), Standing::Connected, "{n} was in nobody's way");
    }
}

#[test]
fn fault_g2_what_is_being_set_up_while_a_limit_falls_counts_too() {
    let mut rig = Rig::new(roomy);
    rig.up(1);
    rig.connect(2);
    let dial = rig.dialled().expect("a dial");
    limit(&mut rig, |limits| limits.total = 1);
    assert_eq!(let_go(&mut rig, Duration::from_secs(1)), []);
    rig.answer(dial, 2);
    assert_eq!(let_go(&mut rig, Duration::from_secs(1)), [(dial, Close::Resources)]);
    assert_eq!(rig.standing(1), Standing::Connected);
}

#[test]
fn fault_g2_a_smaller_table_of_peers_forgets_those_of_no_use() {
    let mut rig = Rig::new(roomy);
    rig.want(1);
    rig.up(2);
    for n in 3..=99 {
        let addrs = [addr(&format!("10.1.{n}.1:7330"))].into_iter().collect();
        rig.saw(Fact::Learned { who: peer(n), addrs, source: Source::Told });
    }
    limit(&mut rig, |limits| limits.contacts = 10);
    let effects = rig.seconds(1);
    assert_eq!(rig.core.view().contacts().count(), 10);
    assert!(rig.contact(1).is_some() && rig.contact(2).is_some());
    let stored = effects.iter().filter(|effect| matches!(effect, Effect::Store { .. })).count();
    assert!(stored >= 73, "the store forgets them too: {stored}");
    assert!(rig.core.next_wake().is_none_or(|at| at > rig.now));
}

#[test]
fn a_node_saved_while_it_drains_goes_on_alike() {
    let mut rig = Rig::new(roomy);
    for n in 1..=80 {
        rig.inbound(n, 1).expect("room");
    }
    limit(&mut rig, |limits| limits.inbound = 1);
    let mut saved = Vec::new();
    rig.core.save(&mut saved);
    let mut twin = Core::load(&saved).expect("it loads");
    for _ in 0..50 {
        rig.now = rig.core.next_wake().map_or(rig.now, |at| rig.now.max(at));
        let mut out = Effects::new();
        twin.step(rig.now, &Action::Wake, &mut out);
        rig.step(Action::Wake);
        assert_eq!(twin.digest(), rig.core.digest());
        for (conn, _) in rig.closed() {
            rig.gone(conn, End::Asked);
            twin.step(rig.now, &Action::Saw(Fact::Gone { conn, end: End::Asked }), &mut out);
        }
    }
    assert_eq!(rig.core.view().counts().inbound, 1);
}
