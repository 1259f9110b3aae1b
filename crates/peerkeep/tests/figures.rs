//! What is measured of a connection, held against what is done to it: delay, rate, questions without answers, when
//! bytes last passed.

mod common;

use common::way::{Passed, Way};
use common::*;
use peerkeep::{ChannelError, ConnStatus, HealthStatus, LinkStatus, Node, Settings};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

fn alone(host: u8) -> Settings {
    let mut settings = settings(host);
    settings.peers.exchange = false;
    settings.peers.target = 0;
    settings.liveness.mode = peerkeep::LivenessMode::Ping;
    settings
}

async fn over_a_way(settings: impl Fn(u8) -> Settings) -> (Node, Node, Way) {
    let (a, b) = (node(1, settings(1)).await, node(2, settings(2)).await);
    let way = Way::to(&b).await;
    a.connect(way.address(&b), PATIENCE).await.expect("connects");
    connected(&a, &b).await;
    (a, b, way)
}

async fn link(a: &Node, b: &Node) -> ConnStatus {
    a.peer(b.id()).await.and_then(|peer| peer.link).expect("is connected")
}

async fn health(a: &Node, b: &Node) -> HealthStatus {
    link(a, b).await.health.expect("is up")
}

/// Tests that measure rates run one after the other: they would measure each other.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[track_caller]
fn within_a_fifth(what: &str, figure: u32, truth: u32) {
    eprintln!("{what}: {figure} of {truth} kbit/s");
    assert!(figure.abs_diff(truth) * 5 <= truth, "{what}: {figure} kbit/s of {truth}");
}

/// S1.40: the probe that somebody asks for, on ways of three rates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_40_the_bandwidth_that_is_asked_for_is_within_a_fifth_of_the_way() {
    let _alone = ONE.lock().await;
    let (a, b, way) = over_a_way(alone).await;
    for kbps in [1_000, 10_000, 100_000] {
        way.shape(kbps);
        let truth = u32::try_from(kbps).expect("small");
        let mut before = way.there().bytes;
        let mut measured = a.measure(b.id()).await.expect("measures");
        // A busy machine may stall the way itself, which makes it slower and never faster.
        for _ in 0..2 {
            if measured.bandwidth_kbps * 10 < truth * 9 {
                eprintln!("once more: {} of {truth} kbit/s", measured.bandwidth_kbps);
                before = way.there().bytes;
                measured = a.measure(b.id()).await.expect("measures");
            }
        }
        within_a_fifth("asked for", measured.bandwidth_kbps, truth);
        let sent = way.there().bytes - before;
        assert!(sent < measured.sent_bytes * 11 / 10 + 10_000, "{sent} bytes of {measured:?}");
        assert!(measured.sent_bytes <= 22 << 20 && measured.took_ms < 20_000, "bounded: {measured:?}");
        status(&a, b.id(), "it counts for the connection", |peer| {
            let rate =
                peer.link.as_ref().and_then(|link| link.health).and_then(|health| health.bandwidth_kbps);
            rate.is_some_and(|rate| rate.abs_diff(truth) * 5 <= truth)
        })
        .await;
    }
    way.shape(0);
    let quiet = way.there().bytes;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(way.there().bytes < quiet + 2_000, "nothing is sent that nobody asked for");
    a.shutdown().await;
    b.shutdown().await;
}

/// S1.40: what an application sends anyway tells the rate, without a probe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_40_the_bandwidth_of_real_traffic_is_within_a_fifth_of_the_way() {
    let _alone = ONE.lock().await;
    for kbps in [1_000_u32, 10_000] {
        let (a, b, way) = over_a_way(alone).await;
        let mut incoming = b.accept("bulk").expect("a free name");
        way.shape(kbps.into());
        let mut channel = a.open(b.id(), "bulk").await.expect("opens");
        let (_, mut far) = soon("the channel", incoming.next()).await.expect("arrives");
        let reading = tokio::spawn(async move { tokio::io::copy(&mut far, &mut tokio::io::sink()).await });
        let pouring = tokio::spawn(async move {
            let block = vec![0; 16 * 1024];
            while channel.write_all(&block).await.is_ok() {}
        });
        status(&a, b.id(), "the rate of the way, when its buffers are full", |peer| {
            let health = peer.link.as_ref().and_then(|link| link.health);
            health
                .and_then(|health| health.bandwidth_kbps)
                .is_some_and(|rate| rate.abs_diff(kbps) * 5 <= kbps)
        })
        .await;
        // And it stays there; a busy machine may stall the way itself for a moment.
        let mut rates = Vec::new();
        for _ in 0..9 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            rates.push(health(&a, &b).await.bandwidth_kbps.expect("a rate"));
        }
        eprintln!("{rates:?}");
        rates.sort_unstable();
        within_a_fifth("passing", rates[4], kbps);
        pouring.abort();
        way.shape(0);
        let _ = soon("the end", reading).await;
        a.shutdown().await;
        b.shutdown().await;
    }
}

/// Over QUIC alike; loopback is quick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_over_quic_is_measured_as_well() {
    let _alone = ONE.lock().await;
    let (a, b) = (node(1, alone(1)).await, node(2, alone(2)).await);
    let to = address(&b).to_string().replace("/tcp/", "/udp/").replace("/p2p/", "/quic-v1/p2p/");
    a.connect(to.parse::<peerkeep::PeerAddress>().expect("an address"), PATIENCE).await.expect("connects");
    connected(&a, &b).await;
    assert_eq!(link(&a, &b).await.transport.as_deref(), Some("quic"));
    let measured = a.measure(b.id()).await.expect("measures");
    eprintln!("{measured:?}");
    assert!(measured.bandwidth_kbps > 10_000 && measured.rtt_ms < 1_000.0, "{measured:?}");
    status(&a, b.id(), "it counts for the connection", |peer| {
        peer.link.as_ref().and_then(|link| link.health).is_some_and(|health| health.bandwidth_kbps.is_some())
    })
    .await;
    a.shutdown().await;
    b.shutdown().await;
}

/// One measurement at a time: two would measure each other.
#[tokio::test]
async fn a_second_measurement_waits_for_nobody_and_is_refused() {
    let _alone = ONE.lock().await;
    let (a, b, way) = over_a_way(alone).await;
    way.shape(500);
    let (first, other) = (a.clone(), b.id());
    let first = tokio::spawn(async move { first.measure(other).await });
    soon("the first is under way", async {
        while way.there().bytes < 20_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(a.measure(b.id()).await, Err(ChannelError::Busy));
    first.await.expect("no panic").expect("measures");
    a.measure(b.id()).await.expect("and then it is free");
    b.shutdown().await;
    a.shutdown().await;
}

/// S1.85: a delay gives the latency, a held-up answer the success rate, the wire when bytes last passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_85_what_a_connection_shows_is_close_to_the_truth() {
    let _alone = ONE.lock().await;
    let asking = |host| {
        let mut settings = alone(host);
        settings.liveness.silence = Duration::from_millis(400);
        settings.liveness.deadline = Duration::from_secs(2);
        settings.liveness.misses = 10;
        settings.health.interval = Duration::from_secs(3_600);
        settings
    };
    let (a, b, way) = over_a_way(asking).await;
    way.delay(Duration::from_millis(60));
    let near = |ms: f64| (110.0..160.0).contains(&ms);
    let seen = status(&a, b.id(), "the mean latency", |peer| {
        peer.link.as_ref().and_then(|link| link.rtt_ms).is_some_and(near)
    })
    .await;
    assert_eq!(seen.states.link, LinkStatus::Active);
    let fits = health(&a, &b).await;
    assert_eq!((fits.success_per_mille, fits.degraded), (Some(1_000), false), "every question was answered");

    // When bytes last passed, by the clock of the way.
    let (to_b, to_a) = (way.there(), way.back());
    let shown = link(&a, &b).await;
    let ago = |passed: &Passed| passed.records.last().expect("some").elapsed().as_millis();
    for (what, told, truth) in
        [("sent", shown.last_sent_ms_ago, ago(&to_b)), ("received", shown.last_received_ms_ago, ago(&to_a))]
    {
        let told = u128::from(told.expect("is up"));
        // Links report four times a second; the way adds its delay.
        assert!(told.abs_diff(truth) < 600, "last {what} {told} ms ago, in truth {truth}");
    }

    // One question is held up beyond its deadline: of a smoothed share that is one sixteenth.
    way.freeze(true);
    status(&a, b.id(), "a question without an answer", |peer| {
        let health = peer.link.as_ref().and_then(|link| link.health);
        health.and_then(|health| health.success_per_mille) == Some(938)
    })
    .await;
    way.freeze(false);
    status(&a, b.id(), "answers again", |peer| {
        let health = peer.link.as_ref().and_then(|link| link.health);
        health.and_then(|health| health.success_per_mille).is_some_and(|share| share > 938)
    })
    .await;
    a.shutdown().await;
    b.shutdown().await;
}

/// S1.44: each of the three scores follows what really happens to a link, and the mean follows the three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_44_the_three_scores_are_fed_by_what_happens_to_a_live_link() {
    let _alone = ONE.lock().await;
    let asking = |host| {
        let mut settings = alone(host);
        settings.liveness.silence = Duration::from_millis(300);
        settings.liveness.deadline = Duration::from_millis(700);
        settings.liveness.misses = 20;
        settings.health.interval = Duration::from_secs(3_600);
        settings
    };
    let (a, b, way) = over_a_way(asking).await;
    let by = |what: &'static str, fits: fn(&HealthStatus) -> bool| {
        status(&a, b.id(), what, move |peer| {
            peer.link.as_ref().and_then(|link| link.health).is_some_and(|health| fits(&health))
        })
    };
    by("a quick answer", |health| health.latency.is_some_and(|score| score >= 800)).await;
    by("answers in time", |health| health.reliability == Some(1_000)).await;
    assert_eq!(health(&a, &b).await.bandwidth, None, "nothing was sent that would tell");

    way.shape(1_000);
    a.measure(b.id()).await.expect("measures");
    by("a megabit", |health| health.bandwidth.is_some_and(|score| (330..470).contains(&score))).await;
    way.shape(0);
    way.delay(Duration::from_millis(120));
    by("a slow answer", |health| health.latency.is_some_and(|score| score < 450)).await;
    way.freeze(true);
    by("no answer", |health| health.reliability.is_some_and(|score| score < 900)).await;
    way.freeze(false);
    let seen = by("all three", |health| health.score.is_some()).await;
    let fits = seen.link.and_then(|link| link.health).expect("is up");
    let parts = [fits.latency, fits.reliability, fits.bandwidth].map(|part| u32::from(part.expect("known")));
    assert_eq!(u32::from(fits.score.expect("known")), parts.iter().sum::<u32>() / 3, "{fits:?}");
    a.shutdown().await;
    b.shutdown().await;
}

/// S1.86: every operation of document 001's connection, on a live link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_86_each_operation_of_a_connection_works_on_a_live_link() {
    let _alone = ONE.lock().await;
    let (a, b, way) = over_a_way(alone).await;
    way.delay(Duration::from_millis(40));
    let rtt = a.ping(b.id()).await.expect("is answered");
    assert!((80..160).contains(&rtt.as_millis()), "send_ping: {rtt:?}");
    assert_eq!(health(&a, &b).await.bandwidth_kbps, None, "needs_bandwidth_measurement: nothing has told it");
    way.shape(2_000);
    let measured = a.measure(b.id()).await.expect("measures");
    within_a_fifth("measure_bandwidth", measured.bandwidth_kbps, 2_000);
    assert!((80.0..200.0).contains(&measured.rtt_ms), "{measured:?}");
    assert!(!health(&a, &b).await.degraded, "is_quality_degraded");
    let peer = a.peer(b.id()).await.expect("is known");
    assert_eq!(peer.states.link, LinkStatus::Active, "is_active");
    assert!(a.is_connected(b.id()), "is_disconnected");
    way.delay(Duration::ZERO);
    way.shape(0);
    a.disconnect(b.id()).await.expect("send_goodbye and close");
    status(&a, b.id(), "closed", |peer| peer.link.is_none()).await;
    let told = status(&b, a.id(), "their side", |peer| peer.link.is_none()).await;
    assert_eq!(told.last_close, Some(peerkeep::CloseReason::Requested), "the goodbye arrived");
    assert!(!way.was_reset());
    soon("our side", async {
        while a.is_connected(b.id()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(a.ping(b.id()).await, Err(ChannelError::NotConnected));
    assert_eq!(a.measure(b.id()).await, Err(ChannelError::NotConnected));
    a.shutdown().await;
    b.shutdown().await;
}
