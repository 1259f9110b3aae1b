//! The mesh as net sees it: meet (TLS, hello, answer), settle (the core's word, confirm), and then a link. Thin: the
//! machines of [`crate::handshake`] decide what is sent. Deadlines are the caller's, but a refusal lingers a second
//! at most so that it reaches the other side.

use crate::control::Known;
use crate::exchange::{Exchange, LEARN};
use crate::handle::{Info, Limits, Shared};
use crate::handshake::{
    Acceptor, Agreed, Dialler, Failure, Heard, Local, NONCE_BYTES, emit_refusal, emit_turn,
};
use crate::link::MeshLink;
use crate::rate::Memory;
use crate::registry::Registry;
use crate::tls::{Tls, fault_of, proven};
use crate::wire::{Handshake, MAX_HANDSHAKE_BYTES, PREFIX_BYTES, body_length, parse};
use crate::{Identity, MeshConfig, MeshConfigError};
use peerkeep_core::{Addr, Fault, FaultKind, Greeting, PeerKey, StackId, Step};
use peerkeep_net::{Io, MeetError, Meeting, Met, Role, Stack, Terms, Verdict};
use ring::rand::{SecureRandom, SystemRandom};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// The mesh stack of one node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct MeshStack(Arc<Node>);

/// Why a stack cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MeshError {
    /// A setting does not hold.
    #[error(transparent)]
    Config(#[from] MeshConfigError),
    /// TLS does not take our key.
    #[error("the identity cannot be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// What all links of a node share.
pub(crate) struct Node {
    pub me: PeerKey,
    pub registry: Registry,
    pub exchange: Arc<dyn Exchange>,
    pub learn: Memory,
    pub random: SystemRandom,
    tls: Tls,
    terms: RwLock<(Arc<Local>, Limits)>,
}

impl MeshStack {
    /// A node's stack: who it is, what it is told, who takes its channels and messages, and whom it knows.
    ///
    /// # Errors
    /// A setting that does not hold.
    pub fn new(
        identity: &Identity,
        config: &MeshConfig,
        registry: Registry,
        exchange: Arc<dyn Exchange>,
    ) -> Result<MeshStack, MeshError> {
        let terms = Node::terms(identity.key(), config)?;
        Ok(MeshStack(Arc::new(Node {
            me: identity.key(),
            registry,
            exchange,
            learn: Memory::new(LEARN),
            random: SystemRandom::new(),
            tls: Tls::new(identity)?,
            terms: RwLock::new(terms),
        })))
    }

    /// Takes new settings, whole or not at all, for every handshake from now on; running links keep theirs.
    ///
    /// # Errors
    /// A setting that does not hold.
    pub fn configure(&self, config: &MeshConfig) -> Result<(), MeshError> {
        let terms = Node::terms(self.0.me, config)?;
        *self.0.terms.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = terms;
        Ok(())
    }
}

impl std::fmt::Debug for MeshStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MeshStack").field(&self.0.me).finish()
    }
}

impl Node {
    fn terms(me: PeerKey, config: &MeshConfig) -> Result<(Arc<Local>, Limits), MeshConfigError> {
        config.check()?;
        let limits = Limits {
            channels: config.max_channels,
            budget_bytes: config.send_budget_bytes,
            message_bytes: config.max_message_bytes,
        };
        Ok((Arc::new(Local::new(me, config)), limits))
    }

    fn current(&self) -> (Arc<Local>, Limits) {
        self.terms.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Peers worth telling `to`, who is at `there`.
    pub fn sample(&self, to: &PeerKey, there: &Addr) -> Vec<Known> {
        let most = 4 * crate::wire::MAX_PEERS;
        let mut known = crate::exchange::fit(self.exchange.sample(to, most), to, there);
        known.truncate(crate::wire::MAX_PEERS);
        known
    }

    async fn meet(self: Arc<Node>, io: Io, terms: Terms) -> Result<(Met, MeshMeeting), MeetError> {
        let Io::Tcp(tcp) = io else { return Err(Fault::new(Step::Connect, FaultKind::Protocol).into()) };
        match terms.role {
            Role::Dialler => self.dial(tcp, terms).await,
            Role::Acceptor => self.accept(tcp, terms.remote).await,
        }
    }

    async fn dial(self: Arc<Node>, tcp: TcpStream, terms: Terms) -> Result<(Met, MeshMeeting), MeetError> {
        let connector = TlsConnector::from(self.tls.client(terms.expect));
        let tls = connector.connect(Tls::no_name(), tcp).await.map_err(|e| fault_of(Step::Secure, &e))?;
        let peer = proven(tls.get_ref().1)?;
        let (local, limits) = self.current();
        let mut tls = Box::new(TlsStream::Client(tls));
        let mut nonce = [0; NONCE_BYTES];
        self.random.fill(&mut nonce).map_err(|_| Fault::new(Step::Hello, FaultKind::Resources))?;
        let mut out = Vec::new();
        let mut dialler = match Dialler::start(local, peer, terms.remote, &terms.greeting, nonce, &mut out) {
            Ok(dialler) => dialler,
            Err(failure) => return Err(part(tls, failure).await),
        };
        say(&mut tls, &out).await?;
        let agreed = loop {
            match hear(&mut tls).await.and_then(|frame| dialler.handle(frame)) {
                Ok(Some(agreed)) => break agreed,
                Ok(None) => {}
                Err(failure) => return Err(part(tls, failure).await),
            }
        };
        Ok(self.met(tls, peer, terms.remote, agreed, limits, Machine::Dialler))
    }

    async fn accept(self: Arc<Node>, tcp: TcpStream, remote: Addr) -> Result<(Met, MeshMeeting), MeetError> {
        let acceptor = TlsAcceptor::from(self.tls.server());
        let tls = acceptor.accept(tcp).await.map_err(|e| fault_of(Step::Secure, &e))?;
        let peer = proven(tls.get_ref().1)?;
        let (local, limits) = self.current();
        let mut tls = Box::new(TlsStream::Server(tls));
        let mut machine = Acceptor::new(local, peer, remote);
        let agreed = loop {
            match hear(&mut tls).await.and_then(|frame| machine.handle(frame)) {
                Ok(Some(Heard::Hello(agreed))) => break *agreed,
                Ok(_) => {}
                Err(failure) => return Err(part(tls, failure).await),
            }
        };
        Ok(self.met(tls, peer, remote, agreed, limits, Machine::Acceptor(machine)))
    }

    fn met(
        self: Arc<Node>,
        tls: Box<TlsStream<TcpStream>>,
        peer: PeerKey,
        remote: Addr,
        agreed: Agreed,
        limits: Limits,
        machine: Machine,
    ) -> (Met, MeshMeeting) {
        if let Some(seen) = agreed.seen {
            self.exchange.seen_at(&peer, seen);
        }
        let info = Info {
            peer,
            remote,
            version: agreed.version,
            agent: agreed.agent.into_boxed_str(),
            seen: agreed.seen,
            exchange: agreed.exchange,
            mail: agreed.mail,
        };
        let met = Met { key: peer, greeting: Some(agreed.greeting), listen: agreed.listen };
        (met, MeshMeeting(Box::new(Inner { node: self, tls, info, limits, machine })))
    }
}

impl Stack for MeshStack {
    type Meeting = MeshMeeting;
    const ID: StackId = StackId::Mesh;

    /// Boxed, so that the handshake's memory is gone when the link runs.
    fn meet(&self, io: Io, terms: Terms) -> impl Future<Output = Result<(Met, MeshMeeting), MeetError>> {
        let meet: Pin<Box<dyn Future<Output = _>>> = Box::pin(self.0.clone().meet(io, terms));
        meet
    }
}

/// A peer that was met and waits for the core's word.
pub struct MeshMeeting(Box<Inner>);

struct Inner {
    node: Arc<Node>,
    tls: Box<TlsStream<TcpStream>>,
    info: Info,
    limits: Limits,
    machine: Machine,
}

enum Machine {
    Dialler,
    Acceptor(Acceptor),
}

impl Meeting for MeshMeeting {
    type Link = MeshLink;

    fn settle(self, verdict: Verdict) -> impl Future<Output = Result<MeshLink, MeetError>> {
        let settle: Pin<Box<dyn Future<Output = _>>> = Box::pin(self.0.settle(verdict));
        settle
    }
}

impl Inner {
    async fn settle(mut self: Box<Self>, verdict: Verdict) -> Result<MeshLink, MeetError> {
        let mut out = Vec::new();
        let greeting: Greeting = match verdict {
            Verdict::Admit { greeting } => greeting,
            Verdict::Turn { why, retry_after } => {
                emit_turn(&why, retry_after, &mut out);
                say(&mut self.tls, &out).await?;
                linger(self.tls).await;
                return Err(Fault::new(Step::Hello, FaultKind::Declined).into());
            }
        };
        let dialled = match &mut self.machine {
            Machine::Dialler => {
                Dialler::confirm(&mut out);
                say(&mut self.tls, &out).await?;
                true
            }
            Machine::Acceptor(machine) => {
                machine.answer(&greeting, &mut out);
                say(&mut self.tls, &out).await?;
                loop {
                    match hear(&mut self.tls).await.and_then(|frame| machine.handle(frame)) {
                        Ok(Some(_)) => break,
                        Ok(None) => {}
                        Err(failure) => return Err(part(self.tls, failure).await),
                    }
                }
                false
            }
        };
        let shared = Arc::new(Shared::new(self.info, self.limits));
        Ok(MeshLink { node: self.node, tls: self.tls, shared, dialled })
    }
}

async fn say(tls: &mut TlsStream<TcpStream>, bytes: &[u8]) -> Result<(), MeetError> {
    let said = async {
        tls.write_all(bytes).await?;
        tls.flush().await
    };
    said.await.map_err(|e| fault_of(Step::Hello, &e).into())
}

/// The next handshake frame, and not one byte more.
async fn hear(tls: &mut TlsStream<TcpStream>) -> Result<Handshake, Failure> {
    let lost = |e: std::io::Error| Failure { error: fault_of(Step::Hello, &e).into(), tell: None };
    let mut frame = vec![0; PREFIX_BYTES];
    tls.read_exact(&mut frame).await.map_err(lost)?;
    let length = body_length([frame[0], frame[1]], MAX_HANDSHAKE_BYTES)?;
    frame.resize(PREFIX_BYTES + length, 0);
    tls.read_exact(&mut frame[PREFIX_BYTES..]).await.map_err(lost)?;
    match parse(&frame, MAX_HANDSHAKE_BYTES)? {
        Some((frame, _)) => Ok(frame),
        None => Err(Failure { error: Fault::new(Step::Hello, FaultKind::Protocol).into(), tell: None }),
    }
}

/// Tells why, when there is something to tell, and closes.
async fn part(mut tls: Box<TlsStream<TcpStream>>, failure: Failure) -> MeetError {
    if let Some(refusal) = failure.tell {
        let mut out = Vec::new();
        emit_refusal(*refusal, &mut out);
        if say(&mut tls, &out).await.is_ok() {
            linger(tls).await;
        }
    }
    failure.error
}

/// A socket closed with bytes unread is reset, and the reset overtakes what was just said: so read for a moment.
async fn linger(mut tls: Box<TlsStream<TcpStream>>) {
    let last = async {
        let _ = tls.shutdown().await;
        let mut waste = [0; 512];
        for _ in 0..LINGER_READS {
            if !matches!(tls.read(&mut waste).await, Ok(count) if count > 0) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, last).await;
}

const LINGER: Duration = Duration::from_secs(1);
const LINGER_READS: usize = 64;
