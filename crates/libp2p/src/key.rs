//! libp2p's keys and ours: every kind of identity that libp2p knows has one [`PeerKey`], made as its peer id is, so a
//! peer seen here and in the mesh is one peer. Keeps no secret and decides nothing.

use libp2p_identity::{KeyType, PublicKey};
use peerkeep_core::{KeyKind, PeerKey};

/// Longest public key in protobuf form that stands in a peer id itself; a longer one is named by its hash.
const INLINE_KEY_BYTES: usize = 42;
/// A multihash of a SHA-256: code and length.
const SHA256_HEAD: [u8; 2] = [0x12, 0x20];

/// The name of whoever holds that key. `None` for a kind that has none here; there is none today.
///
/// Shapes as in libp2p's peer-id specification: Ed25519 and secp256k1 keys are their own names, RSA and ECDSA keys are
/// named by the SHA-256 of their protobuf form.
pub fn peer_key(public: &PublicKey) -> Option<PeerKey> {
    match public.key_type() {
        KeyType::Ed25519 => Some(PeerKey::ed25519(public.clone().try_into_ed25519().ok()?.to_bytes())),
        KeyType::Secp256k1 => {
            let bytes = public.clone().try_into_secp256k1().ok()?.to_bytes();
            let (sign, x) = bytes.split_first()?;
            let kind = match sign {
                2 => KeyKind::Secp256k1Even,
                3 => KeyKind::Secp256k1Odd,
                _ => return None,
            };
            Some(PeerKey { kind, bytes: x.try_into().ok()? })
        }
        KeyType::RSA | KeyType::Ecdsa => hashed(public),
    }
}

/// The name of a key too long to be one.
fn hashed(public: &PublicKey) -> Option<PeerKey> {
    debug_assert!(public.encode_protobuf().len() > INLINE_KEY_BYTES, "shorter keys name themselves");
    let id = public.to_peer_id().to_bytes();
    let bytes = id.strip_prefix(&SHA256_HEAD)?.try_into().ok()?;
    Some(PeerKey { kind: KeyKind::Sha256, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p_identity::Keypair;

    #[test]
    fn an_ed25519_key_is_the_one_the_mesh_knows() {
        let pair = Keypair::ed25519_from_bytes([7; 32]).expect("a seed");
        let bytes = pair.public().try_into_ed25519().expect("it is one").to_bytes();
        assert_eq!(peer_key(&pair.public()), Some(PeerKey::ed25519(bytes)));
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let secp = Keypair::generate_secp256k1();
        let name = peer_key(&secp.public()).expect("a name");
        assert!(matches!(name.kind, KeyKind::Secp256k1Even | KeyKind::Secp256k1Odd));
        let ecdsa = Keypair::generate_ecdsa();
        let name = peer_key(&ecdsa.public()).expect("a name");
        assert_eq!(name.kind, KeyKind::Sha256);
        assert_eq!(
            ecdsa.public().to_peer_id().to_bytes()[2..],
            name.bytes,
            "the hash of libp2p's own peer id"
        );
    }
}
