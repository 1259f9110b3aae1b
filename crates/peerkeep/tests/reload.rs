//! Settings that change while the node runs reach what is there already: connections, journal, store and peers.
#![allow(missing_docs)]

mod common;

use common::way::Way;
use common::{address, connected, node, settings, soon, stored, until};
use peerkeep::{ChannelError, CloseReason, EventKind, LivenessMode, Node, Outcome};
use std::path::Path;
use std::time::Duration;

#[tokio::test]
async fn another_secret_or_name_makes_every_connection_anew_and_shuts_out_who_does_not_follow() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    let write = |text: &str| {
        std::fs::write(&file, text).expect("writable");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).expect("ours");
    };
    write("the first secret of all");
    let with = |host| {
        let mut settings = settings(host);
        settings.network.secret_file = Some(file.clone());
        settings
    };
    let (a, b) = (node(1, with(21)).await, node(2, with(22)).await);
    a.want(address(&b)).await.expect("wanted");
    connected(&a, &b).await;
    let mut events = b.events();
    write("the second secret of all");
    assert_eq!(a.configure(a.settings()).await, Ok(vec![]), "the same file says something else now");
    until(&mut events, "cut off", |event| matches!(event, EventKind::Lost { .. })).await;
    let outcome = a.connect(address(&b), Duration::from_secs(3)).await.expect("allowed");
    assert!(!matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    b.configure(b.settings()).await.expect("the new secret");
    connected(&a, &b).await;

    let mut renamed = b.settings();
    renamed.network.name = "elsewhere".to_owned();
    let mut events = a.events();
    b.configure(renamed).await.expect("another name");
    until(&mut events, "gone to another network", |event| matches!(event, EventKind::Lost { .. })).await;
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_changes_nothing() {
    let a = node(3, settings(23)).await;
    let mut bad = a.settings();
    bad.network.secret_file = Some("/nowhere/secret".into());
    bad.limits.total = 77;
    let error = a.configure(bad).await.expect_err("refused");
    assert!(error.to_string().contains("network.secret_file"), "{error}");
    assert_eq!(a.settings().limits.total, 500);
    a.shutdown().await;
}

fn segments(folder: &Path) -> usize {
    let folder = folder.join("data/journal");
    std::fs::read_dir(folder)
        .map_or(0, |files| files.flatten().filter(|file| file.path().extension().is_some()).count())
}

#[tokio::test]
async fn the_journal_is_switched_off_and_on_while_the_node_runs_and_every_part_replays() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (stored(folder.path(), settings(24)).await, node(4, settings(25)).await);
    let mut quiet = a.settings();
    quiet.journal.enabled = false;
    assert_eq!(a.configure(quiet).await, Ok(vec![]));
    let before = segments(folder.path());
    assert_eq!(before, 1);
    a.want(address(&b)).await.expect("wanted");
    connected(&a, &b).await;
    let mut loud = a.settings();
    loud.journal.enabled = true;
    loud.journal.segments = 3;
    assert_eq!(a.configure(loud).await, Ok(vec![]));
    soon("the second segment", async {
        while segments(folder.path()) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    a.shutdown().await;
    b.shutdown().await;
    for file in std::fs::read_dir(folder.path().join("data/journal")).expect("listable").flatten() {
        let bytes = std::fs::read(file.path()).expect("readable");
        let mut replay = peerkeep_core::journal::Replay::new(&bytes).expect("begins with a checkpoint");
        let mut out = peerkeep_core::Effects::new();
        while replay.step(&mut out).expect("the same digests").is_some() {}
    }
}

#[tokio::test]
async fn peers_are_told_of_no_longer_once_exchange_is_switched_off() {
    let (a, b, c) = (node(5, settings(26)).await, node(6, settings(27)).await, node(7, settings(28)).await);
    let mut silent = a.settings();
    silent.peers.exchange = false;
    silent.peers.target = 0;
    assert_eq!(a.configure(silent).await, Ok(vec![]));
    b.want(address(&a)).await.expect("wanted");
    connected(&a, &b).await;
    let mut events = b.events();
    c.want(address(&a)).await.expect("wanted");
    connected(&a, &c).await;
    let heard = tokio::time::timeout(Duration::from_secs(2), async {
        while let Some(event) = events.next().await {
            if event.what.peer() == Some(&c.id()) {
                return;
            }
        }
    });
    assert!(heard.await.is_err(), "it was told of");
    let mut open = a.settings();
    open.peers.exchange = true;
    a.configure(open).await.expect("fine");
    let mut events = b.events();
    c.disconnect(a.id()).await.expect("connected");
    until(&mut events, "told of again", |event| event.peer() == Some(&c.id())).await;
    for node in [a, b, c] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn s1_60_a_lowered_limit_closes_connections_for_want_of_resources_and_both_sides_record_it() {
    // Nobody dials to fill a target: the connections counted are those made here.
    let alone = |host| {
        let mut settings = settings(host);
        settings.peers.target = 0;
        settings
    };
    let hub = node(8, alone(29)).await;
    let mut others = Vec::new();
    for number in 0..4 {
        let other = node(10 + number, alone(30 + number)).await;
        other.connect(address(&hub), Duration::from_secs(20)).await.expect("allowed");
        others.push(other);
    }
    let mut events = hub.events();
    let mut fewer = hub.settings();
    fewer.limits.inbound = 2;
    hub.configure(fewer).await.expect("fine");
    for _ in 0..2 {
        let lost = until(&mut events, "closed", |event| matches!(event, EventKind::Lost { .. })).await;
        let EventKind::Lost { reason, .. } = lost.what else { unreachable!("asked for") };
        assert_eq!(reason, CloseReason::Resources);
    }
    let status = hub.status().await.expect("runs");
    assert_eq!(status.counts.connected, 2);
    assert_eq!(
        hub.connection_limits_reached(peerkeep_core::Addr::tcp(([10, 0, 0, 1], 1).into())).await,
        Ok(None)
    );
    assert_eq!(hub.is_inbound_full().await, Ok(true));
    soon("their side", async {
        loop {
            let mut told = 0;
            for other in &others {
                let seen = other.peer(hub.id()).await.expect("known");
                told += usize::from(seen.last_close == Some(CloseReason::Resources));
            }
            if told >= 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for other in others {
        other.shutdown().await;
    }
    hub.shutdown().await;
}

/// Fault G3: the new port is there before the old one closes, what is connected stays, and a taken port changes nothing.
#[tokio::test]
async fn fault_g3_listen_addresses_are_exchanged_while_connections_stay() {
    let (a, b, c) =
        (node(20, settings(41)).await, node(21, settings(42)).await, node(22, settings(43)).await);
    b.want(address(&a)).await.expect("wanted");
    connected(&a, &b).await;
    let before = address(&a);
    let mut events = b.events();

    let taken = std::net::TcpListener::bind("127.0.0.44:0").expect("a port");
    let mut bad = a.settings();
    bad.listen.addresses = vec![taken.local_addr().expect("bound").into()];
    bad.limits.total = 77;
    let error = a.configure(bad).await.expect_err("refused");
    assert!(
        error.to_string().contains("listen.addresses") && error.to_string().contains("in use"),
        "{error}"
    );
    assert_eq!((address(&a), a.settings().limits.total), (before.clone(), 500));

    let mut moved = a.settings();
    moved.listen.addresses = vec![std::net::SocketAddr::from(([127, 0, 0, 45], 0)).into()];
    assert_eq!(a.configure(moved).await, Ok(vec![]));
    let after = address(&a);
    assert!(after != before && after.to_string().contains("127.0.0.45"), "{after}");
    let outcome = c.connect(after, Duration::from_secs(20)).await.expect("allowed");
    assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    let old = before.to_multiaddr().expect("an address").to_string();
    let port: u16 = old.split('/').nth(4).and_then(|port| port.parse().ok()).expect("a port");
    assert!(std::net::TcpStream::connect(("127.0.0.41", port)).is_err(), "the old port is closed");
    assert!(a.is_connected(b.id()), "what was connected stays");
    let lost = tokio::time::timeout(Duration::from_millis(300), async {
        while let Some(event) = events.next().await {
            if matches!(event.what, EventKind::Lost { .. }) {
                return;
            }
        }
    });
    assert!(lost.await.is_err(), "nothing was lost");
    for node in [a, b, c] {
        node.shutdown().await;
    }
}

/// Silence and deadline reach connections that are up: the same frozen way, found out within the new times.
#[tokio::test]
async fn liveness_reaches_connections_that_are_up() {
    let (mut patient, mut other) = (settings(51), settings(52));
    for settings in [&mut patient, &mut other] {
        settings.liveness.mode = LivenessMode::Ping;
        settings.liveness.silence = Duration::from_secs(3_600);
        settings.liveness.deadline = Duration::from_secs(600);
    }
    let (a, b) = (node(23, patient).await, node(24, other).await);
    let way = Way::to(&b).await;
    a.connect(way.address(&b), Duration::from_secs(20)).await.expect("connects");
    connected(&a, &b).await;
    let mut events = a.events();
    way.freeze(true);
    let mut quick = a.settings();
    quick.liveness.silence = Duration::from_millis(300);
    quick.liveness.deadline = Duration::from_millis(300);
    assert_eq!(a.configure(quick).await, Ok(vec![]));
    let lost = until(&mut events, "found dead", |event| matches!(event, EventKind::Lost { .. })).await;
    assert!(matches!(lost.what, EventKind::Lost { reason: CloseReason::Dead, .. }), "{lost:?}");
    way.freeze(false);
    a.shutdown().await;
    b.shutdown().await;
}

/// The kernel's keepalive timers of connections to or from a port, in its words; `None` without the tool to ask.
fn keepalives(port: u16) -> Option<Vec<String>> {
    let filter = format!("( sport = :{port} or dport = :{port} )");
    let output = std::process::Command::new("ss").args(["-Htno", "state", "established", &filter]).output();
    let text = String::from_utf8(output.ok()?.stdout).expect("text");
    let timer = |line: &str| Some(line.split_once("timer:(keepalive,")?.1.split(',').next()?.to_owned());
    Some(text.lines().filter_map(timer).collect())
}

/// TCP keepalive reaches sockets that are open, as the kernel tells.
#[tokio::test]
async fn keepalive_reaches_sockets_that_are_open() {
    let (a, b) = (node(25, settings(53)).await, node(26, settings(54)).await);
    a.connect(address(&b), Duration::from_secs(20)).await.expect("connects");
    connected(&a, &b).await;
    let text = address(&b).to_string();
    let port = text.split('/').nth(4).and_then(|port| port.parse::<u16>().ok()).expect("a port");
    if keepalives(port).is_none() {
        eprintln!("SKIPPED: no `ss` to ask the kernel with");
        return;
    }
    soon("both ends wait for nothing but keepalive", async {
        let short = |left: &String| left.ends_with("sec") || left.ends_with("ms");
        while keepalives(port).is_none_or(|left| left.len() != 2 || !left.iter().all(short)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for node in [&a, &b] {
        let mut slow = node.settings();
        slow.liveness.keepalive_idle = Duration::from_secs(3_000);
        assert_eq!(node.configure(slow).await, Ok(vec![]));
    }
    soon("the kernel's new timers", async {
        let long = |left: &String| left == "49min" || left == "50min";
        while keepalives(port).is_none_or(|left| left.len() != 2 || !left.iter().all(long)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(a.is_connected(b.id()), "the same connection");
    a.shutdown().await;
    b.shutdown().await;
}

async fn opened(a: &Node, b: &Node) -> (Vec<peerkeep::Channel>, ChannelError) {
    let mut channels = Vec::new();
    loop {
        match a.open(b.id(), "many").await {
            Ok(channel) => channels.push(channel),
            Err(error) => return (channels, error),
        }
    }
}

/// Fewer or more channels at once on connections that are up, whoever opens them, over TCP and over QUIC.
#[tokio::test]
async fn the_limit_of_channels_reaches_connections_that_are_up() {
    for over_quic in [false, true] {
        let (a, b) = (node(27, settings(55)).await, node(28, settings(56)).await);
        let mut to = address(&b).to_string();
        if over_quic {
            to = to.replace("/tcp/", "/udp/").replace("/p2p/", "/quic-v1/p2p/");
        }
        let to: peerkeep::PeerAddress = to.parse().expect("an address");
        a.connect(to, Duration::from_secs(20)).await.expect("connects");
        connected(&a, &b).await;
        let mut incoming = b.accept("many").expect("a free name");
        let keeping = tokio::spawn(async move {
            while let Some((_, mut channel)) = incoming.next().await {
                tokio::spawn(async move { tokio::io::copy(&mut channel, &mut tokio::io::sink()).await });
            }
        });
        let limit = async |node: &Node, channels: u16| {
            let mut settings = node.settings();
            settings.limits.channels = channels;
            assert_eq!(node.configure(settings).await, Ok(vec![]));
        };
        // The sides are told one after the other, and links as they come to it.
        let reaches = async |expected: usize, why: ChannelError| {
            soon("the new limit", async {
                loop {
                    let (channels, error) = opened(&a, &b).await;
                    if (channels.len(), &error) == (expected, &why) {
                        return channels;
                    }
                    drop(channels);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
            .await
        };
        limit(&a, 3).await;
        drop(reaches(3, ChannelError::TooMany).await);
        limit(&a, 60).await;
        drop(reaches(32, ChannelError::Busy).await);
        limit(&b, 50).await;
        drop(reaches(50, ChannelError::Busy).await);
        limit(&b, 2).await;
        drop(reaches(2, ChannelError::Busy).await);
        keeping.abort();
        let _ = keeping.await;
        a.shutdown().await;
        b.shutdown().await;
    }
}
