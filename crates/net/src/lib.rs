//! Net does: it opens sockets, reads clocks, spawns tasks and writes journal files for every stack over a byte stream.
//! One task owns the core (`owner`); link tasks own sockets and live on shards; facts go up in batches, orders come
//! down per shard.
//!
//! What it deliberately does not do: decide (that is the core's), speak a protocol (that is a stack's), or keep peers
//! (that is the library's store).

mod clock;
mod facts;
mod link;
mod stack;

pub use clock::Clock;
pub use facts::{Facts, SOFT_LIMIT};
pub use link::{Bytes, Mail, Meter, Post};
pub use stack::{Driver, Ended, Io, Link, MeetError, Meeting, Met, Note, Order, Role, Stack, Terms, Verdict};
