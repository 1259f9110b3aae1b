//! Where snow's parts come from: ring's ChaCha20-Poly1305, SHA-256 and randomness, and the X25519 of `x25519-dalek`, since
//! ring keeps no static keys. Refuses keys of low order, whose shared secret everybody knows (fault H5).

use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;

/// The parts of libp2p's one Noise protocol.
pub(super) struct Parts;

impl CryptoResolver for Parts {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        RingResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(Curve::default()) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        RingResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        RingResolver.resolve_cipher(choice)
    }
}

/// One side's key pair.
#[derive(Default)]
struct Curve {
    private: Zeroizing<[u8; KEY_BYTES]>,
    public: [u8; KEY_BYTES],
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_BYTES
    }

    fn priv_len(&self) -> usize {
        KEY_BYTES
    }

    fn set(&mut self, private: &[u8]) {
        if let Ok(private) = private.try_into() {
            self.private = Zeroizing::new(private);
            self.public = PublicKey::from(&StaticSecret::from(private)).to_bytes();
        }
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        let mut private = Zeroizing::new([0; KEY_BYTES]);
        random.try_fill_bytes(&mut *private)?;
        self.set(&*private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    fn dh(&self, theirs: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let theirs: [u8; KEY_BYTES] =
            theirs.get(..KEY_BYTES).and_then(|key| key.try_into().ok()).ok_or(Error::Dh)?;
        let shared = StaticSecret::from(*self.private).diffie_hellman(&PublicKey::from(theirs));
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out.get_mut(..KEY_BYTES).ok_or(Error::Dh)?.copy_from_slice(shared.as_bytes());
        Ok(())
    }
}
