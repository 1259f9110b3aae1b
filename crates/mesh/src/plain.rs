//! TCP without TLS, for whoever leaves encryption to a tunnel: each side signs fresh nonces of both, so that the keys are
//! proven when the greeting begins. What is said after that anybody on the way can read and change.

use crate::Identity;
use crate::tls::{Detail, fault_of};
use peerkeep_core::{Addr, Fault, FaultKind, PeerKey, Step};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the first bytes say, in both directions: TLS begins with another byte.
pub const MAGIC: &[u8; 16] = b"peerkeep-plain/1";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;

/// What protects a node's connections over TCP. QUIC always has TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protection {
    /// TLS 1.3.
    #[default]
    Tls,
    /// Nothing of ours.
    ///
    /// # Security
    /// The other end is who it says at the moment of the greeting. Whoever is on the way can read everything and, after
    /// the greeting, take the other end's place.
    Plain {
        /// Also with addresses that are not loopback.
        anywhere: bool,
    },
}

impl Protection {
    /// Whether a connection with that address may be made without TLS.
    pub(crate) fn check(self, remote: &Addr) -> Result<(), Fault> {
        match self {
            Protection::Plain { anywhere: false } if !remote.is_loopback() => {
                Err(fault(FaultKind::Secure, Detail::Exposed))
            }
            _ => Ok(()),
        }
    }
}

/// One identity's side of it.
pub(crate) struct Plain {
    me: PeerKey,
    pair: Ed25519KeyPair,
}

impl Plain {
    /// # Errors
    /// When ring does not take our key: a bug of ours.
    pub fn new(identity: &Identity) -> Result<Plain, rustls::Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(identity.seed())
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Plain { me: identity.key(), pair })
    }

    /// The dialler's side: it shows its own key only to the one it expects, if it expects one.
    pub async fn dial(
        &self,
        tcp: &mut TcpStream,
        expect: Option<PeerKey>,
        random: &SystemRandom,
    ) -> Result<PeerKey, Fault> {
        let mine = nonce(random)?;
        say(tcp, &[MAGIC, &mine]).await?;
        hear_magic(tcp).await?;
        let (key, theirs) = (hear::<KEY_BYTES>(tcp).await?, hear::<NONCE_BYTES>(tcp).await?);
        let signature = hear::<SIGNATURE_BYTES>(tcp).await?;
        let claim = Claim { dialler: None, acceptor: &key, nonces: [&mine, &theirs] };
        claim.verify(&key, &signature)?;
        let peer = PeerKey::ed25519(key);
        if expect.is_some_and(|expect| expect != peer) {
            return Err(fault(FaultKind::Identity, Detail::Certificate));
        }
        let claim = Claim { dialler: Some(&self.me.bytes), ..claim };
        say(tcp, &[&self.me.bytes, &claim.sign(&self.pair)]).await?;
        Ok(peer)
    }

    /// The acceptor's side.
    pub async fn accept(&self, tcp: &mut TcpStream, random: &SystemRandom) -> Result<PeerKey, Fault> {
        hear_magic(tcp).await?;
        let (theirs, mine) = (hear::<NONCE_BYTES>(tcp).await?, nonce(random)?);
        let claim = Claim { dialler: None, acceptor: &self.me.bytes, nonces: [&theirs, &mine] };
        say(tcp, &[MAGIC, &self.me.bytes, &mine, &claim.sign(&self.pair)]).await?;
        let (key, signature) = (hear::<KEY_BYTES>(tcp).await?, hear::<SIGNATURE_BYTES>(tcp).await?);
        Claim { dialler: Some(&key), ..claim }.verify(&key, &signature)?;
        Ok(PeerKey::ed25519(key))
    }
}

/// What a signature says. The dialler's names the acceptor, so it is worth nothing to anybody else.
#[derive(Clone, Copy)]
struct Claim<'a> {
    /// The dialler, in its own claim.
    dialler: Option<&'a [u8; KEY_BYTES]>,
    acceptor: &'a [u8; KEY_BYTES],
    /// The dialler's and the acceptor's.
    nonces: [&'a [u8; NONCE_BYTES]; 2],
}

impl Claim<'_> {
    /// All parts have a fixed length for each side, so no two claims give the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let side: &[u8] = match self.dialler {
            Some(_) => b"peerkeep plain dialler\0\0",
            None => b"peerkeep plain acceptor\0",
        };
        let mut bytes = side.to_vec();
        self.nonces.iter().for_each(|nonce| bytes.extend_from_slice(*nonce));
        bytes.extend_from_slice(self.acceptor);
        bytes.extend_from_slice(self.dialler.map_or(&[][..], |key| key));
        bytes
    }

    fn sign(&self, pair: &Ed25519KeyPair) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(pair.sign(&self.bytes()).as_ref());
        signature
    }

    fn verify(&self, key: &[u8; KEY_BYTES], signature: &[u8]) -> Result<(), Fault> {
        let key = UnparsedPublicKey::new(&ED25519, key);
        key.verify(&self.bytes(), signature).map_err(|_| fault(FaultKind::Secure, Detail::Certificate))
    }
}

fn nonce(random: &SystemRandom) -> Result<[u8; NONCE_BYTES], Fault> {
    let mut nonce = [0; NONCE_BYTES];
    let filled = random.fill(&mut nonce);
    filled.map(|()| nonce).map_err(|_| Fault::new(Step::Secure, FaultKind::Resources))
}

async fn say(tcp: &mut TcpStream, parts: &[&[u8]]) -> Result<(), Fault> {
    tcp.write_all(&parts.concat()).await.map_err(|error| fault_of(Step::Secure, &error))
}

async fn hear<const COUNT: usize>(tcp: &mut TcpStream) -> Result<[u8; COUNT], Fault> {
    let mut bytes = [0; COUNT];
    tcp.read_exact(&mut bytes).await.map_err(|error| fault_of(Step::Secure, &error))?;
    Ok(bytes)
}

/// Byte by byte as far as it fits, so that whoever speaks something else is not waited for.
async fn hear_magic(tcp: &mut TcpStream) -> Result<(), Fault> {
    for expected in MAGIC {
        if hear::<1>(tcp).await? != [*expected] {
            return Err(fault(FaultKind::Protocol, Detail::NotPlain));
        }
    }
    Ok(())
}

const fn fault(kind: FaultKind, detail: Detail) -> Fault {
    Fault { step: Step::Secure, kind, detail: detail as u32 }
}
