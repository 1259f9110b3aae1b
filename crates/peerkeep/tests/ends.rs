//! How connections end: which reason both sides write down, what is still delivered, and when the next dial comes.

mod common;

use common::way::Way;
use common::*;
use peerkeep::{
    CloseReason, DisconnectReason, EventKind, ListenAddress, LivenessMode, Node, Outcome, PeerAddress,
    PeerId, Place, Reason, Settings, Standing, Target,
};
use peerkeep_core::{Addr, AddrKind};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

fn alone(host: u8) -> Settings {
    let mut settings = settings(host);
    settings.peers.exchange = false;
    settings.peers.target = 0;
    settings.liveness.mode = LivenessMode::Ping;
    settings
}

/// The latest reason for an end that the store of a stopped node holds.
async fn written(folder: &Path, about: PeerId) -> CloseReason {
    let mut silent = alone(9);
    silent.listen.addresses = Vec::<ListenAddress>::new();
    let node = stored(folder, silent).await;
    let history = node.history(Some(about), 20).await;
    node.shutdown().await;
    let lost = history.iter().find_map(|event| match &event.what {
        EventKind::Lost { reason, .. } => Some(*reason),
        _ => None,
    });
    lost.unwrap_or_else(|| panic!("no end in {history:?}"))
}

/// Two nodes with stores, connected over a way; `end` ends it, and both stores say how, also after a restart.
async fn both_write_down<F: Future<Output = ()>>(
    settings: impl Fn(u8) -> Settings,
    end: impl FnOnce(Node, Node, Way) -> F,
) -> [CloseReason; 2] {
    let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (a, b) = (stored(here.path(), settings(1)).await, stored(there.path(), settings(2)).await);
    let way = Way::to(&b).await;
    a.connect(way.address(&b), PATIENCE).await.expect("connects");
    connected(&a, &b).await;
    let (mut at_a, mut at_b) = (a.events(), b.events());
    end(a.clone(), b.clone(), way).await;
    for events in [&mut at_a, &mut at_b] {
        until(events, "the end", |event| matches!(event, EventKind::Lost { .. })).await;
    }
    let (first, second) = (a.id(), b.id());
    a.shutdown().await;
    b.shutdown().await;
    [written(here.path(), second).await, written(there.path(), first).await]
}

/// S1.57: who shuts down says so, and both sides write down a normal end.
#[tokio::test]
async fn s1_57_a_normal_shutdown_is_recorded_by_both_sides() {
    let ends = both_write_down(alone, async |a, _, _way| a.shutdown().await).await;
    assert_eq!(ends, [CloseReason::Shutdown; 2]);
    assert_eq!(CloseReason::Shutdown.disconnect_reason(), DisconnectReason::Normal);
    let ends = both_write_down(alone, async |a, b, _way| {
        a.disconnect(b.id()).await.expect("is accepted");
    });
    assert_eq!(ends.await, [CloseReason::Requested; 2]);
    assert_eq!(CloseReason::Requested.disconnect_reason(), DisconnectReason::Normal);
}

/// S1.58: who falls silent is recorded as a timeout.
#[tokio::test]
async fn s1_58_a_timeout_is_recorded_by_both_sides() {
    let quick = |host| {
        let mut settings = alone(host);
        settings.liveness.silence = Duration::from_millis(300);
        settings.liveness.deadline = Duration::from_millis(300);
        settings.timeouts.goodbye = Duration::from_millis(300);
        settings
    };
    let ends = both_write_down(quick, async |a, b, way| {
        way.freeze(true);
        for (node, other) in [(&a, b.id()), (&b, a.id())] {
            status(node, other, "found dead", |peer| peer.last_close == Some(CloseReason::Dead)).await;
        }
    });
    let ends = ends.await;
    assert_eq!(ends, [CloseReason::Dead; 2]);
    assert_eq!(CloseReason::Dead.disconnect_reason(), DisconnectReason::Timeout);
}

/// Sends a message stream that is none: its first topic has no length.
async fn garbage(from: &Node, to: PeerId) {
    let mut stream = from.open(to, "peerkeep/mail").await.expect("opens");
    stream.write_all(&[0; 64]).await.expect("takes bytes");
    stream.flush().await.expect("flushes");
}

/// S1.59: after a frame of garbage both sides write down a violation.
#[tokio::test]
async fn s1_59_a_protocol_violation_is_recorded_by_both_sides() {
    let ends = both_write_down(alone, async |a, b, _way| garbage(&b, a.id()).await).await;
    assert_eq!(ends, [CloseReason::Violation; 2]);
    assert_eq!(CloseReason::Violation.disconnect_reason(), DisconnectReason::ProtocolViolation);
}

/// S1.61: a ban while connected.
#[tokio::test]
async fn s1_61_a_ban_while_connected_disconnects_and_is_recorded_by_both_sides() {
    let ends = both_write_down(alone, async |a, b, _way| {
        a.ban(Target::Key(b.id().key()), None).await.expect("is accepted");
        status(&a, b.id(), "closed", |peer| peer.link.is_none() && peer.banned).await;
    });
    assert_eq!(ends.await, [CloseReason::Banned; 2]);
    assert_eq!(CloseReason::Banned.disconnect_reason(), DisconnectReason::PeerBanned);
}

/// S1.79: what was accepted before a clean close arrives whole: files on several channels, and messages. The connection
/// ends without a reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_79_a_clean_close_delivers_what_was_buffered() {
    let patient = |host| {
        let mut settings = alone(host);
        settings.timeouts.goodbye = Duration::from_secs(10);
        settings
    };
    for over_quic in [false, true] {
        let (a, b) = (node(1, patient(1)).await, node(2, patient(2)).await);
        let way = Way::to(&b).await;
        let to = match (over_quic, address(&b).place) {
            (true, Some(Place::Ip(at))) => PeerAddress {
                id: Some(b.id()),
                place: Some(Place::Ip(Addr::new(at.socket(), AddrKind::Quic))),
                stack: None,
            },
            _ => way.address(&b),
        };
        for round in 0..4 {
            let outcome = a.connect(to.clone(), PATIENCE).await.expect("is accepted");
            assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
            connected(&a, &b).await;
            let mut notes = b.messages("notes").expect("a name");
            let mut incoming = b.accept("file").expect("a free name");
            let mut readers = tokio::task::JoinSet::new();
            let mut near = Vec::new();
            for _ in 0..6 {
                near.push(a.open(b.id(), "file").await.expect("opens"));
                let (_, mut far) = soon("the channel", incoming.next()).await.expect("arrives");
                readers.spawn(async move {
                    let mut got = Vec::new();
                    far.read_to_end(&mut got).await.map(|_| got)
                });
            }
            // A slow way: when it is closed, most of it is still on this side.
            way.shape(12_000);
            let sent: Vec<u8> = (0..200_000_u32).map(|n| u8::try_from(n % 251).expect("small")).collect();
            let mut events = b.events();
            for channel in &mut near {
                channel.write_all(&sent).await.expect("it takes bytes");
                channel.shutdown().await.expect("ends in good order");
            }
            for number in 0..30_u8 {
                a.send(b.id(), "notes", vec![number; 10_000].into()).await.expect("is queued");
            }
            a.disconnect(b.id()).await.expect("is accepted");
            until(&mut events, "the end", |event| matches!(event, EventKind::Lost { .. })).await;
            while let Some(got) = soon("a file", readers.join_next()).await {
                let got = got.expect("no panic").expect("in good order");
                assert!(got == sent, "round {round}, QUIC {over_quic}: {} of {}", got.len(), sent.len());
            }
            for number in 0..30_u8 {
                let note = soon("a message", notes.next()).await.expect("arrives");
                assert_eq!(note.bytes, vec![number; 10_000], "round {round}, over QUIC {over_quic}");
            }
            way.shape(0);
            for (node, other) in [(&a, b.id()), (&b, a.id())] {
                status(node, other, "closed", |peer| peer.link.is_none()).await;
            }
        }
        assert!(!way.was_reset(), "closed in good order");
        assert_eq!(way.there().bytes > 1_000_000, !over_quic, "{}", way.there().bytes);
        a.shutdown().await;
        b.shutdown().await;
    }
}

/// Refuses every greeting at once; when the connections came.
async fn refuser() -> (PeerAddress, PeerId, tokio::sync::mpsc::Receiver<Instant>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let id = peerkeep::Identity::from_seed(&[77; 32]).id();
    let at = Addr::tcp(listener.local_addr().expect("bound"));
    let (tx, rx) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
            if tx.send(Instant::now()).await.is_err() {
                return;
            }
        }
    });
    (PeerAddress { id: Some(id), place: Some(Place::Ip(at)), stack: None }, id, rx)
}

/// S1.63 and S1.75: the pause is the configured one, can be asked for, and the dial comes when it is over.
#[tokio::test]
async fn s1_63_s1_75_the_next_dial_can_be_asked_for_and_comes_when_the_settings_say() {
    for first in [Duration::from_millis(400), Duration::from_millis(1_600)] {
        let mut patient = alone(1);
        patient.backoff.first = first;
        patient.backoff.max = Duration::from_secs(60);
        patient.backoff.growth = peerkeep::PerMille(2_000);
        patient.backoff.jitter = peerkeep::PerMille(0);
        let a = node(1, patient).await;
        let (peer, id, mut dials) = refuser().await;
        a.want(peer).await.expect("is accepted");
        let mut expected = first;
        soon("the first dial", dials.recv()).await.expect("comes");
        for attempt in 1..=2 {
            let waits = status(&a, id, "it waits", |peer| {
                peer.standing == Standing::Waiting
                    && peer.attempts == attempt
                    && peer.next_retry_in_ms.is_some()
            })
            .await;
            let asked = Instant::now();
            let left = Duration::from_millis(waits.next_retry_in_ms.expect("just seen"));
            assert!(left <= expected, "{left:?} of {expected:?}");
            let why = a.why(id).await.expect("is known");
            assert_eq!(why.reason, Reason::Backoff);
            let said = why.until_in_ms.expect("it ends by itself");
            assert!(said.abs_diff(left.as_millis() as u64) < 200, "{said} and {left:?}");
            let came = soon("the next dial", dials.recv()).await.expect("comes") - asked;
            eprintln!("{expected:?}: it said {left:?} and came after {came:?}");
            assert!(came + Duration::from_millis(30) >= left && came < left + Duration::from_millis(500));
            expected *= 2;
        }
        a.shutdown().await;
    }
}

/// S1.63: a goodbye to a peer that hangs takes as long as the settings allow and no longer; a limit is the configured
/// one.
#[tokio::test]
async fn s1_63_the_time_for_a_goodbye_and_the_limits_are_those_of_the_settings() {
    for goodbye in [Duration::from_millis(400), Duration::from_millis(2_000)] {
        let mut patient = alone(1);
        patient.timeouts.goodbye = goodbye;
        let (a, b) = (node(1, patient).await, node(2, alone(2)).await);
        let way = Way::to(&b).await;
        a.connect(way.address(&b), PATIENCE).await.expect("connects");
        connected(&a, &b).await;
        way.freeze(true);
        let began = Instant::now();
        a.disconnect(b.id()).await.expect("is accepted");
        soon("its slot is free", async {
            while a.status().await.expect("runs").counts.outbound > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let took = began.elapsed();
        eprintln!("{goodbye:?} for a goodbye: {took:?}");
        assert!(took >= goodbye && took < goodbye + Duration::from_millis(1_000), "{took:?}");
        way.freeze(false);
        a.shutdown().await;
        b.shutdown().await;
    }
    for outbound in [1, 2] {
        let mut narrow = alone(1);
        narrow.limits.outbound = outbound;
        let a = node(1, narrow).await;
        let others = [node(2, alone(2)).await, node(3, alone(3)).await, node(4, alone(4)).await];
        for other in &others {
            let _ = a.connect(address(other), Duration::from_millis(500)).await.expect("is accepted");
        }
        assert_eq!(a.connection_count(), usize::try_from(outbound).expect("small"));
        a.shutdown().await;
        for other in others {
            other.shutdown().await;
        }
    }
}

/// S1.88: a schedule by reason, and the history, outlive a restart: after a violation it is the slow one.
#[tokio::test]
async fn s1_88_backoffs_by_reason_history_and_schedule_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (stored(folder.path(), alone(1)).await, node(2, alone(2)).await);
    let (dead, dead_id, _dials) = refuser().await;
    a.want(address(&b)).await.expect("is accepted");
    connected(&a, &b).await;
    garbage(&b, a.id()).await;
    let waits = |peer: &peerkeep::PeerStatus| {
        peer.standing == Standing::Waiting && peer.last_close == Some(CloseReason::Violation)
    };
    let before = status(&a, b.id(), "the slow return", waits).await;
    let slow = before.next_retry_in_ms.expect("a time");
    assert!(slow > 30_000, "after a violation: {slow} ms");
    a.want(dead).await.expect("is accepted");
    let failed = status(&a, dead_id, "a failure", |peer| peer.attempts >= 1 && peer.link.is_none()).await;
    assert!(failed.next_retry_in_ms.is_none_or(|ms| ms < 1_000), "after a failure: {failed:?}");
    let stopped = Instant::now();
    a.shutdown().await;

    let a = stored(folder.path(), alone(1)).await;
    let after = status(&a, b.id(), "it waits still", |peer| peer.next_retry_in_ms.is_some()).await;
    let left = after.next_retry_in_ms.expect("just seen");
    let passed = u64::try_from(stopped.elapsed().as_millis()).expect("short");
    assert!(left <= slow && left + passed + 3_000 > slow, "{slow} ms before, {left} ms after {passed} ms");
    assert_eq!((after.standing, after.attempts), (Standing::Waiting, before.attempts));
    let known = status(&a, dead_id, "the other one", |peer| peer.attempts >= 1).await;
    assert!(known.wanted && known.next_retry_in_ms.is_none_or(|ms| ms < 1_000), "{known:?}");
    let history = a.history(Some(b.id()), 20).await;
    for what in ["Violated", "Lost"] {
        let told = history.iter().any(|event| format!("{:?}", event.what).starts_with(what));
        assert!(told, "{what} is not in {history:?}");
    }
    a.shutdown().await;
    b.shutdown().await;
}
