//! The mesh as net sees it: meet (TLS or QUIC, hello, answer), settle (the core's word, confirm), and then a link. Thin: the
//! machines of [`crate::handshake`] decide what is sent. Deadlines are the caller's, but a refusal lingers a second
//! at most so that it reaches the other side.

use crate::canary::{self, Canary};
use crate::carrier::Carrier;
use crate::control::{Control, Known};
use crate::exchange::{Exchange, LEARN};
use crate::handle::{Info, Limits, Shared};
use crate::handshake::{Acceptor, Agreed, Dialler, Failure, Local, NONCE_BYTES, emit_turn};
use crate::line::Line;
use crate::link::{MeshLink, SPARE_STREAMS};
use crate::plain::Plain;
use crate::quic::{Greeted, Quic, listen};
use crate::reason::goodbye;
use crate::registry::Registry;
use crate::tls::{Tls, fault_of, proven};
use crate::{Identity, MeshConfig, MeshConfigError, Protection};
use peerkeep_channels::Memory;
use peerkeep_core::{Addr, Fault, FaultKind, Greeting, PeerKey, StackId, Step};
use peerkeep_net::{Io, MeetError, Meeting, Met, QuicDial, QuicIo, QuicServer, Role, Stack, Terms, Verdict};
use ring::rand::{SecureRandom, SystemRandom};
use std::future::Future;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
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
    pub tls: Tls,
    plain: Plain,
    pub quic: Quic,
    /// Our boot epoch as an answer last named it; 0 before the first.
    pub epoch: AtomicU64,
    terms: RwLock<(Arc<Local>, Limits, Protection)>,
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
        let tls = Tls::new(identity)?;
        let streams = usize::from(config.max_channels) + SPARE_STREAMS;
        let quic = Quic::new(&tls, streams, config.early_data, config.quic_keepalive)?;
        Ok(MeshStack(Arc::new(Node {
            me: identity.key(),
            registry,
            exchange,
            learn: Memory::new(LEARN),
            random: SystemRandom::new(),
            plain: Plain::new(identity)?,
            tls,
            quic,
            epoch: AtomicU64::new(0),
            terms: RwLock::new(terms),
        })))
    }

    /// What this node answers QUIC with.
    pub fn quic_server(&self) -> QuicServer {
        self.0.quic.server()
    }

    /// Takes new settings, whole or not at all, for every handshake from now on. Running links take the limits when they
    /// are told that there are new ones: [`peerkeep_net::Note::Retune`].
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
    fn terms(me: PeerKey, config: &MeshConfig) -> Result<(Arc<Local>, Limits, Protection), MeshConfigError> {
        config.check()?;
        let limits = Limits {
            channels: config.max_channels,
            budget_bytes: config.send_budget_bytes,
            message_bytes: config.max_message_bytes,
        };
        Ok((Arc::new(Local::new(me, config)), limits, config.protection))
    }

    pub fn current(&self) -> (Arc<Local>, Limits) {
        let terms = self.terms.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        (terms.0.clone(), terms.1)
    }

    fn protection(&self) -> Protection {
        self.terms.read().unwrap_or_else(|poisoned| poisoned.into_inner()).2
    }

    /// Peers worth telling `to`, who is at `there`.
    pub fn sample(&self, to: &PeerKey, there: &Addr) -> Vec<Known> {
        let most = 4 * crate::wire::MAX_PEERS;
        let mut known = crate::exchange::fit(self.exchange.sample(to, most), to, there);
        known.truncate(crate::wire::MAX_PEERS);
        known
    }

    async fn meet(self: Arc<Node>, io: Io, terms: Terms) -> Meets {
        match (terms.role, io) {
            (Role::Dialler, Io::Tcp(tcp)) => {
                let greeted = self.dial_tcp(tcp, &terms).await?;
                self.dial(greeted, terms.remote).await
            }
            (Role::Dialler, Io::Quic(quic)) => {
                let remote = terms.remote;
                let greeted = self.clone().dial_quic(quic, terms).await?;
                self.dial(greeted, remote).await
            }
            (Role::Acceptor, Io::Tcp(tcp)) => self.accept(tcp, terms.remote).await,
            (Role::Acceptor, Io::Quic(QuicIo::Arrived(connecting))) => {
                let heard = self.clone().accept_quic(connecting, terms.remote).await?;
                Ok(self.met(heard.line, heard.peer, terms.remote, heard.agreed, heard.limits, heard.machine))
            }
            (Role::Acceptor, Io::Quic(_)) => Err(Fault::new(Step::Connect, FaultKind::Protocol).into()),
        }
    }

    async fn dial_tcp(&self, tcp: TcpStream, terms: &Terms) -> Greeted {
        let (carrier, peer, ahead) = match self.protection() {
            Protection::Tls => self.dial_tls(tcp, terms).await?,
            plain => {
                let (carrier, peer) = self.dial_plain(plain, tcp, terms).await?;
                (carrier, peer, None)
            }
        };
        let mut line = Line::Tcp(carrier);
        if let Some(dialler) = ahead {
            return Ok((line, peer, dialler));
        }
        let mut out = Vec::new();
        match self.hello(peer, terms, &mut out) {
            Ok(dialler) => {
                line.say(&out).await?;
                Ok((line, peer, dialler))
            }
            Err(failure) => Err(line.part(failure).await),
        }
    }

    /// Where it is known whom TLS has to prove, the hello leaves with TLS's own last message: rustls keeps it back until
    /// it has proven them.
    async fn dial_tls(
        &self,
        tcp: TcpStream,
        terms: &Terms,
    ) -> Result<(Carrier, PeerKey, Option<Dialler>), MeetError> {
        let mut out = Vec::new();
        let mut ahead = terms.expect.and_then(|peer| self.hello(peer, terms, &mut out).ok());
        let connector = TlsConnector::from(self.tls.client(terms.expect));
        let connecting = connector.connect_with(Tls::no_name(), tcp, |tls| {
            ahead = ahead.take().filter(|_| tls.writer().write_all(&out).is_ok());
        });
        let tls = connecting.await.map_err(|e| fault_of(Step::Secure, &e))?;
        let peer = proven(tls.get_ref().1)?;
        Ok((Carrier::Tls(Box::new(TlsStream::Client(tls))), peer, ahead))
    }

    async fn dial_plain(&self, protection: Protection, mut tcp: TcpStream, terms: &Terms) -> Secured {
        protection.check(&terms.remote)?;
        let peer = self.plain.dial(&mut tcp, terms.expect, &self.random).await?;
        Ok((Carrier::Plain(tcp), peer))
    }

    async fn accept_tls(&self, tcp: TcpStream) -> Secured {
        let acceptor = TlsAcceptor::from(self.tls.server());
        let tls = acceptor.accept(tcp).await.map_err(|e| fault_of(Step::Secure, &e))?;
        let peer = proven(tls.get_ref().1)?;
        Ok((Carrier::Tls(Box::new(TlsStream::Server(tls))), peer))
    }

    async fn accept_plain(&self, protection: Protection, mut tcp: TcpStream, remote: &Addr) -> Secured {
        protection.check(remote)?;
        let peer = self.plain.accept(&mut tcp, &self.random).await?;
        Ok((Carrier::Plain(tcp), peer))
    }

    /// Appends a hello to `out`.
    pub fn hello(&self, peer: PeerKey, terms: &Terms, out: &mut Vec<u8>) -> Result<Dialler, Failure> {
        let mut nonce = [0; NONCE_BYTES];
        if self.random.fill(&mut nonce).is_err() {
            let fault = Fault::new(Step::Hello, FaultKind::Resources);
            return Err(Failure { error: fault.into(), tell: None });
        }
        Dialler::start(self.current().0, peer, terms.remote, &terms.greeting, nonce, out)
    }

    async fn dial(self: Arc<Node>, greeted: (Line, PeerKey, Dialler), remote: Addr) -> Meets {
        let (mut line, peer, mut dialler) = greeted;
        let agreed = loop {
            match line.hear().await.and_then(|frame| dialler.handle(frame)) {
                Ok(Some(agreed)) => break agreed,
                Ok(None) => {}
                Err(failure) => return Err(line.part(failure).await),
            }
        };
        let limits = self.current().1;
        Ok(self.met(line, peer, remote, agreed, limits, Machine::Dialler))
    }

    async fn accept(self: Arc<Node>, tcp: TcpStream, remote: Addr) -> Meets {
        let (carrier, peer) = match self.protection() {
            Protection::Tls => self.accept_tls(tcp).await?,
            plain => self.accept_plain(plain, tcp, &remote).await?,
        };
        let (local, limits) = self.current();
        let mut line = Line::Tcp(carrier);
        let mut machine = Acceptor::new(local, peer, remote);
        match listen(&mut line, &mut machine).await {
            Ok(agreed) => {
                let machine = Machine::Acceptor { machine, said: None };
                Ok(self.met(line, peer, remote, agreed, limits, machine))
            }
            Err(failure) => Err(line.part(failure).await),
        }
    }

    fn met(
        self: Arc<Node>,
        line: Line,
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
            secure: line.is_secure(),
        };
        let met = Met { key: peer, greeting: Some(agreed.greeting), listen: agreed.listen };
        (met, MeshMeeting(Box::new(Inner { node: self, line, info, limits, machine })))
    }
}

impl Stack for MeshStack {
    type Meeting = MeshMeeting;
    const ID: StackId = StackId::Mesh;

    fn quic_dial(&self, terms: &Terms) -> Option<QuicDial> {
        self.0.quic_dial(terms)
    }

    fn quic_fault(&self, step: Step, error: &quinn::ConnectionError) -> Fault {
        crate::quic::fault(step, error)
    }

    /// Boxed, so that the handshake's memory is gone when the link runs.
    fn meet(&self, io: Io, terms: Terms) -> impl Future<Output = Result<(Met, MeshMeeting), MeetError>> {
        let meet: Pin<Box<dyn Future<Output = _>>> = Box::pin(self.0.clone().meet(io, terms));
        meet
    }
}

type Secured = Result<(Carrier, PeerKey), Fault>;
type Meets = Result<(Met, MeshMeeting), MeetError>;

/// A peer that was met and waits for the core's word.
pub struct MeshMeeting(Box<Inner>);

struct Inner {
    node: Arc<Node>,
    line: Line,
    info: Info,
    limits: Limits,
    machine: Machine,
}

/// The side of a greeting that waits for the core.
pub(crate) enum Machine {
    Dialler,
    Acceptor {
        machine: Acceptor,
        /// The answer that early data was given already.
        said: Option<Greeting>,
    },
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
                match &self.machine {
                    // It takes itself for connected, so it is told as one that is.
                    Machine::Acceptor { said: Some(_), .. } => Control::last_word(goodbye(&why), &mut out),
                    _ => emit_turn(&why, retry_after, &mut out),
                }
                self.line.say(&out).await?;
                self.line.linger().await;
                return Err(Fault::new(Step::Hello, FaultKind::Declined).into());
            }
        };
        let dialled = match &mut self.machine {
            Machine::Dialler => {
                Dialler::confirm(&mut out);
                // Over TCP it leaves with the link's first frames, which follow at once.
                if matches!(self.line, Line::Quic(_)) {
                    self.line.say(&out).await?;
                    out.clear();
                }
                true
            }
            Machine::Acceptor { machine, said } => {
                self.node.epoch.store(greeting.epoch, Ordering::Relaxed);
                if said.is_none() {
                    machine.answer(&greeting, &mut out);
                    self.line.say(&out).await?;
                    out.clear();
                }
                while !canary::on(Canary::PhantomAnnouncement) {
                    match self.line.hear().await.and_then(|frame| machine.handle(frame)) {
                        Ok(Some(_)) => break,
                        Ok(None) => {}
                        Err(failure) => return Err(self.line.part(failure).await),
                    }
                }
                false
            }
        };
        let shared = Arc::new(Shared::new(self.info, self.limits));
        Ok(MeshLink { node: self.node, line: self.line, shared, dialled, last: out })
    }
}
