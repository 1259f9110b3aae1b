//! The certificate that libp2p nodes show in TLS: signed by a key of its own, with an extension in which the node's
//! identity signs that key. Read and checked as the specification says (libp2p specification `tls/tls.md`, "Peer
//! Authentication"); knows no connection.
//!
//! Read with `der`, which the keys of `libp2p-identity` bring anyway and which keeps every part as it was signed. `webpki`
//! refuses each certificate whose extension is marked critical, as others' are; `x509-parser` brings a parser and eight crates more.

use super::TlsError;
use crate::proof::{self, Proven, Unproven};
use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, OctetStringRef, SequenceRef, UtcTime};
use der::{Encode, Reader, SliceReader, Tag, TagNumber, Tagged};
use libp2p_identity::Keypair;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PublicKeyData, date_time_ymd};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, OtherError, SignatureScheme};
use std::sync::Arc;

/// The longest certificate that is looked at (fault H8): one of the longest RSA identity fits.
pub const MAX_CERTIFICATE_BYTES: usize = 4_096;

/// What the identity signs is this and the certificate's SubjectPublicKeyInfo.
const DOMAIN: &[u8] = b"libp2p-tls-handshake:";
/// The name of the extension, 1.3.6.1.4.1.53594.1.1, and how that is written.
const EXTENSION: [u64; 9] = [1, 3, 6, 1, 4, 1, 53_594, 1, 1];
const EXTENSION_BYTES: [u8; 10] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xa2, 0x5a, 0x01, 0x01];
/// Version 3, the one that has extensions.
const VERSION: [u8; 5] = [0xa0, 0x03, 0x02, 0x01, 0x02];
/// Where the extensions stand.
const EXTENSIONS: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber(3) };

/// What certificates and handshakes may be signed with: what libp2p nodes use, on named curves and with long hashes.
pub(super) static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::ring::ECDSA_P256_SHA256, webpki::ring::ED25519],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[webpki::ring::ECDSA_P256_SHA256]),
        (SignatureScheme::ED25519, &[webpki::ring::ED25519]),
    ],
};

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// More bytes than [`MAX_CERTIFICATE_BYTES`].
    #[error("it is longer than {MAX_CERTIFICATE_BYTES} bytes")]
    TooLong,
    /// Not a certificate of version 3, or one that says something twice or in two ways.
    #[error("it is no certificate")]
    Malformed,
    /// An extension that has to be understood and is not.
    #[error("it has a critical extension that is not known")]
    Critical,
    /// Without libp2p's extension.
    #[error("it names no libp2p identity")]
    NoIdentity,
    /// A key or a signature of another kind than libp2p's nodes use.
    #[error("its key or signature is of a kind that is not taken")]
    Algorithm,
    /// Its own key did not sign it.
    #[error("its own key did not sign it")]
    SelfSignature,
    /// Too early, by our clock.
    #[error("it is not valid yet")]
    NotYet,
    /// Too late, by our clock.
    #[error("it is no longer valid")]
    Expired,
    /// The identity is no key of libp2p's.
    #[error("its libp2p identity is no key")]
    Key,
    /// The identity did not sign the certificate's key.
    #[error("the libp2p identity did not sign it")]
    Signature,
}

/// A certificate, read and not yet checked.
#[derive(Debug)]
pub(crate) struct Certificate<'a> {
    /// All that its own key signs.
    pub(super) signed: &'a [u8],
    signed_with: &'a [u8],
    signature: &'a [u8],
    /// SubjectPublicKeyInfo, whole.
    pub(super) spki: &'a [u8],
    /// Seconds since 1970, both included.
    valid: (u64, u64),
    identity: Identity<'a>,
}

#[derive(Debug, Clone, Copy)]
struct Identity<'a> {
    key: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads one; what it holds is a claim until [`Certificate::check`].
    pub fn parse(bytes: &'a [u8]) -> Result<Certificate<'a>, BadCertificate> {
        if bytes.len() > MAX_CERTIFICATE_BYTES {
            return Err(BadCertificate::TooLong);
        }
        let (signed, signed_with, signature) = whole(bytes, |parts| {
            let signed = parts.tlv_bytes()?;
            let signed_with = sequence(parts)?;
            Ok((signed, signed_with, bits(parts)?))
        })?;
        whole(signed, |parts| {
            if parts.tlv_bytes()? != VERSION {
                return Err(BadCertificate::Malformed);
            }
            value(parts, Tag::Integer)?;
            if sequence(parts)? != signed_with {
                return Err(BadCertificate::Malformed);
            }
            let _issuer = sequence(parts)?;
            let valid = parts.sequence(|dates| Ok::<_, BadCertificate>((time(dates)?, time(dates)?)))?;
            let _subject = sequence(parts)?;
            let spki = parts.tlv_bytes()?;
            if parts.is_finished() {
                return Err(BadCertificate::NoIdentity);
            }
            // Unique identifiers, which stand before the extensions, are not allowed.
            let identity = whole(value(parts, EXTENSIONS)?, extensions)?;
            Ok(Certificate { signed, signed_with, signature, spki, valid, identity })
        })
    }

    /// Who made it, proven: what is left to prove is that they hold its key, which is the handshake's.
    pub fn check(&self, now: UnixTime) -> Result<Proven, BadCertificate> {
        let (from, to) = self.valid;
        match now.as_secs() {
            now if now < from => return Err(BadCertificate::NotYet),
            now if now > to => return Err(BadCertificate::Expired),
            _ => {}
        }
        let (algorithm, key) = whole(self.spki, |parts| Ok((sequence(parts)?, bits(parts)?)))?;
        let known = ALGORITHMS.all.iter().find(|known| {
            *known.signature_alg_id() == *self.signed_with && *known.public_key_alg_id() == *algorithm
        });
        let known = known.ok_or(BadCertificate::Algorithm)?;
        known
            .verify_signature(key, self.signed, self.signature)
            .map_err(|_| BadCertificate::SelfSignature)?;
        Ok(proof::verify(self.identity.key, DOMAIN, self.spki, self.identity.signature)?)
    }

    /// Who it says made it, for a certificate that was checked before.
    pub fn maker(&self) -> Result<Proven, BadCertificate> {
        Ok(proof::named(self.identity.key)?)
    }
}

/// The one identity among the extensions.
fn extensions<'a>(list: &mut SliceReader<'a>) -> Result<Identity<'a>, BadCertificate> {
    let mut found = None;
    while !list.is_finished() {
        let (id, critical, value) = list.sequence(|parts| {
            let id = value(parts, Tag::ObjectIdentifier)?;
            let next: AnyRef<'a> = parts.decode()?;
            match next.tag() {
                Tag::Boolean => Ok((id, next.decode_as()?, value(parts, Tag::OctetString)?)),
                Tag::OctetString => Ok((id, false, next.value())),
                _ => Err(BadCertificate::Malformed),
            }
        })?;
        match (id == EXTENSION_BYTES, critical) {
            (false, true) => return Err(BadCertificate::Critical),
            (false, false) => {}
            (true, _) if found.is_some() => return Err(BadCertificate::Malformed),
            (true, _) => {
                found = Some(whole(value, |parts| {
                    let key = self::value(parts, Tag::OctetString)?;
                    Ok(Identity { key, signature: self::value(parts, Tag::OctetString)? })
                })?);
            }
        }
    }
    found.ok_or(BadCertificate::NoIdentity)
}

/// One sequence and nothing after it.
fn whole<'a, T>(
    bytes: &'a [u8],
    read: impl FnOnce(&mut SliceReader<'a>) -> Result<T, BadCertificate>,
) -> Result<T, BadCertificate> {
    let mut reader = SliceReader::new(bytes)?;
    let parts = reader.sequence(read)?;
    reader.finish()?;
    Ok(parts)
}

fn value<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> Result<&'a [u8], BadCertificate> {
    let next: AnyRef<'a> = reader.decode()?;
    if next.tag() == tag { Ok(next.value()) } else { Err(BadCertificate::Malformed) }
}

fn sequence<'a>(reader: &mut SliceReader<'a>) -> Result<&'a [u8], BadCertificate> {
    Ok(reader.decode::<&SequenceRef>()?.as_bytes())
}

fn bits<'a>(reader: &mut SliceReader<'a>) -> Result<&'a [u8], BadCertificate> {
    reader.decode::<BitStringRef<'a>>()?.as_bytes().ok_or(BadCertificate::Malformed)
}

/// Seconds since 1970.
fn time(reader: &mut SliceReader<'_>) -> Result<u64, BadCertificate> {
    let next: AnyRef<'_> = reader.decode()?;
    let since = match next.tag() {
        Tag::UtcTime => next.decode_as::<UtcTime>()?.to_unix_duration(),
        _ => next.decode_as::<GeneralizedTime>()?.to_unix_duration(),
    };
    Ok(since.as_secs())
}

impl From<der::Error> for BadCertificate {
    fn from(_: der::Error) -> BadCertificate {
        BadCertificate::Malformed
    }
}

impl From<Unproven> for BadCertificate {
    fn from(why: Unproven) -> BadCertificate {
        match why {
            Unproven::Key => BadCertificate::Key,
            Unproven::Signature => BadCertificate::Signature,
        }
    }
}

impl From<BadCertificate> for CertificateError {
    fn from(why: BadCertificate) -> CertificateError {
        match why {
            BadCertificate::TooLong | BadCertificate::Malformed => CertificateError::BadEncoding,
            BadCertificate::Critical => CertificateError::UnhandledCriticalExtension,
            BadCertificate::SelfSignature | BadCertificate::Signature => CertificateError::BadSignature,
            BadCertificate::NotYet => CertificateError::NotValidYet,
            BadCertificate::Expired => CertificateError::Expired,
            BadCertificate::NoIdentity | BadCertificate::Algorithm | BadCertificate::Key => {
                CertificateError::Other(OtherError(Arc::new(why)))
            }
        }
    }
}

/// A key for TLS alone, and the certificate in which the identity vouches for it. Names and dates tell nothing; the dates
/// hold whatever the other side's clock says.
pub(super) fn make(pair: &Keypair) -> Result<(CertificateDer<'static>, KeyPair), TlsError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|_| TlsError::Certificate)?;
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1975, 1, 1);
    params.not_after = date_time_ymd(4096, 1, 1);
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![vouch(pair, &key.subject_public_key_info())?];
    let certificate = params.self_signed(&key).map_err(|_| TlsError::Certificate)?;
    Ok((certificate.der().clone(), key))
}

/// The extension for that key. Not critical, so that whoever reads certificates with other tools can read it.
pub(super) fn vouch(pair: &Keypair, spki: &[u8]) -> Result<CustomExtension, TlsError> {
    let signature = pair.sign(&[DOMAIN, spki].concat()).map_err(|_| TlsError::Identity)?;
    let content = signed_key(&pair.public().encode_protobuf(), &signature);
    content.map(|der| CustomExtension::from_oid_content(&EXTENSION, der)).map_err(|_| TlsError::Certificate)
}

/// libp2p's SignedKey.
pub(super) fn signed_key(key: &[u8], signature: &[u8]) -> der::Result<Vec<u8>> {
    let mut parts = OctetStringRef::new(key)?.to_der()?;
    OctetStringRef::new(signature)?.encode_to_vec(&mut parts)?;
    AnyRef::new(Tag::Sequence, &parts)?.to_der()
}
