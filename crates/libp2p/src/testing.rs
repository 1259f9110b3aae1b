//! What the tests of several modules need: an identity of every kind.

use libp2p_identity::Keypair;

/// One identity of each kind that libp2p knows.
pub fn every_kind() -> [Keypair; 4] {
    [Keypair::generate_ed25519(), Keypair::generate_secp256k1(), Keypair::generate_ecdsa(), rsa()]
}

/// Nothing here makes RSA keys, so it is one that everybody can read, and no secret.
pub fn rsa() -> Keypair {
    let mut der = include_bytes!("testdata/rsa-2048.pk8").to_vec();
    Keypair::rsa_from_pkcs8(&mut der).expect("a key")
}
