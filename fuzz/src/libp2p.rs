//! What libp2p nodes send: certificates, identify's messages, Noise and what it carries; and the key file of a private
//! network.

use super::input::Input;
use peerkeep_libp2p::fuzzing;
use peerkeep_libp2p::identify::{
    Identity, MAX_ADDRESSES, MAX_MESSAGE_BYTES, MAX_PROTOCOL_BYTES, MAX_PROTOCOLS, MAX_TEXT_BYTES,
};
use peerkeep_libp2p::tls::MAX_CERTIFICATE_BYTES;

/// A certificate from the wire: whoever is named in it is taken only if they signed it, and reading it costs little.
pub fn certificate(data: &[u8]) {
    let mut claimed = None;
    let spent = allocation_counter::measure(|| claimed = fuzzing::certificate(data));
    // Keys and signatures in the forms that the cryptography wants them in.
    let budget = 64 * 1_024 + 4 * u64::try_from(data.len()).unwrap_or(u64::MAX);
    assert!(spent.bytes_max <= budget, "{spent:?} for {} bytes", data.len());
    assert!(claimed.is_none() || data.len() <= MAX_CERTIFICATE_BYTES);
}

/// An identify message: what is kept has bounds, can be said again, and harms no terminal.
pub fn identify(data: &[u8]) {
    let mut heard = None;
    let spent = allocation_counter::measure(|| heard = Identity::parse(data, b"key").ok());
    // An empty text has two bytes on the wire and its place in a list that grows.
    let budget = 4_096 + 64 * u64::try_from(data.len()).unwrap_or(u64::MAX);
    assert!(spent.bytes_max <= budget, "{spent:?} for {} bytes", data.len());
    let Some(heard) = heard else { return };
    assert!(data.len() <= MAX_MESSAGE_BYTES);
    assert!(heard.listen.len() <= MAX_ADDRESSES && heard.protocols.len() <= MAX_PROTOCOLS);
    assert!(heard.protocols.iter().all(|name| (1..=MAX_PROTOCOL_BYTES).contains(&name.len())));
    for text in [&heard.version, &heard.agent] {
        assert!(text.len() <= MAX_TEXT_BYTES && !text.contains(char::is_control), "{text:?}");
    }
    let said = heard.emit(b"key");
    if let Ok(again) = Identity::parse(&said, b"key") {
        let parts = |identity: Identity| (identity.listen, identity.protocols, identity.observed);
        assert_eq!(parts(again), parts(heard), "said and heard again");
    } else {
        assert!(said.len() > MAX_MESSAGE_BYTES, "only its length can be wrong");
    }
}

/// A private network's key file.
pub fn key_file(data: &[u8]) {
    if let Some(fingerprint) = fuzzing::key_file(data) {
        assert!(fingerprint.len() == 32 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}

/// Noise in either role against anything, in pieces, or what it carries, which proves the one who signed it alone.
pub fn noise(data: &[u8]) {
    let mut input = Input(data);
    let (how, cut) = (input.byte() % 3, usize::from(input.byte()));
    if how == 2 {
        let truth = fuzzing::noise_payload(&fuzzing::true_payload([7; 32], &[]));
        let proven = fuzzing::noise_payload(input.0);
        assert!(proven.is_none() || proven == truth, "nobody else has signed it");
        return;
    }
    let said = fuzzing::noise(input.0, cut, how == 1);
    assert_eq!(said, fuzzing::noise(input.0, usize::MAX, how == 1), "the pieces do not matter");
    assert!(said <= 1_024, "{said} bytes of answer");
}

/// What a dialler says before anything is agreed, and what a peer says on a stream, in pieces.
pub fn select(data: &[u8]) {
    let mut input = Input(data);
    let cut = usize::from(input.byte());
    let (chosen, read, said) = fuzzing::select(input.0, cut);
    assert_eq!((chosen, read, said), fuzzing::select(input.0, usize::MAX), "the pieces do not matter");
    assert!(chosen.is_none_or(|name| input.0[..read].ends_with(format!("{name}\n").as_bytes())));
    // A header, and two names to each `ls`, which has four bytes.
    assert!(said <= 20 + 10 * read, "{said} bytes for {read}");
    let named = fuzzing::name(input.0, cut);
    assert_eq!(named, fuzzing::name(input.0, usize::MAX), "the pieces do not matter");
}
