//! The demonstration, played small: its figures, and that it leaves nothing behind even when it is interrupted.
#![allow(missing_docs)]

mod common;

use common::{SOON, Said, command, until};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Stdio;

#[test]
fn the_demo_reaches_its_figures_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = command();
    demo.env("TMPDIR", folder.path()).args(["demo", "--nodes", "3", "--seconds", "12", "--json"]);
    let said = Said::of(demo.output().expect("it runs"));
    let figures = said.json();
    assert_eq!(said.code, 0, "{figures:#}");
    assert_eq!(figures["connections_per_node"], 2);
    assert_eq!(figures["duplicate_connections"], 0);
    assert_eq!(figures["handshake_failures"], 0);
    assert_eq!(figures["losses_outside_faults"], 0);
    assert_eq!(figures["connections_lowest"], 2);
    assert_eq!(figures["cpu_percent"].as_array().map(Vec::len), Some(3), "{figures:#}");
    assert!(figures["replayed_actions"].as_u64() > Some(10), "{figures:#}");
    for key in ["dials_per_minute_steady", "log_lines_per_minute", "establish_p99_ms", "heal_after_kill_ms"] {
        assert!(figures[key].is_number(), "{key}: {figures:#}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 0, "folders are left");
}

#[test]
fn an_interrupted_demo_takes_its_nodes_and_folders_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = command();
    demo.env("TMPDIR", folder.path()).args(["demo", "--nodes", "3", "--seconds", "600", "--no-faults"]);
    let mut child = demo.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    until("three nodes run", SOON, || nodes_of(folder.path()) == 3);
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("running");
    kill_process(pid, Signal::INT).expect("it runs");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(1), "{status}");
    assert_eq!(nodes_of(folder.path()), 0, "nodes are left");
    assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 0, "folders are left");
}

/// S3.7, S3.77: a soak that loses a link fails, also when the link is back at the end.
#[test]
fn s3_77_a_link_lost_during_the_hold_is_a_missed_figure() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = command();
    demo.env("TMPDIR", folder.path()).args(["demo", "--nodes", "3", "--seconds", "15"]);
    demo.args(["--no-faults", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = demo.spawn().expect("it runs");
    let ask = |args: &[&str]| {
        let home = std::fs::read_dir(folder.path()).ok()?.next()?.ok()?.path();
        let mut asked = command();
        asked.arg("--json").arg("--data").arg(home.join("node-2")).args(args);
        serde_json::from_slice::<serde_json::Value>(&asked.output().ok()?.stdout).ok()
    };
    let connected = || ask(&["status"]).is_some_and(|status| status["counts"]["connected"] == 2);
    until("all are connected", SOON, connected);
    // The demo sees it a moment later, and the hold begins.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let peers = ask(&["peers"]).expect("they answer");
    let peer = peers["peers"][0]["id"].as_str().expect("an id").to_owned();
    ask(&["disconnect", &peer]);
    let said = Said::of(child.wait_with_output().expect("it ends"));
    let figures = said.json();
    assert_eq!(said.code, 1, "{figures:#}");
    assert_eq!(figures["losses_outside_faults"], 2, "both ends count it: {figures:#}");
    assert_eq!(figures["connections_lowest"], 1, "{figures:#}");
    assert!(figures["missed"].to_string().contains("links lost"), "{figures:#}");
}

/// Processes whose command line names this folder.
fn nodes_of(folder: &Path) -> usize {
    let folder = folder.to_str().expect("text");
    let processes = std::fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
    processes
        .filter(|process| {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains("--die-with-parent") && line.contains(folder)
        })
        .count()
}
