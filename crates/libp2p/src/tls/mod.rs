//! TLS 1.3 as libp2p speaks it, over TCP and inside QUIC: a self-signed certificate that the node's identity vouches for,
//! on both sides, and over TCP the multiplexer agreed in ALPN. No names, no authorities, no older version, no tickets, no
//! early data. (libp2p specification `tls/tls.md` and `connections/inlined-muxer-negotiation.md`.)

pub(crate) mod certificate;
mod quic;
mod verifier;

pub use certificate::{BadCertificate, MAX_CERTIFICATE_BYTES};
pub use quic::{QuicTerms, proven_quic};

use crate::proof::Proven;
use certificate::Certificate;
use libp2p_identity::Keypair;
use peerkeep_core::{FaultKind, PeerKey};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, Error, ServerConfig};
use std::sync::Arc;
use verifier::Verifier;
use zeroize::Zeroizing;

/// Its name in multistream-select.
pub const TLS: &str = "/tls/1.0.0";
/// The name in ALPN of who agrees on nothing else there; the only one in QUIC.
const ALPN: &[u8] = b"libp2p";

/// Why there is no TLS.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// Our own key cannot sign.
    #[error("our own identity cannot be used")]
    Identity,
    /// No certificate could be made: without randomness, most likely.
    #[error("our own certificate could not be made")]
    Certificate,
    /// rustls refuses what we configured: a bug of ours.
    #[error("our own configuration was refused: {0}")]
    Config(#[from] Error),
    /// The other side speaks TLS and nothing of libp2p's in it (fault H8).
    #[error("it speaks no protocol of libp2p's")]
    NoProtocol,
    /// It showed no certificate, or more than one.
    #[error("it showed no certificate, or more than one")]
    NoIdentity,
    /// It showed one that is no proof.
    #[error("its certificate is not taken: {0}")]
    BadCertificate(#[from] BadCertificate),
}

/// What a node brings to every handshake: both rustls configurations, with one certificate.
#[derive(Debug, Clone)]
pub struct TlsNode {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    quic: quic::Keys,
}

impl TlsNode {
    /// Makes a key and a certificate, and has the identity sign it. `muxers` are the multiplexers we speak over TCP, the
    /// best first.
    ///
    /// # Errors
    /// [`TlsError::Identity`] when the key cannot sign, [`TlsError::Certificate`] without randomness.
    pub fn new(pair: &Keypair, muxers: &[&str]) -> Result<TlsNode, TlsError> {
        let (certificate, key) = certificate::make(pair)?;
        let der = Zeroizing::new(key.serialize_der());
        let key = provider::sign::any_ecdsa_type(&PrivatePkcs8KeyDer::from(&der[..]).into())?;
        TlsNode::with(pair, muxers, vec![certificate], key)
    }

    /// One that shows these certificates.
    fn with(
        pair: &Keypair,
        muxers: &[&str],
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn rustls::sign::SigningKey>,
    ) -> Result<TlsNode, TlsError> {
        let certified = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        let mut protocols: Vec<Vec<u8>> = muxers.iter().map(|name| name.as_bytes().to_vec()).collect();
        protocols.push(ALPN.to_vec());
        let provider = Arc::new(suites());
        let anybody = Arc::new(Verifier { expect: None });
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(anybody.clone())
            .with_client_cert_resolver(certified.clone());
        client.alpn_protocols = protocols.clone();
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(anybody)
            .with_cert_resolver(certified);
        server.alpn_protocols = protocols;
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(TlsNode { client: Arc::new(client), server: Arc::new(server), quic: quic::Keys::new(pair)? })
    }

    /// The dialler's side over TCP. With `expect`, any other identity ends the handshake before ours is shown.
    pub fn client(&self, expect: Option<PeerKey>) -> Arc<ClientConfig> {
        match expect {
            None => self.client.clone(),
            Some(_) => Arc::new(self.pinned(expect)),
        }
    }

    /// The acceptor's side over TCP.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// The name that rustls wants a dialler to have; it is neither sent nor looked at.
    pub fn no_name() -> ServerName<'static> {
        ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
    }

    fn pinned(&self, expect: Option<PeerKey>) -> ClientConfig {
        let mut client = (*self.client).clone();
        client.dangerous().set_certificate_verifier(Arc::new(Verifier { expect }));
        client
    }
}

/// Whom a handshake over TCP proved, and the multiplexer it agreed on; none when that has to be negotiated.
///
/// # Errors
/// [`TlsError::NoProtocol`], [`TlsError::NoIdentity`] or [`TlsError::BadCertificate`].
///
/// # Security
/// Proves nothing before the handshake is over, or for one that was not configured by [`TlsNode`].
pub fn proven(common: &rustls::CommonState) -> Result<(Proven, Option<String>), TlsError> {
    let protocol = common.alpn_protocol().ok_or(TlsError::NoProtocol)?;
    let muxer = if protocol == ALPN { None } else { Some(name(protocol)?) };
    Ok((maker(common.peer_certificates().unwrap_or_default())?, muxer))
}

fn name(protocol: &[u8]) -> Result<String, TlsError> {
    String::from_utf8(protocol.to_vec()).map_err(|_| TlsError::NoProtocol)
}

/// Who made the one certificate of a handshake, in which rustls had it checked.
fn maker(chain: &[CertificateDer<'_>]) -> Result<Proven, TlsError> {
    let [one] = chain else { return Err(TlsError::NoIdentity) };
    Ok(Certificate::parse(one)?.maker()?)
}

/// What a failed handshake was: another identity than the one expected, another protocol, or no proof.
pub fn kind_of(error: &Error) -> FaultKind {
    match error {
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => FaultKind::Identity,
        Error::NoApplicationProtocol
        | Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol) => FaultKind::Protocol,
        _ => FaultKind::Secure,
    }
}

/// The short hash first; X25519 in the first message, and P-256 for who knows no other.
fn suites() -> CryptoProvider {
    use provider::cipher_suite::*;
    CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_CHACHA20_POLY1305_SHA256,
            TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![provider::kx_group::X25519, provider::kx_group::SECP256R1],
        signature_verification_algorithms: certificate::ALGORITHMS,
        ..provider::default_provider()
    }
}

#[cfg(test)]
mod quic_tests;
#[cfg(test)]
mod tests;
