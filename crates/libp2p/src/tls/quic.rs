//! What QUIC needs of libp2p's TLS: one protocol name, bounded transport parameters, and keys that stay the same after
//! every start. (libp2p specification `quic/README.md`.)

use super::{ALPN, TlsError, TlsNode, maker};
use crate::proof::Proven;
use libp2p_identity::Keypair;
use peerkeep_core::PeerKey;
use peerkeep_net::{QuicDial, QuicServer};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{Connection, IdleTimeout, TransportConfig, VarInt};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Bytes of one stream that may wait for a reader. Each stream has its own, as over Yamux, so that those that nobody reads
/// stall no other.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes that may be on their way to the other side.
const SEND_WINDOW_BYTES: u64 = 1024 * 1024;
/// First packets kept until the core has judged, per connection and in all.
const INCOMING_BYTES: u64 = 8 * 1024;
const INCOMING_TOTAL_BYTES: u64 = 1024 * 1024;
/// How long an address proof may be used after it was given.
const RETRY_LIFETIME: Duration = Duration::from_secs(5);
/// The name that quinn wants a dialler to have; it is not sent.
const NO_NAME: &str = "libp2p";

/// How long QUIC connections stay, and how wide they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuicTerms {
    /// Streams the other side may have open; each may keep 256 KiB waiting here. Default 256.
    pub streams: u32,
    /// Silence before a packet is sent. `None`, the default, sends none.
    pub keepalive: Option<Duration>,
    /// Silence after which the connection is over. `None`, the default, lets silence end nothing: the core watches it.
    pub idle: Option<Duration>,
}

impl Default for QuicTerms {
    fn default() -> QuicTerms {
        QuicTerms { streams: 256, keepalive: None, idle: None }
    }
}

/// The keys that stateless resets and connection ids are made with.
#[derive(Debug, Clone)]
pub(super) struct Keys(hmac::Key);

impl Keys {
    /// From the identity, so that they are the same after every start. An RSA identity gives nothing away to derive from:
    /// its resets mean nothing to peers that knew the last run.
    pub fn new(pair: &Keypair) -> Result<Keys, TlsError> {
        let mut secret = Zeroizing::new([0; 32]);
        match pair.derive_secret(b"peerkeep libp2p quic").map(Zeroizing::new) {
            Some(derived) => secret = derived,
            None => SystemRandom::new().fill(&mut secret[..]).map_err(|_| TlsError::Certificate)?,
        }
        Ok(Keys(hmac::Key::new(hmac::HMAC_SHA256, &secret[..])))
    }

    fn reset_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.0, b"reset").as_ref())
    }

    fn id_key(&self) -> u64 {
        let tag = hmac::sign(&self.0, b"ids");
        tag.as_ref().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

impl TlsNode {
    /// What QUIC is answered with.
    ///
    /// # Errors
    /// When rustls and quinn do not fit: a bug of ours.
    pub fn quic_server(&self, terms: &QuicTerms) -> Result<QuicServer, TlsError> {
        let mut tls = (*self.server).clone();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicServerConfig::try_from(tls).map_err(no_suite)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport(terms)));
        config.retry_token_lifetime(RETRY_LIFETIME);
        config.max_incoming(2 * peerkeep_net::MAX_UNDECIDED);
        config.incoming_buffer_size(INCOMING_BYTES).incoming_buffer_size_total(INCOMING_TOTAL_BYTES);
        Ok(QuicServer { config, reset_key: Arc::new(self.quic.reset_key()), id_key: self.quic.id_key() })
    }

    /// What a QUIC address is dialled with. With `expect`, any other identity ends the handshake before ours is shown.
    ///
    /// # Errors
    /// When rustls and quinn do not fit: a bug of ours.
    pub fn quic_dial(&self, terms: &QuicTerms, expect: Option<PeerKey>) -> Result<QuicDial, TlsError> {
        let mut tls = self.pinned(expect);
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicClientConfig::try_from(tls).map_err(no_suite)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport(terms)));
        Ok(QuicDial { config, server_name: NO_NAME.to_owned(), early: Vec::new() })
    }
}

/// Whom a finished QUIC handshake proved, and that they speak libp2p.
///
/// # Errors
/// [`TlsError::NoProtocol`], [`TlsError::NoIdentity`] or [`TlsError::BadCertificate`].
///
/// # Security
/// Proves nothing for a connection that was not configured by [`TlsNode`].
pub fn proven_quic(connection: &Connection) -> Result<Proven, TlsError> {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    if data.and_then(|data| data.protocol).as_deref() != Some(ALPN) {
        return Err(TlsError::NoProtocol);
    }
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'_>>>().ok());
    maker(chain.as_deref().map_or(&[], Vec::as_slice))
}

/// Bounded in every direction. libp2p opens streams both ways and sends no datagrams.
fn transport(terms: &QuicTerms) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(terms.streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(terms.streams.saturating_mul(STREAM_WINDOW_BYTES)))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(terms.keepalive)
        .max_idle_timeout(terms.idle.and_then(|idle| IdleTimeout::try_from(idle).ok()));
    config
}

fn no_suite(error: impl std::fmt::Display) -> TlsError {
    TlsError::Config(rustls::Error::General(error.to_string()))
}
