//! Anchors: whom a node dials first when it starts again; and what it still knows about how connections ended.

mod common;

use common::*;
use peerkeep::{CloseReason, DialOrder, EventKind, Node, Settings};

async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.shutdown().await;
    }
}

/// Whoever of three it was that a node had dialled, that one it dials first after a restart.
#[tokio::test]
async fn anchors_of_the_last_run_are_dialled_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let quiet = |host| {
        let mut settings: Settings = settings(host);
        settings.peers.target = 0;
        settings.peers.exchange = false;
        // Where the identities decide who dials, an anchor whose turn it is to dial us would be left to do so.
        settings.preference.order = DialOrder::Nobody;
        settings
    };
    let others = [node(2, quiet(2)).await, node(3, quiet(3)).await, node(4, quiet(4)).await];
    for chosen in &others {
        let mut mine = quiet(1);
        mine.peers.known = others.iter().map(address).collect();
        let first = stored(folder.path(), mine.clone()).await;
        first.connect(address(chosen), PATIENCE).await.expect("connects");
        connected(&first, chosen).await;
        let gone = first.id();
        first.shutdown().await;
        status(chosen, gone, "it is gone", |peer| peer.link.is_none()).await;
        mine.peers.target = 1;
        let again = stored(folder.path(), mine).await;
        connected(&again, chosen).await;
        assert_eq!(again.connection_count(), 1, "and nobody else");
        again.shutdown().await;
        status(chosen, gone, "it is gone again", |peer| peer.link.is_none()).await;
    }
    stop(others).await;
}

/// S1.65: the reason is kept with the history, and asked for after a restart.
#[tokio::test]
async fn s1_65_how_a_connection_ended_is_known_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mine, other) = (stored(folder.path(), settings(1)).await, node(2, settings(2)).await);
    mine.connect(address(&other), PATIENCE).await.expect("connects");
    connected(&mine, &other).await;
    let mut events = mine.events();
    mine.disconnect(other.id()).await.expect("is accepted");
    until(&mut events, "lost", |event| matches!(event, EventKind::Lost { .. })).await;
    mine.shutdown().await;
    let again = stored(folder.path(), settings(1)).await;
    let history = again.history(Some(other.id()), 10).await;
    let lost = history.iter().find_map(|event| match &event.what {
        EventKind::Lost { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(lost, Some(CloseReason::Requested), "{history:?}");
    stop([again, other]).await;
}
