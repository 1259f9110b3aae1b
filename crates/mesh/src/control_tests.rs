//! Two control channels against each other and against floods and nonsense.

use super::*;

fn pair() -> (Control, Control) {
    (Control::new(Time::ZERO), Control::new(Time::ZERO))
}

/// What `to` makes of everything `from` has to say.
fn carry(from: &mut Control, to: &mut Control, now: Time) -> Vec<Event> {
    let mut events = Vec::new();
    let bytes = std::mem::take(from.outbox());
    to.handle(now, &bytes, &mut events).expect("well-formed");
    events
}

fn raw(what: Say) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&Frame { what: Some(what) }, &mut out);
    out
}

#[test]
fn a_ping_is_answered_and_measured() {
    let (mut a, mut b) = pair();
    a.probe(Time::from_millis(10), 42);
    a.probe(Time::from_millis(11), 43);
    assert_eq!(carry(&mut a, &mut b, Time::from_millis(20)), []);
    let events = carry(&mut b, &mut a, Time::from_millis(40));
    assert_eq!(events, [Event::Rtt(Duration::from_millis(30))]);
    a.probe(Time::from_millis(100), 44);
    carry(&mut a, &mut b, Time::from_millis(100));
    assert_eq!(carry(&mut b, &mut a, Time::from_millis(114)), [Event::Rtt(Duration::from_millis(14))]);
}

#[test]
fn fault_f12_a_pong_with_a_wrong_nonce_is_ignored_and_counted() {
    let (mut a, _) = pair();
    a.probe(Time::ZERO, 42);
    let mut events = Vec::new();
    a.handle(Time::ZERO, &raw(Say::Pong(wire::Ping { nonce: 41 })), &mut events).expect("well-formed");
    assert_eq!((events.as_slice(), a.odd().pongs), ([].as_slice(), 1));
    a.handle(Time::ZERO, &raw(Say::Pong(wire::Ping { nonce: 42 })), &mut events).expect("well-formed");
    a.handle(Time::ZERO, &raw(Say::Pong(wire::Ping { nonce: 42 })), &mut events).expect("well-formed");
    assert_eq!((events.len(), a.odd().pongs), (1, 2), "a pong counts once");
}

#[test]
fn fault_f12_a_flood_of_pings_is_answered_at_the_rate_and_then_called_so() {
    let (mut a, _) = pair();
    let mut events = Vec::new();
    let flood = raw(Say::Ping(wire::Ping { nonce: 1 })).repeat(200);
    a.handle(Time::ZERO, &flood, &mut events).expect("well-formed");
    let one = raw(Say::Pong(wire::Ping { nonce: 1 })).len();
    assert_eq!(a.outbox().len(), 10 * one);
    assert_eq!((a.odd().pings, events), (190, vec![Event::Violation(Violation::TooMuch)]));
}

#[test]
fn goodbye_carries_its_reason_and_unknown_ones_count_as_requested() {
    let (mut a, mut b) = pair();
    for why in [Close::Requested, Close::Replaced, Close::Shutdown] {
        a.goodbye(why);
        assert_eq!(carry(&mut a, &mut b, Time::ZERO), [Event::Goodbye(why)]);
    }
    for reason in [0, 12, 255, u32::MAX] {
        let mut events = Vec::new();
        b.handle(Time::ZERO, &raw(Say::Goodbye(wire::Goodbye { reason })), &mut events).expect("well-formed");
        assert_eq!(events, [Event::Goodbye(Close::Requested)]);
    }
}

#[test]
fn fault_f14_more_peers_than_allowed_are_cut_and_called_so() {
    let (_, mut b) = pair();
    let listen = vec![vec![10, 0, 0, 1, 0, 80]];
    let peers =
        (0..40u8).map(|n| wire::Known { key: vec![n; 32], listen: listen.clone() }).collect::<Vec<_>>();
    let mut events = Vec::new();
    b.handle(Time::ZERO, &raw(Say::Peers(wire::Peers { peers })), &mut events).expect("well-formed");
    assert_eq!(events[0], Event::Violation(Violation::TooLarge));
    let Event::Peers(peers) = &events[1] else { panic!("{events:?}") };
    assert_eq!(peers.len(), MAX_PEERS);
}

#[test]
fn peers_are_asked_for_and_told_and_unreadable_ones_left_out() {
    let (mut a, mut b) = pair();
    a.ask();
    assert_eq!(carry(&mut a, &mut b, Time::ZERO), [Event::Asked]);
    let addrs: Addrs = wire::parse_addrs(&[vec![1, 2, 3, 4, 0, 80]]);
    let known = (PeerKey::ed25519([7; 32]), addrs);
    b.tell(&[known.clone(), (PeerKey::ed25519([8; 32]), Addrs::new())]);
    assert_eq!(carry(&mut b, &mut a, Time::ZERO), [Event::Peers(vec![known])]);
    b.tell(&[]);
    assert!(b.outbox().is_empty());
}

#[test]
fn questions_for_peers_have_a_rate() {
    let (mut a, mut b) = pair();
    for _ in 0..10 {
        a.ask();
    }
    assert_eq!(carry(&mut a, &mut b, Time::ZERO).len(), 3);
}

#[test]
fn fault_f13_unknown_kinds_of_frame_are_counted_and_skipped() {
    let (mut a, _) = pair();
    let mut events = Vec::new();
    a.handle(Time::ZERO, &[0, 3, 0x72, 1, 0], &mut events).expect("well-formed");
    assert_eq!((events.len(), a.odd().unknown), (0, 1));
}

#[test]
fn fault_f1_a_frame_above_the_limit_ends_the_channel() {
    let (mut a, _) = pair();
    assert_eq!(a.handle(Time::ZERO, &[0x40, 0x01], &mut Vec::new()), Err(Violation::TooLarge));
    let (mut a, _) = pair();
    assert_eq!(a.handle(Time::ZERO, &[0, 1, 0xff], &mut Vec::new()), Err(Violation::Malformed));
}

#[test]
fn nothing_is_kept_while_nothing_is_said() {
    let (mut a, mut b) = pair();
    a.probe(Time::ZERO, 1);
    carry(&mut a, &mut b, Time::ZERO);
    carry(&mut b, &mut a, Time::ZERO);
    assert_eq!((a.inbox.capacity(), b.inbox.capacity()), (0, 0));
}

proptest::proptest! {
    #[test]
    fn no_bytes_break_a_control_channel_and_splits_change_nothing(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), split in 1usize..50,
    ) {
        let (mut whole, mut parts) = pair();
        let (mut from_whole, mut from_parts) = (Vec::new(), Vec::new());
        let end = whole.handle(Time::ZERO, &bytes, &mut from_whole);
        let mut cut = Ok(());
        for chunk in bytes.chunks(split) {
            cut = parts.handle(Time::ZERO, chunk, &mut from_parts);
            if cut.is_err() {
                break;
            }
        }
        proptest::prop_assert_eq!((end, from_whole), (cut, from_parts));
        proptest::prop_assert!(whole.inbox.len() <= MAX_CONTROL_BYTES + 2);
    }
}
