//! libp2p's TLS inside QUIC: on real sockets of the loopback, through what `peerkeep-net` dials with.

use super::*;
use crate::testing::every_kind;
use futures::FutureExt as _;
use peerkeep_core::Step;
use peerkeep_net::{Quic, QuicIo, QuicOptions, quic_fault};
use quinn::{Connection, ConnectionError, Endpoint, EndpointConfig, TokioRuntime};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const TERMS: QuicTerms = QuicTerms { streams: 4, keepalive: None, idle: Some(Duration::from_secs(20)) };

fn node(pair: &Keypair) -> TlsNode {
    TlsNode::new(pair, &["/yamux/1.0.0"]).expect("a node")
}

fn name(pair: &Keypair) -> Option<PeerKey> {
    crate::peer_key(&pair.public())
}

/// A port that answers as that node does.
fn port(node: &TlsNode) -> (Endpoint, SocketAddr) {
    port_with(node, &TERMS)
}

fn port_with(node: &TlsNode, terms: &QuicTerms) -> (Endpoint, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let server = node.quic_server(terms).expect("a server");
    let config = EndpointConfig::new(server.reset_key);
    let endpoint =
        Endpoint::new(config, Some(server.config), socket, Arc::new(TokioRuntime)).expect("an endpoint");
    let at = endpoint.local_addr().expect("bound");
    (endpoint, at)
}

async fn accept(port: &Endpoint) -> Result<Connection, ConnectionError> {
    port.accept().await.expect("open").accept()?.await
}

async fn dial(
    node: &TlsNode,
    expect: Option<PeerKey>,
    to: SocketAddr,
) -> Result<Connection, peerkeep_core::Fault> {
    let quic = Quic::new(node.quic_server(&TERMS).expect("a server"), QuicOptions::default());
    match quic.connect(to, node.quic_dial(&TERMS, expect).expect("dials"), quic_fault).await? {
        QuicIo::Dialled { connection, early: None } => Ok(connection),
        other => panic!("{other:?}"),
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

#[tokio::test]
async fn every_kind_of_identity_is_proven_over_quic() {
    for (a, b) in every_kind().into_iter().zip(every_kind().into_iter().rev()) {
        let (alice, bob) = (node(&a), node(&b));
        let (port, at) = port(&bob);
        let (dialled, accepted) =
            soon(async { tokio::join!(dial(&alice, name(&b), at), accept(&port)) }).await;
        let (dialled, accepted) = (dialled.expect("dialled"), accepted.expect("accepted"));
        assert_eq!(proven_quic(&dialled).expect("proven").public, b.public());
        assert_eq!(proven_quic(&accepted).expect("proven").public, a.public());
        // As many streams as the terms say.
        let mut streams = Vec::new();
        for _ in 0..TERMS.streams {
            streams.push(soon(dialled.open_bi()).await.expect("opens"));
        }
        assert!(dialled.open_bi().now_or_never().is_none(), "one more waits");
        assert!(dialled.open_uni().now_or_never().is_none(), "libp2p has none of these");
        assert_eq!(dialled.max_datagram_size(), None, "nor datagrams");
    }
}

#[tokio::test]
async fn another_identity_than_expected_is_refused_over_quic() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (alice, bob) = (node(&a), node(&b));
    let (port, at) = port(&bob);
    let (dialled, accepted) = soon(async { tokio::join!(dial(&alice, name(&a), at), accept(&port)) }).await;
    let fault = dialled.expect_err("refused");
    assert_eq!((fault.step, fault.kind), (Step::Secure, FaultKind::Identity));
    let fault = quic_fault(Step::Secure, &accepted.expect_err("refused"));
    assert_eq!(fault.kind, FaultKind::Secure);
}

/// As many as may be open but one are full and nobody reads them.
#[tokio::test]
async fn streams_that_nobody_reads_stall_no_other() {
    let terms = QuicTerms { streams: 16, ..TERMS };
    let (alice, bob) = (node(&Keypair::generate_ed25519()), node(&Keypair::generate_ed25519()));
    let (port, at) = port_with(&bob, &terms);
    let (dialled, accepted) = soon(async { tokio::join!(dial(&alice, None, at), accept(&port)) }).await;
    let (dialled, accepted) = (dialled.expect("dialled"), accepted.expect("accepted"));
    let mut full = Vec::new();
    for _ in 1..terms.streams {
        let (mut send, recv) = dialled.open_bi().await.expect("opens");
        soon(send.write_all(&vec![7; 256 * 1024])).await.expect("written");
        assert!(send.write(&[7]).now_or_never().is_none(), "and no more");
        full.push((send, recv));
    }
    let (mut send, _recv) = dialled.open_bi().await.expect("opens");
    soon(send.write_all(b"heard")).await.expect("written");
    let last = soon(async {
        let mut last = None;
        for _ in 0..terms.streams {
            last = Some(accepted.accept_bi().await.expect("open"));
        }
        last.expect("many")
    });
    let mut heard = [0; 5];
    soon(last.await.1.read_exact(&mut heard)).await.expect("reads");
    assert_eq!(&heard, b"heard");
}

/// The protocol over TCP is not the one in QUIC, and none is none.
#[tokio::test]
async fn fault_h8_quic_without_libp2ps_protocol_name_is_turned_away() {
    let (ours, theirs) = (node(&Keypair::generate_ed25519()), node(&Keypair::generate_ed25519()));
    let (port, at) = port(&ours);
    for (protocols, kind) in
        [(vec![b"/yamux/1.0.0".to_vec()], FaultKind::Protocol), (vec![b"h3".to_vec()], FaultKind::Protocol)]
    {
        let mut tls = theirs.pinned(None);
        tls.alpn_protocols = protocols;
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("suites");
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let client = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a client");
        let dialled = client.connect_with(config, at, "localhost").expect("starts");
        let (dialled, accepted) = soon(async { tokio::join!(dialled, accept(&port)) }).await;
        for error in [dialled.err(), accepted.err()] {
            assert_eq!(quic_fault(Step::Secure, &error.expect("refused")).kind, kind);
        }
    }
}

/// Peers of the last run learn that it is over, whatever kind of identity it has, where that can be.
#[test]
fn the_keys_of_resets_and_connection_ids_are_the_same_after_a_start() {
    for pair in every_kind() {
        let run = || node(&pair).quic_server(&TERMS).expect("a server");
        let (one, other) = (run(), run());
        let sign = |server: &peerkeep_net::QuicServer| {
            let mut tag = vec![0; server.reset_key.signature_len()];
            server.reset_key.sign(b"id", &mut tag);
            (tag, server.id_key)
        };
        let same = sign(&one) == sign(&other);
        assert_eq!(same, pair.key_type() != libp2p_identity::KeyType::RSA);
    }
}
