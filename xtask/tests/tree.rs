//! What the tree as a whole must not hold: memory sized by somebody else, and anything that unpacks.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Sizes that are no constant, each with what bounds it. A new one has to be argued here.
const SIZED: &[(&str, &str, &str)] = &[
    ("crates/core/src/ban.rs", "capacity", "a setting"),
    ("crates/core/src/door.rs", "room(limits.contacts)", "a setting"),
    ("crates/core/src/door.rs", "room(limits.dials_per_minute.min(4_096))", "a setting"),
    ("crates/core/src/door.rs", "room(limits.total)", "a setting"),
    ("crates/core/src/list.rs", "capacity", "a constant of each caller"),
    ("crates/core/src/save.rs", "room", "a setting, and read as fuzz target core_load does"),
    ("crates/core/src/wheel.rs", "index + 1", "the rest of a division by a constant"),
    ("crates/daemon/src/client.rs", "text.len()", "held already"),
    ("crates/daemon/src/demo/load.rs", "nodes", "asked for on our own command line"),
    ("crates/daemon/src/demo/watch.rs", "nodes", "asked for on our own command line"),
    ("crates/daemon/src/out.rs", "plain.len() + 16", "held already"),
    ("crates/daemon/src/out.rs", "text.len()", "held already"),
    ("crates/libp2p/src/jobs.rs", "LENGTH_BYTES + message.len()", "held already"),
    ("crates/libp2p/src/noise/mod.rs", "length", "at most MAX_HANDSHAKE_BYTES, checked before"),
    (
        "crates/libp2p/src/noise/stream.rs",
        "LENGTH_BYTES + count + TAG_BYTES",
        "held already, and at most a frame",
    ),
    (
        "crates/libp2p/src/noise/stream.rs",
        "length.saturating_sub(TAG_BYTES)",
        "a frame that is held whole already",
    ),
    (
        "crates/libp2p/src/noise/stream.rs",
        "most",
        "what came at once the last time, twice, and at most MOST_BYTES",
    ),
    ("crates/mesh/src/channel.rs", "1 + name.len()", "our own name"),
    ("crates/mesh/src/channel.rs", "length", "at most 128"),
    ("crates/mesh/src/identity.rs", "HEAD.len() + seed.len()", "our own key"),
    ("crates/mesh/src/line.rs", "PREFIX_BYTES + length", "judged against the largest frame before"),
    ("crates/mesh/src/mail.rs", "length", "at most 128"),
    ("crates/peerkeep/src/store/power/disk.rs", "*length", "a disk of the tests"),
    ("crates/peerkeep/src/store/power/disk.rs", "bytes.len().max(at + piece.len())", "a disk of the tests"),
    ("crates/peerkeep/src/settings/check.rs", "capacity", "a constant of the caller"),
];

/// Every Rust file of a folder and those below, without the ones that hold only tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// What stands from `at` to the bracket that closes there.
fn argument(text: &str, at: usize) -> &str {
    let mut depth = 1_u32;
    let end = text[at..].find(|c: char| {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    text[at..].get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Sizes of allocations in this text that are no constant.
fn sizes(text: &str) -> Vec<&str> {
    let text = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
    let mut found = Vec::new();
    for call in
        ["with_capacity(", "with_capacity_and_hasher(", ".reserve(", ".reserve_exact(", "vec![", ".resize("]
    {
        for (at, _) in text.match_indices(call) {
            let all = argument(text, at + call.len());
            let size = match call {
                "vec![" if all.contains('{') => None,
                "vec![" => all.split_once(';').map(|(_, size)| size),
                ".resize(" | "with_capacity_and_hasher(" => all.rsplit_once(',').map(|(size, _)| size),
                _ => Some(all),
            };
            let size = size.unwrap_or_default().trim();
            let constant = |word: &str| word.chars().all(|c| !c.is_ascii_lowercase());
            if !size
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .all(|word| constant(word) || word == "usize")
            {
                found.push(size);
            }
        }
    }
    found
}

#[test]
fn canary_a_size_that_is_no_constant_is_found() {
    let text = "let a = Vec::with_capacity(20); let b = vec![0; LONG * 2]; let c = vec![1, 2];";
    assert_eq!(sizes(text), Vec::<&str>::new());
    let text = "vec![0; length]; Vec::with_capacity(count(wire)); v.reserve(n); v.resize(header.len, 0);";
    assert_eq!(sizes(text), ["count(wire)", "n", "length", "header.len"]);
}

/// Fault R3: whatever is allocated has a constant size, a setting's, or one that is listed above with its bound.
#[test]
fn fault_r3_no_allocation_is_sized_by_the_wire() {
    let mut files = Vec::new();
    for name in ["channels", "core", "daemon", "libp2p", "mesh", "net", "paths", "peerkeep"] {
        sources(&root().join("crates").join(name).join("src"), &mut files);
    }
    assert!(files.len() > 100, "{} files", files.len());
    let mut unknown = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("text");
        let path = path.strip_prefix(root()).expect("below").to_str().expect("plain").to_owned();
        for size in sizes(&text) {
            if !SIZED.iter().any(|(file, known, _)| *file == path && *known == size) {
                unknown.push(format!("{path}: {size}"));
            }
        }
    }
    assert!(unknown.is_empty(), "bounded by what? {unknown:#?}");
}

/// Fault F11: nothing that we link can unpack anything, so there is nothing that a bomb could be made for. `deny.toml`
/// refuses the same names.
#[test]
fn fault_f11_nothing_that_packs_or_unpacks_is_linked() {
    const PACKERS: &[&str] = &[
        "async-compression",
        "brotli",
        "brotli-decompressor",
        "bzip2",
        "flate2",
        "libdeflater",
        "libz-sys",
        "lz4",
        "lz4_flex",
        "miniz_oxide",
        "ruzstd",
        "snap",
        "xz2",
        "zlib-rs",
        "zstd",
    ];
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("a lock file");
    let deny = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    assert!(lock.contains("name = \"rustls\"\n"), "that is how a name stands there");
    for name in PACKERS {
        assert!(!lock.contains(&format!("name = \"{name}\"\n")), "{name}");
        assert!(deny.contains(&format!("{{ crate = \"{name}\" }}")), "{name} is not refused");
    }
}
