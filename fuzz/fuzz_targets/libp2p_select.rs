//! See `TARGETS` in `../src/lib.rs`. It names one function alone, so that the program holds no other's counters.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| peerkeep_fuzz::libp2p::select(data));
