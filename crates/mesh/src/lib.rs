//! The mesh speaks Peerkeep's own protocol: TLS 1.3 whose certificate key is the identity (or, when told so, signed
//! nonces and nothing after), a greeting in three steps, and streams with a control channel, application channels and
//! messages; over TCP with Yamux, or over QUIC. The wire format is written down in `docs/mesh-protocol.md`.
//!
//! Pure, without tokio: [`wire`] (frames), [`proof`] (membership), [`handshake`] (hello, answer, confirm), `control`
//! (ping, goodbye, peer exchange), `frames` (what counts as a sign of life), `rate`. Beside them thin drivers: `tls`,
//! `stack`, `quic`, `plain`, `carrier`, `line`, `link`, `mux`, `stream`, `channel`.
//!
//! What it deliberately does not do: open sockets (net does), decide who is dialled, admitted, probed or closed (the
//! core does), send early data unless told to, speak anything below TLS 1.3, or look at a name or an authority.

mod canary;
mod carrier;
mod channel;
mod config;
mod control;
mod exchange;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
pub mod handshake;
mod identity;
mod jobs;
mod line;
mod link;
mod mail;
mod measure;
mod parting;
mod plain;
pub mod proof;
mod quic;
mod reason;
mod registry;
mod stack;
pub mod tls;
pub mod wire;

pub use channel::{Channel, PREFACE_MAX_BYTES};
pub use config::{Listen, MeshConfig, MeshConfigError};
pub use control::Known;
pub use exchange::{Exchange, NoExchange};
pub use handle::{ChannelError, Handle, Info, OPEN_TIMEOUT, SendError};
pub use identity::{Identity, IdentityError, MIN_SECRET_BYTES, Secret, ShortSecret};
pub use link::MeshLink;
pub use measure::{MEASURE_TIME, Measured};
pub use plain::Protection;
pub use quic::QuicKeepalive;
pub use reason::Reason;
pub use registry::{Incoming, Message, Messages, Registry, RegistryError};
pub use stack::{MeshError, MeshMeeting, MeshStack};
