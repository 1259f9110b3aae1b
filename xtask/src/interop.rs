//! `cargo xtask interop NAME`: our protocol against implementations that share no code with ours.
//!
//! It brings the other implementation where this machine allows it (a Python environment or npm packages under target/, a
//! program of bench/) and runs the tests that drive it. What cannot be installed is skipped, loudly, and is no failure.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{Outcome, project, run};

/// A partner: its name, the package whose tests/foreign.rs drives it, and which of those tests do.
const PARTNERS: &[(&str, &str, &str)] = &[
    ("openssl", "peerkeep-mesh", "openssl_"),
    ("quic", "peerkeep-mesh", "quic_"),
    ("js-libp2p", "peerkeep-libp2p", "js_"),
    ("rust-libp2p", "peerkeep-libp2p", "rust_"),
];

/// Runs the tests with partner `name`; an unknown name is answered with the list.
pub fn run(name: &str) -> Result<Outcome> {
    let Some((_, package, tests)) = PARTNERS.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<&str> = PARTNERS.iter().map(|(known, ..)| *known).collect();
        bail!("there is no partner `{name}`; there are: {}", known.join(", "));
    };
    let mut command = run::cargo();
    command.args(["test", "--quiet", "--package", package, "--test", "foreign", "--", tests]);
    let skipped = match name {
        "quic" => match aioquic() {
            Ok(python) => {
                command.env("PEERKEEP_INTEROP_PYTHON", python);
                None
            }
            Err(why) => Some(why),
        },
        "js-libp2p" => match js_libp2p()? {
            Ok(line) => {
                command.env("PEERKEEP_INTEROP_JS", line);
                None
            }
            Err(why) => Some(why),
        },
        "rust-libp2p" => {
            command.env("PEERKEEP_INTEROP_RUST", rust_libp2p()?);
            None
        }
        _ if run::find("openssl").is_none() => Some("openssl is not installed".to_owned()),
        _ => None,
    };
    if let Some(why) = skipped {
        println!("interop: SKIPPED {name}: {why}");
        let json = json!({ "partner": name, "passed": 0, "skipped": why });
        return Ok(Outcome { passed: true, json: Some(json) });
    }
    let mut passed = 0;
    run::tee(&mut command, |line| passed += count(line))?;
    if passed == 0 {
        bail!("no test ran");
    }
    Ok(Outcome { passed: true, json: Some(json!({ "partner": name, "passed": passed })) })
}

/// A Python with aioquic: an environment of its own under target/, made once.
fn aioquic() -> Result<String, String> {
    let folder = project::root().join("target/interop-python");
    let python = folder.join("bin/python3");
    let has = || run::succeeds(run::program(&python).args(["-c", "import aioquic, cryptography"]));
    if has() {
        return Ok(python.display().to_string());
    }
    println!("interop: making {} with aioquic from PyPI, once", folder.display());
    let made = run::status(run::program("python3").args(["-m", "venv"]).arg(&folder)).and_then(|()| {
        run::status(run::program(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "aioquic",
            "cryptography",
        ]))
    });
    match made {
        Ok(()) if has() => Ok(python.display().to_string()),
        Ok(()) => Err("installed, but python cannot import aioquic".to_owned()),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// The line that starts js-libp2p's partner, `node FILE`: a copy under target/ with its packages beside it, as npm's lock
/// file says. The inner error is why it is skipped.
fn js_libp2p() -> Result<Result<String, String>> {
    for needed in ["node", "npm"] {
        if run::find(needed).is_none() {
            return Ok(Err(format!("{needed} is not installed")));
        }
    }
    let folder = project::root().join("target/interop-js-libp2p");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let partner = folder.join("partner.mjs");
    let installed = folder.join("installed");
    let mut fresh = installed.is_file();
    for file in ["package.json", "package-lock.json", "partner.mjs"] {
        let same = copy(&project::root().join("interop/js-libp2p").join(file), &folder.join(file))?;
        fresh &= same || file == "partner.mjs";
    }
    if !fresh {
        if installed.is_file() {
            fs::remove_file(&installed)?;
        }
        println!("interop: installing js-libp2p from npm into {}", folder.display());
        let mut npm = run::program("npm");
        npm.current_dir(&folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        if let Err(error) = run::status(&mut npm) {
            return Ok(Err(format!("{error:#}")));
        }
        fs::write(&installed, "")?;
    }
    Ok(Ok(format!("node {}", partner.display())))
}

/// Copies when they differ; says whether they were the same.
fn copy(from: &Path, to: &Path) -> Result<bool> {
    let text = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == text) {
        return Ok(true);
    }
    fs::write(to, text).with_context(|| format!("writing {}", to.display()))?;
    Ok(false)
}

/// rust-libp2p's partner, built with the measuring programs.
fn rust_libp2p() -> Result<String> {
    const MANIFEST: &str = "bench/Cargo.toml";
    println!("interop: building rust-libp2p's partner; the first time takes minutes");
    run::status(run::cargo().args([
        "build",
        "--release",
        "--manifest-path",
        MANIFEST,
        "--bin",
        RUST_PARTNER,
    ]))?;
    let metadata = project::metadata(MANIFEST)?;
    let target = metadata["target_directory"].as_str().context("metadata without a target directory")?;
    Ok(Path::new(target).join("release").join(RUST_PARTNER).display().to_string())
}

const RUST_PARTNER: &str = "partner-libp2p";

/// Tests passed, when the line is a summary.
fn count(line: &str) -> u32 {
    let rest = line.strip_prefix("test result: ok. ").unwrap_or_default();
    rest.split_once(" passed").and_then(|(number, _)| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_counted_and_unknown_partners_are_answered() {
        assert_eq!(count("test result: ok. 3 passed; 0 failed; 0 ignored; finished in 1.00s"), 3);
        assert_eq!(count("running 3 tests"), 0);
        let error = run("somebody").err().expect("is unknown").to_string();
        assert!(error.contains("openssl, quic, js-libp2p, rust-libp2p"), "{error}");
    }
}
