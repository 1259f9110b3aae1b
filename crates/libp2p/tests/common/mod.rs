//! Nodes on real sockets without a driver: the stack is met, settled and run by hand.
#![allow(dead_code, reason = "each test file uses a part")]

use libp2p_identity::Keypair;
use peerkeep_channels::Protocols;
use peerkeep_core::{Addr, AddrKind, Close, ConnRef, Fact, Greeting, PeerKey, Time};
use peerkeep_libp2p::{Channel, Handle, Libp2pConfig, Libp2pLink, Libp2pStack, peer_key};
use peerkeep_net::{
    Ended, Facts, Io, Link, MeetError, Meeting, Met, Post, QuicIo, Role, Stack, Terms, Verdict,
};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

/// A node's stack and what belongs to it.
pub struct Node {
    pub key: PeerKey,
    pub stack: Libp2pStack,
    pub protocols: Protocols<Channel>,
    pub config: Libp2pConfig,
}

impl Node {
    pub fn new(seed: u8) -> Node {
        Node::with(seed, |_| ())
    }

    pub fn with(seed: u8, change: impl FnOnce(&mut Libp2pConfig)) -> Node {
        let identity = Keypair::ed25519_from_bytes([seed; 32]).expect("a seed");
        let (mut config, protocols) = (Libp2pConfig::default(), Protocols::default());
        change(&mut config);
        let stack = Libp2pStack::new(&identity, config.clone(), protocols.clone()).expect("a good config");
        Node { key: peer_key(&identity.public()).expect("a name"), stack, protocols, config }
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
    pub fn start(met: Met, link: Libp2pLink) -> Up {
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

pub fn dial_terms(expect: Option<PeerKey>, remote: SocketAddr) -> Terms {
    Terms { role: Role::Dialler, expect, greeting: Greeting::default(), remote: Addr::tcp(remote) }
}

pub fn accept_terms(remote: SocketAddr) -> Terms {
    Terms { role: Role::Acceptor, ..dial_terms(None, remote) }
}

pub fn admit() -> Verdict {
    Verdict::Admit { greeting: Greeting::default() }
}

/// Two ends of a TCP connection.
pub async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let to = listener.local_addr().expect("bound");
    let (dialled, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
    (dialled.expect("connects"), accepted.expect("accepts").0)
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

/// Both ends of a link between two nodes over QUIC.
pub async fn linked_over_quic(one: &Node, other: &Node) -> (Up, Up) {
    let bind = || std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let server = Some(other.stack.quic_server().config);
    let endpoint = |server| {
        let runtime = Arc::new(quinn::TokioRuntime);
        quinn::Endpoint::new(quinn::EndpointConfig::default(), server, bind(), runtime).expect("an endpoint")
    };
    let (dials, answers) = (endpoint(None), endpoint(server));
    let to = answers.local_addr().expect("bound");
    let terms = Terms { remote: Addr::new(to, AddrKind::Quic), ..dial_terms(Some(other.key), to) };
    let dialled = async {
        let dial = one.stack.quic_dial(&terms).expect("speaks QUIC");
        let connecting = dials.connect_with(dial.config, to, &dial.server_name).expect("dials");
        let io = QuicIo::Dialled { connection: connecting.await.expect("connects"), early: None };
        let (met, meeting) = one.stack.meet(Io::Quic(io), terms.clone()).await.expect("meets");
        Up::start(met, meeting.settle(admit()).await.expect("a link"))
    };
    let accepted = async {
        let connecting = answers.accept().await.expect("open").accept().expect("a handshake");
        let terms = Terms { role: Role::Acceptor, expect: None, ..terms.clone() };
        let (met, meeting) =
            other.stack.meet(Io::Quic(QuicIo::Arrived(connecting)), terms).await.expect("meets");
        Up::start(met, meeting.settle(admit()).await.expect("a link"))
    };
    soon(async { tokio::join!(dialled, accepted) }).await
}

/// Both ends of a link between two nodes.
pub async fn linked(one: &Node, other: &Node) -> (Up, Up) {
    let (dialled, accepted) = sockets().await;
    let both = async { tokio::join!(dial(one, Some(other.key), dialled), accept(other, admit(), accepted)) };
    let (here, there) = soon(both).await;
    (here.expect("a link"), there.expect("a link"))
}

/// Runs what needs a shard of its own.
pub fn on_a_shard(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

/// Waits, at most ten seconds.
pub async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("in time")
}
