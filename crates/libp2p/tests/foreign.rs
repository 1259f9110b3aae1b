//! The stack against libp2p nodes that share no code with ours: rust-libp2p and js-libp2p, each a process of its own
//! (interop/README.md). Started by `cargo xtask interop rust-libp2p` and `js-libp2p`; a partner that is not there is
//! skipped, loudly.

mod common;

use common::*;
use libp2p_identity::{PeerId, PublicKey};
use multiaddr::Multiaddr;
use peerkeep_core::{Addr, AddrKind, Close, FaultKind, KeyKind, PeerKey, Step};
use peerkeep_libp2p::{Security, from_multiaddr, peer_key, to_multiaddr};
use peerkeep_net::{Ended, MeetError, Quic, QuicIo, QuicOptions, Stack as _, quic_fault};
use peerkeep_net::{Io, Meeting as _, Terms};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::spawn_local;

const RUST: &str = "PEERKEEP_INTEROP_RUST";
const JS: &str = "PEERKEEP_INTEROP_JS";

/// A partner that runs; it ends with its standard input.
struct Partner {
    _child: Child,
    told: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    peer: PeerId,
    addrs: Vec<Multiaddr>,
}

impl Partner {
    /// `None`, and a line on standard error, where that partner was not brought.
    async fn start(variable: &str, args: &[&str]) -> Option<Partner> {
        let Ok(line) = std::env::var(variable) else {
            eprintln!("SKIPPED: {variable} names no partner; `cargo xtask interop` brings it");
            return None;
        };
        let mut words = line.splitn(2, ' ');
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the partner starts");
        let told = child.stdin.take().expect("piped");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut partner = Partner { _child: child, told, lines, peer: PeerId::random(), addrs: Vec::new() };
        let ready = partner.until("ready", |_| true).await;
        partner.peer = text(&ready["peer"]).parse().expect("a peer id");
        let addrs = ready["addrs"].as_array().into_iter().flatten();
        partner.addrs = addrs.map(|addr| text(addr).parse().expect("a multiaddr")).collect();
        Some(partner)
    }

    /// Reads up to an event.
    async fn until(&mut self, event: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut said = Vec::new();
        soon(async {
            loop {
                let Some(line) = self.lines.next_line().await.expect("readable") else {
                    panic!("it never said {event}: {said:?}")
                };
                let value: Value = serde_json::from_str(&line).expect("JSON");
                if value["event"] == event && is_it(&value) {
                    return value;
                }
                said.push(value);
            }
        })
        .await
    }

    async fn tell(&mut self, line: &str) {
        self.told.write_all(format!("{line}\n").as_bytes()).await.expect("it listens");
    }

    /// Where it listens, over TCP or QUIC.
    fn at(&self, kind: AddrKind) -> Addr {
        let mut addrs = self.addrs.iter().filter_map(from_multiaddr);
        addrs.find(|addr| addr.kind == kind).expect("it listens there")
    }

    fn key(&self) -> PeerKey {
        named(&self.peer)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The name here of who has that id: a hash, or the key itself.
fn named(peer: &PeerId) -> PeerKey {
    match *peer.to_bytes() {
        [0x12, 0x20, ref hash @ ..] => {
            PeerKey { kind: KeyKind::Sha256, bytes: hash.try_into().expect("a hash") }
        }
        [0, _, ref key @ ..] => {
            peer_key(&PublicKey::try_decode_protobuf(key).expect("a key")).expect("a name")
        }
        ref other => panic!("no peer id: {other:?}"),
    }
}

fn id(node: &Node) -> PeerId {
    let key = libp2p_identity::ed25519::PublicKey::try_from_bytes(&node.key.bytes).expect("a key");
    PublicKey::from(key).to_peer_id()
}

/// Dials it over TCP or QUIC.
async fn dialled(node: &Node, to: Addr, expect: Option<PeerKey>) -> Result<Up, MeetError> {
    soon(async {
        if to.kind == AddrKind::Tcp {
            return dial(node, expect, TcpStream::connect(to.socket()).await.expect("connects")).await;
        }
        let quic = Quic::new(node.stack.quic_server(), QuicOptions::default());
        let terms = Terms { remote: to, ..dial_terms(expect, to.socket()) };
        let io = quic.connect(to.socket(), node.stack.quic_dial(&terms).expect("QUIC"), quic_fault).await?;
        let (met, meeting) = node.stack.meet(Io::Quic(io), terms).await?;
        Ok(Up::start(met, meeting.settle(admit()).await?))
    })
    .await
}

/// Has the partner dial us over TCP or QUIC.
async fn arrived(node: &Node, partner: &mut Partner, kind: AddrKind) -> Result<Up, MeetError> {
    if kind == AddrKind::Tcp {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let at = listener.local_addr().expect("bound");
        partner.tell(&format!("dial {}/p2p/{}", multiaddr_of(at, kind), id(node))).await;
        let tcp = soon(listener.accept()).await.expect("accepts").0;
        soon(accept(node, admit(), tcp)).await
    } else {
        let server = node.stack.quic_server();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        let config = quinn::EndpointConfig::new(server.reset_key);
        let runtime = Arc::new(quinn::TokioRuntime);
        let port = quinn::Endpoint::new(config, Some(server.config), socket, runtime).expect("an endpoint");
        let at = port.local_addr().expect("bound");
        partner.tell(&format!("dial {}/p2p/{}", multiaddr_of(at, kind), id(node))).await;
        let connecting = soon(port.accept()).await.expect("open").accept().expect("a handshake");
        let terms = Terms { remote: Addr::new(at, kind), ..accept_terms(at) };
        let met = soon(node.stack.meet(Io::Quic(QuicIo::Arrived(connecting)), terms));
        let (met, meeting) = met.await?;
        Ok(Up::start(met, soon(meeting.settle(admit())).await?))
    }
}

fn multiaddr_of(at: SocketAddr, kind: AddrKind) -> Multiaddr {
    to_multiaddr(&Addr::new(at, kind)).expect("a multiaddr")
}

/// Meets the partner in both roles, and each knows who the other is.
async fn meets(variable: &str, kind: AddrKind, security: Security, args: &[&str]) {
    let listen = if kind == AddrKind::Tcp { "--tcp" } else { "--quic" };
    let Some(mut partner) = Partner::start(variable, &[&[listen, "0"], args].concat()).await else { return };
    let node = Node::with(1, |config| config.security = security);
    let (key, us) = (partner.key(), id(&node).to_string());
    let here = dialled(&node, partner.at(kind), Some(key)).await;
    let here = here.unwrap_or_else(|error| panic!("{kind:?} {security:?} {args:?}: {error:?}"));
    assert_eq!(here.met.key, key);
    partner.until("identified", |said| said["peer"] == us).await;
    assert_eq!(here.close(Close::Requested).await, Ended::Asked);
    partner.until("disconnected", |said| said["peer"] == us).await;
    let here = arrived(&node, &mut partner, kind).await;
    let here = here.unwrap_or_else(|error| panic!("{kind:?} {security:?} {args:?}: {error:?}"));
    assert_eq!(here.met.key, key);
    partner.until("identified", |said| said["peer"] == us).await;
    assert_eq!(here.close(Close::Requested).await, Ended::Asked);
    partner.until("disconnected", |said| said["peer"] == us).await;
}

const RUST_KINDS: [&str; 3] = ["ed25519", "secp256k1", "ecdsa"];
/// js-libp2p runs no node with an ECDSA identity.
const JS_KINDS: [&str; 3] = ["ed25519", "secp256k1", "rsa"];

/// S0.63 with TLS in its place: the other side is rust-libp2p's own TLS.
#[test]
fn rust_is_met_over_tls_with_every_kind_of_identity() {
    on_a_shard(async {
        for kind in RUST_KINDS {
            meets(RUST, AddrKind::Tcp, Security::Tls, &["--security", "tls", "--key", kind]).await;
        }
        meets(RUST, AddrKind::Tcp, Security::Any, &["--security", "tls"]).await;
        meets(RUST, AddrKind::Tcp, Security::Tls, &["--security", "noise,tls"]).await;
    });
}

/// S0.63: Noise in both roles.
#[test]
fn rust_is_met_over_noise_with_every_kind_of_identity() {
    on_a_shard(async {
        for kind in RUST_KINDS {
            meets(RUST, AddrKind::Tcp, Security::Noise, &["--security", "noise", "--key", kind]).await;
        }
    });
}

#[test]
fn rust_is_met_over_quic_with_every_kind_of_identity() {
    on_a_shard(async {
        for kind in RUST_KINDS {
            meets(RUST, AddrKind::Quic, Security::Any, &["--key", kind]).await;
        }
    });
}

#[test]
fn js_is_met_over_tls_with_every_kind_of_identity() {
    on_a_shard(async {
        for kind in JS_KINDS {
            meets(JS, AddrKind::Tcp, Security::Tls, &["--security", "tls", "--key", kind]).await;
        }
    });
}

/// S0.63: Noise in both roles.
#[test]
fn js_is_met_over_noise_with_every_kind_of_identity() {
    on_a_shard(async {
        for kind in JS_KINDS {
            meets(JS, AddrKind::Tcp, Security::Noise, &["--security", "noise", "--key", kind]).await;
        }
    });
}

#[test]
fn js_is_met_over_quic_with_every_kind_of_identity() {
    on_a_shard(async {
        for kind in JS_KINDS {
            meets(JS, AddrKind::Quic, Security::Any, &["--key", kind]).await;
        }
    });
}

/// What a relay has carried, and whether it changes a byte of what comes from the other side.
#[derive(Default)]
struct Wire {
    seen: RefCell<Vec<u8>>,
    bends: Cell<bool>,
}

impl Wire {
    /// A connection to `to` by way of a relay.
    async fn tap(self: &Rc<Wire>, to: SocketAddr) -> TcpStream {
        let relay = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let near = TcpStream::connect(relay.local_addr().expect("bound")).await.expect("connects");
        let (ours, _) = relay.accept().await.expect("accepts");
        let (read, write) = ours.into_split();
        let (far_read, far_write) = TcpStream::connect(to).await.expect("connects").into_split();
        spawn_local(self.clone().carry(read, far_write, false));
        spawn_local(self.clone().carry(far_read, write, true));
        near
    }

    async fn carry(self: Rc<Wire>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, bends: bool) {
        let mut buf = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buf).await {
            if bends && self.bends.replace(false) {
                buf[count - 1] ^= 1;
            }
            self.seen.borrow_mut().extend_from_slice(&buf[..count]);
            if to.write_all(&buf[..count]).await.is_err() {
                break;
            }
        }
    }

    fn has(&self, piece: &[u8]) -> bool {
        self.seen.borrow().windows(piece.len()).any(|window| window == piece)
    }
}

/// What stands between the two is the name of the handshake and ciphertext, and a changed byte of that ends it.
async fn wire(variable: &str) {
    for (security, name) in [(Security::Noise, "/noise"), (Security::Tls, "/tls/1.0.0")] {
        let Some(mut partner) = Partner::start(variable, &["--tcp", "0"]).await else { return };
        let node = Node::with(1, |config| config.security = security);
        let (wire, us) = (Rc::new(Wire::default()), id(&node).to_string());
        let tcp = wire.tap(partner.at(AddrKind::Tcp).socket()).await;
        let here = soon(dial(&node, Some(partner.key()), tcp)).await.expect("a link");
        partner.until("identified", |said| said["peer"] == us).await;
        partner.tell(&format!("ping {us}")).await;
        partner.until("done", |said| said["command"] == "ping").await;
        assert!(wire.has(b"/multistream/1.0.0\n") && wire.has(name.as_bytes()), "negotiated by name");
        for hidden in [&node.key.bytes[..], &partner.key().bytes, b"/ipfs/", b"peerkeep/"] {
            assert!(!wire.has(hidden), "{security:?}: {} is in the clear", hidden.escape_ascii());
        }
        wire.bends.set(true);
        partner.tell(&format!("ping {us}")).await;
        let ended = here.end().await;
        assert!(matches!(ended, Ended::Fault(_) | Ended::Violation(_)), "{security:?}: {ended:?}");
        partner.until("disconnected", |said| said["peer"] == us).await;
    }
}

/// S0.62 and S0.63.
#[test]
fn rust_s0_62_s0_63_identities_are_never_in_the_clear_and_a_changed_byte_ends_it() {
    on_a_shard(wire(RUST));
}

/// S0.62 and S0.63.
#[test]
fn js_s0_62_s0_63_identities_are_never_in_the_clear_and_a_changed_byte_ends_it() {
    on_a_shard(wire(JS));
}

/// A hundred channels that are all open, beside one that the partner does not read and one that we do not, yet.
async fn hundred(variable: &str, kind: AddrKind) {
    let listen = if kind == AddrKind::Tcp { "--tcp" } else { "--quic" };
    let Some(partner) = Partner::start(variable, &[listen, "0"]).await else { return };
    let node = Node::new(1);
    let here = dialled(&node, partner.at(kind), Some(partner.key())).await.expect("a link");
    let mut mute = soon(here.handle.open("/mute/1.0.0")).await.expect("opens");
    let stuck = spawn_local(async move { mute.write_all(&vec![7; 12 << 20]).await });
    let unread = soon(here.handle.open("/echo/1.0.0")).await.expect("opens");
    let (mut later, mut to) = tokio::io::split(unread);
    let told = spawn_local(async move { to.write_all(&vec![7; 1 << 20]).await });
    let mut channels = Vec::new();
    for _ in 0..100 {
        channels.push(soon(here.handle.open("/echo/1.0.0")).await.expect("opens"));
    }
    let echoed = channels.into_iter().zip(0_u8..).map(|(channel, number)| async move {
        let (mut from, mut to) = tokio::io::split(channel);
        let (sent, mut back) = (vec![number; 20_000], Vec::new());
        let write = async {
            to.write_all(&sent).await.expect("written");
            to.shutdown().await.expect("finished");
        };
        let ((), read) = tokio::join!(write, from.read_to_end(&mut back));
        read.expect("read");
        assert!(back == sent, "{number}: {} bytes", back.len());
    });
    soon(futures::future::join_all(echoed)).await;
    // Nobody reads it: rust-libp2p lets us wait, and js-libp2p resets it over QUIC.
    assert!(!stuck.is_finished() || stuck.await.expect("no panic").is_err());
    soon(later.read_exact(&mut vec![0; 1 << 20])).await.expect("it was slow and not lost");
    soon(told).await.expect("no panic").expect("written");
    assert_eq!(here.close(Close::Requested).await, Ended::Asked);
}

/// S0.64, over Yamux and over QUIC.
#[test]
fn rust_s0_64_a_hundred_channels_at_once_and_a_slow_one_delays_no_other() {
    on_a_shard(async {
        hundred(RUST, AddrKind::Tcp).await;
        hundred(RUST, AddrKind::Quic).await;
    });
}

/// S0.64, over Yamux and over QUIC.
#[test]
fn js_s0_64_a_hundred_channels_at_once_and_a_slow_one_delays_no_other() {
    on_a_shard(async {
        hundred(JS, AddrKind::Tcp).await;
        hundred(JS, AddrKind::Quic).await;
    });
}

/// S0.62: who names another identity than they have is refused, whatever secures the connection.
async fn wrong_identity(variable: &str) {
    for (kind, security) in
        [(AddrKind::Tcp, Security::Noise), (AddrKind::Tcp, Security::Tls), (AddrKind::Quic, Security::Any)]
    {
        let listen = if kind == AddrKind::Tcp { "--tcp" } else { "--quic" };
        let Some(partner) = Partner::start(variable, &[listen, "0", "--wrong-identity"]).await else {
            return;
        };
        let node = Node::with(1, |config| config.security = security);
        let error = dialled(&node, partner.at(kind), Some(partner.key())).await.map(|_| ());
        let Err(MeetError::Fault(fault)) = error else { panic!("{error:?}") };
        assert_eq!((fault.step, fault.kind), (Step::Secure, FaultKind::Identity), "{kind:?} {security:?}");
    }
}

#[test]
fn rust_s0_62_that_names_another_identity_is_refused() {
    on_a_shard(wrong_identity(RUST));
}

#[test]
fn js_s0_62_that_names_another_identity_is_refused() {
    on_a_shard(wrong_identity(JS));
}
