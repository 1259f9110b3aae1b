//! A dialler made by hand from the public pieces: what may follow its confirm, and what the acceptor says to it.

mod common;
use common::*;
use peerkeep_core::Greeting;
use peerkeep_mesh::MeshConfig;
use peerkeep_mesh::handshake::{Dialler, Local};
use peerkeep_mesh::tls::Tls;
use peerkeep_mesh::wire::{self, Handshake, MAX_HANDSHAKE_BYTES};
use peerkeep_net::{Io, Meeting, Stack};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Greets up to the answer; the confirm is not sent.
async fn answered(a: &Node, b: &Node, tcp: TcpStream) -> TlsStream<TcpStream> {
    let remote = addr(tcp.peer_addr().expect("connected"));
    let tls = Tls::new(&a.identity).expect("an identity").client(Some(b.key()));
    let mut tls = TlsConnector::from(tls).connect(Tls::no_name(), tcp).await.expect("TLS");
    let config = MeshConfig {
        network: "test".into(),
        secret: peerkeep_mesh::Secret::new(*b"the secret of the test network").ok(),
        ..MeshConfig::default()
    };
    let local = Arc::new(Local::new(a.key(), &config));
    let greeting = Greeting { epoch: 100, dial: 1, ..Greeting::default() };
    let mut out = Vec::new();
    let mut dialler =
        Dialler::start(local, b.key(), remote, &greeting, [5; 16], &mut out).expect("b may be greeted");
    tls.write_all(&out).await.expect("room");
    let mut frame = vec![0; wire::PREFIX_BYTES];
    tls.read_exact(&mut frame).await.expect("an answer");
    let length = wire::body_length([frame[0], frame[1]], MAX_HANDSHAKE_BYTES).expect("short");
    frame.resize(wire::PREFIX_BYTES + length, 0);
    tls.read_exact(&mut frame[wire::PREFIX_BYTES..]).await.expect("a whole answer");
    let parsed = wire::parse::<Handshake>(&frame, MAX_HANDSHAKE_BYTES).expect("sound").expect("whole");
    dialler.handle(parsed.0).expect("they agree").expect("an answer");
    tls
}

/// A Yamux data frame that opens stream 1.
fn opening(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
    [&[0, 0, 0, 1, 0, 0, 0, 1][..], &length, bytes].concat()
}

#[tokio::test]
async fn s3_25_s3_26_the_first_message_may_ride_in_the_same_record_as_the_confirm() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let mut news = b.registry.messages("news", 4).expect("a topic");
        let (dialled, accepted) = sockets().await;
        let dial = async {
            let mut tls = answered(&a, &b, dialled).await;
            let mut last = Vec::new();
            Dialler::confirm(&mut last);
            let mail = [&b"\x0dpeerkeep/mail"[..], b"\x04news", &5u32.to_be_bytes(), b"hello"].concat();
            last.extend(opening(&mail));
            // One write, one record: nothing is heard between the answer and the message.
            tls.write_all(&last).await.expect("room");
            tls
        };
        let (tls, up) = soon(async { tokio::join!(dial, accept(&b, admit(), accepted)) }).await;
        let up = up.expect("the acceptor is up");
        let message = soon(news.recv()).await.expect("the message");
        assert_eq!((message.from, &message.payload[..]), (a.key(), &b"hello"[..]));
        drop(tls);
        up.end().await;
    })
    .await;
}

#[tokio::test]
async fn s3_26_the_acceptor_acknowledges_nothing_after_its_answer() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (dialled, accepted) = sockets().await;
        let remote = accepted.peer_addr().expect("connected");
        let accept = async {
            let met = b.stack.meet(Io::Tcp(accepted), accept_terms(remote)).await;
            met.expect("meets").1.settle(admit()).await.expect("the confirm came")
        };
        let dial = async {
            let mut tls = answered(&a, &b, dialled).await;
            let mut last = Vec::new();
            Dialler::confirm(&mut last);
            tls.write_all(&last).await.expect("room");
            tls
        };
        let (mut tls, _up) = soon(async { tokio::join!(dial, accept) }).await;
        // The acceptor is up by now, and had it a word for us, it would be in our buffer already.
        let word = tokio::time::timeout(Duration::from_millis(200), tls.read(&mut [0])).await;
        assert!(word.is_err(), "{word:?}");
    })
    .await;
}

#[tokio::test]
async fn a_dialler_that_leaves_before_its_confirm_is_never_announced() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        let (dialled, accepted) = sockets().await;
        let remote = accepted.peer_addr().expect("connected");
        let accept = async {
            let met = b.stack.meet(Io::Tcp(accepted), accept_terms(remote)).await;
            met.expect("meets").1.settle(admit()).await
        };
        // It has read the answer, so all that was missing is its confirm.
        let dial = async { drop(answered(&a, &b, dialled).await) };
        let ((), up) = soon(async { tokio::join!(dial, accept) }).await;
        assert!(up.is_err(), "nobody confirmed");
    })
    .await;
}
