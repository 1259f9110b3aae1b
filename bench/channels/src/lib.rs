//! The contenders of the two programs: whatever gives byte streams between two processes. Each serves the same two duties,
//! echo and sink, named by the first byte of a stream. It refuses to measure.

pub mod duty;
pub mod ours;
pub mod raw;
pub mod swarm;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream of some contender.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Something that gives streams to another process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Name {
    /// A whole Peerkeep node and its channels, opened at once.
    Ours,
    /// The same, and each channel waits for the other side's word before it is written to.
    OursWaiting,
    /// libp2p's swarm with `libp2p-stream`.
    Swarm,
    /// TLS over TCP and nothing else: a stream is a connection.
    Raw,
}

impl Name {
    /// As the command line and the JSON spell it.
    pub fn word(self) -> &'static str {
        match self {
            Name::Ours => "ours",
            Name::OursWaiting => "ours-waiting",
            Name::Swarm => "swarm",
            Name::Raw => "raw",
        }
    }

    /// Serves for ever; tells where through `tell`. Of ours, `own_threads` says whether they are beside the caller's, as
    /// by default, or on it.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn serve(self, own_threads: bool, tell: impl FnOnce(&str) -> Result<()>) -> Result<()> {
        match self {
            Name::Ours | Name::OursWaiting => ours::serve(own_threads, tell).await,
            Name::Swarm => swarm::serve(tell).await,
            Name::Raw => raw::serve(tell).await,
        }
    }

    /// Connects to what [`Name::serve`] told.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn connect(self, own_threads: bool, address: &str) -> Result<Client> {
        Ok(match self {
            Name::Ours => Client::Ours(ours::Client::connect(address, true, own_threads).await?),
            Name::OursWaiting => Client::Ours(ours::Client::connect(address, false, own_threads).await?),
            Name::Swarm => Client::Swarm(swarm::Client::connect(address).await?),
            Name::Raw => Client::Raw(raw::Client::new(address)?),
        })
    }
}

/// The connected side of a contender.
pub enum Client {
    /// See [`Name::Ours`].
    Ours(ours::Client),
    /// See [`Name::Swarm`].
    Swarm(swarm::Client),
    /// See [`Name::Raw`].
    Raw(raw::Client),
}

impl Client {
    /// A fresh stream.
    ///
    /// # Errors
    /// When the other side does not give one.
    pub async fn open(&self) -> Result<Box<dyn Stream>> {
        Ok(match self {
            Client::Ours(client) => Box::new(client.open().await?),
            Client::Swarm(client) => Box::new(client.open().await?),
            Client::Raw(client) => Box::new(client.open().await?),
        })
    }
}
