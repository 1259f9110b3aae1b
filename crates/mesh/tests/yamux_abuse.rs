//! Yamux as no honest peer speaks it, over TLS and after a good hello, by `tests/python/mesh_peer.py`. Skipped, loudly,
//! without Python 3 and its `cryptography` package.

mod common;
use common::python::{can_run, dialled_by};
use common::*;
use peerkeep_core::{Fact, Violation};
use peerkeep_mesh::ChannelError;
use peerkeep_net::Ended;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn fault_f9_streams_without_end_are_capped_and_the_link_lives() {
    if !can_run() {
        return;
    }
    local(async {
        let node = Node::new(1);
        let mut incoming = node.registry.accept("echo", 500).unwrap();
        for bad in ["nameless-streams", "streams-without-end"] {
            let words = ["--bad", bad, "--seconds", "3", "--ping-every", "0.2"];
            let (mut python, up) = dialled_by(&node, &words).await;
            let up = up.expect("up");
            assert_eq!(python.until("pong").await["known"], true, "{bad}");
            up.post.probe();
            until(|| up.post.report().rtt_us > 0).await;
            assert!(up.post.report().channels <= 32, "{bad}: {:?}", up.post.report());
            let abused = |fact: &Fact| matches!(fact, Fact::Violated { what: Violation::StreamAbuse, .. });
            let facts = up.facts();
            assert_eq!(facts.iter().any(abused), bad == "nameless-streams", "{facts:?}");
            up.run.abort();
        }
        incoming.close();
    })
    .await;
}

/// An honest peer of the same node, which has to notice nothing.
async fn works_beside(up: &Up) {
    up.post.probe();
    let mut channel = up.handle.open("echo").await.expect("there is room for others");
    channel.shutdown().await.expect("closes");
}

/// Faults F8 and F10: windows that overflow, data beyond them, a frame of 4 GiB, ids that are zero, of the wrong side or
/// in use. The link ends by our own act, since this peer does not listen to what it is told, and is called a violation.
#[tokio::test]
async fn faults_f8_f10_frames_that_no_honest_peer_sends_end_the_link_and_are_called_so() {
    if !can_run() {
        return;
    }
    local(async {
        let (node, honest) = (Node::new(1), Node::new(2));
        let mut incoming = node.registry.accept("echo", 500).unwrap();
        let (beside, _kept) = link(&honest, &node).await;
        for bad in [
            "window-wrap",
            "window-wrap-syn",
            "beyond-window",
            "beyond-first-window",
            "frame-of-4-gib",
            "stream-zero",
            "wrong-parity",
            "id-twice",
        ] {
            let (_python, up) = dialled_by(&node, &["--bad", bad, "--seconds", "20"]).await;
            let up = up.expect("up");
            let expected = if bad == "frame-of-4-gib" { Violation::TooLarge } else { Violation::StreamAbuse };
            assert_eq!(up.end().await, Ended::Violation(expected), "{bad}");
            works_beside(&beside).await;
        }
        incoming.close();
    })
    .await;
}

/// Fault F9: streams beyond every limit, and ones that are opened and reset at once, named or not; and frames for
/// streams that are not there (fault F8), which are ignored. The link lives and the core is told what goes on.
#[tokio::test]
async fn fault_f9_floods_of_streams_and_resets_stay_bounded_and_are_called_so() {
    if !can_run() {
        return;
    }
    local(async {
        let (node, honest) = (Node::new(1), Node::new(2));
        let mut incoming = node.registry.accept("echo", 500).unwrap();
        let (beside, _kept) = link(&honest, &node).await;
        for bad in ["too-many-streams", "reset-flood", "channel-reset-flood", "unknown-streams"] {
            let words = ["--bad", bad, "--seconds", "20", "--ping-every", "0.2"];
            let (mut python, up) = dialled_by(&node, &words).await;
            let up = up.expect("up");
            assert_eq!(python.until("pong").await["known"], true, "{bad}");
            assert!(up.post.report().channels <= 32, "{bad}: {:?}", up.post.report());
            works_beside(&beside).await;
            let abused = |fact: &Fact| matches!(fact, Fact::Violated { what: Violation::StreamAbuse, .. });
            if bad == "unknown-streams" {
                up.post.probe();
                until(|| up.post.report().rtt_us > 0).await;
                assert!(!up.facts().iter().any(abused), "it may have crossed the end of a stream");
            } else {
                until(|| up.facts().iter().any(abused)).await;
            }
            assert!(!up.run.is_finished(), "{bad}: the core decides, not the link");
            up.run.abort();
        }
        incoming.close();
    })
    .await;
}

/// Fault F9: we open channels, and the peer's multiplexer never says a word about any.
#[tokio::test]
async fn fault_f9_a_peer_that_answers_no_stream_costs_the_channels_of_one_link() {
    if !can_run() {
        return;
    }
    local(async {
        let node = Node::new(1);
        let (_python, up) = dialled_by(&node, &["--bad", "answers-nothing", "--seconds", "30"]).await;
        let up = up.expect("up");
        let opens: Vec<_> = (0..100)
            .map(|_| {
                let handle = up.handle.clone();
                tokio::task::spawn_local(async move { handle.open("echo").await })
            })
            .collect();
        let mut silent = 0;
        for open in opens {
            let error = soon(open).await.expect("no panic").unwrap_err();
            assert!(matches!(error, ChannelError::TooMany | ChannelError::Timeout), "{error:?}");
            silent += usize::from(error == ChannelError::Timeout);
            assert!(up.post.report().channels <= 32);
        }
        assert_eq!(silent, 32, "as many as a link has, each until its timeout");
        up.post.probe();
        until(|| up.post.report().rtt_us > 0).await;
        until(|| up.post.report().channels == 0).await;
    })
    .await;
}
