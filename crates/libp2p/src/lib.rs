//! libp2p's wire without its swarm: what a Peerkeep node says to libp2p nodes, so that the same core that keeps every
//! other connection keeps these too. Made of the ecosystem's own crates: multistream-select, snow, rustls,
//! quinn, yamux, libp2p-identity, multiaddr.
//!
//! Pure: [`identify`], addresses, `proof`, the payload of [`noise`] and the certificates of [`tls`]. Beside them thin drivers: `stack` (meet and settle),
//! `greeter` (a connection before and after it is admitted), `jobs` (short work on one stream), `link`, `channel`.
//!
//! What it deliberately does not do: open sockets (net does), decide who is dialled, admitted, probed or closed (the
//! core does), resolve names, or keep peers in a table of its own.

mod address;
mod capped;
mod carrier;
mod channel;
mod config;
#[doc(hidden)]
pub mod fuzzing;
mod greeter;
mod handle;
pub mod identify;
mod jobs;
mod key;
mod link;
pub mod noise;
pub mod pnet;
mod proof;
mod raw;
mod secure;
mod stack;
#[cfg(test)]
mod testing;
pub mod tls;

pub use address::{from_multiaddr, to_multiaddr};
pub use channel::Channel;
pub use config::{Announced, Libp2pConfig, Libp2pConfigError, Security};
pub use handle::{ChannelError, Handle, Info, OPEN_TIMEOUT};
pub use key::peer_key;
pub use link::Libp2pLink;
pub use proof::Proven;
pub use stack::{Libp2pError, Libp2pMeeting, Libp2pStack};
