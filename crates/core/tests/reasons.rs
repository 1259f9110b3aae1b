//! Why a connection ended, and when its peer is dialled again: by the reason, by who gave it, and by who wants the peer.

use crate::rig::{Rig, at, peer};
use peerkeep_core::*;
use std::time::Duration;

/// How long after the end of a connection the next dial comes; `None` when there is none within a day.
fn comes_back(wanted: bool, end: impl FnOnce(&mut Rig, ConnRef)) -> Option<Duration> {
    let mut rig = Rig::new(|_| ());
    let conn = if wanted {
        rig.want(1);
        let conn = rig.dialled().expect("a dial");
        rig.answer(conn, 1);
        conn
    } else {
        rig.up(1)
    };
    let report = Report { received_at: rig.now, ..Report::default() };
    rig.saw(Fact::Reported { conn, report });
    let began = rig.now;
    end(&mut rig, conn);
    while rig.now - began < Duration::from_secs(24 * 3_600) {
        if rig.dialled().is_some() {
            return Some(rig.now - began);
        }
        match rig.core.next_wake() {
            Some(due) => rig.pass((due - rig.now).max(Duration::from_millis(1))),
            None => return None,
        };
    }
    None
}

fn goodbye(why: Close) -> impl FnOnce(&mut Rig, ConnRef) {
    move |rig, conn| rig.gone(conn, End::Goodbye(why))
}

/// Pitfall B16: who initiated it matters, and so does who wants the peer.
#[test]
fn s1_66_a_normal_end_is_undone_only_by_a_lasting_wish() {
    let disconnect = |rig: &mut Rig, conn| {
        rig.ask(Command::Disconnect(peer(1)));
        rig.gone(conn, End::Asked);
    };
    assert_eq!(comes_back(false, disconnect), None, "who was asked to go stays away");
    let back = comes_back(true, disconnect).expect("a lasting wish");
    assert!(back <= Duration::from_secs(2), "{back:?}");
    assert_eq!(comes_back(false, goodbye(Close::Idle)), None);
    let asked = comes_back(false, goodbye(Close::Requested)).expect("somebody asked for it");
    assert!(asked >= Duration::from_secs(1), "and not in the same breath: {asked:?}");
    assert!(comes_back(true, goodbye(Close::Requested)).is_some());
}

#[test]
fn s1_78_an_immediate_return_is_immediate() {
    for why in [Close::Replaced, Close::Shutdown] {
        assert_eq!(comes_back(true, goodbye(why)), Some(Duration::ZERO), "{why:?}");
    }
    let reset = |rig: &mut Rig, conn| rig.fail(conn, FaultKind::Reset);
    assert_eq!(comes_back(true, reset), Some(Duration::ZERO), "the first retry after a loss");
}

#[test]
fn s1_68_after_a_violation_the_way_back_is_slower_than_after_a_timeout() {
    let timeout = comes_back(true, goodbye(Close::Timeout)).expect("comes back");
    let violation = comes_back(true, |rig, conn| rig.gone(conn, End::Violation(Violation::Malformed)));
    let violation = violation.expect("comes back");
    assert!(timeout <= Duration::from_secs(2) && violation >= Duration::from_secs(40));
    for failures in 1..20 {
        let slow = Backoff::AFTER_VIOLATION.delay(failures, 0);
        assert!(
            slow > Backoff::AFTER_TIMEOUT.delay(failures, 0) && slow >= Backoff::default().delay(failures, 0)
        );
    }
}

#[test]
fn s1_67_delays_grow_from_loss_to_loss_and_belong_to_the_peer() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let mut gaps = Vec::new();
    for _ in 0..6 {
        let conn = rig.dialled().expect("a dial");
        rig.answer(conn, 1);
        rig.gone(conn, End::Goodbye(Close::Timeout));
        let lost = rig.now;
        while rig.dialled().is_none() {
            rig.pass(Duration::from_millis(100));
        }
        gaps.push((rig.now - lost).as_millis());
    }
    assert!(gaps.windows(2).all(|pair| pair[1] > pair[0]), "{gaps:?}");
}

/// Limits: the peer waits in the queue and is dialled the moment a slot frees.
#[test]
fn s1_69_after_a_lack_of_resources_it_waits_for_a_slot_in_turn() {
    let mut rig = Rig::new(|config| config.limits.outbound = 1);
    rig.want(1);
    let first = rig.dialled().expect("a dial");
    rig.answer(first, 1);
    for n in 2..=4 {
        rig.want(n);
        assert_eq!(rig.standing(n), Standing::Queued(Limit::Outbound));
    }
    let mut conn = first;
    for n in 2..=4 {
        rig.gone(conn, End::Goodbye(Close::Idle));
        conn = rig.dialled().expect("the slot went to who waits");
        assert_eq!(rig.core.view().dial(conn).expect("a dial").who, peer(n), "first come, first served");
        rig.answer(conn, n);
    }
}

#[test]
fn s1_70_nobody_is_dialled_while_banned() {
    let ban = |span| {
        move |rig: &mut Rig, conn| {
            rig.ask(Command::Ban { target: Target::Key(peer(1).key), span });
            assert!(rig.told().contains(&Told::Lost(Close::Banned)), "S1.61");
            rig.gone(conn, End::Asked);
        }
    };
    assert_eq!(comes_back(true, ban(None)), None, "no end means never");
    let hour = Duration::from_secs(3_600);
    let back = comes_back(true, ban(Some(hour))).expect("after the ban");
    assert!(back >= hour && back < hour + Duration::from_secs(120), "{back:?}");
}

/// Pitfall B19: a peer that dialled us told where it listens; where it came from is never dialled.
#[test]
fn s1_76_the_source_of_an_inbound_connection_is_never_dialled() {
    let mut rig = Rig::new(|_| ());
    rig.ask(Command::Want { who: peer(1), addrs: Addrs::new(), named: false });
    let conn = rig.inbound(1, 1).expect("room");
    rig.gone(conn, End::Goodbye(Close::Shutdown));
    rig.seconds(3_600);
    assert_eq!(rig.dialled(), None);
    assert_eq!(rig.why(1), Why::Refused(Refusal::NoAddress));
    let told = crate::rig::addrs(&[at(9)]);
    rig.saw(Fact::Learned { who: peer(1), addrs: told, source: Source::Told });
    let dial = rig.dialled().expect("where it listens");
    assert_eq!(rig.core.view().dial(dial).expect("a dial").addrs.as_slice(), [at(9)]);
}
