//! Nodes over QUIC: reached by multiaddress, beside TCP by history, through a network that blocks, shortens or moves what
//! it carries, and against whoever copies the first packets of a resumed session.

mod common;

use common::*;
use peerkeep::{EventKind, ListenAddress, Node, Outcome, PeerAddress, Settings, Standing};
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

/// A way between diallers and one port: it can lose long packets, keep a copy of what goes there, hold it back, and
/// change the port it comes from.
struct Way {
    at: SocketAddr,
    plan: Arc<Plan>,
    task: tokio::task::JoinHandle<()>,
}

struct Plan {
    to: Mutex<Option<SocketAddr>>,
    longest: AtomicUsize,
    holds: AtomicBool,
    moves: AtomicBool,
    copies: Mutex<Vec<Vec<u8>>>,
}

impl Way {
    async fn to(to: SocketAddr) -> Way {
        let way = Way::nowhere().await;
        *way.plan.to.lock().expect("sound") = Some(to);
        way
    }

    async fn nowhere() -> Way {
        let front = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("binds"));
        let at = front.local_addr().expect("bound");
        let plan = Arc::new(Plan {
            to: Mutex::default(),
            longest: AtomicUsize::new(usize::MAX),
            holds: AtomicBool::new(false),
            moves: AtomicBool::new(false),
            copies: Mutex::default(),
        });
        let task = tokio::spawn(carry(front, plan.clone()));
        Way { at, plan, task }
    }

    fn address(&self, of: &Node) -> PeerAddress {
        format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{}", self.at.port(), of.id()).parse().expect("an address")
    }

    fn copies(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.plan.copies.lock().expect("sound"))
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(front: Arc<tokio::net::UdpSocket>, plan: Arc<Plan>) {
    let mut backs: HashMap<SocketAddr, (Arc<tokio::net::UdpSocket>, tokio::task::AbortHandle)> =
        HashMap::new();
    let mut bytes = [0; 2048];
    loop {
        let Ok((length, from)) = front.recv_from(&mut bytes).await else { continue };
        let packet = &bytes[..length];
        if plan.moves.swap(false, Ordering::SeqCst) {
            // As when a router forgets: the old port hears nothing any more.
            backs.drain().for_each(|(_, (_, task))| task.abort());
        }
        plan.copies.lock().expect("sound").push(packet.to_vec());
        if plan.holds.load(Ordering::SeqCst) || length > plan.longest.load(Ordering::SeqCst) {
            continue;
        }
        if let std::collections::hash_map::Entry::Vacant(fresh) = backs.entry(from) {
            let back = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("binds"));
            let (front, its, plan) = (front.clone(), back.clone(), plan.clone());
            let task = tokio::spawn(async move {
                let mut bytes = [0; 2048];
                loop {
                    let Ok((length, _)) = its.recv_from(&mut bytes).await else { continue };
                    if length <= plan.longest.load(Ordering::SeqCst) {
                        let _ = front.send_to(&bytes[..length], from).await;
                    }
                }
            });
            fresh.insert((back, task.abort_handle()));
        }
        let Some(to) = *plan.to.lock().expect("sound") else { continue };
        let _ = backs[&from].0.send_to(packet, to).await;
    }
}

fn quic_at(node: &Node) -> SocketAddr {
    let over_quic = |address: &PeerAddress| address.to_string().contains("/quic-v1/");
    let address = node.addresses().into_iter().find(over_quic).expect("it listens over QUIC");
    let Some(peerkeep::Place::Ip(addr)) = address.place else { panic!("an IP address") };
    addr.socket()
}

fn quic_only(host: u8) -> Settings {
    let mut settings = settings(host);
    settings.listen.addresses = vec![ListenAddress::quic(([127, 0, 0, host], 0).into())];
    settings
}

async fn transport(node: &Node, peer: &Node) -> String {
    let link = node.peer(peer.id()).await.expect("known").link.expect("connected");
    link.transport.expect("always told")
}

#[tokio::test]
async fn a_node_listens_on_both_with_one_port_and_is_reached_over_quic_by_multiaddress() {
    let (a, b) = (node(1, settings(1)).await, node(2, settings(2)).await);
    let told: Vec<String> = b.addresses().iter().map(PeerAddress::to_string).collect();
    let port = quic_at(&b).port();
    assert!(
        told[0].contains(&format!("/tcp/{port}/")) && told[1].contains(&format!("/udp/{port}/quic-v1/")),
        "{told:?}"
    );
    let address: PeerAddress = told[1].parse().expect("an address");
    let outcome = a.connect(address, WAIT).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { peer, .. } if peer == b.id()), "{outcome:?}");
    connected(&a, &b).await;
    assert_eq!((transport(&a, &b).await, transport(&b, &a).await), ("quic".into(), "quic".into()));
    let why = a.why(b.id()).await.expect("known").summary;
    assert!(why.contains("over QUIC"), "{why}");
    send_over(&a, &b, 1_000_000).await;
    // Outbound from the port that listens: the other side sees an address it can dial.
    let seen = b.peer(a.id()).await.expect("known").link.expect("connected").remote;
    assert_eq!(seen, Some(quic_at(&a).to_string()));
    let mut lost = b.events();
    a.shutdown().await;
    until(&mut lost, "the goodbye", |event| matches!(event, EventKind::Lost { .. })).await;
    b.shutdown().await;
}

#[tokio::test]
async fn quic_can_be_turned_off() {
    let off = |host| {
        let mut settings = settings(host);
        settings.quic.enabled = false;
        settings
    };
    let (a, b) = (node(1, off(1)).await, node(2, settings(2)).await);
    assert_eq!(a.addresses().len(), 1);
    let address: PeerAddress = b.addresses()[1].clone();
    let outcome = a.connect(address, Duration::from_secs(2)).await;
    assert!(!matches!(outcome, Ok(Outcome::Connected { .. })), "{outcome:?}");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn udp_that_is_swallowed_costs_one_stagger_and_history_prefers_what_worked() {
    let mut theirs = settings(2);
    theirs.listen.addresses = vec![ListenAddress::tcp(([127, 0, 0, 2], 0).into())];
    let b = node(2, theirs).await;
    let tcp = address(&b);
    // Somebody holds the port and never answers: to a dialler that is a network that drops UDP.
    let swallows = UdpSocket::bind("127.0.0.2:0").expect("binds");
    let quic: PeerAddress =
        format!("/ip4/127.0.0.2/udp/{}/quic-v1/p2p/{}", swallows.local_addr().expect("bound").port(), b.id())
            .parse()
            .expect("an address");
    let mut ours = settings(1);
    ours.peers.known = vec![quic, tcp.clone()];
    let began = Instant::now();
    let a = node(1, ours).await;
    connected(&a, &b).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(250), "QUIC was named first and has its head start: {took:?}");
    assert_eq!(transport(&a, &b).await, "tcp");
    let order = a.peer(b.id()).await.expect("known").addresses;
    assert!(order[0].address.contains("/tcp/"), "{order:?}");
    a.disconnect(b.id()).await.expect("done");
    status(&a, b.id(), "the end", |peer| peer.standing != Standing::Connected).await;
    let began = Instant::now();
    a.connect(PeerAddress::known(b.id()), WAIT).await.expect("is accepted");
    let again = began.elapsed();
    assert!(again < Duration::from_millis(250), "TCP goes first now: {again:?}");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn where_nobody_listens_over_quic_tcp_is_tried_at_once() {
    let mut theirs = settings(2);
    theirs.listen.addresses = vec![ListenAddress::tcp(([127, 0, 0, 2], 0).into())];
    let b = node(2, theirs).await;
    let closed = UdpSocket::bind("127.0.0.2:0").expect("binds").local_addr().expect("bound").port();
    let mut ours = settings(1);
    let quic = format!("/ip4/127.0.0.2/udp/{closed}/quic-v1/p2p/{}", b.id());
    ours.peers.known = vec![quic.parse().expect("an address"), address(&b)];
    let a = node(1, ours).await;
    connected(&a, &b).await;
    let known = a.peer(b.id()).await.expect("known").addresses;
    assert!(known[0].address.contains("/tcp/"), "{known:?}");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn fault_c8_a_way_that_loses_long_packets_carries_everything() {
    let (a, b) = (node(1, settings(1)).await, node(2, quic_only(2)).await);
    let way = Way::to(quic_at(&b)).await;
    a.connect(way.address(&b), WAIT).await.expect("is accepted");
    connected(&a, &b).await;
    send_over(&a, &b, 2_000_000).await;
    let longest = way.copies().iter().map(Vec::len).max();
    assert!(longest > Some(1_300), "longer packets were found to pass: {longest:?}");
    // The way gets narrower under a running connection, and says nothing about it.
    way.plan.longest.store(1_250, Ordering::SeqCst);
    send_over(&a, &b, 500_000).await;
    assert_eq!(transport(&a, &b).await, "quic");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn a_peer_whose_address_changes_stays_the_same_connection_and_its_status_says_where() {
    let (a, b) = (node(1, settings(1)).await, node(2, quic_only(2)).await);
    let way = Way::to(quic_at(&b)).await;
    a.connect(way.address(&b), WAIT).await.expect("is accepted");
    connected(&a, &b).await;
    let before = b.peer(a.id()).await.expect("known").link.expect("connected");
    let mut events = b.events();
    way.plan.moves.store(true, Ordering::SeqCst);
    send_over(&a, &b, 300_000).await;
    until(&mut events, "the move", |event| matches!(event, EventKind::Routed { .. })).await;
    let after = b.peer(a.id()).await.expect("known").link.expect("connected");
    assert_eq!(after.conn, before.conn);
    assert!(after.remote != before.remote, "{after:?}");
    a.shutdown().await;
    b.shutdown().await;
}

fn early(mut settings: Settings) -> Settings {
    settings.quic.early_data = true;
    // So that a thousand copies are let in as far as copies get.
    settings.quic.retry_above = u16::MAX;
    settings.limits.total = 8_192;
    settings.limits.inbound = 4_096;
    settings.limits.pending = 4_096;
    settings.limits.per_ip = 4_096;
    settings.limits.per_subnet = 4_096;
    settings.peers.target = 0;
    settings
}

/// What copies must not change.
async fn picture(node: &Node) -> String {
    let mut peers = node.peers().await;
    peers.sort_by_key(|peer| peer.id.to_string());
    let seen: Vec<_> = peers
        .iter()
        .map(|peer| (peer.id, peer.standing, peer.addresses.len(), peer.link.as_ref().map(|link| &link.conn)))
        .collect();
    let totals = node.status().await.expect("runs").totals;
    format!("{seen:?} {} {} {}", totals.connected, totals.lost, totals.violations)
}

/// Sends the flight from so many ports of its own; how many got an answer.
async fn replay(flight: &[Vec<u8>], to: SocketAddr, times: usize) -> usize {
    let (mut answered, mut left) = (0, times);
    while left > 0 {
        let mut sockets = Vec::new();
        for _ in 0..left.min(50) {
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("binds");
            for packet in flight {
                socket.send_to(packet, to).await.expect("sent");
            }
            sockets.push(socket);
        }
        left -= sockets.len();
        tokio::time::sleep(Duration::from_millis(150)).await;
        let mut bytes = [0; 2048];
        answered += sockets.iter().filter(|socket| socket.try_recv(&mut bytes).is_ok()).count();
    }
    answered
}

/// Fault Z1 as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_4_replayed_early_data_has_no_effect_once_and_a_thousand_times() {
    // Whoever asks where the node is hears of the way alone, so nobody gets around it.
    let way = Way::nowhere().await;
    let mut theirs = early(quic_only(2));
    let to = UdpSocket::bind("127.0.0.2:0").expect("binds").local_addr().expect("bound");
    theirs.listen.addresses = vec![ListenAddress::quic(to)];
    theirs.listen.announce = vec![ListenAddress::quic(way.at)];
    let (a, b) = (node(1, early(settings(1))).await, node(2, theirs).await);
    *way.plan.to.lock().expect("sound") = Some(to);
    let mut news = b.messages("news").expect("a topic");
    a.connect(way.address(&b), WAIT).await.expect("is accepted");
    connected(&a, &b).await;
    a.send(b.id(), "news", "first".into()).await.expect("queued");
    soon("the message", news.next()).await.expect("open");
    a.disconnect(b.id()).await.expect("done");
    status(&b, a.id(), "the end", |peer| peer.standing != Standing::Connected).await;

    // Held back: the copy arrives, and what it is a copy of does not. This one the server takes for a resumption.
    way.copies();
    way.plan.holds.store(true, Ordering::SeqCst);
    a.connect_nowait(way.address(&b)).await.expect("is accepted");
    let mut flight = Vec::new();
    soon("the first flight", async {
        while flight.iter().map(Vec::len).sum::<usize>() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            flight.extend(way.copies().into_iter().filter(|packet| packet.len() > 100));
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    flight.extend(way.copies().into_iter().filter(|packet| packet.len() > 100));
    let before = picture(&b).await;
    let mut events = b.events();
    assert_eq!(replay(&flight, to, 1).await, 1, "the server answers it");
    assert_eq!(picture(&b).await, before, "and nothing else");

    // A thousand more: to the server they are the same attempt, until that has come to nothing, and then one without a
    // ticket.
    replay(&flight, to, 1_000).await;
    assert_eq!(picture(&b).await, before);
    soon("the attempt's end", async {
        while b.status().await.expect("runs").counts.pending > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    soon("an answer as to a stranger", async { while replay(&flight, to, 1).await == 0 {} }).await;
    assert_eq!(picture(&b).await, before);

    // The dialler itself, late: its ticket is gone, so it takes the long way and is let in.
    way.plan.holds.store(false, Ordering::SeqCst);
    connected(&a, &b).await;
    a.send(b.id(), "news", "second".into()).await.expect("queued");
    let next = soon("the message", news.next()).await.expect("open");
    assert_eq!(next.bytes, "second");
    let mut ups = 0;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(200), events.next()).await {
        ups += usize::from(matches!(event.what, EventKind::Connected { .. }));
    }
    assert_eq!(ups, 1, "one connection came of it all");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn s1_4_a_resumed_session_is_used_after_a_loss_and_by_the_same_peer() {
    let (a, b) = (node(1, early(settings(1))).await, node(2, early(quic_only(2))).await);
    let address =
        PeerAddress::at(Some(b.id()), peerkeep_core::Addr::new(quic_at(&b), peerkeep_core::AddrKind::Quic));
    for _ in 0..5 {
        a.connect(address.clone(), WAIT).await.expect("is accepted");
        connected(&a, &b).await;
        send_over(&a, &b, 1_000).await;
        a.disconnect(b.id()).await.expect("done");
        for (node, peer) in [(&a, &b), (&b, &a)] {
            status(node, peer.id(), "the end", |peer| peer.standing != Standing::Connected).await;
        }
    }
    assert_eq!(b.status().await.expect("runs").totals.handshake_failures, 0);
    a.shutdown().await;
    b.shutdown().await;
}
