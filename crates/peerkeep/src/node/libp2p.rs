//! The libp2p side of a node, where it has one: the same identity and the same core, on another wire and other ports. What
//! of the settings goes there, and what the node's calls find there.

use super::ports::Ports;
use super::start::{quic_options, tcp_options};
use super::{Node, channels, local};
use crate::{ChannelError, Identity, LivenessMode, PeerId, Settings, StartError};
use libp2p_identity::Keypair;
use peerkeep_channels::Protocols;
use peerkeep_core::{Addr, StackId};
use peerkeep_libp2p::{Announced, Channel, Handle, Libp2pConfig, Libp2pStack, Security};
use peerkeep_net::{Directory, Owner, Quic, Serving, Shards, StreamDriver, StreamOptions, Tickets};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What is open or known there.
pub(super) struct Libp2p {
    pub directory: Directory<Handle>,
    pub protocols: Protocols<Channel>,
    pub ports: Ports,
    listen: Announced,
}

/// The protocol of signs of life.
const PING: &str = "/ipfs/ping/1.0.0";
/// A ping takes no longer.
const PING_TIME: Duration = Duration::from_secs(10);

impl Libp2p {
    /// Opens the ports and makes the driver; `None` where it is switched off.
    pub fn start(
        settings: &Settings,
        identity: &Identity,
        owner: &Owner,
        shards: &Shards,
    ) -> Result<Option<(Libp2p, StreamDriver, Vec<Serving>)>, StartError> {
        if !settings.libp2p.enabled {
            return Ok(None);
        }
        let part = |error: &dyn std::fmt::Display| StartError::Part(error.to_string());
        let keys = Keypair::ed25519_from_bytes(*identity.seed()).map_err(|error| part(&error))?;
        let (listen, protocols, directory) =
            (Announced::default(), Protocols::default(), Directory::default());
        let config = config(settings, listen.clone())?;
        let is_private = config.network.is_some();
        let stack = Libp2pStack::new(&keys, config, protocols.clone()).map_err(|error| part(&error))?;
        let tickets = Tickets::new(StackId::Libp2p);
        let home = shards.home();
        let quic = {
            let _at = home.enter();
            Quic::new(stack.quic_server(), quic_options(settings))
        };
        let has_quic = settings.quic.enabled && !is_private;
        let ports = Ports::new(quic.clone(), tickets.clone(), owner.clone(), home);
        let mut own = settings.clone();
        own.listen.addresses.clone_from(&settings.libp2p.listen);
        own.quic.enabled = has_quic;
        let serving = ports.serve(ports.bind(&own)?)?;
        let options = StreamOptions {
            tcp: tcp_options(settings),
            quic: has_quic.then_some(quic),
            ..StreamOptions::default()
        };
        let driver = StreamDriver::new(stack, options, shards, &owner.surroundings(), tickets, &directory);
        let libp2p = Libp2p { directory, protocols, ports, listen };
        libp2p.refresh(settings);
        Ok(Some((libp2p, driver, serving)))
    }

    /// Where others reach us, as far as this machine has those addresses now.
    pub fn addresses(&self, settings: &Settings) -> Vec<Addr> {
        local::announced(&settings.libp2p.announce, settings, &self.ports.locals())
    }

    /// What identify says from now on about where we are; who is connected is told when it is news.
    pub fn refresh(&self, settings: &Settings) {
        let now = self.addresses(settings);
        if self.listen.current().as_slice() == now.as_slice() {
            return;
        }
        self.listen.set(now);
        for (_, link) in self.directory.all() {
            link.handle.announce();
        }
    }
}

fn config(settings: &Settings, listen: Announced) -> Result<Libp2pConfig, StartError> {
    let (allow, live) = (&settings.network.allow, &settings.liveness);
    let keepalive = (live.mode == LivenessMode::KeepaliveOnly).then(|| {
        let silence = live.keepalive_idle + live.keepalive_interval * u32::from(live.keepalive_count);
        (live.keepalive_idle, silence)
    });
    Ok(Libp2pConfig {
        agent: settings.node.agent.clone(),
        max_channels: settings.limits.channels,
        listen,
        security: match settings.libp2p.security {
            crate::Libp2pSecurity::Noise => Security::Noise,
            crate::Libp2pSecurity::Tls => Security::Tls,
            crate::Libp2pSecurity::Any => Security::Any,
        },
        network: settings.read_psk()?,
        allow: (!allow.is_empty()).then(|| allow.iter().map(|id| id.key()).collect()),
        quic_keepalive: keepalive,
    })
}

impl Node {
    /// The link to a peer on the libp2p side.
    pub(super) fn libp2p_link(&self, peer: &PeerId) -> Option<Handle> {
        let libp2p = self.shared.libp2p.as_ref()?;
        libp2p.directory.find(&peer.key()).map(|entry| entry.handle)
    }
}

/// One question and its answer, on a channel of its own.
pub(super) async fn ping(link: &Handle) -> Result<Duration, ChannelError> {
    let asked = async {
        let mut channel = link.open_at_once(PING).await.map_err(channels::libp2p_error)?;
        let question: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap_or(0));
        let (began, mut answer) = (Instant::now(), [0; 32]);
        let there_and_back = async {
            channel.write_all(&question).await?;
            channel.flush().await?;
            channel.read_exact(&mut answer).await?;
            channel.shutdown().await
        };
        there_and_back.await.map_err(|_| ChannelError::Closed)?;
        if answer == question { Ok(began.elapsed()) } else { Err(ChannelError::Unsupported) }
    };
    tokio::time::timeout(PING_TIME, asked).await.unwrap_or(Err(ChannelError::Timeout))
}
