//! What the tests with several nodes share. Nodes run in this process and talk over loopback; every wait is for an
//! event or a state, with a deadline that only a failure meets.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod way;

use peerkeep::{
    Event, EventKind, EventStream, Identity, LivenessMode, Node, PeerAddress, PeerId, PeerStatus, Settings,
    Stack, Standing,
};
use std::future::Future;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Long enough for any machine; only failures wait this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Settings for a node on 127.0.0.`host`, quick to come back.
pub fn settings(host: u8) -> Settings {
    let mut settings = Settings::default();
    settings.listen.addresses = vec![([127, 0, 0, host], 0).into()];
    settings.peers.dial_private_gossip = true;
    settings.backoff.first = Duration::from_millis(50);
    settings.backoff.max = Duration::from_millis(400);
    settings.backoff.fast_interval = Duration::from_millis(100);
    settings.preference.wait = Duration::from_millis(200);
    settings.node.threads = 1;
    if std::env::var_os(PROFILE).is_some() {
        settings.liveness.mode = LivenessMode::KeepaliveOnly;
    }
    settings
}

/// Set while the tests of a file run under document 003's profile: no pings, only TCP notices a dead peer.
const PROFILE: &str = "PEERKEEP_LIVENESS_MODE";

/// Runs the tests of this file whose names contain `filter` once more, under the other profile (S3.54).
pub fn once_more_with_keepalive_only(filter: &str) {
    if std::env::var_os(PROFILE).is_none() {
        let mut command = std::process::Command::new(std::env::current_exe().expect("a path"));
        let status = command.arg(filter).env(PROFILE, "keepalive-only").status().expect("ourselves can run");
        assert!(status.success(), "with keepalive only: {status}");
    }
}

/// A node without a data folder whose identity is made from `number`.
pub async fn node(number: u8, settings: Settings) -> Node {
    let identity = Identity::from_seed(&[number; 32]);
    Node::builder().identity(identity).config(settings).start().await.expect("the node starts")
}

/// A node with a data folder.
pub async fn stored(folder: &Path, settings: Settings) -> Node {
    Node::builder().config(settings).data_dir(folder.join("data")).start().await.expect("the node starts")
}

/// Settings for a node that speaks libp2p on 127.0.0.`host`, too.
pub fn libp2p_settings(host: u8) -> Settings {
    let mut settings = settings(host);
    settings.libp2p.enabled = true;
    settings.libp2p.listen = vec![([127, 0, 0, host], 0).into()];
    settings
}

/// Its libp2p address over TCP, with its identity.
pub fn libp2p_address(node: &Node) -> PeerAddress {
    let speaks = |address: &PeerAddress| address.stack == Some(Stack::Libp2p);
    node.addresses().into_iter().find(speaks).expect("it listens there")
}

/// Its address with its identity.
pub fn address(node: &Node) -> PeerAddress {
    node.addresses().into_iter().next().expect("it listens")
}

/// Its address without its identity.
pub fn bare(node: &Node) -> PeerAddress {
    PeerAddress { id: None, ..address(node) }
}

/// Waits, and says what for when it takes too long.
pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for: {what}"),
    }
}

/// The first event that fits.
pub async fn until(events: &mut EventStream, what: &str, fits: impl Fn(&EventKind) -> bool) -> Event {
    soon(what, async {
        loop {
            let event = events.next().await.unwrap_or_else(|| panic!("the node stopped before: {what}"));
            if fits(&event.what) {
                return event;
            }
        }
    })
    .await
}

/// Waits until a peer's status fits, looking again at every event.
pub async fn status(node: &Node, peer: PeerId, what: &str, fits: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
    let mut events = node.events();
    soon(what, async {
        loop {
            if let Some(status) = node.peer(peer).await
                && fits(&status)
            {
                return status;
            }
            // Not every change is an event, so look again now and then too.
            let _ = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
        }
    })
    .await
}

/// Waits until they are connected, on both sides.
pub async fn connected(a: &Node, b: &Node) {
    let up = |peer: &PeerStatus| peer.standing == Standing::Connected;
    status(a, b.id(), "a connection", up).await;
    status(b, a.id(), "a connection", up).await;
}

/// Sends so many bytes over a channel of their own; they arrive whole.
pub async fn send_over(a: &Node, b: &Node, bytes: usize) {
    let mut incoming = b.accept("echo").expect("free");
    let mut here = soon("a channel", a.open(b.id(), "echo")).await.expect("agreed");
    let (_, mut there) = soon("its other end", incoming.next()).await.expect("open");
    let sent = vec![9; bytes];
    let mut got = Vec::new();
    soon("the bytes", async {
        let send = async {
            here.write_all(&sent).await.expect("written");
            here.shutdown().await.expect("finished");
        };
        let (_, read) = tokio::join!(send, there.read_to_end(&mut got));
        read.expect("read");
    })
    .await;
    assert!(got == sent, "{} of {bytes} bytes", got.len());
}
