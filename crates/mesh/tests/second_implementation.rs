//! Our node against `tests/python/mesh_peer.py`, a second implementation made from the page alone: in both directions,
//! as the old version, and with bad input. Skipped, loudly, without Python 3 and its `cryptography` package.

mod common;
use common::python::*;
use common::*;
use peerkeep_core::{Close, Fact, FaultKind, Violation};
use peerkeep_net::{Ended, MeetError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/mesh-protocol.md");

/// S1.18, with the two below: what the hello carries, byte by byte.
#[tokio::test]
async fn the_second_implementation_makes_the_same_vectors() {
    if !can_run() {
        return;
    }
    let mut python = Python::start(&["vectors", PAGE]);
    let said = python.until("vectors").await;
    assert_eq!(said["different"].as_array().expect("a list").len(), 0, "{said}");
    assert!(said["count"].as_u64() > Some(10));
}

/// S1.18, S1.22
#[tokio::test]
async fn it_dials_us_and_speaks() {
    if !can_run() {
        return;
    }
    local(async {
        let node = Node::new(1);
        node.book.known.lock().unwrap().push(known(9, "127.0.0.3:7330"));
        let mut incoming = node.registry.accept("echo", 1).unwrap();
        let numbers =
            ["--epoch", "1234", "--dial-number", "5", "--accepted", "99,4", "--listen", "10.1.1.1:80"];
        let words =
            [&numbers[..], &["--ping-every", "0.1", "--echo", "good day", "--goodbye", "11"]].concat();
        let (mut python, up) = dialled_by(&node, &words).await;
        let up = up.expect("up");
        let greeting = up.met.greeting.expect("numbers");
        assert_eq!((greeting.epoch, greeting.dial, greeting.accepted), (1234, 5, (99, 4)));
        assert_eq!((up.met.listen.len(), up.handle.info().agent.as_ref()), (1, "second/1"));
        let mut channel = soon(incoming.recv()).await.expect("a channel");
        let mut said = [0; 8];
        soon(channel.read_exact(&mut said)).await.unwrap();
        assert_eq!(&said, b"good day");
        channel.write_all(b"and to you").await.unwrap();
        assert_eq!(python.until("echo").await["text"], "and to you");
        assert_eq!(python.until("pong").await["known"], true);
        up.post.probe();
        python.until("ping").await;
        until(|| up.post.report().rtt_us > 0).await;
        assert_eq!(up.end().await, Ended::Goodbye(Close::Shutdown));
        let said = python.rest().await;
        assert!(has(&said, "ask") && has(&said, "peers"), "{said:?}");
    })
    .await;
}

/// S1.18
#[tokio::test]
async fn we_dial_it_and_speak() {
    if !can_run() {
        return;
    }
    local(async {
        let node = Node::new(1);
        let (mut python, up) = dialling(&node, &["--epoch", "777", "--seconds", "20"]).await;
        let up = up.expect("up");
        assert_eq!(up.met.greeting.expect("numbers").epoch, 777);
        let up_there = python.until("up").await;
        assert_eq!((up_there["epoch"].as_u64(), up_there["dial"].as_u64()), (Some(100), Some(1)));
        let mut channel = up.handle.open("echo").await.expect("opens");
        channel.write_all(b"there and back").await.unwrap();
        let mut back = [0; 14];
        soon(channel.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"there and back");
        assert!(up.handle.open("nothing").await.is_err());
        up.post.probe();
        until(|| up.post.report().rtt_us > 0).await;
        // A link that is replaced waits for its channels.
        drop(channel);
        assert_eq!(up.close(Close::Replaced).await, Ended::Asked);
        assert_eq!(python.until("goodbye").await["reason"], "replaced");
    })
    .await;
}

/// Fault G6.
#[tokio::test]
async fn s3_55_an_old_peer_dials_us_and_its_pings_are_answered() {
    if !can_run() {
        return;
    }
    local(async {
        let (mut python, up) =
            dialled_by(&Node::new(1), &["--versions", "1,1", "--ping-every", "0.05", "--seconds", "1"]).await;
        let up = up.expect("up");
        assert_eq!((up.handle.info().version, up.handle.info().exchange), (1, false));
        assert_eq!(python.until("pong").await["known"], true);
        assert_eq!(up.end().await, Ended::Goodbye(Close::Requested));
        let said = python.rest().await;
        assert!(!has(&said, "ask") && !has(&said, "unknown") && !has(&said, "ping"), "{said:?}");
    })
    .await;
}

/// Fault G6.
#[tokio::test]
async fn s3_55_we_dial_an_old_peer() {
    if !can_run() {
        return;
    }
    local(async {
        let words = ["--versions", "1,1", "--ping-every", "0.05", "--seconds", "20"];
        let (mut python, up) = dialling(&Node::new(1), &words).await;
        let up = up.expect("up");
        assert_eq!(up.handle.info().version, 1);
        assert_eq!(python.until("up").await["version"], 1);
        assert_eq!(python.until("pong").await["known"], true);
        assert!(up.handle.open("echo").await.is_ok());
        assert_eq!(up.close(Close::Idle).await, Ended::Asked);
        assert_eq!(python.until("goodbye").await["reason"], "idle");
    })
    .await;
}

#[tokio::test]
async fn each_side_tells_the_other_why_it_refuses() {
    if !can_run() {
        return;
    }
    local(async {
        let cases: [(&[&str], &str, FaultKind); 4] = [
            (&["--secret", "quite another secret"], "network", FaultKind::Network),
            (&["--bad", "no-proof"], "network", FaultKind::Network),
            (&["--network", "elsewhere"], "network", FaultKind::Network),
            (&["--versions", "3,9"], "version", FaultKind::Version),
        ];
        for (words, reason, kind) in cases {
            let (mut python, up) = dialled_by(&Node::new(1), words).await;
            assert_eq!(python.until("refused").await["reason"], reason);
            let error = up.map(|_| ()).unwrap_err();
            assert!(matches!(&error, MeetError::Fault(fault) if fault.kind == kind), "{error:?}");
        }
        for (words, code) in
            [(["--turn", "6"], 6), (["--versions", "3,9"], 2), (["--network", "elsewhere"], 1)]
        {
            let (_python, up) = dialling(&Node::new(1), &words).await;
            match up.map(|_| ()).unwrap_err() {
                MeetError::Declined { reason, key, .. } => {
                    assert_eq!(reason, "refused by the second implementation", "{code}");
                    assert!(key.is_some());
                }
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

/// Fault G6: fields of a later version are skipped.
#[tokio::test]
async fn bad_greetings_end_before_anything_is_up() {
    if !can_run() {
        return;
    }
    local(async {
        for (bad, expected) in [
            ("cut-hello", None),
            ("flip-hello", None),
            ("huge-frame", Some(Violation::TooLarge)),
            ("garbage", Some(Violation::Malformed)),
            ("two-hellos", Some(Violation::OutOfOrder)),
            ("confirm-first", Some(Violation::OutOfOrder)),
            ("old-epoch-zero", Some(Violation::Malformed)),
        ] {
            let (python, up) = dialled_by(&Node::new(1), &["--bad", bad]).await;
            let error = up.map(|_| ()).unwrap_err();
            if let Some(expected) = expected {
                assert!(
                    matches!(&error, MeetError::Violation(what) if *what == expected),
                    "{bad}: {error:?}"
                );
            }
            python.rest().await;
        }
        for bad in ["cut-hello", "flip-hello", "huge-frame", "garbage", "confirm-first"] {
            let (python, up) = dialling(&Node::new(1), &["--bad", bad]).await;
            assert!(up.is_err(), "{bad}");
            python.rest().await;
        }
        for fine in ["unknown-frame", "unknown-field"] {
            let (python, up) = dialled_by(&Node::new(1), &["--bad", fine, "--seconds", "0.2"]).await;
            assert_eq!(up.expect("fault F13: skipped").end().await, Ended::Goodbye(Close::Requested));
            python.rest().await;
        }
    })
    .await;
}

#[tokio::test]
async fn bad_manners_on_a_running_link_are_limited_and_reported() {
    if !can_run() {
        return;
    }
    local(async {
        let node = Node::new(1);
        for (bad, what) in [
            ("ping-flood", Some(Violation::TooMuch)),
            ("wrong-pong", None),
            ("two-controls", Some(Violation::OutOfOrder)),
        ] {
            let (python, up) = dialled_by(&node, &["--bad", bad, "--seconds", "1"]).await;
            let up = up.expect("up");
            if let Some(expected) = what {
                until(|| {
                    up.facts().iter().any(|f| matches!(f, Fact::Violated { what, .. } if *what == expected))
                })
                .await;
            }
            assert_eq!(
                up.end().await,
                Ended::Goodbye(Close::Requested),
                "{bad}: the core decides, not the link"
            );
            python.rest().await;
        }
        let (_python, up) = dialled_by(&node, &["--bad", "bad-control"]).await;
        assert_eq!(up.expect("up").end().await, Ended::Violation(Violation::TooLarge));
        let (_python, up) = dialled_by(&node, &["--bad", "bad-yamux"]).await;
        assert_eq!(up.expect("up").end().await, Ended::Violation(Violation::Malformed));
    })
    .await;
}

#[tokio::test]
async fn fault_f14_a_liar_that_tells_of_hundreds_of_peers_is_cut() {
    if !can_run() {
        return;
    }
    local(async {
        let (python, up) =
            dialled_by(&Node::new(1), &["--bad", "peers-flood", "--seconds", "1", "--ping-every", "0.3"])
                .await;
        let up = up.expect("up");
        let facts = up.facts.clone();
        assert_eq!(up.end().await, Ended::Goodbye(Close::Requested));
        let mut all = Vec::new();
        facts.take(&mut all);
        let learned = all.iter().filter(|fact| matches!(fact, Fact::Learned { .. })).count();
        assert!((64..70).contains(&learned), "640 told, {learned} taken");
        python.rest().await;
    })
    .await;
}

#[tokio::test]
async fn fault_c3_a_trickle_of_bytes_is_not_a_sign_of_life() {
    if !can_run() {
        return;
    }
    local(async {
        let (mut python, up) = dialled_by(&Node::new(1), &["--bad", "trickle", "--seconds", "2"]).await;
        let up = up.expect("up");
        python.until("up").await;
        let early = up.post.report().received_at;
        up.post.probe();
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        let late = up.post.report();
        assert_eq!(late.rtt_us, 0);
        assert!(
            late.received_at.since(early).as_millis() < 500,
            "bytes came all the time, whole frames did not"
        );
    })
    .await;
}
