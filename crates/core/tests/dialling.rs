//! Where and when the next dial goes: addresses that failed, names that were looked up, limits around a destination,
//! faults of our own machine, whose turn it is.

use crate::rig::{Rig, addr, addrs, at, fault, peer};
use peerkeep_core::*;
use std::time::Duration;

fn told(rig: &mut Rig, n: u8, list: &[Addr], source: Source) {
    rig.saw(Fact::Learned { who: peer(n), addrs: addrs(list), source });
}

/// The known addresses of a peer, best first, with their failures in a row.
fn known(rig: &Rig, n: u8) -> Vec<(Addr, u8)> {
    rig.contact(n).expect("known").addrs.iter().map(|known| (known.addr, known.failures)).collect()
}

fn legs(rig: &Rig, conn: ConnRef) -> Vec<Addr> {
    rig.core.view().dial(conn).expect("an attempt").addrs.to_vec()
}

fn resolving(rig: &Rig) -> ConnRef {
    let conn = rig.out.iter().find_map(|effect| match effect {
        Effect::Resolve { conn } => Some(*conn),
        _ => None,
    });
    conn.expect("names to look up")
}

fn missed(rig: &mut Rig, conn: ConnRef, addr: Addr, kind: FaultKind) {
    rig.saw(Fact::Missed { conn, addr, fault: fault(kind) });
}

#[test]
fn an_address_that_failed_is_tried_later_and_forgiven_when_it_answers() {
    let mut rig = Rig::new(|_| ());
    let (a, b, c) = (at(1), at(2), at(3));
    rig.ask(Command::Connect { who: peer(1), addrs: addrs(&[a, b, c]), named: false });
    let conn = rig.dialled().expect("a dial");
    assert_eq!(legs(&rig, conn), [a, b, c]);
    missed(&mut rig, conn, a, FaultKind::Refused);
    missed(&mut rig, conn, b, FaultKind::Timeout);
    missed(&mut rig, conn, a, FaultKind::Refused);
    assert_eq!(known(&rig, 1), [(c, 0), (b, 1), (a, 2)]);
    assert_eq!(legs(&rig, conn), [a, b, c], "an attempt's addresses are frozen");
    rig.fail(conn, FaultKind::Refused);
    rig.seconds(3);
    let conn = rig.dialled().expect("again");
    assert_eq!(legs(&rig, conn), [c, b, a]);
    let greeting = Some(Greeting { epoch: 500, ..Greeting::default() });
    rig.saw(Fact::Met { conn, key: peer(1).key, at: a, greeting });
    assert_eq!(known(&rig, 1), [(a, 0), (c, 0), (b, 1)], "it answered; nobody else did");
}

#[test]
fn fault_d16_an_address_where_somebody_else_answers_is_forgotten() {
    let mut rig = Rig::new(|_| ());
    rig.ask(Command::Connect { who: peer(1), addrs: addrs(&[at(1), at(2)]), named: false });
    let conn = rig.dialled().expect("a dial");
    missed(&mut rig, conn, at(1), FaultKind::Identity);
    assert_eq!(known(&rig, 1), [(at(2), 0)]);
}

/// Fault D6 with the order: more than fits is cut, and better sources replace worse.
#[test]
fn fault_d6_better_sources_replace_worse_when_the_list_is_full() {
    let mut rig = Rig::new(|_| ());
    let list: Vec<Addr> = (1..=8).map(at).collect();
    told(&mut rig, 1, &list, Source::Told);
    told(&mut rig, 1, &[at(20)], Source::Told);
    assert!(known(&rig, 1).iter().all(|(addr, _)| *addr != at(20)), "no better than what is there");
    told(&mut rig, 1, &[at(21)], Source::Named);
    let all = known(&rig, 1);
    assert_eq!((all.len(), all[0]), (8, (at(21), 0)), "what an operator names comes first");
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    let loser = all[7].0;
    missed(&mut rig, conn, loser, FaultKind::Refused);
    told(&mut rig, 1, &[at(22)], Source::Told);
    let all: Vec<Addr> = known(&rig, 1).into_iter().map(|(addr, _)| addr).collect();
    assert!(
        all.contains(&at(22)) && !all.contains(&loser),
        "what failed makes room for what did not: {all:?}"
    );
    assert_eq!(all.len(), 8);
}

#[test]
fn an_address_keeps_its_best_source() {
    let mut rig = Rig::new(|_| ());
    let sources = |rig: &Rig| -> Vec<Source> {
        rig.contact(1).expect("known").addrs.iter().map(|known| known.source).collect()
    };
    told(&mut rig, 1, &[at(1)], Source::Told);
    assert_eq!(sources(&rig), [Source::Told]);
    told(&mut rig, 1, &[at(1)], Source::Named);
    assert_eq!(sources(&rig), [Source::Named], "better news");
    assert!(rig.out.iter().any(|effect| matches!(effect, Effect::Store { .. })));
    told(&mut rig, 1, &[at(1)], Source::Named);
    assert_eq!(rig.out, [], "no news");
    told(&mut rig, 1, &[at(1)], Source::Told);
    assert_eq!((sources(&rig), rig.out.len()), (vec![Source::Named], 0), "worse news");
}

/// Faults Q3 and D8: what a name leads to passes the same filters as any address.
#[test]
fn fault_q3_what_a_name_leads_to_is_filtered_and_joined_with_what_is_known() {
    let mut rig = Rig::new(|_| ());
    let (hearsay, named, banned, found) = (at(1), at(2), at(3), addr("20.1.1.1:1"));
    told(&mut rig, 1, &[hearsay], Source::Gossip);
    rig.ask(Command::Ban { target: Target::Subnet(Subnet::host(banned.ip)), span: None });
    rig.ask(Command::Want { who: peer(1), addrs: addrs(&[named]), named: true });
    let conn = resolving(&rig);
    let no_port = Addr { port: 0, ..found };
    rig.saw(Fact::Resolved { conn, addrs: addrs(&[no_port, banned, found, found]) });
    assert_eq!(rig.dialled(), Some(conn));
    assert_eq!(
        legs(&rig, conn),
        [found, named],
        "no port, a ban, and a private address from hearsay are left out"
    );
}

#[test]
fn fault_d6_a_name_with_many_addresses_and_a_peer_with_many_more_make_four_legs() {
    let mut rig = Rig::new(|c| c.limits.dials_per_minute = 100);
    let list: Vec<Addr> = (1..=8).map(at).collect();
    rig.ask(Command::Want { who: peer(1), addrs: addrs(&list), named: true });
    let conn = resolving(&rig);
    let found: Vec<Addr> = (11..=18).map(at).collect();
    rig.saw(Fact::Resolved { conn, addrs: addrs(&found) });
    assert_eq!(legs(&rig, conn), found[..4]);
}

/// A limit around one destination is no reason to wait in the queue for slots: it is looked at again by itself.
#[test]
fn a_dial_to_a_crowded_address_is_tried_again_after_five_seconds_or_a_little_more() {
    let mut rig = Rig::new(|c| c.limits.per_ip = 1);
    let up = rig.up(1);
    let answer = rig.ask(Command::Connect { who: peer(2), addrs: addrs(&[at(1)]), named: false });
    assert_eq!(answer, Answer::Queued(Refusal::Full(Limit::PerIp)));
    assert_eq!(rig.standing(2), Standing::Queued(Limit::PerIp));
    rig.connect(3);
    assert!(rig.dialled().is_some(), "it blocks nobody behind it");
    rig.ask(Command::Disconnect(peer(1)));
    rig.gone(up, End::Asked);
    assert_eq!(rig.dialled(), None);
    rig.pass(Duration::from_millis(4_990));
    assert_eq!(rig.standing(2), Standing::Queued(Limit::PerIp), "nothing frees it before its time");
    rig.pass(Duration::from_millis(2_520));
    assert_eq!(rig.standing(2), Standing::Dialing);
}

#[test]
fn a_name_that_leads_to_a_crowded_address_is_looked_up_again_after_five_seconds_or_a_little_more() {
    let mut rig = Rig::new(|c| c.limits.per_ip = 1);
    rig.up(1);
    rig.ask(Command::Want { who: peer(2), addrs: Addrs::new(), named: true });
    let conn = resolving(&rig);
    rig.saw(Fact::Resolved { conn, addrs: addrs(&[at(1)]) });
    assert_eq!(rig.closed(), [(conn, Close::Resources)]);
    rig.gone(conn, End::Asked);
    let contact = rig.contact(2).expect("known");
    let wait = contact.retry_at.expect("it waits") - rig.now;
    assert!((Duration::from_millis(5_001)..Duration::from_millis(7_500)).contains(&wait), "{wait:?}");
    assert_eq!(contact.failures, 0, "nobody failed");
}

#[test]
fn faults_of_our_own_machine_pause_longer_each_time_until_something_else_happens() {
    let mut rig = Rig::new(|c| c.limits.dials_per_minute = 100);
    let pause = |rig: &mut Rig, n: u8, expected: u64| {
        rig.connect(n);
        let conn = rig.dialled().expect("a dial");
        rig.fail(conn, FaultKind::Resources);
        let contact = rig.contact(n).expect("known");
        assert_eq!(contact.failures, 0, "it is not their fault");
        let again = contact.retry_at.expect("it waits") - rig.now;
        let expected = Duration::from_secs(expected);
        assert!(
            again >= expected && again < expected + Duration::from_secs(1),
            "{again:?}, not {expected:?}"
        );
        rig.ask(Command::Reset(peer(n)));
        let until = rig.now + expected;
        rig.now = Time(until.0 - 1);
        rig.step(Action::Wake);
        assert!(!rig.core.view().online(), "{expected:?}");
        rig.now = until;
        rig.step(Action::Wake);
        assert!(rig.core.view().online(), "{expected:?}");
    };
    for (n, expected) in [1, 2, 4, 8, 16, 32, 32].into_iter().enumerate() {
        pause(&mut rig, n as u8 + 1, expected);
    }
    rig.connect(20);
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Refused);
    pause(&mut rig, 21, 1);
    pause(&mut rig, 22, 2);
    rig.up(23);
    pause(&mut rig, 24, 1);
}

#[test]
fn without_a_budget_nobody_is_given_up() {
    let mut rig = Rig::new(|c| {
        c.limits.dials_per_minute = 1_000;
        c.limits.dials_per_minute_per_ip = 1_000;
        c.rules[0].backoff = Backoff { max_attempts: 0, ..Backoff::THREE_AT_ONCE };
    });
    rig.connect(1);
    for _ in 0..50 {
        let conn = rig.dialled().expect("again");
        rig.fail(conn, FaultKind::Refused);
        assert!(!rig.told().contains(&Told::GaveUp));
    }
}

/// After the fast window come delays that go on from there, not from the quick end.
#[test]
fn after_a_minute_of_fast_retries_the_delays_do_not_begin_at_the_quick_end() {
    let mut rig = Rig::new(|c| {
        c.limits.dials_per_minute = 1_000;
        c.limits.dials_per_minute_per_ip = 1_000;
        c.rules[0].liveness = Liveness::Transport;
    });
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    rig.seconds(40);
    let lost_at = rig.now;
    rig.gone(conn, End::Fault(fault(FaultKind::Reset)));
    let mut fast = 0;
    loop {
        let conn = rig.dialled().expect("a dial");
        rig.fail(conn, FaultKind::Refused);
        let wait = rig.contact(1).expect("known").retry_at.expect("it waits") - rig.now;
        if rig.now - lost_at >= Duration::from_secs(60) {
            let least = Duration::from_secs(16).mul_f64(0.69);
            assert!(wait > least && wait <= Duration::from_secs(16), "{wait:?}");
            break;
        }
        fast += 1;
        assert!(wait <= Duration::from_millis(1_500), "{wait:?}");
        rig.pass(wait + Duration::from_millis(2));
    }
    assert!(fast > 30);
}

#[test]
fn what_they_said_when_they_declined_outlives_how_the_socket_ended() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    let retry_after = Duration::from_secs(50);
    rig.saw(Fact::Declined { conn, key: Some(peer(1).key), at: at(1), code: 4, retry_after, newer_epoch: 0 });
    rig.fail(conn, FaultKind::Reset);
    let contact = rig.contact(1).expect("known");
    assert_eq!(contact.last_fault.map(|fault| (fault.kind, fault.detail)), Some((FaultKind::Declined, 4)));
    assert_eq!(contact.retry_at, Some(rig.now + retry_after), "and we stay away as long as they asked");

    rig.connect(2);
    let conn = rig.dialled().expect("a dial");
    missed(&mut rig, conn, at(2), FaultKind::Refused);
    rig.fail(conn, FaultKind::Timeout);
    let kind = rig.contact(2).and_then(|contact| contact.last_fault).map(|fault| fault.kind);
    assert_eq!(kind, Some(FaultKind::Timeout), "any other fault is the last one");
}

#[test]
fn s3_14_by_identity_the_lower_dials_wishes_and_everybody_dials_when_told() {
    let rig = || Rig::new(|c| c.preference = Preference::Identity);
    let wait = |answer| matches!(answer, Answer::Queued(Refusal::TheirTurn { .. }));
    for (n, theirs) in [(1, true), (101, false)] {
        let mut wanted = rig();
        assert_eq!(wait(wanted.want(n)), theirs, "a wish waits for the lower side");
        assert_eq!(wanted.dialled().is_some(), !theirs);
        wanted.seconds(3);
        assert_eq!(wanted.standing(n), Standing::Dialing, "but not for ever");
        let mut told = rig();
        assert!(!wait(told.connect(n)) && told.dialled().is_some(), "an operator means now");
    }
    let mut both = rig();
    both.want(1);
    assert!(wait(both.connect(1)), "who is wanted anyway has his turn");
}

#[test]
fn every_dial_has_a_number_above_all_before_it() {
    let mut rig = Rig::new(|_| ());
    let mut last = 0;
    for n in 1..5 {
        rig.connect(n);
        let conn = rig.dialled().expect("a dial");
        let dial = rig.core.view().dial(conn).expect("an attempt").greeting.dial;
        assert!(dial > last, "{dial} after {last}");
        last = dial;
    }
}

/// Nobody asked for it: a peer picked to fill the target has its turn as well.
#[test]
fn s3_14_whoever_is_picked_for_the_target_waits_for_the_lower_side() {
    for (n, at_once) in [(1, false), (101, true)] {
        let mut rig = Rig::new(|c| {
            c.preference = Preference::Identity;
            c.rules[0].target = 1;
        });
        told(&mut rig, n, &[at(1)], Source::Told);
        assert_eq!(rig.dialled().is_some(), at_once);
        let effects = rig.seconds(3);
        assert_eq!(effects.iter().any(|effect| matches!(effect, Effect::Dial { .. })), !at_once);
    }
}

/// A slot that frees goes to the first in the queue who can use it.
#[test]
fn whoever_cannot_be_dialled_for_its_own_address_does_not_hold_up_the_queue() {
    let mut rig = Rig::new(|c| {
        c.limits.outbound = 1;
        c.limits.per_ip = 1;
    });
    rig.connect(9);
    let first = rig.dialled().expect("a dial");
    rig.ask(Command::Connect { who: peer(2), addrs: addrs(&[at(20)]), named: false });
    rig.connect(3);
    assert_eq!(rig.standing(2), Standing::Queued(Limit::Outbound));
    rig.arrive(at(20)).expect("room");
    rig.ask(Command::Reset(peer(9)));
    rig.gone(first, End::Asked);
    let next = rig.dialled().expect("the slot goes on");
    assert_eq!(rig.core.view().dial(next).map(|dial| dial.who), Some(peer(3)));
    assert_eq!(rig.standing(2), Standing::Queued(Limit::PerIp));
}

#[test]
fn who_is_queued_during_a_pause_is_dialled_when_it_is_over() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Resources);
    assert_eq!(rig.connect(2), Answer::Queued(Refusal::Offline));
    assert_eq!(rig.dialled(), None);
    rig.pass(Duration::from_millis(1_002));
    assert_eq!(rig.standing(2), Standing::Dialing);
    rig.step(Action::Network(Change::Offline));
    rig.connect(3);
    assert_eq!(rig.standing(3), Standing::Waiting, "without a network until there is one");
    rig.seconds(5);
    assert_eq!(rig.standing(3), Standing::Waiting);
    rig.step(Action::Network(Change::Online));
    assert_eq!(rig.standing(3), Standing::Dialing);
}

/// A peer known by address only, on the virtual LAN: its link knows the way.
#[test]
fn a_stack_that_needs_no_addresses_is_dialled_without() {
    let mut rig = Rig::new(|c| {
        c.rules[StackId::Lan.index()].dials_addresses = false;
        c.rules[StackId::Lan.index()].target = 0;
    });
    let who = |stack| Who { stack, key: peer(1).key };
    let connect = |stack| Command::Connect { who: who(stack), addrs: Addrs::new(), named: false };
    assert_eq!(rig.ask(connect(StackId::Mesh)), Answer::No(Refusal::NoAddress));
    assert_eq!(rig.core.view().contacts().count(), 0);
    assert!(matches!(rig.ask(connect(StackId::Lan)), Answer::Begun(_)));
    assert!(rig.dialled().is_some());
}

/// Another network, another version or another identity will be the same in a moment.
#[test]
fn what_will_not_mend_by_itself_is_tried_again_much_later() {
    for (kind, is_slow) in [
        (FaultKind::Network, true),
        (FaultKind::Version, true),
        (FaultKind::Identity, true),
        (FaultKind::Refused, false),
        (FaultKind::Timeout, false),
    ] {
        let mut rig = Rig::new(|_| ());
        rig.want(1);
        let conn = rig.dialled().expect("a dial");
        rig.fail(conn, kind);
        let wait = rig.contact(1).and_then(|contact| contact.retry_at).expect("it waits") - rig.now;
        let expected = if is_slow { 42..=60 } else { 1..=2 };
        assert!(expected.contains(&wait.as_secs()), "{kind:?}: {wait:?}");
    }
}
