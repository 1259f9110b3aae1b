//! A configuration is taken whole or refused whole; each number is refused just beyond its documented range and taken
//! at its ends.

use peerkeep_core::*;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3_600);
const TICK: Duration = Duration::from_micros(1);

fn check(tweak: impl FnOnce(&mut Config)) -> Result<(), ConfigError> {
    let mut config = Config::new(PeerKey::ed25519([1; 32]), 1_000);
    tweak(&mut config);
    config.check()
}

#[test]
fn every_limit_has_a_least_and_a_most() {
    type Set = fn(&mut Limits, u32);
    let limits: [(Limit, Set, u32); 11] = [
        (Limit::Total, |l, n| l.total = n, 16_777_214),
        (Limit::Inbound, |l, n| l.inbound = n, 16_777_214),
        (Limit::Outbound, |l, n| l.outbound = n, 16_777_214),
        (Limit::Pending, |l, n| l.pending = n, 16_777_214),
        (Limit::PerPeer, |l, n| l.per_peer = n, 32),
        (Limit::PerIp, |l, n| l.per_ip = n, 16_777_214),
        (Limit::PerSubnet, |l, n| l.per_subnet = n, 16_777_214),
        (Limit::DialRate, |l, n| l.dials_per_minute = n, 16_777_214),
        (Limit::DestinationRate, |l, n| l.dials_per_minute_per_ip = n, 16_777_214),
        (Limit::Contacts, |l, n| l.contacts = n, 16_777_214),
        (Limit::Bans, |l, n| l.bans = n, 16_777_214),
    ];
    for (limit, set, most) in limits {
        for good in [1, most] {
            assert_eq!(check(|c| set(&mut c.limits, good)), Ok(()), "{limit:?} {good}");
        }
        for bad in [0, most + 1, u32::MAX] {
            assert_eq!(check(|c| set(&mut c.limits, bad)), Err(ConfigError::Limit(limit)), "{bad}");
        }
    }
    assert_eq!(check(|c| c.limits.courtesy = 0), Ok(()), "nobody need be told why");
    assert_eq!(check(|c| c.limits.courtesy = 16_777_214), Ok(()));
    assert_eq!(check(|c| c.limits.courtesy = 16_777_215), Err(ConfigError::Limit(Limit::Courtesy)));
}

#[test]
fn the_epoch_lies_between_one_and_its_end() {
    assert_eq!(MAX_EPOCH, 4_611_686_018_427_387_904);
    for good in [1, MAX_EPOCH] {
        assert_eq!(check(|c| c.epoch = good), Ok(()));
    }
    for bad in [0, MAX_EPOCH + 1, u64::MAX] {
        assert_eq!(check(|c| c.epoch = bad), Err(ConfigError::Epoch));
    }
}

#[test]
fn exemptions_are_few_and_make_sense() {
    let key = |n: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        Target::Key(PeerKey::ed25519(bytes))
    };
    assert_eq!(check(|c| c.exempt = (0..1_024).map(key).collect()), Ok(()));
    assert_eq!(check(|c| c.exempt = (0..1_025).map(key).collect()), Err(ConfigError::Exempt));
    let net = |bits| Target::Subnet(Subnet { ip: [0; 16], bits });
    assert_eq!(check(|c| c.exempt = vec![net(128)]), Ok(()));
    assert_eq!(check(|c| c.exempt = vec![key(1), net(129)]), Err(ConfigError::Exempt));
}

#[test]
fn every_duration_of_the_rules_lies_between_a_millisecond_and_a_week() {
    type Set = fn(&mut Rules, Duration);
    let spans: [(&str, Set); 6] = [
        ("establish", |r, t| r.establish = t),
        ("handshake", |r, t| r.handshake = t),
        ("hold", |r, t| r.hold = t),
        ("goodbye", |r, t| r.goodbye = t),
        ("courtesy", |r, t| r.courtesy = t),
        ("idle", |r, t| r.idle = Some(t)),
    ];
    let refused = |name| Err(ConfigError::Rules(StackId::Bitcoin, name));
    for (name, set) in spans {
        for good in [Duration::from_millis(1), 7 * DAY] {
            assert_eq!(check(|c| set(&mut c.rules[2], good)), Ok(()), "{name} {good:?}");
        }
        for bad in [Duration::ZERO, Duration::from_millis(1) - TICK, 7 * DAY + TICK, Duration::MAX] {
            assert_eq!(check(|c| set(&mut c.rules[2], bad)), refused(name), "{bad:?}");
        }
    }
    let probe = |silence, deadline, misses| {
        check(|c| c.rules[2].liveness = Liveness::Probe { silence, deadline, misses })
    };
    assert_eq!(probe(7 * DAY, DAY, 1), Ok(()));
    assert_eq!(probe(8 * DAY, DAY, 1), refused("liveness silence"));
    assert_eq!(probe(DAY, Duration::ZERO, 1), refused("liveness deadline"));
    assert_eq!(probe(DAY, DAY, 0), refused("liveness misses"));
}

#[test]
fn sx_4_every_number_of_the_backoff_is_bounded() {
    type Tweak = fn(&mut Backoff);
    let check = |tweak: Tweak| check(|c| tweak(&mut c.rules[0].backoff));
    let good: [Tweak; 9] = [
        |b| b.growth_per_mille = 1_000,
        |b| b.growth_per_mille = 100_000,
        |b| b.jitter_per_mille = 0,
        |b| b.jitter_per_mille = 1_000,
        |b| b.first = b.max,
        |b| b.max = 30 * DAY,
        |b| b.fast_window = 30 * DAY,
        |b| b.fast_interval = 30 * DAY,
        |b| b.stable = 30 * DAY,
    ];
    for (at, tweak) in good.into_iter().enumerate() {
        assert_eq!(check(tweak), Ok(()), "number {at}");
    }
    let bad: [(&str, Tweak); 8] = [
        ("backoff growth", |b| b.growth_per_mille = 999),
        ("backoff growth", |b| b.growth_per_mille = 100_001),
        ("backoff jitter", |b| b.jitter_per_mille = 1_001),
        ("backoff first and max", |b| b.first = b.max + TICK),
        ("backoff first and max", |b| b.max = 30 * DAY + TICK),
        ("backoff fast window or stable time", |b| b.fast_window = 30 * DAY + TICK),
        ("backoff fast window or stable time", |b| b.fast_interval = 30 * DAY + TICK),
        ("backoff fast window or stable time", |b| b.stable = 30 * DAY + TICK),
    ];
    for (at, (name, tweak)) in bad.into_iter().enumerate() {
        assert_eq!(check(tweak), Err(ConfigError::Rules(StackId::Mesh, name)), "number {at}");
    }
}

/// Fault D13: jitter takes away anything from nothing up to its whole share.
#[test]
fn fault_d13_jitter_reaches_both_ends_of_its_share() {
    let backoff = Backoff::default();
    let share = 600_000;
    assert_eq!(backoff.delay(1, 0), Duration::from_secs(2));
    assert_eq!(backoff.delay(1, share), Duration::from_micros(2_000_000 - share));
    assert_eq!(backoff.delay(1, share + 1), Duration::from_secs(2));
}

#[test]
fn every_preset_ends_where_its_document_says() {
    let longest = |backoff: Backoff| backoff.delay(60, 0).as_secs();
    assert_eq!(longest(Backoff::AFTER_VIOLATION), 3_600);
    assert_eq!(longest(Backoff::AFTER_TIMEOUT), 300);
    assert_eq!(longest(Backoff::TEN_DOUBLING), 2_560);
    assert_eq!(Backoff::AFTER_VIOLATION.first, Duration::from_secs(60));
    assert_eq!(Backoff::AFTER_VIOLATION.stable, Backoff::AFTER_TIMEOUT.stable);
}

/// Fault I8.
#[test]
fn a_changed_configuration_must_be_sound_and_of_the_same_node() {
    let config = Config::new(PeerKey::ed25519([1; 32]), 1_000);
    let mut core = Core::new(config.clone(), [3; 32], Time(0)).expect("a config");
    let mut ask = |tweak: fn(&mut Config)| {
        let mut changed = config.clone();
        tweak(&mut changed);
        let mut out = Effects::new();
        core.step(Time(0), &Action::Do(CommandId(1), Command::Configure(Box::new(changed))), &mut out);
        let answer = out.as_slice().iter().find_map(|effect| match effect {
            Effect::Reply { answer, .. } => Some(*answer),
            _ => None,
        });
        answer.expect("an answer")
    };
    assert_eq!(ask(|c| c.limits.total = 0), Answer::No(Refusal::BadConfig));
    assert_eq!(ask(|c| c.me = PeerKey::ed25519([2; 32])), Answer::No(Refusal::BadConfig));
    assert_eq!(ask(|c| c.epoch = 1_001), Answer::No(Refusal::BadConfig));
    assert_eq!(ask(|c| c.limits.total = 7), Answer::Done);
    assert_eq!(core.config().limits.total, 7);
}
