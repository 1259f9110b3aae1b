//! What a contender must offer to be measured: a listening node, and a dialling one that opens and closes connections and
//! streams on them. All speak libp2p's wire, so that any dialler can be set on any listener. It refuses to know how.

use anyhow::Result;
use bench_channels::Stream;
use bench_parts::tally::Tally;

/// What carries the connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Over {
    /// TCP, Noise, Yamux.
    Tcp,
    /// QUIC.
    Quic,
}

impl Over {
    /// As the command line and the JSON spell it.
    pub fn word(self) -> &'static str {
        match self {
            Over::Tcp => "tcp",
            Over::Quic => "quic",
        }
    }
}

/// How far a dial is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// A stream can be asked for.
    Up,
    /// The other side's identify has been received: it is proven to be up.
    Identified,
}

/// One way to keep libp2p connections between two processes.
pub trait Contender {
    /// Keeps the listening node alive; dropping it ends the node.
    type Listener: Listener;
    /// The dialling node, or nodes.
    type Dialler: Dialler;

    /// Starts a node that listens on a port of 127.0.0.1 the system chooses, keeps what it accepts for ever, and serves
    /// [`bench_channels::duty`].
    async fn listen(over: Over) -> Result<Self::Listener>;

    /// Starts what dials. `address` is what [`Listener::address`] said in the other process; `slots` is how many
    /// connections will be open at once, for contenders that need an identity for each.
    async fn dialler(over: Over, address: &str, slots: usize) -> Result<Self::Dialler>;
}

/// The side whose memory is measured.
pub trait Listener {
    /// Where and who it is: a multiaddr that ends with `/p2p/PEER`.
    fn address(&self) -> String;
    /// Connections that are up in its eyes.
    fn tally(&self) -> &Tally;
}

/// The side that sets the pace.
pub trait Dialler {
    /// An open connection.
    type Conn;
    /// Dials, with the identity of that slot.
    async fn open(&self, slot: usize, until: Until) -> Result<Self::Conn>;
    /// A fresh stream for [`bench_channels::duty::PROTOCOL`].
    async fn stream(&self, conn: &Self::Conn) -> Result<Box<dyn Stream>>;
    /// Closes and waits until this side has let go.
    async fn close(&self, slot: usize, conn: Self::Conn) -> Result<()>;
}
