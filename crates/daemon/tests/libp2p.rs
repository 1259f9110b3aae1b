//! The libp2p side of a daemon, and the commands that visit a libp2p node without one.
#![allow(missing_docs)]

mod common;

use common::{Home, Said, command, run};
use peerkeep::{Identity, Node, PeerAddress, Settings, Stack};
use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;

/// A daemon's configuration with libp2p on a free port.
fn speaking(home: &Home) -> String {
    let path = home.folder.path().join("libp2p.toml");
    let text = format!("[libp2p]\nenabled = true\nlisten = [\"{}:0\"]\n", home.ip);
    fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// The libp2p address of a running daemon: over TCP or over QUIC, as `status` prints it.
fn libp2p_address(home: &Home, part: &str) -> String {
    let status = home.ask(&["status", "--json"]).expect(0).json();
    let all = status["addresses"].as_array().expect("a list").iter().filter_map(|text| text.as_str());
    let mut fitting = all.filter(|text| text.starts_with("libp2p:") && text.contains(part));
    fitting.next().unwrap_or_else(|| panic!("{status}")).to_owned()
}

#[test]
fn a_daemon_is_pinged_over_tcp_and_quic_by_a_command_that_needs_none() {
    let home = Home::new(61);
    let _daemon = home.start(&["--config", &speaking(&home)]);
    for (part, transport) in [("/tcp/", "tcp"), ("/quic-v1", "quic")] {
        let address = libp2p_address(&home, part);
        let said = run(&["ping", &address, "--count", "2", "--interval", "10ms", "--json"]).expect(0).json();
        assert_eq!(
            (said["transport"].as_str(), said["rtt_ms"].as_array().map(Vec::len)),
            (Some(transport), Some(2))
        );
        let plain = address.strip_prefix("libp2p:").expect("it has");
        let said = run(&["ping", plain, "--count", "1"]).expect(0).out;
        assert!(said.contains("1 of 1 answered"), "{said}");
    }
}

#[test]
fn a_visit_that_fails_says_why_and_what_to_do() {
    let home = Home::new(62);
    let _daemon = home.start(&["--config", &speaking(&home)]);
    let address = libp2p_address(&home, "/tcp/");
    let (place, _) = address.rsplit_once("/p2p/").expect("an identity");
    let stranger = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let said = run(&["ping", &format!("{place}/p2p/{stranger}"), "--wait", "2s"]).expect(1);
    assert!(said.err.contains("another identity"), "{said:?}");
    let said = run(&["ping", stranger]).expect(13);
    assert!(said.err.contains("give its address"), "{said:?}");
    let said = run(&["channel", "open", &address, "/no/1"]).expect(4);
    assert!(said.err.contains("does not speak /no/1"), "{said:?}");
    run(&["channel", "open", &address, "no"]).expect(2);
}

/// The other end is a node of this test's own that echoes.
#[test]
fn a_channel_carries_what_is_typed_and_what_comes_back() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (node, address) = runtime.block_on(async {
        let mut settings = Settings::default();
        settings.listen.addresses.clear();
        settings.libp2p.enabled = true;
        settings.libp2p.listen = vec![([127, 0, 0, 63], 0).into()];
        let identity = Identity::from_seed(&[63; 32]);
        let node = Node::builder().identity(identity).config(settings).start().await.expect("starts");
        let speaks = |address: &PeerAddress| address.stack == Some(Stack::Libp2p);
        let address = node.addresses().into_iter().find(speaks).expect("it listens").to_string();
        (node, address)
    });
    let mut incoming = node.accept("/echo/1.0.0").expect("free");
    runtime.spawn(async move {
        while let Some((_, channel)) = incoming.next().await {
            let (mut from, mut to) = tokio::io::split(channel);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        }
    });
    let mut program = command();
    program.args(["channel", "open", &address, "/echo/1.0.0"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = program.stderr(Stdio::piped()).spawn().expect("runs");
    child.stdin.take().expect("piped").write_all(b"hello\nthere\n").expect("written");
    let said = Said::of(child.wait_with_output().expect("ends")).expect(0);
    assert_eq!(said.out, "hello\nthere\n");
    runtime.block_on(node.shutdown());
}

/// The commands and the words are those of every stack.
#[test]
fn two_daemons_meet_over_libp2p_and_are_asked_the_usual_way() {
    let (one, other) = (Home::new(64), Home::new(65));
    let (_one, _other) =
        (one.start(&["--config", &speaking(&one)]), other.start(&["--config", &speaking(&other)]));
    let address = libp2p_address(&other, "/tcp/");
    let id = address.rsplit_once('/').expect("an identity").1.to_owned();
    assert_eq!(one.ask(&["connect", &address, "--json"]).expect(0).json()["outcome"], "connected");
    let peer = one.ask(&["peer", &id, "--json"]).expect(0).json();
    assert_eq!(peer["stacks"], serde_json::json!(["libp2p"]), "{peer}");
    let why = one.ask(&["why", &id]).expect(0).out;
    assert!(why.contains("Connected"), "{why}");
    one.ask(&["ban", &id, "--for", "1h"]).expect(0);
    let refused = one.ask(&["connect", &address, "--no-queue"]).expect(11);
    assert!(refused.err.contains("banned"), "{refused:?}");
    one.ask(&["unban", &id]).expect(0);
}
