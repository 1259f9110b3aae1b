//! libp2p as net sees it: meet (security, the multiplexer, identify), settle (the core's word), and then
//! a link. libp2p's greeting has no numbers and no refusal: who is not wanted is closed. A dialler counts as met when the
//! other side has identified itself, because it does that only once it has taken the connection; an acceptor when the
//! dialler has, for the same reason. Deadlines are the caller's.

use crate::address::{dialable, to_multiaddr};
use crate::carrier::Secure;
use crate::greeter::{Greeter, MOST_STREAMS};
use crate::handle::Shared;
use crate::identify::{IDENTIFY, IDENTIFY_PUSH, Identity};
use crate::jobs::{PING, framed};
use crate::link::Libp2pLink;
use crate::noise::{NoiseError, NoiseNode};
use crate::secure::{Lock, Locked, YAMUX, tls_fault};
use crate::tls::{TlsError, TlsNode, proven_quic};
use crate::{Channel, Libp2pConfig, Libp2pConfigError, Proven, peer_key};
use libp2p_identity::Keypair;
use peerkeep_channels::{Mux, Protocols};
use peerkeep_core::{Addr, Addrs, Fault, FaultKind, PeerKey, StackId, Step};
use peerkeep_net::{Io, MeetError, Meeting, Met, QuicDial, QuicIo, QuicServer, Role, Stack, Terms, Verdict};
use quinn::Connection;
use ring::rand::SystemRandom;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

/// What identify says that we speak: the family of protocols, for people.
const VERSION: &str = "ipfs/0.1.0";

/// The libp2p stack of one node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Libp2pStack(Arc<Node>);

/// Why a stack cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Libp2pError {
    /// A setting does not hold.
    #[error(transparent)]
    Config(#[from] Libp2pConfigError),
    /// The identity cannot sign.
    #[error("the identity cannot be used for libp2p: {0}")]
    Noise(#[from] NoiseError),
    /// The same, or a bug of ours.
    #[error("the identity cannot be used for libp2p: {0}")]
    Tls(#[from] TlsError),
    /// The identity is of a kind that has no name here.
    #[error("this kind of identity cannot be used")]
    Kind,
}

/// What all connections of a node share.
pub(crate) struct Node {
    me: PeerKey,
    public: Vec<u8>,
    lock: Lock,
    quic: QuicServer,
    pub protocols: Protocols<Channel>,
    pub random: SystemRandom,
    config: RwLock<Arc<Libp2pConfig>>,
}

impl Libp2pStack {
    /// A node's stack: who it is, what it is told, and who takes its channels.
    ///
    /// # Errors
    /// A setting that does not hold, or a key that cannot be used.
    pub fn new(
        identity: &Keypair,
        config: Libp2pConfig,
        protocols: Protocols<Channel>,
    ) -> Result<Libp2pStack, Libp2pError> {
        config.check()?;
        let tls = TlsNode::new(identity, &[YAMUX])?;
        let quic = tls.quic_server(&config.quic_terms())?;
        let noise = NoiseNode::new(identity, &[YAMUX])?;
        Ok(Libp2pStack(Arc::new(Node {
            me: peer_key(&identity.public()).ok_or(Libp2pError::Kind)?,
            public: identity.public().encode_protobuf(),
            lock: Lock { noise, tls, network: config.network.clone() },
            quic,
            protocols,
            random: SystemRandom::new(),
            config: RwLock::new(Arc::new(config)),
        })))
    }

    /// What this node answers QUIC with.
    pub fn quic_server(&self) -> QuicServer {
        self.0.quic.clone()
    }

    /// Takes new settings, whole or not at all; the private network stays what it was. Running links take them when they are told that there are new ones.
    ///
    /// # Errors
    /// A setting that does not hold.
    pub fn configure(&self, config: Libp2pConfig) -> Result<(), Libp2pConfigError> {
        config.check()?;
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(())
    }
}

impl std::fmt::Debug for Libp2pStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Libp2pStack").field(&self.0.me).finish()
    }
}

impl Node {
    fn config(&self) -> Arc<Libp2pConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn max_channels(&self) -> u16 {
        self.config().max_channels
    }

    /// The protocols that a stream of the other side may be for.
    pub fn speaks(&self) -> Vec<Box<str>> {
        let own = [IDENTIFY, PING, IDENTIFY_PUSH].map(Box::from);
        own.into_iter().chain(self.protocols.names()).collect()
    }

    /// What we say of ourselves to who is at `remote`, with its length.
    pub fn message(&self, remote: &Addr) -> Vec<u8> {
        let config = self.config();
        let identity = Identity {
            listen: config.listen.current().iter().filter_map(to_multiaddr).collect(),
            protocols: self.speaks().into_iter().map(String::from).collect(),
            observed: to_multiaddr(remote),
            version: VERSION.to_owned(),
            agent: config.agent.clone(),
        };
        framed(&identity.emit(&self.public))
    }

    /// Whoever is not on the list is refused, here as on the mesh.
    fn check(&self, peer: &Proven) -> Result<(), MeetError> {
        match &self.config().allow {
            Some(allow) if !allow.contains(&peer.key) => {
                Err(Fault::new(Step::Hello, FaultKind::Declined).into())
            }
            _ => Ok(()),
        }
    }

    async fn meet(self: Arc<Node>, io: Io, terms: Terms) -> Meets {
        match (terms.role, io) {
            (Role::Dialler, Io::Tcp(tcp)) => {
                let mut locked = self.lock.dial(tcp, self.config().security, terms.expect).await?;
                self.check(&locked.peer)?;
                locked.propose().await?;
                let mux = Mux::yamux(locked.secure, Vec::new(), true, MOST_STREAMS);
                self.dialled(mux, &locked.peer, terms.remote).await
            }
            (Role::Dialler, Io::Quic(QuicIo::Dialled { connection, .. })) => {
                let peer = proven_quic(&connection).map_err(|error| tls_fault(&error))?;
                self.check(&peer)?;
                let mux = Mux::quic(connection, peer.key, terms.remote);
                self.dialled(mux, &peer, terms.remote).await
            }
            (Role::Acceptor, Io::Tcp(tcp)) => {
                let locked = self.lock.accept(tcp).await?;
                let peer = locked.peer.clone();
                self.check(&peer)?;
                Ok(self.accepted(Arrived::Tcp(Box::new(locked)), peer, terms.remote))
            }
            (Role::Acceptor, Io::Quic(QuicIo::Arrived(connecting))) => {
                let connection =
                    connecting.await.map_err(|error| peerkeep_net::quic_fault(Step::Secure, &error))?;
                let peer = proven_quic(&connection).map_err(|error| tls_fault(&error))?;
                self.check(&peer)?;
                Ok(self.accepted(Arrived::Quic(connection), peer, terms.remote))
            }
            (_, Io::Quic(_)) => Err(Fault::new(Step::Connect, FaultKind::Protocol).into()),
        }
    }

    /// From a multiplexer that is up to who is there.
    async fn dialled(self: Arc<Node>, mux: Mux<Secure>, peer: &Proven, remote: Addr) -> Meets {
        let mut greeter = Greeter::new(self, mux, peer.key, remote, proven(peer));
        let identity = greeter.identify().await?;
        let met = Met { key: peer.key, greeting: None, listen: dialable(&identity.listen) };
        Ok((met, Libp2pMeeting(Box::new(Waiting::Dialled(Box::new(greeter), identity)))))
    }

    fn accepted(self: Arc<Node>, arrived: Arrived, peer: Proven, remote: Addr) -> (Met, Libp2pMeeting) {
        let met = Met { key: peer.key, greeting: None, listen: Addrs::new() };
        (met, Libp2pMeeting(Box::new(Waiting::Accepted { node: self, arrived, peer, remote })))
    }
}

/// A connection of theirs that is secured.
enum Arrived {
    Tcp(Box<Locked>),
    Quic(Connection),
}

/// Their public key in protobuf form, as identify repeats it.
fn proven(peer: &Proven) -> Arc<[u8]> {
    peer.public.encode_protobuf().into()
}

impl Stack for Libp2pStack {
    type Meeting = Libp2pMeeting;
    const ID: StackId = StackId::Libp2p;

    fn quic_dial(&self, terms: &Terms) -> Option<QuicDial> {
        // A private network's cipher is for byte streams: none of it would be left over QUIC.
        let node = self.0.lock.network.is_none().then_some(&self.0)?;
        node.lock.tls.quic_dial(&node.config().quic_terms(), terms.expect).ok()
    }

    /// Boxed, so that the handshake's memory is gone when the link runs.
    fn meet(&self, io: Io, terms: Terms) -> impl Future<Output = Result<(Met, Libp2pMeeting), MeetError>> {
        let meet: Pin<Box<dyn Future<Output = _>>> = Box::pin(self.0.clone().meet(io, terms));
        meet
    }
}

type Meets = Result<(Met, Libp2pMeeting), MeetError>;

/// A peer that was met and waits for the core's word.
pub struct Libp2pMeeting(Box<Waiting>);

#[expect(clippy::large_enum_variant, reason = "always in a box, and one at a time")]
enum Waiting {
    /// They have said who they are.
    Dialled(Box<Greeter>, Box<Identity>),
    /// They have proven who they are, and wait for the multiplexer or for an answer in it.
    Accepted { node: Arc<Node>, arrived: Arrived, peer: Proven, remote: Addr },
}

impl Meeting for Libp2pMeeting {
    type Link = Libp2pLink;

    fn settle(self, verdict: Verdict) -> impl Future<Output = Result<Libp2pLink, MeetError>> {
        let settle: Pin<Box<dyn Future<Output = _>>> = Box::pin(self.0.settle(verdict));
        settle
    }
}

impl Waiting {
    async fn settle(self: Box<Self>, verdict: Verdict) -> Result<Libp2pLink, MeetError> {
        if matches!(verdict, Verdict::Turn { .. }) {
            if let Waiting::Dialled(greeter, _) = *self {
                greeter.leave().await;
            }
            return Err(Fault::new(Step::Hello, FaultKind::Declined).into());
        }
        let (mut greeter, identity) = match *self {
            Waiting::Dialled(greeter, identity) => (*greeter, identity),
            Waiting::Accepted { node, arrived, peer, remote } => {
                let mux = match arrived {
                    Arrived::Tcp(mut locked) => {
                        locked.agree().await?;
                        Mux::yamux(locked.secure, Vec::new(), false, MOST_STREAMS)
                    }
                    Arrived::Quic(connection) => Mux::quic(connection, peer.key, remote),
                };
                let mut greeter = Greeter::new(node, mux, peer.key, remote, proven(&peer));
                greeter.admit();
                let identity = greeter.identify().await?;
                (greeter, identity)
            }
        };
        greeter.admit();
        let shared = Arc::new(Shared::new(greeter.info(&identity), greeter.node.max_channels()));
        Ok(Libp2pLink(greeter, shared))
    }
}
