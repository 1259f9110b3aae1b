//! What a connection's health leads to: a closer look, a replacement that is up before the old one goes, a close; and
//! what it does not lead to.

use crate::rig::{Rig, at, peer};
use peerkeep_core::*;
use std::time::Duration;

/// A rig whose links are only looked at for their health.
fn rig() -> Rig {
    rig_with(|_| ())
}

fn rig_with(tweak: impl FnOnce(&mut Config)) -> Rig {
    Rig::new(|config| {
        let silence = Duration::from_secs(7 * 24 * 3_600);
        config.rules[0].liveness = Liveness::Probe { silence, deadline: silence, misses: 1 };
        tweak(config);
    })
}

fn report(rig: &mut Rig, conn: ConnRef, change: impl FnOnce(&mut Report)) {
    let mut report = Report { received_at: rig.now, sent_at: rig.now, asked: 1, ..Report::default() };
    change(&mut report);
    rig.saw(Fact::Reported { conn, report });
}

fn rtt(rig: &mut Rig, conn: ConnRef, millis: u32) {
    report(rig, conn, |report| report.rtt_us = millis * 1_000);
}

fn degraded(told: &[Told]) -> usize {
    told.iter().filter(|told| matches!(told, Told::Degraded(_))).count()
}

fn told(effects: &[Effect]) -> Vec<Told> {
    let what = |effect: &Effect| match effect {
        Effect::Tell { what, .. } => Some(*what),
        _ => None,
    };
    effects.iter().filter_map(what).collect()
}

fn probes(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Probe { .. })).count()
}

/// Lets time pass until a replacement begins; its dial, and what was told up to then.
fn replacing(rig: &mut Rig) -> (ConnRef, Vec<Told>) {
    let mut all = Vec::new();
    for _ in 0..1_000_000 {
        all.extend(told(&rig.seconds(1)));
        if let Some(dial) = rig.dialled() {
            return (dial, all);
        }
    }
    panic!("no replacement begins: {all:?}");
}

fn view(rig: &Rig, conn: ConnRef) -> HealthView {
    rig.core.view().conn(conn).expect("a conn").health
}

#[test]
fn s1_34_health_is_looked_at_at_the_configured_interval_once_there_are_samples() {
    for interval in [7, 40] {
        let mut rig = rig_with(|config| config.rules[0].health = Duration::from_secs(interval));
        let conn = rig.up(1);
        rig.seconds(1_000);
        assert_eq!(view(&rig, conn).due, Time::NEVER, "without samples there is nothing to look at");
        rtt(&mut rig, conn, 5);
        for look in 1..5 {
            // Timers come a little late, never early.
            let late = view(&rig, conn).due - Time((1_000 + look * interval) * 1_000_000);
            assert!(late < Duration::from_millis(200), "look {look}: {late:?} late");
            rig.pass(Duration::from_secs(interval) + Duration::from_millis(30));
        }
    }
}

#[test]
fn a_good_connection_is_left_alone() {
    let mut rig = rig();
    let conn = rig.up(1);
    for millis in 40..100 {
        rtt(&mut rig, conn, millis);
        let effects = rig.pass(Duration::from_millis(30_030));
        assert_eq!(
            (probes(&effects), told(&effects), rig.dialled()),
            (0, vec![], None),
            "it measures itself"
        );
    }
    let effects = rig.seconds(3_600);
    assert!((110..=120).contains(&probes(&effects)), "asked where nothing is measured: {}", probes(&effects));
    assert_eq!((told(&effects), rig.dialled()), (vec![], None));
    assert_eq!(view(&rig, conn).scores.grade(), Some(Grade::Excellent));
}

#[test]
fn s1_55_a_fair_connection_is_only_watched_more_closely() {
    let mut rig = rig();
    let conn = rig.up(1);
    report(&mut rig, conn, |report| (report.rtt_us, report.asked) = (180_000, 0));
    assert_eq!(view(&rig, conn).scores.grade(), Some(Grade::Fair));
    let effects = rig.seconds(300);
    assert!((35..=40).contains(&probes(&effects)), "probed four times as often: {}", probes(&effects));
    assert_eq!((told(&effects), rig.dialled()), (vec![], None));
}

#[test]
fn s1_41_a_poor_connection_is_replaced_and_the_new_one_is_up_before_the_old_one_goes() {
    let mut rig = rig();
    let old = rig.up(1);
    rtt(&mut rig, old, 320);
    assert_eq!(degraded(&told(&rig.seconds(30))), 0, "one look is not enough");
    let (new, told) = replacing(&mut rig);
    assert_eq!(told[..2], [Told::Degraded(Grade::Poor), Told::Replacing]);
    assert!(rig.core.view().dial(new).expect("a dial").greeting.replaces);
    rig.answer(new, 1);
    assert_eq!(rig.closed(), [], "the acceptor closes the old one, at the confirm");
    assert_eq!(rig.core.view().counts().up(), 2);
    rig.gone(old, End::Goodbye(Close::Replaced));
    assert!(rig.told().contains(&Told::Lost(Close::Replaced)));
    assert_eq!((rig.standing(1), rig.core.view().counts().up()), (Standing::Connected, 1));
}

#[test]
fn the_way_a_poor_connection_goes_is_tried_last() {
    let mut rig = rig();
    let who = peer(1);
    let both = crate::rig::addrs(&[at(1), at(2)]);
    rig.ask(Command::Want { who, addrs: both, named: false });
    let old = rig.dialled().expect("a dial");
    assert_eq!(rig.core.view().dial(old).expect("a dial").addrs[0], at(1));
    rig.answer(old, 1);
    rtt(&mut rig, old, 500);
    let (new, _) = replacing(&mut rig);
    assert_eq!(rig.core.view().dial(new).expect("a dial").addrs.as_slice(), [at(2), at(1)]);
}

#[test]
fn s1_62_the_side_that_was_dialled_replaces_later_and_closes_with_that_reason() {
    let mut rig = rig();
    let old = rig.inbound(1, 1).expect("admitted");
    rtt(&mut rig, old, 400);
    let effects = rig.seconds(38);
    assert!(degraded(&told(&effects)) == 1 && !told(&effects).contains(&Told::Replacing), "their turn first");
    let new = rig.arrive(at(1)).expect("admitted");
    rig.hello(new, 1, Greeting { epoch: 500, dial: 2, replaces: true, ..Greeting::default() });
    rig.saw(Fact::Ready { conn: new });
    assert_eq!(rig.closed(), [(old, Close::Replaced)]);
}

#[test]
fn a_replacement_that_is_no_better_makes_the_next_wait_twice_as_long() {
    let mut rig = rig();
    let mut conn = rig.up(1);
    let mut began = Vec::new();
    for _ in 0..4 {
        rtt(&mut rig, conn, 400);
        let (new, _) = replacing(&mut rig);
        began.push(rig.now);
        rig.answer(new, 1);
        rig.gone(conn, End::Goodbye(Close::Replaced));
        conn = new;
    }
    let gaps: Vec<u64> = began.windows(2).map(|pair| (pair[1] - pair[0]).as_secs() / 60).collect();
    assert!(gaps[0] >= 20 && gaps[1] >= 40 && gaps[2] >= 80, "minutes between replacements: {gaps:?}");
    assert!(gaps[2] < 90, "{gaps:?}");
}

#[test]
fn a_replacement_that_helped_ends_the_matter() {
    let mut rig = rig();
    let old = rig.up(1);
    rtt(&mut rig, old, 400);
    let (new, _) = replacing(&mut rig);
    rig.answer(new, 1);
    rig.gone(old, End::Goodbye(Close::Replaced));
    rtt(&mut rig, new, 10);
    let effects = rig.seconds(3_600);
    assert_eq!((told(&effects), rig.dialled()), (vec![], None));
}

#[test]
fn degraded_is_left_with_hysteresis() {
    let mut rig = rig();
    let conn = rig.up(1);
    rtt(&mut rig, conn, 300);
    rig.seconds(60);
    assert!(view(&rig, conn).degraded);
    rtt(&mut rig, conn, 240);
    assert_eq!(told(&rig.seconds(300)), [], "better than where it began is not good yet");
    assert!(view(&rig, conn).degraded);
    rtt(&mut rig, conn, 150);
    assert_eq!(told(&rig.seconds(60)), [Told::Restored]);
}

#[test]
fn a_measure_that_swings_around_the_line_does_not_flap() {
    let mut rig = rig();
    let conn = rig.up(1);
    let mut news = 0;
    for round in 0..500_u32 {
        rtt(&mut rig, conn, 275 + round % 2 * 10 - 5);
        news += told(&rig.seconds(8)).len();
    }
    assert!(news <= 12, "{news} events in an hour");
}

#[test]
fn s1_55_a_critical_connection_is_replaced_at_once_and_given_up_when_that_did_not_help() {
    let mut rig = rig_with(|config| config.rules[0].target = 1);
    rig.saw(Fact::Learned { who: peer(1), addrs: crate::rig::addrs(&[at(1)]), source: Source::Stored });
    let old = rig.dialled().expect("to fill the target");
    rig.answer(old, 1);
    let critical = |report: &mut Report| (report.rtt_us, report.asked, report.failed) = (3_000_000, 9, 9);
    report(&mut rig, old, critical);
    let (new, told_first) = replacing(&mut rig);
    assert_eq!(told_first[..2], [Told::Degraded(Grade::Critical), Told::Replacing]);
    assert!(rig.now < Time(32_000_000), "at the first look");
    rig.answer(new, 1);
    rig.gone(old, End::Goodbye(Close::Replaced));
    report(&mut rig, new, critical);
    let mut seconds = 0;
    while !told(&rig.seconds(1)).contains(&Told::Lost(Close::Timeout)) {
        seconds += 1;
        assert!(seconds < 60, "its slot is worth more to others");
    }
    rig.gone(new, End::Asked);
    assert_eq!(rig.dialled(), None, "as after a timeout: with backoff");
}

#[test]
fn a_bad_connection_to_a_wanted_peer_is_better_than_none() {
    let mut rig = rig();
    rig.want(1);
    let mut conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    for _ in 0..3 {
        report(&mut rig, conn, |report| (report.rtt_us, report.asked, report.failed) = (3_000_000, 9, 9));
        let (new, _) = replacing(&mut rig);
        rig.answer(new, 1);
        rig.gone(conn, End::Goodbye(Close::Replaced));
        conn = new;
    }
    rig.seconds(600);
    assert_eq!(rig.standing(1), Standing::Connected);
}

/// S1.36 and S1.53: each conn has its own timer, and no look waits for, or touches, another peer.
#[test]
fn s1_36_one_broken_peer_does_not_delay_the_others() {
    let mut rig = Rig::new(|config| config.limits.per_subnet = 500);
    let conns: Vec<ConnRef> = (1..90).map(|n| rig.up(n)).collect();
    for conn in &conns {
        rtt(&mut rig, *conn, 400);
    }
    // The first never answers again and never says that it is gone.
    let mut seen = 0;
    for _ in 0..12 {
        for conn in &conns[1..] {
            rtt(&mut rig, *conn, 400);
        }
        let work = rig.core.work();
        seen += degraded(&told(&rig.seconds(5)));
        assert!(rig.core.work() - work < 2_000, "{}", rig.core.work() - work);
    }
    assert!(seen >= 88, "{seen} of 88 were found degraded in time");
}

#[test]
fn s1_33_unanswered_questions_count_against_reliability() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    rig.seconds(16);
    report(&mut rig, conn, |report| report.asked = 0);
    rig.seconds(5);
    assert_eq!(view(&rig, conn).success, Some(1_000));
    rig.seconds(21);
    let success = view(&rig, conn).success.expect("counted");
    assert!(success < 1_000, "a missed probe: {success}");
}

#[test]
fn a_replaced_connection_that_still_drains_is_cut_by_a_ban() {
    let mut rig = rig();
    let old = rig.inbound(1, 1).expect("admitted");
    let new = rig.arrive(at(1)).expect("admitted");
    rig.hello(new, 1, Greeting { epoch: 500, dial: 2, replaces: true, ..Greeting::default() });
    rig.saw(Fact::Ready { conn: new });
    assert_eq!(rig.closed(), [(old, Close::Replaced)]);
    rig.ask(Command::Ban { target: Target::Key(peer(1).key), span: None });
    let mut closed = rig.closed();
    closed.sort();
    assert_eq!(closed, [(old, Close::Banned), (new, Close::Banned)]);
    rig.gone(old, End::Asked);
    rig.gone(new, End::Asked);
    assert_eq!(rig.slots(), 0);
}
