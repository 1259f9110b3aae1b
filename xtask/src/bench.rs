//! `cargo xtask bench NAME`: builds a measuring program of the workspace bench/ and runs it.
//!
//! The programs measure and print their method; this only finds them. Their output, `--json` line included, passes
//! through untouched.

use anyhow::{Result, bail};

use crate::{Outcome, project, run};

const MANIFEST: &str = "bench/Cargo.toml";

/// Runs program `name` with `args`; an unknown name is answered with the list.
pub fn run(name: &str, args: &[String]) -> Result<Outcome> {
    if !project::root().join(MANIFEST).exists() {
        bail!("there is no {MANIFEST}");
    }
    let known = programs(&project::metadata(MANIFEST)?);
    if !known.iter().any(|program| program == name) {
        bail!("there is no measuring program `{name}`; there are: {}", known.join(", "));
    }
    let mut command = run::cargo();
    command
        .args(["run", "--quiet", "--release", "--manifest-path", MANIFEST, "--bin", name, "--"])
        .args(args);
    run::status(&mut command)?;
    Ok(Outcome { passed: true, json: None })
}

/// The names of all binaries in the metadata, sorted.
fn programs(metadata: &serde_json::Value) -> Vec<String> {
    let each = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> = each(&metadata["packages"])
        .iter()
        .flat_map(|package| each(&package["targets"]))
        .filter(|target| each(&target["kind"]).iter().any(|kind| kind == "bin"))
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_binaries_and_nothing_else() {
        let metadata = serde_json::json!({ "packages": [{ "targets": [
            { "name": "mesh", "kind": ["bin"] }, { "name": "shared", "kind": ["lib"] }, { "name": "core", "kind": ["bin"] },
        ]}]});
        assert_eq!(programs(&metadata), ["core", "mesh"]);
    }
}
