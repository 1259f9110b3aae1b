//! Channels and messages between nodes.

mod common;

use bytes::Bytes;
use common::*;
use peerkeep::{ChannelError, Node, Outcome};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn pair() -> (Node, Node) {
    let (a, b) = (node(1, settings(1)).await, node(2, settings(2)).await);
    let outcome = a.connect(address(&b), Duration::from_secs(20)).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { .. }));
    connected(&a, &b).await;
    (a, b)
}

#[tokio::test]
async fn a_channel_carries_bytes_both_ways() {
    let (a, b) = pair().await;
    let mut incoming = b.accept("echo").expect("a free name");
    assert_eq!(b.accept("echo").err(), Some(ChannelError::Taken));
    tokio::spawn(async move {
        while let Some((_, mut channel)) = incoming.next().await {
            let mut text = String::new();
            channel.read_to_string(&mut text).await.expect("reads");
            channel.write_all(text.to_uppercase().as_bytes()).await.expect("writes");
            channel.shutdown().await.expect("ends");
        }
    });
    let mut channel = a.open(b.id(), "echo").await.expect("opens");
    assert_eq!((channel.peer(), channel.protocol()), (b.id(), "echo"));
    channel.write_all(b"hello").await.expect("writes");
    channel.shutdown().await.expect("ends");
    let mut answer = String::new();
    channel.read_to_string(&mut answer).await.expect("reads");
    assert_eq!(answer, "HELLO");
    assert_eq!(a.open(b.id(), "unheard-of").await.err(), Some(ChannelError::Unsupported));
    assert_eq!(a.open(b.id(), "").await.err(), Some(ChannelError::Name));
    assert_eq!(a.open(a.id(), "echo").await.err(), Some(ChannelError::NotConnected));
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn messages_reach_whoever_listens_to_the_topic() {
    let (a, b) = pair().await;
    let mut news = b.messages("news").expect("a name");
    let mut other = b.messages("other").expect("a name");
    a.send(b.id(), "news", Bytes::from_static(b"one")).await.expect("is queued");
    let sent = a.broadcast("news", Bytes::from_static(b"two")).await.expect("is queued");
    assert_eq!((sent.delivered, sent.skipped), (1, 0));
    for expected in [&b"one"[..], b"two"] {
        let message = soon("a message", news.next()).await.expect("arrives");
        assert_eq!((message.peer, &message.bytes[..]), (a.id(), expected));
    }
    a.send(b.id(), "other", Bytes::from_static(b"three")).await.expect("is queued");
    assert_eq!(&soon("a message", other.next()).await.expect("arrives").bytes[..], b"three");
    let long = Bytes::from(vec![0; 300 * 1024]);
    assert_eq!(a.send(b.id(), "news", long).await, Err(ChannelError::TooLong));
    assert_eq!(a.send(a.id(), "news", Bytes::new()).await, Err(ChannelError::NotConnected));
    b.shutdown().await;
    assert!(soon("the end", news.next()).await.is_none(), "the node has stopped");
    a.shutdown().await;
}

/// What programs hold can be moved to any task.
#[test]
fn faces_and_futures_are_send() {
    fn is_send<T: Send>(_: &T) {}
    fn is_send_type<T: Send + 'static>() {}
    is_send(&Node::builder().start());
    is_send_type::<Node>();
    is_send_type::<peerkeep::EventStream>();
    is_send_type::<peerkeep::Channel>();
    is_send_type::<peerkeep::Incoming>();
    is_send_type::<peerkeep::Messages>();
    fn calls(node: &Node, peer: peerkeep::PeerAddress) {
        is_send(&node.connect(peer.clone(), Duration::ZERO));
        is_send(&node.want(peer));
        is_send(&node.peers());
        is_send(&node.configure(node.settings()));
        is_send(&node.shutdown());
    }
    let _ = calls;
}
