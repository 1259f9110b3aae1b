//! The secure channel: TLS 1.3 on both sides, over TCP or inside QUIC, where the key in the certificate is the identity.
//! No names, no authorities, no dates, and no way to accept a key that did not sign. Sessions are resumed over QUIC
//! alone, each ticket once, and not unless that is asked for.

pub use crate::wire::QUIC_ALPN;
use crate::{Identity, wire::ALPN};
use peerkeep_core::{Fault, FaultKind, PeerKey, Step};
use ring::hmac;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ServerSessionMemoryCache;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use std::io;
use std::sync::Arc;

/// The longest certificate that is looked at (fault H8); ours has under 300 bytes.
pub const MAX_CERTIFICATE_BYTES: usize = 4096;
/// Sessions that tickets can take up again; older ones are forgotten first.
const MAX_SESSIONS: usize = 4_096;

/// Both rustls configurations of one identity.
#[derive(Debug, Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    keys: hmac::Key,
}

impl Tls {
    /// Prepares both sides.
    ///
    /// # Errors
    /// When rustls does not take our key: a bug of ours.
    pub fn new(identity: &Identity) -> Result<Tls, Error> {
        let provider = Arc::new(suites());
        let certified = identity.certified()?;
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(KeyVerifier { expect: None }))
            .with_client_cert_resolver(certified.clone());
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(KeyVerifier { expect: None }))
            .with_cert_resolver(certified);
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        let keys = hmac::Key::new(hmac::HMAC_SHA256, identity.seed());
        Ok(Tls { client: Arc::new(client), server: Arc::new(server), keys })
    }

    /// The dialler's side. With `expect`, any other key ends the handshake before our certificate is shown.
    pub fn client(&self, expect: Option<PeerKey>) -> Arc<ClientConfig> {
        if expect.is_none() {
            return self.client.clone();
        }
        Arc::new(self.pinned(&self.client, expect))
    }

    /// A dialler's side that takes this key alone, when there is one.
    pub(crate) fn pinned(&self, config: &ClientConfig, expect: Option<PeerKey>) -> ClientConfig {
        let mut client = config.clone();
        if expect.is_some() {
            client.dangerous().set_certificate_verifier(Arc::new(KeyVerifier { expect }));
        }
        client
    }

    /// The dialler's side under QUIC, for anybody.
    pub(crate) fn quic_client(&self) -> ClientConfig {
        let mut client = (*self.client).clone();
        client.alpn_protocols = vec![QUIC_ALPN.to_vec()];
        client
    }

    /// One that keeps this peer's tickets, uses each once, and sends early data with them. rustls takes a ticket only
    /// together with the verifier that let its session come about, so it proves this peer.
    pub(crate) fn resuming(&self, config: &ClientConfig, peer: PeerKey) -> ClientConfig {
        let mut client = self.pinned(config, Some(peer));
        client.resumption = Resumption::in_memory_sessions(1);
        client.enable_early_data = true;
        client
    }

    /// The acceptor's side under QUIC. With `early`, each connection leaves one ticket, kept here and good for one
    /// session: whoever comes with a copy is a stranger.
    pub(crate) fn quic_server(&self, early: bool) -> ServerConfig {
        let mut server = (*self.server).clone();
        server.alpn_protocols = vec![QUIC_ALPN.to_vec()];
        if early {
            server.session_storage = ServerSessionMemoryCache::new(MAX_SESSIONS);
            server.send_tls13_tickets = 1;
            // All or nothing is what QUIC allows; flow control is what bounds it.
            server.max_early_data_size = u32::MAX;
        }
        server
    }

    /// The keys that stateless resets and connection ids are made with: the same after every start.
    pub(crate) fn quic_keys(&self) -> (hmac::Key, u64) {
        let reset = hmac::sign(&self.keys, b"peerkeep quic reset");
        let ids = hmac::sign(&self.keys, b"peerkeep quic ids");
        let id_key = ids.as_ref().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        (hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref()), id_key)
    }

    /// The acceptor's side.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// The name that rustls wants a dialler to have; it is neither sent nor looked at.
    pub fn no_name() -> ServerName<'static> {
        ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
    }
}

/// Whom the finished handshake proved, and that they speak our protocol.
///
/// # Errors
/// No or another protocol (fault H8), or a certificate without an Ed25519 key.
pub fn proven(common: &rustls::CommonState) -> Result<PeerKey, Fault> {
    key_in(common.alpn_protocol() == Some(ALPN), common.peer_certificates().unwrap_or_default())
}

/// The same for parts of a handshake.
pub(crate) fn key_in(speaks: bool, chain: &[CertificateDer<'_>]) -> Result<PeerKey, Fault> {
    if !speaks {
        return Err(secure(FaultKind::Protocol, Detail::NoProtocol));
    }
    match chain {
        [one] => key_of(one).map_err(|_| secure(FaultKind::Secure, Detail::Certificate)),
        _ => Err(secure(FaultKind::Secure, Detail::Certificate)),
    }
}

/// What a failed TLS handshake was, as a number beside the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Detail {
    /// Anything not listed here.
    Other,
    /// Bytes that are not TLS: a plaintext protocol, or garbage (fault H10).
    NotTls,
    /// An older TLS, or no common suite (fault H10).
    Incompatible,
    /// TLS without our protocol name.
    NoProtocol,
    /// A certificate that is too long, in a chain, unreadable, of another key type, or without a proof.
    Certificate,
    /// The other side said no in TLS's words.
    Alert,
    /// TLS is switched off here and the other side speaks something else, perhaps TLS.
    NotPlain,
    /// TLS is switched off for loopback alone, and the address is another.
    Exposed,
}

/// The fault of an I/O error during or after the TLS handshake.
pub fn fault_of(step: Step, error: &io::Error) -> Fault {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let (kind, detail) = match tls {
        Some(tls) => return Fault { step, ..classify(tls) },
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => (FaultKind::Closed, 0),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                (FaultKind::Reset, 0)
            }
            io::ErrorKind::TimedOut => (FaultKind::Timeout, 0),
            io::ErrorKind::OutOfMemory => (FaultKind::Resources, 0),
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => (FaultKind::Unreachable, 0),
            _ => (FaultKind::Os, error.raw_os_error().and_then(|n| u32::try_from(n).ok()).unwrap_or(0)),
        },
    };
    Fault { step, kind, detail }
}

fn classify(error: &Error) -> Fault {
    match error {
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
            secure(FaultKind::Identity, Detail::Certificate)
        }
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => {
            secure(FaultKind::Secure, Detail::Certificate)
        }
        Error::NoApplicationProtocol => secure(FaultKind::Protocol, Detail::NoProtocol),
        Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
            secure(FaultKind::Secure, Detail::Certificate)
        }
        Error::PeerIncompatible(_) => secure(FaultKind::Secure, Detail::Incompatible),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            secure(FaultKind::Secure, Detail::NotTls)
        }
        Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol) => {
            secure(FaultKind::Protocol, Detail::NoProtocol)
        }
        Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
            secure(FaultKind::Secure, Detail::Incompatible)
        }
        Error::AlertReceived(_) => secure(FaultKind::Secure, Detail::Alert),
        _ => secure(FaultKind::Secure, Detail::Other),
    }
}

const fn secure(kind: FaultKind, detail: Detail) -> Fault {
    Fault { step: Step::Secure, kind, detail: detail as u32 }
}

/// X25519 alone and the short hash first: one key share, never a second round.
fn suites() -> CryptoProvider {
    use provider::cipher_suite::*;
    CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_CHACHA20_POLY1305_SHA256,
            TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![provider::kx_group::X25519],
        signature_verification_algorithms: ED25519_ONLY,
        ..provider::default_provider()
    }
}

static ED25519_ONLY: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::ring::ED25519],
    mapping: &[(SignatureScheme::ED25519, &[webpki::ring::ED25519])],
};

/// The Ed25519 key of a certificate.
pub(crate) fn key_of(certificate: &CertificateDer<'_>) -> Result<PeerKey, CertificateError> {
    /// SubjectPublicKeyInfo of an Ed25519 key up to its 32 bytes (RFC 8410).
    const HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    if certificate.len() > MAX_CERTIFICATE_BYTES {
        return Err(CertificateError::BadEncoding);
    }
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let spki = parsed.subject_public_key_info();
    let key = spki.strip_prefix(&HEAD).and_then(|rest| <[u8; 32]>::try_from(rest).ok());
    key.map(PeerKey::ed25519).ok_or(CertificateError::BadEncoding)
}

/// Takes a chain of one certificate with an Ed25519 key that signs the handshake; pins the key when one is expected.
#[derive(Debug)]
struct KeyVerifier {
    expect: Option<PeerKey>,
}

impl KeyVerifier {
    fn check(&self, end: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !others.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        let key = key_of(end)?;
        match self.expect {
            Some(expect) if expect != key => Err(CertificateError::ApplicationVerificationFailure.into()),
            _ => Ok(()),
        }
    }
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &ED25519_ONLY)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for KeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &ED25519_ONLY)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
