//! Doors to the private decoders for the fuzz targets and the replay of their corpora; hidden, and no part of any
//! interface. It holds what must be true of them, panics when it is not, and touches no socket.

use crate::control::{Control, Event, Known};
use crate::exchange::fit;
use crate::wire::{MAX_CONTROL_BYTES, MAX_PEERS, PREFIX_BYTES};
use peerkeep_core::{Addr, AddrKind, Addrs, PeerKey, Time};
use rustls::pki_types::CertificateDer;

/// The control channel: the same bytes, whole and cut at `cuts`, mean the same; what waits to be written is bounded.
pub fn control(bytes: &[u8], cuts: &[u8]) {
    let now = Time::from_millis(5);
    let [mut whole, mut cut] = [0, 1].map(|_| {
        let mut control = Control::new(Time::ZERO);
        control.probe(Time::ZERO, 7);
        control
    });
    let (mut events, mut others) = (Vec::new(), Vec::new());
    let end = whole.handle(now, bytes, &mut events);
    let mut other_end = Ok(());
    for piece in pieces(bytes, cuts) {
        other_end = cut.handle(now, piece, &mut others);
        if other_end.is_err() {
            break;
        }
        assert!(cut.waiting() <= PREFIX_BYTES + MAX_CONTROL_BYTES, "no more is kept than one frame");
    }
    assert_eq!(end, other_end, "the end does not depend on the pieces");
    assert_eq!(events, others, "nor does what was understood");
    assert_eq!((whole.odd(), whole.outbox().as_slice()), (cut.odd(), cut.outbox().as_slice()));
    assert!(whole.outbox().len() <= 3 * MAX_CONTROL_BYTES, "pings are not answered without end");
    for event in &events {
        if let Event::Peers(peers) = event {
            check_peers(peers);
        }
    }
}

/// Peer exchange: what is told is what the other side hears, less what nobody could dial; and what is fit to be told
/// holds no private address for somebody outside, nor the listener itself.
pub fn exchange(known: Vec<Known>, to: &PeerKey, there: &Addr) {
    let fitting = fit(known, to, there);
    for (key, addrs) in &fitting {
        assert!(key != to && !addrs.is_empty());
        let outside = !there.is_private() && !there.is_loopback();
        assert!(!outside || !addrs.iter().any(|addr| addr.is_private() || addr.is_loopback()));
    }
    let (mut teller, mut listener) = (Control::new(Time::ZERO), Control::new(Time::ZERO));
    teller.tell(&fitting);
    let mut events = Vec::new();
    listener.handle(Time::ZERO, teller.outbox(), &mut events).expect("our own frames can be read");
    let expected: Vec<Known> =
        fitting.into_iter().take(MAX_PEERS).filter_map(|(key, addrs)| Some((key, heard(&addrs)?))).collect();
    match events.as_slice() {
        [] => assert!(expected.is_empty()),
        [Event::Peers(peers)] => {
            assert_eq!(*peers, expected);
            check_peers(peers);
        }
        other => panic!("{other:?}"),
    }
}

fn heard(addrs: &Addrs) -> Option<Addrs> {
    let mut kept = Addrs::new();
    for addr in addrs {
        let addr = Addr::new(addr.socket(), addr.kind);
        if addr.kind != AddrKind::Udp && addr.check().is_ok() && !kept.contains(&addr) {
            kept.push(addr);
        }
    }
    (!kept.is_empty()).then_some(kept)
}

fn check_peers(peers: &[Known]) {
    assert!(!peers.is_empty() && peers.len() <= MAX_PEERS);
    for (_, addrs) in peers {
        assert!(
            !addrs.is_empty() && addrs.iter().all(|addr| addr.check().is_ok()),
            "only what can be dialled"
        );
    }
}

/// A certificate from the wire: the key it proves, if it is one we take (fault H8).
pub fn certificate(bytes: &[u8]) -> Option<PeerKey> {
    crate::tls::key_of(&CertificateDer::from(bytes)).ok()
}

/// `bytes` in pieces; each byte of `cuts` is a length, used in turn, 0 meaning 1.
fn pieces<'a>(mut bytes: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = cuts.iter().cycle();
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let length = lengths.next().map_or(bytes.len(), |length| usize::from(*length).max(1));
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        Some(piece)
    })
}
