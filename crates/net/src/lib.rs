//! Net does: it opens sockets, reads clocks, spawns tasks and writes journal files for every stack over a byte stream.
//! One task owns the core (`owner`); link tasks own sockets and live on shards; facts go up in batches, orders come
//! down per shard.
//!
//! What it deliberately does not do: decide (that is the core's), speak a protocol (that is a stack's), or keep peers
//! (that is the library's store).

mod attendant;
mod clock;
mod connect;
mod counters;
mod directory;
mod engine;
mod facts;
mod link;
mod listed;
mod listener;
mod lookup;
mod names;
mod observer;
mod owner;
mod quic;
mod quic_accept;
mod recorder;
mod reload;
mod ring;
mod shard;
mod sleep;
mod stack;
mod stream_driver;
mod task;
mod tcp;
mod timing;
mod waiters;
mod watch;

pub use clock::Clock;
pub use counters::{Count, Counters, FAULT_KINDS, VIOLATIONS};
pub use directory::{Directory, Entry};
pub use engine::{Engine, Running, Setup, SetupError, Stopped, prepare};
pub use facts::{Facts, SOFT_LIMIT};
pub use link::{Bytes, Mail, Meter, Post};
pub use listener::{ListenError, Listener, MAX_UNDECIDED, Serving, Tickets};
pub use lookup::MAX_DNS_SERVERS;
pub use names::{BadName, Family, Leads, MAX_NAMED, MAX_NAMES, Name, Names};
pub use observer::Observer;
pub use owner::{MAX_ASKS, MAX_COMMANDS, Owner, OwnerError};
pub use quic::{Quic, QuicDial, QuicEarly, QuicIo, QuicListener, QuicOptions, QuicServer, quic_fault};
pub use reload::{Listeners, Retired, Tuning};
pub use ring::JournalOptions;
pub use shard::{Here, Shards};
pub use stack::{Driver, Ended, Io, Link, MeetError, Meeting, Met, Note, Order, Role, Stack, Terms, Verdict};
pub use stream_driver::{HandleOf, StreamDriver, StreamOptions, Surroundings};
pub use tcp::{TcpOptions, io_fault};
pub use timing::{BOUNDS_US, Stages, Timing};
pub use waiters::{MAX_WAITERS, Outcome, Until};
