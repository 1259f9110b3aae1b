//! `cargo xtask model`: the model checker over the real core, exhaustively.
//!
//! It builds the checker optimised and hands its figures on. It judges nothing itself: the checker's exit code is the
//! verdict.

use anyhow::Result;
use serde_json::Value;

use crate::{Outcome, run};

/// Runs the setups: all of them, or with `quick` those that take a second or two; with `only`, those whose name
/// contains it.
pub fn run(quick: bool, only: Option<&str>) -> Result<Outcome> {
    let mut checker = run::cargo();
    checker.args(["run", "--release", "--quiet", "--package", "peerkeep-sim", "--features", "model"]);
    checker.args(["--bin", "peerkeep-model", "--", "--json"]);
    if quick {
        checker.arg("--quick");
    }
    if let Some(word) = only {
        checker.args(["--only", word]);
    }
    let mut summary = Value::Null;
    let end = run::tee(&mut checker, |line| {
        if let Ok(found @ Value::Object(_)) = serde_json::from_str(line) {
            summary = found;
        }
    });
    if let Err(error) = &end {
        println!("model: {error:#}");
    }
    Ok(Outcome { passed: end.is_ok() && !summary.is_null(), json: Some(summary) })
}
