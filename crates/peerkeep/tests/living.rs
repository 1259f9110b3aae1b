//! Whether the other side still lives: when it is asked, when it is not, and what the questions look like on the wire.

mod common;

use bytes::Bytes;
use common::way::Way;
use common::*;
use peerkeep::{CloseReason, EventKind, LivenessMode, Settings};
use peerkeep_core::{Effect, Effects, journal::Replay};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Asks after so much silence, says nothing else of its own accord, and never closes for want of an answer.
fn asking(host: u8, silence: Duration) -> Settings {
    let mut settings = settings(host);
    settings.peers.exchange = false;
    settings.peers.target = 0;
    settings.liveness.mode = LivenessMode::Ping;
    settings.liveness.silence = silence;
    settings.liveness.deadline = silence * 9 / 10;
    settings.liveness.misses = 50;
    settings.health.interval = Duration::from_secs(3_600);
    settings
}

/// S1.32: both sides may ask; on the wire it is one question and one answer for each interval.
#[tokio::test]
async fn s1_32_an_idle_link_carries_one_ping_for_each_interval() {
    const INTERVAL: Duration = Duration::from_secs(2);
    let (a, b) = (node(1, asking(1, INTERVAL)).await, node(2, asking(2, INTERVAL)).await);
    let way = Way::to(&b).await;
    a.connect(way.address(&b), PATIENCE).await.expect("connects");
    connected(&a, &b).await;
    // What follows the greeting at once is no question.
    let began = Instant::now() + Duration::from_millis(500);
    let later = |records: Vec<Instant>| records.into_iter().filter(|at| *at > began).collect::<Vec<_>>();
    soon("four questions", async {
        while later(way.there().records).len() < 4 || later(way.back().records).len() < 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let (there, back) = (later(way.there().records), later(way.back().records));
    let gaps: Vec<Duration> = there.windows(2).map(|pair| pair[1] - pair[0]).collect();
    eprintln!("gaps {gaps:?}, {} records there, {} back", there.len(), back.len());
    let fits = |gap: &Duration| (1_900..2_700).contains(&gap.as_millis());
    assert!(gaps.iter().all(fits), "one record for each interval: {gaps:?}");
    for (asked, answered) in there.iter().zip(&back) {
        let apart = asked.max(answered).duration_since(*asked.min(answered));
        assert!(apart < Duration::from_millis(200), "a question and its answer: {apart:?}");
    }
    a.shutdown().await;
    b.shutdown().await;
}

/// How many questions a node's journal asked.
fn probes(folder: &Path) -> usize {
    let mut count = 0;
    for file in std::fs::read_dir(folder.join("data/journal")).expect("a journal").flatten() {
        let bytes = std::fs::read(file.path()).expect("readable");
        let Ok(mut replay) = Replay::new(&bytes) else { continue };
        let mut out = Effects::new();
        while replay.step(&mut out).expect("the same decisions").is_some() {
            count += out.as_slice().iter().filter(|effect| matches!(effect, Effect::Probe { .. })).count();
            out.clear();
        }
    }
    count
}

/// S1.37: the side that hears something all the time asks nothing; the side that only sends asks all the same.
#[tokio::test]
async fn s1_37_a_busy_link_is_not_pinged_and_who_only_sends_still_asks() {
    const SILENCE: Duration = Duration::from_secs(1);
    let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let a = stored(here.path(), asking(1, SILENCE)).await;
    let b = stored(there.path(), asking(2, SILENCE)).await;
    a.connect(address(&b), PATIENCE).await.expect("connects");
    connected(&a, &b).await;
    let mut heard = a.messages("news").expect("a name");
    let began = Instant::now();
    while began.elapsed() < SILENCE * 5 {
        b.send(a.id(), "news", Bytes::from_static(b"what b has to say")).await.expect("is queued");
        soon("the message", heard.next()).await.expect("arrives");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    a.shutdown().await;
    b.shutdown().await;
    let (listener, talker) = (probes(here.path()), probes(there.path()));
    eprintln!("{listener} questions of who only listened, {talker} of who only talked");
    assert_eq!(listener, 0, "it heard something all the time");
    assert!((3..=5).contains(&talker), "one for each interval: {talker}");
}

/// S1.37: bytes that leave are no sign of life; who only sends finds out all the same.
#[tokio::test]
async fn s1_37_a_peer_that_falls_silent_while_we_send_is_found_dead() {
    let mut quick = asking(1, Duration::from_millis(500));
    quick.liveness.deadline = Duration::from_millis(500);
    quick.liveness.misses = 2;
    let (a, b) = (node(1, quick).await, node(2, asking(2, Duration::from_secs(60))).await);
    let way = Way::to(&b).await;
    a.connect(way.address(&b), PATIENCE).await.expect("connects");
    connected(&a, &b).await;
    let mut events = a.events();
    way.freeze(true);
    let (talker, to) = (a.clone(), b.id());
    let began = Instant::now();
    let talking = tokio::spawn(async move {
        while talker.send(to, "news", Bytes::from_static(b"into the void")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let lost = until(&mut events, "its death", |event| matches!(event, EventKind::Lost { .. })).await;
    let EventKind::Lost { reason, .. } = lost.what else { unreachable!("was matched") };
    assert_eq!(reason, CloseReason::Dead);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    talking.abort();
    way.freeze(false);
    a.shutdown().await;
    b.shutdown().await;
}
