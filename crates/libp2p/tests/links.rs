//! Two stacks of ours over TCP: who they find there, channels, pings, and every way a link ends.

mod common;

use common::*;
use peerkeep_core::{Close, Fact, Fault, FaultKind, Refusal, Step, Time};
use peerkeep_libp2p::pnet::NetworkKey;
use peerkeep_libp2p::{ChannelError, Libp2pConfig, Security};
use peerkeep_net::{Ended, MeetError, Stack as _, Verdict};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

#[test]
fn two_nodes_meet_know_each_other_and_part() {
    on_a_shard(async {
        let a = Node::with(1, |config| config.agent = "alice/1".to_owned());
        let b = Node::with(2, |config| {
            config.listen.set([peerkeep_core::Addr::tcp("192.0.2.7:4001".parse().expect("an address"))]);
        });
        let (here, there) = linked(&a, &b).await;
        assert_eq!((here.met.key, there.met.key), (b.key, a.key));
        assert_eq!(here.met.listen[0].to_string(), "192.0.2.7:4001/tcp");
        assert_eq!(&*there.handle.info().agent, "alice/1");
        assert!(here.handle.info().seen.is_some_and(|seen| seen.is_loopback()), "it sees where we are");
        let (ended, other) = tokio::join!(here.close(Close::Requested), there.end());
        assert_eq!(ended, Ended::Asked);
        assert_eq!(other, Ended::Fault(Fault::new(Step::Live, FaultKind::Closed)));
    });
}

/// S0.62: a wrong expected identity is refused.
#[test]
fn s0_62_who_is_not_expected_is_refused() {
    on_a_shard(async {
        let (a, b, c) = (Node::new(1), Node::new(2), Node::new(3));
        let (dialled, accepted) = sockets().await;
        let theirs = spawn_local(async move { accept(&b, admit(), accepted).await.map(|_| ()) });
        let error = soon(dial(&a, Some(c.key), dialled)).await.map(|_| ()).expect_err("somebody else");
        let MeetError::Fault(fault) = error else { panic!("{error:?}") };
        assert_eq!(fault, Fault::new(Step::Secure, FaultKind::Identity));
        assert!(soon(theirs).await.expect("no panic").is_err());
    });
}

#[test]
fn who_is_turned_away_is_no_link_on_either_side() {
    on_a_shard(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (dialled, accepted) = sockets().await;
        let turn = Verdict::Turn { why: Refusal::AlreadyConnected, retry_after: Duration::ZERO };
        let (here, there) = tokio::join!(dial(&a, None, dialled), accept(&b, turn, accepted));
        assert!(here.is_err() && there.is_err());
    });
}

/// Two nodes that secure their connections in the same way.
fn pair(change: impl Fn(&mut Libp2pConfig)) -> (Node, Node) {
    (Node::with(1, &change), Node::with(2, &change))
}

#[test]
fn channels_over_noise_carry_bytes_both_ways_whether_their_names_are_waited_for_or_not() {
    on_a_shard(async {
        let (a, b) = pair(|_| ());
        let (here, _there) = linked(&a, &b).await;
        echoes(&here, &b).await;
    });
}

#[test]
fn channels_over_tls_are_the_same() {
    on_a_shard(async {
        for security in [Security::Tls, Security::Any] {
            let (a, b) = pair(|config| config.security = security);
            let (here, _there) = linked(&a, &b).await;
            echoes(&here, &b).await;
        }
    });
}

#[test]
fn channels_over_quic_are_the_same() {
    on_a_shard(async {
        let (a, b) = pair(|_| ());
        let (here, there) = linked_over_quic(&a, &b).await;
        echoes(&here, &b).await;
        let (ended, other) = tokio::join!(here.close(Close::Requested), there.end());
        assert_eq!(ended, Ended::Asked);
        assert_eq!(other, Ended::Fault(Fault::new(Step::Live, FaultKind::Closed)));
    });
}

#[test]
fn a_private_network_is_closed_to_who_has_not_its_key() {
    const KEY: &str = "/key/swarm/psk/1.0.0/\n/base16/\n";
    let key =
        |digit: &str| NetworkKey::parse(format!("{KEY}{}\n", digit.repeat(64)).as_bytes()).expect("a key");
    on_a_shard(async {
        let (a, b) = pair(|config| config.network = Some(key("7")));
        let (here, _there) = linked(&a, &b).await;
        echoes(&here, &b).await;
        assert!(a.stack.quic_dial(&dial_terms(None, "127.0.0.1:1".parse().expect("an address"))).is_none());
        let stranger = Node::with(3, |config| config.network = Some(key("8")));
        let (dialled, accepted) = sockets().await;
        let both = async {
            tokio::select! {
                here = dial(&stranger, None, dialled) => here.map(|_| ()),
                there = accept(&b, admit(), accepted) => there.map(|_| ()),
            }
        };
        // What each hears is noise: refused, or waited on until the deadline of whoever runs the handshake.
        let met = tokio::time::timeout(Duration::from_secs(1), both).await;
        assert!(!matches!(met, Ok(Ok(()))), "{met:?}");
    });
}

async fn echoes(here: &Up, b: &Node) {
    let mut incoming = b.protocols.accept("/echo/1.0.0", 8).expect("free");
    let serve = spawn_local(async move {
        while let Some(channel) = incoming.recv().await {
            spawn_local(async move {
                let (mut from, mut to) = tokio::io::split(channel);
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    for at_once in [false, true, true, false] {
        let opened = match at_once {
            true => soon(here.handle.open_at_once("/echo/1.0.0")).await,
            false => soon(here.handle.open("/echo/1.0.0")).await,
        };
        let mut channel = opened.expect("opens");
        let sent = vec![at_once.into(); 300_000];
        let (mut from, mut to) = tokio::io::split(&mut channel);
        let mut back = Vec::new();
        let write = async {
            to.write_all(&sent).await.expect("written");
            to.shutdown().await.expect("finished");
        };
        let (_, read) = soon(async { tokio::join!(write, from.read_to_end(&mut back)) }).await;
        read.expect("read");
        assert!(back == sent, "{} bytes", back.len());
    }
    serve.abort();
}

/// Nobody has to stay for what is said without waiting: the end of our direction comes when it has been taken.
#[test]
fn what_is_written_at_once_and_finished_arrives_though_the_channel_is_dropped() {
    on_a_shard(async {
        let (a, b) = pair(|_| ());
        let mut incoming = b.protocols.accept("/tell/1", 8).expect("free");
        for over_quic in [false, true] {
            let (here, _there) =
                if over_quic { linked_over_quic(&a, &b).await } else { linked(&a, &b).await };
            for _ in 0..20 {
                let mut channel = soon(here.handle.open_at_once("/tell/1")).await.expect("opens");
                channel.write_all(b"news").await.expect("is taken");
                soon(channel.shutdown()).await.expect("is heard");
                drop(channel);
                let mut heard = Vec::new();
                let mut other = soon(incoming.recv()).await.expect("arrives");
                soon(other.read_to_end(&mut heard)).await.expect("whole");
                assert_eq!(heard, b"news");
            }
        }
    });
}

#[test]
fn a_protocol_nobody_takes_is_said_to_be_unknown() {
    on_a_shard(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (here, _there) = linked(&a, &b).await;
        assert_eq!(soon(here.handle.open("/no/1")).await.map(|_| ()), Err(ChannelError::Unknown));
        assert_eq!(soon(here.handle.open("no")).await.map(|_| ()), Err(ChannelError::Name));
        let mut channel = soon(here.handle.open_at_once("/no/1")).await.expect("opens");
        channel.write_all(b"hello").await.expect("is taken");
        let error = soon(channel.read_u8()).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        let error = soon(channel.read_u8()).await.expect_err("still refused");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "asking again is no panic");
    });
}

/// Fault C4 and S0.74: a channel whose link breaks is reset, not ended.
#[test]
fn s0_74_a_channel_ends_with_its_link_and_says_so() {
    on_a_shard(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut incoming = b.protocols.accept("/hold/1", 1).expect("free");
        let (here, there) = linked(&a, &b).await;
        let mut channel = soon(here.handle.open("/hold/1")).await.expect("opens");
        let _held = soon(incoming.recv()).await.expect("arrives");
        there.run.abort();
        let error = soon(channel.read_u8()).await.expect_err("lost");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(matches!(here.run.await.expect("no panic"), Ended::Fault(_)));
    });
}

#[test]
fn a_probe_is_answered_and_measured() {
    on_a_shard(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (here, _there) = linked(&a, &b).await;
        let before = here.post.bytes().received();
        here.post.probe();
        let measured = async {
            while here.post.report().rtt_us == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(measured).await;
        assert!(here.post.bytes().received() >= before + 32);
    });
}

#[test]
fn new_addresses_are_pushed_to_who_is_connected() {
    on_a_shard(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (here, there) = linked(&a, &b).await;
        a.config.listen.set([peerkeep_core::Addr::tcp("192.0.2.9:4009".parse().expect("an address"))]);
        here.handle.announce();
        let told = async {
            loop {
                let learned = there.facts().into_iter().find_map(|fact| match fact {
                    Fact::Learned { who, addrs, .. } => Some((who.key, addrs[0].to_string())),
                    _ => None,
                });
                match learned {
                    Some(learned) => return learned,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        assert_eq!(soon(told).await, (a.key, "192.0.2.9:4009/tcp".to_owned()));
    });
}

#[test]
fn a_replaced_link_lets_its_channels_come_to_their_end() {
    on_a_shard(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut incoming = b.protocols.accept("/hold/1", 1).expect("free");
        let (here, _there) = linked(&a, &b).await;
        let mut channel = soon(here.handle.open("/hold/1")).await.expect("opens");
        let mut other = soon(incoming.recv()).await.expect("arrives");
        here.post.close(Close::Replaced, Time::from_millis(60_000));
        for word in 0..5 {
            channel.write_u8(word).await.expect("still open");
            assert_eq!(soon(other.read_u8()).await.expect("arrives"), word);
        }
        drop((channel, other));
        assert_eq!(soon(here.run).await.expect("no panic"), Ended::Asked);
    });
}
