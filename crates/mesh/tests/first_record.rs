//! The first bytes of a TLS handshake, split and bent in every way (fault H9).

mod common;
use common::*;
use peerkeep_core::{FaultKind, Step};
use peerkeep_mesh::tls::Tls;
use peerkeep_net::{Io, MeetError, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A TLS record's header: kind, version, length.
const HEADER: usize = 5;

/// How the dialler's first record reaches the acceptor.
#[derive(Clone, Copy, Debug)]
enum Split {
    /// One write for each byte.
    Writes,
    /// So many bytes of the ClientHello in each record.
    Records(usize),
}

/// Carries what the dialler says, its first record split; the rest as it is.
async fn carry(mut from: TcpStream, mut to: TcpStream, split: Split) {
    let mut header = [0; HEADER];
    from.read_exact(&mut header).await.expect("a record");
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    from.read_exact(&mut hello).await.expect("a whole record");
    let bytes = match split {
        Split::Writes => header.iter().chain(&hello).copied().collect(),
        Split::Records(size) => {
            hello.chunks(size).flat_map(|part| record(&header, part)).collect::<Vec<u8>>()
        }
    };
    let step = if matches!(split, Split::Writes) { 1 } else { bytes.len() };
    for part in bytes.chunks(step) {
        to.write_all(part).await.expect("the acceptor listens");
        tokio::task::yield_now().await;
    }
    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
}

fn record(like: &[u8; HEADER], body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    [&like[..3], &length, body].concat()
}

#[tokio::test]
async fn fault_h9_a_hello_in_pieces_is_the_same_hello() {
    local(async {
        let (a, b) = (Node::new(1), Node::new(2));
        for split in [Split::Writes, Split::Records(100), Split::Records(7), Split::Records(1)] {
            let (dialled, near) = sockets().await;
            let (far, accepted) = sockets().await;
            let carrying = tokio::task::spawn_local(carry(near, far, split));
            let (near, far) =
                soon(async { tokio::join!(dial(&a, Some(b.key()), dialled), accept(&b, admit(), accepted)) })
                    .await;
            let (near, far) = (near.expect("the dialler is up"), far.expect("the acceptor is up"));
            assert_eq!((near.met.key, far.met.key), (b.key(), a.key()), "{split:?}");
            near.run.abort();
            far.run.abort();
            soon(carrying).await.expect("no panic");
        }
    })
    .await;
}

/// A dialler's first record.
fn client_hello(a: &Node) -> Vec<u8> {
    let config = Tls::new(&a.identity).expect("an identity").client(None);
    let mut client = rustls::ClientConnection::new(config, Tls::no_name()).expect("a client");
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("memory");
    }
    bytes
}

/// How our acceptor takes these bytes and then nothing more.
async fn taken(b: &Node, bytes: &[u8]) -> MeetError {
    let (mut dialled, accepted) = sockets().await;
    let remote = accepted.peer_addr().expect("connected");
    let dial = async {
        let _ = dialled.write_all(bytes).await;
        let _ = dialled.shutdown().await;
        let _ = dialled.read_to_end(&mut Vec::new()).await;
    };
    let met = async { b.stack.meet(Io::Tcp(accepted), accept_terms(remote)).await.map(|_| ()) };
    soon(async { tokio::join!(met, dial) }).await.0.expect_err("nobody was met")
}

#[tokio::test]
async fn fault_h9_a_bent_first_record_is_a_fault_of_the_handshake_and_nothing_worse() {
    let (a, b) = (Node::new(1), Node::new(2));
    let good = client_hello(&a);
    for at in 0..good.len() {
        for value in [0, 0xff, good[at] ^ 1] {
            let mut bent = good.clone();
            bent[at] = value;
            let error = taken(&b, &bent).await;
            assert!(
                matches!(error, MeetError::Fault(fault) if fault.step == Step::Secure),
                "{at}: {error:?}"
            );
        }
    }
}

#[tokio::test]
async fn fault_h9_records_that_say_nothing_or_too_much_end_at_once() {
    let (a, b) = (Node::new(1), Node::new(2));
    let good = client_hello(&a);
    let header: [u8; HEADER] = std::array::from_fn(|at| good[at]);
    // Each of these the acceptor must refuse by itself: a dialler that hung up would be called closed.
    let cases: [(&str, Vec<u8>); 4] = [
        ("records without a byte", record(&header, &[]).repeat(10_000)),
        ("a record longer than allowed", [&[0x16, 3, 1, 0xff, 0xff][..], &[1; 0xffff]].concat()),
        ("a hello of sixteen million bytes", record(&header, &[1, 0xff, 0xff, 0xff, 3, 3])),
        ("a hello again", [&good[..], &good[..]].concat()),
    ];
    for (what, bytes) in cases {
        let error = taken(&b, &bytes).await;
        let MeetError::Fault(fault) = error else { panic!("{what}: {error:?}") };
        assert_eq!((fault.step, fault.kind), (Step::Secure, FaultKind::Secure), "{what}");
    }
}
