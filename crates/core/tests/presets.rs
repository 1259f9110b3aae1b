//! Every document's way of trying again, run through the one engine (SX.4).

use crate::rig::Rig;
use peerkeep_core::*;
use std::time::Duration;

/// When a peer that was asked for is dialled, if every dial is refused at once: seconds since the first, to the
/// hundredth, because timers fire up to a millisecond late.
fn dials(backoff: Backoff) -> (Vec<f64>, Standing) {
    let mut rig = Rig::new(|config| config.rules[0].backoff = backoff);
    rig.connect(1);
    let mut times = Vec::new();
    let mut conn = rig.dialled().expect("the first is at once");
    let end = rig.now + Duration::from_secs(24 * 3_600);
    loop {
        times.push(((rig.now - Time(0)).as_secs_f64() * 100.0).round() / 100.0);
        rig.fail(conn, FaultKind::Refused);
        conn = loop {
            if let Some(next) = rig.dialled() {
                break next;
            }
            match rig.core.next_wake() {
                Some(at) if at <= end => rig.pass(at - rig.now),
                _ => return (times, rig.standing(1)),
            };
        };
    }
}

fn gaps(times: &[f64]) -> Vec<f64> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Within the random part of a delay, which takes away up to three tenths.
fn about(gap: f64, expected: f64) -> bool {
    (0.7 * expected - 0.01..=expected + 0.01).contains(&gap)
}

#[test]
fn sx_4_three_spaced_tries_as_document_000_means_them_and_three_at_once_to_the_letter() {
    let (times, standing) = dials(Backoff::THREE_TRIES);
    let gaps = gaps(&times);
    assert!(gaps.len() == 2 && about(gaps[0], 2.0) && about(gaps[1], 4.0), "{gaps:?}");
    assert_eq!(standing, Standing::GaveUp);
    assert_eq!(dials(Backoff::THREE_AT_ONCE), (vec![0.0; 3], Standing::GaveUp));
}

/// How slow the way back is depends on why: a timeout of the peer's is one thing, misbehaviour another.
#[test]
fn sx_4_document_001_grows_for_ever_and_slower_after_a_violation() {
    for (backoff, first) in [(Backoff::AFTER_TIMEOUT, 1.0), (Backoff::AFTER_VIOLATION, 60.0)] {
        let (times, standing) = dials(backoff);
        let longest = backoff.max.as_secs_f64();
        let expected = std::iter::successors(Some(first), |gap: &f64| Some((2.0 * gap).min(longest)));
        for (gap, expected) in gaps(&times).into_iter().zip(expected) {
            assert!(about(gap, expected), "{gap} is not about {expected}");
        }
        assert!(times.len() > 20 && standing != Standing::GaveUp, "{} {standing:?}", times.len());
    }
}

/// Its window of time is in `restarts`.
#[test]
fn sx_4_document_002_doubles_from_five_seconds_ten_times() {
    let (times, standing) = dials(Backoff::TEN_DOUBLING);
    assert_eq!(times, (0..10).map(|n| 5.0 * f64::from((1 << n) - 1)).collect::<Vec<f64>>());
    assert_eq!(standing, Standing::GaveUp);
}

#[test]
fn sx_4_document_004_tries_three_times_five_seconds_apart() {
    assert_eq!(dials(Backoff::THREE_SPACED), (vec![0.0, 5.0, 10.0], Standing::GaveUp));
}
