//! Links over QUIC: the same greeting, channels and goodbye as over TCP; a client whose address changes; strangers and
//! other protocols refused; early data that is answered, and believed only from whoever proves it is theirs.

mod common;

use common::*;
use peerkeep_core::{Addr, AddrKind, Close, Fact, Fault, FaultKind, PeerKey, Step};
use peerkeep_mesh::{Identity, MeshConfig};
use peerkeep_net::{
    Ended, Io, MeetError, Meeting, Quic, QuicIo, QuicListener, QuicOptions, Stack, Terms, quic_fault,
};
use quinn::Endpoint;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A port that answers as a node.
struct Port {
    endpoint: Endpoint,
    at: SocketAddr,
}

fn port(node: &Node) -> Port {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
    let server = node.stack.quic_server();
    let endpoint = Endpoint::new(
        quinn::EndpointConfig::new(server.reset_key.clone()),
        Some(server.config),
        socket,
        Arc::new(quinn::TokioRuntime),
    )
    .expect("an endpoint");
    let at = endpoint.local_addr().expect("bound");
    Port { endpoint, at }
}

/// The sockets of a node that only dials.
fn dialling(node: &Node) -> Quic {
    Quic::new(node.stack.quic_server(), QuicOptions::default())
}

async fn accept_quic(node: &Node, port: &Port) -> Result<Up, MeetError> {
    let incoming = port.endpoint.accept().await.expect("open");
    let remote = incoming.remote_address();
    let connecting = incoming.accept().map_err(|error| node.stack.quic_fault(Step::Secure, &error))?;
    let terms = Terms { remote: Addr::new(remote, AddrKind::Quic), ..accept_terms(remote) };
    let (met, meeting) = node.stack.meet(Io::Quic(QuicIo::Arrived(connecting)), terms).await?;
    Ok(Up::start(met, meeting.settle(admit()).await?))
}

async fn dial_quic(
    node: &Node,
    quic: &Quic,
    expect: Option<PeerKey>,
    to: SocketAddr,
) -> Result<Up, MeetError> {
    let terms = Terms { remote: Addr::new(to, AddrKind::Quic), ..dial_terms(expect, to) };
    let dial = node.stack.quic_dial(&terms).expect("it speaks QUIC");
    let io = quic.connect(to, dial, |step, error| node.stack.quic_fault(step, error)).await?;
    let (met, meeting) = node.stack.meet(Io::Quic(io), terms).await?;
    Ok(Up::start(met, meeting.settle(admit()).await?))
}

async fn link_quic(a: &Node, quic: &Quic, b: &Node, port: &Port) -> (Up, Up) {
    let both = async { tokio::join!(dial_quic(a, quic, Some(b.key()), port.at), accept_quic(b, port)) };
    let (dialled, accepted) = soon(both).await;
    match (dialled, accepted) {
        (Ok(dialled), Ok(accepted)) => (dialled, accepted),
        (dialled, accepted) => panic!("{:?} {:?}", dialled.err(), accepted.err()),
    }
}

fn fault_of(result: Result<Up, MeetError>) -> Fault {
    match result {
        Err(MeetError::Fault(fault)) => fault,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it must not come up"),
    }
}

async fn echo_once(channel: &mut peerkeep_mesh::Channel, other: &mut peerkeep_mesh::Channel, text: &[u8]) {
    soon(async {
        channel.write_all(text).await.expect("written");
        let mut bytes = vec![0; text.len()];
        other.read_exact(&mut bytes).await.expect("read");
        other.write_all(&bytes).await.expect("written back");
        channel.read_exact(&mut bytes).await.expect("read back");
        assert_eq!(bytes, text);
    })
    .await;
}

#[tokio::test]
async fn a_link_over_quic_greets_carries_channels_and_messages_and_says_goodbye() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut incoming = b.registry.accept("echo", 4).expect("free");
        let mut news = b.registry.messages("news", 4).expect("a topic");
        let (quic, port) = (dialling(&a), port(&b));
        let (dialler, acceptor) = link_quic(&a, &quic, &b, &port).await;
        assert_eq!((dialler.met.key, acceptor.met.key), (b.key(), a.key()));
        assert_eq!(acceptor.met.greeting.expect("numbers").epoch, 100);
        assert_eq!(dialler.handle.info().remote, Addr::new(port.at, AddrKind::Quic));
        assert_eq!(acceptor.handle.info().seen.expect("told").kind, AddrKind::Quic);

        let mut here = soon(dialler.handle.open("echo")).await.expect("agreed");
        let mut there = soon(incoming.recv()).await.expect("a channel");
        echo_once(&mut here, &mut there, &vec![7; 100_000]).await;
        here.shutdown().await.expect("finished");
        assert_eq!(soon(there.read(&mut [0; 4])).await.expect("an end, no loss"), 0, "half-closed");
        there.write_all(b"more").await.expect("the other direction is open");
        let mut more = [0; 4];
        soon(here.read_exact(&mut more)).await.expect("read");
        drop(there);
        let error = soon(here.read(&mut more)).await.expect_err("dropped, not finished");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "fault C4");
        let unknown = soon(dialler.handle.open("nobody")).await.expect_err("nobody takes it");
        assert_eq!(unknown, peerkeep_mesh::ChannelError::Unknown);

        dialler.handle.send("news", "hello".into()).expect("queued");
        assert_eq!(soon(news.recv()).await.expect("a message").payload, "hello");
        dialler.post.probe();
        until(|| dialler.post.report().rtt_us > 0).await;
        assert!(dialler.post.bytes().received() > 100_000 && acceptor.post.bytes().sent() > 100_000);

        assert_eq!(dialler.close(Close::Idle).await, Ended::Asked);
        assert_eq!(acceptor.end().await, Ended::Goodbye(Close::Idle));
    })
    .await;
}

#[tokio::test]
async fn both_sides_may_say_goodbye_at_once_over_quic() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (quic, port) = (dialling(&a), port(&b));
        let (dialler, acceptor) = link_quic(&a, &quic, &b, &port).await;
        let (one, other) = tokio::join!(dialler.close(Close::Shutdown), acceptor.close(Close::Shutdown));
        assert_eq!((one, other), (Ended::Asked, Ended::Asked));
    })
    .await;
}

#[tokio::test]
async fn a_link_whose_other_side_vanishes_ends_and_its_channels_are_lost() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut incoming = b.registry.accept("echo", 4).expect("free");
        let (quic, port) = (dialling(&a), port(&b));
        let (dialler, acceptor) = link_quic(&a, &quic, &b, &port).await;
        let _here = soon(dialler.handle.open("echo")).await.expect("agreed");
        let mut there = soon(incoming.recv()).await.expect("a channel");
        dialler.run.abort();
        let error = soon(there.read(&mut [0; 1])).await.expect_err("a loss");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(acceptor.end().await, Ended::Fault(Fault::new(Step::Live, FaultKind::Closed)));
    })
    .await;
}

#[tokio::test]
async fn s1_16_another_key_than_expected_is_refused_over_quic_before_ours_is_shown() {
    local(async {
        let (a, b, c) = (Node::new(1), Node::new(2), Node::new(3));
        let (quic, port) = (dialling(&a), port(&b));
        let met =
            async { tokio::join!(dial_quic(&a, &quic, Some(c.key()), port.at), accept_quic(&b, &port)) };
        let (dialled, accepted) = soon(met).await;
        assert_eq!(fault_of(dialled).kind, FaultKind::Identity);
        assert_eq!(fault_of(accepted).step, Step::Secure, "it never learned who we are");
    })
    .await;
}

#[tokio::test]
async fn another_network_is_told_so_over_quic() {
    local(async {
        let (a, b) = (Node::with(1, |config| config.network = "other".into()), Node::new(2));
        let (quic, port) = (dialling(&a), port(&b));
        let met = async { tokio::join!(dial_quic(&a, &quic, None, port.at), accept_quic(&b, &port)) };
        let (dialled, accepted) = soon(met).await;
        assert!(matches!(dialled, Err(MeetError::Declined { code: 1, .. })));
        assert_eq!(fault_of(accepted).kind, FaultKind::Network);
    })
    .await;
}

/// A client of another program: no key of its own to show, or another protocol name.
async fn stranger(at: SocketAddr, alpn: &[u8], key: Option<&Identity>) -> quinn::ConnectionError {
    let plain =
        peerkeep_mesh::tls::Tls::new(key.unwrap_or(&Identity::generate().expect("random"))).expect("a key");
    let mut tls = (*plain.client(None)).clone();
    tls.alpn_protocols = vec![alpn.to_vec()];
    if key.is_none() {
        tls.client_auth_cert_resolver = Arc::new(NoKey);
    }
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3");
    let endpoint = Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("an endpoint");
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, at, "peerkeep").expect("begun");
    match soon(connecting).await {
        Err(error) => error,
        // TLS 1.3 lets a client finish before the server has looked at its certificate.
        Ok(connection) => soon(connection.closed()).await,
    }
}

#[derive(Debug)]
struct NoKey;

impl rustls::client::ResolvesClientCert for NoKey {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn fault_h8_another_protocol_or_no_certificate_is_refused_over_quic() {
    local(async {
        let b = Node::new(2);
        let port = port(&b);
        let key = Identity::generate().expect("random");
        for (alpn, key, kind) in [
            (&b"peerkeep/1"[..], Some(&key), FaultKind::Protocol),
            (b"h3", Some(&key), FaultKind::Protocol),
            (b"peerkeep-quic/1", None, FaultKind::Secure),
        ] {
            let met = async { tokio::join!(stranger(port.at, alpn, key), accept_quic(&b, &port)) };
            let (error, accepted) = soon(met).await;
            assert_eq!(quic_fault(Step::Connect, &error).kind, kind, "{error}");
            assert_eq!(fault_of(accepted).step, Step::Secure);
        }
    })
    .await;
}

#[tokio::test]
async fn the_clients_address_changes_and_bytes_keep_flowing_on_the_same_link() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut incoming = b.registry.accept("echo", 4).expect("free");
        // Towards loopback nothing listens, so this is a socket of its own.
        let (quic, port) = (dialling(&a), port(&b));
        let (dialler, acceptor) = link_quic(&a, &quic, &b, &port).await;
        let mut here = soon(dialler.handle.open("echo")).await.expect("agreed");
        let mut there = soon(incoming.recv()).await.expect("a channel");
        echo_once(&mut here, &mut there, b"before").await;
        let before = acceptor.handle.info().remote;
        quic.rebind().expect("another port");
        echo_once(&mut here, &mut there, b"after").await;
        let mut moved = None;
        until(|| {
            for fact in acceptor.facts() {
                if let Fact::Met { key, at, greeting: None, .. } = fact {
                    assert_eq!(key, a.key());
                    moved = Some(at);
                }
            }
            moved.is_some()
        })
        .await;
        let moved = moved.expect("told");
        assert!(moved != before && moved.kind == AddrKind::Quic, "{moved} after {before}");
        assert!(!acceptor.handle.is_ended() && !dialler.handle.is_ended());
    })
    .await;
}

/// Fault R2.
#[tokio::test]
async fn streams_beyond_the_cap_wait_and_the_link_lives() {
    local(async {
        let few = |config: &mut MeshConfig| config.max_channels = 2;
        let (a, b) = (Node::new(1), Node::with(2, few));
        let mut incoming = b.registry.accept("echo", 8).expect("free");
        let (quic, port) = (dialling(&a), port(&b));
        let (dialler, _acceptor) = link_quic(&a, &quic, &b, &port).await;
        let mut channels = Vec::new();
        for _ in 0..2 {
            channels.push(soon(dialler.handle.open("echo")).await.expect("within the cap"));
        }
        let busy = soon(dialler.handle.open("echo")).await.expect_err("one too many");
        assert_eq!(busy, peerkeep_mesh::ChannelError::Busy);
        let mut there = soon(incoming.recv()).await.expect("a channel");
        echo_once(&mut channels[0], &mut there, b"still here").await;
    })
    .await;
}

#[tokio::test]
async fn s1_4_a_second_connection_greets_in_early_data_when_both_sides_allow_it() {
    local(async {
        let early = |config: &mut MeshConfig| config.early_data = true;
        for (a, b, may) in [
            (Node::with(1, early), Node::with(2, early), true),
            (Node::with(1, early), Node::new(2), false),
            (Node::new(1), Node::with(2, early), false),
            (Node::new(1), Node::new(2), false),
        ] {
            let (quic, port) = (dialling(&a), port(&b));
            let (dialler, acceptor) = link_quic(&a, &quic, &b, &port).await;
            // The ticket comes after the greeting.
            dialler.post.probe();
            until(|| dialler.post.report().rtt_us > 0).await;
            tokio::join!(dialler.close(Close::Idle), acceptor.end());
            assert_eq!(again(&a, &quic, &b, &port).await.1, may);
        }
    })
    .await;
}

/// Dials a peer that was met before, and uses the connection: whether early data was sent, and whether it was taken.
async fn again(a: &Node, quic: &Quic, b: &Node, port: &Port) -> (bool, bool) {
    let to = port.at;
    let terms = Terms { remote: Addr::new(to, AddrKind::Quic), ..dial_terms(Some(b.key()), to) };
    let dial = a.stack.quic_dial(&terms).expect("QUIC");
    let sent = !dial.early.is_empty();
    let (io, accepted) = soon(async {
        let met = async {
            let io = quic.connect(to, dial, |step, error| a.stack.quic_fault(step, error)).await;
            let io = io.expect("connected");
            let taken = matches!(&io, QuicIo::Dialled { early: Some(_), .. });
            let (met, meeting) = a.stack.meet(Io::Quic(io), terms).await.expect("met");
            (taken, Up::start(met, meeting.settle(admit()).await.expect("agreed")))
        };
        tokio::join!(met, accept_quic(b, port))
    })
    .await;
    let (taken, dialler) = io;
    let acceptor = accepted.expect("up");
    assert_eq!((acceptor.met.key, dialler.met.key), (a.key(), b.key()));
    let mut incoming = b.registry.accept("echo", 1).expect("free");
    let mut here = soon(dialler.handle.open("echo")).await.expect("agreed");
    let mut there = soon(incoming.recv()).await.expect("a channel");
    echo_once(&mut here, &mut there, b"early or not").await;
    (sent, taken)
}

/// Faults Z2, Z3, Z4: what keeps tickets is gone with its process, so the next one refuses early data, and one round trip
/// later all is as without it.
#[tokio::test]
async fn faults_z2_z3_early_data_under_a_ticket_that_counts_no_more_is_said_again_and_nothing_is_lost() {
    local(async {
        let early = |config: &mut MeshConfig| config.early_data = true;
        let (a, b) = (Node::with(1, early), Node::with(2, early));
        let (quic, before) = (dialling(&a), port(&b));
        let (dialler, acceptor) = link_quic(&a, &quic, &b, &before).await;
        dialler.post.probe();
        until(|| dialler.post.report().rtt_us > 0).await;
        tokio::join!(dialler.close(Close::Idle), acceptor.end());
        let restarted = Node::with(2, early);
        let port = port(&restarted);
        assert_eq!(again(&a, &quic, &restarted, &port).await, (true, false));
    })
    .await;
}

#[tokio::test]
async fn a_port_nobody_listens_on_is_refused_at_once_over_quic() {
    let a = Node::new(1);
    let quic = dialling(&a);
    let closed =
        QuicListener::bind(([127, 0, 0, 1], 0).into(), &QuicOptions::default()).expect("binds").local();
    let terms = Terms { remote: Addr::new(closed, AddrKind::Quic), ..dial_terms(None, closed) };
    let dial = a.stack.quic_dial(&terms).expect("QUIC");
    let fault = soon(quic.connect(closed, dial, quic_fault)).await.expect_err("nobody is there");
    assert_eq!(fault.kind, FaultKind::Refused);
}
