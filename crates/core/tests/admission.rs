//! Limits, bans and whose turn it is: exact in both directions, checked before dialling, at accept and after
//! identification.

use crate::rig::{self, Rig, addr, addrs, at, fault, peer};
use peerkeep_core::*;
use std::time::Duration;

fn limit_of(result: Result<ConnRef, Refusal>) -> Option<Limit> {
    match result {
        Err(Refusal::Full(limit)) => Some(limit),
        _ => None,
    }
}

#[test]
fn every_inbound_limit_is_hit_by_itself_and_frees_again() {
    type Tweak = fn(&mut Limits);
    let cases: [(Limit, Tweak); 3] = [
        (Limit::Total, |l| l.total = 3),
        (Limit::Inbound, |l| l.inbound = 3),
        (Limit::Pending, |l| l.pending = 3),
    ];
    for (limit, tweak) in cases {
        let mut rig = Rig::new(|c| {
            c.limits.courtesy = 0;
            tweak(&mut c.limits);
        });
        let conns: Vec<_> = (1..4).map(|n| rig.arrive(at(n)).expect("room")).collect();
        assert_eq!(limit_of(rig.arrive(at(4))), Some(limit));
        rig.fail(conns[0], FaultKind::Closed);
        assert!(rig.arrive(at(4)).is_ok(), "{limit:?} frees with the end of a conn");
    }
}

#[test]
fn fault_l9_addresses_are_counted_by_ip_and_by_subnet() {
    let mut rig = Rig::new(|c| {
        c.limits.courtesy = 0;
        c.limits.per_ip = 2;
        c.limits.per_subnet = 3;
    });
    for port in 1..3 {
        rig.arrive(addr(&format!("10.1.1.1:{port}"))).expect("room");
    }
    assert_eq!(limit_of(rig.arrive(addr("10.1.1.1:9"))), Some(Limit::PerIp));
    rig.arrive(addr("10.1.1.2:1")).expect("room");
    assert_eq!(limit_of(rig.arrive(addr("10.1.1.3:1"))), Some(Limit::PerSubnet));
    rig.arrive(addr("10.1.2.1:1")).expect("another /24");
    for host in 1..4 {
        rig.arrive(addr(&format!("[2001:db8::{host}]:1"))).expect("room");
    }
    assert_eq!(limit_of(rig.arrive(addr("[2001:db8::9]:1"))), Some(Limit::PerSubnet));
    rig.arrive(addr("[2001:db8:0:1::1]:1")).expect("another /64");
}

/// Fault L7: nobody who is connected makes room.
#[test]
fn over_the_limit_a_few_are_told_why_and_the_rest_dropped() {
    let mut rig = Rig::new(|c| {
        c.limits.inbound = 1;
        c.limits.courtesy = 2;
    });
    rig.inbound(1, 1).expect("room");
    let told = rig.arrive(at(2)).expect("courtesy");
    rig.arrive(at(3)).expect("courtesy");
    assert_eq!(limit_of(rig.arrive(at(4))), Some(Limit::Courtesy), "courtesy is full too");
    assert_eq!(rig.slots(), 1, "courtesy takes no slot");
    rig.hello(told, 2, Greeting { epoch: 5, dial: 1, ..Default::default() });
    assert_eq!(rig.turned(told), Some(Refusal::Full(Limit::Inbound)));
    rig.gone(told, End::Asked);
    rig.arrive(at(4)).expect("courtesy frees again");
}

#[test]
fn fault_l2_a_silent_arrival_is_reaped_at_its_deadline() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.arrive(at(1)).expect("room");
    rig.seconds(6);
    assert_eq!(rig.closed(), [(conn, Close::Timeout)]);
    rig.gone(conn, End::Asked);
    assert_eq!(rig.slots(), 0);
}

/// Fault D13 (the queue) and D14 (a cancel within it).
#[test]
fn dials_wait_for_slots_in_fair_order_and_never_exceed_them() {
    let mut rig = Rig::new(|c| c.limits.outbound = 2);
    rig.connect(1);
    let first = rig.dialled().expect("a dial");
    rig.connect(2);
    for n in 3..6 {
        assert_eq!(rig.connect(n), Answer::Queued(Refusal::Full(Limit::Outbound)));
        assert_eq!(rig.why(n), Why::Refused(Refusal::Full(Limit::Outbound)));
    }
    assert_eq!(rig.ask(Command::Cancel(peer(3))), Answer::Done, "fault D14: cancelled in the queue");
    rig.ask(Command::Reset(peer(1)));
    assert_eq!(rig.dialled(), None, "a slot is free when the socket is gone, not before");
    rig.gone(first, End::Asked);
    let next = rig.dialled().expect("the slot goes on");
    assert_eq!(rig.core.view().dial(next).expect("what to dial").who, peer(4), "first come, first served");
}

#[test]
fn fault_d10_dials_a_minute_are_limited_in_all_and_per_destination() {
    let mut rig = Rig::new(|c| {
        c.limits.dials_per_minute = 5;
        c.limits.dials_per_minute_per_ip = 2;
    });
    let victim = addr("10.9.9.9:80");
    let mut dialled = 0;
    for n in 1..=3 {
        rig.ask(Command::Connect { who: peer(n), addrs: addrs(&[victim]), named: false });
        dialled += usize::from(rig.dialled().is_some());
    }
    assert_eq!(dialled, 2, "many names for one victim are one destination");
    assert_eq!(rig.standing(3), Standing::Queued(Limit::DestinationRate));
    for n in 11..=16 {
        rig.connect(n);
        dialled += usize::from(rig.dialled().is_some());
    }
    assert_eq!(dialled, 5);
    assert_eq!(rig.standing(16), Standing::Queued(Limit::DialRate));
    let effects = rig.seconds(61);
    let later = effects.iter().filter(|e| matches!(e, Effect::Dial { .. })).count();
    assert!((1..=5).contains(&later), "{later} dials in the next minute");
}

#[test]
fn fault_i5_a_ban_closes_what_is_connected_dialling_or_queued() {
    let mut rig = Rig::new(|c| c.limits.outbound = 2);
    let up = rig.up(1);
    rig.connect(2);
    let dialling = rig.dialled().expect("a dial");
    rig.connect(3);
    for (n, expected) in [(1, Some(up)), (2, Some(dialling)), (3, None)] {
        let target = Target::Key(peer(n).key);
        assert_eq!(rig.ask(Command::Ban { target, span: Some(Duration::from_secs(60)) }), Answer::Done);
        let closed: Vec<_> = rig.closed();
        assert_eq!(closed, expected.map(|conn| (conn, Close::Banned)).into_iter().collect::<Vec<_>>());
        assert!(rig.told().contains(&Told::Banned));
        assert!(matches!(rig.connect(n), Answer::No(Refusal::Banned { .. })), "no SYN is sent");
    }
    rig.gone(up, End::Asked);
    rig.gone(dialling, End::Asked);
    let conn = rig.arrive(at(1)).expect("the address is not banned");
    rig.hello(conn, 1, Greeting { epoch: 500, dial: 9, ..Default::default() });
    assert!(matches!(rig.turned(conn), Some(Refusal::Banned { .. })), "re-checked after identification");
    rig.gone(conn, End::Asked);
    rig.seconds(61);
    assert!(matches!(rig.connect(1), Answer::Begun(_)), "S1.8: it expires");
}

#[test]
fn a_wanted_peer_comes_back_when_its_ban_ends() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    let target = Target::Key(peer(1).key);
    rig.ask(Command::Ban { target, span: None });
    rig.gone(conn, End::Asked);
    rig.seconds(600);
    assert_eq!(rig.dialled(), None);
    rig.ask(Command::Unban(target));
    assert!(rig.dialled().is_some());
    assert_eq!(rig.ask(Command::Unban(target)), Answer::No(Refusal::Unknown));
}

#[test]
fn subnet_bans_close_by_a_sweep_and_refuse_at_once() {
    let mut rig = Rig::new(|c| {
        c.limits.total = 2_000;
        c.limits.inbound = 2_000;
        c.limits.pending = 2_000;
        c.limits.contacts = 10_000;
    });
    for n in 0..200 {
        rig.inbound(n, 1).ok();
    }
    let before = rig.core.view().counts().up();
    assert!(before >= 199);
    let target = Target::Subnet(Subnet::new(at(1).ip, 96 + 16));
    rig.ask(Command::Ban { target, span: None });
    assert!(matches!(rig.arrive(at(9)), Err(Refusal::Banned { .. })), "new decisions obey at once");
    rig.seconds(1);
    assert_eq!(rig.core.view().counts().up(), 0);
}

#[test]
fn fault_i6_senseless_bans_are_refused() {
    let mut rig = Rig::new(|c| c.exempt = vec![Target::Key(peer(5).key)]);
    let everything = Target::Subnet(Subnet::new([0; 16], 0));
    let all_v4 = Target::Subnet(Subnet::new(at(1).ip, 96));
    for target in [everything, all_v4, Target::Key(rig::ME), Target::Key(peer(5).key)] {
        assert_eq!(rig.ask(Command::Ban { target, span: None }), Answer::No(Refusal::BadTarget));
    }
}

#[test]
fn s3_14_the_lower_address_dials_and_the_other_waits_its_turn() {
    let ours = |text: &str| Preference::Address { local_ip: addr(text).ip };
    for (mine, theirs, my_turn) in [
        ("50.28.104.50:1", "69.167.168.176:1", true),
        ("69.167.168.176:1", "50.28.104.50:1", false),
        ("50.28.104.50:1", "165.84.215.117:1", true),
        ("9.0.0.1:1", "10.0.0.1:1", true),
        ("10.0.0.1:1", "9.0.0.1:1", false),
        ("[::ffff:9.0.0.1]:1", "10.0.0.1:1", true),
    ] {
        let mut rig = Rig::new(|c| c.preference = ours(mine));
        let who = peer(1);
        let answer = rig.ask(Command::Want { who, addrs: addrs(&[addr(theirs)]), named: false });
        assert_eq!(rig.dialled().is_some(), my_turn, "{mine} {theirs}: {answer:?}");
        if !my_turn {
            let until = rig.now + Duration::from_secs(2);
            assert_eq!(answer, Answer::Queued(Refusal::TheirTurn { until }), "S3.61: a skip is no success");
            assert_eq!(rig.why(1), Why::Refused(Refusal::TheirTurn { until }));
            rig.seconds(3);
            assert!(rig.dialled().is_some(), "pitfall D4: a preference, not a prohibition");
        }
    }
}

#[test]
fn equal_addresses_fall_back_to_identity() {
    for (n, my_turn) in [(50, false), (200, true)] {
        let mut rig = Rig::new(|c| c.preference = Preference::Address { local_ip: at(1).ip });
        let who = peer(n);
        rig.ask(Command::Want { who, addrs: addrs(&[at(1)]), named: false });
        assert_eq!(rig.dialled().is_some(), my_turn, "pitfall D2");
    }
}

#[test]
fn the_targets_are_filled_from_known_contacts_and_not_beyond() {
    let mut rig = Rig::new(|c| c.rules[0].target = 3);
    for n in 1..=10 {
        let addrs = addrs(&[addr(&format!("93.184.{n}.1:7330"))]);
        rig.saw(Fact::Learned { who: peer(n), addrs, source: Source::Gossip });
    }
    rig.seconds(1);
    assert_eq!(rig.core.view().counts().outbound, 3);
}

#[test]
fn fault_f14_a_million_fake_contacts_fill_half_the_table_at_most() {
    let mut rig = Rig::new(|c| c.limits.contacts = 100);
    for n in 0..1_000_u32 {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let who = Who::mesh(PeerKey::ed25519(bytes));
        rig.saw(Fact::Learned { who, addrs: addrs(&[at(1)]), source: Source::Gossip });
    }
    assert_eq!(rig.core.view().contacts().count(), 50);
    assert!(rig.core.stats().contacts_dropped >= 950);
    for n in 1..=90 {
        assert!(
            matches!(rig.want(n), Answer::Begun(_) | Answer::Queued(_)),
            "named ones still find room: {n}"
        );
    }
}

#[test]
fn fault_i1_two_machines_with_one_key_raise_an_alarm_and_one_stays() {
    let mut rig = Rig::new(|_| ());
    let mut alarms = 0;
    let mut last = None;
    for epoch in 500..520 {
        let Ok(conn) = rig.arrive(at(1)) else { continue };
        rig.hello(conn, 1, Greeting { epoch, dial: 1, ..Default::default() });
        alarms += rig.told().iter().filter(|told| **told == Told::CloneSuspected).count();
        for (old, _) in rig.closed() {
            rig.gone(old, End::Asked);
        }
        if rig.contact(1).is_some() && rig.core.view().conn(conn).is_some_and(|c| c.stage == Stage::Offered) {
            rig.saw(Fact::Ready { conn });
            last = Some(conn);
        } else {
            rig.gone(conn, End::Asked);
        }
    }
    assert!(alarms > 10);
    let last = last.expect("one came up");
    assert_eq!(rig.core.view().conn(last).expect("it stays").stage, Stage::Up);
}

#[test]
fn fault_h15_epochs_beyond_sense_lock_nobody_out() {
    let mut rig = Rig::new(|_| ());
    for epoch in [0, MAX_EPOCH + 1, u64::MAX] {
        let conn = rig.arrive(at(1)).expect("room");
        rig.hello(conn, 1, Greeting { epoch, dial: u32::MAX, ..Default::default() });
        assert!(rig.turned(conn).is_some());
        rig.gone(conn, End::Asked);
    }
    rig.inbound(1, 1).expect("the real one gets in");
    // An epoch that goes back is told which one to pass (two-dials, last paragraph).
    let conn = rig.arrive(at(1)).expect("room");
    rig.hello(conn, 1, Greeting { epoch: 499, dial: 1, ..Default::default() });
    assert_eq!(rig.turned(conn), Some(Refusal::Stale { newer: 500 }));
    rig.gone(conn, End::Asked);
    // A liar cannot push our own epoch out of reach.
    rig.connect(2);
    let dial = rig.dialled().expect("a dial");
    for newer_epoch in [u64::MAX, MAX_EPOCH, 1 << 40] {
        rig.saw(Fact::Declined {
            conn: dial,
            key: None,
            at: at(2),
            code: 0,
            retry_after: Duration::ZERO,
            newer_epoch,
        });
        assert_eq!(rig.core.view().epoch(), 1_000);
    }
    rig.saw(Fact::Declined {
        conn: dial,
        key: None,
        at: at(2),
        code: 0,
        retry_after: Duration::ZERO,
        newer_epoch: 5_000,
    });
    assert_eq!(rig.core.view().epoch(), 5_000 + (1 << 16));
}

#[test]
fn violations_add_up_to_a_ban() {
    let mut rig = Rig::new(|_| ());
    for dial in 1..=4 {
        let conn = rig.inbound(1, dial).expect("room");
        rig.saw(Fact::Violated { conn, what: Violation::Malformed });
        assert_eq!(rig.closed()[0].0, conn);
        rig.gone(conn, End::Asked);
    }
    assert!(matches!(rig.inbound(1, 5), Err(Refusal::Banned { .. })));
}

#[test]
fn fault_g2_a_lower_limit_admits_nobody_until_below_it() {
    let mut rig = Rig::new(|_| ());
    for n in 1..=10 {
        rig.inbound(n, 1).expect("room");
    }
    let mut config = rig.core.config().clone();
    config.limits.inbound = 5;
    config.limits.courtesy = 0;
    assert_eq!(rig.ask(Command::Configure(Box::new(config.clone()))), Answer::Done);
    assert_eq!(limit_of(rig.arrive(at(11))), Some(Limit::Inbound));
    // Those that have to go hold their slots until they are gone.
    assert_eq!((rig.core.view().counts().up(), rig.slots()), (5, 10));
    config.limits.total = 0;
    let before = rig.core.config().clone();
    assert_eq!(rig.ask(Command::Configure(Box::new(config))), Answer::No(Refusal::BadConfig));
    assert_eq!(*rig.core.config(), before, "whole or not at all");
}

#[test]
fn shutdown_says_goodbye_and_admits_nobody() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    rig.want(2);
    rig.ask(Command::Shutdown);
    rig.seconds(1);
    assert!(rig.closed().is_empty() || rig.closed().contains(&(conn, Close::Shutdown)));
    assert_eq!(rig.core.view().counts().up(), 0);
    assert_eq!(rig.arrive(at(9)), Err(Refusal::Draining), "fault L12");
    assert_eq!(rig.connect(3), Answer::No(Refusal::Draining));
}

#[test]
fn fault_d13_a_mass_failure_spreads_its_redials() {
    let mut rig = Rig::new(|c| {
        c.limits = Limits {
            total: 5_000,
            outbound: 5_000,
            pending: 50,
            dials_per_minute: 600,
            per_subnet: 5_000,
            ..Limits::default()
        };
    });
    for n in 0..1_000_u32 {
        let mut bytes = [1; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let who = Who::mesh(PeerKey::ed25519(bytes));
        let one = addr(&format!("11.{}.{}.1:7330", n / 250, n % 250));
        rig.ask(Command::Want { who, addrs: addrs(&[one]), named: false });
    }
    let mut per_second = Vec::new();
    for _ in 0..200 {
        let effects = rig.seconds(1);
        let dials: Vec<ConnRef> = effects
            .iter()
            .filter_map(|e| match e {
                Effect::Dial { conn, .. } => Some(*conn),
                _ => None,
            })
            .collect();
        per_second.push(dials.len());
        assert!(rig.core.view().counts().pending <= 50);
        for conn in dials {
            if rig.core.view().conn(conn).is_some() {
                rig.gone(conn, End::Fault(fault(FaultKind::Refused)));
            }
        }
    }
    for window in per_second.windows(60) {
        assert!(window.iter().sum::<usize>() <= 620, "the dial rate holds: {window:?}");
    }
}

#[test]
fn fault_l8_a_thousand_arrivals_at_full_limits_cost_nobody_a_connection() {
    let mut rig = Rig::new(|c| {
        c.limits.inbound = 10;
        c.limits.reserve = 0;
        c.limits.courtesy = 4;
        c.rules[0].liveness = Liveness::Transport;
    });
    let honest: Vec<ConnRef> = (1..=10).map(|n| rig.inbound(n, 1).expect("room")).collect();
    let mut open = Vec::new();
    for round in 0..1_000_u32 {
        let n = 20 + (round % 150) as u8;
        let verdict = rig.arrive(addr(&format!("12.{}.{}.1:{}", round / 250, round % 250, 1_000 + round)));
        match verdict {
            Ok(conn) if round % 2 == 0 => {
                rig.hello(conn, n, Greeting { epoch: 500, dial: 1, ..Default::default() });
                assert_eq!(rig.turned(conn), Some(Refusal::Full(Limit::Inbound)));
                rig.gone(conn, End::Asked);
            }
            Ok(conn) => open.push(conn),
            verdict => assert_eq!(limit_of(verdict), Some(Limit::Courtesy)),
        }
        rig.pass(Duration::from_millis(50));
        for (conn, _) in rig.closed() {
            assert!(!honest.contains(&conn), "nobody who is connected makes room");
            rig.gone(conn, End::Asked);
            open.retain(|one| *one != conn);
        }
        if open.len() > 3 {
            rig.fail(open.remove(0), FaultKind::Closed);
        }
    }
    let up = |conn: &ConnRef| rig.core.view().conn(*conn).is_some_and(|conn| conn.stage == Stage::Up);
    assert!(honest.iter().all(up));
    rig.gone(honest[0], End::Goodbye(Close::Idle));
    assert!(rig.inbound(11, 1).is_ok(), "a place that is free is free for everybody");
    assert!(matches!(rig.connect(12), Answer::Begun(_)), "and our own dials have places of their own");
}

#[test]
fn fault_d14_a_cancel_costs_the_same_however_long_the_queue_is() {
    let cost = |queued: u32| {
        let mut rig = Rig::new(|c| c.limits.outbound = 1);
        let who = |n: u32| {
            let mut bytes = [1; 32];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            Who::mesh(PeerKey::ed25519(bytes))
        };
        for n in 0..queued {
            let one = addr(&format!("11.{}.{}.1:7330", n / 250, n % 250));
            rig.ask(Command::Want { who: who(n), addrs: addrs(&[one]), named: false });
        }
        let before = rig.core.work();
        assert_eq!(rig.ask(Command::Cancel(who(queued / 2))), Answer::Done);
        let first = rig.core.work() - before;
        for n in queued / 2 + 1..queued {
            assert_eq!(rig.ask(Command::Cancel(who(n))), Answer::Done, "each has its one answer");
        }
        (first, rig.core.work() - before - first, queued - queued / 2 - 1)
    };
    let (few, many) = (cost(50), cost(1_000));
    assert_eq!(few.0, many.0, "the first one");
    assert!(few.1 <= 2 * u64::from(few.2) && many.1 <= 2 * u64::from(many.2), "{few:?} {many:?}");
}
