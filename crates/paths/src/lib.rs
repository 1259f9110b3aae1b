//! Which way bytes go, decided without a socket, a clock or a thread. Today: the race between the addresses of one
//! peer. It connects nothing itself: the caller starts and stops the legs it is told to, and says how they ended.
#![no_std]

mod race;

pub use race::{MAX_LEGS, Move, Moves, Race, STAGGER, interleave};
