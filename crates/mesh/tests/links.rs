//! Two nodes over real sockets: the greeting, channels, messages, pings, goodbyes, peer exchange.

mod common;
use common::*;
use peerkeep_core::{Close, Fact, FaultKind, Source, Time, Violation, Who};
use peerkeep_mesh::{ChannelError, SendError};
use peerkeep_net::Ended;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn both_sides_prove_their_keys_and_exchange_their_numbers() {
    local(async {
        let (a, b) =
            (Node::new(1), Node::with(2, |c| c.listen.set([addr("10.0.0.9:7330".parse().unwrap())])));
        let (dialler, acceptor) = link(&a, &b).await;
        assert_eq!((dialler.met.key, acceptor.met.key), (b.key(), a.key()));
        let heard = acceptor.met.greeting.expect("a hello has numbers");
        assert_eq!((heard.epoch, heard.dial), (100, 1));
        let answered = dialler.met.greeting.expect("an answer has numbers");
        assert_eq!((answered.epoch, answered.accepted), (200, (100, 1)));
        assert_eq!(dialler.met.listen.len(), 1);
        assert_eq!(dialler.handle.info().version, 2);
        assert!(dialler.handle.info().agent.starts_with("peerkeep/"));
        assert_eq!(a.book.seen.lock().unwrap().len(), 1, "the address they see us at");
    })
    .await;
}

#[tokio::test]
async fn a_probe_is_answered_and_measured_and_is_no_use() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (dialler, acceptor) = link(&a, &b).await;
        for up in [&dialler, &acceptor] {
            let before = up.post.report();
            up.post.probe();
            let answered =
                |now: peerkeep_core::Report| now.rtt_us > 0 && now.received_at > before.received_at;
            until(|| answered(up.post.report())).await;
            assert_eq!(up.post.report().used_at, before.used_at);
        }
    })
    .await;
}

#[tokio::test]
async fn goodbye_carries_the_reason_both_ways() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (dialler, acceptor) = link(&a, &b).await;
        assert_eq!(dialler.close(Close::Idle).await, Ended::Asked);
        assert_eq!(acceptor.end().await, Ended::Goodbye(Close::Idle));
        let (dialler, acceptor) = link(&a, &b).await;
        assert_eq!(acceptor.close(Close::Shutdown).await, Ended::Asked);
        assert_eq!(dialler.end().await, Ended::Goodbye(Close::Shutdown));
    })
    .await;
}

#[tokio::test]
async fn goodbye_is_bounded_in_time_when_the_other_side_is_silent() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (dialled, accepted) = sockets().await;
        let silent = async {
            let remote = accepted.peer_addr().unwrap();
            let (_, meeting) =
                peerkeep_net::Stack::meet(&b.stack, peerkeep_net::Io::Tcp(accepted), accept_terms(remote))
                    .await
                    .expect("meets");
            peerkeep_net::Meeting::settle(meeting, admit()).await.expect("settles")
        };
        let (dialler, _never_run) = tokio::join!(dial(&a, Some(b.key()), dialled), silent);
        let dialler = dialler.expect("up");
        let begun = tokio::time::Instant::now();
        dialler.post.close(Close::Requested, Time::from_millis(200));
        assert_eq!(dialler.end().await, Ended::Asked);
        assert!(begun.elapsed() < Duration::from_secs(5));
    })
    .await;
}

#[tokio::test]
async fn a_channel_carries_bytes_both_ways_and_counts_as_use() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut incoming = b.registry.accept("echo", 4).unwrap();
        let (dialler, acceptor) = link(&a, &b).await;
        let before = acceptor.post.report().used_at;
        let mut near = dialler.handle.open("echo").await.expect("opens");
        let mut far = soon(incoming.recv()).await.expect("arrives");
        assert_eq!((far.peer(), far.protocol()), (a.key(), "echo"));
        until(|| dialler.post.report().channels == 1 && acceptor.post.report().channels == 1).await;
        let echo = tokio::task::spawn_local(async move {
            let (mut read, mut write) = tokio::io::split(&mut far);
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let (mut read, mut write) = tokio::io::split(&mut near);
        let mut got = Vec::new();
        let (wrote, read) = soon(async {
            tokio::join!(
                async {
                    write.write_all(&sent).await.unwrap();
                    write.shutdown().await
                },
                read.read_to_end(&mut got)
            )
        })
        .await;
        wrote.unwrap();
        read.unwrap();
        assert!(got == sent, "every byte in order");
        echo.await.unwrap();
        drop(near);
        until(|| dialler.post.report().channels == 0 && acceptor.post.report().channels == 0).await;
        assert!(acceptor.post.report().used_at > before);
    })
    .await;
}

#[tokio::test]
async fn a_channel_opened_at_once_needs_no_round_trip_before_its_first_byte() {
    local(async {
        let (a, b) = (Node::with(1, |c| c.max_channels = 2), Node::new(2));
        let mut incoming = b.registry.accept("one", 1).unwrap();
        let (dialler, acceptor) = link(&a, &b).await;
        let counts = || (dialler.post.report().channels, acceptor.post.report().channels);
        // The first one is made for it, later ones are laid out.
        for round in 0..3_u8 {
            let mut near = soon(dialler.handle.open_at_once("one")).await.expect("opens");
            near.write_all(&[round; 9_000]).await.unwrap();
            let mut far = soon(incoming.recv()).await.expect("arrives");
            let mut heard = [9; 9_000];
            soon(far.read_exact(&mut heard)).await.unwrap();
            assert!(heard == [round; 9_000], "every byte, and none of the name");
            far.write_all(b"yes").await.unwrap();
            let mut answer = [0; 3];
            soon(near.read_exact(&mut answer)).await.unwrap();
            assert_eq!(&answer, b"yes");
        }
        until(|| counts() == (0, 0)).await;
        // Who listens first has asked, too.
        let mut listens = soon(dialler.handle.open_at_once("one")).await.expect("opens");
        let mut answer = [0; 1];
        let (far, read) = soon(async {
            let say = async {
                let mut far = incoming.recv().await.expect("arrives");
                far.write_all(b"!").await.unwrap();
                far
            };
            tokio::join!(say, listens.read_exact(&mut answer))
        })
        .await;
        assert!(read.is_ok() && answer == *b"!");
        let word = |error: std::io::Error| {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
            *error.get_ref().and_then(|inner| inner.downcast_ref::<ChannelError>()).expect("a word")
        };
        let mut nobody = soon(dialler.handle.open_at_once("none")).await.expect("nobody was asked");
        assert_eq!(word(soon(nobody.read_u8()).await.unwrap_err()), ChannelError::Unknown);
        assert_eq!(dialler.handle.open_at_once("one").await.unwrap_err(), ChannelError::TooMany);
        drop((listens, far));
        drop(nobody);
        let waits = soon(dialler.handle.open("one")).await.expect("room for one");
        let mut busy = soon(dialler.handle.open_at_once("one")).await.expect("nobody was asked");
        assert_eq!(word(soon(busy.read_u8()).await.unwrap_err()), ChannelError::Busy);
        // One that never said a word leaves nothing behind.
        drop((waits, busy));
        drop(soon(dialler.handle.open_at_once("one")).await.expect("opens"));
        until(|| counts().0 == 0).await;
        assert_eq!(dialler.handle.open_at_once("").await.unwrap_err(), ChannelError::Name);
    })
    .await;
}

/// Fault R2.
#[tokio::test]
async fn unknown_busy_and_too_many_channels_are_told_apart() {
    local(async {
        let (a, b) = (Node::with(1, |c| c.max_channels = 3), Node::new(2));
        let _incoming = b.registry.accept("one", 1).unwrap();
        let (dialler, _acceptor) = link(&a, &b).await;
        assert_eq!(dialler.handle.open("none").await.unwrap_err(), ChannelError::Unknown);
        assert_eq!(dialler.handle.open("").await.unwrap_err(), ChannelError::Name);
        assert_eq!(dialler.handle.open(&"x".repeat(129)).await.unwrap_err(), ChannelError::Name);
        let _first = dialler.handle.open("one").await.expect("room for one");
        assert_eq!(dialler.handle.open("one").await.unwrap_err(), ChannelError::Busy);
        let mut far = b.registry.accept("more", 9).unwrap();
        let _second = dialler.handle.open("more").await.expect("opens");
        let _third = dialler.handle.open("more").await.expect("opens");
        assert_eq!(dialler.handle.open("more").await.unwrap_err(), ChannelError::TooMany);
        drop(_third);
        let _fourth = dialler.handle.open("more").await.expect("a seat is free again");
        assert!(far.recv().await.is_some());
    })
    .await;
}

#[tokio::test]
async fn fault_c12_a_channel_that_nobody_reads_stalls_no_other() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut incoming = b.registry.accept("data", 4).unwrap();
        let (dialler, acceptor) = link(&a, &b).await;
        let mut stuck = dialler.handle.open("data").await.expect("opens");
        let _unread = incoming.recv().await.expect("arrives");
        let flood = tokio::task::spawn_local(async move {
            let block = vec![0; 64 * 1024];
            while stuck.write_all(&block).await.is_ok() {}
        });
        let mut live = dialler.handle.open("data").await.expect("opens");
        let mut far = incoming.recv().await.expect("arrives");
        for _ in 0..200 {
            live.write_all(b"ping").await.unwrap();
            let mut got = [0; 4];
            soon(far.read_exact(&mut got)).await.unwrap();
        }
        acceptor.post.probe();
        until(|| acceptor.post.report().rtt_us > 0).await;
        flood.abort();
    })
    .await;
}

#[tokio::test]
async fn messages_arrive_in_order_on_their_topic() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut news = b.registry.messages("news", 256).unwrap();
        let (dialler, _acceptor) = link(&a, &b).await;
        for number in 0..100u32 {
            dialler.handle.send("news", number.to_be_bytes().to_vec().into()).unwrap();
            dialler.handle.send("other", vec![0; 10].into()).unwrap();
        }
        for number in 0..100u32 {
            let message = soon(news.recv()).await.unwrap();
            assert_eq!((message.from, &message.payload[..]), (a.key(), &number.to_be_bytes()[..]));
        }
        until(|| dialler.handle.queued_bytes() == 0).await;
        assert_eq!(dialler.handle.send("", vec![].into()), Err(SendError::TooLarge));
        assert_eq!(dialler.handle.send("x", vec![0; 300_000].into()), Err(SendError::TooLarge));
    })
    .await;
}

/// Fault R2 as well.
#[tokio::test]
async fn fault_c2_a_peer_that_does_not_read_fills_its_own_budget_and_no_other() {
    local(async {
        let (a, b, c) = (Node::new(1), Node::new(2), Node::new(3));
        let (dialled, accepted) = sockets().await;
        let remote = accepted.peer_addr().unwrap();
        let stuck = async {
            let (_, meeting) =
                peerkeep_net::Stack::meet(&b.stack, peerkeep_net::Io::Tcp(accepted), accept_terms(remote))
                    .await
                    .expect("meets");
            peerkeep_net::Meeting::settle(meeting, admit()).await.expect("settles")
        };
        let (slow, _never_run) = tokio::join!(dial(&a, Some(b.key()), dialled), stuck);
        let slow = slow.expect("up");
        let mut news = c.registry.messages("news", 1024).unwrap();
        let (fast, _other) = link(&a, &c).await;
        let payload = bytes::Bytes::from(vec![7; 64 * 1024]);
        let (mut full, mut delivered) = (0, 0);
        for _ in 0..200 {
            full +=
                u32::from(matches!(slow.handle.send("news", payload.clone()), Err(SendError::Full { .. })));
            fast.handle.send("news", payload.clone()).expect("the other has room");
            soon(news.recv()).await.expect("arrives");
            delivered += 1;
        }
        assert_eq!(delivered, 200);
        assert!(full > 150, "{full}");
        assert!(slow.handle.queued_bytes() <= 1024 * 1024);
    })
    .await;
}

#[tokio::test]
async fn fault_c10_both_sides_can_write_more_than_every_buffer_at_once() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut incoming = b.registry.accept("bulk", 1).unwrap();
        let (dialler, _acceptor) = link(&a, &b).await;
        let near = dialler.handle.open("bulk").await.expect("opens");
        let far = incoming.recv().await.expect("arrives");
        let push = |mut channel: peerkeep_mesh::Channel| async move {
            let block = vec![1; 2_000_000];
            let (mut read, mut write) = tokio::io::split(&mut channel);
            let mut got = vec![0; 2_000_000];
            tokio::join!(async { write.write_all(&block).await.unwrap() }, async {
                read.read_exact(&mut got).await.unwrap();
            });
        };
        soon(async { tokio::join!(push(near), push(far)) }).await;
    })
    .await;
}

#[tokio::test]
async fn fault_c4_a_channel_whose_link_breaks_is_reset_not_ended() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut incoming = b.registry.accept("data", 1).unwrap();
        let (dialler, acceptor) = link(&a, &b).await;
        let mut near = dialler.handle.open("data").await.expect("opens");
        let mut far = incoming.recv().await.expect("arrives");
        near.write_all(b"half a mess").await.unwrap();
        let mut got = [0; 11];
        far.read_exact(&mut got).await.unwrap();
        dialler.run.abort();
        let end = acceptor.end().await;
        assert!(
            matches!(end, Ended::Fault(f) if matches!(f.kind, FaultKind::Closed | FaultKind::Reset)),
            "{end:?}"
        );
        let error = soon(far.read(&mut got)).await.expect_err("a loss");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(near.write_all(b"x").await.is_err());
        assert!(dialler.handle.is_ended());
        assert_eq!(dialler.handle.open("data").await.unwrap_err(), ChannelError::Closed);
        assert_eq!(dialler.handle.send("x", vec![].into()), Err(SendError::Closed));
    })
    .await;
}

#[tokio::test]
async fn peers_are_asked_for_after_the_confirm_and_told_again_when_there_are_new_ones() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        b.book.known.lock().unwrap().push(known(9, "127.0.0.3:7330"));
        let (dialler, acceptor) = link(&a, &b).await;
        let mut facts = Vec::new();
        until(|| {
            facts.extend(dialler.facts());
            !facts.is_empty()
        })
        .await;
        let (key, addrs) = known(9, "127.0.0.3:7330");
        assert_eq!(facts, [Fact::Learned { who: Who::mesh(key), addrs, source: Source::Gossip }]);
        b.book.known.lock().unwrap().push(known(8, "127.0.0.4:7330"));
        acceptor.handle.announce();
        until(|| {
            facts.extend(dialler.facts());
            facts.len() == 3
        })
        .await;
        acceptor.handle.announce();
        acceptor.post.probe();
        until(|| acceptor.post.report().rtt_us > 0).await;
        assert!(dialler.facts().is_empty(), "the same is not told twice");
    })
    .await;
}

#[tokio::test]
async fn fault_f14_a_source_that_tells_too_much_is_cut_also_when_it_comes_back() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut learned = 0;
        for round in 0..8u8 {
            let fresh = (0..16).map(|n| known(100 + n, &format!("127.0.{round}.{}:80", n + 1)));
            *b.book.known.lock().unwrap() = fresh.collect();
            let (dialler, acceptor) = link(&a, &b).await;
            dialler.post.probe();
            until(|| dialler.post.report().rtt_us > 0).await;
            acceptor.post.probe();
            until(|| acceptor.post.report().rtt_us > 0).await;
            learned += dialler.facts().iter().filter(|fact| matches!(fact, Fact::Learned { .. })).count();
            assert_eq!(dialler.close(Close::Requested).await, Ended::Asked);
            acceptor.end().await;
        }
        assert!((64..80).contains(&learned), "the burst and little more: {learned}");
    })
    .await;
}

#[tokio::test]
async fn an_old_version_has_channels_and_pings_but_no_messages() {
    local(async {
        for (a, b) in [
            (Node::with(1, |c| c.versions = (1, 1)), Node::new(2)),
            (Node::new(1), Node::with(2, |c| c.versions = (1, 1))),
        ] {
            let mut incoming = b.registry.accept("echo", 1).unwrap();
            let (dialler, _acceptor) = link(&a, &b).await;
            assert_eq!(dialler.handle.info().version, 1);
            dialler.handle.open("echo").await.expect("opens");
            incoming.recv().await.expect("arrives");
            dialler.post.probe();
            until(|| dialler.post.report().rtt_us > 0).await;
            assert_eq!(dialler.handle.send("x", vec![1].into()), Err(SendError::Unsupported));
        }
    })
    .await;
}

#[tokio::test]
async fn a_broken_control_channel_is_a_violation() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut incoming = a.registry.accept("x", 1).unwrap();
        let (dialler, acceptor) = link(&a, &b).await;
        let _ = acceptor.handle.open("x").await.expect("opens");
        incoming.recv().await.expect("arrives");
        let second = dialler.handle.open("peerkeep/control").await;
        assert!(second.is_err());
        until(|| {
            acceptor.facts().iter().any(|f| matches!(f, Fact::Violated { what: Violation::OutOfOrder, .. }))
        })
        .await;
    })
    .await;
}

/// Leaves in one record with the link's first frames.
const CONFIRM_BYTES: u64 = 4;

#[tokio::test]
async fn s3_48_an_idle_link_says_nothing_by_itself() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (dialler, acceptor) = link(&a, &b).await;
        dialler.post.probe();
        until(|| dialler.post.report().rtt_us > 0).await;
        let count = |up: &Up| (up.post.bytes().sent(), up.post.bytes().received());
        // What was said on both sides has arrived; the confirm went before the frames that are counted here.
        let confirm = || count(&dialler).0 - count(&acceptor).1;
        until(|| count(&acceptor).0 == count(&dialler).1 && confirm() == CONFIRM_BYTES).await;
        let before = (count(&dialler), count(&acceptor));
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!((count(&dialler), count(&acceptor)), before);
    })
    .await;
}

#[tokio::test]
async fn fault_d7_a_node_that_dials_itself_meets_its_own_key() {
    local(async {
        let a = Node::new(1);
        let (dialler, acceptor) = link(&a, &a).await;
        assert_eq!((dialler.met.key, acceptor.met.key), (a.key(), a.key()));
    })
    .await;
}

#[tokio::test]
async fn new_settings_hold_for_the_next_handshake_and_bad_ones_for_none() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (dialler, _acceptor) = link(&a, &b).await;
        let mut config = peerkeep_mesh::MeshConfig {
            network: "test".into(),
            secret: peerkeep_mesh::Secret::new(*b"the secret of the test network").ok(),
            allow: Some([Node::new(9).key()].into()),
            ..Default::default()
        };
        b.stack.configure(&config).expect("good");
        let (near, far) = meet(&a, &b).await;
        assert!(near.is_err() && far.is_err());
        config.max_channels = 0;
        config.allow = None;
        assert!(b.stack.configure(&config).is_err());
        let (near, _) = meet(&a, &b).await;
        assert!(near.is_err(), "still the old list");
        assert!(!dialler.handle.is_ended(), "running links stay");
    })
    .await;
}

#[tokio::test]
async fn fault_c5_a_second_close_changes_nothing() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (dialler, acceptor) = link(&a, &b).await;
        dialler.post.close(Close::Idle, Time::from_millis(60_000));
        dialler.post.close(Close::Banned, Time::from_millis(60_000));
        dialler.post.probe();
        assert_eq!(dialler.end().await, Ended::Asked);
        assert!(matches!(acceptor.end().await, Ended::Goodbye(_)));
    })
    .await;
}

#[tokio::test]
async fn both_sides_may_say_goodbye_at_once() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        for _ in 0..20 {
            let (dialler, acceptor) = link(&a, &b).await;
            let (near, far) = tokio::join!(dialler.close(Close::Idle), acceptor.close(Close::Shutdown));
            assert!(matches!(near, Ended::Asked | Ended::Goodbye(Close::Shutdown)), "{near:?}");
            assert!(matches!(far, Ended::Asked | Ended::Goodbye(Close::Idle)), "{far:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn handles_and_channels_work_from_other_threads() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut incoming = b.registry.accept("echo", 16).unwrap();
        let (dialler, _acceptor) = link(&a, &b).await;
        tokio::task::spawn_local(async move {
            while let Some(mut far) = incoming.recv().await {
                tokio::task::spawn_local(async move {
                    let (mut read, mut write) = tokio::io::split(&mut far);
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let threads: Vec<_> = (0..4u8)
            .map(|number| {
                let handle = dialler.handle.clone();
                tokio::task::spawn_blocking(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        for _ in 0..20 {
                            let mut channel = handle.open("echo").await.expect("opens");
                            channel.write_all(&[number; 50_000]).await.unwrap();
                            let mut back = vec![0; 50_000];
                            channel.read_exact(&mut back).await.unwrap();
                            assert!(back.iter().all(|byte| *byte == number));
                        }
                    });
                })
            })
            .collect();
        for thread in threads {
            soon(thread).await.expect("no panic");
        }
    })
    .await;
}

/// Nothing else wakes a link that is idle: the first message of either side must not wait for a ping. (The race that
/// once lost a wake-up here shows in `cargo xtask bench simultaneous-dial`, figure `slowest_message_ms`.)
#[tokio::test]
async fn the_first_message_of_both_sides_waits_for_nobody() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (mut to_a, mut to_b) =
            (a.registry.messages("news", 256).unwrap(), b.registry.messages("news", 256).unwrap());
        for round in 0..40u32 {
            let (dialler, acceptor) = link(&a, &b).await;
            // Until the start is over, something else wakes it.
            tokio::time::sleep(Duration::from_millis(u64::from(round % 8))).await;
            dialler.handle.send("news", round.to_be_bytes().to_vec().into()).unwrap();
            acceptor.handle.send("news", round.to_be_bytes().to_vec().into()).unwrap();
            for inbox in [&mut to_a, &mut to_b] {
                let message = soon(inbox.recv()).await.unwrap();
                assert_eq!(message.payload[..], round.to_be_bytes()[..]);
            }
            dialler.close(Close::Requested).await;
            acceptor.end().await;
        }
    })
    .await;
}
