//! How a peer shows that it holds the key it is named by, whichever handshake carries that: the key in protobuf form, and
//! its signature over the key that encrypts. Knows no handshake and keeps no secret.

use crate::key::peer_key;
use libp2p_identity::PublicKey;
use peerkeep_core::PeerKey;

/// Longest public key that is looked at: an RSA key of 8,192 bits with room.
pub(crate) const MAX_KEY_BYTES: usize = 1_200;

/// Who was proven to be at the other end.
#[derive(Debug, Clone, PartialEq)]
pub struct Proven {
    /// Its key.
    pub public: PublicKey,
    /// Its name here.
    pub key: PeerKey,
}

/// Why nothing was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// What should be a key is none, or is spelled otherwise than it should be.
    Key,
    /// The key did not sign that.
    Signature,
}

/// Whose key this is, which is a claim: the signature is [`verify`]'s.
pub(crate) fn named(key: &[u8]) -> Result<Proven, Unproven> {
    if key.len() > MAX_KEY_BYTES {
        return Err(Unproven::Key);
    }
    let public = PublicKey::try_decode_protobuf(key).map_err(|_| Unproven::Key)?;
    // A key that is not in its one canonical form would give its holder two names (fault I2).
    if public.encode_protobuf() != key {
        return Err(Unproven::Key);
    }
    let key = peer_key(&public).ok_or(Unproven::Key)?;
    Ok(Proven { public, key })
}

/// The holder of `key`, who signed `domain` and `signed`, one after the other (fault H6).
pub(crate) fn verify(key: &[u8], domain: &[u8], signed: &[u8], signature: &[u8]) -> Result<Proven, Unproven> {
    let proven = named(key)?;
    match proven.public.verify(&[domain, signed].concat(), signature) {
        true => Ok(proven),
        false => Err(Unproven::Signature),
    }
}
