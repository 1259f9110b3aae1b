//! Doors to the private parts for the fuzz targets; hidden, and no part of any interface. It holds what must be true of
//! them, panics when it is not, and touches no socket.

use crate::frames::{HEADER_BYTES, Header, Inflow, Outflow};
use peerkeep_core::Time;

/// Yamux frames on their way in and out: where they end does not depend on how the bytes are cut.
pub fn mux_frames(bytes: &[u8], cuts: &[u8]) {
    let whole = flow(&mut Inflow::new(Time::ZERO), std::iter::once(bytes));
    let cut = flow(&mut Inflow::new(Time::ZERO), pieces(bytes, cuts));
    assert_eq!(whole, cut);
    assert!(whole.given.len() <= bytes.len(), "nothing is made up");
    let (mut out, mut out_cut) = (Outflow::default(), Outflow::default());
    out.handle(bytes);
    pieces(bytes, cuts).for_each(|piece| _ = out_cut.handle(piece));
    assert_eq!(out.is_between(), out_cut.is_between());
}

#[derive(Debug, PartialEq, Eq, Default)]
struct Flow {
    given: Vec<u8>,
    pings: Vec<Header>,
    ended: usize,
}

/// Feeds the way in as the pipe does.
fn flow<'a>(inflow: &mut Inflow, pieces: impl Iterator<Item = &'a [u8]>) -> Flow {
    let mut flow = Flow::default();
    for mut bytes in pieces {
        while !bytes.is_empty() {
            if let Some(room) = inflow.header_room() {
                let count = room.len().min(bytes.len());
                room[..count].copy_from_slice(&bytes[..count]);
                bytes = &bytes[count..];
                match inflow.handle_header(count, Time::ZERO) {
                    Header::Partial => {}
                    Header::Whole => {
                        let mut header = [0; HEADER_BYTES];
                        let (count, ended) = inflow.give(&mut header);
                        flow.given.extend_from_slice(&header[..count]);
                        flow.ended += usize::from(ended);
                    }
                    ping => flow.pings.push(ping),
                }
            } else {
                let count = inflow.body_left().min(bytes.len());
                flow.given.extend_from_slice(&bytes[..count]);
                bytes = &bytes[count..];
                flow.ended += usize::from(inflow.handle_body(count));
            }
        }
    }
    flow
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
