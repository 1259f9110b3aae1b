//! Which crate may use which: the arrows of the architecture page, read from cargo's metadata.
//!
//! Dev-dependencies and build-dependencies follow the same arrows. Crates from the registry are cargo-deny's business.

use serde_json::Value;

use super::Problem;

const STACKS: &[&str] = &["peerkeep-mesh", "peerkeep-libp2p", "peerkeep-bitcoin", "peerkeep-lan"];

/// The packages that `package` may use, or nothing when the architecture has no place for it.
fn allowed(package: &str) -> Option<Vec<&'static str>> {
    let deciding = ["peerkeep-core", "peerkeep-paths"];
    Some(match package {
        "peerkeep-core" => vec![],
        "peerkeep-paths" => vec!["peerkeep-core"],
        "peerkeep-net" | "peerkeep-rendezvous" | "peerkeep-sim" => deciding.to_vec(),
        "peerkeep-channels" => [&deciding[..], &["peerkeep-net"]].concat(),
        stack if STACKS.contains(&stack) => [&deciding[..], &["peerkeep-net", "peerkeep-channels"]].concat(),
        "peerkeep" => [&deciding[..], &["peerkeep-net", "peerkeep-channels"], STACKS].concat(),
        "peerkeep-daemon" => {
            let own =
                ["peerkeep-net", "peerkeep-channels", "peerkeep", "peerkeep-rendezvous", "peerkeep-sim"];
            [&deciding[..], &own[..], STACKS].concat()
        }
        "xtask" => [&allowed("peerkeep-daemon")?[..], &["peerkeep-daemon"]].concat(),
        _ => return None,
    })
}

/// Every dependency on a crate of ours that the arrows do not allow, and every package without a place.
pub fn check(metadata: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in list(&metadata["packages"]) {
        let name = text(&package["name"]);
        let manifest = format!("package {name}");
        let Some(allowed) = allowed(name) else {
            problems.push(Problem::new(
                &manifest,
                0,
                "has no place in the architecture (see ARCHITECTURE.md)",
            ));
            continue;
        };
        for dependency in list(&package["dependencies"]) {
            let used = text(&dependency["name"]);
            let ours = dependency["path"].is_string();
            if ours && !allowed.contains(&used) {
                let may = if allowed.is_empty() { "none of ours".to_owned() } else { allowed.join(", ") };
                let kind = dependency["kind"].as_str().map(|kind| format!("{kind}-")).unwrap_or_default();
                problems.push(Problem::new(
                    &manifest,
                    0,
                    format!("has {used} as a {kind}dependency; it may use {may}"),
                ));
            }
        }
    }
    problems
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn uses(package: &str, used: &str, kind: Option<&str>) -> Vec<Problem> {
        let dependency = json!({ "name": used, "path": format!("/x/{used}"), "kind": kind });
        check(&json!({ "packages": [{ "name": package, "dependencies": [dependency] }] }))
    }

    #[test]
    fn every_arrow_of_the_architecture_is_allowed() {
        for (package, used) in [
            ("peerkeep-paths", "peerkeep-core"),
            ("peerkeep-net", "peerkeep-core"),
            ("peerkeep-lan", "peerkeep-paths"),
            ("peerkeep", "peerkeep-bitcoin"),
            ("peerkeep-daemon", "peerkeep-core"),
            ("peerkeep-daemon", "peerkeep-rendezvous"),
            ("peerkeep-sim", "peerkeep-paths"),
            ("peerkeep-daemon", "peerkeep-sim"),
            ("xtask", "peerkeep-daemon"),
        ] {
            assert_eq!(uses(package, used, None), [], "{package} -> {used}");
        }
    }

    #[test]
    fn canary_every_other_arrow_is_refused() {
        for (package, used) in [
            ("peerkeep-core", "peerkeep-paths"),
            ("peerkeep-paths", "peerkeep-net"),
            ("peerkeep-net", "peerkeep-mesh"),
            ("peerkeep-mesh", "peerkeep-libp2p"),
            ("peerkeep-mesh", "peerkeep"),
            ("peerkeep", "peerkeep-daemon"),
            ("peerkeep", "peerkeep-sim"),
            ("peerkeep-rendezvous", "peerkeep-net"),
            ("peerkeep-sim", "peerkeep-net"),
            ("peerkeep-daemon", "xtask"),
            ("peerkeep-daemon", "peerkeep-bench"),
            ("peerkeep-helpers", "peerkeep-core"),
        ] {
            assert_eq!(uses(package, used, None).len(), 1, "{package} -> {used}");
        }
    }

    #[test]
    fn canary_a_dev_dependency_against_the_arrows_is_refused_and_named() {
        let problems = uses("peerkeep-core", "peerkeep-net", Some("dev"));
        assert!(problems[0].what.contains("peerkeep-net as a dev-dependency"), "{}", problems[0]);
    }

    #[test]
    fn a_crate_from_the_registry_is_not_ours() {
        let dependency = json!({ "name": "serde", "path": null, "kind": null });
        let metadata = json!({ "packages": [{ "name": "peerkeep-core", "dependencies": [dependency] }] });
        assert_eq!(check(&metadata), []);
    }
}
