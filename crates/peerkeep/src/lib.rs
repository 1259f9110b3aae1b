//! Peerkeep as a library: a node that keeps peers connected, and can say why one is or is not.
//!
//! This crate joins the deciding core, the network and the mesh to what programs hold: [`Node`], its events and status,
//! its settings, identity and store. It decides nothing about connections (that is `peerkeep-core`), speaks no wire
//! format (the stacks do) and has no command line (the daemon does).
//!
//! ```
//! use peerkeep::{Node, Outcome, Settings};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = Settings::default();
//! settings.listen.addresses = vec!["127.0.0.1:0".parse()?];
//! let one = Node::builder().config(settings.clone()).start().await?;
//! let two = Node::builder().config(settings).start().await?;
//!
//! // A node prints its address in the form that `connect` takes.
//! let address = two.addresses().remove(0);
//! let outcome = one.connect(address, Duration::from_secs(10)).await?;
//! assert!(matches!(outcome, Outcome::Connected { .. }));
//!
//! let why = one.why(two.id()).await.expect("it is known");
//! println!("{}", why.summary); // Connected for 12ms: we connected to 127.0.0.1:41234.
//! one.shutdown().await;
//! two.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Crate map: `address` and `id` read what people type; `settings` reads the one TOML file; `identity` keeps the key;
//! `store` keeps peers, bans and history in SQLite; `status`, `words` and `project` are what a node tells; `node`,
//! `builder` and `events` are the node itself.

/// The examples of the guide compile.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct Guide;

mod address;
mod error;
mod event;
mod hex;
mod id;
mod identity;
mod maintenance;
mod metrics;
mod node;
mod place;
mod project;
mod refusal;
#[cfg(feature = "schema")]
mod schema;
mod settings;
mod status;
mod store;
mod time;
mod why;
mod words;

pub use address::{
    AddressError, DEFAULT_PORT, NameKind, PeerAddress, Place, multiaddr_of, parse_target, print_target,
};
pub use error::{Answer, ChannelError, CommandError, Outcome, PlaceError, Sent, StartError};
pub use event::{Event, EventKind};
pub use id::PeerId;
pub use identity::{IDENTITY_FILE, Identity, IdentityError};
pub use maintenance::{
    DisconnectReason, ReconnectStrategy, score_bandwidth, score_latency, score_reliability,
};
pub use metrics::{Metric, MetricKind, MetricValue, Sample};
pub use multiaddr::Multiaddr;
pub use node::{Builder, Channel, EVENT_QUEUE, EventStream, Incoming, Message, Messages, Node};
pub use peerkeep_core::{PeerKey, Target};
pub use peerkeep_net::Here;
pub use place::DataDir;
pub use project::{ConnectionState, DEGRADED_RTT_MS, Facets, FourState, LinkStatus, SixState, ThreeState};
pub use refusal::EstablishError;
pub use settings::{
    ApiSettings, BackoffSettings, BanSettings, DialOrder, DnsSettings, HealthSettings, JournalSettings,
    Libp2pSecurity, Libp2pSettings, LimitSettings, ListenAddress, ListenAddressError, ListenSettings,
    LivenessMode, LivenessSettings, LogFormat, LogSettings, MetricsSettings, Mistake, NetworkSettings,
    NodeSettings, Over, Override, PeersSettings, PerMille, PreferenceSettings, QuicSettings, Settings,
    SettingsError, Size, TEMPLATE, TimeoutSettings, TwoDials,
};
pub use status::{
    AddressStatus, Admission, Ailment, BanReason, BanStatus, BanTarget, ConnStatus, Counts, Direction,
    ErrorStatus, HealthStatus, Measurement, NodeStatus, PeerStatus, PendingStatus, Reason, Stage, Standing,
    States, Totals, Why,
};
#[doc(hidden)]
pub use store::fuzzing;
pub use store::{STORE_FILE, StoreError};
pub use time::Timestamp;
pub use words::{
    AddressSource, CloseReason, ConnectionHealth, ErrorKind, LimitName, Misbehaviour, Stack, StepName,
};
