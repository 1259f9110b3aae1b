//! QUIC for the mesh: its TLS, its limits, and the acceptor's and dialler's way from a connection to a greeting. Early
//! data, where it is on, is answered before the dialler's last TLS message and believed only after it.

use crate::handle::Limits;
use crate::handshake::{Acceptor, Agreed, Dialler, Failure, Heard};
use crate::line::{Line, QuicLine};
use crate::stack::{Machine, Node};
use crate::tls::{Detail, QUIC_ALPN, Tls, key_in};
use peerkeep_core::{Addr, Fault, FaultKind, Greeting, PeerKey, Step};
use peerkeep_net::{MeetError, QuicDial, QuicIo, QuicServer, Terms, quic_fault};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{Connecting, Connection, ConnectionError, IdleTimeout, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of one stream that may wait for a reader.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes of all streams of a connection that may wait for readers; the same towards the other side.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// First packets kept until the core has judged, per connection and in all.
const INCOMING_BYTES: u64 = 8 * 1024;
const INCOMING_TOTAL_BYTES: u64 = 1024 * 1024;
/// Peers whose tickets are kept.
const MAX_RESUMABLE: usize = 1_024;
/// How long an address proof may be used after it was given.
const RETRY_LIFETIME: Duration = Duration::from_secs(5);

/// How QUIC connections stay alive when the mesh itself asks no questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuicKeepalive {
    /// Silence before a packet is sent.
    pub interval: Duration,
    /// Silence after which the connection is over.
    pub timeout: Duration,
}

/// Everything QUIC that the connections of one node share.
pub(crate) struct Quic {
    server: QuicServer,
    client: Arc<rustls::ClientConfig>,
    transport: Arc<TransportConfig>,
    early: bool,
    /// Of peers that gave us tickets: tickets live in the configuration that asked for them.
    resumable: Mutex<HashMap<PeerKey, Arc<QuicClientConfig>>>,
}

impl Quic {
    /// `streams` is how many the other side may have open.
    ///
    /// # Errors
    /// When rustls does not take our key: a bug of ours.
    pub fn new(
        tls: &Tls,
        streams: usize,
        early: bool,
        keepalive: Option<QuicKeepalive>,
    ) -> Result<Quic, rustls::Error> {
        let transport = Arc::new(transport(streams, keepalive));
        let suites = |error| rustls::Error::General(format!("{error}"));
        let crypto = QuicServerConfig::try_from(tls.quic_server(early)).map_err(suites)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(transport.clone());
        config.retry_token_lifetime(RETRY_LIFETIME);
        config.max_incoming(2 * peerkeep_net::MAX_UNDECIDED);
        config.incoming_buffer_size(INCOMING_BYTES).incoming_buffer_size_total(INCOMING_TOTAL_BYTES);
        let (reset_key, id_key) = tls.quic_keys();
        let server = QuicServer { config, reset_key: Arc::new(reset_key), id_key };
        let client = Arc::new(tls.quic_client());
        Ok(Quic { server, client, transport, early, resumable: Mutex::default() })
    }

    pub fn server(&self) -> QuicServer {
        self.server.clone()
    }

    /// TLS for a dial, and whether early data may come of it.
    fn client(&self, tls: &Tls, expect: Option<PeerKey>) -> Option<(Arc<QuicClientConfig>, bool)> {
        let plain = |config| QuicClientConfig::try_from(config).ok().map(Arc::new);
        let Some(peer) = expect.filter(|_| self.early) else {
            return Some((plain(tls.pinned(&self.client, expect))?, false));
        };
        let mut resumable = self.resumable.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = resumable.get(&peer) {
            return Some((config.clone(), true));
        }
        if resumable.len() >= MAX_RESUMABLE
            && let Some(any) = resumable.keys().next().copied()
        {
            resumable.remove(&any);
        }
        let config = plain(tls.resuming(&self.client, peer))?;
        resumable.insert(peer, config.clone());
        Some((config, false))
    }
}

/// Bounded in every direction; silence ends nothing unless it is asked to, because the core watches it.
fn transport(streams: usize, keepalive: Option<QuicKeepalive>) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(u32::try_from(streams).unwrap_or(u32::MAX)))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(None)
        .keep_alive_interval(keepalive.map(|keepalive| keepalive.interval));
    if let Some(timeout) = keepalive.and_then(|keepalive| IdleTimeout::try_from(keepalive.timeout).ok()) {
        config.max_idle_timeout(Some(timeout));
    }
    config
}

/// The end of a QUIC connection, with the mesh's own details.
pub(crate) fn fault(step: Step, error: &ConnectionError) -> Fault {
    let fault = quic_fault(step, error);
    let ours = matches!(error, ConnectionError::TransportError(_));
    let detail = match (fault.kind, ours) {
        (FaultKind::Protocol, _) if fault.step == Step::Secure => Detail::NoProtocol,
        (FaultKind::Identity, _) => Detail::Certificate,
        (FaultKind::Secure, true) => Detail::Other,
        (FaultKind::Secure, false) => Detail::Alert,
        _ => return fault,
    };
    Fault { detail: detail as u32, ..fault }
}

impl Node {
    /// What a QUIC address is dialled with.
    pub(crate) fn quic_dial(&self, terms: &Terms) -> Option<QuicDial> {
        let (crypto, resumes) = self.quic.client(&self.tls, terms.expect)?;
        let mut config = quinn::ClientConfig::new(crypto);
        config.transport_config(self.quic.transport.clone());
        let early = terms.expect.filter(|_| resumes).and_then(|peer| self.early_hello(peer, terms));
        Some(QuicDial { config, server_name: "peerkeep".to_owned(), early: early.unwrap_or_default() })
    }

    fn early_hello(&self, peer: PeerKey, terms: &Terms) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.hello(peer, terms, &mut out).ok()?;
        Some(out)
    }

    /// The dialler's greeting over QUIC.
    pub(crate) async fn dial_quic(self: Arc<Node>, io: QuicIo, terms: Terms) -> Greeted {
        let QuicIo::Dialled { connection, early } = io else { return Err(wrong_io()) };
        let peer = proven(&connection)?;
        if let Some(early) = early {
            // Our own bytes, so what they begin with is the hello.
            let dialler = Dialler::resume(self.current().0, peer, &early.sent).ok_or_else(wrong_io)?;
            let line = Line::Quic(Box::new(QuicLine { connection, send: early.send, recv: early.recv }));
            return Ok((line, peer, dialler));
        }
        let mut out = Vec::new();
        let said = self.hello(peer, &terms, &mut out);
        let (send, recv) = connection.open_bi().await.map_err(|error| fault(Step::Hello, &error))?;
        let mut line = Line::Quic(Box::new(QuicLine { connection, send, recv }));
        match said {
            Ok(dialler) => {
                line.say(&out).await?;
                Ok((line, peer, dialler))
            }
            Err(failure) => Err(line.part(failure).await),
        }
    }

    /// The acceptor's greeting over QUIC, up to a hello that holds and a peer that is proven now.
    pub(crate) async fn accept_quic(
        self: Arc<Node>,
        connecting: Connecting,
        remote: Addr,
    ) -> Result<Hello, MeetError> {
        let (local, limits) = self.current();
        if !self.quic.early {
            let connection = connecting.await.map_err(|error| fault(Step::Secure, &error))?;
            let peer = proven(&connection)?;
            let line = first_stream(connection).await?;
            return self.hear_hello(line, peer, Acceptor::new(local, peer, remote), limits).await;
        }
        let (connection, done) = match connecting.into_0rtt() {
            Ok(both) => both,
            Err(_) => return Err(wrong_io()),
        };
        let mut done = std::pin::pin!(done);
        let early = tokio::select! {
            biased;
            _ = &mut done => {
                finished(&connection)?;
                None
            }
            line = first_stream(connection.clone()) => Some(line?),
        };
        let Some(mut line) = early else {
            let peer = proven(&connection)?;
            let line = first_stream(connection).await?;
            return self.hear_hello(line, peer, Acceptor::new(local, peer, remote), limits).await;
        };
        if connection.peer_identity().is_none() {
            done.await;
            finished(&connection)?;
            let peer = proven(&connection)?;
            return self.hear_hello(line, peer, Acceptor::new(local, peer, remote), limits).await;
        }
        // Somebody holds a ticket of this peer's, or has copied what somebody sent who did. It is answered, because the
        // answer can be read by the one with the ticket's secret alone; the core hears nothing before they prove it.
        let peer = proven(&connection)?;
        let mut machine = Acceptor::new(local, peer, remote);
        let heard = listen(&mut line, &mut machine).await;
        let mut said = None;
        if let (Ok(_), Some(greeting)) = (&heard, self.last_answer()) {
            let mut out = Vec::new();
            machine.answer(&greeting, &mut out);
            line.say(&out).await?;
            said = Some(greeting);
        }
        done.await;
        finished(&connection)?;
        match heard {
            Ok(agreed) => {
                Ok(Hello { line, peer, agreed, limits, machine: Machine::Acceptor { machine, said } })
            }
            Err(failure) => Err(line.part(failure).await),
        }
    }

    /// What our answers carry, once one did.
    fn last_answer(&self) -> Option<Greeting> {
        let epoch = self.epoch.load(Ordering::Relaxed);
        (epoch > 0).then(|| Greeting { epoch, ..Greeting::default() })
    }

    async fn hear_hello(
        &self,
        mut line: Line,
        peer: PeerKey,
        mut machine: Acceptor,
        limits: Limits,
    ) -> Result<Hello, MeetError> {
        match listen(&mut line, &mut machine).await {
            Ok(agreed) => {
                let machine = Machine::Acceptor { machine, said: None };
                Ok(Hello { line, peer, agreed, limits, machine })
            }
            Err(failure) => Err(line.part(failure).await),
        }
    }
}

/// A line, who is at its other end, and the dialler's machine that waits for the answer.
pub(crate) type Greeted = Result<(Line, PeerKey, Dialler), MeetError>;

/// A hello that holds, from a peer that is proven.
pub(crate) struct Hello {
    pub line: Line,
    pub peer: PeerKey,
    pub agreed: Agreed,
    pub limits: Limits,
    pub machine: Machine,
}

/// Reads up to the hello.
pub(crate) async fn listen(line: &mut Line, machine: &mut Acceptor) -> Result<Agreed, Failure> {
    loop {
        if let Some(Heard::Hello(agreed)) = machine.handle(line.hear().await?)? {
            return Ok(*agreed);
        }
    }
}

/// The stream that the dialler opens first.
async fn first_stream(connection: Connection) -> Result<Line, MeetError> {
    let (send, recv) = connection.accept_bi().await.map_err(|error| fault(Step::Hello, &error))?;
    if send.id().index() != 0 {
        return Err(MeetError::Violation(peerkeep_core::Violation::OutOfOrder));
    }
    Ok(Line::Quic(Box::new(QuicLine { connection, send, recv })))
}

/// TLS is over: in good order, unless the connection is over with it. Only then does the other side hold the key, or the
/// ticket's secret, for certain.
fn finished(connection: &Connection) -> Result<(), MeetError> {
    match connection.close_reason() {
        Some(error) => Err(fault(Step::Secure, &error).into()),
        None => Ok(()),
    }
}

/// Whom TLS proved, and that they speak our protocol.
fn proven(connection: &Connection) -> Result<PeerKey, Fault> {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = data.and_then(|data| data.protocol);
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'_>>>().ok());
    key_in(protocol.as_deref() == Some(QUIC_ALPN), chain.as_deref().map_or(&[], Vec::as_slice))
}

fn wrong_io() -> MeetError {
    Fault::new(Step::Secure, FaultKind::Protocol).into()
}
