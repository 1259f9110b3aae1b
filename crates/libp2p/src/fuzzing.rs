//! Doors to the private decoders for the fuzz targets and the replay of their corpora; hidden, and no part of any
//! interface. It holds what must be true of them, panics when it is not, and touches no socket.

use crate::capped::MAX_SELECT_BYTES;
use crate::jobs::named;
use crate::noise::{NoiseNode, Side, payload};
use crate::pnet::NetworkKey;
use crate::secure::chosen;
use crate::tls::certificate::Certificate;
use data_encoding::{BASE64, HEXLOWER};
use futures::FutureExt;
use futures::io::{AsyncRead, AsyncWrite};
use libp2p_identity::Keypair;
use peerkeep_core::PeerKey;
use rustls::pki_types::UnixTime;
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

/// Whom a certificate claims to be from; whoever made it is taken only if that is so (faults H6 and H8).
pub fn certificate(bytes: &[u8]) -> Option<PeerKey> {
    let certificate = Certificate::parse(bytes).ok()?;
    let claimed = certificate.maker().map(|maker| maker.key);
    if let Ok(proven) = certificate.check(UnixTime::now()) {
        assert_eq!(claimed, Ok(proven.key), "proven is who was claimed");
    }
    claimed.ok()
}

const STATIC: [u8; 32] = [3; 32];

/// What a Noise handshake carries, for a static key of all threes: who says so, when they have signed it.
pub fn noise_payload(bytes: &[u8]) -> Option<PeerKey> {
    payload::parse(bytes, &STATIC).ok().map(|(proven, _)| proven.key)
}

/// A true payload for that static key.
pub fn true_payload(seed: [u8; 32], muxers: &[&str]) -> Vec<u8> {
    payload::emit(&pair(seed), &STATIC, muxers).expect("signs")
}

fn pair(seed: [u8; 32]) -> Keypair {
    Keypair::ed25519_from_bytes(seed).expect("any seed is one")
}

static NODE: LazyLock<NoiseNode> =
    LazyLock::new(|| NoiseNode::new(&pair([7; 32]), &["/yamux/1.0.0"]).expect("randomness"));

/// Noise against anything, in pieces of `cut` bytes: what we said to it. Nobody finishes who has not heard us.
pub fn noise(bytes: &[u8], cut: usize, dials: bool) -> usize {
    let mut wire = Wire { left: bytes, cut: cut.max(1), said: 0 };
    let side = if dials { Side::Initiator } else { Side::Responder };
    let end = NODE.secure(side, &mut wire).now_or_never().expect("what is here is read without waiting");
    assert!(end.is_err(), "nobody can have encrypted with keys made just now");
    wire.said
}

/// What a dialler says before anything is agreed, in pieces of `cut` bytes: what is chosen, how much was read of it, and how
/// much we said (fault H4).
pub fn select(bytes: &[u8], cut: usize) -> (Option<&'static str>, usize, usize) {
    let mut wire = Wire { left: bytes, cut: cut.max(1), said: 0 };
    let chosen = chosen(&mut wire).now_or_never().expect("what is here is read without waiting");
    let read = bytes.len() - wire.left.len();
    assert!(read <= MAX_SELECT_BYTES, "{read} bytes were heard");
    (chosen.ok(), read, wire.said)
}

/// The same of what a proven peer says on a stream to somebody who takes `/a/1` and `/b/1`.
pub fn name(bytes: &[u8], cut: usize) -> (Option<Box<str>>, usize) {
    let mut wire = Wire { left: bytes, cut: cut.max(1), said: 0 };
    let takes = ["/a/1", "/b/1"].map(Box::from).to_vec();
    let named = named(&mut wire, takes).now_or_never().expect("what is here is read without waiting");
    let read = bytes.len() - wire.left.len();
    assert!(read <= MAX_SELECT_BYTES, "{read} bytes were heard");
    (named, read)
}

/// What the other side says, all there; what it is told, only counted.
struct Wire<'a> {
    left: &'a [u8],
    cut: usize,
    said: usize,
}

impl AsyncRead for Wire<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.cut).min(self.left.len());
        let (now, later) = self.left.split_at(count);
        bytes[..count].copy_from_slice(now);
        self.left = later;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.said += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A key file: what is read can be written in every way and is the same key; nothing but its fingerprint is shown.
pub fn key_file(bytes: &[u8]) -> Option<String> {
    let key = NetworkKey::parse(bytes).ok()?;
    let (hex, base64) = (HEXLOWER.encode(&key.0[..]), BASE64.encode(&key.0[..]));
    for (encoding, text) in [("16", hex.as_bytes()), ("64", base64.as_bytes())] {
        let file = [format!("/key/swarm/psk/1.0.0/\n/base{encoding}/\n").as_bytes(), text].concat();
        let again = NetworkKey::parse(&file).expect("as it should be written");
        assert_eq!(again.0, key.0);
    }
    assert_eq!(format!("{key:?}"), "NetworkKey(..)");
    Some(key.fingerprint())
}
