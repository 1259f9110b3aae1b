//! From a TCP connection to one whose other end is proven and whose multiplexer is agreed: multistream-select names Noise or
//! TLS, the handshake proves, and names the multiplexer on the way where both sides can. Deadlines are the caller's.

use crate::capped::Capped;
use crate::carrier::{Secure, stream_fault};
use crate::config::Security;
use crate::noise::{NOISE, NoiseError, NoiseNode, Side};
use crate::pnet::NetworkKey;
use crate::proof::Proven;
use crate::raw::{Raw, Wire};
use crate::tls::{TLS, TlsError, TlsNode, proven};
use futures::io::{AsyncRead, AsyncWrite};
use multistream_select::{NegotiationError, Version, dialer_select_proto, listener_select_proto};
use peerkeep_core::{Fault, FaultKind, PeerKey, Step};
use peerkeep_net::io_fault;
use std::io;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

/// The one multiplexer over a byte stream.
pub(crate) const YAMUX: &str = "/yamux/1.0.0";

/// What a node secures its TCP connections with.
pub(crate) struct Lock {
    pub noise: NoiseNode,
    pub tls: TlsNode,
    pub network: Option<NetworkKey>,
}

/// A connection that is secured.
pub(crate) struct Locked {
    pub secure: Secure,
    pub peer: Proven,
    /// Whether the multiplexer is agreed, too.
    pub agreed: bool,
}

impl Lock {
    /// As the side that dialled. Any other identity than `expect` ends it.
    pub async fn dial(
        &self,
        tcp: TcpStream,
        security: Security,
        expect: Option<PeerKey>,
    ) -> Result<Locked, Fault> {
        let mut wire = self.wire(tcp)?;
        let chosen = match security {
            Security::Noise => NOISE,
            Security::Tls => proposed(&mut wire, &[TLS]).await?,
            Security::Any => proposed(&mut wire, &[NOISE, TLS]).await?,
        };
        let locked = if chosen == NOISE {
            let shaken = if security == Security::Noise {
                // The only name is not waited for: what follows it leaves with it. One answer is read, and no more.
                let select = dialer_select_proto(&mut wire, [NOISE], Version::V1Lazy).await;
                let (_, mut select) = select.map_err(|error| select_fault(&error))?;
                self.noise.handshake(Side::Initiator, expect, &mut select).await
            } else {
                self.noise.handshake(Side::Initiator, expect, &mut wire).await
            };
            shaken.map(|shaken| noise(shaken, wire)).map_err(|error| noise_fault(&error))?
        } else {
            // TLS reads ahead, so nothing of the negotiation may be left.
            let connector = TlsConnector::from(self.tls.client(expect));
            let tls = connector.connect(TlsNode::no_name(), wire.into_inner()).await;
            over_tls(TlsStream::Client(tls.map_err(|error| stream_fault(Step::Secure, &error))?))?
        };
        if expect.is_some_and(|expect| expect != locked.peer.key) {
            return Err(Fault::new(Step::Secure, FaultKind::Identity));
        }
        Ok(locked)
    }

    /// As the side that was dialled.
    pub async fn accept(&self, tcp: TcpStream) -> Result<Locked, Fault> {
        let mut wire = self.wire(tcp)?;
        let name = chosen(&mut wire).await.map_err(|error| select_fault(&error))?;
        if name == NOISE {
            let shaken = self.noise.handshake(Side::Responder, None, &mut wire).await;
            return shaken.map(|shaken| noise(shaken, wire)).map_err(|error| noise_fault(&error));
        }
        let acceptor = TlsAcceptor::from(self.tls.server());
        let tls = acceptor.accept(wire.into_inner()).await;
        over_tls(TlsStream::Server(tls.map_err(|error| stream_fault(Step::Secure, &error))?))
    }

    fn wire(&self, tcp: TcpStream) -> Result<Wire, Fault> {
        Raw::new(tcp, self.network.as_ref()).map_err(|error| io_fault(Step::Secure, &error))
    }
}

impl Locked {
    /// Agrees the multiplexer as the side that dialled, where that is still to be done.
    pub async fn propose(&mut self) -> Result<(), Fault> {
        if !self.agreed {
            let mut secure = (&mut self.secure).compat();
            agree(dialer_select_proto(Capped::new(&mut secure), [YAMUX], Version::V1).await)?;
        }
        Ok(())
    }

    /// The same as the other side.
    pub async fn agree(&mut self) -> Result<(), Fault> {
        if !self.agreed {
            let mut secure = (&mut self.secure).compat();
            agree(listener_select_proto(Capped::new(&mut secure), [YAMUX]).await)?;
        }
        Ok(())
    }
}

/// What the acceptor takes of what we propose; nothing of what follows is read.
async fn proposed<T>(io: &mut T, names: &[&'static str]) -> Result<&'static str, Fault>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let chosen = dialer_select_proto(Capped::new(io), names, Version::V1).await;
    chosen.map(|(name, _)| *name).map_err(|error| select_fault(&error))
}

/// What the dialler wants, as one of ours; nothing of what follows is read.
pub(crate) async fn chosen<T>(io: &mut T) -> Result<&'static str, NegotiationError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut capped = Capped::new(io);
    let (name, _) = listener_select_proto(&mut capped, [NOISE, TLS]).await?;
    Ok(name)
}

fn noise(shaken: crate::noise::Shaken, wire: Wire) -> Locked {
    let (peer, agreed) = (shaken.peer.clone(), shaken.muxer.as_deref() == Some(YAMUX));
    Locked { secure: Secure::Noise(Box::new(shaken.over(wire))), peer, agreed }
}

fn over_tls(tls: TlsStream<Raw>) -> Result<Locked, Fault> {
    let (peer, muxer) = proven(tls.get_ref().1).map_err(|error| tls_fault(&error))?;
    let agreed = muxer.as_deref() == Some(YAMUX);
    Ok(Locked { secure: Secure::Tls(Box::new(tls)), peer, agreed })
}

/// What was negotiated is agreed, and what it was negotiated over is free again.
fn agree<P, S: AsyncRead + AsyncWrite>(selected: Result<(P, S), NegotiationError>) -> Result<(), Fault> {
    selected.map(drop).map_err(|error| select_fault(&error))
}

fn select_fault(error: &NegotiationError) -> Fault {
    let protocol = Fault::new(Step::Secure, FaultKind::Protocol);
    let NegotiationError::ProtocolError(error) = error else { return protocol };
    let inner = std::error::Error::source(error).and_then(|inner| inner.downcast_ref::<io::Error>());
    match inner {
        Some(error) if error.kind() != io::ErrorKind::InvalidData => io_fault(Step::Secure, error),
        _ => protocol,
    }
}

fn noise_fault(error: &NoiseError) -> Fault {
    let kind = match error {
        NoiseError::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<NegotiationError>()) => {
            FaultKind::Protocol
        }
        NoiseError::Io(error) => return io_fault(Step::Secure, error),
        NoiseError::OtherIdentity => FaultKind::Identity,
        NoiseError::Identity => FaultKind::Resources,
        NoiseError::Broken(_) | NoiseError::Crypto(_) | NoiseError::Payload | NoiseError::Signature => {
            FaultKind::Secure
        }
    };
    Fault::new(Step::Secure, kind)
}

pub(crate) fn tls_fault(error: &TlsError) -> Fault {
    let kind = match error {
        TlsError::NoProtocol => FaultKind::Protocol,
        _ => FaultKind::Secure,
    };
    Fault::new(Step::Secure, kind)
}
