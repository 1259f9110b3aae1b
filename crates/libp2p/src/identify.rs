//! What libp2p nodes tell each other about themselves (`/ipfs/id/1.0.0`): read as untrusted text with a bound on each
//! part, written as little as others need. Knows nothing of streams. (libp2p specification `identify/README.md`.)

use multiaddr::Multiaddr;
use prost::Message;

/// Asks the other side who it is.
pub const IDENTIFY: &str = "/ipfs/id/1.0.0";
/// Tells the other side what has changed.
pub const IDENTIFY_PUSH: &str = "/ipfs/id/push/1.0.0";

/// Longest message that is read, all parts together.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Longest agent or version that is kept, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;
/// Protocols that are kept.
pub const MAX_PROTOCOLS: usize = 256;
/// Longest name of a protocol that is kept.
pub const MAX_PROTOCOL_BYTES: usize = 140;
/// Addresses that are kept.
pub const MAX_ADDRESSES: usize = 16;

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(bytes = "vec", optional, tag = "1")]
    public_key: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    listen: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "3")]
    protocols: Vec<String>,
    #[prost(bytes = "vec", optional, tag = "4")]
    observed: Option<Vec<u8>>,
    #[prost(string, optional, tag = "5")]
    version: Option<String>,
    #[prost(string, optional, tag = "6")]
    agent: Option<String>,
}

/// What a node says of itself. The key is not in it: who is there was proven before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Where it says it listens; a claim.
    pub listen: Vec<Multiaddr>,
    /// Protocols it takes channels for.
    pub protocols: Vec<String>,
    /// Where it sees us; a claim.
    pub observed: Option<Multiaddr>,
    /// Its application's protocol version, printable.
    pub version: String,
    /// Its program, printable.
    pub agent: String,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// More bytes than [`MAX_MESSAGE_BYTES`].
    #[error("longer than {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
    /// Not the message it should be.
    #[error("not an identify message")]
    Malformed,
    /// It names another key than the one that was proven.
    #[error("it names another key than the one that was proven")]
    OtherKey,
}

impl Identity {
    /// Our message, without its length. `public_key` is in protobuf form.
    pub fn emit(&self, public_key: &[u8]) -> Vec<u8> {
        let wire = Wire {
            public_key: Some(public_key.to_vec()),
            listen: self.listen.iter().map(Multiaddr::to_vec).collect(),
            protocols: self.protocols.clone(),
            observed: self.observed.as_ref().map(Multiaddr::to_vec),
            version: Some(self.version.clone()),
            agent: Some(self.agent.clone()),
        };
        wire.encode_to_vec()
    }

    /// Their message, or several one after another, without lengths. `proven` is their key in protobuf form.
    ///
    /// # Errors
    /// See [`IdentifyError`]. What is merely too much, or an address nobody understands, is left out instead.
    pub fn parse(bytes: &[u8], proven: &[u8]) -> Result<Identity, IdentifyError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(IdentifyError::TooLong);
        }
        let wire = Wire::decode(bytes).map_err(|_| IdentifyError::Malformed)?;
        if wire.public_key.is_some_and(|key| !key.is_empty() && key != proven) {
            return Err(IdentifyError::OtherKey);
        }
        let address = |bytes: Vec<u8>| Multiaddr::try_from(bytes).ok();
        let fits = |name: &String| !name.is_empty() && name.len() <= MAX_PROTOCOL_BYTES;
        Ok(Identity {
            listen: wire.listen.into_iter().filter_map(address).take(MAX_ADDRESSES).collect(),
            protocols: wire.protocols.into_iter().filter(fits).take(MAX_PROTOCOLS).collect(),
            observed: wire.observed.and_then(address),
            version: printable(&wire.version.unwrap_or_default()),
            agent: printable(&wire.agent.unwrap_or_default()),
        })
    }
}

/// At most [`MAX_TEXT_BYTES`] of it, with everything escaped that a terminal would act on.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for piece in text.chars().map(|letter| letter.escape_debug().to_string()) {
        if shown.len() + piece.len() > MAX_TEXT_BYTES {
            break;
        }
        shown.push_str(&piece);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Identity {
        Identity {
            listen: vec!["/ip4/192.0.2.1/tcp/4001".parse().expect("an address")],
            protocols: vec![IDENTIFY.to_owned(), "/ipfs/ping/1.0.0".to_owned()],
            observed: Some("/ip4/192.0.2.7/tcp/1234".parse().expect("an address")),
            version: "peerkeep/1".to_owned(),
            agent: "peerkeep/0.1.0".to_owned(),
        }
    }

    #[test]
    fn what_is_said_is_heard() {
        assert_eq!(Identity::parse(&sample().emit(b"key"), b"key"), Ok(sample()));
    }

    /// Bytes written by hand from the specification's field numbers.
    #[test]
    fn a_message_that_our_encoder_did_not_make_is_understood() {
        let bytes = b"\x12\x08\x04\xc0\x00\x02\x01\x06\x0f\xa1\x1a\x02/x\x32\x03abc\x2a\x01v";
        let heard = Identity::parse(bytes, b"key").expect("understood");
        assert_eq!(heard.listen, sample().listen);
        assert_eq!(
            (heard.protocols, heard.agent, heard.version),
            (vec!["/x".into()], "abc".into(), "v".into())
        );
    }

    #[test]
    fn another_key_than_the_proven_one_is_refused() {
        assert_eq!(Identity::parse(&sample().emit(b"key"), b"other"), Err(IdentifyError::OtherKey));
    }

    /// A signed record (field 8), whoever signed it and when, is not read: an address is tried, and the handshake proves who
    /// is there.
    #[test]
    fn fault_i3_a_signed_record_is_not_believed() {
        let mut bytes = sample().emit(b"key");
        bytes.extend_from_slice(b"\x42\x0arecordings");
        assert_eq!(Identity::parse(&bytes, b"key"), Ok(sample()));
    }

    #[test]
    fn too_much_is_left_out_and_control_characters_are_escaped() {
        let mut much = sample();
        much.agent = format!("\x1b[2J{}", "a".repeat(500));
        much.protocols = (0..1_000).map(|number| format!("/p/{number}")).collect();
        much.protocols[0] = "/".repeat(MAX_PROTOCOL_BYTES + 1);
        much.listen = vec![much.listen[0].clone(); 100];
        let heard = Identity::parse(&much.emit(b"key"), b"key").expect("understood");
        assert!(
            heard.agent.starts_with("\\u{1b}[2J") && heard.agent.len() <= MAX_TEXT_BYTES,
            "{}",
            heard.agent
        );
        assert_eq!((heard.protocols.len(), heard.listen.len()), (MAX_PROTOCOLS, MAX_ADDRESSES));
        assert_eq!(heard.protocols[0], "/p/1");
        assert_eq!(Identity::parse(&vec![0; MAX_MESSAGE_BYTES + 1], b"key"), Err(IdentifyError::TooLong));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_refused_or_within_the_bounds(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            if let Ok(heard) = Identity::parse(&bytes, b"key") {
                prop_assert!(heard.agent.len() <= MAX_TEXT_BYTES && heard.protocols.len() <= MAX_PROTOCOLS);
            }
        }
    }
}
