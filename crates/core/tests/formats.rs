//! Bytes that outlive a process: what a journal records today, a later build must still read (fault K5).

use crate::rig::{Rig, peer};
use peerkeep_core::*;

/// The layout is in `journal.rs`; the check of a record is seeded with the digest before it.
#[test]
fn fault_k5_a_record_has_these_bytes() {
    let mut out = Vec::new();
    journal::append(0x0123_4567_89ab_cdef, Time(300), &Action::Wake, &mut out);
    assert_eq!(out[..4], 3_u32.to_le_bytes(), "the body's length");
    assert_eq!(out[8..], [0xac, 0x02, 0], "300 and the first action, in postcard's numbers");
    let check = u32::from_le_bytes([out[4], out[5], out[6], out[7]]);
    assert_eq!(check, 1_177_335_533, "XXH3 of the body under that seed, folded to 32 bits");
    let before = out.clone();
    journal::append(0x0123_4567_89ab_cdee, Time(300), &Action::Wake, &mut out);
    assert_eq!(out[..before.len()], before, "appended");
    assert_ne!(out[before.len()..], before, "another digest, another check");
    let mut end = Vec::new();
    journal::end(7, &mut end);
    assert_eq!(end, [0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
}
fn segment() -> (Vec<u8>, Core) {
    let mut rig = Rig::new(|_| ());
    rig.journal.clear();
    rig.now = Time(1_000_000);
    rig.step(Action::Wake);
    rig.journal.clear();
    journal::begin(&rig.core, 1_700_000_000_000, &mut rig.journal);
    rig.up(1);
    (rig.journal.clone(), rig.core)
}

#[test]
fn a_replay_counts_its_actions_and_knows_the_wall_clock() {
    let (mut bytes, core) = segment();
    journal::end(core.digest(), &mut bytes);
    let mut replay = journal::Replay::new(&bytes).expect("a segment");
    assert_eq!((replay.began, replay.began_unix_ms), (Time(1_000_000), 1_700_000_000_000));
    assert_eq!(replay.unix_ms(Time(1_000_000)), 1_700_000_000_000);
    assert_eq!(replay.unix_ms(Time(3_500_999)), 1_700_000_002_500);
    assert_eq!(replay.unix_ms(Time(0)), 1_700_000_000_000, "nothing lies before the beginning");
    let mut out = Effects::new();
    for n in 1..4 {
        assert!(replay.step(&mut out).expect("a record").is_some());
        assert_eq!(replay.actions, n);
    }
    assert_eq!(replay.step(&mut out), Ok(None));
    assert!(replay.ended && out.is_empty());
    assert_eq!((replay.actions, replay.core.digest()), (3, core.digest()));
}

#[test]
fn fault_k8_a_record_as_large_as_may_be_is_read_and_no_larger_one() {
    let (_, core) = segment();
    let mut begun = Vec::new();
    journal::begin(&core, 0, &mut begun);
    for (length, expected) in
        [(journal::MAX_RECORD, Ok(None)), (journal::MAX_RECORD + 1, Err(journal::JournalError::TooLarge))]
    {
        let mut cut = begun.clone();
        cut.extend_from_slice(&u32::try_from(length).expect("small").to_le_bytes());
        let mut replay = journal::Replay::new(&cut).expect("a segment");
        assert_eq!(
            replay.step(&mut Effects::new()),
            expected,
            "{length}: what is missing was cut by a crash"
        );
    }
}

/// Two runs with the same digest made the same decisions, so runs that differ in one decision must not share it.
#[test]
fn s0_47_the_digest_tells_decisions_apart() {
    type Act = fn(&mut Rig);
    let acts: [(&str, Act); 8] = [
        ("disconnect", |rig| _ = rig.ask(Command::Disconnect(peer(1)))),
        ("disconnect another", |rig| _ = rig.ask(Command::Disconnect(peer(2)))),
        ("cancel", |rig| _ = rig.ask(Command::Cancel(peer(3)))),
        ("reset", |rig| _ = rig.ask(Command::Reset(peer(3)))),
        ("hold", |rig| _ = rig.ask(Command::Hold { who: peer(1), on: true })),
        ("hold another", |rig| _ = rig.ask(Command::Hold { who: peer(2), on: true })),
        ("refused", |rig| _ = rig.ask(Command::Disconnect(peer(9)))),
        ("refused otherwise", |rig| _ = rig.ask(Command::Retry(peer(1)))),
    ];
    let digest = |act: Option<Act>| {
        let mut rig = Rig::new(|_| ());
        rig.up(1);
        rig.up(2);
        rig.connect(3);
        if let Some(act) = act {
            act(&mut rig);
        }
        rig.core.digest()
    };
    let mut seen = vec![digest(None)];
    for (name, act) in acts {
        assert_eq!(digest(Some(act)), digest(Some(act)), "{name}");
        seen.push(digest(Some(act)));
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn every_reason_to_close_has_one_number_and_no_other_number_is_a_reason() {
    let reasons = [
        (0, Close::Requested),
        (1, Close::Idle),
        (2, Close::Replaced),
        (3, Close::Duplicate),
        (4, Close::Banned),
        (5, Close::Dead),
        (6, Close::Timeout),
        (7, Close::Cancelled),
        (8, Close::Violation),
        (9, Close::Resources),
        (10, Close::Shutdown),
    ];
    for (code, why) in reasons {
        assert_eq!((why.code(), Close::from_code(code)), (code, Some(why)));
    }
    for code in 11..=u8::MAX {
        assert_eq!(Close::from_code(code), None, "{code}");
    }
}
