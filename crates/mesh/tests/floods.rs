//! A peer that floods a program's channels, and what others notice of it.

mod common;
use common::*;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

/// Fault C12: one peer opens channels as fast as it can and writes into each. It gets its 32 of this node and no more,
/// a protocol's queue holds what it was made for, and another peer's round trips stay short.
#[tokio::test]
async fn fault_c12_a_flood_of_channels_is_bounded_by_peer_and_by_protocol_and_others_are_quick() {
    local(async {
        let (node, hostile, honest) = (Node::new(1), Node::with(2, |c| c.max_channels = 1_024), Node::new(3));
        let mut hoard = node.registry.accept("hoard", 8).unwrap();
        let mut echo = node.registry.accept("echo", 8).unwrap();
        let _never_taken = node.registry.accept("idle", 4).unwrap();
        spawn_local(async move {
            let mut kept = Vec::new();
            while let Some(channel) = hoard.recv().await {
                kept.push(channel);
            }
        });
        spawn_local(async move {
            while let Some(mut channel) = echo.recv().await {
                spawn_local(async move {
                    let mut block = [0; 64];
                    while channel.read_exact(&mut block).await.is_ok() {
                        channel.write_all(&block).await.expect("writable");
                    }
                });
            }
        });
        let (bad, at_node) = link(&hostile, &node).await;
        let (good, _other) = link(&honest, &node).await;
        let mut idle = Vec::new();
        while let Ok(channel) = bad.handle.open("idle").await {
            idle.push(channel);
            assert!(idle.len() <= 4, "no more wait to be taken than the protocol wanted");
        }
        assert_eq!(idle.len(), 4);
        for _ in 0..200 {
            let handle = bad.handle.clone();
            spawn_local(async move {
                loop {
                    match handle.open("hoard").await {
                        Ok(mut channel) => while channel.write_all(&[7; 16 * 1024]).await.is_ok() {},
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            });
        }
        until(|| at_node.post.report().channels == 32).await;
        let mut channel = soon(good.handle.open("echo")).await.expect("another peer has its own places");
        let mut times = Vec::new();
        for _ in 0..300 {
            let began = Instant::now();
            let mut block = [9; 64];
            channel.write_all(&block).await.expect("writable");
            soon(channel.read_exact(&mut block)).await.expect("comes back");
            times.push(began.elapsed());
            assert!(at_node.post.report().channels <= 32, "{:?}", at_node.post.report());
        }
        times.sort_unstable();
        assert!(times[296] < Duration::from_millis(250), "p99 of {:?}", times[296]);
        assert!(!at_node.run.is_finished() && !bad.run.is_finished());
    })
    .await;
}
