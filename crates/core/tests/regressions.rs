//! Bugs that were found by reading and by trying to break a finished core: each test failed before its fix. Through
//! the public door only.

mod rig;

use peerkeep_core::*;
use rig::{Rig, addr, addrs, at, fault, peer};
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

#[test]
fn a_row_reused_on_another_stack_is_a_candidate_there() {
    let mut rig = Rig::new(|c| c.rules[1].target = 1);
    told_address(&mut rig, on(StackId::Mesh, 1), at(1));
    rig.ask(Command::Forget(on(StackId::Mesh, 1)));
    rig.step(Action::Wake);
    told_address(&mut rig, on(StackId::Libp2p, 2), at(2));
    assert_eq!(rig.core.view().counts().outbound, 1, "it is picked for its own stack's target");
    rig.seconds(1);
}

#[test]
fn an_idle_close_is_told_as_idle_and_nobody_comes_back_for_it() {
    let mut rig = Rig::new(|c| c.rules[0].idle = Some(Duration::from_secs(5)));
    let conn = rig.up(1);
    rig.seconds(7);
    assert!(rig.closed().contains(&(conn, Close::Idle)));
    rig.gone(conn, End::Asked);
    assert_eq!(rig.told(), [Told::Lost(Close::Idle)]);
    rig.seconds(600);
    assert_eq!(rig.dialled(), None, "closed for want of use, not lost");
    assert_eq!(rig.standing(1), Standing::Idle);
}

#[test]
fn a_loss_after_a_declined_idle_close_is_a_loss() {
    let mut rig = Rig::new(|c| {
        c.rules[0].idle = Some(Duration::from_secs(5));
        c.rules[0].liveness = Liveness::Transport;
    });
    let conn = rig.up(1);
    rig.seconds(6);
    assert!(rig.closed().contains(&(conn, Close::Idle)));
    let report = Report { received_at: rig.now, used_at: rig.now, ..Report::default() };
    rig.saw(Fact::Reported { conn, report });
    rig.gone(conn, End::Fault(fault(FaultKind::Reset)));
    assert!(rig.told().contains(&Told::Lost(Close::Dead)));
    assert_eq!(rig.standing(1), Standing::Dialing);
}

#[test]
fn a_connect_between_a_close_and_its_end_keeps_its_wish() {
    for command in [Command::Disconnect(peer(1)), Command::Reset(peer(1))] {
        let mut rig = Rig::new(|_| ());
        let old = rig.up(1);
        rig.ask(command);
        assert!(matches!(rig.connect(1), Answer::Begun(_)));
        let new = rig.dialled().expect("a dial");
        rig.gone(old, End::Asked);
        rig.fail(new, FaultKind::Refused);
        assert_eq!(rig.standing(1), Standing::Waiting, "the new wish is not the old connection's");
    }
}

#[test]
fn who_misbehaved_is_not_dialled_again_at_once() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    rig.saw(Fact::Violated { conn, what: Violation::Malformed });
    assert_eq!(rig.dialled(), None, "not before the slow return");
    rig.gone(conn, End::Asked);
    rig.seconds(40);
    assert_eq!(rig.dialled(), None);
    assert!(matches!(rig.why(1), Why::Refused(Refusal::Backoff { .. })));
}

#[test]
fn a_wanted_peer_that_is_disconnected_comes_back_after_a_moment_not_before_the_end() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    rig.ask(Command::Disconnect(peer(1)));
    assert_eq!(rig.dialled(), None);
    rig.gone(conn, End::Asked);
    rig.seconds(3);
    assert!(rig.dialled().is_some());
}

#[test]
fn a_filler_that_is_disconnected_rests() {
    let mut rig = Rig::new(|c| c.rules[0].target = 1);
    told_address(&mut rig, peer(1), at(1));
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    rig.ask(Command::Disconnect(peer(1)));
    assert_eq!(rig.dialled(), None);
    rig.gone(conn, End::Asked);
    rig.seconds(600);
    assert_eq!(rig.dialled(), None);
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
fn a_connected_peer_is_not_given_up_for_an_older_dial_of_ours() {
    let mut rig = Rig::new(|c| c.rules[0].backoff.max_attempts = 1);
    rig.connect(200);
    let own = rig.dialled().expect("a dial");
    let conn = rig.arrive(at(200)).expect("room");
    rig.hello(conn, 200, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    rig.pass(Duration::from_millis(1_100));
    assert!(rig.closed().contains(&(own, Close::Cancelled)), "the hold is over");
    rig.saw(Fact::Ready { conn });
    assert_eq!(rig.told(), [Told::Connected]);
    rig.gone(own, End::Asked);
    assert!(!rig.told().contains(&Told::GaveUp), "{:?}", rig.told());
    assert!(rig.contact(200).expect("known").asked, "the wish stands");
}

#[test]
fn an_address_that_answers_is_forgiven_its_failures() {
    let mut rig = Rig::new(|_| ());
    let (good, other) = (at(1), at(2));
    rig.ask(Command::Want { who: peer(1), addrs: addrs(&[good, other]), named: false });
    let conn = rig.dialled().expect("a dial");
    rig.saw(Fact::Missed { conn, addr: good, fault: fault(FaultKind::Refused) });
    rig.saw(Fact::Missed { conn, addr: other, fault: fault(FaultKind::Refused) });
    rig.fail(conn, FaultKind::Refused);
    rig.seconds(3);
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    let known = rig.contact(1).expect("known").addrs;
    assert_eq!((known[0].addr, known[0].failures), (good, 0), "{known:?}");
}

#[test]
fn an_answered_dial_that_never_settles_is_followed_by_the_backoff() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.saw(Fact::Met { conn, key: peer(1).key, at: at(1), greeting: greeting() });
    rig.seconds(11);
    assert_eq!(rig.closed(), [(conn, Close::Timeout)]);
    assert_eq!(rig.dialled(), None, "the end brings the verdict");
    rig.gone(conn, End::Asked);
    assert!(matches!(rig.why(1), Why::Refused(Refusal::Backoff { .. })));
}

#[test]
fn a_handshake_that_misbehaves_is_followed_by_the_slow_return() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.gone(conn, End::Violation(Violation::Malformed));
    rig.seconds(40);
    assert_eq!(rig.dialled(), None);
}

#[test]
fn retrying_a_wanted_peer_leaves_no_wish_behind() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Refused);
    rig.ask(Command::Retry(peer(1)));
    let conn = rig.dialled().expect("a dial");
    rig.ask(Command::Unwant(peer(1)));
    rig.fail(conn, FaultKind::Refused);
    rig.seconds(600);
    assert_eq!(rig.dialled(), None, "wanted no longer");
}

#[test]
fn a_replacing_hello_leaves_the_old_link_up_until_the_confirm() {
    let mut rig = Rig::new(|_| ());
    let old = rig.up(1);
    let dial = rig.core.view().conn(old).expect("up").dial;
    let new = rig.arrive(at(1)).expect("room");
    let hello = Greeting { epoch: 500, dial: 1, accepted: (1_000, dial), replaces: true };
    rig.hello(new, 1, hello);
    assert_eq!(rig.closed(), [], "make before break");
    rig.saw(Fact::Ready { conn: new });
    assert_eq!(rig.closed(), [(old, Close::Replaced)]);
}

#[test]
fn a_refusal_by_somebody_else_costs_the_address_it_came_from_and_no_other() {
    let mut rig = Rig::new(|_| ());
    rig.ask(Command::Want { who: peer(1), addrs: addrs(&[at(1), at(2)]), named: false });
    let conn = rig.dialled().expect("a dial");
    let key = Some(peer(2).key);
    rig.saw(Fact::Declined { conn, key, at: at(2), code: 0, retry_after: Duration::ZERO, newer_epoch: 0 });
    rig.fail(conn, FaultKind::Declined);
    let known = rig.contact(1).expect("known").addrs;
    assert_eq!(known.iter().map(|known| known.addr).collect::<Vec<_>>(), [at(1)]);
}

#[test]
fn what_was_asked_for_and_became_hopeless_is_given_up_and_said_so() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    let target = Target::Subnet(Subnet::host(at(1).ip));
    rig.ask(Command::Ban { target, span: Some(Duration::from_secs(10)) });
    rig.gone(conn, End::Asked);
    rig.seconds(20);
    assert!(!rig.contact(1).expect("known").asked, "nobody is left wanting what nothing will bring");

    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.saw(Fact::Met { conn, key: peer(2).key, at: at(1), greeting: greeting() });
    rig.gone(conn, End::Asked);
    rig.seconds(600);
    assert!(!rig.contact(1).expect("known").asked);
    assert_eq!(rig.standing(1), Standing::GaveUp);
    assert!(matches!(rig.connect(1), Answer::Begun(_) | Answer::Queued(_)), "a new address revives it");
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
fn a_network_that_changes_all_the_time_keeps_no_dead_link_alive() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    let mut closed = false;
    for _ in 0..20 {
        rig.step(Action::Network(Change::Moved));
        rig.seconds(3);
        closed |= rig.closed().contains(&(conn, Close::Dead));
    }
    assert!(closed);
}

#[test]
fn a_dial_that_gives_way_to_a_held_conn_is_no_failure_to_whoever_waits() {
    let mut rig = Rig::new(|_| ());
    rig.connect(200);
    let own = rig.dialled().expect("a dial");
    let conn = rig.arrive(at(200)).expect("room");
    rig.hello(conn, 200, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    rig.pass(Duration::from_millis(1_100));
    rig.gone(own, End::Asked);
    assert_eq!(rig.told(), [], "the other one is on its way");
    rig.saw(Fact::Ready { conn });
    assert_eq!(rig.told(), [Told::Connected]);
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

/// Promise T6: idle is cheap.
#[test]
fn a_wanted_link_that_nobody_uses_is_not_looked_at_every_other_second() {
    let mut rig = Rig::new(|c| {
        c.rules[0].idle = Some(Duration::from_secs(60));
        c.rules[0].liveness = Liveness::Transport;
    });
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    let before = rig.core.stats().actions;
    rig.seconds(600);
    let wakes = rig.core.stats().actions - before;
    assert!(wakes < 40, "{wakes} wakes in ten minutes");
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
