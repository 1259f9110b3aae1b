//! Where things are in the repository: its root, its files, its packages as cargo sees them.
//!
//! Reads only. Build products and version control are never listed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run;

/// The repository's root folder.
pub fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let xtask = PathBuf::from(manifest);
    xtask.parent().map(Path::to_path_buf).unwrap_or(xtask)
}

/// One text file of the repository.
pub struct File {
    /// From the root, with `/` between the parts.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl File {
    /// Whether the name ends in `.extension`.
    pub fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, found)| found == extension)
    }

    /// Whether it holds tests only: under a `tests/` folder, or a module's `tests.rs` or `…_tests.rs`.
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
    }
}

/// Every text file that is, or is about to be, committed; sorted by path. Binary files are left out.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(root: &Path) -> Result<Vec<File>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            let name = entry.file_name();
            if kind.is_dir() {
                if !matches!(
                    name.to_str(),
                    Some("target" | ".git" | "node_modules" | "__pycache__" | ".venv")
                ) {
                    folders.push(entry.path());
                }
            } else if kind.is_file() {
                let path = entry.path();
                // A file may vanish between listing and reading: an editor's or a compiler's temporary one.
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                let path = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// What `cargo metadata` says of the workspace whose manifest this is, without its dependencies' dependencies.
///
/// # Errors
/// When cargo cannot be started or refuses the manifest.
pub fn metadata(manifest: &str) -> Result<Value> {
    let mut command = run::cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path", manifest]);
    let output = command.output().context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata printed something that is not JSON")
}

/// The folder of cargo's build products, where this tool keeps its own as well.
///
/// # Errors
/// As [`metadata`].
pub fn target() -> Result<PathBuf> {
    let metadata = metadata("Cargo.toml")?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    Ok(PathBuf::from(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_sources_but_no_build_products() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["src/a.rs", "target/b.rs", ".git/c", "tests/d.py"] {
            let file = folder.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "x").unwrap();
        }
        std::fs::write(folder.path().join("picture"), [0xff, 0xfe]).unwrap();
        let files = files(folder.path()).unwrap();
        let paths: Vec<_> = files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["src/a.rs", "tests/d.py"]);
        assert!(files[1].is_test() && files[1].is("py") && !files[0].is_test());
    }
}
