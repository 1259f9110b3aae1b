//! More bugs of the kind in `regressions.rs`: limits, rates, bans and dials in a loop.

use crate::rig::{Rig, addr, addrs, at, peer};
use peerkeep_core::*;
use std::time::Duration;

fn on(stack: StackId, n: u8) -> Who {
    Who { stack, key: PeerKey::ed25519([n; 32]) }
}

fn told_address(rig: &mut Rig, who: Who, one: Addr) {
    rig.saw(Fact::Learned { who, addrs: addrs(&[one]), source: Source::Told });
}

fn greeting() -> Option<Greeting> {
    Some(Greeting { epoch: 500, ..Greeting::default() })
}

fn dials(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Dial { .. })).count()
}

/// A dial whose answer we refuse is a failed attempt: it is followed by a delay (document 003: < 10 dials a minute).
#[test]
fn fault_d16_a_name_that_leads_to_somebody_else_is_not_dialled_in_a_loop() {
    let mut rig = Rig::new(|_| ());
    rig.ask(Command::Want { who: peer(1), addrs: Addrs::new(), named: true });
    let mut attempts = 0;
    while rig.now < Time::from_millis(60_000) {
        let resolve = rig.out.iter().find_map(|effect| match effect {
            Effect::Resolve { conn } => Some(*conn),
            _ => None,
        });
        let Some(conn) = resolve else {
            rig.pass(Duration::from_millis(200));
            continue;
        };
        attempts += 1;
        assert!(attempts < 10, "a storm");
        rig.saw(Fact::Resolved { conn, addrs: addrs(&[at(1)]) });
        rig.saw(Fact::Met { conn, key: peer(2).key, at: at(1), greeting: greeting() });
        assert!(rig.turned(conn).is_some());
        assert!(!rig.out.iter().any(|effect| matches!(effect, Effect::Resolve { .. })), "a storm");
        rig.gone(conn, End::Asked);
    }
    let contact = rig.contact(1).expect("known");
    assert_eq!(contact.last_fault.map(|fault| fault.kind), Some(FaultKind::Identity));
    assert!(contact.failures > 0);
}

#[test]
fn an_address_behind_which_a_banned_peer_answers_is_not_dialled_in_a_loop() {
    let mut rig = Rig::new(|_| ());
    told_address(&mut rig, peer(1), at(3));
    rig.ask(Command::Ban { target: Target::Key(peer(1).key), span: None });
    let who = Who::mesh(PeerKey::from_addr(at(1)));
    rig.ask(Command::Want { who, addrs: addrs(&[at(1)]), named: false });
    let mut attempts = 0;
    while rig.now < Time::from_millis(60_000) {
        let Some(conn) = rig.dialled() else {
            rig.pass(Duration::from_millis(200));
            continue;
        };
        attempts += 1;
        assert!(attempts < 10, "a storm");
        rig.saw(Fact::Met { conn, key: peer(1).key, at: at(1), greeting: greeting() });
        assert!(matches!(rig.turned(conn), Some(Refusal::Banned { .. })));
        assert_eq!(rig.dialled(), None, "a storm");
        rig.gone(conn, End::Asked);
    }
}

#[test]
fn fault_h15_an_answer_with_a_senseless_epoch_is_not_dialled_in_a_loop() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let mut attempts = 0;
    while rig.now < Time::from_millis(60_000) {
        let Some(conn) = rig.dialled() else {
            rig.pass(Duration::from_millis(200));
            continue;
        };
        attempts += 1;
        assert!(attempts < 10, "a storm");
        let greeting = Some(Greeting { epoch: u64::MAX, ..Greeting::default() });
        rig.saw(Fact::Met { conn, key: peer(1).key, at: at(1), greeting });
        assert!(rig.turned(conn).is_some());
        assert_eq!(rig.dialled(), None, "a storm");
        rig.gone(conn, End::Asked);
    }
}

#[test]
fn fault_d10_names_do_not_get_around_the_dial_rates() {
    let mut rig = Rig::new(|c| {
        c.limits.dials_per_minute = 5;
        c.limits.dials_per_minute_per_ip = 2;
    });
    let (mut to_victim, mut all) = (0, 0);
    for n in 1..=20 {
        rig.ask(Command::Connect { who: peer(n), addrs: Addrs::new(), named: true });
        let resolve = rig.out.iter().find_map(|effect| match effect {
            Effect::Resolve { conn } => Some(*conn),
            _ => None,
        });
        let Some(conn) = resolve else { continue };
        let one = if n <= 10 { at(200) } else { at(n) };
        rig.saw(Fact::Resolved { conn, addrs: addrs(&[one]) });
        all += dials(&rig.out);
        to_victim += if n <= 10 { dials(&rig.out) } else { 0 };
        if !rig.closed().is_empty() {
            rig.gone(conn, End::Asked);
            assert_eq!(rig.contact(n).expect("known").failures, 0, "it is not their fault");
        }
    }
    assert_eq!(to_victim, 2, "many names for one victim are one destination");
    assert_eq!(all, 5);
}

/// Fault Q3 as well.
#[test]
fn fault_d9_private_gossip_is_not_dialled_along_with_resolved_names() {
    let mut rig = Rig::new(|_| ());
    let gossip = addrs(&[addr("127.0.0.1:22")]);
    rig.saw(Fact::Learned { who: peer(1), addrs: gossip, source: Source::Gossip });
    rig.ask(Command::Connect { who: peer(1), addrs: Addrs::new(), named: true });
    let resolve = rig.out.iter().find_map(|effect| match effect {
        Effect::Resolve { conn } => Some(*conn),
        _ => None,
    });
    let conn = resolve.expect("a look-up");
    rig.saw(Fact::Resolved { conn, addrs: addrs(&[addr("93.184.1.1:7330")]) });
    let dial = rig.core.view().dial(conn).expect("a dial");
    assert_eq!(dial.addrs.as_slice(), [addr("93.184.1.1:7330")]);
}

#[test]
fn fault_d10_a_victim_among_fresh_addresses_is_still_one_destination() {
    let mut rig = Rig::new(|c| c.limits.dials_per_minute_per_ip = 2);
    let victim = addr("10.9.9.9:80");
    let mut hits = 0;
    for n in 1..=6 {
        let addrs = addrs(&[at(n), victim]);
        rig.ask(Command::Connect { who: peer(n), addrs, named: false });
        let conn = rig.dialled().expect("its own address is free");
        hits += usize::from(rig.core.view().dial(conn).expect("legs").addrs.contains(&victim));
    }
    assert_eq!(hits, 2);
}

#[test]
fn one_crowded_address_does_not_keep_a_peer_from_its_others() {
    let mut rig = Rig::new(|c| c.limits.per_ip = 2);
    for port in 1..=2 {
        rig.arrive(addr(&format!("10.9.9.9:{port}"))).expect("room");
    }
    let addrs = addrs(&[addr("10.9.9.9:80"), at(1)]);
    rig.ask(Command::Want { who: peer(1), addrs, named: false });
    let conn = rig.dialled().expect("a dial");
    assert_eq!(rig.core.view().dial(conn).expect("legs").addrs.as_slice(), [at(1)]);
}

#[test]
fn several_addresses_in_one_subnet_are_one_conn_there() {
    let mut rig = Rig::new(|c| c.limits.per_subnet = 2);
    let four: Vec<Addr> = (1..=4).map(|n| addr(&format!("10.9.9.{n}:80"))).collect();
    rig.ask(Command::Want { who: peer(1), addrs: addrs(&four), named: false });
    assert!(rig.dialled().is_some());
    for (host, stage) in [(77, Stage::Arriving), (78, Stage::Refusing)] {
        let conn = rig.arrive(addr(&format!("10.9.9.{host}:1"))).expect("room or courtesy");
        assert_eq!(rig.core.view().conn(conn).expect("it lives").stage, stage, "{host}");
    }
}

#[test]
fn a_ban_by_points_does_not_shorten_one_by_an_operator() {
    let mut rig = Rig::new(|_| ());
    let mut last = None;
    for dial in 1..=3 {
        let conn = rig.inbound(1, dial).expect("room");
        rig.saw(Fact::Violated { conn, what: Violation::Malformed });
        rig.gone(conn, End::Asked);
        last = Some(conn);
    }
    assert!(last.is_some());
    let conn = rig.inbound(1, 4).expect("room");
    rig.ask(Command::Ban { target: Target::Key(peer(1).key), span: None });
    rig.gone(conn, End::Violation(Violation::Malformed));
    assert_eq!(rig.contact(1).expect("known").banned_until, Some(Time::NEVER));
}

#[test]
fn after_the_close_a_violation_no_longer_counts() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    rig.ask(Command::Disconnect(peer(1)));
    rig.saw(Fact::Violated { conn, what: Violation::BannedAgent });
    assert_eq!(rig.out, [], "only its end counts");
}

/// Pitfalls C12 and F7: where nobody has an identity, bans are by address.
#[test]
fn a_peer_without_identity_that_misbehaves_is_banned_by_its_address() {
    let mut rig = Rig::new(|_| ());
    let saw = |rig: &mut Rig, ticket| {
        let remote = addr("10.1.1.1:5000");
        rig.saw(Fact::Arrived { ticket: Ticket(ticket), stack: StackId::Bitcoin, remote });
        rig.out[0]
    };
    let Effect::Accept { conn, .. } = saw(&mut rig, 1_000) else { panic!("room") };
    let at = addr("10.1.1.1:5000");
    rig.saw(Fact::Met { conn, key: PeerKey::from_addr(at), at, greeting: None });
    rig.saw(Fact::Ready { conn });
    rig.saw(Fact::Violated { conn, what: Violation::BannedAgent });
    rig.gone(conn, End::Asked);
    assert!(matches!(saw(&mut rig, 1_001), Effect::Refuse { why: Refusal::Banned { .. }, .. }));
}

#[test]
fn a_ban_and_its_end_are_told_once_for_every_contact_of_the_peer() {
    let mut rig = Rig::new(|_| ());
    let (a, b) = (on(StackId::Mesh, 1), on(StackId::Libp2p, 1));
    let c = on(StackId::Lan, 3);
    for who in [a, b, c] {
        told_address(&mut rig, who, at(1));
    }
    rig.saw(Fact::Bound { a, b });
    rig.saw(Fact::Bound { a, b: c });
    let target = Target::Key(peer(1).key);
    rig.ask(Command::Ban { target, span: None });
    assert_eq!(rig.told(), [Told::Banned; 3]);
    rig.ask(Command::Unban(target));
    assert_eq!(rig.told(), [Told::Unbanned; 3]);
}

#[test]
fn who_waits_for_a_backoff_and_is_banned_by_subnet_is_given_up() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Refused);
    let target = Target::Subnet(Subnet::host(at(1).ip));
    rig.ask(Command::Ban { target, span: Some(Duration::from_secs(10)) });
    let told = rig.seconds(5).iter().any(|e| matches!(e, Effect::Tell { what: Told::GaveUp, .. }));
    assert!(told, "whoever waits for the outcome hears it");
}

#[test]
fn a_stream_of_bans_does_not_keep_a_sweep_from_its_end() {
    let mut rig = Rig::new(|c| {
        c.limits = Limits { total: 500, inbound: 500, pending: 500, ..Limits::default() };
    });
    for n in 0..200 {
        rig.inbound(n, 1).ok();
    }
    let all = Target::Subnet(Subnet::new(at(1).ip, 96 + 16));
    rig.ask(Command::Ban { target: all, span: None });
    for n in 0..20 {
        let other = Target::Subnet(Subnet::host(addr(&format!("11.0.0.{n}:1")).ip));
        rig.ask(Command::Ban { target: other, span: None });
    }
    assert_eq!(rig.core.view().counts().up(), 0);
}

#[test]
fn after_the_close_a_route_is_no_news() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    rig.ask(Command::Disconnect(peer(1)));
    let route = Route::Direct;
    rig.saw(Fact::Routed { conn, route, rtt_us: 1, why: 0, next_attempt: Time::NEVER });
    assert_eq!(rig.out, []);
}

/// Promise T11: a crowd that says nothing keeps us from no peer of our own choice.
#[test]
fn fault_l2_silent_arrivals_leave_slots_to_our_own_dials() {
    let mut rig = Rig::new(|_| ());
    for n in 0..200 {
        rig.arrive(at(n)).ok();
    }
    assert!(matches!(rig.want(201), Answer::Begun(_)));
}
