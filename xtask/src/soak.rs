//! `cargo xtask soak --minutes N`: four real nodes held without faults, judged by the demo's own summary.
//!
//! It builds the release binary, lets `peerkeep demo` measure and keeps the summary in the target folder. It sets no
//! limits of its own: the demo's exit code is the verdict.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Outcome, project, run};

/// Nodes held, as many as the requirement names.
const NODES: u64 = 4;

/// Holds the nodes for `minutes` and reports the demo's figures.
pub fn run(minutes: u64) -> Result<Outcome> {
    let build = ["build", "--release", "--package", "peerkeep-daemon", "--bin", "peerkeep"];
    run::status(run::cargo().args(build))?;
    let target = project::target()?;
    let mut demo = run::program(target.join("release").join("peerkeep"));
    demo.args(["demo", "--nodes", &NODES.to_string(), "--seconds", &(minutes * 60).to_string()]);
    demo.args(["--no-faults", "--json"]);

    let (passed, summary) = hold(&mut demo);
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

/// Runs the demo to its end: whether it passed, and the last JSON object it printed.
fn hold(demo: &mut Command) -> (bool, Value) {
    let mut summary = Value::Null;
    let end = run::tee(demo, |line| {
        if let Ok(found @ Value::Object(_)) = serde_json::from_str(line) {
            summary = found;
        }
    });
    if let Err(error) = &end {
        println!("soak: {error:#}");
    }
    if summary.is_null() {
        println!("soak: the demo printed no summary");
    }
    (end.is_ok() && !summary.is_null(), summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo(script: &str) -> (bool, Value) {
        hold(run::program("sh").args(["-c", script]))
    }

    #[test]
    fn the_demos_exit_code_and_its_summary_decide() {
        let summary = serde_json::json!({ "duplicate_connections": 0 });
        let print = "echo table; echo '{\"duplicate_connections\":0}'";
        assert_eq!(demo(print), (true, summary.clone()));
        assert_eq!(demo(&format!("{print}; exit 1")), (false, summary));
        assert_eq!(demo("echo table"), (false, Value::Null));
    }
}
