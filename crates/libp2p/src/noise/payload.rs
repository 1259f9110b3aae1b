//! What a Noise handshake carries beside keys: who holds the static key, and which multiplexers they speak. Checks the
//! proof; knows nothing of sockets. (libp2p specification `noise/README.md`, "Noise Handshake Payload".)

use super::NoiseError;
use crate::proof::{self, Proven, Unproven};
use libp2p_identity::Keypair;
use prost::Message;

/// What is signed is this and the static key.
const DOMAIN: &[u8] = b"noise-libp2p-static-key:";
/// Names of multiplexers that are looked at.
const MAX_MUXERS: usize = 16;

#[derive(Clone, PartialEq, Message)]
struct Payload {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    extensions: Option<Extensions>,
}

#[derive(Clone, PartialEq, Message)]
struct Extensions {
    #[prost(string, repeated, tag = "2")]
    muxers: Vec<String>,
}

/// Our payload. Made once a node: it does not change while the static key stays.
pub(crate) fn emit(pair: &Keypair, static_key: &[u8], muxers: &[&str]) -> Result<Vec<u8>, NoiseError> {
    let signature = pair.sign(&[DOMAIN, static_key].concat()).map_err(|_| NoiseError::Identity)?;
    let muxers: Vec<String> = muxers.iter().map(|&name| name.to_owned()).collect();
    let extensions = (!muxers.is_empty()).then_some(Extensions { muxers });
    Ok(Payload { key: pair.public().encode_protobuf(), signature, extensions }.encode_to_vec())
}

/// Whose payload it is, which the static key that the handshake has shown them to hold proves (fault H6), and the
/// multiplexers they speak, the best first; none when they did not say.
pub(crate) fn parse(bytes: &[u8], static_key: &[u8]) -> Result<(Proven, Vec<String>), NoiseError> {
    let payload = Payload::decode(bytes).map_err(|_| NoiseError::Payload)?;
    let proven = proof::verify(&payload.key, DOMAIN, static_key, &payload.signature)?;
    let mut muxers = payload.extensions.map(|extensions| extensions.muxers).unwrap_or_default();
    muxers.truncate(MAX_MUXERS);
    Ok((proven, muxers))
}

impl From<Unproven> for NoiseError {
    fn from(why: Unproven) -> NoiseError {
        match why {
            Unproven::Key => NoiseError::Payload,
            Unproven::Signature => NoiseError::Signature,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::every_kind;

    const STATIC: [u8; 32] = [3; 32];

    #[test]
    fn a_payload_proves_its_sender_and_says_its_muxers() {
        for pair in every_kind() {
            let bytes = emit(&pair, &STATIC, &["/yamux/1.0.0"]).expect("signs");
            let (proven, muxers) = parse(&bytes, &STATIC).expect("holds");
            assert_eq!((proven.public, muxers), (pair.public(), vec!["/yamux/1.0.0".to_owned()]));
        }
    }

    #[test]
    fn fault_h6_a_signature_for_another_static_key_or_by_another_identity_is_refused() {
        let (pair, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let bytes = emit(&pair, &STATIC, &[]).expect("signs");
        assert!(matches!(parse(&bytes, &[4; 32]), Err(NoiseError::Signature)));
        let mut forged = Payload::decode(&*bytes).expect("decodes");
        forged.key = other.public().encode_protobuf();
        assert!(matches!(parse(&forged.encode_to_vec(), &STATIC), Err(NoiseError::Signature)));
        forged.signature.clear();
        assert!(matches!(parse(&forged.encode_to_vec(), &STATIC), Err(NoiseError::Signature)));
    }

    #[test]
    fn fault_i2_a_key_in_another_spelling_is_refused() {
        let pair = Keypair::generate_ed25519();
        let mut payload = Payload::decode(&*emit(&pair, &STATIC, &[]).expect("signs")).expect("decodes");
        // An unknown field at the end, which a decoder skips.
        payload.key.extend_from_slice(&[0x18, 0x01]);
        assert!(parse(&payload.encode_to_vec(), &STATIC).is_err());
        payload.key = vec![0; 1 << 20];
        assert!(matches!(parse(&payload.encode_to_vec(), &STATIC), Err(NoiseError::Payload)));
    }
}
