//! The fuzz targets: functions that take bytes and panic when a promise is broken. libFuzzer drives them through
//! `fuzz_targets/`; the product's tests include this file and replay the committed corpora without it. A target
//! decides nothing about the product and holds no copy of it: it calls what really runs.

pub mod actions;
mod input;
pub mod journal;
#[cfg(any(feature = "libp2p", test))]
pub mod libp2p;
#[cfg(any(feature = "mesh", test))]
pub mod mesh;
#[cfg(any(feature = "node", test))]
pub mod seeds;
#[cfg(any(feature = "node", test))]
pub mod store;
#[cfg(any(feature = "node", test))]
pub mod text;

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
    #[cfg(any(feature = "node", test))]
    target("addresses", text::addresses),
    #[cfg(any(feature = "node", test))]
    target("api_answer", text::api_answer),
    #[cfg(any(feature = "node", test))]
    target("api_request", text::api_request),
    target("core_actions", actions::run),
    target("core_load", journal::load),
    #[cfg(any(feature = "node", test))]
    target("core_numbers", text::numbers),
    target("journal_records", journal::records),
    target("journal_segment", journal::segment),
    #[cfg(any(feature = "libp2p", test))]
    target("libp2p_certificate", libp2p::certificate),
    #[cfg(any(feature = "libp2p", test))]
    target("libp2p_identify", libp2p::identify),
    #[cfg(any(feature = "libp2p", test))]
    target("libp2p_key_file", libp2p::key_file),
    #[cfg(any(feature = "libp2p", test))]
    target("libp2p_noise", libp2p::noise),
    #[cfg(any(feature = "libp2p", test))]
    target("libp2p_select", libp2p::select),
    #[cfg(any(feature = "mesh", test))]
    target("mesh_certificate", mesh::certificate),
    #[cfg(any(feature = "mesh", test))]
    target("mesh_control", mesh::control),
    #[cfg(any(feature = "mesh", test))]
    target("mesh_exchange", mesh::exchange),
    #[cfg(any(feature = "mesh", test))]
    target("mesh_frames", mesh::frames),
    #[cfg(any(feature = "mesh", test))]
    target("mesh_handshake", mesh::handshake),
    #[cfg(any(feature = "mesh", test))]
    target("mesh_mux", mesh::mux),
    #[cfg(any(feature = "mesh", test))]
    target("mesh_tls", mesh::tls),
    #[cfg(any(feature = "node", test))]
    target("settings", text::settings),
    #[cfg(any(feature = "node", test))]
    target("store_rows", store::rows),
    #[cfg(any(feature = "node", test))]
    target("store_file", store::file),
];
