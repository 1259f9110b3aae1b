//! What a mesh node is told: its network, who may join, what it calls itself, and its limits. Plain data.

use crate::{Protection, QuicKeepalive, Secret, wire};
use peerkeep_core::{Addr, Addrs, PeerKey};
use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

/// The mesh's settings. `Default` is a network called `default` without a secret: the library decides whether a node
/// may listen like that.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// The network's name; only nodes of one name talk to each other.
    pub network: String,
    /// The secret that members prove; `None` compares names alone.
    pub secret: Option<Secret>,
    /// Who may connect, in either direction; `None` lets anybody who passes the rest.
    pub allow: Option<BTreeSet<PeerKey>>,
    /// Lowest and highest version to speak, within [`wire::VERSIONS`]. Default: all of them.
    pub versions: (u32, u32),
    /// Where others can reach us, told in every hello and answer.
    pub listen: Listen,
    /// The program's name and version. Default: `peerkeep/` and the version. At most 256 bytes.
    pub agent: String,
    /// Most application channels open on one link at a time, both directions together. Default 32, at most 1,024.
    pub max_channels: u16,
    /// Most message bytes waiting for one link to take them. Default 1 MiB.
    pub send_budget_bytes: u32,
    /// Longest message accepted or sent. Default 256 KiB, at most the budget.
    pub max_message_bytes: u32,
    /// Take up QUIC sessions with early data, in both directions. Default: no.
    ///
    /// # Security
    /// An early hello can be replayed. It is answered and has no effect before its sender has proven itself.
    pub early_data: bool,
    /// What protects connections over TCP. Default: TLS.
    pub protection: Protection,
    /// For QUIC when the core asks for no signs of life. Default: none.
    pub quic_keepalive: Option<QuicKeepalive>,
}

impl Default for MeshConfig {
    fn default() -> MeshConfig {
        MeshConfig {
            network: "default".to_owned(),
            secret: None,
            allow: None,
            versions: wire::VERSIONS,
            listen: Listen::default(),
            agent: concat!("peerkeep/", env!("CARGO_PKG_VERSION")).to_owned(),
            max_channels: 32,
            send_budget_bytes: 1024 * 1024,
            max_message_bytes: 256 * 1024,
            early_data: false,
            protection: Protection::Tls,
            quic_keepalive: None,
        }
    }
}

/// A setting that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MeshConfigError {
    /// The name is empty or longer than 256 bytes.
    #[error("the network's name must have 1 to 256 bytes")]
    Network,
    /// The range is empty or holds versions this code does not speak.
    #[error("the versions must lie within {} to {}", wire::VERSIONS.0, wire::VERSIONS.1)]
    Versions,
    /// The agent is longer than 256 bytes.
    #[error("the agent must have at most 256 bytes")]
    Agent,
    /// No channels, or more than 1,024.
    #[error("the channel limit must lie within 1 to 1024")]
    Channels,
    /// A message may be longer than the budget, or nothing may be sent at all.
    #[error("the message limit must lie within 1 and the send budget")]
    Budget,
}

impl MeshConfig {
    /// Whether it holds together.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), MeshConfigError> {
        let (min, max) = self.versions;
        if self.network.is_empty() || self.network.len() > wire::MAX_TEXT_BYTES {
            return Err(MeshConfigError::Network);
        }
        if min > max || min < wire::VERSIONS.0 || max > wire::VERSIONS.1 {
            return Err(MeshConfigError::Versions);
        }
        if self.agent.len() > wire::MAX_TEXT_BYTES {
            return Err(MeshConfigError::Agent);
        }
        if self.max_channels == 0 || self.max_channels > 1024 {
            return Err(MeshConfigError::Channels);
        }
        if self.max_message_bytes == 0 || self.max_message_bytes > self.send_budget_bytes {
            return Err(MeshConfigError::Budget);
        }
        Ok(())
    }
}

/// Our listen addresses, shared with whoever learns about new ones.
#[derive(Debug, Clone, Default)]
pub struct Listen(Arc<RwLock<Addrs>>);

impl Listen {
    /// Replaces them; hellos from now on carry the new ones. More than eight are cut.
    pub fn set(&self, addrs: impl IntoIterator<Item = Addr>) {
        let addrs = addrs.into_iter().take(peerkeep_core::MAX_ADDRS).collect();
        *self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = addrs;
    }

    /// A copy of them.
    pub fn current(&self) -> Addrs {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_checked() {
        assert_eq!(MeshConfig::default().check(), Ok(()));
        let bad = |change: fn(&mut MeshConfig)| {
            let mut config = MeshConfig::default();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert_eq!(bad(|c| c.network.clear()), MeshConfigError::Network);
        assert_eq!(bad(|c| c.versions = (2, 1)), MeshConfigError::Versions);
        assert_eq!(bad(|c| c.versions = (1, 3)), MeshConfigError::Versions);
        assert_eq!(bad(|c| c.agent = "x".repeat(257)), MeshConfigError::Agent);
        assert_eq!(bad(|c| c.max_channels = 0), MeshConfigError::Channels);
        assert_eq!(bad(|c| c.max_message_bytes = 0), MeshConfigError::Budget);
    }
}
