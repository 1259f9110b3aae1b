//! `cargo xtask tidy`: the rules of the repository that a machine can hold us to.
//!
//! Each checker takes text and gives problems, so that its tests feed it bad input. It parses no types and follows no
//! macros: what it cannot see, a reviewer must.

use std::fmt;

use anyhow::Result;
use serde_json::json;

use crate::{Outcome, project};

mod arrows;
mod links;
pub mod source;
mod words;
mod worlds;

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// From the repository's root.
    pub path: String,
    /// First line is 1; 0 stands for the whole file.
    pub line: usize,
    /// What is wrong and what the rule is.
    pub what: String,
}

impl Problem {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Problem {
        Problem { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// Checks the whole repository and prints every problem.
pub fn run() -> Result<Outcome> {
    let root = project::root();
    let files = project::files(&root)?;
    let mut problems = arrows::check(&project::metadata("Cargo.toml")?);
    for file in &files {
        problems.extend(words::check(file));
        if file.is("rs") {
            problems.extend(source::check(file));
            problems.extend(worlds::check(file));
        }
        if file.is("md") {
            problems.extend(links::check(file, |path| root.join(path).exists()));
        }
    }
    for problem in &problems {
        println!("tidy: {problem}");
    }
    println!("tidy: {} files, {} problems", files.len(), problems.len());
    let list: Vec<_> =
        problems.iter().map(|p| json!({ "path": p.path, "line": p.line, "what": p.what })).collect();
    let json = json!({ "files": files.len(), "problems": list });
    Ok(Outcome { passed: problems.is_empty(), json: Some(json) })
}

#[cfg(test)]
fn file(path: &str, text: &str) -> project::File {
    project::File { path: path.to_owned(), text: text.to_owned() }
}
