//! The mesh speaks Peerkeep's own protocol: TLS 1.3 whose certificate key is the identity, a greeting in three steps,
//! and Yamux with a control channel, application channels and messages. The wire format is written down in
//! `docs/mesh-protocol.md`.
//!
//! Pure, without tokio: [`wire`] (frames), [`proof`] (membership), [`handshake`] (hello, answer, confirm), `control`
//! (ping, goodbye, peer exchange), `frames` (what counts as a sign of life), `rate`. Beside them thin drivers: `tls`,
//! `stack`, `link`, `channel`.
//!
//! What it deliberately does not do: open sockets (net does), decide who is dialled, admitted, probed or closed (the
//! core does), resume sessions or send early data, speak anything below TLS 1.3, or look at a name or an authority.

mod config;
pub mod handshake;
mod identity;
pub mod proof;
mod reason;
pub mod tls;
pub mod wire;

pub use config::{Listen, MeshConfig, MeshConfigError};
pub use identity::{Identity, IdentityError, MIN_SECRET_BYTES, Secret, ShortSecret};
pub use reason::Reason;
