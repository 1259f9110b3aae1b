//! libp2p's wire without its swarm: what a Peerkeep node says to libp2p nodes, so that the same core that keeps every
//! other connection keeps these too. Made of the ecosystem's own crates; decides nothing about connections.
//!
//! Here today: keys and their names, Noise XX and TLS 1.3 with the multiplexer agreed in the handshake, QUIC's share of
//! that, the encrypted stream, private networks, and what identify says.

pub mod identify;
mod key;
pub mod noise;
pub mod pnet;
mod proof;
#[cfg(test)]
mod testing;
pub mod tls;

pub use key::peer_key;
pub use proof::Proven;
