//! Document 001's establishment on real sockets: one deadline over every stage, in both directions, and connections
//! being set up that are counted, listed and gone when they end.

mod common;

use common::*;
use peerkeep::{
    Direction, ErrorKind, ErrorStatus, Identity, Node, Outcome, PeerAddress, PendingStatus, Settings, Stage,
    Standing, StepName,
};
use peerkeep_mesh::tls::Tls;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

/// One attempt that may take so long, over TCP alone.
fn brief(host: u8, establish: Duration) -> Settings {
    let mut settings = settings(host);
    settings.timeouts.establish = establish;
    settings.backoff.max_attempts = 1;
    settings.quic.enabled = false;
    settings
}

/// The address of the identity with that number, there.
fn named(number: u8, at: SocketAddr, over: &str) -> PeerAddress {
    let id = Identity::from_seed(&[number; 32]).id();
    format!("/ip4/{}/{over}/p2p/{id}", at.ip()).replace("PORT", &at.port().to_string()).parse().expect("fits")
}

fn over_tcp(number: u8, at: SocketAddr) -> PeerAddress {
    named(number, at, "tcp/PORT")
}

/// One attempt: how long it took, and what failed.
async fn attempt(node: &Node, to: PeerAddress) -> (Duration, ErrorStatus) {
    let began = Instant::now();
    let outcome = node.connect(to, PATIENCE).await.expect("is accepted");
    let Outcome::GaveUp { attempts: 1, error: Some(error), .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(node.pending().await, [], "nothing of it is left");
    let counts = node.status().await.expect("runs").counts;
    assert_eq!((counts.pending, counts.outbound), (0, 0));
    (began.elapsed(), error)
}

/// A port that answers no SYN: its queue is full and nobody accepts.
struct Void {
    at: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Void {
    async fn new(host: u8) -> Void {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, host], 0).into()).expect("a port");
        let listener = socket.listen(1).expect("listens");
        let at = listener.local_addr().expect("bound");
        let mut waiting = Vec::new();
        let soon = Duration::from_millis(300);
        while let Ok(taken) = tokio::time::timeout(soon, TcpStream::connect(at)).await {
            waiting.push(taken.expect("is queued"));
            assert!(waiting.len() < 100, "it never fills");
        }
        Void { at, _listener: listener, _waiting: waiting }
    }
}

/// Somebody who finishes TLS as the identity with that number, `after` so long, and then says nothing.
async fn silent_after_tls(number: u8, host: u8, after: Duration) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, host], 0))).await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let identity = peerkeep_mesh::Identity::from_seed(&[number; 32]).expect("an identity");
    let acceptor = TlsAcceptor::from(Tls::new(&identity).expect("a key").server());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                let mut heard = [0; 4096];
                while matches!(tls.read(&mut heard).await, Ok(1..)) {}
            });
        }
    });
    at
}

#[tokio::test]
async fn s1_1_a_server_that_falls_silent_fails_in_time_at_each_stage() {
    let establish = Duration::from_secs(1);
    let mut both = brief(1, establish);
    both.quic.enabled = true;
    let a = node(1, both).await;
    let void = Void::new(60).await;
    let mute = TcpListener::bind("127.0.0.60:0").await.expect("a port");
    let deaf = UdpSocket::bind("127.0.0.60:0").await.expect("a port");
    let tls = silent_after_tls(63, 60, Duration::ZERO).await;
    let at = |port: std::io::Result<SocketAddr>| port.expect("bound");
    for (to, step) in [
        (over_tcp(61, void.at), StepName::Connect),
        (over_tcp(62, at(mute.local_addr())), StepName::Secure),
        (over_tcp(63, tls), StepName::Hello),
        (named(64, at(deaf.local_addr()), "udp/PORT/quic-v1"), StepName::Connect),
    ] {
        let (took, error) = attempt(&a, to).await;
        assert_eq!(error.kind, ErrorKind::Timeout, "{step:?}: {error:?}");
        assert!(took >= establish && took < 4 * establish, "{step:?}: {took:?}");
    }
    a.shutdown().await;
}

/// Two slow stages in a row have one deadline, not one each.
#[tokio::test]
async fn s1_1_the_deadline_is_one_over_all_stages() {
    let establish = Duration::from_secs(3);
    let a = node(1, brief(1, establish)).await;
    let slow = silent_after_tls(63, 65, Duration::from_millis(2_500)).await;
    let (took, error) = attempt(&a, over_tcp(63, slow)).await;
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(took >= establish && took < Duration::from_secs(5), "{took:?}");
    a.shutdown().await;
}

const CHILD: &str = "PEERKEEP_SILENT_NAMES";

/// In a namespace where the one name server takes questions and answers none.
#[test]
fn s1_1_a_name_server_that_falls_silent_fails_in_time() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: namespaces need root");
        return;
    }
    let script = "set -e; ip link set lo up; mount -t tmpfs none /mnt; echo nameserver 127.0.0.1 >/mnt/names; \
                  mount --bind /mnt/names /etc/resolv.conf; exec \"$0\" --exact silent_names --nocapture";
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", script]).arg(std::env::current_exe().expect("a path"));
    match command.env(CHILD, "1").status() {
        Ok(status) => assert!(status.success(), "{status}"),
        Err(error) => eprintln!("SKIPPED: no unshare: {error}"),
    }
}

#[tokio::test]
async fn silent_names() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let server = UdpSocket::bind("127.0.0.1:53").await.expect("the namespace is ours");
    let establish = Duration::from_secs(1);
    let a = node(1, brief(1, establish)).await;
    let id = Identity::from_seed(&[66; 32]).id();
    let to: PeerAddress = format!("/dns4/peer.example.org/tcp/7330/p2p/{id}").parse().expect("an address");
    let asked = async { server.recv(&mut [0; 512]).await };
    let ((took, error), asked) = tokio::join!(attempt(&a, to), asked);
    assert!(asked.is_ok_and(|count| count > 12), "the question reached the server");
    assert_eq!((error.kind, error.step), (ErrorKind::Timeout, StepName::Resolve), "{error:?}");
    assert!(took >= establish && took < 4 * establish, "{took:?}");
    a.shutdown().await;
}

#[tokio::test]
async fn s1_14_a_connect_into_the_void_ends_in_a_timeout_at_the_set_time() {
    let void = Void::new(67).await;
    for set in [Duration::from_millis(600), Duration::from_millis(2_400)] {
        let a = node(1, brief(1, set)).await;
        let (took, error) = attempt(&a, over_tcp(68, void.at)).await;
        assert_eq!((error.kind, error.step), (ErrorKind::Timeout, StepName::Connect));
        assert!(took >= set && took < set + Duration::from_millis(1_700), "{set:?}: {took:?}");
        a.shutdown().await;
    }
}

/// Settings without limits that a crowd on one machine would meet.
fn roomy(host: u8, establish: Duration) -> Settings {
    let mut settings = brief(host, establish);
    settings.limits.per_ip = 1_000;
    settings.limits.per_subnet = 1_000;
    settings.limits.pending = 100;
    settings.limits.dials_per_minute = 1_000_000;
    settings.limits.dials_per_minute_per_ip = 1_000_000;
    settings.peers.target = 0;
    settings
}

#[tokio::test]
async fn s1_10_fifty_dials_into_the_void_overlap_and_the_node_stays_responsive() {
    const DIALS: u8 = 50;
    let establish = Duration::from_secs(3);
    let (a, b) = (node(1, roomy(1, establish)).await, node(2, settings(2)).await);
    let void = Void::new(69).await;
    let began = Instant::now();
    let mut dials = tokio::task::JoinSet::new();
    for number in 0..DIALS {
        let (a, to) = (a.clone(), over_tcp(100 + number, void.at));
        dials.spawn(async move { a.connect(to, PATIENCE).await.expect("is accepted") });
    }
    soon("all of them under way", async {
        while a.pending().await.len() < usize::from(DIALS) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // With all fifty in the air somebody who is there is reached, and questions are answered.
    let outcome = a.connect(address(&b), PATIENCE).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    assert_eq!(a.status().await.expect("runs").counts.pending, u32::from(DIALS));
    assert!(began.elapsed() < establish, "none of them had ended: {:?}", began.elapsed());
    while let Some(outcome) = dials.join_next().await {
        let outcome = outcome.expect("no panic");
        assert!(matches!(outcome, Outcome::GaveUp { .. }), "{outcome:?}");
    }
    let took = began.elapsed();
    assert!(took < 3 * establish, "one after the other they take {:?}: {took:?}", establish * 50);
    a.shutdown().await;
    b.shutdown().await;
}

/// Whom and in which direction.
fn told(pending: &[PendingStatus]) -> Vec<(Direction, Stage, Option<String>, bool)> {
    let tell = |one: &PendingStatus| {
        (one.conn.direction, one.conn.stage, one.conn.remote.clone(), one.peer.is_some())
    };
    pending.iter().map(tell).collect()
}

#[tokio::test]
async fn s1_7_attempts_of_both_directions_are_listed_until_they_end() {
    let mut patient = brief(1, Duration::from_secs(60));
    patient.timeouts.handshake = Duration::from_secs(60);
    let a = node(1, patient).await;
    let listens = address(&a);
    let Some(peerkeep::Place::Ip(at)) = listens.place else { panic!("an IP address") };
    let void = Void::new(70).await;
    let dialled = over_tcp(71, void.at);
    let id = dialled.id.expect("is named");
    a.connect_nowait(dialled).await.expect("is accepted");
    let silent = TcpStream::connect(at.socket()).await.expect("it listens");
    let from = silent.local_addr().expect("bound").to_string();
    let expected = [
        (Direction::Outbound, Stage::Dialing, Some(void.at.to_string()), true),
        (Direction::Inbound, Stage::Arriving, Some(from), false),
    ];
    soon("both are listed", async {
        while told(&a.pending().await) != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(a.pending().await[0].peer, Some(id));
    assert_eq!(a.status().await.expect("runs").counts.pending, 2);
    drop(silent);
    a.reset(id).await.expect("is accepted");
    // One that is closing is listed no longer, and counted until it is gone.
    soon("neither is", async {
        while !a.pending().await.is_empty() || a.status().await.expect("runs").counts.pending > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    a.shutdown().await;
}

/// Refused, reset in the greeting, and answered by somebody else: whatever the reason, nothing is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_7_ten_thousand_failed_dials_leave_none() {
    const DIALS: u32 = 10_000;
    let mut quick = roomy(1, Duration::from_secs(20));
    quick.limits.known_peers = 1_000;
    let a = node(1, quick).await;
    let nobody = TcpSocket::new_v4().expect("a socket");
    nobody.bind(([127, 0, 0, 72], 0).into()).expect("a port");
    let nobody = nobody.local_addr().map(|at| (at, nobody)).expect("bound");
    let rude = TcpListener::bind("127.0.0.72:0").await.expect("a port");
    let rude_at = rude.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = rude.accept().await {
            drop(tcp);
        }
    });
    let mut dials = tokio::task::JoinSet::new();
    let mut failed = 0;
    for number in 0..DIALS {
        let mut key = [9; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let id = peerkeep::PeerId(peerkeep::PeerKey::ed25519(key));
        let at = if number % 10 == 0 { rude_at } else { nobody.0 };
        let to: PeerAddress = format!("/ip4/{}/tcp/{}/p2p/{id}", at.ip(), at.port()).parse().expect("fits");
        let a = a.clone();
        dials.spawn(async move { a.connect(to, PATIENCE).await.expect("is accepted") });
        while dials.len() >= 64 {
            let outcome = dials.join_next().await.expect("some").expect("no panic");
            assert!(matches!(outcome, Outcome::GaveUp { .. }), "{outcome:?}");
            failed += 1;
        }
    }
    failed += u32::try_from(dials.join_all().await.len()).expect("few");
    assert_eq!(failed, DIALS);
    assert_eq!(a.pending().await, []);
    let status = a.status().await.expect("runs");
    assert_eq!((status.counts.pending, status.counts.outbound), (0, 0));
    assert!(status.totals.failed >= u64::from(DIALS));
    a.shutdown().await;
}

/// S1.25, and S1.22: whoever arrives has the deadline of the whole handshake, and goes through all of it.
#[tokio::test]
async fn s1_25_whoever_arrives_and_falls_silent_is_removed_at_the_handshake_deadline() {
    let handshake = Duration::from_millis(1_500);
    let mut ours = settings(1);
    ours.timeouts.handshake = handshake;
    let a = node(1, ours).await;
    let Some(peerkeep::Place::Ip(at)) = address(&a).place else { panic!("an IP address") };
    // One says nothing at all; the other falls silent after TLS.
    let began = Instant::now();
    let mut mute = TcpStream::connect(at.socket()).await.expect("it listens");
    let late = TcpStream::connect(at.socket()).await.expect("it listens");
    let stranger = peerkeep_mesh::Identity::from_seed(&[73; 32]).expect("an identity");
    let tls = tokio_rustls::TlsConnector::from(Tls::new(&stranger).expect("a key").client(None));
    let mut late = tls.connect(Tls::no_name(), late).await.expect("TLS");
    assert_eq!(a.pending().await.len(), 2);
    assert_eq!(a.status().await.expect("runs").counts.inbound, 2);
    let (first, second) = soon("the end", async {
        tokio::join!(
            async {
                let _ = mute.read(&mut [0; 64]).await;
                began.elapsed()
            },
            async {
                let _ = late.read(&mut [0; 64]).await;
                began.elapsed()
            }
        )
    })
    .await;
    for took in [first, second] {
        assert!(took >= handshake && took < 3 * handshake, "{took:?}");
    }
    soon("both slots are free", async {
        while a.status().await.expect("runs").counts.inbound > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(a.pending().await, []);
    a.shutdown().await;
}

/// S1.26: silent arrivals fill their share of the limit, which dials of ours feel too; S1.23: further arrivals are told
/// or dropped, and counted.
#[tokio::test]
async fn s1_26_the_pending_limit_counts_arrivals_too() {
    let mut ours = brief(1, Duration::from_secs(30));
    ours.timeouts.handshake = Duration::from_secs(30);
    ours.limits.pending = 4;
    ours.limits.courtesy = 0;
    let a = node(1, ours).await;
    let Some(peerkeep::Place::Ip(at)) = address(&a).place else { panic!("an IP address") };
    let mut crowd = Vec::new();
    for _ in 0..3 {
        crowd.push(TcpStream::connect(at.socket()).await.expect("it listens"));
    }
    soon("three are being greeted", async {
        while a.pending().await.len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // A quarter is never given to those who arrive.
    let mut fourth = TcpStream::connect(at.socket()).await.expect("it listens");
    assert_eq!(soon("the drop", fourth.read(&mut [0; 64])).await.unwrap_or(0), 0, "without a word");
    assert_eq!(a.status().await.expect("runs").totals.refused, 1, "counted");
    let void = Void::new(74).await;
    a.connect_nowait(over_tcp(75, void.at)).await.expect("the quarter is for us");
    let second = a.connect_nowait(over_tcp(76, void.at)).await.expect("is accepted");
    let limit = peerkeep::Reason::Full { limit: peerkeep::LimitName::Pending };
    assert_eq!(second, peerkeep::Answer::Queued { reason: limit });
    drop(crowd);
    let id = Identity::from_seed(&[76; 32]).id();
    status(&a, id, "its turn", |peer| peer.standing == Standing::Dialing).await;
    a.shutdown().await;
}

/// S1.23 and SX.6 for the mesh: one is told why in the protocol's words, the next is dropped and counted.
#[tokio::test]
async fn s1_23_sx_6_above_the_limit_one_is_told_why_and_the_next_is_dropped_and_counted() {
    let mut small = settings(1);
    small.limits.inbound = 1;
    small.limits.courtesy = 1;
    small.peers.target = 0;
    let (a, b) = (node(1, small).await, node(2, settings(2)).await);
    b.connect(address(&a), PATIENCE).await.expect("is accepted");
    connected(&a, &b).await;
    let c = node(3, brief(3, Duration::from_secs(10))).await;
    let (_, error) = attempt(&c, address(&a)).await;
    assert_eq!(error.kind, ErrorKind::Declined);
    assert!(error.text.ends_with("no room for another connection"), "{}", error.text);
    // Now somebody silent has the one place where reasons are told.
    let Some(peerkeep::Place::Ip(at)) = address(&a).place else { panic!("an IP address") };
    let refusing = async || a.pending().await.iter().any(|one| one.conn.stage == Stage::Refusing);
    let _silent = soon("it is being refused", async {
        loop {
            // The one before may linger for a moment, so that it reads its reason; then this one is dropped.
            let mut silent = TcpStream::connect(at.socket()).await.expect("it listens");
            let dropped = tokio::time::timeout(Duration::from_millis(300), silent.read(&mut [0; 64])).await;
            if dropped.is_err() && refusing().await {
                return silent;
            }
        }
    })
    .await;
    let before = a.status().await.expect("runs").totals.refused;
    let mut dropped = TcpStream::connect(at.socket()).await.expect("it listens");
    assert_eq!(soon("the drop", dropped.read(&mut [0; 64])).await.unwrap_or(0), 0, "without a word");
    assert_eq!(a.status().await.expect("runs").totals.refused, before + 1, "counted");
    assert_eq!(a.connection_count(), 1, "and whoever is connected stays");
    for node in [a, b, c] {
        node.shutdown().await;
    }
}

/// S1.19, S1.20: both sides show whom, where, who dialled, and what was agreed, over either transport.
#[tokio::test]
async fn s1_19_s1_20_a_connection_shows_peer_address_direction_and_capabilities() {
    for quic in [false, true] {
        let with = |host| {
            let mut settings = settings(host);
            settings.quic.enabled = quic;
            settings
        };
        let (a, b) = (node(1, with(1)).await, node(2, with(2)).await);
        let wanted = if quic { "quic" } else { "tcp" };
        let to = b.addresses().into_iter().find(|one| one.to_string().contains("quic") == quic);
        a.connect(to.expect("it listens on both"), PATIENCE).await.expect("is accepted");
        connected(&a, &b).await;
        let (at_a, at_b) = (a.peer(b.id()).await.expect("known"), b.peer(a.id()).await.expect("known"));
        assert_eq!((at_a.id, at_b.id), (b.id(), a.id()));
        let (ours, theirs) = (at_a.link.expect("connected"), at_b.link.expect("connected"));
        assert_eq!((ours.direction, theirs.direction), (Direction::Outbound, Direction::Inbound));
        for link in [&ours, &theirs] {
            assert_eq!(link.transport.as_deref(), Some(wanted));
            assert_eq!((link.secure, link.version), (Some(true), Some(2)));
            assert_eq!(link.capabilities, ["exchange", "mail"]);
        }
        let remote = ours.remote.expect("an address");
        assert!(b.addresses().iter().any(|one| {
            let Some(peerkeep::Place::Ip(at)) = one.place else { return false };
            at.socket().to_string() == remote
        }));
        assert!(theirs.remote.is_some_and(|remote| remote.starts_with("127.0.0.")));
        a.shutdown().await;
        b.shutdown().await;
    }
}

/// S1.17: what was agreed without TLS does not go on beside it.
#[tokio::test]
async fn s1_17_switching_tls_on_makes_every_connection_anew() {
    let plain = |host| {
        let mut settings = settings(host);
        (settings.tls.enabled, settings.quic.enabled) = (false, false);
        settings
    };
    let (a, b) = (node(1, plain(1)).await, node(2, plain(2)).await);
    a.want(address(&b)).await.expect("is accepted");
    connected(&a, &b).await;
    let secure = |peer: &peerkeep::PeerStatus| peer.link.as_ref().and_then(|link| link.secure);
    assert_eq!(secure(&a.peer(b.id()).await.expect("is known")), Some(false));
    for node in [&b, &a] {
        let mut settings = node.settings();
        settings.tls.enabled = true;
        node.configure(settings).await.expect("holds");
    }
    for (node, other) in [(&a, &b), (&b, &a)] {
        status(node, other.id(), "a private connection", |peer| secure(peer) == Some(true)).await;
    }
    a.shutdown().await;
    b.shutdown().await;
}

/// Says so many bytes, one at a time, and tells after how long it was cut off.
async fn drip(to: SocketAddr) -> Duration {
    let mut socket = TcpStream::connect(to).await.expect("it listens");
    let began = Instant::now();
    // The beginning of a TLS record that promises 16 KiB.
    let mut bytes = [0x16, 3, 1, 0x40, 0].into_iter().chain(std::iter::repeat(1));
    loop {
        let byte = [bytes.next().unwrap_or(1)];
        let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, &byte).await;
        match tokio::time::timeout(Duration::from_millis(50), socket.read(&mut [0; 64])).await {
            Ok(_closed) => return began.elapsed(),
            Err(_not_yet) => assert!(began.elapsed() < PATIENCE, "it is let talk for ever"),
        }
    }
}

/// S1.31: slow, flooding and garbage-sending attackers at once; honest peers get in and are answered meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_31_attackers_are_held_off_and_honest_peers_are_served_meanwhile() {
    let handshake = Duration::from_secs(2);
    let mut ours = roomy(1, Duration::from_secs(10));
    ours.timeouts.handshake = handshake;
    ours.limits.pending = 64;
    let a = node(1, ours).await;
    let Some(peerkeep::Place::Ip(at)) = address(&a).place else { panic!("an IP address") };
    let at = at.socket();
    let mut slow = tokio::task::JoinSet::new();
    (0..8).for_each(|_| drop(slow.spawn(drip(at))));
    let mut others = tokio::task::JoinSet::new();
    for garbage in [true, false] {
        others.spawn(async move {
            loop {
                // Some thousand a second in all: more, and this test's own thread does nothing else.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let Ok(mut socket) = TcpStream::connect(at).await else { continue };
                // Closed by a reset, so that its port is free at once.
                socket.set_zero_linger().expect("a socket");
                if garbage {
                    let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, &[0xee; 512]).await;
                    let _ = socket.read(&mut [0; 64]).await;
                }
            }
        });
    }
    let mut honest = Vec::new();
    for number in 2..8 {
        let mut settings = settings(number);
        settings.backoff.max_attempts = 0;
        let b = node(number, settings).await;
        b.want(address(&a)).await.expect("is accepted");
        honest.push(b);
    }
    for b in &honest {
        connected(&a, b).await;
    }
    while let Some(took) = slow.join_next().await {
        let took = took.expect("no panic");
        // Those above the limit of arrivals are dropped before.
        assert!(took < 3 * handshake, "{took:?}");
    }
    others.shutdown().await;
    soon("only the honest ones are left", async {
        while !a.pending().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(a.connection_count(), honest.len());
    a.shutdown().await;
    for b in honest {
        b.shutdown().await;
    }
}

/// The other half of S1.31: whoever answers our dials with garbage is tried again ever more slowly.
#[tokio::test]
async fn s1_31_whoever_answers_with_garbage_is_dialled_ever_more_slowly() {
    let rude = TcpListener::bind("127.0.0.77:0").await.expect("a port");
    let rude_at = rude.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = rude.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut tcp, &[0xee; 512]).await;
        }
    });
    let mut settings = brief(1, Duration::from_secs(10));
    settings.backoff = Settings::default().backoff;
    settings.backoff.first = Duration::from_millis(200);
    settings.backoff.jitter = peerkeep::PerMille(0);
    settings.backoff.max_attempts = 4;
    settings.backoff.fast_window = Duration::ZERO;
    let a = node(1, settings).await;
    let mut events = a.events();
    a.connect_nowait(over_tcp(77, rude_at)).await.expect("is accepted");
    let mut times = Vec::new();
    loop {
        let event = soon("an event", events.next()).await.expect("the node runs");
        match event.what {
            peerkeep::EventKind::Dialing { .. } => times.push(Instant::now()),
            peerkeep::EventKind::GaveUp { attempts, error, .. } => {
                assert_eq!((attempts, error.map(|error| error.step)), (4, Some(StepName::Secure)));
                break;
            }
            _ => {}
        }
    }
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let least = [200, 400, 800].map(Duration::from_millis);
    assert_eq!(gaps.len(), 3);
    for (gap, least) in gaps.iter().zip(least) {
        assert!(*gap + Duration::from_millis(50) >= least, "{gaps:?}");
    }
    a.shutdown().await;
}
