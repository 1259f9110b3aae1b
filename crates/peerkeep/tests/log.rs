//! The log as people read it. The log belongs to the process, so this file has one test.

mod common;

use common::*;
use peerkeep::{EventKind, Target};
use std::time::Duration;

#[tokio::test]
async fn s3_83_the_log_is_short_and_written_for_people() {
    let page = tempfile::NamedTempFile::new().expect("a file");
    let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false);
    lines.with_writer(page.reopen().expect("a file")).init();
    let (a, b) = (node(1, settings(1)).await, node(2, settings(2)).await);
    let mut events = a.events();
    a.want(address(&b)).await.expect("is accepted");
    connected(&a, &b).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    b.shutdown().await;
    let lost = until(&mut events, "the loss", |event| matches!(event, EventKind::Lost { .. })).await;
    let EventKind::Lost { age_ms, .. } = lost.what else { panic!("{lost:?}") };
    assert!((60..20_000).contains(&age_ms), "the connection was up for {age_ms} ms");
    for _ in 0..6 {
        until(&mut events, "a failure", |event| matches!(event, EventKind::Failed { .. })).await;
    }
    a.ban(Target::Key(b.id().key()), Some(Duration::from_secs(3_600))).await.expect("is accepted");
    let id = b.id().to_string();
    a.shutdown().await;

    let page = std::fs::read_to_string(page.path()).expect("is text");
    let lines: Vec<&str> = page.lines().collect();
    let with = |text: &str| -> Vec<&&str> { lines.iter().filter(|line| line.contains(text)).collect() };
    let failed = with("could not connect");
    assert_eq!(failed.len(), 1, "six failures within a minute are one line: {failed:?}");
    assert!(failed[0].contains(" WARN ") && failed[0].contains(&id), "{failed:?}");
    let lost = with("connection lost");
    assert!(!lost.is_empty() && lost.iter().all(|line| !line.contains("age=0")), "{lost:?}");
    assert!(with("direction=outbound")[0].contains("remote=127.0.0.2:"));
    assert!(with("banned")[0].contains("by=operator span=1h"), "{:?}", with("banned"));
    for odd in ["Some(", "None", "Operator", "Outbound", "Inbound", "remote=\"", "os error", "Duration"] {
        assert!(with(odd).is_empty(), "{odd}: {:?}", with(odd));
    }
}
