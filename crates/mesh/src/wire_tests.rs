//! Frames against hostile and unlucky bytes.

use super::*;
use proptest::prelude::*;

pub(crate) fn hello() -> Hello {
    Hello {
        network: vec![1; 32],
        proof: vec![2; 32],
        nonce: vec![3; 16],
        version_min: 1,
        version_max: 2,
        capabilities: vec!["exchange".into(), "mail".into()],
        listen: vec![vec![127, 0, 0, 1, 0x1c, 0xa2]],
        seen: vec![127, 0, 0, 2, 0x1c, 0xa2],
        epoch: 1_790_000_000,
        dial: 7,
        accepted_epoch: 1_780_000_000,
        accepted_dial: 3,
        replaces: false,
        agent: "test/1".into(),
    }
}

fn frame() -> Vec<u8> {
    let mut out = Vec::new();
    emit(&Handshake { what: Some(Greeting::Hello(hello())) }, &mut out);
    out
}

#[test]
fn fault_h2_a_frame_cut_at_any_byte_waits_for_more() {
    let whole = frame();
    for cut in 0..whole.len() {
        assert_eq!(parse::<Handshake>(&whole[..cut], MAX_HANDSHAKE_BYTES), Ok(None), "cut at {cut}");
    }
    let (parsed, used) = parse::<Handshake>(&whole, MAX_HANDSHAKE_BYTES).expect("reads").expect("whole");
    assert_eq!((parsed.what, used), (Some(Greeting::Hello(hello())), whole.len()));
}

#[test]
fn fault_h3_any_flipped_bit_gives_an_error_or_another_frame_never_the_same() {
    let whole = frame();
    for index in 0..whole.len() {
        for bit in 0..8 {
            let mut bent = whole.clone();
            bent[index] ^= 1 << bit;
            if let Ok(Some((parsed, _))) = parse::<Handshake>(&bent, MAX_HANDSHAKE_BYTES) {
                assert_ne!(parsed.what, Some(Greeting::Hello(hello())), "byte {index} bit {bit}");
            }
        }
    }
}

/// Fault R3.
#[test]
fn fault_f1_the_length_is_judged_before_the_body() {
    assert_eq!(parse::<Handshake>(&[0, 0], 4096).map(|f| f.map(|(f, n)| (f.what, n))), Ok(Some((None, 2))));
    assert_eq!(parse::<Handshake>(&4096u16.to_be_bytes(), 4096), Ok(None));
    assert_eq!(parse::<Handshake>(&4097u16.to_be_bytes(), 4096), Err(WireError::TooLarge));
    assert_eq!(parse::<Handshake>(&[0xff, 0xff], 4096), Err(WireError::TooLarge));
    assert_eq!(parse::<Control>(&[0xff; 64], MAX_CONTROL_BYTES), Err(WireError::TooLarge));
}

#[test]
fn fault_f2_varints_too_long_or_cut_are_errors_and_long_forms_are_read() {
    let read = |body: &[u8]| {
        let mut bytes = u16::try_from(body.len()).expect("short").to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        parse::<Control>(&bytes, MAX_CONTROL_BYTES)
    };
    let eleven = [0x18, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
    assert_eq!(read(&eleven), Err(WireError::Malformed));
    assert_eq!(read(&[0x1a, 0x80]), Err(WireError::Malformed));
    let goodbye = |reason| Control { what: Some(Say::Goodbye(Goodbye { reason })) };
    assert_eq!(read(&[0x1a, 0x02, 0x08, 0x05]).map(|f| f.map(|f| f.0)), Ok(Some(goodbye(5))));
    assert_eq!(read(&[0x1a, 0x03, 0x08, 0x85, 0x00]).map(|f| f.map(|f| f.0)), Ok(Some(goodbye(5))));
}

/// Fault R3.
#[test]
fn fault_f3_a_list_longer_than_its_bytes_is_an_error() {
    let body = [0x2a, 0x06, 0x0a, 0xff, 0xff, 0xff, 0x7f, 0x00];
    let mut bytes = vec![0, 8];
    bytes.extend_from_slice(&body);
    assert_eq!(parse::<Control>(&bytes, MAX_CONTROL_BYTES), Err(WireError::Malformed));
}

#[test]
fn fault_f4_deep_nesting_is_an_error() {
    let body = vec![0x7b; 1000];
    let mut bytes = u16::try_from(body.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    assert_eq!(parse::<Control>(&bytes, MAX_CONTROL_BYTES), Err(WireError::Malformed));
}

#[test]
fn fault_f13_unknown_fields_and_kinds_are_skipped() {
    let mut body = Vec::new();
    Control { what: Some(Say::Ping(Ping { nonce: 9 })) }.encode(&mut body).expect("grows");
    body.extend_from_slice(&[0x98, 0x06, 0x01, 0x9a, 0x06, 0x02, 0xaa, 0xbb]);
    let mut bytes = vec![0, u8::try_from(body.len()).expect("short")];
    bytes.extend_from_slice(&body);
    let (read, _) = parse::<Control>(&bytes, MAX_CONTROL_BYTES).expect("reads").expect("whole");
    assert_eq!(read.what, Some(Say::Ping(Ping { nonce: 9 })));
    let (read, _) = parse::<Control>(&[0, 3, 0x72, 1, 0], MAX_CONTROL_BYTES).expect("reads").expect("whole");
    assert_eq!(read.what, None);
}

#[test]
fn fault_d8_addresses_that_make_no_sense_are_left_out_and_long_lists_cut() {
    let mut list = vec![vec![], vec![1, 2, 3], vec![0, 0, 0, 0, 0, 1], vec![224, 0, 0, 1, 0, 1]];
    list.push(vec![1, 2, 3, 4, 0, 0]);
    list.extend((0..8).map(|last| vec![1, 2, 3, last, 0, 80]));
    let addrs = parse_addrs(&list);
    assert_eq!(addrs.len(), 8);
    assert!(addrs.iter().all(|addr| addr.check().is_ok()));
    let mut many: Vec<_> = (0..200).map(|last| vec![1, 2, 4, last, 0, 80]).collect();
    many.extend(list);
    assert_eq!(parse_addrs(&many).len(), 8);
}

#[test]
fn text_from_peers_is_escaped_and_cut() {
    assert_eq!(printable("a\x1b[31m\r\nü"), "a?[31m???");
    assert_eq!(printable(&"x".repeat(1000)).len(), MAX_TEXT_BYTES);
}

proptest! {
    #[test]
    fn no_bytes_break_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse::<Handshake>(&bytes, MAX_HANDSHAKE_BYTES);
        let _ = parse::<Control>(&bytes, MAX_CONTROL_BYTES);
    }

    #[test]
    fn addresses_come_back(ip in any::<[u8; 16]>(), port in any::<u16>()) {
        let addr = Addr { ip, port, kind: AddrKind::Tcp };
        prop_assert_eq!(parse_addr(&emit_addr(&addr)), Some(addr));
    }

    #[test]
    fn fault_f5_frames_read_the_same_however_they_are_split(
        nonces in proptest::collection::vec(any::<u64>(), 1..20), split in 1usize..40,
    ) {
        let mut bytes = Vec::new();
        for nonce in &nonces {
            emit(&Control { what: Some(Say::Ping(Ping { nonce: *nonce })) }, &mut bytes);
        }
        let (mut buffer, mut read) = (Vec::new(), Vec::new());
        for chunk in bytes.chunks(split) {
            buffer.extend_from_slice(chunk);
            while let Some((frame, used)) = parse::<Control>(&buffer, MAX_CONTROL_BYTES).expect("reads") {
                buffer.drain(..used);
                if let Some(Say::Ping(ping)) = frame.what {
                    read.push(ping.nonce);
                }
            }
        }
        prop_assert_eq!(read, nonces);
    }
}
