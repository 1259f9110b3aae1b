//! The test vectors in `docs/mesh-protocol.md`, made from the code. Run with `UPDATE_VECTORS=1` to write them.

use peerkeep_core::{Addr, Greeting, PeerKey, Refusal};
use peerkeep_mesh::handshake::{Acceptor, Dialler, Local, emit_turn};
use peerkeep_mesh::proof::{Claim, Side, network_id};
use peerkeep_mesh::wire::{self, Control, Handshake, Known, Say, emit, emit_addr, parse};
use peerkeep_mesh::{Identity, MeshConfig, Secret};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/mesh-protocol.md");
const BEGIN: &str = "<!-- vectors -->\n```text\n";
const END: &str = "```\n<!-- end of vectors -->";

fn addr(text: &str) -> Addr {
    Addr::tcp(text.parse().expect("an address"))
}

fn local(me: PeerKey) -> Arc<Local> {
    let config = MeshConfig {
        network: "lab".into(),
        secret: Secret::new(vec![7; 32]).ok(),
        agent: "vector/1".into(),
        ..MeshConfig::default()
    };
    config.listen.set([addr("192.0.2.1:7330"), addr("[2001:db8::1]:7330")]);
    Arc::new(Local::new(me, &config))
}

fn control(say: Say) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&Control { what: Some(say) }, &mut out);
    out
}

fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    let (a, b) =
        (Identity::from_seed(&[1; 32]).expect("an identity"), Identity::from_seed(&[2; 32]).expect("one"));
    let (network, secret) = (network_id("lab"), Secret::new(vec![7; 32]).expect("long enough"));
    let (dialler, acceptor) = (a.key(), b.key());
    let claim =
        |side| Claim { side, network: &network, dialler: &dialler, acceptor: &acceptor, nonce: &[5; 16] };
    let greeting = Greeting { epoch: 1_790_000_000, dial: 3, accepted: (1_780_000_000, 2), replaces: false };
    let (mut hello, mut answer, mut confirm, mut refusal) = (vec![], vec![], vec![], vec![]);
    Dialler::start(local(dialler), acceptor, addr("198.51.100.2:7330"), &greeting, [5; 16], &mut hello)
        .expect("allowed");
    let mut machine = Acceptor::new(local(acceptor), dialler, addr("192.0.2.1:50000"));
    let (frame, _) = parse::<Handshake>(&hello, 4096).expect("reads").expect("whole");
    machine.handle(frame).expect("holds");
    let numbers = Greeting { epoch: 1_780_000_000, dial: 0, accepted: (1_790_000_000, 3), replaces: false };
    machine.answer(&numbers, &mut answer);
    Dialler::confirm(&mut confirm);
    emit_turn(&Refusal::Stale { newer: 1_790_000_001 }, Duration::from_millis(1500), &mut refusal);
    let ping = wire::Ping { nonce: 0x0102_0304_0506_0708 };
    let known = Known { key: vec![9; 32], listen: vec![emit_addr(&addr("192.0.2.9:7330"))] };
    vec![
        ("dialler_key", dialler.bytes.to_vec()),
        ("acceptor_key", acceptor.bytes.to_vec()),
        ("dialler_certificate", a.certificate().to_vec()),
        ("network_id", network.to_vec()),
        ("dialler_proof", claim(Side::Dialler).prove(&secret)),
        ("acceptor_proof", claim(Side::Acceptor).prove(&secret)),
        ("hello", hello),
        ("answer", answer),
        ("confirm", confirm),
        ("refusal", refusal),
        ("ping", control(Say::Ping(ping))),
        ("pong", control(Say::Pong(ping))),
        ("goodbye", control(Say::Goodbye(wire::Goodbye { reason: 11 }))),
        ("ask", control(Say::Ask(wire::Ask {}))),
        ("peers", control(Say::Peers(wire::Peers { peers: vec![known] }))),
    ]
}

fn block() -> String {
    let mut text = String::new();
    for (name, bytes) in vectors() {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let _ = writeln!(text, "{name}");
        for line in hex.as_bytes().chunks(100) {
            let _ = writeln!(text, " {}", std::str::from_utf8(line).expect("hex"));
        }
    }
    text
}

#[test]
fn the_page_shows_what_the_code_says() {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let begin = page.find(BEGIN).expect("a place for vectors") + BEGIN.len();
    let end = begin + page[begin..].find(END).expect("an end of vectors");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        let page = format!("{}{}{}", &page[..begin], block(), &page[end..]);
        std::fs::write(PAGE, page).expect("writes");
        return;
    }
    assert_eq!(&page[begin..end], block(), "run the test with UPDATE_VECTORS=1 and look at the difference");
}
