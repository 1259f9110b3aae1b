//! `cargo xtask interop NAME`: our protocol against implementations that share no code with ours.
//!
//! It brings the other implementation where this machine allows it (a Python environment under target/, from PyPI) and
//! runs the tests that drive it. What cannot be installed is skipped, loudly, and is no failure.

use anyhow::{Result, bail};
use serde_json::json;

use crate::{Outcome, project, run};

/// A partner: its name, and which tests of `crates/mesh/tests/foreign.rs` drive it.
const PARTNERS: &[(&str, &str)] = &[("openssl", "openssl_"), ("quic", "quic_")];

/// Runs the tests with partner `name`; an unknown name is answered with the list.
pub fn run(name: &str) -> Result<Outcome> {
    let Some((_, tests)) = PARTNERS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = PARTNERS.iter().map(|(known, _)| *known).collect();
        bail!("there is no partner `{name}`; there are: {}", known.join(", "));
    };
    let mut command = run::cargo();
    command.args(["test", "--quiet", "--package", "peerkeep-mesh", "--test", "foreign", "--", tests]);
    let skipped = match name {
        "quic" => match aioquic() {
            Ok(python) => {
                command.env("PEERKEEP_INTEROP_PYTHON", python);
                None
            }
            Err(why) => Some(why),
        },
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
        assert!(error.contains("openssl, quic"), "{error}");
    }
}
