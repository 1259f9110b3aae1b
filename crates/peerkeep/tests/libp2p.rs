//! Nodes that speak libp2p to each other: the same core, commands, events and store as on the mesh.

mod common;

use common::*;
use peerkeep::{
    AddressError, ChannelError, CommandError, EventKind, Outcome, PeerAddress, Reason, Stack, Standing,
    Target,
};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// S0.1, S0.4: what a connect goes through is the same on this wire.
#[tokio::test]
async fn s0_1_s0_4_a_libp2p_peer_is_connected_used_and_let_go() {
    let (a, b) = (node(1, libp2p_settings(1)).await, node(2, libp2p_settings(2)).await);
    let mut events = a.events();
    let outcome = a.connect(libp2p_address(&b), PATIENCE).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { peer, .. } if peer == b.id()), "{outcome:?}");
    until(&mut events, "the dial", |event| matches!(event, EventKind::Dialing { .. })).await;
    until(&mut events, "the connection", |event| matches!(event, EventKind::Connected { .. })).await;
    let seen = status(&a, b.id(), "a connection", |peer| peer.standing == Standing::Connected).await;
    assert_eq!(seen.stacks, [Stack::Libp2p]);
    assert!(seen.agent.is_some_and(|agent| agent.starts_with("peerkeep/")));
    assert!(a.is_connected(b.id()) && a.connection_count() == 1);
    status(&b, a.id(), "a connection", |peer| peer.standing == Standing::Connected).await;
    assert!(a.ping(b.id()).await.expect("answers") < Duration::from_secs(5));
    let why = a.why(b.id()).await.expect("is known");
    assert!(why.summary.starts_with("Connected"), "{}", why.summary);
    let mut gone = b.events();
    a.disconnect(b.id()).await.expect("is accepted");
    until(&mut gone, "the loss", |event| matches!(event, EventKind::Lost { .. })).await;
    assert!(!b.is_connected(a.id()));
    for node in [a, b] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn channels_by_protocol_name_over_libp2p() {
    let (a, b) = (node(1, libp2p_settings(1)).await, node(2, libp2p_settings(2)).await);
    a.connect(libp2p_address(&b), PATIENCE).await.expect("is accepted");
    let mut incoming = b.accept("/echo/1.0.0").expect("free");
    assert_eq!(b.accept("/echo/1.0.0").map(|_| ()), Err(ChannelError::Taken));
    let mut here = soon("a channel", a.open(b.id(), "/echo/1.0.0")).await.expect("opens");
    let (from, mut there) = soon("its other end", incoming.next()).await.expect("open");
    assert_eq!((from, there.peer(), there.protocol()), (a.id(), a.id(), "/echo/1.0.0"));
    here.write_all(b"hello").await.expect("written");
    let mut heard = [0; 5];
    soon("the bytes", there.read_exact(&mut heard)).await.expect("read");
    assert_eq!(&heard, b"hello");
    assert_eq!(a.open(b.id(), "/no/1").await.map(|_| ()), Err(ChannelError::Unsupported));
    let mut refused = a.open_at_once(b.id(), "/no/1").await.expect("opens");
    refused.write_all(b"x").await.expect("is taken");
    let error = soon("their word", refused.read_u8()).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let word = error.get_ref().and_then(|inner| inner.downcast_ref::<ChannelError>());
    assert_eq!(word, Some(&ChannelError::Unsupported));
    for node in [a, b] {
        node.shutdown().await;
    }
}

/// S0.61 and S0.70: under a TCP multiaddr is one TCP connection, however many channels; the kernel's table shows it.
#[tokio::test]
async fn s0_61_a_tcp_multiaddr_is_one_tcp_connection_for_all_channels() {
    let (a, b) = (node(1, libp2p_settings(1)).await, node(2, libp2p_settings(2)).await);
    let there = libp2p_address(&b);
    let Some(peerkeep::Place::Ip(at)) = there.place else { panic!("{there}") };
    a.connect(there, PATIENCE).await.expect("is accepted");
    connected(&a, &b).await;
    let mut incoming = b.accept("/hold/1").expect("free");
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(soon("a channel", a.open(b.id(), "/hold/1")).await.expect("opens"));
        soon("its other end", incoming.next()).await.expect("open");
    }
    // Local and remote address as the kernel writes them, then the state: 01 is established.
    let listens = format!("0200007F:{:04X}", at.port);
    let table = std::fs::read_to_string("/proc/net/tcp").expect("this is Linux");
    let to_it = table.lines().filter(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(2) == Some(&listens.as_str()) && words.get(3) == Some(&"01")
    });
    assert_eq!(to_it.count(), 1, "{table}");
    drop(held);
    for node in [a, b] {
        node.shutdown().await;
    }
}

/// SX.7 and S0.70: both want each other at once, on this wire, again and again: one connection each time.
#[tokio::test]
async fn sx_7_two_that_dial_each_other_over_libp2p_end_with_one_connection() {
    for round in 0..10 {
        let (a, b) = (node(1, libp2p_settings(1)).await, node(2, libp2p_settings(2)).await);
        let (to_a, to_b) = (libp2p_address(&a), libp2p_address(&b));
        let (one, other) = tokio::join!(a.want(to_b), b.want(to_a));
        one.and(other).expect("is accepted");
        connected(&a, &b).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        connected(&a, &b).await;
        let (here, there) = (a.peer(b.id()).await.expect("known"), b.peer(a.id()).await.expect("known"));
        let (here, there) = (here.link.expect("up"), there.link.expect("up"));
        assert_ne!(here.direction, there.direction, "round {round}: two ends of one connection");
        for node in [&a, &b] {
            assert_eq!(node.status().await.expect("runs").counts.connected, 1, "round {round}");
        }
        for node in [a, b] {
            node.shutdown().await;
        }
    }
}

/// S0.17: one peer on both wires is one peer.
#[tokio::test]
async fn s0_17_a_peer_on_both_wires_is_one_peer() {
    let (a, b) = (node(1, libp2p_settings(1)).await, node(2, libp2p_settings(2)).await);
    a.connect(libp2p_address(&b), PATIENCE).await.expect("is accepted");
    a.connect(address(&b), PATIENCE).await.expect("is accepted");
    let all = a.peers().await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].stacks, [Stack::Mesh, Stack::Libp2p]);
    assert_eq!((a.connection_count(), a.connected().await.len()), (1, 1));
    let target = Target::Key(b.id().key());
    a.ban(target, None).await.expect("is accepted");
    soon("the end of both", async {
        while a.connection_count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let refused = a.connect(libp2p_address(&b), PATIENCE).await.expect_err("is banned");
    assert_eq!(refused, CommandError::Refused(Reason::Banned));
    for node in [a, b] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_wanted_libp2p_peer_is_kept_over_its_restart_and_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut fixed = libp2p_settings(2);
    let b = node(2, fixed.clone()).await;
    let there = libp2p_address(&b);
    let Some(peerkeep::Place::Ip(at)) = there.place else { panic!("{there}") };
    fixed.libp2p.listen = vec![at.socket().into()];
    let a = stored(folder.path(), libp2p_settings(1)).await;
    a.want(there).await.expect("is accepted");
    connected(&a, &b).await;
    let id = b.id();
    b.shutdown().await;
    status(&a, id, "the loss", |peer| peer.link.is_none()).await;
    let b = node(2, fixed).await;
    connected(&a, &b).await;
    assert!(a.saved(PATIENCE).await);
    a.shutdown().await;
    let a = stored(folder.path(), libp2p_settings(1)).await;
    connected(&a, &b).await;
    let seen = a.peer(id).await.expect("is known");
    assert!(seen.wanted && seen.stacks == [Stack::Libp2p], "{seen:?}");
    for node in [a, b] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_node_that_does_not_speak_libp2p_says_so() {
    let (a, b) = (node(1, settings(1)).await, node(2, libp2p_settings(2)).await);
    let refused = a.connect(libp2p_address(&b), PATIENCE).await.expect_err("refused");
    assert_eq!(refused, CommandError::Address(AddressError::NoLibp2p));
    for node in [a, b] {
        node.shutdown().await;
    }
}

/// S0.62: a wrong identity in an address is refused, and the address no longer belongs to it.
#[tokio::test]
async fn s0_62_a_wrong_identity_is_refused_and_its_address_detached() {
    let (a, b) = (node(1, libp2p_settings(1)).await, node(2, libp2p_settings(2)).await);
    let stranger = peerkeep::Identity::from_seed(&[9; 32]).id();
    let wrong = PeerAddress { id: Some(stranger), ..libp2p_address(&b) };
    let outcome = a.connect(wrong, Duration::from_millis(500)).await;
    assert!(!matches!(outcome, Ok(Outcome::Connected { .. })), "{outcome:?}");
    let seen = a.peer(stranger).await.expect("is known");
    assert_eq!(seen.addresses, [], "{seen:?}");
    assert!(!a.is_connected(b.id()));
    for node in [a, b] {
        node.shutdown().await;
    }
}
