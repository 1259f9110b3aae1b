//! Channels and messages between nodes.

mod common;

use bytes::Bytes;
use common::*;
use peerkeep::{Answer, ChannelError, Identity, Node, Outcome, PeerAddress, Standing};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

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
async fn a_channel_opened_at_once_says_at_its_first_byte_whether_it_is_taken() {
    let (a, b) = pair().await;
    let mut incoming = b.accept("echo").expect("a free name");
    for round in 0..3 {
        let mut channel = a.open_at_once(b.id(), "echo").await.expect("opens");
        channel.write_all(b"hello").await.expect("writes");
        let (peer, mut far) = soon("the channel", incoming.next()).await.expect("arrives");
        assert_eq!((peer, far.protocol()), (a.id(), "echo"));
        let mut heard = [0; 5];
        far.read_exact(&mut heard).await.expect("reads");
        far.write_all(&heard).await.expect("writes");
        far.shutdown().await.expect("ends");
        let mut answer = String::new();
        channel.read_to_string(&mut answer).await.expect("reads");
        assert_eq!(answer, "hello", "round {round}");
    }
    let mut channel = a.open_at_once(b.id(), "unheard-of").await.expect("nobody was asked");
    channel.write_all(b"hello").await.expect("writes");
    let error = channel.read_u8().await.expect_err("nobody takes it");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ChannelError>());
    assert_eq!(inner, Some(&ChannelError::Unsupported));
    assert_eq!(a.open_at_once(a.id(), "echo").await.err(), Some(ChannelError::NotConnected));
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

/// S0.70, S3.13: a thousand requests by channel, a thousand messages and as many wishes to be connected later, it is
/// still the connection it was.
#[tokio::test]
async fn s0_70_and_s3_13_a_thousand_requests_travel_over_one_connection() {
    let (a, b) = pair().await;
    let link = async |node: &Node, other: &Node| {
        let link = node.peer(other.id()).await.and_then(|peer| peer.link).expect("is connected");
        (link.conn, link.remote)
    };
    let before = (link(&a, &b).await, link(&b, &a).await);
    let mut incoming = b.accept("ask").expect("a free name");
    tokio::spawn(async move {
        while let Some((_, mut channel)) = incoming.next().await {
            let number = channel.read_u32().await.expect("reads");
            channel.write_u32(number + 1).await.expect("writes");
            channel.shutdown().await.expect("ends");
        }
    });
    let mut news = b.messages("news").expect("a name");
    for number in 0..1_000 {
        let outcome = a.connect(address(&b), PATIENCE).await.expect("is accepted");
        assert!(matches!(outcome, Outcome::Connected { already: true, .. }), "{number}: {outcome:?}");
        let mut channel = soon("a channel", a.open(b.id(), "ask")).await.expect("opens");
        channel.write_u32(number).await.expect("writes");
        channel.shutdown().await.expect("ends");
        assert_eq!(soon("an answer", channel.read_u32()).await.expect("reads"), number + 1);
        a.send(b.id(), "news", Bytes::copy_from_slice(&number.to_be_bytes())).await.expect("is queued");
        assert_eq!(soon("a message", news.next()).await.expect("arrives").bytes[..], number.to_be_bytes());
        assert_eq!((a.connection_count(), b.connection_count()), (1, 1), "{number}");
    }
    assert_eq!((link(&a, &b).await, link(&b, &a).await), before);
    for (node, dials) in [(&a, 1), (&b, 0)] {
        let totals = node.status().await.expect("runs").totals;
        assert_eq!((totals.dials, totals.connected, totals.lost), (dials, 1, 0));
    }
    a.shutdown().await;
    b.shutdown().await;
}

/// A way to `to` that carries nothing there while it is frozen, as if nobody read at its end.
async fn freezer(to: SocketAddr, frozen: watch::Receiver<bool>) -> SocketAddr {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("a small buffer");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let listener = socket.listen(8).expect("listens");
    let here = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(to).await.expect("connects");
            let (mut near_in, mut near_out) = near.into_split();
            let (mut far_in, mut far_out) = far.into_split();
            let mut frozen = frozen.clone();
            tokio::spawn(async move { tokio::io::copy(&mut far_in, &mut near_out).await });
            tokio::spawn(async move {
                let mut bytes = [0; 4_096];
                while frozen.wait_for(|frozen| !*frozen).await.is_ok() {
                    match near_in.read(&mut bytes).await {
                        Ok(length) if length > 0 => {
                            far_out.write_all(&bytes[..length]).await.expect("writes")
                        }
                        _ => return,
                    }
                }
            });
        }
    });
    here
}

#[tokio::test]
async fn s3_42_a_broadcast_skips_the_one_that_is_stuck_and_reaches_the_others_at_once() {
    let quiet = |host| {
        let mut settings = settings(host);
        settings.peers.target = 0;
        settings.peers.exchange = false;
        settings
    };
    let a = node(1, quiet(1)).await;
    let (b, c, stuck) = (node(2, quiet(2)).await, node(3, quiet(3)).await, node(4, quiet(4)).await);
    let (freeze, frozen) = watch::channel(false);
    let Some(peerkeep::Place::Ip(real)) = address(&stuck).place else { panic!("an IP address") };
    let way = freezer(real.socket(), frozen).await;
    let through = format!("/ip4/{}/tcp/{}/p2p/{}", way.ip(), way.port(), stuck.id());
    for place in [address(&b), address(&c), through.parse().expect("an address")] {
        let outcome = a.connect(place, PATIENCE).await.expect("is accepted");
        assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    }
    for other in [&b, &c, &stuck] {
        connected(&a, other).await;
    }
    let (mut at_b, mut at_c) = (b.messages("news").expect("a name"), c.messages("news").expect("a name"));
    freeze.send(true).expect("somebody listens");
    let payload = Bytes::from(vec![7; 64 * 1024]);
    let (mut before, mut after) = (0, 0);
    while after < 50 {
        let sent = a.broadcast("news", payload.clone()).await.expect("is queued");
        match (sent.delivered, sent.skipped) {
            (3, 0) if before < 1_000 => before += 1,
            (2, 1) => after += 1,
            _ => panic!("after {before} and {after}: {sent:?}"),
        }
        for news in [&mut at_b, &mut at_c] {
            let asked = Instant::now();
            let message = soon("a message", news.next()).await.expect("arrives");
            assert_eq!((message.peer, message.bytes.len()), (a.id(), payload.len()));
            assert!(asked.elapsed() < Duration::from_secs(5), "nobody waits for the stuck one");
        }
    }
    assert!(before > 0 && a.is_connected(b.id()) && a.is_connected(c.id()));
    freeze.send(false).expect("somebody listens");
    for node in [a, b, c, stuck] {
        node.shutdown().await;
    }
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
    fn calls(node: &Node, peer: PeerAddress) {
        is_send(&node.connect(peer.clone(), Duration::ZERO));
        is_send(&node.want(peer));
        is_send(&node.peers());
        is_send(&node.configure(node.settings()));
        is_send(&node.shutdown());
    }
    let _ = calls;
}

/// Fault K9: a node that is stopped and started again and again leaves a dead peer in peace, but not its users.
#[tokio::test]
async fn fault_k9_a_restart_remembers_who_failed_and_still_obeys_people() {
    let folder = tempfile::tempdir().expect("a folder");
    let closed = std::net::TcpListener::bind("127.0.0.9:0").expect("a port").local_addr().expect("bound");
    let dead = Identity::from_seed(&[9; 32]).id();
    let peer: PeerAddress = format!("/ip4/127.0.0.9/tcp/{}/p2p/{dead}", closed.port()).parse().expect("good");
    let mut settings = settings(1);
    settings.backoff.first = Duration::from_secs(600);
    settings.backoff.max = Duration::from_secs(600);
    // Wanted by hand, and by the settings too: neither is dialled afresh.
    settings.peers.wanted = vec![peer.clone()];
    let dials = async |node: &Node| node.status().await.expect("runs").totals.dials;
    let node = stored(folder.path(), settings.clone()).await;
    status(&node, dead, "the first failure", |peer| peer.attempts == 1 && peer.link.is_none()).await;
    node.want(peer.clone()).await.expect("is accepted");
    assert_eq!(dials(&node).await, 1);
    node.shutdown().await;
    for round in 0..5 {
        let node = stored(folder.path(), settings.clone()).await;
        let seen =
            status(&node, dead, "what was remembered", |peer| peer.standing == Standing::Waiting).await;
        assert_eq!((seen.attempts, dials(&node).await), (1, 0), "round {round}");
        let why = node.why(dead).await.expect("is known");
        assert!(why.until.is_some(), "and says for how long: {why:?}");
        node.shutdown().await;
    }
    let node = stored(folder.path(), settings.clone()).await;
    assert_eq!(node.connect_nowait(dead).await.expect("is accepted"), Answer::Begun, "people are obeyed");
    status(&node, dead, "the second failure", |peer| peer.attempts == 2 && peer.link.is_none()).await;
    assert_eq!(dials(&node).await, 1);
    node.shutdown().await;
    // A node that was killed in the middle of an attempt does not begin it anew either: what counts is on the disk.
    let node = stored(folder.path(), settings).await;
    let seen = status(&node, dead, "what was remembered", |peer| peer.standing == Standing::Waiting).await;
    assert_eq!((seen.attempts, dials(&node).await), (2, 0));
    node.shutdown().await;
}

/// S1.83: whatever discovers peers feeds candidates in, the target does the rest, and framed messages run on top.
#[tokio::test]
async fn s1_83_discovered_candidates_are_connected_and_framed_messages_run_on_top() {
    let (a, b, c) = (node(1, settings(1)).await, node(2, settings(2)).await, node(3, settings(3)).await);
    // A discovery of somebody's own; it knows addresses and nothing of connections.
    for found in [address(&b), address(&c)] {
        a.learn(found).await.expect("is taken");
    }
    connected(&a, &b).await;
    connected(&a, &c).await;
    // And the network's own: who is told by a third peer is a candidate as well.
    connected(&b, &c).await;
    let mut heard = c.messages("frames").expect("a name");
    let frames: Vec<Bytes> = [0, 1, 100, 70_000, 200_000].map(|size| Bytes::from(vec![7; size])).into();
    for frame in &frames {
        b.send(c.id(), "frames", frame.clone()).await.expect("is queued");
    }
    for frame in &frames {
        let message = soon("a frame", heard.next()).await.expect("arrives");
        assert_eq!((message.peer, &message.bytes), (b.id(), frame), "whole and in order");
    }
    for node in [a, b, c] {
        node.shutdown().await;
    }
}

#[test]
fn s3_54_channels_and_messages_are_the_same_with_keepalive_only_and_the_short_handshake() {
    once_more_with_keepalive_only("");
}

/// Who opened at once is told that it is taken with the first answer, or when more is waited for: a multiplexer opens only
/// so many streams that nothing was said on.
#[tokio::test]
async fn channels_opened_at_once_are_taken_though_nothing_is_answered() {
    let many = 300;
    let more = |host| {
        let mut settings = settings(host);
        settings.limits.channels = 400;
        settings
    };
    let (a, b) = (node(1, more(1)).await, node(2, more(2)).await);
    let outcome = a.connect(address(&b), Duration::from_secs(20)).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { .. }));
    connected(&a, &b).await;
    let mut incoming = b.accept("sink").expect("a free name");
    let (mut near, mut waiting) = (Vec::new(), Vec::new());
    for round in 0..many {
        let what = format!("channel {round}");
        let mut channel = soon(&what, a.open_at_once(b.id(), "sink")).await.expect("opens");
        channel.write_all(b"hello").await.expect("writes");
        let (_, mut far) = soon(&what, incoming.next()).await.expect("arrives");
        let mut heard = [0; 5];
        far.read_exact(&mut heard).await.expect("reads");
        near.push(channel);
        waiting.push(tokio::spawn(async move { far.read_u8().await.map(|byte| (byte, far)) }));
    }
    for (mut channel, waiting) in near.into_iter().zip(waiting) {
        channel.write_u8(7).await.expect("writes");
        let (byte, mut far) = soon("the byte", waiting).await.expect("no panic").expect("reads");
        assert_eq!(byte, 7);
        far.shutdown().await.expect("ends");
        assert_eq!(soon("the end", channel.read(&mut [0; 8])).await.expect("no loss"), 0);
    }
    // Nothing was said before the end: the word comes with it. And more arrives whole than is looked at first.
    let mut channel = a.open_at_once(b.id(), "sink").await.expect("opens");
    let sent: Vec<u8> = (0..=255).collect();
    channel.write_all(&sent).await.expect("writes");
    let (_, mut far) = soon("the channel", incoming.next()).await.expect("arrives");
    let mut heard = vec![0; 256];
    far.read_exact(&mut heard).await.expect("reads");
    assert_eq!(heard, sent);
    far.shutdown().await.expect("ends");
    assert_eq!(soon("the end", channel.read(&mut [0; 8])).await.expect("is taken"), 0);
    a.shutdown().await;
    b.shutdown().await;
}
