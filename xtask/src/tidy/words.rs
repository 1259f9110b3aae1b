//! Text no committed file may hold: marks of unfinished work, and paths of one person's machine.
//!
//! Macros that stand for unfinished code are found as tokens in `source`, where strings and comments do not count.

use super::Problem;
use crate::project::File;

/// In code only: a page about the rules must be able to name them. Split, so that this file passes itself.
const UNFINISHED: &[&str] = &[concat!("FIX", "ME"), concat!("X", "XX"), concat!("TO", "DO")];
/// Files of code, for [`UNFINISHED`].
const CODE: &[&str] = &["rs", "py", "sh", "toml", "sql", "html", "js", "css"];
/// In every file.
const MACHINE: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("sha", "red/")];
/// The one registry the lock file may name.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Every line with such text.
pub fn check(file: &File) -> Vec<Problem> {
    let code = CODE.iter().any(|extension| file.is(extension));
    let lock = file.path.ends_with("Cargo.lock");
    let mut problems = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let mut found = |what: String| problems.push(Problem::new(&file.path, index + 1, what));
        for word in UNFINISHED.iter().filter(|word| code && names(line, word)) {
            found(format!("`{word}` marks unfinished work: finish it, or open an issue"));
        }
        for path in MACHINE.iter().filter(|path| starts_path(line, path)) {
            found(format!("`{path}` is a path of one machine"));
        }
        let source = line.strip_prefix("source = ").map(|source| source.trim_matches('"'));
        if let Some(source) = source.filter(|source| lock && *source != REGISTRY) {
            found(format!("{source} is not the public registry"));
        }
    }
    problems
}

/// Whether `word` stands in `line` as a word of its own.
fn names(line: &str, word: &str) -> bool {
    let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !part_of_word(line[..at].chars().next_back()) && !part_of_word(line[at + word.len()..].chars().next())
    })
}

/// Whether `path` begins a path in `line`, rather than being the middle of a longer one such as a web address.
fn starts_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].trim_end_matches("../");
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | '}' | '~');
        !before.chars().next_back().is_some_and(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::file;

    fn count(path: &str, line: &str) -> usize {
        check(&file(path, line)).len()
    }

    #[test]
    fn canary_unfinished_code_is_found() {
        for word in UNFINISHED {
            assert_eq!(count("crates/a/src/lib.rs", &format!("// {word}: later")), 1);
            assert_eq!(count(".ci/run.sh", &format!("# {word}")), 1);
            assert_eq!(count("docs/rules.md", &format!("Never write {word}.")), 0);
            assert_eq!(count("a.rs", &format!("let file = \"/tmp/{word}{word}\";")), 0);
        }
    }

    #[test]
    fn canary_paths_of_a_machine_are_found() {
        for path in MACHINE {
            assert_eq!(count("README.md", &format!("see {path}thing")), 1);
            assert_eq!(count("a.py", &format!("open(\"../{path}thing\")")), 1, "{path}");
            assert_eq!(count("README.md", &format!("https://example.org{}{path}thing", "/a")), 0);
        }
    }

    #[test]
    fn canary_a_private_registry_is_found() {
        assert_eq!(count("Cargo.lock", &format!("source = \"{REGISTRY}\"")), 0);
        assert_eq!(count("Cargo.lock", "source = \"registry+https://registry.example/index\""), 1);
    }
}
