//! The text form of a peer's key: libp2p's PeerId in base58 where the key kind has one. Whatever is not in its one
//! canonical spelling is refused (fault I2), so that one key never has two names.

use crate::AddressError;
use multiaddr::PeerId as Libp2pId;
use peerkeep_core::{Addr, KeyKind, PeerKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// A peer's key, as people read and write it: `12D3KooW…` for an Ed25519 identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub PeerKey);

/// Longest text that is looked at; the longest canonical id is shorter.
const MAX_TEXT: usize = 128;

/// An identity multihash of a protobuf public key: (type, length of the key).
const ED25519_HEAD: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
const SECP256K1_HEAD: [u8; 6] = [0x00, 0x25, 0x08, 0x02, 0x12, 0x21];
const SHA256_HEAD: [u8; 2] = [0x12, 0x20];

impl PeerId {
    /// The key itself.
    pub const fn key(&self) -> PeerKey {
        self.0
    }

    /// libp2p's binary form (a multihash); nothing for kinds that libp2p does not know.
    pub fn to_multihash(&self) -> Option<Vec<u8>> {
        let bytes = &self.0.bytes;
        Some(match self.0.kind {
            KeyKind::Ed25519 => [&ED25519_HEAD[..], bytes].concat(),
            KeyKind::Secp256k1Even => [&SECP256K1_HEAD[..], &[2], bytes].concat(),
            KeyKind::Secp256k1Odd => [&SECP256K1_HEAD[..], &[3], bytes].concat(),
            KeyKind::Sha256 => [&SHA256_HEAD[..], bytes].concat(),
            KeyKind::X25519 | KeyKind::Address => return None,
        })
    }

    /// From libp2p's binary form.
    ///
    /// # Errors
    /// [`AddressError::Id`] when it is not exactly the canonical form of a kind we know.
    pub fn from_multihash(hash: &[u8]) -> Result<PeerId, AddressError> {
        let key = |kind, bytes: &[u8]| {
            let bytes = bytes.try_into().map_err(|_| AddressError::Id("its key has the wrong length"))?;
            Ok(PeerId(PeerKey { kind, bytes }))
        };
        if let Some(rest) = hash.strip_prefix(&ED25519_HEAD) {
            return key(KeyKind::Ed25519, rest);
        }
        if let Some(rest) = hash.strip_prefix(&SECP256K1_HEAD) {
            return match rest.split_first() {
                Some((2, x)) => key(KeyKind::Secp256k1Even, x),
                Some((3, x)) => key(KeyKind::Secp256k1Odd, x),
                _ => Err(AddressError::Id("its secp256k1 key is not compressed")),
            };
        }
        if let Some(rest) = hash.strip_prefix(&SHA256_HEAD) {
            return key(KeyKind::Sha256, rest);
        }
        Err(AddressError::Id("it is no kind of peer id this program knows"))
    }

    /// As libp2p's own type, for multiaddresses.
    pub fn to_libp2p(&self) -> Option<Libp2pId> {
        Libp2pId::from_bytes(&self.to_multihash()?).ok()
    }
}

impl From<PeerKey> for PeerId {
    fn from(key: PeerKey) -> PeerId {
        PeerId(key)
    }
}

impl From<PeerId> for PeerKey {
    fn from(id: PeerId) -> PeerKey {
        id.0
    }
}

impl TryFrom<Libp2pId> for PeerId {
    type Error = AddressError;
    fn try_from(id: Libp2pId) -> Result<PeerId, AddressError> {
        PeerId::from_multihash(&id.to_bytes())
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.to_libp2p() {
            return fmt::Display::fmt(&id, f);
        }
        match self.0.kind {
            KeyKind::Address => match unnamed_addr(&self.0) {
                Some(addr) => write!(f, "address:{addr}"),
                None => f.write_str("address:?"),
            },
            kind => {
                write!(f, "{}:", kind_name(kind))?;
                self.0.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PeerId {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<PeerId, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.len() > MAX_TEXT {
            return Err(AddressError::TooLong);
        }
        let Some((kind, rest)) = text.split_once(':') else {
            // Base58 has one spelling for any bytes, and the bytes one form for any key.
            let id: Libp2pId = text.parse().map_err(|_| AddressError::Id("it is not base58 of a peer id"))?;
            return PeerId::try_from(id);
        };
        let id = tagged(kind, rest)?;
        // These have more than one spelling (capital hex digits, v4-mapped IPv6); only the one we print is taken.
        if id.to_string() == text { Ok(id) } else { Err(AddressError::Id("it is not spelled canonically")) }
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The address that stands in for the key of somebody whose key is not known.
pub(crate) fn unnamed_addr(key: &PeerKey) -> Option<Addr> {
    if key.kind != KeyKind::Address {
        return None;
    }
    let ip: [u8; 16] = key.bytes[..16].try_into().ok()?;
    let port = u16::from_be_bytes([key.bytes[16], key.bytes[17]]);
    let kind = match key.bytes[18] {
        0 => peerkeep_core::AddrKind::Tcp,
        1 => peerkeep_core::AddrKind::Quic,
        2 => peerkeep_core::AddrKind::Udp,
        _ => return None,
    };
    let addr = Addr { ip, port, kind };
    (PeerKey::from_addr(addr) == *key).then_some(addr)
}

fn kind_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Ed25519 => "ed25519",
        KeyKind::Secp256k1Even => "secp256k1-even",
        KeyKind::Secp256k1Odd => "secp256k1-odd",
        KeyKind::Sha256 => "sha256",
        KeyKind::X25519 => "x25519",
        KeyKind::Address => "address",
    }
}

fn tagged(kind: &str, rest: &str) -> Result<PeerId, AddressError> {
    match kind {
        "x25519" => {
            let bytes = crate::hex::decode_32(rest).ok_or(AddressError::Id("x25519 needs 64 hex digits"))?;
            Ok(PeerId(PeerKey { kind: KeyKind::X25519, bytes }))
        }
        "address" => {
            let (socket, kind) =
                rest.rsplit_once('/').ok_or(AddressError::Id("no kind after the address"))?;
            let kind = match kind {
                "tcp" => peerkeep_core::AddrKind::Tcp,
                "quic" => peerkeep_core::AddrKind::Quic,
                "udp" => peerkeep_core::AddrKind::Udp,
                _ => return Err(AddressError::Id("the address is neither tcp, quic nor udp")),
            };
            let socket = socket.parse().map_err(|_| AddressError::Id("no ip:port after `address:`"))?;
            Ok(PeerId(PeerKey::from_addr(Addr::new(socket, kind))))
        }
        _ => Err(AddressError::Id("it is no kind of peer id this program knows")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> Vec<PeerId> {
        let addr = Addr::tcp("1.2.3.4:5".parse().expect("address"));
        let mut ids = vec![PeerId(PeerKey::from_addr(addr))];
        for kind in [
            KeyKind::Ed25519,
            KeyKind::Secp256k1Even,
            KeyKind::Secp256k1Odd,
            KeyKind::Sha256,
            KeyKind::X25519,
        ] {
            ids.push(PeerId(PeerKey { kind, bytes: [7; 32] }));
        }
        ids
    }

    #[test]
    fn every_kind_of_key_has_a_text_that_reads_back() {
        for id in every_kind() {
            assert_eq!(id.to_string().parse::<PeerId>(), Ok(id), "{id}");
            let json = serde_json::to_string(&id).expect("serialises");
            assert_eq!(serde_json::from_str::<PeerId>(&json).expect("reads back"), id);
        }
    }

    #[test]
    fn an_ed25519_identity_is_libp2ps_peer_id() {
        let id = PeerId(PeerKey::ed25519([0; 32]));
        assert!(id.to_string().starts_with("12D3KooW"), "{id}");
        let theirs: Libp2pId = id.to_string().parse().expect("libp2p reads it");
        assert_eq!(PeerId::try_from(theirs), Ok(id));
    }

    #[test]
    fn fault_i2_bad_peer_ids_are_refused_with_a_reason() {
        let long = "1".repeat(1 << 20);
        for text in [
            "",
            " ",
            "12D3KooW",
            "12D3KooWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW0",
            "not-a-peer",
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5",
            "x25519:00",
            "x25519:zz",
            "address:1.2.3.4",
            "address:1.2.3.4:5/sctp",
            "bafzaajaiaejcal72gwuz2or47oyxxn6b3rkwdmmkrxgkjxzy3rzt5kczyn7lcm3l",
            "x25519:ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB",
            "address:[::ffff:1.2.3.4]:5/tcp",
            "address:1.2.3.4:05/tcp",
            long.as_str(),
        ] {
            assert!(text.parse::<PeerId>().is_err(), "{:.40} was taken", text);
        }
    }

    #[test]
    fn fault_i2_bad_multihashes_are_refused() {
        let good = PeerId(PeerKey::ed25519([9; 32])).to_multihash().expect("has one");
        assert!(PeerId::from_multihash(&good).is_ok());
        assert!(PeerId::from_multihash(&good[..37]).is_err(), "cut");
        assert!(PeerId::from_multihash(&[&good[..], &[0]].concat()).is_err(), "longer");
        assert!(PeerId::from_multihash(&[]).is_err(), "empty");
        let mut other = good.clone();
        other[0] = 0x13;
        assert!(PeerId::from_multihash(&other).is_err(), "another hash function");
        assert!(PeerId::from_multihash(&vec![0; 1 << 20]).is_err(), "1 MiB");
        let uncompressed = [&SECP256K1_HEAD[..], &[4], &[1; 32]].concat();
        assert!(PeerId::from_multihash(&uncompressed).is_err());
    }
}
