//! The control channel: ping and pong, goodbye, peer exchange. Pure: bytes in, bytes out, time as an argument. It
//! measures and limits; what to do about a peer is the core's business.

use crate::wire::{self, Control as Frame, MAX_CONTROL_BYTES, MAX_PEERS, Say, emit, parse};
use peerkeep_channels::{Bucket, Rate};
use peerkeep_core::{Addrs, Close, PeerKey, Time, Violation};
use std::time::Duration;

/// A peer somebody knows, and where it listens.
pub type Known = (PeerKey, Addrs);

/// Both directions of one control channel.
#[derive(Debug)]
pub(crate) struct Control {
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    ping: Option<(u64, Time)>,
    pongs: Bucket,
    asks: Bucket,
    odd: Odd,
}

/// What was ignored, for the status page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Odd {
    /// Pings beyond the rate (fault F12).
    pub pings: u32,
    /// Pongs that fit no ping (fault F12).
    pub pongs: u32,
    /// Frames of a kind we do not know (fault F13).
    pub unknown: u32,
}

/// What came out of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A ping came back after this.
    Rtt(Duration),
    /// They close.
    Goodbye(Close),
    /// They want to know whom we know.
    Asked,
    /// They know these; at most [`MAX_PEERS`].
    Peers(Vec<Known>),
    /// They misbehave, and the channel could go on.
    Violation(Violation),
}

/// Pings that are answered: ten at once, two a second.
const PONGS: Rate = Rate { burst: 10, each: Duration::from_millis(500) };
/// Questions for peers that are answered: three at once, one in ten seconds.
const ASKS: Rate = Rate { burst: 3, each: Duration::from_secs(10) };
/// Ignored pings after which it is called misbehaviour.
const PING_FLOOD: u32 = 100;
/// Bytes waiting to be written, above which answers are left out: the peer does not read.
const MAX_OUTBOX_BYTES: usize = 2 * MAX_CONTROL_BYTES;

impl Control {
    pub(crate) fn new(now: Time) -> Control {
        Control {
            inbox: Vec::new(),
            outbox: Vec::new(),
            ping: None,
            pongs: Bucket::full(&PONGS, now),
            asks: Bucket::full(&ASKS, now),
            odd: Odd::default(),
        }
    }

    /// Takes bytes from the channel.
    ///
    /// # Errors
    /// They are no frames: the channel cannot go on.
    pub(crate) fn handle(
        &mut self,
        now: Time,
        bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Violation> {
        self.inbox.extend_from_slice(bytes);
        let mut used = 0;
        loop {
            match parse::<Frame>(&self.inbox[used..], MAX_CONTROL_BYTES) {
                Ok(Some((frame, length))) => {
                    used += length;
                    self.on_frame(now, frame, events);
                }
                Ok(None) => break,
                Err(wire::WireError::TooLarge) => return Err(Violation::TooLarge),
                Err(wire::WireError::Malformed) => return Err(Violation::Malformed),
            }
        }
        self.inbox.drain(..used);
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
        Ok(())
    }

    /// Asks for a sign of life, unless a question is still open: TCP loses none.
    pub(crate) fn probe(&mut self, now: Time, nonce: u64) {
        if self.ping.is_none() {
            self.ping = Some((nonce, now));
            self.say(Say::Ping(wire::Ping { nonce }));
        }
    }

    pub(crate) fn goodbye(&mut self, why: Close) {
        self.say(Say::Goodbye(wire::Goodbye { reason: u32::from(why.code()) + 1 }));
    }

    /// A goodbye as bytes, from a side that never came to have a control channel.
    pub(crate) fn last_word(why: Close, out: &mut Vec<u8>) {
        let goodbye = wire::Goodbye { reason: u32::from(why.code()) + 1 };
        emit(&Frame { what: Some(Say::Goodbye(goodbye)) }, out);
    }

    pub(crate) fn ask(&mut self) {
        self.say(Say::Ask(wire::Ask {}));
    }

    /// Tells of peers; more than [`MAX_PEERS`] are cut, none are not told.
    pub(crate) fn tell(&mut self, peers: &[Known]) {
        if peers.is_empty() || self.outbox.len() > MAX_OUTBOX_BYTES {
            return;
        }
        let known = |(key, addrs): &Known| wire::Known {
            key: key.bytes.to_vec(),
            listen: addrs.iter().map(wire::emit_addr).collect(),
        };
        let peers = peers.iter().take(MAX_PEERS).map(known).collect();
        self.say(Say::Peers(wire::Peers { peers }));
    }

    /// What is to be written; the writer takes bytes off its front.
    pub(crate) fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Bytes of a frame that is not whole yet.
    pub(crate) fn waiting(&self) -> usize {
        self.inbox.len()
    }

    /// What was ignored so far.
    pub(crate) fn odd(&self) -> Odd {
        self.odd
    }

    fn say(&mut self, what: Say) {
        emit(&Frame { what: Some(what) }, &mut self.outbox);
    }

    fn on_frame(&mut self, now: Time, frame: Frame, events: &mut Vec<Event>) {
        match frame.what {
            Some(Say::Ping(ping)) => self.on_ping(now, ping, events),
            Some(Say::Pong(pong)) => self.on_pong(now, pong, events),
            Some(Say::Goodbye(goodbye)) => {
                let code = goodbye.reason.checked_sub(1).and_then(|code| u8::try_from(code).ok());
                events.push(Event::Goodbye(code.and_then(Close::from_code).unwrap_or(Close::Requested)));
            }
            Some(Say::Ask(_)) => {
                if self.asks.take(&ASKS, now, 1) == 1 {
                    events.push(Event::Asked);
                }
            }
            Some(Say::Peers(peers)) => self.on_peers(peers, events),
            None => self.odd.unknown = self.odd.unknown.saturating_add(1),
        }
    }

    fn on_ping(&mut self, now: Time, ping: wire::Ping, events: &mut Vec<Event>) {
        if self.outbox.len() <= MAX_OUTBOX_BYTES && self.pongs.take(&PONGS, now, 1) == 1 {
            self.say(Say::Pong(ping));
            return;
        }
        self.odd.pings = self.odd.pings.saturating_add(1);
        if self.odd.pings == PING_FLOOD {
            events.push(Event::Violation(Violation::TooMuch));
        }
    }

    fn on_pong(&mut self, now: Time, pong: wire::Ping, events: &mut Vec<Event>) {
        match self.ping {
            Some((nonce, sent)) if nonce == pong.nonce => {
                self.ping = None;
                events.push(Event::Rtt(now.since(sent)));
            }
            _ => self.odd.pongs = self.odd.pongs.saturating_add(1),
        }
    }

    fn on_peers(&self, told: wire::Peers, events: &mut Vec<Event>) {
        if told.peers.len() > MAX_PEERS {
            events.push(Event::Violation(Violation::TooLarge));
        }
        let known = |peer: wire::Known| {
            let key = <[u8; 32]>::try_from(peer.key).ok()?;
            let addrs = wire::parse_addrs(&peer.listen);
            (!addrs.is_empty()).then_some((PeerKey::ed25519(key), addrs))
        };
        let peers: Vec<Known> = told.peers.into_iter().take(MAX_PEERS).filter_map(known).collect();
        if !peers.is_empty() {
            events.push(Event::Peers(peers));
        }
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
