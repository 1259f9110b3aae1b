//! TCP without TLS (S1.17): only where somebody said so, keys proven all the same, and never by accident.

mod common;
use common::*;
use peerkeep_core::{FaultKind, Step};
use peerkeep_mesh::tls::Detail;
use peerkeep_mesh::{Identity, Protection};
use peerkeep_net::{Io, MeetError, Stack};
use ring::signature::Ed25519KeyPair;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAGIC: &[u8] = b"peerkeep-plain/1";

fn plain(seed: u8) -> Node {
    Node::with(seed, |config| config.protection = Protection::Plain { anywhere: false })
}

fn fault(error: Option<MeetError>) -> (Step, FaultKind, u32) {
    match error {
        Some(MeetError::Fault(fault)) => (fault.step, fault.kind, fault.detail),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn s1_17_without_tls_both_keys_are_proven_and_the_link_says_that_it_is_not_secure() {
    local(async {
        let (a, b) = (plain(1), plain(2));
        let mut incoming = b.registry.accept("echo", 1).expect("free");
        let (at_a, at_b) = link(&a, &b).await;
        assert_eq!((at_a.met.key, at_b.met.key), (b.key(), a.key()));
        assert_eq!((at_a.handle.info().secure, at_b.handle.info().secure), (false, false));
        let mut channel = soon(at_a.handle.open("echo")).await.expect("agreed");
        let mut other = soon(incoming.recv()).await.expect("a channel");
        channel.write_all(b"in the clear").await.expect("written");
        let mut bytes = [0; 12];
        soon(other.read_exact(&mut bytes)).await.expect("read");
        assert_eq!(&bytes, b"in the clear");
        let (c, d) = (Node::new(3), Node::new(4));
        let (at_c, at_d) = link(&c, &d).await;
        assert_eq!((at_c.handle.info().secure, at_d.handle.info().secure), (true, true));
    })
    .await;
}

/// Neither falls back to what the other speaks.
#[tokio::test]
async fn s1_17_a_node_with_tls_and_one_without_never_meet() {
    local(async {
        for (dialler, acceptor) in [(plain(1), Node::new(2)), (Node::new(1), plain(2))] {
            let (dialled, accepted) = meet(&dialler, &acceptor).await;
            for error in [dialled.err(), accepted.err()] {
                assert_eq!(fault(error).0, Step::Secure);
            }
        }
    })
    .await;
}

/// Off loopback it takes one word more, and without it no byte is said.
#[tokio::test]
async fn s1_17_beyond_loopback_plain_is_refused_unless_that_is_asked_for_too() {
    local(async {
        let far = "192.0.2.7:7330".parse().expect("an address");
        for anywhere in [false, true] {
            let (a, b) = (plain(1), plain(2));
            let a = if anywhere {
                Node::with(1, |config| config.protection = Protection::Plain { anywhere })
            } else {
                a
            };
            let (mut ours, theirs) = sockets().await;
            let dial = a.stack.meet(Io::Tcp(theirs), dial_terms(Some(b.key()), far));
            let heard = async {
                let mut heard = Vec::new();
                let mut first = [0; 64];
                let count = ours.read(&mut first).await.unwrap_or(0);
                heard.extend_from_slice(&first[..count]);
                drop(ours);
                heard
            };
            let (met, heard) = soon(async { tokio::join!(dial, heard) }).await;
            let (_, kind, detail) = fault(met.err());
            let refused = (kind, detail) == (FaultKind::Secure, Detail::Exposed as u32);
            assert_eq!((refused, heard.is_empty()), (!anywhere, !anywhere));

            let (ours, mut theirs) = sockets().await;
            let accept = a.stack.meet(Io::Tcp(ours), accept_terms(far));
            theirs.write_all(b"x").await.expect("open");
            let (_, kind, detail) = fault(soon(accept).await.err());
            let expected = if anywhere {
                (FaultKind::Protocol, Detail::NotPlain as u32)
            } else {
                (FaultKind::Secure, Detail::Exposed as u32)
            };
            assert_eq!((kind, detail), expected);
        }
    })
    .await;
}

/// What a dialler says by hand, and what the acceptor makes of it.
async fn dial_by_hand(say: impl AsyncFnOnce(&mut TcpStream, [u8; 144])) -> (Step, FaultKind, u32) {
    let b = plain(2);
    let (mut ours, theirs) = sockets().await;
    let by_hand = async {
        ours.write_all(MAGIC).await.expect("open");
        ours.write_all(&[7; 32]).await.expect("open");
        let mut answer = [0; 144];
        ours.read_exact(&mut answer).await.expect("an answer");
        say(&mut ours, answer).await;
        ours
    };
    let (_open, met) = soon(async { tokio::join!(by_hand, accept(&b, admit(), theirs)) }).await;
    fault(met.err())
}

/// The dialler's statement, from the protocol's page.
fn statement(answer: &[u8; 144], acceptor: &[u8], dialler: &[u8]) -> Vec<u8> {
    let nonce = &answer[48..80];
    [&b"peerkeep plain dialler\0\0"[..], &[7; 32], nonce, acceptor, dialler].concat()
}

#[tokio::test]
async fn s1_17_a_key_that_did_not_sign_for_this_acceptor_and_moment_is_refused() {
    local(async {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("a key");
        let me = Identity::from_seed(&[9; 32]).expect("an identity").key().bytes;
        let someone = Identity::from_seed(&[8; 32]).expect("an identity").key().bytes;
        let refused = (Step::Secure, FaultKind::Secure, Detail::Certificate as u32);
        let send = async |tcp: &mut TcpStream, key: [u8; 32], signed: Vec<u8>| {
            tcp.write_all(&[&key[..], pair.sign(&signed).as_ref()].concat()).await.expect("open");
        };
        // Signed by another key than the one shown.
        let impostor = dial_by_hand(async |tcp, answer| {
            send(tcp, someone, statement(&answer, &answer[16..48], &someone)).await;
        });
        assert_eq!(impostor.await, refused);
        // Made for another acceptor, who passes it on.
        let forwarded = dial_by_hand(async |tcp, answer| {
            send(tcp, me, statement(&answer, &someone, &me)).await;
        });
        assert_eq!(forwarded.await, refused);
        // Made at another moment.
        let replayed = dial_by_hand(async |tcp, mut answer| {
            answer[48] ^= 1;
            let acceptor: Vec<u8> = answer[16..48].to_vec();
            send(tcp, me, statement(&answer, &acceptor, &me)).await;
        });
        assert_eq!(replayed.await, refused);
        // And this is what is right: refused later, because a hello does not come.
        let good = dial_by_hand(async |tcp, answer| {
            send(tcp, me, statement(&answer, &answer[16..48], &me)).await;
            tcp.shutdown().await.expect("open");
        });
        assert_eq!(good.await.0, Step::Hello);
    })
    .await;
}

/// An acceptor that is not the one who was dialled learns nothing about who dialled.
#[tokio::test]
async fn s1_17_another_key_than_expected_is_refused_before_ours_is_shown() {
    local(async {
        let (a, b) = (plain(1), plain(2));
        let (dialled, accepted) = sockets().await;
        let expect = Some(Identity::from_seed(&[3; 32]).expect("an identity").key());
        let both = async { tokio::join!(dial(&a, expect, dialled), accept(&b, admit(), accepted)) };
        let (at_a, at_b) = soon(both).await;
        let mistaken = (Step::Secure, FaultKind::Identity, Detail::Certificate as u32);
        assert_eq!(fault(at_a.err()), mistaken);
        let (step, kind, _) = fault(at_b.err());
        assert_eq!((step, kind), (Step::Secure, FaultKind::Closed), "closed before the key");
    })
    .await;
}
