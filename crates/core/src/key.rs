//! What names a peer on a stack: a concrete key of a tag and 32 bytes. No type parameter, no text form (that is the
//! library's, which knows the encodings people use).

use core::fmt;
use core::hash::{Hash, Hasher};
use serde::{Deserialize, Serialize};

/// What the 32 bytes of a [`PeerKey`] are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum KeyKind {
    /// A bare Ed25519 public key: the mesh, and libp2p's default identity.
    Ed25519,
    /// The x coordinate of a compressed secp256k1 key whose y is even.
    Secp256k1Even,
    /// The same with an odd y.
    Secp256k1Odd,
    /// A SHA-256 of a public key too long for 32 bytes (libp2p RSA and ECDSA identities).
    Sha256,
    /// A WireGuard public key.
    X25519,
    /// Not an identity: 16 bytes of address and 2 of port of somebody whose key is not known (yet, or ever).
    Address,
}

/// A peer's name on one stack. The order (tag, then bytes) is the order of identities in the two-dials rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PeerKey {
    /// What the bytes are.
    pub kind: KeyKind,
    /// The key itself.
    pub bytes: [u8; 32],
}

impl PeerKey {
    /// An Ed25519 identity.
    pub const fn ed25519(bytes: [u8; 32]) -> PeerKey {
        PeerKey { kind: KeyKind::Ed25519, bytes }
    }

    /// The name of somebody known by address only.
    pub fn from_addr(addr: crate::Addr) -> PeerKey {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&addr.ip);
        bytes[16..18].copy_from_slice(&addr.port.to_be_bytes());
        bytes[18] = addr.kind as u8;
        PeerKey { kind: KeyKind::Address, bytes }
    }

    /// The IP address that stands in for a key, as in [`crate::Addr::ip`]; `None` for an identity.
    pub fn host(&self) -> Option<[u8; 16]> {
        if self.is_identity() { None } else { self.bytes.first_chunk().copied() }
    }

    /// Whether this key can be proven by its holder. An address is never an identity.
    pub const fn is_identity(&self) -> bool {
        !matches!(self.kind, KeyKind::Address)
    }
}

/// In one write: a keyed hash is asked for in most steps, and its cost is per write more than per byte.
impl Hash for PeerKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [self.kind as u8; 33];
        bytes[1..].copy_from_slice(&self.bytes);
        state.write(&bytes);
    }
}

impl Hash for Who {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [self.stack as u8; 34];
        bytes[1] = self.key.kind as u8;
        bytes[2..].copy_from_slice(&self.key.bytes);
        state.write(&bytes);
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:", self.kind)?;
        for byte in &self.bytes[..6] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The four wire stacks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum StackId {
    /// Peerkeep's own protocol over TLS 1.3.
    Mesh,
    /// libp2p.
    Libp2p,
    /// Bitcoin and Bitcoin SV.
    Bitcoin,
    /// The WireGuard virtual LAN.
    Lan,
}

/// How many stacks there are.
pub const STACKS: usize = 4;

impl StackId {
    /// Its place in per-stack tables.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A contact's full name: a key on a stack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Who {
    /// Which stack.
    pub stack: StackId,
    /// Which key there.
    pub key: PeerKey,
}

impl Who {
    /// A peer of the mesh.
    pub const fn mesh(key: PeerKey) -> Who {
        Who { stack: StackId::Mesh, key }
    }
}

/// A contact's row and its generation: a handle that outlives its row is recognised as stale.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContactRef {
    /// Row in the contact table.
    pub row: u32,
    /// How often that row has been used before.
    pub generation: u32,
}

/// A conn's row and its generation. One per attempt or session, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnRef {
    /// Row in the conn table.
    pub row: u32,
    /// How often that row has been used before.
    pub generation: u32,
}

/// A ban's row and its generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct BanRef {
    /// Row in the ban table.
    pub row: u32,
    /// How often that row has been used before.
    pub generation: u32,
}

impl ConnRef {
    /// No conn at all.
    pub const NONE: ConnRef = ConnRef { row: u32::MAX, generation: 0 };
}

impl fmt::Debug for ContactRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}.{}", self.row, self.generation)
    }
}

impl fmt::Debug for ConnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.row, self.generation)
    }
}

impl fmt::Display for ConnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
