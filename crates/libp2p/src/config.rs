//! What a node's libp2p stack is told, and when that does not hold together.

use crate::greeter::SPARE_STREAMS;
use crate::identify::MAX_TEXT_BYTES;
use crate::pnet::NetworkKey;
use crate::tls::QuicTerms;
use peerkeep_core::{Addr, Addrs, PeerKey};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The settings of the stack.
#[derive(Debug, Clone)]
pub struct Libp2pConfig {
    /// What identify says of our program, at most 128 bytes. Default `peerkeep/` and the version.
    pub agent: String,
    /// Channels of one connection, both ways together, 1 to 1,024. Default 256.
    pub max_channels: u16,
    /// Where we listen, as identify says it.
    pub listen: Announced,
    /// What TCP connections that we dial are secured with; those that we accept may have either. Default Noise.
    pub security: Security,
    /// The private network we are in, over TCP alone. Default none.
    pub network: Option<NetworkKey>,
    /// Only these may connect, when there is a list. Default: everybody.
    pub allow: Option<BTreeSet<PeerKey>>,
    /// How QUIC connections stay alive when nobody asks questions: silence before a packet is sent, and after which the
    /// connection is over. Default: the core asks.
    pub quic_keepalive: Option<(Duration, Duration)>,
}

/// What a TCP connection is secured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// Noise XX, which every implementation speaks.
    #[default]
    Noise,
    /// TLS 1.3.
    Tls,
    /// Noise, else TLS: costs a round trip more, as the first has to be refused before the second is named.
    Any,
}

impl Default for Libp2pConfig {
    fn default() -> Libp2pConfig {
        Libp2pConfig {
            agent: concat!("peerkeep/", env!("CARGO_PKG_VERSION")).to_owned(),
            max_channels: 256,
            listen: Announced::default(),
            security: Security::default(),
            network: None,
            allow: None,
            quic_keepalive: None,
        }
    }
}

/// A setting that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Libp2pConfigError {
    /// The agent is longer than 128 bytes.
    #[error("the agent must have at most {MAX_TEXT_BYTES} bytes")]
    Agent,
    /// No channels, or more than 1,024.
    #[error("the channel limit must lie within 1 to 1024")]
    Channels,
}

impl Libp2pConfig {
    /// What QUIC is agreed with: settings of a start.
    pub(crate) fn quic_terms(&self) -> QuicTerms {
        let streams = u32::from(self.max_channels) + u32::try_from(SPARE_STREAMS).unwrap_or(u32::MAX);
        let (keepalive, idle) = self.quic_keepalive.unzip();
        QuicTerms { streams, keepalive, idle }
    }

    /// Whether it holds together.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), Libp2pConfigError> {
        if self.agent.len() > MAX_TEXT_BYTES {
            return Err(Libp2pConfigError::Agent);
        }
        if self.max_channels == 0 || self.max_channels > 1_024 {
            return Err(Libp2pConfigError::Channels);
        }
        Ok(())
    }
}

/// Our listen addresses, shared with whoever learns about new ones.
#[derive(Debug, Clone, Default)]
pub struct Announced(Arc<RwLock<Addrs>>);

impl Announced {
    /// Replaces them; what identify says from now on carries the new ones. More than eight are cut.
    pub fn set(&self, addrs: impl IntoIterator<Item = Addr>) {
        let addrs = addrs.into_iter().take(peerkeep_core::MAX_ADDRS).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = addrs;
    }

    /// A copy of them.
    pub fn current(&self) -> Addrs {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_checked() {
        assert_eq!(Libp2pConfig::default().check(), Ok(()));
        let agent = "x".repeat(MAX_TEXT_BYTES + 1);
        let config = Libp2pConfig { agent, ..Libp2pConfig::default() };
        assert_eq!(config.check(), Err(Libp2pConfigError::Agent));
        for max_channels in [0, 1_025] {
            let config = Libp2pConfig { max_channels, ..Libp2pConfig::default() };
            assert_eq!(config.check(), Err(Libp2pConfigError::Channels));
        }
    }
}
