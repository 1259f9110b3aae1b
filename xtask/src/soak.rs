//! `cargo xtask soak --minutes N`: four real nodes held without faults, judged by the demo's own summary.
//!
//! It builds the release binary, lets `peerkeep demo` measure and keeps the summary in the target folder. It sets no
//! limits of its own: the demo's exit code is the verdict.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Outcome, project, run};

/// Nodes held, as many as the requirement names.
const NODES: u64 = 4;

/// Holds the nodes for `minutes` and reports the demo's figures.
pub fn run(minutes: u64) -> Result<Outcome> {
    run::status(run::cargo().args([
        "build",
        "--release",
        "--package",
        "peerkeep-daemon",
        "--bin",
        "peerkeep",
    ]))?;
    let target = project::target()?;
    let mut demo = run::program(target.join("release").join("peerkeep"));
    demo.args(["demo", "--nodes", &NODES.to_string(), "--seconds", &(minutes * 60).to_string()]);
    demo.args(["--no-faults", "--json"]);

    let mut summary = None;
    let end = run::tee(&mut demo, |line| {
        if let Ok(found @ Value::Object(_)) = serde_json::from_str(line) {
            summary = Some(found);
        }
    });
    let summary = summary.context("the demo printed no summary");
    let passed = match (&end, &summary) {
        (Ok(()), Ok(_)) => true,
        (Err(error), _) | (_, Err(error)) => {
            println!("soak: {error:#}");
            false
        }
    };
    let summary = summary.unwrap_or(Value::Null);
    let json =
        serde_json::json!({ "minutes": minutes, "nodes": NODES, "passed": passed, "summary": summary });
    let ended_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let record = target.join(format!("soak-{ended_at}.json"));
    std::fs::write(&record, format!("{json}\n"))
        .with_context(|| format!("cannot write {}", record.display()))?;
    println!("soak: {NODES} nodes, {minutes} minutes: {}", if passed { "held" } else { "FAILED" });
    println!("soak: recorded in {}", record.display());
    Ok(Outcome { passed, json: Some(json) })
}
