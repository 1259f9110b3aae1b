//! Document 000's life of a connection, and what its pitfalls add: through the public door only.

use crate::rig::{self, Rig, addr, addrs, at, fault, peer};
use peerkeep_core::*;
use std::time::Duration;

#[test]
fn s0_2_an_unknown_peer_is_disconnected() {
    let rig = Rig::new(|_| ());
    assert_eq!(rig.standing(1), Standing::Idle);
    assert!(rig.contact(1).is_none());
}

#[test]
fn s0_3_connect_dials_once_and_says_so() {
    let mut rig = Rig::new(|_| ());
    assert!(matches!(rig.connect(1), Answer::Begun(_)));
    let conn = rig.dialled().expect("a dial");
    assert!(rig.told().contains(&Told::Dialing { attempt: 1 }));
    let dial = rig.core.view().dial(conn).expect("what to dial");
    assert_eq!((dial.expect, dial.addrs.as_slice()), (Some(peer(1).key), &[at(1)][..]));
    assert_eq!(
        rig.connect(1),
        Answer::No(Refusal::AlreadyConnected),
        "S0.27: a second connect dials nothing"
    );
    assert_eq!(rig.dialled(), None);
}

#[test]
fn s0_4_connected_is_told_exactly_once_with_its_time() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.now = Time::from_millis(40);
    rig.answer(conn, 1);
    assert_eq!(rig.told(), [Told::Connected]);
    assert_eq!(rig.standing(1), Standing::Connected);
    assert_eq!(
        rig.contact(1).expect("known").since,
        Time::from_millis(40),
        "S0.13, S0.15: the action's time"
    );
    rig.saw(Fact::Ready { conn });
    assert_eq!(rig.told(), []);
}

#[test]
fn s0_5_a_failed_attempt_is_told_once_with_its_fault() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Refused);
    assert_eq!(rig.told(), [Told::Failed]);
    let contact = rig.contact(1).expect("known");
    assert_eq!(contact.last_fault, Some(fault(FaultKind::Refused)), "S0.14");
    assert_eq!((contact.failures, contact.standing), (1, Standing::Waiting));
    rig.fail(conn, FaultKind::Refused);
    assert_eq!(rig.told(), [], "S0.29: a second report about the same attempt is late");
    assert_eq!(rig.core.stats().late_facts, 1);
}

#[test]
fn s0_6_disconnect_closes_and_rests() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    assert_eq!(rig.ask(Command::Disconnect(peer(1))), Answer::Done);
    assert_eq!(rig.closed(), [(conn, Close::Requested)]);
    assert_eq!(rig.told(), [Told::Lost(Close::Requested)]);
    rig.gone(conn, End::Asked);
    assert_eq!(rig.slots(), 0);
    rig.seconds(3_600);
    assert_eq!(rig.dialled(), None, "what a user disconnected stays down (pitfall B16)");
    assert_eq!(rig.standing(1), Standing::Idle);
}

#[test]
fn s0_30_disconnect_is_for_connections_and_cancel_for_attempts() {
    let mut rig = Rig::new(|_| ());
    assert_eq!(rig.ask(Command::Disconnect(peer(1))), Answer::No(Refusal::Unknown), "S0.46");
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    assert_eq!(rig.ask(Command::Disconnect(peer(1))), Answer::No(Refusal::NotNow));
    assert_eq!(rig.ask(Command::Cancel(peer(1))), Answer::Done);
    assert_eq!(rig.closed(), [(conn, Close::Requested)]);
    assert_eq!(rig.standing(1), Standing::Idle);
    assert_eq!(
        rig.ask(Command::Cancel(peer(1))),
        Answer::No(Refusal::NotNow),
        "S0.41: elsewhere it is no-op"
    );
}

#[test]
fn fault_d5_a_late_success_of_a_cancelled_dial_is_discarded_and_closed() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let old = rig.dialled().expect("a dial");
    rig.ask(Command::Reset(peer(1)));
    assert_eq!(rig.closed(), [(old, Close::Requested)]);
    // Before the old dial is over, a new one begins elsewhere (S0.28, pitfall A4).
    rig.ask(Command::Connect { who: peer(1), addrs: addrs(&[at(2)]), named: false });
    let new = rig.dialled().expect("a dial");
    assert_ne!(new, old);
    let greeting = Some(Greeting { epoch: 500, ..Greeting::default() });
    rig.saw(Fact::Met { conn: old, key: peer(1).key, at: at(1), greeting });
    assert_eq!(rig.out, [], "after the close only its end counts");
    rig.saw(Fact::Ready { conn: old });
    assert_eq!(rig.told(), []);
    rig.gone(old, End::Asked);
    rig.answer(new, 1);
    assert_eq!(rig.standing(1), Standing::Connected);
    assert_eq!(rig.slots(), 1);
}

#[test]
fn s0_39_three_refusals_are_three_dials_and_then_it_gives_up() {
    let mut rig = Rig::literal();
    rig.connect(1);
    for attempt in 1..=3 {
        let conn = rig.dialled().unwrap_or_else(|| panic!("dial {attempt}"));
        assert!(rig.told().contains(&Told::Dialing { attempt }), "S0.65: attempts are counted");
        rig.fail(conn, FaultKind::Refused);
    }
    assert!(rig.told().contains(&Told::GaveUp));
    assert_eq!(rig.standing(1), Standing::GaveUp);
    assert_eq!(rig.why(1), Why::Refused(Refusal::GaveUp));
    rig.seconds(24 * 3_600);
    assert_eq!(rig.dialled(), None, "S0.68: permanently failed");
    assert_eq!(rig.ask(Command::Retry(peer(1))), Answer::No(Refusal::GaveUp), "S0.31");
}

#[test]
fn s0_7_reset_revives_what_gave_up() {
    let mut rig = Rig::literal();
    rig.connect(1);
    for _ in 0..3 {
        let conn = rig.dialled().expect("a dial");
        rig.fail(conn, FaultKind::Refused);
    }
    assert_eq!(rig.ask(Command::Reset(peer(1))), Answer::Done);
    assert_eq!(rig.standing(1), Standing::Idle);
    assert_eq!(rig.contact(1).expect("known").failures, 0);
    assert!(matches!(rig.connect(1), Answer::Begun(_)), "a new budget");
}

#[test]
fn s0_45_reset_of_a_connection_closes_its_socket() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    rig.ask(Command::Reset(peer(1)));
    assert_eq!(rig.closed(), [(conn, Close::Requested)]);
    assert_eq!(rig.ask(Command::Reset(peer(9))), Answer::No(Refusal::Unknown), "S0.32");
}

#[test]
fn s0_8_retry_is_for_failures_and_does_not_wait() {
    let mut rig = Rig::new(|_| ());
    assert_eq!(rig.ask(Command::Retry(peer(1))), Answer::No(Refusal::Unknown));
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    assert_eq!(rig.ask(Command::Retry(peer(1))), Answer::No(Refusal::NotNow), "S0.44");
    rig.fail(conn, FaultKind::Refused);
    assert!(matches!(rig.why(1), Why::Refused(Refusal::Backoff { .. })), "S0.33: conditions know the time");
    assert!(matches!(rig.ask(Command::Retry(peer(1))), Answer::Begun(_)));
    assert!(rig.told().contains(&Told::Dialing { attempt: 2 }), "S0.42");
}

#[test]
fn a_failure_is_retried_by_itself_after_the_backoff() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Refused);
    let Why::Refused(Refusal::Backoff { until }) = rig.why(1) else { panic!("{:?}", rig.why(1)) };
    assert!(until > rig.now && until <= rig.now + Duration::from_secs(2));
    assert!(
        matches!(rig.connect(1), Answer::Queued(Refusal::Backoff { .. })),
        "pitfall A2: no way around it"
    );
    rig.seconds(2);
    assert!(rig.dialled().is_some(), "S0.66");
}

#[test]
fn s0_67_the_number_of_attempts_is_configured_and_a_want_never_ends() {
    for (max_attempts, expected) in [(1, 1), (5, 5)] {
        let mut rig = Rig::new(|c| {
            c.rules[0].backoff = Backoff { max_attempts, ..Backoff::THREE_AT_ONCE };
        });
        rig.connect(1);
        let mut dials = 0;
        while let Some(conn) = rig.dialled() {
            dials += 1;
            rig.fail(conn, FaultKind::Refused);
        }
        assert_eq!(dials, expected);
    }
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let (mut dials, mut last) = (0, rig.now);
    while rig.now < Time::from_millis(24 * 3_600_000) {
        if let Some(conn) = rig.dialled() {
            dials += 1;
            last = rig.now;
            rig.fail(conn, FaultKind::Refused);
        }
        rig.seconds(1);
    }
    assert!(rig.now - last < Duration::from_secs(302), "a wanted peer is never given up, only spaced out");
    assert!(dials < 24 * 60 * 10, "{dials} dials a day are fewer than ten a minute");
}

#[test]
fn fault_d2_an_attempt_has_one_deadline_over_all_stages() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.seconds(11);
    assert_eq!(rig.closed(), [(conn, Close::Timeout)]);
    assert_eq!(rig.slots(), 1, "the slot is held until the socket is gone");
    rig.gone(conn, End::Asked);
    assert_eq!(rig.slots(), 0);
    assert_eq!(rig.contact(1).expect("known").last_fault.map(|f| f.kind), Some(FaultKind::Timeout));
}

#[test]
fn a_loss_is_told_and_the_first_retry_is_immediate() {
    let mut rig = Rig::new(|c| c.rules[0].liveness = Liveness::Transport);
    let conn = rig.up(1);
    rig.seconds(40);
    rig.gone(conn, End::Fault(fault(FaultKind::Reset)));
    assert_eq!(rig.told(), [Told::Lost(Close::Dead), Told::Dialing { attempt: 1 }], "pitfall A6");
    let mut waits = Vec::new();
    for _ in 0..20 {
        let conn = rig.dialled().expect("a dial");
        rig.fail(conn, FaultKind::Refused);
        let before = rig.now;
        while rig.dialled().is_none() {
            rig.pass(Duration::from_millis(50));
        }
        waits.push(rig.now - before);
    }
    assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(1_600)), "the fast window: {waits:?}");
}

#[test]
fn a_peer_that_flaps_is_not_dialled_for_ever_at_speed() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let mut dials = 0;
    let mut at_ten_minutes = 0;
    while rig.now < Time::from_millis(1_800_000) {
        if let Some(conn) = rig.dialled() {
            dials += 1;
            rig.answer(conn, 1);
            rig.gone(conn, End::Fault(fault(FaultKind::Reset)));
            continue;
        }
        rig.pass(Duration::from_millis(200));
        if rig.now < Time::from_millis(600_000) {
            at_ten_minutes = dials;
        }
    }
    assert!(at_ten_minutes < 120, "{at_ten_minutes} dials in ten minutes");
    assert!(dials - at_ten_minutes < 20, "{} dials in the next twenty", dials - at_ten_minutes);
}

/// A listener that is restarted every twenty seconds is back at once each time, whatever it was the times before.
#[test]
fn a_peer_that_is_restarted_again_and_again_is_tried_at_speed_each_time() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    for restart in 0..20 {
        let conn = rig.dialled().expect("a dial");
        rig.answer(conn, 1);
        rig.seconds(19);
        rig.gone(conn, End::Fault(fault(FaultKind::Reset)));
        let lost_at = rig.now;
        // It does not listen yet.
        for tried in 0..2 {
            while rig.dialled().is_none() {
                rig.pass(Duration::from_millis(50));
            }
            if tried == 0 {
                let conn = rig.dialled().expect("a dial");
                rig.fail(conn, FaultKind::Refused);
            }
        }
        let wait = rig.now - lost_at;
        assert!(wait <= Duration::from_secs(3), "restart {restart}: the second try came after {wait:?}");
    }
}

/// Faults D11 and D12.
#[test]
fn local_faults_pause_everything_and_punish_nobody() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    rig.want(2);
    for kind in [FaultKind::Resources, FaultKind::Unreachable] {
        let conn = loop {
            match rig.dialled() {
                Some(conn) => break conn,
                None => drop(rig.pass(Duration::from_millis(300))),
            }
        };
        rig.fail(conn, kind);
    }
    assert_eq!([1, 2].map(|n| rig.contact(n).expect("known").failures), [0, 0], "fault D11, D12");
    rig.step(Action::Network(Change::Offline));
    rig.seconds(600);
    assert_eq!(rig.dialled(), None, "no network, no dial");
    rig.step(Action::Network(Change::Online));
    assert!(rig.dialled().is_some(), "one retry as soon as there is a route");
}

/// Fault I8.
#[test]
fn fault_d16_another_identity_is_never_announced_and_its_address_forgotten() {
    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.saw(Fact::Met {
        conn,
        key: peer(2).key,
        at: at(1),
        greeting: Some(Greeting { epoch: 5, ..Default::default() }),
    });
    assert!(rig.turned(conn).is_some());
    assert_eq!(rig.told(), []);
    assert_eq!(rig.contact(1).expect("known").addrs.len(), 0);
    rig.gone(conn, End::Asked);
    rig.seconds(3_600);
    assert_eq!(rig.dialled(), None, "there is nowhere left to dial");
}

#[test]
fn fault_d7_our_own_address_is_found_out_and_not_dialled_again() {
    let mut rig = Rig::new(|_| ());
    let who = Who::mesh(PeerKey::from_addr(at(1)));
    rig.ask(Command::Connect { who, addrs: addrs(&[at(1)]), named: false });
    let conn = rig.dialled().expect("a dial");
    rig.saw(Fact::Met { conn, key: rig::ME, at: at(1), greeting: None });
    assert_eq!(rig.turned(conn), Some(Refusal::Myself));
    rig.gone(conn, End::Asked);
    rig.seconds(3_600);
    assert_eq!(rig.dialled(), None);
    assert_eq!(rig.core.view().contacts().count(), 0);
    assert_eq!(
        rig.ask(Command::Connect { who: Who::mesh(rig::ME), addrs: addrs(&[at(1)]), named: false }),
        Answer::No(Refusal::Myself)
    );
}

#[test]
fn fault_d6_ten_thousand_addresses_are_cut_to_eight_and_four_legs() {
    let mut rig = Rig::new(|_| ());
    for n in 0..10_000_u32 {
        let one = addr(&format!("10.{}.{}.1:7330", n / 250, n % 250));
        rig.saw(Fact::Learned { who: peer(1), addrs: addrs(&[one, one]), source: Source::Told });
    }
    assert_eq!(rig.contact(1).expect("known").addrs.len(), 8);
    rig.ask(Command::Want { who: peer(1), addrs: Addrs::new(), named: false });
    let conn = rig.dialled().expect("a dial");
    assert_eq!(rig.core.view().dial(conn).expect("legs").addrs.len(), 4);
}

#[test]
fn fault_d9_private_addresses_from_gossip_are_not_dialled_unless_allowed() {
    for (allowed, expected) in [(false, false), (true, true)] {
        let mut rig = Rig::new(|c| c.dial_private_gossip = allowed);
        rig.saw(Fact::Learned {
            who: peer(1),
            addrs: addrs(&[addr("127.0.0.1:22"), at(1)]),
            source: Source::Gossip,
        });
        let answer = rig.ask(Command::Want { who: peer(1), addrs: Addrs::new(), named: false });
        assert_eq!(rig.dialled().is_some(), expected, "{answer:?}");
    }
}

#[test]
fn fault_d8_senseless_addresses_never_become_a_dial() {
    let mut rig = Rig::new(|_| ());
    let bad = ["1.2.3.4:0", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "[::]:1", "[fe80::1]:1"];
    let bad: Vec<Addr> = bad.iter().map(|text| addr(text)).collect();
    let answer = rig.ask(Command::Connect { who: peer(1), addrs: addrs(&bad), named: false });
    assert_eq!(answer, Answer::No(Refusal::NoAddress));
}

#[test]
fn idle_connections_nobody_wants_are_closed_and_others_kept() {
    let mut rig = Rig::new(|c| c.rules[0].idle = Some(Duration::from_secs(5)));
    let conn = rig.up(1);
    rig.seconds(4);
    assert_eq!(rig.closed(), [], "S0.71");
    rig.seconds(3);
    assert_eq!(rig.closed(), [(conn, Close::Idle)], "S0.72");
    let mut rig = Rig::new(|c| c.rules[0].idle = Some(Duration::from_secs(5)));
    rig.up(1);
    rig.ask(Command::Hold { who: peer(1), on: true });
    rig.seconds(14);
    assert_eq!(rig.closed(), [], "held");
}

/// Faults C1 and F12: two unanswered probes close, and the loss is told once.
#[test]
fn silence_is_probed_and_two_unanswered_probes_are_death() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    let probes = rig.seconds(16).iter().filter(|e| matches!(e, Effect::Probe { .. })).count();
    assert_eq!(probes, 1, "fault C1: a probe after 15 s of silence");
    let report = Report { received_at: rig.now, ..Report::default() };
    rig.saw(Fact::Reported { conn, report });
    rig.seconds(14);
    assert_eq!(rig.closed(), []);
    rig.seconds(12);
    assert_eq!(rig.closed(), [(conn, Close::Dead)]);
    assert_eq!(rig.told().iter().filter(|t| matches!(t, Told::Lost(_))).count(), 1, "down exactly once");
}

/// S1.32: the side that was dialled asks a little later, and the question of the other is a sign of life for it.
#[test]
fn s1_32_who_was_dialled_asks_later_and_only_when_nobody_else_did() {
    let asked = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Probe { .. })).count();
    let mut rig = Rig::new(|_| ());
    let conn = rig.inbound(1, 1).expect("admitted");
    assert_eq!(asked(&rig.seconds(16)), 0, "its time is a quarter of a deadline later");
    assert_eq!(asked(&rig.seconds(1)), 1);
    for _ in 0..10 {
        let report = Report { received_at: rig.now, ..Report::default() };
        rig.saw(Fact::Reported { conn, report });
        assert_eq!(asked(&rig.seconds(15)), 0, "the dialler asks in every interval");
    }
}

#[test]
fn keepalive_only_sends_no_probe_ever() {
    let mut rig = Rig::new(|c| c.rules[0].liveness = Liveness::Transport);
    rig.up(1);
    let effects = rig.seconds(3_600);
    assert!(
        !effects.iter().any(|e| matches!(e, Effect::Probe { .. } | Effect::Close { .. })),
        "S3.33, S3.48"
    );
}

#[test]
fn s0_24_the_core_speaks_only_in_effects_and_every_run_replays() {
    let mut rig = Rig::new(|_| ());
    rig.up(1);
    rig.want(2);
    rig.seconds(100);
    journal::end(rig.core.digest(), &mut rig.journal);
    let mut replay = journal::Replay::new(&rig.journal).expect("a segment");
    let mut out = Effects::new();
    while replay.step(&mut out).expect("the same decisions").is_some() {}
    assert!(replay.ended);
    assert_eq!(replay.core.digest(), rig.core.digest());
}

/// S1.21: at no moment is it in both places or in neither, and what was there is never written over.
#[test]
fn s1_21_a_finished_dial_goes_from_pending_to_active_in_one_step_and_a_second_one_is_resolved() {
    let mut rig = Rig::new(|_| ());
    let counts = |rig: &Rig| {
        let counts = rig.core.view().counts();
        (counts.pending, counts.up(), counts.total())
    };
    rig.connect(1);
    let first = rig.dialled().expect("a dial");
    let greeting = Some(Greeting { epoch: 500, ..Greeting::default() });
    rig.saw(Fact::Met { conn: first, key: peer(1).key, at: at(1), greeting });
    assert_eq!(counts(&rig), (1, 0, 1));
    rig.saw(Fact::Ready { conn: first });
    assert_eq!(counts(&rig), (0, 1, 1), "in the same step");
    // A dial by address that leads to the same peer: one of the two ends, with a reason, and never more than one is up.
    let who = Who::mesh(PeerKey::from_addr(at(200)));
    rig.ask(Command::Connect { who, addrs: addrs(&[at(200)]), named: false });
    let second = rig.dialled().expect("a dial");
    rig.saw(Fact::Met { conn: second, key: peer(1).key, at: at(200), greeting });
    assert_eq!((rig.turned(second), rig.closed()), (None, vec![(first, Close::Replaced)]), "the later dial");
    assert!(rig.core.view().counts().up() <= 1);
    rig.gone(first, End::Asked);
    rig.saw(Fact::Ready { conn: second });
    assert_eq!(counts(&rig), (0, 1, 1));
    // Theirs, beside ours that is up: the newer one by their numbers takes over, and ours ends with that reason.
    let theirs = rig.arrive(at(1)).expect("room");
    rig.hello(theirs, 1, Greeting { epoch: 500, dial: 7, accepted: (1_000, 99), ..Greeting::default() });
    let ended: Vec<ConnRef> = rig.closed().into_iter().map(|(conn, _)| conn).collect();
    assert_eq!(ended, [second], "they no longer have it, so it is closed and not forgotten");
    assert!(rig.core.view().counts().up() <= 1);
    rig.gone(second, End::Asked);
    rig.saw(Fact::Ready { conn: theirs });
    assert_eq!(counts(&rig), (0, 1, 1));
}
