//! Links the deciding crates where std cannot exist; never run, only built. `cargo xtask no-std` says how it proves.
//!
//! The one named place in the repository where `unsafe` stands: a library without std must bring an allocator, and
//! the allocator's trait is unsafe. This one refuses every request and touches no memory.

#![no_std]

use core::alloc::{GlobalAlloc, Layout};

#[cfg(feature = "canary")]
extern crate no_std_canary as _;
extern crate peerkeep_core as _;
extern crate peerkeep_paths as _;

struct Refuse;

// SAFETY: null is the documented answer to a request that cannot be met; as nothing is ever handed out, nothing can
// come back to `dealloc`.
unsafe impl GlobalAlloc for Refuse {
    unsafe fn alloc(&self, _layout: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _at: *mut u8, _layout: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Refuse = Refuse;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
