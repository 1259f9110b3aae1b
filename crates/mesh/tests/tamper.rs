//! Handshakes through a hand that cuts or bends the bytes at every position.

mod common;
use common::*;
use futures::StreamExt;
use peerkeep_core::ConnRef;
use peerkeep_net::{Facts, Io, Link, MeetError, Meeting, Post, Role, Stack, Terms};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Which bytes are tampered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    FromDialler,
    FromAcceptor,
}

/// What is done to them.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Nothing,
    Cut(usize),
    Bend(usize),
}

/// Carries bytes one way, doing the deed; gives how many there were.
async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    deed: Deed,
) -> usize {
    let (mut total, mut buf) = (0, vec![0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut buf).await {
        let mut bytes = buf[..count].to_vec();
        match deed {
            Deed::Cut(at) if at < total + count => {
                let _ = to.write_all(&bytes[..at - total]).await;
                return at;
            }
            Deed::Bend(at) if (total..total + count).contains(&at) => bytes[at - total] ^= 0x01,
            _ => {}
        }
        total += count;
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
    total
}

async fn greet(node: &Node, terms: Terms, tcp: TcpStream) -> Result<(), MeetError> {
    let role = terms.role;
    let (_, meeting) = node.stack.meet(Io::Tcp(tcp), terms).await?;
    let link = meeting.settle(admit()).await?;
    if role == Role::Dialler {
        // The confirm leaves with the link's first bytes, and no others do.
        let (_post, mail, meter) = Post::loose(CONN, Facts::default());
        let _running = futures::poll!(std::pin::pin!(link.run(mail, meter)));
    }
    Ok(())
}

const CONN: ConnRef = ConnRef { row: 1, generation: 0 };

/// Who came up, and how many bytes went the tampered way.
async fn attempt(a: &Node, b: &Node, way: Way, deed: Deed) -> (bool, bool, usize) {
    let (dialled, near) = sockets().await;
    let (far, accepted) = sockets().await;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let deed_of = |this| if this == way { deed } else { Deed::Nothing };
    let up = tokio::spawn(carry(near_in, far_out, deed_of(Way::FromDialler)));
    let down = tokio::spawn(carry(far_in, near_out, deed_of(Way::FromAcceptor)));
    let remote = accepted.peer_addr().unwrap();
    let patience = Duration::from_millis(match deed {
        // A bent length leaves both sides waiting, and time only makes such an attempt count as failed.
        Deed::Bend(_) => 400,
        Deed::Nothing | Deed::Cut(_) => 15_000,
    });
    let dial = async {
        let met = tokio::time::timeout(patience, greet(a, dial_terms(Some(b.key()), remote), dialled)).await;
        matches!(met, Ok(Ok(())))
    };
    let accept = async {
        let met = tokio::time::timeout(patience, greet(b, accept_terms(remote), accepted)).await;
        matches!(met, Ok(Ok(())))
    };
    let (dialler, acceptor) = soon(async { tokio::join!(dial, accept) }).await;
    let bytes = if way == Way::FromDialler { up } else { down };
    (dialler, acceptor, soon(bytes).await.unwrap())
}

#[tokio::test]
async fn fault_h2_a_handshake_cut_at_any_byte_brings_nobody_up_who_should_not_be() {
    let (a, b) = (Node::new(1), Node::new(2));
    for way in [Way::FromDialler, Way::FromAcceptor] {
        let (dialler, acceptor, total) = attempt(&a, &b, way, Deed::Nothing).await;
        assert!(dialler && acceptor && total > 500, "{way:?} {total}");
        let (a, b) = (&a, &b);
        // The very last bytes may be TLS's goodbye, so the end of the greeting is searched for from below.
        let mut ups = futures::stream::iter(0..total)
            .map(|at| async move { (at, attempt(a, b, way, Deed::Cut(at)).await) })
            .buffered(32);
        let mut complete = false;
        while let Some((at, (dialler, acceptor, _))) = ups.next().await {
            match way {
                Way::FromDialler if acceptor => complete = true,
                Way::FromAcceptor if dialler => complete = true,
                _ => assert!(!complete, "{way:?}: down again at {at}"),
            }
            if way == Way::FromAcceptor && !dialler {
                assert!(!acceptor, "{at}: nobody confirms what was not answered");
            }
            assert!(!complete || at > total / 2, "{way:?}: up after {at} of {total}");
        }
    }
}

/// TLS records that one side sends in a handshake, at most.
const RECORDS: usize = 7;

#[tokio::test]
async fn fault_h3_a_handshake_with_any_byte_bent_fails() {
    let (a, b) = (Node::new(1), Node::new(2));
    for way in [Way::FromDialler, Way::FromAcceptor] {
        let (_, _, total) = attempt(&a, &b, way, Deed::Nothing).await;
        let (a, b) = (&a, &b);
        let mut bent = futures::stream::iter(0..total)
            .map(|at| async move { (at, attempt(a, b, way, Deed::Bend(at)).await) })
            .buffered(32);
        let (mut harmless, mut told) = (Vec::new(), 0);
        while let Some((at, (dialler, acceptor, _))) = bent.next().await {
            let up = if way == Way::FromDialler { acceptor } else { dialler };
            if up {
                harmless.push(at);
            } else {
                told += 1;
            }
        }
        // The version in a TLS record's header is to be ignored, and a change to it changes nothing that is said.
        let within = harmless.iter().filter(|at| **at < total - 32).count();
        assert!(within <= 2 * RECORDS, "{way:?}: {harmless:?} of {total}");
        assert!(told > total / 2);
    }
}
