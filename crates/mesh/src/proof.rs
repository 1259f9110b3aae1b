//! Membership: a MAC that shows knowledge of the network's secret, bound to both proven keys, the side and the hello's
//! nonce. Pure. The secret itself never crosses the wire, and a proof is worth nothing to anybody else.

use crate::Secret;
use peerkeep_core::PeerKey;
use ring::{digest, hmac};

/// A network's number: SHA-256 over a fixed label and its name.
pub fn network_id(name: &str) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(b"peerkeep network\0");
    hash.update(name.as_bytes());
    let mut id = [0; 32];
    id.copy_from_slice(hash.finish().as_ref());
    id
}

/// Which side proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that connected.
    Dialler,
    /// The one that was connected to.
    Acceptor,
}

/// What a proof is bound to, the secret aside. TLS has proven both keys before either proof is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Who proves.
    pub side: Side,
    /// The network's number.
    pub network: &'a [u8; 32],
    /// The dialler's key.
    pub dialler: &'a PeerKey,
    /// The acceptor's key.
    pub acceptor: &'a PeerKey,
    /// The hello's nonce.
    pub nonce: &'a [u8],
}

impl Claim<'_> {
    /// HMAC-SHA256 with the secret as key.
    pub fn prove(&self, secret: &Secret) -> Vec<u8> {
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.bytes()));
        self.feed(|part| mac.update(part));
        mac.sign().as_ref().to_vec()
    }

    /// Whether `proof` is that value, compared in constant time.
    pub fn holds(&self, secret: &Secret, proof: &[u8]) -> bool {
        let mut message = Vec::with_capacity(160);
        self.feed(|part| message.extend_from_slice(part));
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret.bytes()), &message, proof).is_ok()
    }

    /// All parts but the nonce have a fixed length, so no two claims give the same bytes.
    fn feed(&self, mut part: impl FnMut(&[u8])) {
        part(match self.side {
            Side::Dialler => b"peerkeep proof dialler\0\0",
            Side::Acceptor => b"peerkeep proof acceptor\0",
        });
        part(self.network);
        part(&self.dialler.bytes);
        part(&self.acceptor.bytes);
        part(self.nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_own_claim_alone() {
        let (a, b) = (PeerKey::ed25519([1; 32]), PeerKey::ed25519([2; 32]));
        let (network, other) = (network_id("lab"), network_id("home"));
        let secret = Secret::new(vec![9; 32]).expect("long enough");
        let claim =
            Claim { side: Side::Dialler, network: &network, dialler: &a, acceptor: &b, nonce: &[5; 16] };
        let proof = claim.prove(&secret);
        assert!(claim.holds(&secret, &proof));
        assert!(!claim.holds(&Secret::new(vec![8; 32]).expect("long enough"), &proof));
        assert!(!Claim { side: Side::Acceptor, ..claim }.holds(&secret, &proof));
        assert!(!Claim { network: &other, ..claim }.holds(&secret, &proof));
        assert!(!Claim { dialler: &b, acceptor: &a, ..claim }.holds(&secret, &proof));
        assert!(!Claim { nonce: &[6; 16], ..claim }.holds(&secret, &proof));
        for cut in 0..proof.len() {
            assert!(!claim.holds(&secret, &proof[..cut]));
        }
    }
}
