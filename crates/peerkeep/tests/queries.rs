//! What programs ask about connections, and what they are told about refusals.

mod common;

use common::*;
use peerkeep::{ErrorKind, EventKind, Outcome, PeerId};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

/// S3.43 to S3.45: right for both directions, and right again when it is over.
#[tokio::test]
async fn s3_43_to_s3_45_both_sides_know_who_is_connected() {
    let (a, b) = (node(1, settings(1)).await, node(2, settings(2)).await);
    assert_eq!((a.is_connected(b.id()), a.connection_count()), (false, 0));
    assert_eq!(a.connected().await, []);
    a.connect(address(&b), WAIT).await.expect("is accepted");
    connected(&a, &b).await;
    for (one, other) in [(&a, &b), (&b, &a)] {
        assert!(one.is_connected(other.id()));
        assert_eq!(one.connection_count(), 1);
        let list = one.connected().await;
        let ids: Vec<PeerId> = list.iter().map(|peer| peer.id).collect();
        assert_eq!(ids, [other.id()]);
        let remote = list[0].link.as_ref().and_then(|link| link.remote.as_deref());
        assert!(remote.is_some_and(|remote| remote.starts_with("127.0.0.")), "{remote:?}");
    }
    let mut events = b.events();
    a.shutdown().await;
    until(&mut events, "the loss", |event| matches!(event, EventKind::Lost { .. })).await;
    assert_eq!((b.is_connected(a.id()), b.connection_count()), (false, 0));
    assert_eq!(b.connected().await, []);
    assert!(!a.is_connected(b.id()), "a stopped node has nobody");
    b.shutdown().await;
}

#[tokio::test]
async fn a_refusal_is_told_with_their_reason_and_their_time() {
    let mut small = settings(2);
    small.limits.inbound = 1;
    let (a, b, c) = (node(1, settings(1)).await, node(2, small).await, node(3, settings(3)).await);
    let first = c.connect(address(&b), WAIT).await.expect("is accepted");
    assert!(matches!(first, Outcome::Connected { .. }), "{first:?}");
    connected(&c, &b).await;
    let mut events = a.events();
    a.want(address(&b)).await.expect("is accepted");
    let failed = until(&mut events, "the refusal", |event| matches!(event, EventKind::Failed { .. })).await;
    let EventKind::Failed { error: Some(error), next_retry_in_ms: Some(next), .. } = failed.what else {
        panic!("{failed:?}")
    };
    assert_eq!(error.kind, ErrorKind::Declined);
    assert!(error.text.ends_with("refused us: no room for another connection"), "{}", error.text);
    assert!(next > 20_000, "they asked to come back in half a minute, and it is tried in {next} ms");
    let why = a.why(b.id()).await.expect("is known");
    assert!(why.summary.contains("no room for another connection"), "{}", why.summary);
    let seen = a.peer(b.id()).await.expect("is known");
    assert_eq!(seen.last_error, Some(error));
    for node in [a, b, c] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_list_longer_than_a_page_holds_every_peer_once() {
    let mut many = settings(1);
    many.peers.target = 0;
    many.peers.known = (0..2_500_u32)
        .map(|number| {
            let mut key = [5; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            let id = PeerId(peerkeep::PeerKey::ed25519(key));
            format!("/ip4/10.0.0.1/tcp/7330/p2p/{id}").parse().expect("an address")
        })
        .collect();
    let node = node(1, many).await;
    let peers = node.peers().await;
    let ids: std::collections::BTreeSet<String> = peers.iter().map(|peer| peer.id.to_string()).collect();
    assert_eq!((peers.len(), ids.len()), (2_500, 2_500));
    node.shutdown().await;
}
