//! The log about ends, as whoever looks closer reads it. The log belongs to the process, so this file has one test.

mod common;

use common::way::Way;
use common::*;
use peerkeep::{CloseReason, EventKind, LivenessMode, Node, Target};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// S1.38, S1.64 and S1.72: every end is in the log with its peer and reason, who was silent for too long at WARN, and
/// what became of each goodbye at DEBUG.
#[tokio::test]
async fn s1_38_s1_64_s1_72_each_disconnect_and_goodbye_is_logged_with_peer_and_reason() {
    let page = tempfile::NamedTempFile::new().expect("a file");
    let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
    lines.with_writer(page.reopen().expect("a file")).init();
    let quick = |host| {
        let mut settings = settings(host);
        settings.peers.exchange = false;
        settings.peers.target = 0;
        settings.liveness.mode = LivenessMode::Ping;
        settings.timeouts.goodbye = Duration::from_millis(500);
        settings
    };
    let mut impatient = quick(1);
    impatient.liveness.silence = Duration::from_millis(700);
    impatient.liveness.deadline = Duration::from_millis(700);
    impatient.limits.inbound = 50;
    let a = node(1, impatient.clone()).await;
    let mut others = Vec::new();
    let mut ways = Vec::new();
    for number in 2..8 {
        let other = node(number, quick(number)).await;
        let way = Way::to(&other).await;
        a.connect(way.address(&other), PATIENCE).await.expect("connects");
        connected(&a, &other).await;
        others.push(other);
        ways.push(way);
    }
    let [asked, stopped, banned, rude, hung, silent] = &others[..] else { panic!("six") };
    let mut events = a.events();
    a.disconnect(asked.id()).await.expect("is accepted");
    stopped.shutdown().await;
    a.ban(Target::Key(banned.id().key()), None).await.expect("is accepted");
    rude.open(a.id(), "peerkeep/mail").await.expect("opens").write_all(&[0; 64]).await.expect("takes bytes");
    // Its goodbye is not answered: the way is frozen just before.
    ways[4].freeze(true);
    a.disconnect(hung.id()).await.expect("is accepted");
    ways[5].freeze(true);
    let mut ends = Vec::new();
    while ends.len() < 6 {
        let lost = until(&mut events, "an end", |event| matches!(event, EventKind::Lost { .. })).await;
        let EventKind::Lost { peer, reason, .. } = lost.what else { unreachable!("was matched") };
        ends.push((peer, reason));
    }
    for (node, reason) in [
        (asked, CloseReason::Requested),
        (stopped, CloseReason::Shutdown),
        (banned, CloseReason::Banned),
        (rude, CloseReason::Violation),
        (hung, CloseReason::Requested),
        (silent, CloseReason::Dead),
    ] {
        assert!(ends.contains(&(node.id(), reason)), "{reason} of {}: {ends:?}", node.id());
        status(&a, node.id(), "its socket is closed", |peer| peer.link.is_none()).await;
    }
    a.shutdown().await;
    for way in &ways {
        way.freeze(false);
    }
    for node in others.iter().map(Node::clone) {
        node.shutdown().await;
    }

    let page = std::fs::read_to_string(page.path()).expect("is text");
    let about = |level: &str, peer: &Node, text: &str| -> Vec<&str> {
        let id = format!("peer={}", peer.id());
        page.lines().filter(|l| l.contains(level) && l.contains(&id) && l.contains(text)).collect()
    };
    for (peer, text, reason) in [
        (asked, "disconnected", "reason=it was asked for"),
        (hung, "disconnected", "reason=it was asked for"),
        (stopped, "connection lost", "reason="),
        (banned, "connection lost", "reason="),
        (rude, "connection lost", "reason="),
        (silent, "connection lost", "reason=the other end no longer answers"),
    ] {
        let told = about(" INFO ", peer, text);
        assert!(told.len() == 1 && told[0].contains(reason), "{text}: {told:?}\n{page}");
    }
    let inactive = about(" WARN ", silent, "inactive, disconnecting");
    assert!(inactive.len() == 1 && inactive[0].contains("silence=2s"), "{inactive:?}");
    assert_eq!(page.matches("inactive, disconnecting").count(), 1, "nobody else was silent");

    // The goodbyes of this node: by the connection, because that is what the link's task knows.
    let conn = |peer: &Node| {
        let line = about(" INFO ", peer, " connected ").first().copied().unwrap_or_else(|| panic!("{page}"));
        let (_, rest) = line.split_once(" conn=").expect("its connection");
        rest.split(' ').next().expect("a word").to_owned()
    };
    let goodbye = |peer: &Node, why: &str| {
        let conn = format!("conn={} why={why} ", conn(peer));
        let fits = |l: &&str| l.contains(" DEBUG ") && l.contains(&conn) && l.contains("goodbye=");
        page.lines().filter(fits).map(str::to_owned).collect::<Vec<_>>()
    };
    for (peer, why, fate) in [
        (asked, "Requested", "goodbye=\"sent and answered\""),
        (banned, "Banned", "goodbye=\"sent and answered\""),
        (rude, "Violation", "goodbye=\"sent and answered\""),
        (hung, "Requested", "goodbye=\"sent and not answered\""),
        (silent, "Dead", "goodbye=\"sent and not answered\""),
    ] {
        let told = goodbye(peer, why);
        assert!(told.len() == 1 && told[0].contains(fate), "{fate}: {told:?}\n{page}");
    }
}
