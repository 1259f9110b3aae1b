//! What carries the streams of one link, for every stack that has streams: Yamux over a byte stream, or QUIC's own.
//! Bytes are gathered into few writes, whole frames are measured, and both kinds are one set of verbs to the link.
//!
//! What it deliberately does not do: open sockets, prove who is there, name streams, or decide when a link ends. A
//! stack brings the byte stream as a [`Carrier`] and says what its faults are called.

mod carrier;
mod frames;
#[doc(hidden)]
pub mod fuzzing;
mod gauge;
mod mux;
mod pipe;
mod protocols;
mod rate;
mod stream;

pub use carrier::Carrier;
pub use mux::{Mux, QuicMux};
pub use protocols::{Named, Protocols, Room};
pub use rate::{Bucket, Memory, Rate};
pub use stream::{NO_CODE, QuicStream, Stream, YamuxStream};
