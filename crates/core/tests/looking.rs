//! What others see of the core between two steps.

use crate::rig::{Rig, at, fault, peer};
use peerkeep_core::*;
use std::time::Duration;

#[test]
fn the_refused_are_told_how_long_to_stay_away() {
    let mut rig = Rig::new(|_| ());
    rig.seconds(100);
    rig.step(Action::Wake);
    let view = rig.core.view();
    let seconds = |why| view.retry_after(why).as_secs();
    assert_eq!(seconds(Refusal::Banned { until: rig.now + Duration::from_secs(77) }), 77);
    assert_eq!(seconds(Refusal::Banned { until: Time::NEVER }), 3_600);
    assert_eq!(seconds(Refusal::Myself), 3_600);
    assert_eq!(seconds(Refusal::Full(Limit::Inbound)), 30);
    assert_eq!(seconds(Refusal::Draining), 5);
    assert_eq!(seconds(Refusal::AlreadyConnected), 0);
    assert_eq!(seconds(Refusal::Stale { newer: 3 }), 0);
}

#[test]
fn epoch_time_and_dials_are_what_they_are() {
    let mut rig = Rig::new(|_| ());
    assert_eq!(rig.core.view().answer(), Greeting { epoch: 1_000, ..Greeting::default() });
    assert_eq!(rig.core.view().epoch(), 1_000);
    for n in 1..4 {
        assert_eq!(rig.core.view().dials_last_minute(), usize::from(n) - 1);
        rig.connect(n);
    }
    rig.now = Time(59_999_999);
    rig.step(Action::Wake);
    assert_eq!((rig.core.view().now(), rig.core.view().dials_last_minute()), (Time(59_999_999), 3));
    rig.now = Time(60_000_000);
    rig.step(Action::Wake);
    assert_eq!(rig.core.view().dials_last_minute(), 0, "a minute is over");
}

#[test]
fn going_down_shows_how_many_conns_are_left() {
    let mut rig = Rig::new(|_| ());
    let conns = [rig.up(1), rig.up(2)];
    assert_eq!(rig.core.view().draining(), None);
    rig.ask(Command::Shutdown);
    assert_eq!(rig.core.view().draining(), Some(2));
    for (conn, left) in conns.into_iter().zip([1, 0]) {
        rig.gone(conn, End::Asked);
        assert_eq!(rig.core.view().draining(), Some(left));
    }
}

#[test]
fn online_means_a_network_and_no_pause() {
    let mut rig = Rig::new(|_| ());
    assert!(rig.core.view().online());
    rig.step(Action::Network(Change::Offline));
    assert!(!rig.core.view().online());
    rig.step(Action::Network(Change::Online));
    assert!(rig.core.view().online());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Resources);
    assert!(!rig.core.view().online(), "a fault of our own machine pauses dialling");
    rig.pass(Duration::from_millis(999));
    rig.step(Action::Wake);
    assert!(!rig.core.view().online());
    rig.pass(Duration::from_millis(1));
    rig.step(Action::Wake);
    assert!(rig.core.view().online(), "for a second");
}

#[test]
fn a_handle_is_good_for_what_it_was_given_for() {
    let mut rig = Rig::new(|_| ());
    let target = Target::Key(peer(9).key);
    rig.ask(Command::Ban { target, span: None });
    let ban = rig.out.iter().find_map(|effect| match effect {
        Effect::StoreBan { ban } => Some(*ban),
        _ => None,
    });
    let ban = ban.expect("it is to be stored");
    let seen = rig.core.view().ban(ban).expect("a ban");
    assert_eq!((seen.target, seen.until, seen.over), (target, Time::NEVER, false));
    rig.ask(Command::Unban(target));
    assert!(rig.core.view().ban(ban).is_some_and(|ban| ban.over), "to be looked at until the next step");
    rig.step(Action::Wake);
    assert_eq!(rig.core.view().ban(ban), None);

    let conn = rig.arrive(at(1)).expect("room");
    let invented = ConnRef { row: conn.row, generation: conn.generation + 1 };
    assert!(rig.core.view().was_given(conn) && !rig.core.view().was_given(invented));
    assert!(!rig.core.view().was_given(ConnRef { row: conn.row + 1, generation: 0 }));
    rig.gone(conn, End::Asked);
    assert!(rig.core.view().was_given(conn) && rig.core.view().conn(conn).is_none());
    assert!(!rig.core.view().was_given(invented), "the next one is not there yet");
}

#[test]
fn only_an_attempt_of_ours_says_what_to_dial() {
    let mut rig = Rig::new(|_| ());
    let loose = rig.arrive(at(1)).expect("room");
    let inbound = rig.inbound(2, 1).expect("room");
    rig.connect(3);
    let dial = rig.dialled().expect("a dial");
    let view = rig.core.view();
    assert!(view.dial(loose).is_none() && view.dial(inbound).is_none());
    assert_eq!(view.dial(dial).map(|dial| dial.who), Some(peer(3)));
}

#[test]
fn a_contact_is_shown_with_the_conn_furthest_on() {
    let mut rig = Rig::new(|_| ());
    rig.connect(101);
    let dial = rig.dialled().expect("a dial");
    assert_eq!(rig.contact(101).and_then(|c| c.conn), Some(dial));
    assert_eq!(rig.why(101), Why::OnItsWay { conn: dial, stage: Stage::Dialing });
    let held = rig.arrive(at(101)).expect("room");
    rig.hello(held, 101, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    assert_eq!(rig.why(101), Why::OnItsWay { conn: held, stage: Stage::Held }, "ours waits for theirs");
    rig.fail(dial, FaultKind::Refused);
    assert_eq!(rig.why(101), Why::OnItsWay { conn: held, stage: Stage::Offered });
    rig.saw(Fact::Ready { conn: held });
    assert_eq!(rig.why(101), Why::Connected { conn: held });
    let newer = rig.arrive(at(101)).expect("room");
    let seen = rig.core.view().contacts().filter(|contact| contact.conn == Some(newer)).count();
    assert_eq!(seen, 0, "who has not said who he is is nobody's");
    rig.ask(Command::Disconnect(peer(101)));
    assert_eq!(rig.contact(101).and_then(|c| c.conn), None, "what is closing is no connection");
    assert_eq!(rig.why(101), Why::Refused(Refusal::Unwanted));
}

/// The model checker takes two states for one when their canonical forms agree.
#[test]
fn the_canonical_form_tells_apart_what_behaves_differently_and_nothing_else() {
    type Act = fn(&mut Rig);
    let acts: [(&str, Act); 9] = [
        ("nothing", |_| ()),
        ("known", |rig| {
            _ = rig.saw(Fact::Learned {
                who: peer(1),
                addrs: [at(1)].into_iter().collect(),
                source: Source::Told,
            })
        }),
        ("dialling", |rig| _ = rig.connect(1)),
        ("up", |rig| _ = rig.up(1)),
        ("arrived", |rig| _ = rig.arrive(at(1))),
        ("arrived from elsewhere", |rig| _ = rig.arrive(at(2))),
        ("banned", |rig| _ = rig.ask(Command::Ban { target: Target::Key(peer(1).key), span: None })),
        ("offline", |rig| _ = rig.step(Action::Network(Change::Offline))),
        ("failed", |rig| {
            rig.connect(1);
            let conn = rig.dialled().expect("a dial");
            rig.gone(conn, End::Fault(fault(FaultKind::Refused)));
        }),
    ];
    let form = |act: Act, start: u64| {
        let mut rig = Rig::new(|_| ());
        rig.now = Time(start);
        rig.step(Action::Wake);
        act(&mut rig);
        rig.core.canonical(rig.now)
    };
    for (n, (name, act)) in acts.iter().enumerate() {
        assert_eq!(form(*act, 0), form(*act, 0), "{name}");
        if ["nothing", "known", "banned", "offline", "failed"].contains(name) {
            assert_eq!(form(*act, 0), form(*act, 1 << 30), "{name}: times are relative to now");
        }
        for (other, act2) in &acts[..n] {
            assert_ne!(form(*act, 0), form(*act2, 0), "{name}, {other}");
        }
    }
    let lifted: Act = |rig| {
        rig.ask(Command::Ban { target: Target::Key(peer(1).key), span: None });
        rig.ask(Command::Unban(Target::Key(peer(1).key)));
    };
    assert_eq!(form(lifted, 0), form(acts[0].1, 0), "a ban that is over is none");
}

#[test]
fn a_connection_that_is_up_is_shown_before_a_newer_one_that_is_not() {
    let mut rig = Rig::new(|_| ());
    let who = Who { stack: StackId::Libp2p, key: peer(1).key };
    let arrive = |rig: &mut Rig, ticket| {
        rig.saw(Fact::Arrived { ticket: Ticket(ticket), stack: StackId::Libp2p, remote: at(1) });
        let conn = rig.core.view().conns().find(|conn| conn.stage == Stage::Arriving).expect("room").conn;
        rig.saw(Fact::Met { conn, key: who.key, at: at(1), greeting: None });
        conn
    };
    let up = arrive(&mut rig, 1);
    rig.saw(Fact::Ready { conn: up });
    let held = arrive(&mut rig, 2);
    let view = rig.core.view();
    assert_eq!(view.conn(held).map(|conn| conn.stage), Some(Stage::Held), "until the other has been probed");
    let contact = view.find(&who).expect("known");
    assert_eq!(view.contact(contact).and_then(|contact| contact.conn), Some(up));
    assert_eq!(view.why(contact), Why::Connected { conn: up });
}

#[test]
fn the_buffer_of_effects_counts_what_it_holds() {
    let mut out = Effects::new();
    assert_eq!((out.len(), out.is_empty()), (0, true));
    let effect = Effect::Reply { to: CommandId(1), answer: Answer::Done };
    for n in 1..4 {
        out.push(effect);
        assert_eq!((out.len(), out.is_empty(), out.as_slice().len()), (n, false, n));
    }
    assert_eq!(out.drain().count(), 3);
    assert!(out.is_empty());
    out.push(effect);
    out.clear();
    assert!(out.is_empty());
}

/// What the test that no step is proportional to the number of peers looks at.
#[test]
fn every_row_that_a_loop_touches_is_counted() {
    let mut rig = Rig::new(|c| c.limits.dials_per_minute = 100);
    let work = |rig: &mut Rig, act: fn(&mut Rig)| {
        let before = rig.core.work();
        act(rig);
        rig.core.work() - before
    };
    let idle = work(&mut rig, |rig| _ = rig.step(Action::Wake));
    assert_eq!(idle, 0);
    for n in 1..=20 {
        rig.up(n);
    }
    let swept = work(&mut rig, |rig| _ = rig.step(Action::Network(Change::Moved)));
    assert!((20..40).contains(&swept), "{swept} for 20 conns");
    let mut rig = Rig::new(|c| c.limits.dials_per_minute = 100);
    for n in 1..=20 {
        rig.connect(n);
        let conn = rig.dialled().expect("a dial");
        rig.ask(Command::Reset(peer(n)));
        rig.gone(conn, End::Asked);
    }
    let pruned = work(&mut rig, |rig| {
        rig.now = rig.now + Duration::from_secs(60);
        rig.step(Action::Wake);
    });
    assert_eq!(pruned, 20, "as many dials leave the window");
}

#[test]
fn the_next_delay_and_the_limits_can_be_asked_for_beforehand() {
    let mut rig = Rig::new(|c| {
        c.limits.inbound = 1;
        c.limits.per_ip = 1;
    });
    let around = |rig: &Rig, direction, addrs: &[Addr]| rig.core.view().limit_around(direction, addrs);
    assert_eq!(around(&rig, Direction::Inbound, &[]), None);
    rig.inbound(1, 1).expect("room");
    assert_eq!(around(&rig, Direction::Inbound, &[]), Some(Limit::Inbound));
    assert_eq!(around(&rig, Direction::Outbound, &[]), None);
    assert_eq!(around(&rig, Direction::Outbound, &[at(1)]), Some(Limit::PerIp));
    rig.connect(2);
    for seconds in [2, 4, 8] {
        let contact = rig.contact(2).expect("known");
        assert_eq!(rig.core.view().backoff_after(&contact), Duration::from_secs(seconds));
        let conn = rig.dialled().expect("a dial");
        rig.fail(conn, FaultKind::Refused);
        rig.seconds(seconds);
    }
    assert_eq!(rig.core.view().stats(), rig.core.stats());
    assert!(rig.core.view().stats().dials >= 3);
}
