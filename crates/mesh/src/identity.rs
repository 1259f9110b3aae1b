//! A node's own key and the certificate made from it, and the secret of a network. Nothing here prints, compares in
//! variable time, or keeps a second copy of a secret.

use peerkeep_core::PeerKey;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SerialNumber, date_time_ymd};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A node's Ed25519 key, its public name, and the self-signed certificate that carries it.
#[derive(Clone)]
pub struct Identity {
    seed: Zeroizing<[u8; 32]>,
    key: PeerKey,
    certificate: CertificateDer<'static>,
}

/// Why an identity could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The operating system gave no randomness (fault R10): there is no fallback.
    #[error("the operating system gave no randomness")]
    NoRandomness,
    /// The 32 bytes do not make an Ed25519 key, or a certificate could not be made from it.
    #[error("the key or its certificate could not be made")]
    BadKey,
}

impl Identity {
    /// A new identity from the operating system's randomness.
    ///
    /// # Errors
    /// When there is none.
    pub fn generate() -> Result<Identity, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut seed[..]).map_err(|_| IdentityError::NoRandomness)?;
        Identity::from_seed(&seed)
    }

    /// The identity with this private seed (RFC 8032). The certificate is the same each time.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Identity, IdentityError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| IdentityError::BadKey)?;
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        let certificate = certificate(seed).map_err(|_| IdentityError::BadKey)?;
        Ok(Identity { seed: Zeroizing::new(*seed), key: PeerKey::ed25519(public), certificate })
    }

    /// The public name.
    pub fn key(&self) -> PeerKey {
        self.key
    }

    /// The private seed, for the file that keeps it.
    ///
    /// # Security
    /// Whoever holds it is this node.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        self.certificate.as_ref()
    }

    /// What rustls shows and signs with, on both sides of a connection.
    pub(crate) fn certified(&self) -> Result<Arc<SingleCertAndKey>, rustls::Error> {
        let der = pkcs8(&self.seed);
        let key = rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&der[..]))?;
        let certified = CertifiedKey::new(vec![self.certificate.clone()], key);
        Ok(Arc::new(SingleCertAndKey::from(certified)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The secret that members of one network share; it never crosses the wire.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// A network secret shorter than [`MIN_SECRET_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network secret needs at least {MIN_SECRET_BYTES} bytes")]
pub struct ShortSecret;

/// A peer that is dialled without an expected identity can try guesses at the secret offline, so it has to be long.
pub const MIN_SECRET_BYTES: usize = 16;

impl Secret {
    /// Whether both are the same. For our own files only: its time may tell where they differ.
    pub fn is_same(&self, other: &Secret) -> bool {
        *self.0 == *other.0
    }

    /// Wraps the bytes that all members share.
    ///
    /// # Errors
    /// When they are fewer than [`MIN_SECRET_BYTES`].
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Secret, ShortSecret> {
        let bytes = Zeroizing::new(bytes.into());
        if bytes.len() < MIN_SECRET_BYTES { Err(ShortSecret) } else { Ok(Secret(bytes)) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The seed in PKCS#8, version 1 (RFC 8410).
fn pkcs8(seed: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    const HEAD: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let mut der = Zeroizing::new(Vec::with_capacity(HEAD.len() + seed.len()));
    der.extend_from_slice(&HEAD);
    der.extend_from_slice(seed);
    der
}

/// Serial, names and dates are the same for everybody: only the key means anything, and nobody reads the dates.
fn certificate(seed: &[u8; 32]) -> Result<CertificateDer<'static>, rcgen::Error> {
    let der = pkcs8(seed);
    let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(&der[..]))?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from(1));
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(4096, 1, 1);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "peerkeep");
    Ok(params.self_signed(&pair)?.der().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_name_and_certificate() {
        let one = Identity::from_seed(&[7; 32]).expect("makes");
        let two = Identity::from_seed(&[7; 32]).expect("makes");
        assert_eq!(one.key(), two.key());
        assert_eq!(one.certificate(), two.certificate());
        assert!(one.certificate().len() < 512);
        assert_ne!(one.key(), Identity::generate().expect("makes").key());
    }

    #[test]
    fn secrets_are_not_printed() {
        let identity = Identity::from_seed(&[0xab; 32]).expect("makes");
        let secret = Secret::new(vec![0xcd; 16]).expect("long enough");
        let text = format!("{identity:?} {secret:?}");
        assert!(!text.contains("171") && !text.contains("abab"), "{text}");
        assert!(!text.contains("205") && !text.contains("cdcd"), "{text}");
    }

    #[test]
    fn a_short_network_secret_is_refused() {
        assert_eq!(Secret::new(vec![1; 15]).unwrap_err(), ShortSecret);
    }
}
