//! Nodes on real sockets without a driver: the stack is met, settled and run by hand.
#![allow(dead_code)]

pub mod python;

use peerkeep_core::{Addr, Addrs, Close, ConnRef, Fact, Greeting, PeerKey, Time};
use peerkeep_mesh::{Exchange, Handle, Identity, Known, MeshConfig, MeshLink, MeshStack, Registry, Secret};
use peerkeep_net::{Ended, Facts, Io, Link, MeetError, Meeting, Met, Post, Role, Stack, Terms, Verdict};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

/// A node's stack and what belongs to it.
pub struct Node {
    pub identity: Identity,
    pub stack: MeshStack,
    pub registry: Registry,
    pub book: Arc<Book>,
}

/// Peers that a node tells of.
#[derive(Default)]
pub struct Book {
    pub known: Mutex<Vec<Known>>,
    pub seen: Mutex<Vec<Addr>>,
}

impl Exchange for Book {
    fn sample(&self, _to: &PeerKey, max: usize) -> Vec<Known> {
        self.known.lock().expect("sound").iter().take(max).cloned().collect()
    }

    fn seen_at(&self, _by: &PeerKey, at: Addr) {
        self.seen.lock().expect("sound").push(at);
    }
}

impl Node {
    pub fn new(seed: u8) -> Node {
        Node::with(seed, |_| ())
    }

    pub fn with(seed: u8, change: impl FnOnce(&mut MeshConfig)) -> Node {
        let identity = Identity::from_seed(&[seed; 32]).expect("an identity");
        let mut config = MeshConfig {
            network: "test".into(),
            secret: Secret::new(*b"the secret of the test network").ok(),
            ..MeshConfig::default()
        };
        change(&mut config);
        let (registry, book) = (Registry::default(), Arc::new(Book::default()));
        let stack =
            MeshStack::new(&identity, &config, registry.clone(), book.clone()).expect("a good config");
        Node { identity, stack, registry, book }
    }

    pub fn key(&self) -> PeerKey {
        self.identity.key()
    }
}

/// A running link of a node.
pub struct Up {
    pub met: Met,
    pub handle: Handle,
    pub post: Post,
    pub facts: Facts,
    pub run: JoinHandle<Ended>,
}

impl Up {
    pub fn start(met: Met, link: MeshLink) -> Up {
        let facts = Facts::default();
        let (post, mail, meter) = Post::loose(ConnRef { row: 1, generation: 1 }, facts.clone());
        let handle = link.handle();
        let run = spawn_local(link.run(mail, meter));
        Up { met, handle, post, facts, run }
    }

    pub fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        self.facts.take(&mut facts);
        facts
    }

    /// Closes, and gives how it ended.
    pub async fn close(self, why: Close) -> Ended {
        self.post.close(why, Time::from_millis(60_000));
        soon(self.run).await.expect("no panic")
    }

    pub async fn end(self) -> Ended {
        soon(self.run).await.expect("no panic")
    }
}

pub fn addr(socket: SocketAddr) -> Addr {
    Addr::tcp(socket)
}

pub fn dial_terms(expect: Option<PeerKey>, remote: SocketAddr) -> Terms {
    let greeting = Greeting { epoch: 100, dial: 1, ..Greeting::default() };
    Terms { role: Role::Dialler, expect, greeting, remote: addr(remote) }
}

pub fn accept_terms(remote: SocketAddr) -> Terms {
    Terms { role: Role::Acceptor, expect: None, greeting: Greeting::default(), remote: addr(remote) }
}

pub fn admit() -> Verdict {
    Verdict::Admit { greeting: Greeting { epoch: 200, accepted: (100, 1), ..Greeting::default() } }
}

/// Two ends of a TCP connection.
pub async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let to = listener.local_addr().expect("bound");
    let (dialled, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
    let (dialled, (accepted, _)) = (dialled.expect("connects"), accepted.expect("accepts"));
    dialled.set_nodelay(true).expect("a socket");
    accepted.set_nodelay(true).expect("a socket");
    (dialled, accepted)
}

pub async fn dial(node: &Node, expect: Option<PeerKey>, tcp: TcpStream) -> Result<Up, MeetError> {
    let remote = tcp.peer_addr().expect("connected");
    let (met, meeting) = node.stack.meet(Io::Tcp(tcp), dial_terms(expect, remote)).await?;
    Ok(Up::start(met, meeting.settle(admit()).await?))
}

pub async fn accept(node: &Node, verdict: Verdict, tcp: TcpStream) -> Result<Up, MeetError> {
    let remote = tcp.peer_addr().expect("connected");
    let (met, meeting) = node.stack.meet(Io::Tcp(tcp), accept_terms(remote)).await?;
    Ok(Up::start(met, meeting.settle(verdict).await?))
}

/// Both results of a handshake over a fresh connection; the dialler expects the acceptor.
pub async fn meet(a: &Node, b: &Node) -> (Result<Up, MeetError>, Result<Up, MeetError>) {
    let (dialled, accepted) = sockets().await;
    soon(async { tokio::join!(dial(a, Some(b.key()), dialled), accept(b, admit(), accepted)) }).await
}

/// Two nodes with a running link.
pub async fn link(a: &Node, b: &Node) -> (Up, Up) {
    let (a, b) = meet(a, b).await;
    (a.expect("the dialler is up"), b.expect("the acceptor is up"))
}

/// A test fails rather than hangs.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("within 20 s")
}

/// Waits for something that a report or fact will show.
pub async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub async fn local<T>(future: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(future).await
}

pub fn known(seed: u8, at: &str) -> Known {
    let addrs: Addrs = std::iter::once(addr(at.parse().expect("an address"))).collect();
    (Identity::from_seed(&[seed; 32]).expect("an identity").key(), addrs)
}
