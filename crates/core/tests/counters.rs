//! What is counted: each number that status and metrics show rises by one, for its own reason and no other.

use crate::rig::{Rig, addr, addrs, at, fault, peer};
use peerkeep_core::*;

/// What one act adds to the numbers, `actions` apart.
fn added(rig: &mut Rig, act: impl FnOnce(&mut Rig)) -> Stats {
    let before = rig.core.stats();
    act(rig);
    let after = rig.core.stats();
    assert!(after.actions > before.actions);
    Stats {
        actions: 0,
        dials: after.dials - before.dials,
        failures: after.failures - before.failures,
        connected: after.connected - before.connected,
        lost: after.lost - before.lost,
        arrivals: after.arrivals - before.arrivals,
        refused: after.refused - before.refused,
        turned_away: after.turned_away - before.turned_away,
        late_facts: after.late_facts - before.late_facts,
        clock_back: after.clock_back - before.clock_back,
        contacts_dropped: after.contacts_dropped - before.contacts_dropped,
    }
}

const LATE: Stats = Stats { late_facts: 1, ..NOTHING };
const NOTHING: Stats = Stats {
    actions: 0,
    dials: 0,
    failures: 0,
    connected: 0,
    lost: 0,
    arrivals: 0,
    refused: 0,
    turned_away: 0,
    late_facts: 0,
    clock_back: 0,
    contacts_dropped: 0,
};

#[test]
fn every_step_is_an_action_and_a_clock_that_goes_back_is_noticed() {
    let mut rig = Rig::new(|_| ());
    rig.now = Time(5_000);
    for n in 1..4 {
        rig.step(Action::Wake);
        assert_eq!(
            (rig.core.stats().actions, rig.core.stats().clock_back),
            (n, 0),
            "the same moment again is fine"
        );
    }
    for n in 1..3 {
        rig.now = Time(4_999);
        rig.step(Action::Wake);
        assert_eq!(rig.core.stats().clock_back, n);
        assert_eq!(rig.core.view().now(), Time(5_000), "and time does not go back");
    }
}

#[test]
fn a_life_of_dials_and_losses_is_counted() {
    let mut rig = Rig::new(|_| ());
    for n in 1..3 {
        let of = |n, act: fn(&mut Rig, u8)| move |rig: &mut Rig| act(rig, n);
        assert_eq!(added(&mut rig, of(n, |rig, n| _ = rig.connect(n))), Stats { dials: 1, ..NOTHING });
        let conn = rig.dialled().expect("a dial");
        let fails = added(&mut rig, |rig| rig.fail(conn, FaultKind::Refused));
        assert_eq!(fails, Stats { failures: 1, ..NOTHING });
        rig.seconds(3);
        let conn = rig.dialled().expect("again");
        let comes_up = added(&mut rig, |rig| rig.answer(conn, n));
        assert_eq!(comes_up, Stats { connected: 1, ..NOTHING });
        let lost = added(&mut rig, |rig| rig.gone(conn, End::Goodbye(Close::Requested)));
        assert_eq!(lost, Stats { lost: 1, ..NOTHING });
    }
}

#[test]
fn arrivals_and_refusals_are_counted() {
    let mut rig = Rig::new(|c| {
        c.limits.inbound = 1;
        c.limits.courtesy = 1;
    });
    for _ in 0..2 {
        let taken = added(&mut rig, |rig| _ = rig.arrive(at(1)).expect("room"));
        assert_eq!(taken, Stats { arrivals: 1, ..NOTHING });
        let conn = rig.core.view().conns().next().expect("it").conn;
        let told = added(&mut rig, |rig| _ = rig.arrive(at(2)).expect("courtesy"));
        assert_eq!(told, Stats { arrivals: 1, refused: 1, ..NOTHING }, "it will be told why not");
        let full = added(&mut rig, |rig| _ = rig.arrive(at(3)).expect_err("no room"));
        assert_eq!(full, Stats { arrivals: 1, refused: 1, ..NOTHING });
        let told = rig.core.view().conns().find(|c| c.stage == Stage::Refusing).expect("courtesy").conn;
        let turned =
            added(&mut rig, |rig| rig.hello(told, 2, Greeting { epoch: 5, dial: 1, ..Default::default() }));
        assert_eq!(turned, Stats { refused: 1, ..NOTHING });
        rig.gone(told, End::Asked);
        rig.gone(conn, End::Asked);
    }
    for _ in 0..2 {
        let flood = added(&mut rig, |rig| _ = rig.saw(Fact::TurnedAway { count: 3 }));
        assert_eq!(flood, Stats { turned_away: 3, ..NOTHING });
    }
    rig.ask(Command::Shutdown);
    let late = added(&mut rig, |rig| _ = rig.arrive(at(1)).expect_err("going down"));
    assert_eq!(late, Stats { arrivals: 1, refused: 1, ..NOTHING });
}

#[test]
fn news_that_does_not_fit_is_late_each_time_and_changes_nothing() {
    let mut rig = Rig::new(|_| ());
    let up = rig.up(1);
    let arrived = rig.arrive(at(2)).expect("room");
    let gone = rig.arrive(at(3)).expect("room");
    rig.gone(gone, End::Asked);
    let closing = rig.up(4);
    rig.ask(Command::Disconnect(peer(4)));
    let declined = |conn| Fact::Declined {
        conn,
        key: None,
        at: at(1),
        code: 1,
        retry_after: std::time::Duration::ZERO,
        newer_epoch: 0,
    };
    let routed =
        |conn| Fact::Routed { conn, route: Route::Direct, rtt_us: 1, why: 0, next_attempt: Time::NEVER };
    let late = [
        Fact::Met { conn: up, key: peer(1).key, at: at(1), greeting: None },
        Fact::Ready { conn: up },
        Fact::Resolved { conn: up, addrs: addrs(&[at(1)]) },
        declined(up),
        Fact::Ready { conn: arrived },
        Fact::Missed { conn: arrived, addr: at(2), fault: fault(FaultKind::Refused) },
        routed(arrived),
        routed(closing),
        Fact::Violated { conn: closing, what: Violation::Lie },
        Fact::Met { conn: closing, key: peer(4).key, at: at(4), greeting: None },
        Fact::Gone { conn: gone, end: End::Asked },
        Fact::Reported { conn: gone, report: Report::default() },
    ];
    for fact in late {
        let canonical = rig.core.canonical(rig.now);
        for _ in 0..2 {
            assert_eq!(added(&mut rig, |rig| _ = rig.saw(fact.clone())), LATE, "{fact:?}");
            assert_eq!(rig.out, [], "{fact:?}");
        }
        assert_eq!(rig.core.canonical(rig.now), canonical, "{fact:?}");
    }
    let told = added(&mut rig, |rig| _ = rig.saw(routed(up)));
    assert_eq!((told, rig.told()), (NOTHING, vec![Told::Routed]), "what fits is told");
    let dialling = {
        rig.connect(5);
        rig.dialled().expect("a dial")
    };
    let missed = Fact::Missed { conn: dialling, addr: at(5), fault: fault(FaultKind::Refused) };
    assert_eq!(added(&mut rig, |rig| _ = rig.saw(missed)), NOTHING);
}

#[test]
fn fault_f14_contacts_for_whom_there_is_no_room_are_counted() {
    let mut rig = Rig::new(|c| c.limits.contacts = 4);
    let learn = |rig: &mut Rig, n: u8, source| {
        let addrs = addrs(&[addr(&format!("20.1.{n}.1:1"))]);
        added(rig, |rig| _ = rig.saw(Fact::Learned { who: peer(n), addrs, source }))
    };
    let dropped = Stats { contacts_dropped: 1, ..NOTHING };
    for n in 1..3 {
        assert_eq!(learn(&mut rig, n, Source::Gossip), NOTHING);
    }
    for n in 3..5 {
        assert_eq!(learn(&mut rig, n, Source::Gossip), dropped, "gossip fills half the table");
    }
    for n in 5..7 {
        rig.want(n);
    }
    assert_eq!(rig.core.view().contacts().count(), 4);
    for n in 7..9 {
        rig.want(n);
    }
    assert_eq!(rig.core.view().contacts().count(), 4, "what is known only by hearsay makes room");
    assert_eq!(learn(&mut rig, 9, Source::Told), dropped, "and nobody else does");
    assert_eq!(learn(&mut rig, 10, Source::Told), dropped);
}
