//! `peerkeep sim` as a user starts it: a table, an object, curves, and the same again from the same seed.

use serde_json::Value;
use std::process::{Command, Output};

fn sim(folder: &std::path::Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peerkeep"));
    command.arg("sim").args(args).current_dir(folder).env_remove("PEERKEEP_CONFIG");
    command.output().expect("the program starts")
}

fn object(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().expect("a last line")).expect("an object on the last line")
}

#[test]
fn a_planned_network_connects_and_the_same_seed_plans_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let args = ["--nodes", "30", "--minutes", "2", "--loss", "5", "--nat", "30", "--seed", "7", "--json"];
    let first = object(&sim(folder.path(), &[&args[..], &["--plot", "out.svg"]].concat()));
    let again = object(&sim(folder.path(), &args));
    assert_eq!(first["duplicates"], 0);
    assert!(first["connected_share"].as_f64() > Some(0.9), "{first}");
    for same in ["dials", "wasted_dials", "actions", "bytes", "samples", "time_to_connect_ms"] {
        assert_eq!(first[same], again[same], "{same}");
    }
    let curves = std::fs::read_to_string(folder.path().join("out.svg")).expect("the curves");
    assert!(
        curves.starts_with("<svg") && curves.contains("30 nodes") && curves.trim_end().ends_with("</svg>")
    );
}

#[test]
fn the_users_own_settings_are_simulated_and_bad_numbers_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("mine.toml"), "[peers]\ntarget = 3\n").expect("writable");
    let args = ["--nodes", "10", "--minutes", "1", "--json"];
    let own = object(&sim(folder.path(), &[&args[..], &["--config", "mine.toml"]].concat()));
    assert_eq!((&own["target"], &object(&sim(folder.path(), &args))["target"]), (&3.into(), &8.into()));
    for bad in [["--loss", "91"], ["--nodes", "1"], ["--partition", "3"], ["--plot", "no/such/folder.svg"]] {
        let refused = sim(folder.path(), &[&["--minutes", "1"], &bad[..]].concat());
        assert!(!refused.status.success() && !refused.stderr.is_empty(), "{bad:?}");
    }
}
