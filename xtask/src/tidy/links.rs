//! Links in Markdown pages to files of the repository: each must exist.
//!
//! Web addresses are not fetched and anchors within a page are not resolved.

use std::path::{Component, Path, PathBuf};

use super::Problem;
use crate::project::File;

/// Every link of the page to a file for which `exists` is false; `exists` takes paths from the root.
pub fn check(page: &File, exists: impl Fn(&Path) -> bool) -> Vec<Problem> {
    let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
    let mut problems = Vec::new();
    let mut in_code = false;
    for (index, line) in page.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        for target in targets(line) {
            let found = resolve(folder, target).is_some_and(|path| exists(&path));
            if !found {
                problems.push(Problem::new(
                    &page.path,
                    index + 1,
                    format!("links to {target}, which does not exist"),
                ));
            }
        }
    }
    problems
}

/// The file part of each link of a line: `[text](target)` and `[name]: target`.
fn targets(line: &str) -> Vec<&str> {
    let definition = line.starts_with('[').then(|| line.split_once("]: ")).flatten().map(|(_, rest)| rest);
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    inline
        .chain(definition)
        // A title may follow the address.
        .filter_map(|target| target.split_whitespace().next())
        .map(|target| target.trim_matches(['<', '>']))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// The target as a path from the root, or nothing when it leaves the repository.
fn resolve(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    let joined = match target.strip_prefix('/') {
        Some(from_root) => PathBuf::from(from_root),
        None => folder.join(target),
    };
    for part in joined.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::file;

    fn broken(text: &str) -> Vec<usize> {
        let exists = |path: &Path| ["README.md", "docs/mesh.md"].contains(&path.to_str().unwrap());
        check(&file("docs/page.md", text), exists).iter().map(|p| p.line).collect()
    }

    #[test]
    fn links_to_files_that_exist_and_to_the_web_are_fine() {
        let none: [usize; 0] = [];
        assert_eq!(
            broken("[a](mesh.md#frames) [b](../README.md \"title\") [c](https://example.org/x) [d](#here)"),
            none
        );
        assert_eq!(broken("[a]: mesh.md\n```\n[x](nowhere.md)\n```\n[r](/README.md)"), none);
    }

    #[test]
    fn canary_links_to_nothing_are_found() {
        assert_eq!(broken("fine\n[a](nowhere.md)\n[b]: gone.md\n[c](../../README.md)"), [2, 3, 4]);
    }
}
