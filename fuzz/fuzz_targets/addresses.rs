//! See `TARGETS` in `../src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| peerkeep_fuzz::run("addresses", data));
