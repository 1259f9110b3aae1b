//! Nodes without threads of their own: all their work is done where a future of theirs is polled.

mod common;

use bytes::Bytes;
use common::*;
use peerkeep::{EventKind, Here, Node, Outcome, Place, Settings, StartError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

async fn here(settings: Settings) -> (Node, JoinHandle<()>) {
    let (node, here): (Node, Here) =
        Node::builder().config(settings).start_here().await.expect("the node starts");
    (node, spawn_local(here))
}

fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

async fn meet(a: &Node, b: &Node) {
    let outcome = a.connect(address(b), Duration::from_secs(20)).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    connected(a, b).await;
}

fn link_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("listable");
    let names = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("comm")));
    names.flatten().filter(|name| name.starts_with("peerkeep-link")).count()
}

/// A whole life on one thread, over TCP and over QUIC: wanted from the start, channels, messages, the end in good order.
#[test]
fn a_node_lives_on_the_callers_thread_and_leaves_nothing_behind() {
    run(async {
        let (b, b_runs) = here(settings(2)).await;
        let mut wanting = settings(1);
        wanting.peers.wanted = vec![address(&b)];
        let (a, a_runs) = here(wanting).await;
        connected(&a, &b).await;
        let mut incoming = b.accept("echo").expect("a free name");
        let mut messages = b.messages("news").expect("a name");
        let mut channel = a.open(b.id(), "echo").await.expect("opens");
        let (_, mut far) = soon("the channel", incoming.next()).await.expect("arrives");
        channel.write_all(b"hello").await.expect("writes");
        let mut heard = [0; 5];
        far.read_exact(&mut heard).await.expect("reads");
        assert_eq!(&heard, b"hello");
        a.send(b.id(), "news", Bytes::from_static(b"a letter")).await.expect("is queued");
        assert_eq!(soon("the letter", messages.next()).await.expect("arrives").bytes, "a letter");
        assert_eq!(link_threads(), 0);
        let Some(Place::Ip(port)) = address(&b).place else { panic!("an address of its own") };
        for (node, runs) in [(a, a_runs), (b, b_runs)] {
            soon("the end", node.shutdown()).await;
            soon("the end of what runs it", runs).await.expect("no panic");
        }
        assert!(TcpStream::connect(port.socket()).await.is_err(), "nobody listens any more");
    });
}

#[test]
fn who_stops_running_a_node_cuts_it() {
    run(async {
        let ((a, a_runs), (b, b_runs)) = (here(settings(3)).await, here(settings(4)).await);
        let mut events = b.events();
        meet(&a, &b).await;
        a_runs.abort();
        until(&mut events, "the loss", |event| matches!(event, EventKind::Lost { .. })).await;
        soon("the end", a.stopped()).await;
        assert!(soon("an answer", a.status()).await.is_none());
        soon("the end", b.shutdown()).await;
        soon("the end of what runs it", b_runs).await.expect("no panic");
    });
}

#[test]
fn a_start_that_fails_says_so() {
    run(async {
        let mut wrong = settings(5);
        wrong.node.threads = 65;
        let failed = soon("an answer", Node::builder().config(wrong).start_here()).await;
        assert!(matches!(failed, Err(StartError::Settings(_))), "{failed:?}");
    });
}
