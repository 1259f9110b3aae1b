//! Each limit by itself (S1.9): all others are far away, one is low, and whoever hits it hears its name.

use crate::rig::{Rig, addr, addrs, at, peer};
use peerkeep_core::*;
use std::time::Duration;

/// Every limit out of reach, but for what `tweak` lowers.
fn wide(tweak: impl FnOnce(&mut Config)) -> Rig {
    Rig::new(|config| {
        let far = 1_000;
        config.limits = Limits {
            total: far,
            inbound: far,
            outbound: far,
            pending: far,
            per_peer: 32,
            per_ip: far,
            per_subnet: far,
            dials_per_minute: far,
            dials_per_minute_per_ip: far,
            courtesy: 0,
            reserve: 0,
            contacts: far,
            bans: far,
        };
        tweak(config);
    })
}

/// A dial of ours to that peer there; why it waits when it does.
fn dial(rig: &mut Rig, n: u8, to: Addr) -> Option<Limit> {
    let answer = rig.ask(Command::Connect { who: peer(n), addrs: addrs(&[to]), named: false });
    match answer {
        Answer::Begun(_) => None,
        Answer::Queued(Refusal::Full(limit)) => {
            assert_eq!(rig.standing(n), Standing::Queued(limit), "and its standing says so");
            Some(limit)
        }
        other => panic!("{other:?}"),
    }
}

/// Somebody connects from there; the limit that refuses him.
fn arrival(rig: &mut Rig, from: Addr) -> Option<Limit> {
    match rig.arrive(from) {
        Ok(_) => None,
        Err(Refusal::Full(limit)) => Some(limit),
        Err(other) => panic!("{other:?}"),
    }
}

/// Addresses that share neither an IP nor a subnet, that share a subnet, or that share all but the port.
fn apart(n: u8) -> Addr {
    at(n)
}
fn in_subnet(n: u8) -> Addr {
    addr(&format!("10.7.7.{n}:7330"))
}
fn in_subnet_6(n: u8) -> Addr {
    addr(&format!("[2001:db8:7:7::{n}]:7330"))
}
fn on_ip(n: u8) -> Addr {
    addr(&format!("10.7.7.7:{}", 7_330 + u16::from(n)))
}
fn on_ip_6(n: u8) -> Addr {
    addr(&format!("[2001:db8:7:7::7]:{}", 7_330 + u16::from(n)))
}

type Tweak = fn(&mut Limits);
type Where = fn(u8) -> Addr;

/// S1.9, S1.26: three fit, the fourth is told which limit it was, and whoever is elsewhere is let in.
#[test]
fn s1_9_each_inbound_limit_is_reached_alone_and_names_itself() {
    let cases: [(Limit, Tweak, Where, Option<Where>); 7] = [
        (Limit::Total, |l| l.total = 3, apart, None),
        (Limit::Inbound, |l| l.inbound = 3, apart, None),
        // A quarter of it is never given to those who arrive.
        (Limit::Pending, |l| l.pending = 4, apart, None),
        (Limit::PerIp, |l| l.per_ip = 3, on_ip, Some(in_subnet)),
        (Limit::PerIp, |l| l.per_ip = 3, on_ip_6, Some(in_subnet_6)),
        (Limit::PerSubnet, |l| l.per_subnet = 3, in_subnet, Some(apart)),
        (Limit::PerSubnet, |l| l.per_subnet = 3, in_subnet_6, Some(apart)),
    ];
    for (limit, tweak, near, elsewhere) in cases {
        let mut rig = wide(|c| tweak(&mut c.limits));
        for n in 1..=3 {
            assert_eq!(arrival(&mut rig, near(n)), None, "{limit:?}");
        }
        assert_eq!(arrival(&mut rig, near(4)), Some(limit));
        if let Some(elsewhere) = elsewhere {
            assert_eq!(arrival(&mut rig, elsewhere(5)), None, "{limit:?} is about those three alone");
        }
    }
}

#[test]
fn s1_9_each_outbound_limit_is_reached_alone_and_names_itself() {
    let cases: [(Limit, Tweak, Where, Option<Where>); 9] = [
        (Limit::Total, |l| l.total = 3, apart, None),
        (Limit::Outbound, |l| l.outbound = 3, apart, None),
        (Limit::Pending, |l| l.pending = 3, apart, None),
        (Limit::PerIp, |l| l.per_ip = 3, on_ip, Some(in_subnet)),
        (Limit::PerIp, |l| l.per_ip = 3, on_ip_6, Some(in_subnet_6)),
        (Limit::PerSubnet, |l| l.per_subnet = 3, in_subnet, Some(apart)),
        (Limit::PerSubnet, |l| l.per_subnet = 3, in_subnet_6, Some(apart)),
        (Limit::DialRate, |l| l.dials_per_minute = 3, apart, None),
        (Limit::DestinationRate, |l| l.dials_per_minute_per_ip = 3, on_ip, Some(in_subnet)),
    ];
    for (limit, tweak, near, elsewhere) in cases {
        let mut rig = wide(|c| tweak(&mut c.limits));
        for n in 1..=3 {
            assert_eq!(dial(&mut rig, n, near(n)), None, "{limit:?}");
        }
        assert_eq!(dial(&mut rig, 4, near(4)), Some(limit));
        if let Some(elsewhere) = elsewhere {
            assert_eq!(dial(&mut rig, 5, elsewhere(5)), None, "{limit:?} is about those three alone");
        }
    }
}

/// Dials end and the rates stay: a minute later they are forgotten.
#[test]
fn s1_9_the_rates_count_dials_and_not_connections() {
    for (limit, tweak) in [
        (Limit::DialRate, (|l| l.dials_per_minute = 3) as Tweak),
        (Limit::DestinationRate, |l| l.dials_per_minute_per_ip = 3),
    ] {
        let mut rig = wide(|c| tweak(&mut c.limits));
        for n in 1..=3 {
            assert_eq!(dial(&mut rig, n, on_ip(n)), None);
            let conn = rig.dialled().expect("a dial");
            rig.answer(conn, n);
            rig.ask(Command::Disconnect(peer(n)));
            rig.gone(conn, End::Asked);
        }
        assert_eq!(rig.slots(), 0);
        assert_eq!(dial(&mut rig, 4, on_ip(4)), Some(limit));
        let effects = rig.seconds(70);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Dial { .. })), "{limit:?} passes");
    }
}

/// Several handshakes of one peer at a time, in whatever direction.
#[test]
fn s1_9_the_limit_of_one_peer_is_reached_alone_and_names_itself() {
    let mut rig = wide(|c| {
        c.limits.per_peer = 2;
        c.rules[0].duplicates = Duplicates::Allowed;
    });
    let greeting = |dial| Greeting { epoch: 500, dial, ..Greeting::default() };
    for dial in 1..=2 {
        let conn = rig.arrive(at(1)).expect("room");
        rig.hello(conn, 1, greeting(dial));
        assert_eq!(rig.turned(conn), None);
    }
    let third = rig.arrive(at(1)).expect("nobody knows yet who it is");
    rig.hello(third, 1, greeting(3));
    assert_eq!(rig.turned(third), Some(Refusal::Full(Limit::PerPeer)));
    let other = rig.arrive(at(2)).expect("room");
    rig.hello(other, 2, greeting(1));
    assert_eq!(rig.turned(other), None, "it is about that peer alone");
}

/// S1.23: above a limit so many are told why, and what is beyond that is dropped, counted, and has a name too.
#[test]
fn s1_9_s1_23_courtesy_is_reached_alone_and_names_itself() {
    let mut rig = wide(|c| {
        c.limits.inbound = 1;
        c.limits.courtesy = 2;
    });
    assert_eq!(arrival(&mut rig, at(1)), None);
    let told: Vec<ConnRef> = (2..=3).map(|n| rig.arrive(at(n)).expect("courtesy")).collect();
    let before = rig.core.stats().refused;
    assert_eq!(arrival(&mut rig, at(4)), Some(Limit::Courtesy));
    assert_eq!(rig.core.stats().refused, before + 1, "counted");
    for (conn, n) in told.into_iter().zip(2..) {
        rig.hello(conn, n, Greeting { epoch: 5, dial: 1, ..Greeting::default() });
        assert_eq!(rig.turned(conn), Some(Refusal::Full(Limit::Inbound)), "the reason is the limit");
        rig.gone(conn, End::Asked);
    }
    assert_eq!(arrival(&mut rig, at(4)), None, "courtesy is free again");
    // Whoever takes it and says nothing loses it.
    let effects = rig.pass(Duration::from_secs(3));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Close { .. })), "{effects:?}");
}
