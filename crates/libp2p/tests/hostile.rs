//! Peers that break the rules before anybody is proven.

mod common;

use common::*;
use peerkeep_core::{Fault, FaultKind, Step};
use peerkeep_net::MeetError;
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
