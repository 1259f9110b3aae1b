//! `cargo xtask canaries`: deliberately wrong variants, each of which the suites must find within a time. Found means that
//! the suite failed with the variant and passes without it. It knows no promise itself.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::json;

use crate::{Outcome, run};

/// A wrong variant that is not found within this time was not found.
const LIMIT_SECONDS: u64 = 60;
/// How long the right variant must pass before a failure of a wrong one means anything.
const RIGHT_SECONDS: u64 = 5;

/// Who must find it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Suite {
    /// The model checker, its small setups.
    Model,
    /// Simulated worlds of real cores.
    Worlds,
    /// The mesh's own tests.
    Mesh,
}

/// Every canary there is; the names are those of the crates that carry them.
const CANARIES: &[(&str, Suite)] = &[
    ("keep-first", Suite::Model),
    ("no-boot-epoch", Suite::Model),
    ("no-confirm", Suite::Model),
    ("slot-leak", Suite::Worlds),
    ("ban-not-rechecked", Suite::Worlds),
    ("unchecked-length", Suite::Mesh),
    ("phantom-announcement", Suite::Mesh),
];

impl Suite {
    fn word(self) -> &'static str {
        match self {
            Suite::Model => "the model checker",
            Suite::Worlds => "simulated worlds",
            Suite::Mesh => "the mesh's tests",
        }
    }

    /// What builds it, so that building is no part of the search.
    fn build(self) -> Command {
        let mut command = run::cargo();
        match self {
            Suite::Model => command.args(["build", "--release"]).args(MODEL),
            Suite::Worlds => command.args(["build", "--profile", "sim"]).args(WORLDS),
            Suite::Mesh => command.args(["test", "--no-run"]).args(MESH),
        };
        command
    }

    /// What runs it with a canary, or without one.
    fn run(self, canary: Option<&str>) -> Command {
        let mut command = run::cargo();
        match self {
            Suite::Model => {
                command.args(["run", "--quiet", "--release"]).args(MODEL).args(["--", "--quick"]);
                command.args(canary.iter().flat_map(|name| ["--canary", *name]));
            }
            Suite::Worlds => {
                let seconds = if canary.is_some() { LIMIT_SECONDS } else { RIGHT_SECONDS };
                command.args(["run", "--quiet", "--profile", "sim"]).args(WORLDS);
                command.args(["--", "--first", "--seeds", "4294967295", "--seconds", &seconds.to_string()]);
                command.args(canary.map(|name| format!("--canary={name}")));
            }
            Suite::Mesh => {
                command.args(["test", "--quiet"]).args(MESH).env("PEERKEEP_CANARY", canary.unwrap_or(""));
            }
        }
        command
    }
}

const MODEL: &[&str] =
    &["--package", "peerkeep-sim", "--features", "model,canaries", "--bin", "peerkeep-model"];
const WORLDS: &[&str] = &["--package", "peerkeep-sim", "--features", "canaries", "--bin", "peerkeep-seeds"];
const MESH: &[&str] = &["--package", "peerkeep-mesh", "--features", "canaries", "--lib", "--test", "confirm"];

/// Looks for every canary.
pub fn run() -> Result<Outcome> {
    for suite in [Suite::Model, Suite::Worlds, Suite::Mesh] {
        run::status(&mut suite.build())?;
        if !run::succeeds(&mut suite.run(None)) {
            bail!("{} fail without any canary: mend that first", suite.word());
        }
    }
    let mut all = Vec::new();
    for (name, suite) in CANARIES {
        let began = Instant::now();
        let passed = run::succeeds(&mut suite.run(Some(name)));
        let seconds = began.elapsed().as_secs_f64();
        let found = !passed && seconds <= LIMIT_SECONDS as f64;
        let verdict = if found { "found" } else { "NOT FOUND" };
        println!("{name:<22} {verdict} by {} in {seconds:.1} s", suite.word());
        all.push(json!({ "name": name, "found": found, "seconds": seconds, "by": suite.word() }));
    }
    let passed = all.iter().all(|canary| canary["found"] == true);
    Ok(Outcome { passed, json: Some(json!({ "passed": passed, "canaries": all })) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_canary_of_the_core_and_the_mesh_is_looked_for() {
        let core = include_str!("../../crates/core/src/canary.rs");
        let mesh = include_str!("../../crates/mesh/src/canary.rs");
        for (name, suite) in CANARIES {
            let source = if *suite == Suite::Mesh { mesh } else { core };
            assert!(source.contains(&format!("\"{name}\"")), "{name} is in no crate");
        }
        let named = |source: &str| {
            source.lines().filter(|line| line.contains("=> \"") || line.contains("Ok(\"")).count()
        };
        assert_eq!(named(core) + named(mesh), CANARIES.len(), "a canary that nobody looks for");
    }
}
