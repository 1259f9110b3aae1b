//! What programs ask about connections, and what they are told about refusals.

mod common;

use common::*;
use peerkeep::{
    Answer, ConnectionState, Direction, ErrorKind, EventKind, Identity, Outcome, PeerAddress, PeerId, Stack,
    Standing, Timestamp,
};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

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
    // It hears where the refused one listens, and must not dial it by its own accord.
    small.peers.target = 0;
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

/// An address with an identity nobody has.
fn stranger(at: SocketAddr) -> PeerAddress {
    let id = Identity::from_seed(&[99; 32]).id();
    format!("/ip4/{}/tcp/{}/p2p/{id}", at.ip(), at.port()).parse().expect("an address")
}

/// A listener that is full: packets that ask for another connection vanish.
#[tokio::test]
async fn s0_12_a_slow_dial_shows_since_when_whom_where_and_which_attempt() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 12], 0).into()).expect("a port");
    let full = socket.listen(1).expect("listens");
    let at = full.local_addr().expect("bound");
    let mut waiting = Vec::new();
    while let Ok(taken) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(at)).await {
        waiting.push(taken.expect("is queued"));
        assert!(waiting.len() < 100, "it never fills");
    }
    let mut ours = settings(1);
    ours.backoff.max_attempts = 5;
    let a = node(1, ours).await;
    let peer = stranger(at);
    let before = Timestamp::now();
    a.connect_nowait(peer.clone()).await.expect("is accepted");
    let id = peer.id.expect("is named");
    status(&a, id, "a dial", |peer| peer.standing == Standing::Dialing).await;
    let after = Timestamp::now();
    // The same while it goes on.
    for pause in [0, 1_500] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let seen = a.peer(id).await.expect("is known");
        let ConnectionState::Connecting { time, peer_id, address, attempts, max_attempts } =
            seen.states.connection
        else {
            panic!("{:?}", seen.states)
        };
        // The wall clock is set against another clock at every question, to a few milliseconds.
        let slack = Duration::from_millis(100);
        assert!(time >= before.before(slack) && time <= after.after(slack), "{before} {time} {after}");
        assert_eq!((peer_id, attempts, max_attempts), (id, 1, 5));
        assert_eq!(address.to_string(), format!("/ip4/127.0.0.12/tcp/{}", at.port()));
        assert_eq!((seen.attempts, seen.max_attempts), (1, 5));
    }
    a.shutdown().await;
}

/// Also the last one of a series, which is told as giving up.
#[tokio::test]
async fn s0_20_each_failed_attempt_is_reported_once_with_peer_address_and_cause() {
    let nobody = TcpSocket::new_v4().expect("a socket");
    nobody.bind(([127, 0, 0, 20], 0).into()).expect("a port");
    let peer = stranger(nobody.local_addr().expect("bound"));
    let (id, place) = (peer.id.expect("is named"), nobody.local_addr().expect("bound").to_string());
    let mut ours = settings(1);
    ours.backoff.max_attempts = 4;
    let a = node(1, ours).await;
    let mut events = a.events();
    a.connect_nowait(peer).await.expect("is accepted");
    let (mut open, mut reported) = (None, Vec::new());
    while reported.len() < 4 {
        let event = soon("an event", events.next()).await.expect("the node runs");
        let (who, address, error, attempts) = match event.what {
            EventKind::Dialing { peer, attempt, .. } => {
                assert_eq!((peer, open.replace(attempt)), (id, None), "the one before was reported");
                continue;
            }
            EventKind::Failed { peer, address, error, attempts, .. } if attempts < 4 => {
                (peer, address, error, attempts)
            }
            EventKind::GaveUp { peer, address, error, attempts } => (peer, address, error, attempts),
            EventKind::Discovered { .. } => continue,
            other => panic!("{other:?}"),
        };
        assert_eq!((who, address.as_str(), open.take()), (id, place.as_str(), Some(attempts)));
        assert_eq!(error.map(|error| error.kind), Some(ErrorKind::Refused));
        reported.push(attempts);
    }
    assert_eq!(reported, [1, 2, 3, 4]);
    let totals = a.status().await.expect("runs").totals;
    assert_eq!((totals.dials, totals.failed), (4, 4));
    a.shutdown().await;
    while let Some(event) = events.next().await {
        assert_eq!(event.what, EventKind::ShuttingDown, "nothing was reported twice");
    }
}

#[tokio::test]
async fn s3_20_each_connection_shows_its_address_start_last_message_role_and_type() {
    let (a, b) = (node(1, settings(1)).await, node(2, settings(2)).await);
    let start = Timestamp::now();
    a.connect(address(&b), WAIT).await.expect("is accepted");
    connected(&a, &b).await;
    let mut news = b.messages("news").expect("a name");
    let ago = |peer: &peerkeep::PeerStatus| {
        peer.link.as_ref().and_then(|link| Some((link.last_received_ms_ago?, link.last_used_ms_ago?)))
    };
    let idle = |peer: &peerkeep::PeerStatus| ago(peer).is_some_and(|(_, used)| used >= 1_500);
    status(&a, b.id(), "some idle time", idle).await;
    status(&b, a.id(), "some idle time", idle).await;
    a.send(b.id(), "news", b"now".as_slice().into()).await.expect("is queued");
    soon("the message", news.next()).await.expect("arrives");
    let at_a = status(&a, b.id(), "its use", |peer| ago(peer).is_some_and(|(_, used)| used < 1_500)).await;
    let fresh =
        |peer: &peerkeep::PeerStatus| ago(peer).is_some_and(|(got, used)| got < 1_500 && used < 1_500);
    let at_b = status(&b, a.id(), "its arrival", fresh).await;
    for (seen, role) in [(at_a, Direction::Outbound), (at_b, Direction::Inbound)] {
        assert_eq!(seen.stacks, [Stack::Mesh]);
        let json = serde_json::to_value(&seen).expect("is written");
        assert!(json["last_received_ms_ago"].is_u64() && json["last_used_ms_ago"].is_u64(), "{json}");
        assert_eq!(json["direction"], role.to_string());
        let link = seen.link.expect("is connected");
        assert_eq!(link.direction, role);
        assert!(link.remote.is_some_and(|remote| remote.starts_with("127.0.0.")));
        let began = link.began_at.after(Duration::from_millis(100));
        assert!(
            began >= start
                && link.connected_at.is_some_and(|up| up.after(Duration::from_millis(100)) >= start)
        );
    }
    for node in [a, b] {
        node.shutdown().await;
    }
}

/// Sockets to or from an address of this machine that the system calls established.
fn established(host: [u8; 4]) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("reads");
    let address = format!("{:08X}:", u32::from_ne_bytes(host));
    let fits = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, ..] = words[..] else { return false };
        state == "01" && (local.starts_with(&address) || remote.starts_with(&address))
    };
    table.lines().filter(fits).count()
}

#[tokio::test]
async fn s0_45_after_a_reset_the_system_has_no_socket_to_that_peer() {
    let mut theirs = settings(145);
    theirs.peers.target = 0;
    theirs.peers.exchange = false;
    let mut ours = theirs.clone();
    ours.listen.addresses = vec![([127, 0, 0, 1], 0).into()];
    let (a, b) = (node(1, ours).await, node(2, theirs).await);
    a.connect(address(&b), WAIT).await.expect("is accepted");
    connected(&a, &b).await;
    assert_eq!(established([127, 0, 0, 145]), 2, "both ends are on this machine");
    assert_eq!(a.reset(b.id()).await, Ok(Answer::Done));
    soon("the end of both sockets", async {
        while established([127, 0, 0, 145]) > 0 || a.connection_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let seen = status(&a, b.id(), "the end", |peer| peer.link.is_none()).await;
    assert_eq!(seen.states.connection, ConnectionState::Disconnected);
    assert_eq!((a.connection_count(), established([127, 0, 0, 145])), (0, 0));
    a.shutdown().await;
    b.shutdown().await;
}

/// The store of another machine, brought here with its peers: they are kept, and who has become ourselves is left out.
/// For fault I8: a node that starts with a new identity has that one from the start on, and its peers.
#[tokio::test]
async fn fault_k4_a_store_of_another_identity_is_used_and_never_leads_to_ourselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let with = |number: u8, settings| {
        let identity = Identity::from_seed(&[number; 32]);
        peerkeep::Node::builder().identity(identity).config(settings).data_dir(data.clone()).start()
    };
    let (b, c) = (node(2, settings(2)).await, node(3, settings(3)).await);
    let a = with(1, settings(1)).await.expect("starts");
    for other in [&b, &c] {
        a.want(address(other)).await.expect("is accepted");
        connected(&a, other).await;
    }
    let epoch = a.status().await.expect("runs").boot_epoch;
    a.shutdown().await;
    b.shutdown().await;
    let moved = with(2, settings(1)).await.expect("starts");
    connected(&moved, &c).await;
    assert!(moved.peer(c.id()).await.expect("is known").wanted);
    assert_eq!(moved.peer(moved.id()).await, None);
    let status = moved.status().await.expect("runs");
    assert_eq!((status.health, status.boot_epoch > epoch), (vec![], true));
    moved.shutdown().await;
    c.shutdown().await;
}

#[test]
fn s3_54_queries_are_the_same_with_keepalive_only_and_the_short_handshake() {
    once_more_with_keepalive_only("");
}
