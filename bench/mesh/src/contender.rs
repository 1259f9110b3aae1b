//! What a contender must offer to be measured: a listening node and a dialling node that can open and close connections.
//! It refuses to know how any of them does it.

use anyhow::Result;
use bench_parts::tally::Tally;

/// One way to keep encrypted, multiplexed connections between two processes.
pub trait Contender {
    /// Keeps the listening node alive; dropping it ends the node.
    type Listener: Listener;
    /// The dialling node, or nodes.
    type Dialler: Dialler;

    /// Starts a node that listens on a port of 127.0.0.1 the system chooses and that keeps what it accepts for ever.
    async fn listen() -> Result<Self::Listener>;

    /// Starts what dials. `address` is what [`Listener::address`] said in the other process; `slots` is how many
    /// connections will be open at once, for contenders that need an identity for each.
    async fn dialler(address: &str, slots: usize) -> Result<Self::Dialler>;
}

/// The side whose memory is measured.
pub trait Listener {
    /// One word that tells the dialling process where, and to whom, to dial.
    fn address(&self) -> String;
    /// Connections both sides have proven.
    fn tally(&self) -> &Tally;
}

/// The side that sets the pace.
pub trait Dialler {
    /// An open connection.
    type Conn;
    /// Dials until both sides have said who they are and the listener's side is proven to be up.
    async fn open(&self, slot: usize) -> Result<Self::Conn>;
    /// Closes and waits until this side has let go.
    async fn close(&self, slot: usize, conn: Self::Conn) -> Result<()>;
}
