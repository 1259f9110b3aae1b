//! The seeds every corpus begins with: what the real encoders write, and by hand what has hurt decoders before (faults
//! F1 to F5, H2, H3). The product's tests hold the committed files against them, and write them when asked to.

use super::actions;
use super::journal::{BUSY, around};
use super::mesh::{A, B, GREETING, LOCALS};
use peerkeep_core::{Action, Addr, Command, CommandId, Fact, StackId, Ticket, Time, Who, journal};
use peerkeep_libp2p::fuzzing::true_payload;
use peerkeep_libp2p::identify::Identity;
use peerkeep_mesh::Reason;
use peerkeep_mesh::handshake::{Acceptor, Dialler, Heard};
use peerkeep_mesh::wire::{self, Control, MAX_HANDSHAKE_BYTES, Say};

/// One seed: its target, its file's name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// All of them; the same each time.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    text(&mut seeds);
    frames(&mut seeds);
    handshakes(&mut seeds);
    channels(&mut seeds);
    libp2p(&mut seeds);
    journals(&mut seeds);
    stores(&mut seeds);
    seeds
}

fn put(seeds: &mut Vec<Seed>, target: &'static str, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
    seeds.push((target, format!("seed-{}", name.into()), bytes.into()));
}

const ID: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

fn text(seeds: &mut Vec<Seed>) {
    let addresses = [
        "/ip4/192.0.2.1/tcp/7330",
        "/ip6/2001:db8::1/tcp/7330",
        "192.0.2.1:7330",
        "[::ffff:192.0.2.1]:7330",
        "Node-1.Example.org:7330",
        "/dns6/example.org./tcp/1",
        "/ip4/1.2.3.4/udp/1/quic-v1",
        "/ip4/1.2.3.4/tcp/0",
        "0.0.0.0:1",
        "[fe80::1]:1",
        "192.0.2.77/24",
        "::ffff:192.0.2.9/120",
        "::/0",
        "x25519:0000000000000000000000000000000000000000000000000000000000000001",
        "address:192.0.2.1:7330/tcp",
        ID,
    ];
    for (n, address) in addresses.iter().enumerate() {
        put(seeds, "addresses", format!("{n}"), *address);
    }
    put(seeds, "addresses", "with-id", format!("/ip4/192.0.2.1/tcp/7330/p2p/{ID}"));
    let hash = peerkeep::PeerId(A).to_multihash().unwrap_or_default();
    put(seeds, "addresses", "multihash", hash);
    let binary = "/ip4/192.0.2.1/tcp/7330".parse::<peerkeep::Multiaddr>().map(|address| address.to_vec());
    put(seeds, "addresses", "multiaddr", binary.unwrap_or_default());
    for (n, section) in peerkeep::TEMPLATE.split("\n[").enumerate() {
        let bracket = if n == 0 { "" } else { "[" };
        put(seeds, "settings", format!("section-{n}"), format!("{bracket}{section}\n"));
    }
    for (name, text) in [
        ("override", "#limits.total=9\n[limits]\ntotal = 5\n"),
        ("nested", "[a.b.c]\nd = {e = [[[[[[[[1]]]]]]]]}\n"),
        ("mistakes", "[limits]\ntotal = -1\ninbound = \"many\"\nnothing = 1\n[no]\n"),
        ("durations", "[timeouts]\nestablish = \"1ns\"\nhandshake = \"999999999y\"\n"),
    ] {
        put(seeds, "settings", name, text);
    }
    for (name, body) in [
        ("connect", format!("{{\"peer\":\"/ip4/192.0.2.1/tcp/1/p2p/{ID}\",\"wait_ms\":0}}")),
        ("want", "{\"peer\":\"example.org:7330\"}".to_owned()),
        ("ban", "{\"target\":\"192.0.2.0/24\",\"for_ms\":60000}".to_owned()),
        ("ban-id", format!("{{\"target\":\"{ID}\"}}")),
        ("unknown", "{\"peer\":\"x\",\"more\":1}".to_owned()),
        ("huge", "{\"peer\":\"x\",\"wait_ms\":18446744073709551616}".to_owned()),
        ("deep-f4", format!("{}1{}", "[".repeat(200), "]".repeat(200))),
    ] {
        put(seeds, "api_request", name, body);
    }
    for (name, body) in [
        ("version", "{\"name\":\"peerkeep\",\"version\":\"0.1.0\",\"api\":1,\"pid\":7}".to_owned()),
        ("problem", "{\"error\":\"failed\",\"message\":\"\\u001b[31mred\",\"next\":\"x\\ny\"}".to_owned()),
        ("event", format!("{{\"event\":\"discovered\",\"peer\":\"{ID}\"}}")),
        ("escape", "\u{1b}]0;owned\u{7}a\u{9b}2Jb\u{202e}c".to_owned()),
        ("link", "\u{1b}]8;;http://x\u{1b}\\text\u{1b}".to_owned()),
    ] {
        put(seeds, "api_answer", name, body);
    }
    put(seeds, "core_numbers", "address", [0, 1, 10, 0, 0, 1, 80, 0, 0, 24]);
    put(seeds, "core_numbers", "backoff", [1, 20, 250, 15, 208, 7, 0, 0, 44, 1, 5, 0, 9]);
}

fn prefixed(body: &[u8]) -> Vec<u8> {
    let mut frame = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

fn frames(seeds: &mut Vec<Seed>) {
    for (name, bytes) in conversation() {
        put(seeds, "mesh_frames", name, [&[0][..], &bytes].concat());
    }
    for (name, bytes) in controls() {
        put(seeds, "mesh_frames", format!("control-{name}"), [&[1][..], &bytes].concat());
    }
    for (kind, max) in [(0, 4_096_u16), (1, 16_384)] {
        for length in [0, max, max + 1, u16::MAX] {
            let [high, low] = length.to_be_bytes();
            put(seeds, "mesh_frames", format!("f1-{kind}-{length}"), [kind, high, low, 8, 1]);
        }
    }
    let varint = [&[0x0a][..], &[0xff; 10], &[0x01]].concat();
    put(seeds, "mesh_frames", "f2-varint-of-11", [&[0][..], &prefixed(&varint)].concat());
    put(
        seeds,
        "mesh_frames",
        "f2-not-minimal",
        [&[0][..], &prefixed(&[0x0a, 0x82, 0x00, 0x48, 0x01])].concat(),
    );
    put(seeds, "mesh_frames", "f2-cut", [&[0][..], &prefixed(&[0x0a, 0x80])].concat());
    let claim = [0x0a, 0x07, 0x32, 0xff, 0xff, 0xff, 0xff, 0x07, 0x61];
    put(seeds, "mesh_frames", "f3-claims-too-much", [&[0][..], &prefixed(&claim)].concat());
    let empty = [&[0x0a, 0x80, 0x01][..], &[0x32, 0x00].repeat(64)].concat();
    put(seeds, "mesh_frames", "f3-empty-texts", [&[0][..], &prefixed(&empty)].concat());
    put(seeds, "mesh_frames", "f4-groups", [&[0][..], &prefixed(&[0x7b; 200])].concat());
}

/// The frames of a whole handshake, and of a refused one.
fn conversation() -> Vec<(&'static str, Vec<u8>)> {
    let remote = Addr::tcp(([127, 0, 0, 1], 7330).into());
    let [a, b] = &LOCALS[1];
    let (mut hello, mut answer, mut confirm, mut refusal) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let _ = Dialler::start(a.clone(), B, remote, &GREETING, [5; 16], &mut hello);
    let mut acceptor = Acceptor::new(b.clone(), A, remote);
    if let Ok(Some((frame, _))) = wire::parse(&hello, MAX_HANDSHAKE_BYTES)
        && let Ok(Some(Heard::Hello(_))) = acceptor.handle(frame)
    {
        acceptor.answer(&GREETING, &mut answer);
    }
    Dialler::confirm(&mut confirm);
    let why = wire::Refusal { newer_epoch: 123, retry_after_ms: 500, ..refusal_of(Reason::Stale) };
    peerkeep_mesh::handshake::emit_refusal(why, &mut refusal);
    vec![("hello", hello), ("answer", answer), ("confirm", confirm), ("refusal", refusal)]
}

fn refusal_of(reason: Reason) -> wire::Refusal {
    wire::Refusal { reason: reason.code(), text: reason.text().to_owned(), ..wire::Refusal::default() }
}

fn handshakes(seeds: &mut Vec<Seed>) {
    let frames = conversation();
    let joined = |names: &[&str]| -> Vec<u8> {
        let of = |name: &&str| frames.iter().find(|frame| frame.0 == *name).map(|frame| frame.1.clone());
        names.iter().filter_map(of).flatten().collect()
    };
    let plain = |how: u8, cuts: [u8; 4], bytes: Vec<u8>| [&[how][..], &cuts, &bytes].concat();
    let (in_order, by_byte) = (joined(&["hello", "confirm"]), [1, 1, 1, 1]);
    put(seeds, "mesh_handshake", "acceptor", plain(4, [7, 3, 90, 1], in_order.clone()));
    put(seeds, "mesh_handshake", "f5-by-byte", plain(4, by_byte, in_order.clone()));
    put(seeds, "mesh_handshake", "h2-cut", plain(4, by_byte, in_order[..in_order.len() - 2].to_vec()));
    put(seeds, "mesh_handshake", "out-of-order", plain(4, by_byte, joined(&["confirm", "hello"])));
    put(seeds, "mesh_handshake", "twice", plain(4, by_byte, joined(&["hello", "hello"])));
    put(seeds, "mesh_handshake", "refused", plain(5, by_byte, joined(&["refusal"])));
    put(seeds, "mesh_handshake", "dialler", plain(5, [2, 200, 1, 9], joined(&["answer"])));
    put(seeds, "mesh_handshake", "unknown-kinds", plain(0, by_byte, [0, 2, 0x7a, 0].repeat(6)));
    for how in 0..12_u8 {
        put(seeds, "mesh_handshake", format!("true-{how}"), [how << 2 | 2 | how & 1, 9, 1, 50, 3, 0]);
    }
    put(seeds, "mesh_handshake", "h3-bent", [6, 9, 1, 50, 3, 1, 40, 0, 0x41]);
}

fn channels(seeds: &mut Vec<Seed>) {
    let mut all = Vec::new();
    for (name, bytes) in controls() {
        put(seeds, "mesh_control", name, [&[1, 2, 3, 200][..], &bytes].concat());
        all.extend_from_slice(&bytes);
    }
    put(seeds, "mesh_control", "f5-all", [&[1, 1, 1, 1][..], &all].concat());
    put(seeds, "mesh_control", "too-large", [1, 2, 3, 200, 0xff, 0xff]);
    put(seeds, "mesh_exchange", "public", [2, 80, 1, 3, 2, 80, 0, 80, 1, 80]);
    put(seeds, "mesh_exchange", "home", [0, 80, 1, 1, 1, 80, 0, 2, 4, 1, 5, 80, 8, 8, 8, 8]);
    let frame = |kind: u8, flags: u8, length: u32| {
        [&[0, kind, 0, flags, 0, 0, 0, 1][..], &length.to_be_bytes()].concat()
    };
    let data = [frame(0, 1, 5), b"hello".to_vec()].concat();
    for (name, bytes) in [
        ("data", data),
        ("ping", frame(2, 1, 7)),
        ("pings", frame(2, 1, 7).repeat(20)),
        ("window", frame(1, 0, u32::MAX)),
        ("away", frame(3, 0, 1)),
        ("huge", frame(0, 0, u32::MAX)),
    ] {
        put(seeds, "mesh_mux", name, [&[5, 1, 30, 2][..], &bytes].concat());
    }
    let certificate =
        peerkeep_mesh::Identity::from_seed(&[7; 32]).map(|id| id.certificate().to_vec()).unwrap_or_default();
    put(seeds, "mesh_certificate", "ours", certificate.clone());
    put(seeds, "mesh_certificate", "h2-cut", &certificate[..certificate.len() / 2]);
    put(seeds, "mesh_certificate", "h8-long", [certificate, vec![0; 5_000]].concat());
    put(seeds, "mesh_tls", "plaintext", *b"\x05GET / HTTP/1.1\r\n\r\n");
    put(seeds, "mesh_tls", "alert", [1, 21, 3, 3, 0, 2, 2, 40]);
    put(seeds, "mesh_tls", "huge-record", [9, 22, 3, 1, 0xff, 0xff, 1, 0, 0, 4]);
    put(seeds, "mesh_tls", "empty-records", [&[3][..], &[22, 3, 3, 0, 0].repeat(20)].concat());
}

fn libp2p(seeds: &mut Vec<Seed>) {
    let ed25519 = include_bytes!("../../crates/libp2p/src/testdata/tls-ed25519.der");
    put(seeds, "libp2p_certificate", "ed25519", *ed25519);
    put(
        seeds,
        "libp2p_certificate",
        "ecdsa",
        *include_bytes!("../../crates/libp2p/src/testdata/tls-ecdsa.der"),
    );
    put(
        seeds,
        "libp2p_certificate",
        "secp256k1",
        *include_bytes!("../../crates/libp2p/src/testdata/tls-secp256k1.der"),
    );
    put(
        seeds,
        "libp2p_certificate",
        "h6-forged",
        *include_bytes!("../../crates/libp2p/src/testdata/tls-forged.der"),
    );
    put(seeds, "libp2p_certificate", "h2-cut", &ed25519[..200]);
    put(seeds, "libp2p_certificate", "h8-long", [&ed25519[..], &[0; 4_000]].concat());
    let protocols = ["/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"].map(str::to_owned).to_vec();
    let (version, agent) = ("peerkeep/1".to_owned(), "a\x1b[2J".to_owned());
    let said = Identity { protocols, version, agent, ..Identity::default() }.emit(b"key");
    let listens = b"\x12\x08\x04\xc0\x00\x02\x01\x06\x0f\xa1";
    put(seeds, "libp2p_identify", "ours", [&said[..], listens].concat());
    put(seeds, "libp2p_identify", "twice", [&said[..], &said].concat());
    put(seeds, "libp2p_identify", "other-key", *b"\x0a\x01x");
    put(seeds, "libp2p_identify", "f3-empty", [0x1a, 0].repeat(500));
    put(seeds, "libp2p_identify", "f4-groups", [0x7b; 200]);
    for (name, encoding, key) in [
        ("hex", "base16", &[b'f'; 64][..]),
        ("base64", "base64", &[&[b'A'; 43][..], b"=\n"].concat()),
        ("bin", "bin", &[7; 32]),
        ("short", "base16", b"00"),
        ("unknown", "base32", b"AA"),
    ] {
        let head = format!("/key/swarm/psk/1.0.0/\n/{encoding}/\n");
        put(seeds, "libp2p_key_file", name, [head.as_bytes(), key].concat());
    }
    let head = [&[19][..], b"/multistream/1.0.0\n"].concat();
    let said = |names: &[u8]| [&[7][..], &head, names].concat();
    put(seeds, "libp2p_select", "noise", said(b"\x07/noise\n"));
    put(seeds, "libp2p_select", "tls", said(b"\x0d/unknown/9.9\n\x0b/tls/1.0.0\n"));
    put(seeds, "libp2p_select", "list", said(&b"\x03ls\n".repeat(40)));
    put(seeds, "libp2p_select", "h4-endless", said(&b"\x02/\n".repeat(390)));
    put(seeds, "libp2p_select", "h4-huge", said(&[&[0xff, 0x7f][..], &[b'/'; 1_100]].concat()));
    let payload = true_payload([7; 32], &["/yamux/1.0.0"]);
    put(seeds, "libp2p_noise", "payload", [&[2, 1][..], &payload].concat());
    put(seeds, "libp2p_noise", "i2-spelling", [&[2, 1][..], &payload, &[0x0a, 0x26, 0x08]].concat());
    let first = [&[0, 32][..], &[9; 32]].concat();
    put(seeds, "libp2p_noise", "first", [&[0, 5][..], &first].concat());
    put(seeds, "libp2p_noise", "h5-zero-key", [&[0, 255][..], &[0, 32], &[0; 32], &first].concat());
    put(seeds, "libp2p_noise", "h5-long", [0, 255, 0xff, 0xff]);
    put(seeds, "libp2p_noise", "h5-empty", [1, 255, 0, 0]);
    put(seeds, "libp2p_noise", "answer", [&[1, 255, 0, 112][..], &[9; 112]].concat());
}

/// One of each kind of control frame.
fn controls() -> Vec<(&'static str, Vec<u8>)> {
    let emit = |say| {
        let mut out = Vec::new();
        wire::emit(&Control { what: Some(say) }, &mut out);
        out
    };
    let known = |listen: &[&[u8]]| wire::Known {
        key: vec![3; 32],
        listen: listen.iter().map(|bytes| bytes.to_vec()).collect(),
    };
    let peers = vec![known(&[&[9, 9, 9, 9, 28, 162], &[1]]), known(&[]), known(&[&[0; 18]])];
    vec![
        ("ping", emit(Say::Ping(wire::Ping { nonce: 1 }))),
        ("pong", emit(Say::Pong(wire::Ping { nonce: 7 }))),
        ("goodbye", emit(Say::Goodbye(wire::Goodbye { reason: 3 }))),
        ("ask", emit(Say::Ask(wire::Ask {}))),
        ("peers", emit(Say::Peers(wire::Peers { peers }))),
        ("unknown", prefixed(&[0x7a, 0x01, 0x00])),
    ]
}

fn journals(seeds: &mut Vec<Seed>) {
    let mut segment = Vec::new();
    journal::begin(&actions::small(), 0, &mut segment);
    put(seeds, "journal_segment", "small", [&[0][..], &segment].concat());
    put(seeds, "journal_segment", "no-checkpoint", [&[0][..], &around(&[1, 0, 0, 0])].concat());
    put(seeds, "journal_segment", "version", [&[0][..], &around(&[9, 0, 0, 0])].concat());
    put(seeds, "journal_segment", "true", [1]);
    put(seeds, "journal_segment", "bent", [1, 255, 1, 0, 0, 1]);
    put(seeds, "journal_segment", "cut", [1, 255, 1, 0, 0, 0]);
    let mut checkpoint = Vec::new();
    actions::small().save(&mut checkpoint);
    put(seeds, "core_load", "small", [&[0][..], &checkpoint[4..]].concat());
    put(seeds, "core_load", "true", [1]);
    for at in [5_u32, 40, 100, 200, 300] {
        let bend = [&[1, 1][..], &at.to_le_bytes(), &[1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
        put(seeds, "core_load", format!("bent-{at}"), bend);
    }
    assert!(BUSY.0.len() > 300, "the busy core is busy");
    for (name, actions) in stories() {
        let mut bytes = vec![1];
        for (n, action) in (0..).zip(&actions) {
            let mut record = Vec::new();
            journal::append(0, Time::from_millis(n * 700), action, &mut record);
            let body = &record[8..];
            let long = body.len().checked_sub(255).and_then(|rest| u8::try_from(rest).ok());
            bytes.push(u8::try_from(body.len()).unwrap_or(u8::MAX));
            bytes.extend(long);
            bytes.extend_from_slice(body);
        }
        put(seeds, "journal_records", name, bytes);
    }
    put(seeds, "core_actions", "dial", [8, 1, 0, 0, 1, 1, 1, 0, 70, 0, 0, 1, 70, 0, 220, 220, 235, 6, 220]);
    put(seeds, "core_actions", "arrive", [24, 1, 150, 0, 3, 7, 70, 0, 4, 5, 1, 70, 0, 220, 235, 7, 220, 220]);
    let both = [8, 1, 0, 0, 8, 1, 1, 0, 150, 0, 8, 1, 70, 1, 8, 4, 1, 70, 0, 5, 5, 220, 70, 0, 70, 0, 220];
    put(seeds, "core_actions", "two-dials", both);
}

fn stories() -> Vec<(&'static str, Vec<Action>)> {
    let who = Who::mesh(B);
    let addrs = || [Addr::tcp(([192, 0, 2, 1], 7330).into())].into_iter().collect();
    let want = Action::Do(CommandId(1), Command::Want { who, addrs: addrs(), named: false });
    let remote = Addr::tcp(([192, 0, 2, 9], 1).into());
    let arrived = Action::Saw(Fact::Arrived { ticket: Ticket(1), stack: StackId::Mesh, remote });
    let ban = Command::Ban { target: peerkeep_core::Target::Key(B), span: None };
    let configure = Command::Configure(Box::new(actions::small().config().clone()));
    vec![
        ("want", vec![want.clone(), Action::Wake, Action::Wake]),
        ("arrive", vec![arrived, Action::Wake]),
        ("ban", vec![want, Action::Do(CommandId(2), ban), Action::Wake]),
        ("configure", vec![Action::Do(CommandId(1), configure), Action::Clock { unix_ms: u64::MAX }]),
    ]
}

fn stores(seeds: &mut Vec<Seed>) {
    let who = format!("mesh {ID}");
    let head = |kind: u8, flags: u8| vec![kind, 1, 2, 3, flags];
    let row = |kind, flags, text: &str| [head(kind, flags), text.as_bytes().to_vec()].concat();
    let peer = format!(
        "{who}\n[[\"/ip4/192.0.2.1/tcp/7330\",\"proven\"]]\n[\"/dns/example.org/tcp/1\"]\n\
         {{\"kind\":\"timeout\",\"step\":\"connect\",\"detail\":0,\"text\":\"x\"}}"
    );
    put(seeds, "store_rows", "peer", row(0, 5, &peer));
    put(seeds, "store_rows", "peer-empty", row(0, 0, &format!("{who}\n[]\n[]\n")));
    put(seeds, "store_rows", "ban", row(1, 0, "192.0.2.0/24"));
    put(seeds, "store_rows", "ban-id", row(1, 3, ID));
    put(
        seeds,
        "store_rows",
        "event",
        row(2, 0, &format!("{who}\n{{\"event\":\"discovered\",\"peer\":\"{ID}\"}}")),
    );
    put(seeds, "store_file", "sound", [0]);
    put(seeds, "store_file", "not-sqlite", *b"\x07this is no database");
    put(seeds, "store_file", "empty", [7]);
    put(seeds, "store_file", "head-bent", [0, 0, 0, 0, 0, 3, 1, 2, 3, 4]);
    put(seeds, "store_file", "cut", [0, 0, 20, 0, 0, 255]);
    put(seeds, "store_file", "leaf-bent", [0, 5, 48, 0, 0, 7, 255, 255, 255, 255, 255, 255, 255, 255]);
}
