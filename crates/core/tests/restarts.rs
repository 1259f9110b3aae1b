//! How often a connection is tried again, as document 002 counts it: the count, its window, its maximum, and that an
//! inbound connection is nobody's to restart.

use crate::rig::{Rig, addrs, at, peer};
use peerkeep_core::*;
use std::time::Duration;

fn doubling() -> Rig {
    Rig::new(|config| config.rules[0].backoff = Backoff::TEN_DOUBLING)
}

fn attempts(told: &[Effect]) -> Vec<u16> {
    let attempt = |effect: &Effect| match effect {
        Effect::Tell { what: Told::Dialing { attempt }, .. } => Some(*attempt),
        _ => None,
    };
    told.iter().filter_map(attempt).collect()
}

/// Lets time pass until it dials: the dial, and the number of the attempt.
fn next_dial(rig: &mut Rig) -> (ConnRef, u16) {
    for _ in 0..10_000 {
        let effects = rig.seconds(1);
        if let Some(conn) = rig.dialled() {
            return (conn, attempts(&effects)[0]);
        }
    }
    panic!("it never dials");
}

/// Fails twice, is up with the third for as long as given, and is lost: the number of the attempt after that.
fn attempt_after_up_for(span: Duration) -> u16 {
    let mut rig = doubling();
    rig.want(1);
    let mut conn = rig.dialled().expect("a dial");
    for _ in 0..2 {
        rig.fail(conn, FaultKind::Refused);
        conn = next_dial(&mut rig).0;
    }
    rig.answer(conn, 1);
    // Words from the peer, or it would be held for dead.
    let mut left = span;
    while !left.is_zero() {
        let step = left.min(Duration::from_secs(10));
        rig.pass(step);
        let report = Report { received_at: rig.now, ..Report::default() };
        rig.saw(Fact::Reported { conn, report });
        left -= step;
    }
    rig.gone(conn, End::Fault(Fault::new(Step::Live, FaultKind::Reset)));
    match attempts(&rig.out)[..] {
        [attempt] => attempt,
        _ => next_dial(&mut rig).1,
    }
}

#[test]
fn s2_54_the_count_starts_anew_when_the_window_is_over() {
    let window = Backoff::TEN_DOUBLING.stable;
    assert_eq!(attempt_after_up_for(window + Duration::from_secs(1)), 1);
    assert!(attempt_after_up_for(window / 2) > 2, "within the window the earlier failures count on");
}

#[test]
fn s2_55_the_maximum_is_enforced() {
    let mut rig = doubling();
    rig.connect(1);
    let mut conn = rig.dialled().expect("a dial");
    for tried in 1..=Backoff::TEN_DOUBLING.max_attempts {
        rig.fail(conn, FaultKind::Refused);
        if tried == Backoff::TEN_DOUBLING.max_attempts {
            break;
        }
        let (next, attempt) = next_dial(&mut rig);
        assert_eq!(attempt, tried + 1);
        conn = next;
    }
    assert_eq!(rig.standing(1), Standing::GaveUp);
    assert_eq!(attempts(&rig.seconds(10_000)), [], "ten are ten");
}

#[test]
fn s2_56_an_inbound_connection_has_no_restarts() {
    let mut rig = doubling();
    let who = peer(1);
    rig.saw(Fact::Learned { who, addrs: addrs(&[at(1)]), source: Source::Told });
    let conn = rig.inbound(1, 1).expect("it is let in");
    rig.gone(conn, End::Fault(Fault::new(Step::Live, FaultKind::Reset)));
    assert_eq!(attempts(&rig.out), []);
    assert_eq!(attempts(&rig.seconds(10_000)), [], "whoever dialled dials again");
}
