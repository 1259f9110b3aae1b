//! `cargo xtask requirements`: the pages that list what is promised, held against the tests that exist.
//!
//! It checks that what a row names exists; whether the test shows what the row asks for is for a reviewer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::tidy::{Problem, source};
use crate::{Outcome, project};

mod page;
use page::{Row, State};

const REQUIREMENTS: &str = "docs/requirements.md";
const FAULTS: &str = "docs/faults.md";
/// Commands a row may name as what shows it.
const COMMANDS: &[&str] = &["cargo xtask ", "peerkeep "];

/// Reads both pages and reports what they name but the repository lacks.
pub fn run() -> Result<Outcome> {
    let root = project::root();
    let tests = Tests::of(&project::files(&root)?, &folders(&project::metadata("Cargo.toml")?, &root));
    let exists = |path: &str| root.join(path).exists();
    let mut report = Report::default();
    for path in [REQUIREMENTS, FAULTS] {
        let text = std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        let page = page::parse(path, &text);
        report.problems.extend(page.problems);
        report.check(path, &page.rows, &tests, exists);
    }

    for (document, counts) in &report.documents {
        let Counts { rows, shown, missing, later, informative } = counts;
        println!(
            "requirements: {document:<6} {rows:>4} rows: {shown} shown, {missing} missing, {later} later, \
             {informative} informative"
        );
    }
    for problem in &report.problems {
        println!("requirements: {problem}");
    }
    let passed = report.problems.is_empty();
    Ok(Outcome { passed, json: Some(report.json()) })
}

/// How many rows of a document are in each state.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    rows: u32,
    shown: u32,
    missing: u32,
    later: u32,
    informative: u32,
}

#[derive(Default)]
struct Report {
    /// By the part of the id before the dot; rows of the faults page together as `faults`.
    documents: BTreeMap<String, Counts>,
    problems: Vec<Problem>,
    missing_tests: BTreeSet<String>,
    ids: BTreeSet<String>,
}

impl Report {
    fn check(&mut self, path: &str, rows: &[Row], tests: &Tests, exists: impl Fn(&str) -> bool) {
        for row in rows {
            let document = row.id.split_once('.').map_or("faults", |(document, _)| document);
            let counts = self.documents.entry(document.to_owned()).or_default();
            counts.rows += 1;
            *match row.state {
                State::Shown => &mut counts.shown,
                State::Missing => &mut counts.missing,
                State::Later => &mut counts.later,
                State::Informative => &mut counts.informative,
            } += 1;

            let mut found =
                |what: String| self.problems.push(Problem { path: path.to_owned(), line: row.line, what });
            if !self.ids.insert(row.id.clone()) {
                found(format!("{} is listed twice", row.id));
            }
            if row.state == State::Shown && row.shown_by.is_empty() {
                found(format!("{} is called shown but names no test", row.id));
            }
            for name in &row.shown_by {
                let known = match name.split_once(':') {
                    Some(("file", file)) => exists(file),
                    Some(("cmd", command)) => COMMANDS.iter().any(|known| command.starts_with(known)),
                    _ => tests.has(name),
                };
                if !known {
                    found(format!("{} names `{name}`, which does not exist", row.id));
                    self.missing_tests.insert(name.clone());
                } else if document == "faults" && tests.has(name) && !tests.mentions(name, &row.id) {
                    found(format!(
                        "`{name}` says nowhere in its name or doc comment that it shows {}",
                        row.id
                    ));
                }
            }
        }
    }

    fn json(&self) -> Value {
        let count = |c: &Counts| {
            json!({ "rows": c.rows, "shown": c.shown, "missing": c.missing, "later": c.later,
                    "informative": c.informative })
        };
        let documents: BTreeMap<&str, Value> = self
            .documents
            .iter()
            .filter(|(document, _)| *document != "faults")
            .map(|(document, counts)| (document.as_str(), count(counts)))
            .collect();
        json!({
            "documents": documents,
            "faults": self.documents.get("faults").map(count),
            "missing_tests": self.missing_tests,
            "problems": self.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

/// Every test function there is, as `package::function` and `file::function`, with the text that names what it shows.
struct Tests(BTreeMap<String, String>);

impl Tests {
    /// `folders` are the packages by folder, both from the root.
    fn of(files: &[project::File], folders: &BTreeMap<String, String>) -> Tests {
        let mut tests = BTreeMap::new();
        for file in files {
            let found: Vec<(String, String)> = if file.is("rs") {
                let tests = source::functions(&file.text).into_iter().filter(|function| function.is_test);
                tests.map(|test| (test.name, test.doc)).collect()
            } else if file.is("py") {
                python_tests(&file.text)
            } else {
                continue;
            };
            let package = folders.iter().find(|(folder, _)| {
                file.path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
            });
            for (name, doc) in found {
                // As words of capitals, so that an id is found in the name and in the comment alike.
                let text = format!("{name} {doc}").to_uppercase().replace('_', " ");
                if let Some((_, package)) = package {
                    tests.entry(format!("{package}::{name}")).or_insert_with(String::new).push_str(&text);
                }
                tests.insert(format!("{}::{name}", file.path), text);
            }
        }
        Tests(tests)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn mentions(&self, name: &str, id: &str) -> bool {
        let words = self.0.get(name).map(String::as_str).unwrap_or_default();
        words.split(|c: char| !c.is_alphanumeric()).any(|word| word == id)
    }
}

/// `def test_…` and `async def test_…`, each with the line itself as its text.
fn python_tests(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim_start();
            let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("def ")?;
            let (name, _) = rest.split_once('(')?;
            name.starts_with("test").then(|| (name.to_owned(), line.to_owned()))
        })
        .collect()
}

/// The workspace's packages by their folder from the root.
fn folders(metadata: &Value, root: &Path) -> BTreeMap<String, String> {
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    packages
        .iter()
        .filter_map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str()?);
            let folder = manifest.parent()?.strip_prefix(root).ok()?;
            Some((folder.to_str()?.to_owned(), package["name"].as_str()?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::File;

    fn report(path: &str, rows: &str) -> Report {
        let code = "#[test]\nfn refused() {}\n/// Fault D1.\n#[test]\nfn down() {}\n#[test]\nfn fault_d2_up() {}\nfn helper() {}";
        let files = [
            File { path: "crates/core/src/a.rs".into(), text: code.into() },
            File { path: "crates/core/tests/b.py".into(), text: "def test_wire(self):\n    pass\n".into() },
        ];
        let folders = BTreeMap::from([("crates/core".to_owned(), "peerkeep-core".to_owned())]);
        let page = page::parse(path, rows);
        assert!(page.problems.is_empty(), "{:?}", page.problems);
        let mut report = Report::default();
        report.check(path, &page.rows, &Tests::of(&files, &folders), |file| file == "README.md");
        report
    }

    #[test]
    fn rows_that_name_what_exists_pass_and_are_counted() {
        let report = report(
            REQUIREMENTS,
            "| S0.1 | a | shown | `peerkeep-core::refused`, `crates/core/tests/b.py::test_wire` |\n\
             | S0.2 | b | shown | `file:README.md`, `cmd:cargo xtask bench core` |\n\
             | S0.3 | c | later (issue 4) | |\n| SX.1 | d | missing | |\n",
        );
        assert_eq!(report.problems, []);
        let wanted = Counts { rows: 3, shown: 2, later: 1, ..Counts::default() };
        assert_eq!(report.documents["S0"], wanted);
        assert_eq!(report.json()["documents"]["SX"]["rows"], 1);
    }

    #[test]
    fn canary_a_test_that_does_not_exist_is_found() {
        for name in [
            "peerkeep-core::gone",
            "peerkeep-core::helper",
            "peerkeep-net::refused",
            "file:gone.md",
            "cmd:rm",
        ] {
            let report = report(REQUIREMENTS, &format!("| S0.1 | a | shown | `{name}` |"));
            assert_eq!(report.problems.len(), 1, "{name}");
            assert!(report.missing_tests.contains(name));
        }
    }

    #[test]
    fn canary_a_shown_row_without_a_test_and_a_row_listed_twice_are_found() {
        assert_eq!(report(REQUIREMENTS, "| S0.1 | a | shown | |").problems.len(), 1);
        assert_eq!(
            report(REQUIREMENTS, "| S0.1 | a | missing | |\n| S0.1 | b | missing | |").problems.len(),
            1
        );
    }

    #[test]
    fn canary_a_fault_is_shown_only_by_a_test_that_names_it() {
        let row = |id: &str, test: &str| {
            report(FAULTS, &format!("| {id} | a | b | shown | `peerkeep-core::{test}` |"))
        };
        assert_eq!(row("D1", "down").problems, []);
        assert_eq!(row("D2", "fault_d2_up").problems, []);
        assert_eq!(row("D2", "down").problems.len(), 1);
        assert_eq!(row("D1", "down").json()["faults"]["shown"], 1);
    }
}
