//! The fuzz targets: functions that take bytes and panic when a promise is broken. libFuzzer drives them through
//! `fuzz_targets/`; the product's tests include this file and replay the committed corpora without it. A target
//! decides nothing about the product and holds no copy of it: it calls what really runs.

mod actions;
mod input;
mod journal;
mod mesh;
pub mod seeds;
mod store;
mod text;

/// A target: its name, its function, and the longest input that is worth trying.
pub struct Target {
    /// As in `fuzz_targets/` and `corpus/`.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
    /// Longest input in bytes.
    pub max_len: usize,
    /// Whether one execution takes milliseconds: it is run for a time, not for a number of executions.
    pub slow: bool,
}

const fn target(name: &'static str, run: fn(&[u8]), max_len: usize) -> Target {
    Target { name, run, max_len, slow: false }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("addresses", text::addresses, 256),
    target("api_answer", text::api_answer, 1024),
    target("api_request", text::api_request, 512),
    target("core_actions", actions::run, 256),
    target("core_load", journal::load, 2048),
    target("core_numbers", text::numbers, 64),
    target("journal_records", journal::records, 512),
    target("journal_segment", journal::segment, 4096),
    target("mesh_certificate", mesh::certificate, 600),
    target("mesh_control", mesh::control, 1024),
    target("mesh_exchange", mesh::exchange, 512),
    target("mesh_frames", mesh::frames, 1024),
    target("mesh_handshake", mesh::handshake, 1024),
    target("mesh_mux", mesh::mux, 512),
    target("mesh_tls", mesh::tls, 1024),
    target("settings", text::settings, 512),
    target("store_rows", store::rows, 1024),
    Target { name: "store_file", run: store::file, max_len: 1024, slow: true },
];

/// Runs the target of that name once.
///
/// # Panics
/// When a promise is broken, or there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    (target.run)(data);
}
