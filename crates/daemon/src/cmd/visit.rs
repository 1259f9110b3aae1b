//! A short visit to a libp2p node, for commands that need no daemon: an identity of its own, no data folder, no listener,
//! one connection. What is done there is the command's.

use crate::cli::Shared;
use crate::exit::{Code, Failure};
use crate::out;
use peerkeep::{CommandError, Node, Outcome, PeerAddress, PeerId, Settings, Stack};
use std::path::PathBuf;
use std::time::Duration;

/// Whom to visit, and how.
#[derive(Debug, clap::Args)]
pub struct Visit {
    /// Its libp2p address: /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW..., or with /udp/4001/quic-v1
    #[arg(value_name = "MULTIADDR")]
    peer: PeerAddress,
    /// How long connecting may take
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// The file with the key of the private network it is in
    #[arg(long, value_name = "FILE")]
    psk: Option<PathBuf>,
}

impl Visit {
    /// Connects; the node ends with [`Node::shutdown`].
    pub async fn begin(self, shared: &Shared) -> Result<(Node, PeerId), Failure> {
        if self.peer.place.is_none() {
            let failure = Failure::new(Code::NoAddress, "an id alone says not where the peer is");
            return Err(failure.next("give its address: /ip4/.../tcp/.../p2p/12D3KooW..."));
        }
        let peer = PeerAddress { stack: Some(Stack::Libp2p), ..self.peer };
        let mut settings = Settings::default();
        settings.listen.addresses.clear();
        settings.libp2p.enabled = true;
        settings.libp2p.listen.clear();
        settings.libp2p.psk_file = self.psk;
        settings.peers.target = 0;
        settings.timeouts.establish = self.wait;
        let started = Node::builder().config(settings).start().await;
        let node = started.map_err(|error| Failure::failed(error.to_string()))?;
        let spinner = super::spinner(shared, format!("connecting to {peer}"));
        let outcome = node.connect(peer.clone(), self.wait).await;
        spinner.finish_and_clear();
        let failure = match outcome {
            Ok(Outcome::Connected { peer, .. }) => return Ok((node, peer)),
            Ok(Outcome::GaveUp { error, .. } | Outcome::StillTrying { error, .. }) => {
                let why =
                    error.map_or_else(|| "no answer in time".to_owned(), |error| out::clean(&error.text));
                Failure::failed(format!("{peer} could not be connected: {why}"))
            }
            Ok(Outcome::Cancelled { .. }) => Failure::failed(format!("{peer} could not be connected")),
            Err(CommandError::Name(name)) => Failure::new(Code::NotFound, format!("{name} does not resolve")),
            Err(error) => Failure::failed(error.to_string()),
        };
        node.shutdown().await;
        Err(failure)
    }
}
