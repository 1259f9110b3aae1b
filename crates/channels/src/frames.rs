//! Where Yamux frames begin and end in a stream of bytes. Pure. It lets the pipe count only whole frames as a sign of
//! life (fault C3) and answer the multiplexer's pings itself: the `yamux` crate stops reading while its answer waits to
//! be written, and two sides that do so at once would wait for each other for ever (fault C10). It checks nothing else.

use crate::rate::{Bucket, Rate};
use peerkeep_core::Time;
use std::time::Duration;

/// Bytes of a frame's header.
pub(crate) const HEADER_BYTES: usize = 12;
const DATA: u8 = 0;
const PING: u8 = 2;
const GO_AWAY: u8 = 3;
const SYN: u8 = 1;
const ACK: u8 = 2;
/// Pings of the multiplexer that are answered: ten at once, two a second (fault F12).
const PONGS: Rate = Rate { burst: 10, each: Duration::from_millis(500) };

/// The way in: headers are held back until they are whole.
#[derive(Debug)]
pub(crate) struct Inflow {
    header: [u8; HEADER_BYTES],
    have: usize,
    given: usize,
    body_left: usize,
    pongs: Bucket,
}

/// What a whole header was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// Not whole yet.
    Partial,
    /// The multiplexer's; [`Inflow::give`] hands it over.
    Whole,
    /// A ping, to be answered with these bytes. It is not handed over.
    Ping([u8; HEADER_BYTES]),
    /// One ping too many. It is not handed over.
    Flood,
}

impl Inflow {
    pub(crate) fn new(now: Time) -> Inflow {
        Inflow {
            header: [0; HEADER_BYTES],
            have: 0,
            given: 0,
            body_left: 0,
            pongs: Bucket::full(&PONGS, now),
        }
    }

    /// Room for the header's next bytes; `None` when something else comes first.
    pub(crate) fn header_room(&mut self) -> Option<&mut [u8]> {
        if self.body_left > 0 || self.have == HEADER_BYTES {
            return None;
        }
        Some(&mut self.header[self.have..])
    }

    /// So many bytes were put into that room.
    pub(crate) fn handle_header(&mut self, count: usize, now: Time) -> Header {
        self.have += count;
        if self.have < HEADER_BYTES {
            return Header::Partial;
        }
        let [_, kind, _, flags, a, b, c, d, ..] = self.header;
        if kind != PING || flags & SYN == 0 || [a, b, c, d] != [0; 4] {
            return Header::Whole;
        }
        self.have = 0;
        if self.pongs.take(&PONGS, now, 1) == 0 {
            return Header::Flood;
        }
        let mut pong = self.header;
        pong[3] = ACK;
        Header::Ping(pong)
    }

    /// Hands over bytes of a whole header; how many, and whether the frame ended with them.
    pub(crate) fn give(&mut self, out: &mut [u8]) -> (usize, bool) {
        let count = out.len().min(self.have - self.given);
        out[..count].copy_from_slice(&self.header[self.given..self.given + count]);
        self.given += count;
        if self.given < HEADER_BYTES {
            return (count, false);
        }
        (self.have, self.given) = (0, 0);
        self.body_left = body_bytes(&self.header);
        (count, self.body_left == 0)
    }

    /// Whether the header that is whole now answers a ping of our multiplexer.
    pub(crate) fn is_pong(&self) -> bool {
        self.header[1] == PING && self.header[3] & ACK != 0
    }

    /// Whether the header that is whole now says that nothing more comes.
    pub(crate) fn is_go_away(&self) -> bool {
        self.have == HEADER_BYTES && self.header[1] == GO_AWAY
    }

    /// Bytes of the body that are still to come.
    pub(crate) fn body_left(&self) -> usize {
        self.body_left
    }

    /// So many bytes of the body were handed over; whether the frame ended with them.
    pub(crate) fn handle_body(&mut self, count: usize) -> bool {
        self.body_left = self.body_left.saturating_sub(count);
        self.body_left == 0
    }

    /// Whether a header is cut off here.
    pub(crate) fn is_cut(&self) -> bool {
        self.have > 0 || self.body_left > 0
    }
}

/// The way out: only whether a frame of ours is under way, and whether one called the other side's frames wrong.
#[derive(Debug, Default)]
pub(crate) struct Outflow {
    header: [u8; HEADER_BYTES],
    have: usize,
    body_left: usize,
    accuses: bool,
}

impl Outflow {
    /// Whether the last frame is whole.
    pub(crate) fn is_between(&self) -> bool {
        self.have == 0 && self.body_left == 0
    }

    /// Whether the multiplexer has said goodbye because of what the other side sent: it tells nobody else.
    pub(crate) fn accuses(&self) -> bool {
        self.accuses
    }

    /// Takes the bytes that the multiplexer writes; whether a ping of its own was among them.
    pub(crate) fn handle(&mut self, mut bytes: &[u8]) -> bool {
        let mut pinged = false;
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let skip = bytes.len().min(self.body_left);
                bytes = &bytes[skip..];
                self.body_left -= skip;
                continue;
            }
            let take = bytes.len().min(HEADER_BYTES - self.have);
            self.header[self.have..self.have + take].copy_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            self.have += take;
            if self.have == HEADER_BYTES {
                self.have = 0;
                self.body_left = body_bytes(&self.header);
                pinged |= self.header[1] == PING && self.header[3] & SYN != 0;
                self.accuses |= self.header[1] == GO_AWAY && self.header[8..] != [0; 4];
            }
        }
        pinged
    }
}

fn body_bytes(header: &[u8; HEADER_BYTES]) -> usize {
    let [_, kind, .., a, b, c, d] = *header;
    if kind == DATA { usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, length: u32, body: usize) -> Vec<u8> {
        let mut bytes = vec![0, kind, 0, flags, 0, 0, 0, u8::from(kind == DATA)];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.resize(bytes.len() + body, 7);
        bytes
    }

    /// What the multiplexer gets, the answers to pings, and how many frames ended.
    fn run(inflow: &mut Inflow, mut bytes: &[u8], split: usize) -> (Vec<u8>, Vec<Header>, u32) {
        let (mut given, mut pings, mut ended) = (Vec::new(), Vec::new(), 0);
        while !bytes.is_empty() || inflow.header_room().is_none() && inflow.body_left() == 0 {
            if let Some(room) = inflow.header_room() {
                let count = room.len().min(bytes.len()).min(split);
                room[..count].copy_from_slice(&bytes[..count]);
                bytes = &bytes[count..];
                match inflow.handle_header(count, Time::ZERO) {
                    Header::Partial | Header::Whole => {}
                    ping => {
                        pings.push(ping);
                        ended += 1;
                    }
                }
            } else if inflow.body_left() > 0 {
                let count = inflow.body_left().min(bytes.len()).min(split);
                given.extend_from_slice(&bytes[..count]);
                bytes = &bytes[count..];
                ended += u32::from(inflow.handle_body(count));
            } else {
                let mut out = vec![0; split.min(HEADER_BYTES)];
                let (count, end) = inflow.give(&mut out);
                given.extend_from_slice(&out[..count]);
                ended += u32::from(end);
            }
        }
        (given, pings, ended)
    }

    #[test]
    fn fault_c3_a_trickle_counts_only_when_a_frame_is_whole() {
        let mut inflow = Inflow::new(Time::ZERO);
        let bytes = frame(DATA, 0, 100, 100);
        let (last, most) = bytes.split_last().expect("long");
        for byte in most {
            assert_eq!(run(&mut inflow, &[*byte], 1).2, 0);
        }
        assert_eq!(run(&mut inflow, &[*last], 1).2, 1);
        assert!(!inflow.is_cut());
    }

    #[test]
    fn fault_c10_pings_are_answered_without_the_multiplexer_and_at_a_rate() {
        let mut inflow = Inflow::new(Time::ZERO);
        let (given, pings, ended) = run(&mut inflow, &frame(PING, SYN, 0x01020304, 0).repeat(12), 5);
        assert!(given.is_empty());
        let pong = <[u8; 12]>::try_from(frame(PING, ACK, 0x01020304, 0)).expect("a header");
        assert_eq!(pings[0], Header::Ping(pong));
        assert_eq!(pings.iter().filter(|ping| **ping == Header::Flood).count(), 2);
        assert_eq!(ended, 12);
        let answer = frame(PING, ACK, 7, 0);
        assert_eq!(run(&mut inflow, &answer, 12).0, answer, "answers to the multiplexer's own are its own");
    }

    proptest! {
        #[test]
        fn fault_f5_frames_pass_the_same_however_they_are_split(
            bodies in proptest::collection::vec((0u8..4, 0u32..50), 1..20), split in 1usize..60,
        ) {
            let mut bytes = Vec::new();
            for (kind, length) in &bodies {
                let body = if *kind == DATA { usize::try_from(*length).expect("small") } else { 0 };
                bytes.extend(frame(*kind, 0, *length, body));
            }
            let (given, _, ended) = run(&mut Inflow::new(Time::ZERO), &bytes, split);
            prop_assert_eq!(&given, &bytes);
            prop_assert_eq!(usize::try_from(ended).expect("small"), bodies.len());
            let mut outflow = Outflow::default();
            for chunk in bytes.chunks(split) {
                outflow.handle(chunk);
            }
            prop_assert!(outflow.is_between());
        }
    }
}
