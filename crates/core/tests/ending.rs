//! How conns are kept alive, left idle and ended, and what a ban, a penalty or a new configuration does to those that
//! are up.

use crate::rig::{ME, Rig, addrs, at, peer};
use peerkeep_core::*;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn closed_after(rig: &mut Rig, conn: ConnRef, why: Close) -> Duration {
    let start = rig.now;
    while rig.now - start < SECOND * 600 {
        rig.pass(Duration::from_millis(100));
        if rig.closed().contains(&(conn, why)) {
            return rig.now - start;
        }
    }
    panic!("{conn} is not closed");
}

fn about(span: Duration, seconds: u64) -> bool {
    span >= SECOND * seconds as u32 && span <= SECOND * seconds as u32 + Duration::from_millis(200)
}

fn reported(rig: &mut Rig, conn: ConnRef, received_at: Time, used_at: Time) -> Report {
    rig.saw(Fact::Reported { conn, report: Report { received_at, used_at, rtt_us: 7, ..Report::default() } });
    rig.core.view().conn(conn).expect("a conn").report
}

#[test]
fn our_dial_is_dialling_until_both_sides_have_agreed() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    let greeting = Some(Greeting { epoch: 500, ..Greeting::default() });
    rig.saw(Fact::Met { conn, key: peer(1).key, at: at(1), greeting });
    assert_eq!(rig.standing(1), Standing::Dialing);
    rig.saw(Fact::Ready { conn });
    assert_eq!(rig.standing(1), Standing::Connected);
}

#[test]
fn an_offer_that_nobody_confirms_ends_at_its_deadline_and_leaves_nothing() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.arrive(at(1)).expect("room");
    rig.hello(conn, 1, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    assert_eq!(rig.standing(1), Standing::Waiting);
    assert!(about(closed_after(&mut rig, conn, Close::Timeout), 5));
    assert_eq!(rig.standing(1), Standing::Idle, "at once, not when the socket is gone");
}

#[test]
fn what_was_held_for_our_own_dial_is_offered_when_that_dial_times_out() {
    let mut rig = Rig::new(|c| {
        c.rules[0].hold = SECOND * 20;
        c.rules[0].handshake = SECOND * 60;
        c.rules[0].establish = SECOND * 5;
    });
    rig.connect(101);
    let dial = rig.dialled().expect("a dial");
    let held = rig.arrive(at(101)).expect("room");
    rig.hello(held, 101, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    assert!(!rig.out.contains(&Effect::Admit { conn: held }));
    rig.seconds(6);
    assert_eq!(rig.closed(), [(dial, Close::Timeout)]);
    assert!(rig.out.contains(&Effect::Admit { conn: held }), "before the socket of the dial is gone");
}

/// S3.54 and the idle close: the time counts from the last use, whatever was looked at in between.
#[test]
fn an_idle_connection_is_closed_when_its_time_has_passed_since_the_last_use() {
    let mut rig = Rig::new(|c| {
        c.rules[0].idle = Some(SECOND * 20);
        c.rules[0].liveness = Liveness::Transport;
    });
    let conn = rig.inbound(1, 1).expect("room");
    rig.seconds(10);
    let used = rig.now;
    reported(&mut rig, conn, used, used);
    assert!(about(closed_after(&mut rig, conn, Close::Idle), 20));
    assert_eq!(rig.core.view().conn(conn).and_then(|conn| conn.why), Some(Close::Idle));
    let now = rig.now;
    reported(&mut rig, conn, now, used);
    assert_eq!(
        rig.core.view().conn(conn).and_then(|conn| conn.why),
        Some(Close::Idle),
        "received is not used"
    );
    reported(&mut rig, conn, now, now);
    assert_eq!(rig.core.view().conn(conn).and_then(|conn| conn.why), None, "used just in time: it stays");
    rig.ask(Command::Disconnect(peer(1)));
    rig.seconds(1);
    let now = rig.now;
    reported(&mut rig, conn, now, now);
    assert_eq!(rig.core.view().conn(conn).and_then(|conn| conn.why), Some(Close::Requested));
}

/// Fault T5: a link's clock is not believed beyond ours, and its past does not come back.
#[test]
fn fault_t5_a_report_from_the_future_or_the_past_changes_no_times() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    rig.seconds(3);
    let now = rig.now;
    let report = reported(&mut rig, conn, Time::NEVER, Time::NEVER);
    assert_eq!((report.received_at, report.used_at, report.rtt_us), (now, now, 7));
    let report = reported(&mut rig, conn, Time(1), Time(1));
    assert_eq!((report.received_at, report.used_at), (now, now));
    for (sent_at, then) in [(Time(5), Time(5)), (Time::NEVER, now), (Time(1), now)] {
        rig.saw(Fact::Reported { conn, report: Report { sent_at, ..Report::default() } });
        assert_eq!(rig.core.view().conn(conn).expect("a conn").report.sent_at, then);
    }
}

/// Fault L6: who may have lost its way is asked at once, and asking again does not put the answer off.
#[test]
fn fault_l6_after_a_network_change_a_silent_connection_is_dead_within_two_deadlines() {
    for again in [false, true] {
        let mut rig = Rig::new(|_| ());
        let conn = rig.inbound(1, 1).expect("room");
        rig.seconds(3);
        rig.step(Action::Network(Change::Moved));
        assert!(rig.out.contains(&Effect::Probe { conn }));
        let mut dead = None;
        for seconds in 1..=11 {
            rig.seconds(1);
            dead = dead.or(rig.closed().contains(&(conn, Close::Dead)).then_some(seconds));
            if again && dead.is_none() {
                rig.step(Action::Network(Change::Moved));
                rig.pass(Duration::ZERO);
            }
        }
        assert!(dead.is_some_and(|seconds| seconds >= 5), "{again}: {dead:?}");
    }
}

#[test]
fn a_new_configuration_holds_for_connections_that_are_up() {
    let mut rig = Rig::new(|c| c.rules[0].liveness = Liveness::Transport);
    let conn = rig.inbound(1, 1).expect("room");
    rig.seconds(60);
    let mut config = rig.core.config().clone();
    config.rules[0].idle = Some(SECOND * 30);
    assert_eq!(rig.ask(Command::Configure(Box::new(config))), Answer::Done);
    let after = closed_after(&mut rig, conn, Close::Idle);
    assert!(after <= SECOND * 31, "{after:?}");
}

#[test]
fn who_is_no_longer_exempt_from_a_ban_goes() {
    let mut rig = Rig::new(|_| ());
    rig.ask(Command::Ban { target: Target::Key(peer(1).key), span: None });
    let mut config = rig.core.config().clone();
    let plain = config.clone();
    config.exempt = vec![Target::Key(peer(1).key)];
    rig.ask(Command::Configure(Box::new(config)));
    let exempt = rig.inbound(1, 1).expect("exempt");
    let other = rig.inbound(2, 1).expect("room");
    rig.ask(Command::Configure(Box::new(plain)));
    let mut closed = rig.closed();
    rig.pass(SECOND);
    closed.extend(rig.closed());
    assert_eq!(closed, [(exempt, Close::Banned)]);
    assert!(rig.core.view().conn(other).is_some_and(|conn| conn.stage == Stage::Up));
}

/// The key is banned for an hour, or for longer if it already was.
#[test]
fn s1_8_a_penalty_lengthens_a_ban_and_never_shortens_it() {
    let target = Target::Key(peer(1).key);
    for (seconds, expected) in [(None, None), (Some(60), Some(3_600)), (Some(7_200), Some(7_200))] {
        let mut rig = Rig::new(|_| ());
        let conn = rig.up(1);
        rig.ask(Command::Ban { target, span: seconds.map(Duration::from_secs) });
        rig.gone(conn, End::Violation(Violation::BannedAgent));
        let until = rig.core.view().bans().find(|ban| ban.target == target).map(|ban| ban.until);
        let expected = expected.map_or(Time::NEVER, |seconds| rig.now + Duration::from_secs(seconds));
        assert_eq!(until, Some(expected), "{seconds:?}");
    }
}

#[test]
fn nobody_is_banned_for_what_somebody_at_his_address_did_unproven() {
    let mut rig = Rig::new(|_| ());
    let who = Who::mesh(PeerKey::from_addr(at(1)));
    rig.ask(Command::Connect { who, addrs: addrs(&[at(1)]), named: false });
    let conn = rig.dialled().expect("a dial");
    rig.saw(Fact::Violated { conn, what: Violation::BannedAgent });
    rig.gone(conn, End::Violation(Violation::BannedAgent));
    assert_eq!(rig.core.view().bans().count(), 0);
}

fn why_and_fault(rig: &Rig, conn: ConnRef) -> (Option<Close>, Option<FaultKind>) {
    let conn = rig.core.view().conn(conn).expect("it ends with its socket");
    (conn.why, conn.fault.map(|fault| fault.kind))
}

#[test]
fn whom_we_turn_away_is_closed_for_that_reason() {
    let hello = Greeting { epoch: 500, dial: 1, ..Greeting::default() };
    let mut rig = Rig::new(|c| {
        c.limits.inbound = 2;
        c.limits.courtesy = 1;
    });
    let banned = rig.arrive(at(1)).expect("room");
    rig.ask(Command::Ban { target: Target::Key(peer(1).key), span: None });
    rig.hello(banned, 1, hello);
    assert!(matches!(rig.turned(banned), Some(Refusal::Banned { .. })));
    assert_eq!(why_and_fault(&rig, banned), (Some(Close::Banned), None));
    let me = rig.arrive(at(2)).expect("room");
    rig.saw(Fact::Met { conn: me, key: ME, at: at(2), greeting: Some(hello) });
    assert_eq!((rig.turned(me), why_and_fault(&rig, me).0), (Some(Refusal::Myself), Some(Close::Duplicate)));
    let full = rig.arrive(at(3)).expect("courtesy");
    rig.hello(full, 3, hello);
    assert_eq!(why_and_fault(&rig, full), (Some(Close::Resources), None));

    let mut rig = Rig::new(|_| ());
    let late = rig.arrive(at(1)).expect("room");
    rig.connect(2);
    let dial = rig.dialled().expect("a dial");
    rig.saw(Fact::Met {
        conn: dial,
        key: peer(2).key,
        at: at(2),
        greeting: Some(Greeting { epoch: MAX_EPOCH + 1, ..hello }),
    });
    assert_eq!(rig.turned(dial), Some(Refusal::Stale { newer: 0 }));
    assert_eq!(why_and_fault(&rig, dial), (Some(Close::Cancelled), Some(FaultKind::Protocol)));
    rig.ask(Command::Ban { target: Target::Key(peer(3).key), span: None });
    let who = Who::mesh(PeerKey::from_addr(at(3)));
    rig.ask(Command::Connect { who, addrs: addrs(&[at(3)]), named: false });
    let dial = rig.dialled().expect("a dial");
    rig.saw(Fact::Met { conn: dial, key: peer(3).key, at: at(3), greeting: Some(hello) });
    assert!(matches!(rig.turned(dial), Some(Refusal::Banned { .. })));
    assert_eq!(why_and_fault(&rig, dial), (Some(Close::Cancelled), Some(FaultKind::Identity)));
    rig.ask(Command::Shutdown);
    rig.hello(late, 1, hello);
    let turned = rig.turned(late);
    assert!(
        turned == Some(Refusal::Draining)
            || rig.core.view().conn(late).is_some_and(|c| c.stage == Stage::Closing)
    );
}
