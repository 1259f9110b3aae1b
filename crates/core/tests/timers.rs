//! Many timers at once, time that jumps, and clocks that are slewed. Through the public door only.

use crate::rig::{Rig, addr, addrs, at, peer};
use peerkeep_core::*;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

fn key(n: u32) -> PeerKey {
    let mut bytes = [5; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    PeerKey::ed25519(bytes)
}

/// Fault T4: a hundred thousand bans end at the same moment. Each step ends some of them, in the order in which they
/// were made; an order in between is answered and its dial begun at once; and nothing is left behind.
#[test]
fn fault_t4_timers_due_at_once_end_in_slices_in_order_and_orders_do_not_wait() {
    const MANY: u32 = 100_000;
    let mut config = Config::new(key(u32::MAX), 1_000);
    config.rules[0].target = 0;
    config.limits.bans = MANY;
    let mut core = Core::new(config, [7; 32], Time(0)).expect("a config");
    let mut out = Effects::new();
    let mut made = Vec::new();
    for n in 0..MANY {
        out.clear();
        let ban = Command::Ban { target: Target::Key(key(n)), span: Some(HOUR) };
        core.step(Time(0), &Action::Do(CommandId(n), ban), &mut out);
        made.extend(out.drain().filter_map(|effect| match effect {
            Effect::StoreBan { ban } => Some(ban),
            _ => None,
        }));
    }
    assert_eq!(made.len(), MANY as usize);
    let now = Time(0) + HOUR + Duration::from_secs(1);
    let (mut ended, mut steps) = (Vec::new(), 0);
    while core.next_wake().is_some_and(|wake| wake <= now) {
        steps += 1;
        let before = core.work();
        let ordered = steps == 100;
        let action = if ordered {
            let who = Who::mesh(key(MANY + 1));
            let addrs = addrs(&[addr("10.9.9.9:7330")]);
            Action::Do(CommandId(MANY), Command::Connect { who, addrs, named: false })
        } else {
            Action::Wake
        };
        out.clear();
        core.step(now, &action, &mut out);
        assert!(core.work() - before <= 256, "step {steps}: {} rows", core.work() - before);
        let dialled = out.as_slice().iter().any(|effect| matches!(effect, Effect::Dial { .. }));
        assert_eq!(dialled, ordered, "step {steps}: in its own step, whatever else is due");
        ended.extend(out.drain().filter_map(|effect| match effect {
            Effect::StoreBan { ban } => Some(ban),
            _ => None,
        }));
    }
    assert_eq!(ended, made, "in the order of time and arming");
    assert!((500..2_000).contains(&steps), "{steps} steps");
}

fn probes(effects: &[Effect]) -> Vec<ConnRef> {
    let probe = |effect: &Effect| match effect {
        Effect::Probe { conn, .. } => Some(*conn),
        _ => None,
    };
    effects.iter().filter_map(probe).collect()
}

/// Fault T2: the machine stood still for half a day, or its clock jumped. Whatever was due in that time is done once:
/// each connection is asked once, each peer is dialled at most once and within the limits, and then it waits again.
#[test]
fn fault_t2_a_jump_of_the_monotonic_clock_is_one_pass_and_no_storm() {
    let mut rig = Rig::new(|config| config.limits.pending = 8);
    let up: Vec<ConnRef> = (1..=40).map(|n| rig.up(n)).collect();
    for n in 41..=90 {
        rig.want(n);
        while let Some(conn) = rig.dialled() {
            rig.fail(conn, FaultKind::Timeout);
        }
    }
    rig.seconds(1);
    rig.now = rig.now + HOUR * 12;
    let (mut all, mut steps) = (Vec::new(), 0);
    while rig.core.next_wake().is_some_and(|wake| wake <= rig.now) {
        steps += 1;
        assert!(steps < 50, "it does not come to rest");
        all.extend_from_slice(rig.step(Action::Wake));
    }
    let mut asked = probes(&all);
    asked.sort_unstable();
    let mut expected = up.clone();
    expected.sort_unstable();
    assert_eq!(asked, expected, "each is asked, and once for all the times that were missed");
    let closed = all.iter().filter(|effect| matches!(effect, Effect::Close { .. })).count();
    assert_eq!(closed, 0, "nobody is taken for dead for what nobody could hear");
    let dials = all.iter().filter(|effect| matches!(effect, Effect::Dial { .. })).count();
    assert!((1..=8).contains(&dials), "{dials} dials");
    assert!(rig.core.next_wake().is_some_and(|wake| wake > rig.now), "and it waits again");
}

/// What an hour with two peers decides when the clock runs at `ppm` millionths more than the true one: each effect with
/// the true time, in microseconds. One peer answers 100 ms (true) after each question, one can not be reached.
fn an_hour(ppm: i64) -> Vec<(u64, Effect)> {
    let local = |true_us: u64| Time((true_us as i128 * (1_000_000 + i128::from(ppm)) / 1_000_000) as u64);
    let truth = |at: Time| (u128::from(at.0) * 1_000_000).div_ceil((1_000_000 + ppm) as u128) as u64;
    let mut rig = Rig::new(|_| ());
    let good = rig.up(1);
    rig.want(2);
    let mut seen: Vec<(u64, Effect)> = rig.out.iter().map(|effect| (0, *effect)).collect();
    let (mut now, mut answers) = (0_u64, Vec::<u64>::new());
    while now < 3_600_000_000 {
        let effects = seen.iter().filter(|(at, _)| *at == now).map(|(_, effect)| *effect).collect::<Vec<_>>();
        for effect in effects {
            match effect {
                Effect::Dial { conn, .. } if conn != good => rig.fail(conn, FaultKind::Refused),
                Effect::Probe { .. } => answers.push(now + 100_000),
                _ => continue,
            }
            if matches!(effect, Effect::Dial { .. }) {
                seen.extend(rig.out.iter().map(|effect| (now, *effect)));
            }
        }
        let wake = rig.core.next_wake().map_or(u64::MAX, truth).max(now + 1);
        let answer = answers.first().copied().unwrap_or(u64::MAX);
        now = wake.min(answer);
        rig.now = local(now).max(rig.now);
        if answer <= wake {
            answers.remove(0);
            let report = Report { received_at: rig.now, rtt_us: 100_000, ..Report::default() };
            rig.saw(Fact::Reported { conn: good, report });
        } else {
            rig.step(Action::Wake);
        }
        seen.extend(rig.out.iter().map(|effect| (now, *effect)));
    }
    assert_eq!(rig.standing(1), Standing::Connected, "at {ppm} ppm");
    seen
}

/// Fault T6: a clock that is slewed by 500 millionths decides the same in the same order, and no later or earlier than
/// the slew and a timer's tick; that the wall clock has a second more or less is no event at all.
#[test]
fn fault_t6_a_slewed_clock_and_a_leap_second_change_no_decision() {
    let kind = |effect: &Effect| std::mem::discriminant(effect);
    let straight = an_hour(0);
    assert!(straight.len() > 100, "{} effects", straight.len());
    for ppm in [-500, 500] {
        let slewed = an_hour(ppm);
        for ((at, effect), (late, other)) in straight.iter().zip(&slewed) {
            assert_eq!(kind(effect), kind(other), "at {at} µs");
            let tolerance = at / 2_000 + 3_000;
            assert!(at.abs_diff(*late) <= tolerance, "{effect:?} at {at} µs, {other:?} at {late} µs");
        }
        assert!(straight.len().abs_diff(slewed.len()) <= 8, "{} and {}", straight.len(), slewed.len());
    }
    let mut rig = Rig::new(|_| ());
    rig.up(1);
    rig.want(2);
    let wake = rig.core.next_wake();
    for unix_ms in [1_483_228_799_000, 1_483_228_799_000, 1_483_228_800_000] {
        assert_eq!(rig.step(Action::Clock { unix_ms }), []);
        assert_eq!(rig.core.next_wake(), wake, "the wall clock moves no deadline");
    }
}

/// Fault G4: reloads in the middle of dials and hellos. Whatever is decided after one is decided by it, at the very next
/// action; places given before stay given; and the recording says of each action which configuration it met.
#[test]
fn fault_g4_a_reload_in_a_storm_holds_from_the_next_action_on_and_the_replay_shows_it() {
    let mut rig = Rig::new(|_| ());
    let mut in_force = Vec::new();
    for round in 0..30_u8 {
        let roomy = round % 2 == 0;
        let n = round * 6 + 1;
        let begun: Vec<Option<ConnRef>> = [n, n + 1].map(|n| (rig.connect(n), rig.dialled()).1).into();
        let come: Vec<Result<ConnRef, Refusal>> = [n + 2, n + 3].map(|n| rig.arrive(at(n))).into();
        assert_eq!(
            (begun[1].is_some(), come[1].is_ok()),
            (roomy, roomy),
            "round {round}: as the last one says"
        );
        let mut config = rig.core.config().clone();
        let before = config.limits.inbound;
        config.limits.inbound = if roomy { 1 } else { 500 };
        config.limits.outbound = config.limits.inbound;
        config.limits.courtesy = 0;
        in_force.push((before, config.limits.inbound));
        assert_eq!(rig.ask(Command::Configure(Box::new(config))), Answer::Done);
        assert!(
            begun[1].or(rig.dialled()).is_some(),
            "round {round}: at once, or with the reload that made room"
        );
        let begun = [begun[0], begun[1].or(rig.dialled())];
        let next = rig.arrive(at(n + 4));
        assert_eq!(next.is_ok(), !roomy, "round {round}: as this one says");
        let first = come[0].expect("room for one");
        rig.hello(first, n + 2, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
        assert_eq!(rig.turned(first), None, "round {round}: it has its place");
        for conn in come.into_iter().chain([next]).flatten().chain(begun.into_iter().flatten()) {
            rig.gone(conn, End::Asked);
        }
        rig.ask(Command::Forget(peer(n)));
        rig.ask(Command::Forget(peer(n + 1)));
        rig.seconds(10);
    }
    let mut replay = journal::Replay::new(&rig.journal).expect("a recording");
    let mut out = Effects::new();
    let mut seen = Vec::new();
    let mut before = replay.core.config().limits.inbound;
    while let Some((_, action)) = replay.step(&mut out).expect("the same decisions") {
        let now = replay.core.config().limits.inbound;
        if matches!(action, Action::Do(_, Command::Configure(_))) {
            seen.push((before, now));
        } else {
            assert_eq!(now, before, "nothing but a reload changes it: {action:?}");
        }
        before = now;
    }
    assert_eq!(seen, in_force);
    assert_eq!(replay.core.digest(), rig.core.digest());
}
