//! `cargo xtask no-std`: proof that the deciding crates can name no clock, socket, thread, file or environment.
//!
//! A library with its own panic handler links them; if one of them, or a dependency, names std, the compiler finds
//! two panic handlers and refuses. The probe is a workspace of its own, because in ours another crate could switch
//! a shared dependency's `std` feature on. A second build, with a crate that does use std, must fail: it shows that
//! the proof would notice.

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{Outcome, project, run};

/// The probe's manifest, from the root.
pub const MANIFEST: &str = "xtask/no_std_probe/Cargo.toml";

/// Builds the probe, then the canary that must not build.
pub fn run() -> Result<Outcome> {
    let root = project::root();
    // The product's lock file: the proof is about the versions we ship, and needs no network once they are there.
    std::fs::copy(root.join("Cargo.lock"), root.join(MANIFEST).with_file_name("Cargo.lock"))
        .context("cannot give the probe the product's Cargo.lock")?;
    let target = project::target()?.join("no-std-probe");
    let build = |features: &str| {
        let mut command = run::cargo();
        command.args(["build", "--quiet", "--manifest-path", MANIFEST, "--features", features]);
        // Warnings are clippy's stage; here they would hide the one error that matters.
        command.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", "-Awarnings");
        command
    };
    run::status(&mut build("")).context("peerkeep-core and peerkeep-paths do not build without std")?;

    let canary = build("canary").output().context("cannot start the canary's build")?;
    let errors = String::from_utf8_lossy(&canary.stderr);
    if canary.status.success() {
        bail!("the canary, which uses std, was built: the proof proves nothing");
    }
    if !errors.contains("panic_impl") {
        bail!("the canary failed, but not because of std:\n{errors}");
    }
    println!(
        "no-std: peerkeep-core, peerkeep-paths and their dependencies use no std; the canary was refused"
    );
    Ok(Outcome { passed: true, json: Some(json!({ "no_std": true, "canary_refused": true })) })
}
