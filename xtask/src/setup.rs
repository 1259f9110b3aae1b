//! `cargo xtask setup`: installs what the tests need, where this machine allows it, and says what it left out and why.
//!
//! Idempotent, and quick when all is there. It never fails because a thing could not be installed: the tests that
//! need it then skip, loudly. It installs from the distribution, from PyPI and from crates.io only.

use std::os::unix::fs::MetadataExt;

use anyhow::Result;
use serde_json::json;

use crate::{Outcome, run};

/// A program, the Debian package that holds it, and what goes untested without it.
struct Program {
    name: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program { name: "ip", package: "iproute2", purpose: "tests in network namespaces" },
    Program { name: "nft", package: "nftables", purpose: "tests that drop packets" },
    Program { name: "promtool", package: "prometheus", purpose: "the check of the metrics' format" },
    Program { name: "tcpdump", package: "tcpdump", purpose: "tests that count packets on the wire" },
    Program { name: "strace", package: "strace", purpose: "the test of power failures" },
    Program {
        name: "python3",
        package: "python3",
        purpose: "the second implementation of the mesh protocol",
    },
];

/// What setup found or did for one need.
enum State {
    Present,
    Installed,
    Skipped(String),
}

/// Installs what is missing and reports each need.
pub fn run() -> Result<Outcome> {
    let mut report: Vec<(&str, State)> = Vec::new();
    programs(&mut report);
    report.push(("python cryptography", python()));
    report.push(("cargo-deny", cargo_deny()));
    report.push(("cargo-fuzz", cargo_fuzz()));
    report.push(("kernel: network namespaces", kernel("unshare", &["--net", "true"], "namespace tests")));
    let filter = ["--net", "nft", "add", "table", "inet", "peerkeep_probe"];
    report.push(("kernel: packet filter", kernel("unshare", &filter, "tests that drop packets")));

    let (mut present, mut installed, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for (name, state) in report {
        match state {
            State::Present => present.push(name),
            State::Installed => installed.push(name),
            State::Skipped(why) => {
                println!("setup: skipped {name}: {why}");
                skipped.push(json!({ "what": name, "why": why }));
            }
        }
    }
    println!("setup: present: {}", present.join(", "));
    if !installed.is_empty() {
        println!("setup: installed: {}", installed.join(", "));
    }
    let json = json!({ "present": present, "installed": installed, "skipped": skipped });
    Ok(Outcome { passed: true, json: Some(json) })
}

fn programs(report: &mut Vec<(&'static str, State)>) {
    let missing: Vec<&Program> = PROGRAMS.iter().filter(|p| run::find(p.name).is_none()).collect();
    let packages: Vec<&str> = missing.iter().map(|p| p.package).collect();
    let outcome = if packages.is_empty() { Ok(()) } else { apt(&packages) };
    for program in PROGRAMS {
        let state = if !missing.iter().any(|m| m.name == program.name) {
            State::Present
        } else if run::find(program.name).is_some() {
            State::Installed
        } else {
            let why = outcome.as_ref().err().map_or("the package did not bring it", String::as_str);
            State::Skipped(format!("{why}; left out: {}", program.purpose))
        };
        report.push((program.name, state));
    }
}

/// Python's `cryptography`: from Debian for Debian's python, else from PyPI.
fn python() -> State {
    if has_cryptography() {
        return State::Present;
    }
    let Some(python) = run::find("python3") else {
        return State::Skipped(
            "there is no python3; left out: the second implementation of the mesh protocol".into(),
        );
    };
    let from_debian = python.starts_with("/usr/bin") || python.starts_with("/bin");
    let outcome = if from_debian {
        apt(&["python3-cryptography"])
    } else {
        let args = ["-m", "pip", "install", "--quiet", "cryptography"];
        run::status(run::program("python3").args(args)).map_err(|error| error.to_string())
    };
    match outcome {
        Ok(()) if has_cryptography() => State::Installed,
        Ok(()) => State::Skipped("installed, but python3 cannot import it".into()),
        Err(why) => {
            State::Skipped(format!("{why}; left out: the second implementation of the mesh protocol"))
        }
    }
}

fn has_cryptography() -> bool {
    run::succeeds(run::program("python3").args(["-c", "import cryptography.x509, ssl"]))
}

/// The licence checker. Built without optimisation: it runs for a second, and building it is what takes the time.
fn cargo_deny() -> State {
    if run::find("cargo-deny").is_some() {
        return State::Present;
    }
    println!("setup: building cargo-deny, which takes some minutes, once");
    let mut install = run::cargo();
    install.args(["install", "--locked", "--quiet", "cargo-deny"]);
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "off");
    match run::status(&mut install) {
        Ok(()) => State::Installed,
        Err(error) => State::Skipped(format!("{error}; left out: the check of licences, bans and sources")),
    }
}

/// The driver of the fuzz targets. A build service only replays their corpora, which needs none.
fn cargo_fuzz() -> State {
    if run::find("cargo-fuzz").is_some() {
        return State::Present;
    }
    if run::plain() {
        return State::Skipped("not needed to replay the corpora; left out: looking for new inputs".into());
    }
    println!("setup: building cargo-fuzz, which takes some minutes, once");
    let mut install = run::cargo();
    install.args(["install", "--locked", "--quiet", "cargo-fuzz"]);
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "off");
    match run::status(&mut install) {
        Ok(()) => State::Installed,
        Err(error) => State::Skipped(format!("{error}; left out: looking for new inputs")),
    }
}

fn kernel(program: &str, args: &[&str], purpose: &str) -> State {
    if run::succeeds(run::program(program).args(args)) {
        State::Present
    } else {
        let why = if is_root() { "this kernel or container does not allow it" } else { "needs root" };
        State::Skipped(format!("{why}; left out: {purpose}"))
    }
}

/// Installs Debian packages, or says why it may not.
fn apt(packages: &[&str]) -> Result<(), String> {
    let by_hand = format!("install by hand: {}", packages.join(" "));
    if run::find("apt-get").is_none() {
        return Err(format!("there is no apt-get here ({by_hand})"));
    }
    if !is_root() {
        return Err(format!("not root ({by_hand})"));
    }
    println!("setup: apt-get install {}", packages.join(" "));
    let apt = |args: &[&str]| {
        let mut command = run::program("apt-get");
        // Its progress is noise, and `--json` promises that ours is the last line of stdout.
        command
            .args(["-qq", "-y"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(std::process::Stdio::null());
        run::status(&mut command).map_err(|error| format!("{error} ({by_hand})"))
    };
    apt(&["update"])?;
    apt(&[&["install", "--no-install-recommends"], packages].concat())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
