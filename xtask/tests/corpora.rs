//! Replays the committed fuzz corpora through the fuzz targets, without libFuzzer and in the product's own build: what
//! fuzzing has found once stays fixed. It looks for nothing new; `cargo xtask fuzz` does.

#![allow(unexpected_cfgs, reason = "which targets libFuzzer's side builds is of no matter here: all of them")]

#[allow(dead_code, reason = "libFuzzer's side of it is not used here")]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// What fuzzing shows of faults D6, D8, F1, F2, F3, F4, F5, G1, H2, H3, H4, H5, H6, H8, H9, I2, K4, K8 and R3.
#[test]
fn every_input_of_the_fuzz_corpora_keeps_every_promise() {
    let mut broken = Vec::new();
    let mut count = 0;
    for target in fuzz::TARGETS {
        let inputs = files(&folder().join("corpus").join(target.name));
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for input in inputs {
            let bytes = std::fs::read(&input).expect("readable");
            count += 1;
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes))).is_err() {
                broken.push(input);
            }
        }
    }
    assert!(broken.is_empty(), "{} of {count} inputs break a promise: {broken:?}", broken.len());
}

#[test]
fn the_committed_seeds_of_the_wire_are_what_the_encoders_write_today() {
    let write = std::env::var_os("WRITE_SEEDS").is_some();
    // The core's own format and the configuration change with any version; their seeds are read all the same.
    let ours = ["core_", "journal_", "settings"];
    let wire = |target: &str| !ours.iter().any(|prefix| target.starts_with(prefix));
    for (target, name, bytes) in fuzz::seeds::all() {
        let path = folder().join("corpus").join(target).join(&name);
        if write {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            std::fs::write(&path, &bytes).expect("writable");
        }
        let committed = std::fs::read(&path).unwrap_or_default();
        let why = "WRITE_SEEDS=1 cargo test -p xtask --test corpora writes the seeds anew";
        assert!(!wire(target) || committed == bytes, "{target}/{name} differs: {why}");
    }
}

#[test]
fn every_target_has_its_program_and_every_program_its_target() {
    let stem = |path: &PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let programs: BTreeSet<String> = files(&folder().join("fuzz_targets")).iter().filter_map(stem).collect();
    let targets: BTreeSet<String> = fuzz::TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(programs, targets);
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).expect("readable");
    assert!(targets.iter().all(|name| manifest.contains(&format!("name = \"{name}\""))));
}
