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

/// A target. How long its inputs may be and whether one execution takes milliseconds stand in `Cargo.toml`.
pub struct Target {
    /// As in `fuzz_targets/` and `corpus/`.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("addresses", text::addresses),
    target("api_answer", text::api_answer),
    target("api_request", text::api_request),
    target("core_actions", actions::run),
    target("core_load", journal::load),
    target("core_numbers", text::numbers),
    target("journal_records", journal::records),
    target("journal_segment", journal::segment),
    target("mesh_certificate", mesh::certificate),
    target("mesh_control", mesh::control),
    target("mesh_exchange", mesh::exchange),
    target("mesh_frames", mesh::frames),
    target("mesh_handshake", mesh::handshake),
    target("mesh_mux", mesh::mux),
    target("mesh_tls", mesh::tls),
    target("settings", text::settings),
    target("store_rows", store::rows),
    target("store_file", store::file),
];

/// Runs the target of that name once.
///
/// # Panics
/// When a promise is broken, or there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    (target.run)(data);
}
