//! How a node does with as many peers as it may know. Slow, so it runs when it is asked for:
//! `cargo test --release -p peerkeep --lib -- --ignored --nocapture hundred_thousand`.

use super::Node;
use crate::store::{Store, StoreLimits, StoredPeer};
use crate::{AddressSource, DataDir, Settings, Timestamp};
use peerkeep_core::{Addr, PeerKey, Who};
use std::path::Path;
use std::time::{Duration, Instant};

const PEERS: u32 = 100_000;

async fn fill(folder: &Path) {
    drop(DataDir::open(folder).expect("a folder"));
    let limits = StoreLimits { peers: PEERS, ..StoreLimits::default() };
    let (store, _) = Store::open(folder, limits).await.expect("a store");
    for number in 0..PEERS {
        let mut key = [5; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let [_, b, c, d] = number.to_be_bytes();
        let at = |port: u16| Addr::tcp(([10, b, c, d], port).into());
        store.put_peer(StoredPeer {
            who: Who::mesh(PeerKey::ed25519(key)),
            addresses: vec![(at(7330), AddressSource::Told), (at(7331), AddressSource::Gossip)],
            names: Vec::new(),
            wanted: false,
            held: false,
            first_use: false,
            seen_at: Timestamp(1),
            updated_at: Timestamp(2),
            last_error: None,
        });
        if number % 4_000 == 3_999 {
            assert!(store.flush().await, "it is written");
        }
    }
    assert!(store.flush().await, "it is written");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a while, and its times mean something in a release build only"]
async fn a_hundred_thousand_peers_are_loaded_and_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    fill(&data).await;
    let mut settings = Settings::default();
    settings.listen.addresses = vec![([127, 0, 0, 1], 0).into()];
    settings.peers.target = 0;
    let begin = Instant::now();
    let node = Node::builder().config(settings).data_dir(&data).start().await.expect("the node starts");
    let known = loop {
        // Answered only when everything stored is in.
        if let Some(status) = node.status().await {
            break status.counts.known;
        }
    };
    let started = begin.elapsed();
    let begin = Instant::now();
    let (peers, slowest) = tokio::join!(node.peers(), slowest_answer(&node));
    let listed = begin.elapsed();
    eprintln!(
        "{known} peers: started in {started:?}, listed in {listed:?}; others waited {slowest:?} at most"
    );
    assert_eq!((known, peers.len()), (PEERS, usize::try_from(PEERS).expect("fits")));
    if !cfg!(debug_assertions) {
        assert!(listed < Duration::from_secs(1), "{listed:?}");
    }
    node.shutdown().await;
}

/// How long small questions wait meanwhile.
async fn slowest_answer(node: &Node) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let begin = Instant::now();
        node.bans().await;
        slowest = slowest.max(begin.elapsed());
    }
    slowest
}
