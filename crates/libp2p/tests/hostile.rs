//! Peers that break the rules of naming protocols, before anybody is proven and after.

mod common;

use common::*;
use peerkeep_core::{Fault, FaultKind, Step};
use peerkeep_libp2p::Security;
use peerkeep_net::MeetError;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::spawn_local;

const HEAD: &[u8] = b"\x13/multistream/1.0.0\n";

/// How our acceptor ends with somebody who says that, and what it has answered.
async fn accepted(says: &[u8]) -> (Option<Fault>, Vec<u8>) {
    let (theirs, ours) = sockets().await;
    let node = Node::new(1);
    let (mut read, mut write) = theirs.into_split();
    let says = says.to_vec();
    let saying = spawn_local(async move {
        let _ = write.write_all(&says).await;
        write
    });
    let met = soon(accept(&node, admit(), ours)).await.map(|_| ());
    let mut answer = Vec::new();
    let _ = soon(read.read_to_end(&mut answer)).await;
    saying.abort();
    match met {
        Err(MeetError::Fault(fault)) => (Some(fault), answer),
        other => panic!("{other:?}"),
    }
}

/// Nothing of it waits for a deadline.
#[test]
fn fault_h4_a_dialler_that_names_protocols_without_end_or_huge_ones_is_turned_away_at_once() {
    on_a_shard(async {
        let protocol = Some(Fault::new(Step::Secure, FaultKind::Protocol));
        let endless = [HEAD, &b"\x02/\n".repeat(100_000)].concat();
        let (fault, answer) = accepted(&endless).await;
        assert_eq!(fault, protocol);
        assert!(answer.len() <= 20 + 4 * 350, "{} bytes", answer.len());
        let huge = [HEAD, &[0xff, 0x7f], &vec![b'/'; 16_383]].concat();
        assert_eq!(accepted(&huge).await.0, protocol);
        let length = [HEAD, &[0xff; 64]].concat();
        assert_eq!(accepted(&length).await.0, protocol);
        let http = [b"GET / HTTP/1.1\r\nHost: ", &b"example.".repeat(20)[..], b"\r\n\r\n"].concat();
        assert_eq!(accepted(&http).await.0, protocol);
    });
}

/// A dialler asks once for each thing it wants.
#[test]
fn fault_h4_an_acceptor_that_refuses_without_end_is_left() {
    on_a_shard(async {
        let (ours, theirs) = sockets().await;
        let node = Node::new(1);
        let saying = spawn_local(async move {
            let (mut read, mut write) = theirs.into_split();
            let _ = write.write_all(&[HEAD, &b"\x03na\n".repeat(100_000)].concat()).await;
            let mut asked = Vec::new();
            let _ = read.read_to_end(&mut asked).await;
            asked
        });
        let met = soon(dial(&node, None, ours)).await.map(|_| ());
        let Err(MeetError::Fault(fault)) = met else { panic!("{met:?}") };
        assert_eq!(fault, Fault::new(Step::Secure, FaultKind::Protocol));
        drop(node);
        let asked = soon(saying).await.expect("no panic");
        assert!(asked.len() < 200, "{} bytes", asked.len());
    });
}

/// A dialler hears an answer, and not as many greetings as somebody likes to send.
#[test]
fn fault_h4_an_acceptor_that_greets_without_end_is_left() {
    on_a_shard(async {
        for security in [Security::Noise, Security::Tls, Security::Any] {
            let (ours, theirs) = sockets().await;
            let node = Node::with(1, |config| config.security = security);
            let saying = spawn_local(async move {
                let (_read, mut write) = theirs.into_split();
                while write.write_all(&HEAD.repeat(100)).await.is_ok() {}
            });
            let met = soon(dial(&node, None, ours)).await.map(|_| ());
            let Err(MeetError::Fault(fault)) = met else { panic!("{met:?}") };
            assert_eq!(fault, Fault::new(Step::Secure, FaultKind::Protocol), "{security:?}");
            soon(saying).await.expect("no panic");
        }
    });
}

/// Long before the ten seconds that a stream has; and it costs the link nothing.
#[test]
fn fault_h4_a_stream_of_a_proven_peer_that_names_protocols_without_end_is_reset_at_once() {
    on_a_shard(async {
        for over_quic in [false, true] {
            let (a, b) = (Node::new(1), Node::new(2));
            let _taken = b.protocols.accept("/taken/1", 1).expect("free");
            let (here, there) = match over_quic {
                false => linked(&a, &b).await,
                true => linked_over_quic(&a, &b).await,
            };
            // What is written after a name that nobody takes is read as further names: short ones, or one that is huge.
            let huge = [&[0xff, 0x7f][..], &[b'/'; 16_383]].concat();
            for names in [b"\x02/\n".repeat(1_000), huge] {
                let mut channel = soon(here.handle.open_at_once("/no/1")).await.expect("opens");
                let saying = async { while channel.write_all(&names).await.is_ok() {} };
                let ended = tokio::time::timeout(Duration::from_secs(5), saying).await;
                ended.expect("nobody waits for a deadline");
            }
            soon(here.handle.open("/taken/1")).await.expect("the link is as it was");
            assert!(!there.handle.is_ended());
        }
    });
}
