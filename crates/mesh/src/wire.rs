//! The bytes of the protocol: length-prefixed protobuf frames, written down in `docs/mesh-protocol.md`. Pure: bytes in,
//! bytes out. It reads what it can, skips what it does not know, and judges nothing but sizes.

use crate::canary::{self, Canary};
use peerkeep_core::{Addr, AddrKind, Addrs, MAX_ADDRS};
use prost::Message;
use std::net::{IpAddr, SocketAddr};

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"peerkeep/1";
/// The protocol's name in TLS under QUIC, where the greeting has a stream of its own.
pub const QUIC_ALPN: &[u8] = b"peerkeep-quic/1";
/// The versions this code speaks; the highest common one is used.
pub const VERSIONS: (u32, u32) = (1, 2);
/// Longest body of a handshake frame in bytes.
pub const MAX_HANDSHAKE_BYTES: usize = 4 * 1024;
/// Longest body of a control frame in bytes.
pub const MAX_CONTROL_BYTES: usize = 16 * 1024;
/// Longest agent, capability or reason text in bytes; longer ones are cut when shown.
pub const MAX_TEXT_BYTES: usize = 256;
/// Most capabilities that are looked at.
pub const MAX_CAPABILITIES: usize = 32;
/// Most peers in one peer-exchange message.
pub const MAX_PEERS: usize = 16;

/// A peer that tells others of its peers and takes such messages.
pub const CAP_EXCHANGE: &str = "exchange";
/// A peer that takes messages on the mail stream.
pub const CAP_MAIL: &str = "mail";

/// One frame of the handshake; an unknown kind has no `what`.
#[derive(Clone, PartialEq, Message)]
pub struct Handshake {
    /// Which.
    #[prost(oneof = "Greeting", tags = "1, 2, 3, 4")]
    pub what: Option<Greeting>,
}

/// The four kinds of handshake frame.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Greeting {
    /// The dialler's first and only question.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// The acceptor's yes.
    #[prost(message, tag = "2")]
    Answer(Answer),
    /// Either side's no.
    #[prost(message, tag = "3")]
    Refusal(Refusal),
    /// The dialler's last word; Yamux follows it.
    #[prost(message, tag = "4")]
    Confirm(Confirm),
}

/// Who the dialler is and what it knows.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    /// SHA-256 of the network's name, see [`crate::proof::network_id`].
    #[prost(bytes = "vec", tag = "1")]
    pub network: Vec<u8>,
    /// Proof that the sender knows the network's secret; empty without one.
    #[prost(bytes = "vec", tag = "2")]
    pub proof: Vec<u8>,
    /// 16 fresh bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub nonce: Vec<u8>,
    /// Lowest version spoken.
    #[prost(uint32, tag = "4")]
    pub version_min: u32,
    /// Highest version spoken.
    #[prost(uint32, tag = "5")]
    pub version_max: u32,
    /// What else the sender can do, since version 2.
    #[prost(string, repeated, tag = "6")]
    pub capabilities: Vec<String>,
    /// Where the sender listens: IP (4 or 16 bytes) and port (2 bytes, big endian) each; a byte 1 follows for QUIC.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub listen: Vec<Vec<u8>>,
    /// The address that the sender sees the receiver at.
    #[prost(bytes = "vec", tag = "8")]
    pub seen: Vec<u8>,
    /// The sender's boot epoch.
    #[prost(uint64, tag = "9")]
    pub epoch: u64,
    /// The number of this dial.
    #[prost(uint32, tag = "10")]
    pub dial: u32,
    /// Epoch of the highest dial of the receiver's that the sender accepted.
    #[prost(uint64, tag = "11")]
    pub accepted_epoch: u64,
    /// Number of that dial; 0 for none.
    #[prost(uint32, tag = "12")]
    pub accepted_dial: u32,
    /// This dial takes the place of a degraded connection.
    #[prost(bool, tag = "13")]
    pub replaces: bool,
    /// The program's name and version, for people.
    #[prost(string, tag = "14")]
    pub agent: String,
}

/// The acceptor's yes, with the same numbering as the hello.
#[derive(Clone, PartialEq, Message)]
pub struct Answer {
    /// Proof for the acceptor's side, over the hello's nonce.
    #[prost(bytes = "vec", tag = "2")]
    pub proof: Vec<u8>,
    /// The version chosen.
    #[prost(uint32, tag = "5")]
    pub version: u32,
    /// What else the sender can do.
    #[prost(string, repeated, tag = "6")]
    pub capabilities: Vec<String>,
    /// Where the sender listens.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub listen: Vec<Vec<u8>>,
    /// The address that the sender sees the receiver at.
    #[prost(bytes = "vec", tag = "8")]
    pub seen: Vec<u8>,
    /// The sender's boot epoch.
    #[prost(uint64, tag = "9")]
    pub epoch: u64,
    /// Epoch of the highest dial of the receiver's that the sender accepted: the one answered.
    #[prost(uint64, tag = "11")]
    pub accepted_epoch: u64,
    /// Number of that dial.
    #[prost(uint32, tag = "12")]
    pub accepted_dial: u32,
    /// The program's name and version.
    #[prost(string, tag = "14")]
    pub agent: String,
}

/// Either side's no.
#[derive(Clone, PartialEq, Message)]
pub struct Refusal {
    /// See [`crate::Reason`].
    #[prost(uint32, tag = "1")]
    pub reason: u32,
    /// The same for people.
    #[prost(string, tag = "2")]
    pub text: String,
    /// Do not come back before, in milliseconds; 0 says nothing.
    #[prost(uint64, tag = "3")]
    pub retry_after_ms: u64,
    /// With reason `stale`: the epoch of the refused side that the sender holds for newer; 0 otherwise.
    #[prost(uint64, tag = "4")]
    pub newer_epoch: u64,
    /// With reason `version`: lowest version the sender speaks.
    #[prost(uint32, tag = "5")]
    pub version_min: u32,
    /// With reason `version`: highest version the sender speaks.
    #[prost(uint32, tag = "6")]
    pub version_max: u32,
}

/// The dialler's last word.
#[derive(Clone, PartialEq, Message)]
pub struct Confirm {}

/// One frame of the control channel; an unknown kind has no `what`.
#[derive(Clone, PartialEq, Message)]
pub struct Control {
    /// Which.
    #[prost(oneof = "Say", tags = "1, 2, 3, 4, 5")]
    pub what: Option<Say>,
}

/// The kinds of control frame.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Say {
    /// Are you there?
    #[prost(message, tag = "1")]
    Ping(Ping),
    /// Yes, with the ping's nonce.
    #[prost(message, tag = "2")]
    Pong(Ping),
    /// I close now.
    #[prost(message, tag = "3")]
    Goodbye(Goodbye),
    /// Whom do you know?
    #[prost(message, tag = "4")]
    Ask(Ask),
    /// These.
    #[prost(message, tag = "5")]
    Peers(Peers),
}

/// A ping or its pong.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Ping {
    /// Chosen by the one who asks.
    #[prost(fixed64, tag = "1")]
    pub nonce: u64,
}

/// The last control frame.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Goodbye {
    /// [`peerkeep_core::Close::code`] plus 1; 0 or unknown counts as requested.
    #[prost(uint32, tag = "1")]
    pub reason: u32,
}

/// Asks for peers.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Ask {}

/// Peers that the sender knows.
#[derive(Clone, PartialEq, Message)]
pub struct Peers {
    /// At most [`MAX_PEERS`] are looked at.
    #[prost(message, repeated, tag = "1")]
    pub peers: Vec<Known>,
}

/// One known peer.
#[derive(Clone, PartialEq, Message)]
pub struct Known {
    /// Its Ed25519 key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Where it listens.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub listen: Vec<Vec<u8>>,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The length is above the limit.
    #[error("a frame above its size limit")]
    TooLarge,
    /// The body is not protobuf.
    #[error("a frame that cannot be read")]
    Malformed,
}

/// Bytes of the length in front of every frame.
pub const PREFIX_BYTES: usize = 2;

/// Reads one frame from the front of `bytes`; `None` when more are needed. Returns the frame and its whole length.
/// The length is judged before anything is allocated or waited for.
///
/// # Errors
/// Above `max` bytes, or not protobuf.
pub fn parse<M: Message + Default>(bytes: &[u8], max: usize) -> Result<Option<(M, usize)>, WireError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = body_length(*prefix, max)?;
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let frame = M::decode(body).map_err(|_| WireError::Malformed)?;
    Ok(Some((frame, PREFIX_BYTES + length)))
}

/// The length a prefix announces.
///
/// # Errors
/// Above `max`.
pub fn body_length(prefix: [u8; PREFIX_BYTES], max: usize) -> Result<usize, WireError> {
    let length = usize::from(u16::from_be_bytes(prefix));
    let believed = canary::on(Canary::UncheckedLength);
    if length > max && !believed { Err(WireError::TooLarge) } else { Ok(length) }
}

/// Appends one frame to `out`.
///
/// # Panics
/// When our own message does not fit two bytes of length: every list and text we send is bounded far below.
pub fn emit<M: Message>(frame: &M, out: &mut Vec<u8>) {
    let length = u16::try_from(frame.encoded_len()).expect("our own frames are bounded");
    out.extend_from_slice(&length.to_be_bytes());
    frame.encode(out).expect("a vector grows");
}

/// What follows IP and port of an address that is not TCP.
const QUIC_ADDR: u8 = 1;
/// The same for an address of another stack, which nobody reads.
const OTHER_ADDR: u8 = 2;

/// An address's bytes on the wire.
pub fn emit_addr(addr: &Addr) -> Vec<u8> {
    let socket = addr.socket();
    let mut out = Vec::with_capacity(19);
    match socket.ip() {
        IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
    out.extend_from_slice(&socket.port().to_be_bytes());
    match addr.kind {
        AddrKind::Tcp => {}
        AddrKind::Quic => out.push(QUIC_ADDR),
        AddrKind::Udp => out.push(OTHER_ADDR),
    }
    out
}

/// An address from the wire; `None` for any length but 6 and 18, or 7 and 19 with a kind we know.
pub fn parse_addr(bytes: &[u8]) -> Option<Addr> {
    let (socket, kind) = match (bytes.len(), bytes.last()) {
        (7 | 19, Some(&QUIC_ADDR)) => (&bytes[..bytes.len() - 1], AddrKind::Quic),
        _ => (bytes, AddrKind::Tcp),
    };
    let (ip, port) = socket.split_last_chunk::<2>()?;
    let ip: IpAddr = match ip.len() {
        4 => <[u8; 4]>::try_from(ip).ok()?.into(),
        16 => <[u8; 16]>::try_from(ip).ok()?.into(),
        _ => return None,
    };
    Some(Addr::new(SocketAddr::new(ip, u16::from_be_bytes(*port)), kind))
}

/// The readable, dialable ones of a list, cut at [`MAX_ADDRS`] (faults D6, D8).
pub fn parse_addrs(list: &[Vec<u8>]) -> Addrs {
    let mut addrs = Addrs::new();
    for addr in list.iter().take(2 * MAX_ADDRS).filter_map(|bytes| parse_addr(bytes)) {
        if addr.check().is_ok() && !addrs.contains(&addr) && addrs.try_push(addr).is_err() {
            break;
        }
    }
    addrs
}

/// Text from a peer as it may be shown: printable ASCII, the rest as `?`, at most [`MAX_TEXT_BYTES`].
pub fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(MAX_TEXT_BYTES).map(shown).collect()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
