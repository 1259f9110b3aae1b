//! The journal's encoding: a segment is a checkpoint and the actions after it. Pure: bytes in, bytes out; the files,
//! their ring and their disk are net's. Effects are not recorded, because replaying the actions makes them again.
//!
//! ```text
//! segment = "PKJ1"  unix_ms u64 LE  length u32 LE  check u32 LE  checkpoint  record*  [end]
//! record  = length u32 LE (> 0)  check u32 LE  body          body = postcard((Time, Action))
//! end     = 0 u32 LE  digest u64 LE
//! ```
//! A record's check is a hash of its body seeded with the digest *before* its action: a reader that checks it checks
//! both the bytes and that every decision so far came out the same. A segment without an end was cut by a crash.

use crate::{Action, Core, Effects, LoadError, Time};
use alloc::vec::Vec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const MAGIC: &[u8; 4] = b"PKJ1";
const HEAD: usize = 4 + 8 + 4 + 4;
/// Largest body of a record, bytes.
pub const MAX_RECORD: usize = 1 << 17;
/// Largest checkpoint that is read, bytes.
pub const MAX_CHECKPOINT: usize = 1 << 30;

/// Why a segment cannot be replayed (further).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JournalError {
    /// It does not begin like a segment.
    NotASegment,
    /// A length is beyond its limit.
    TooLarge,
    /// The checkpoint is damaged.
    Checkpoint(LoadError),
    /// The bytes of this record are damaged, or the replay decided differently before it.
    Mismatch {
        /// How many actions were replayed before.
        after_actions: u64,
    },
    /// The end's digest is not the one reached.
    EndMismatch,
}

/// Begins a segment with the core's checkpoint. O(n), the only such act.
pub fn begin(core: &Core, unix_ms: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&unix_ms.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    core.save(out);
    let body = start + HEAD;
    let length = u32::try_from(out.len() - body).expect("a checkpoint below 4 GiB");
    let check = check_of(&out[body..], unix_ms);
    out[start + 12..start + 16].copy_from_slice(&length.to_le_bytes());
    out[start + 16..start + 20].copy_from_slice(&check.to_le_bytes());
}

/// Appends an action that is about to be stepped. `digest` is the core's before the step.
pub fn append(digest: u64, now: Time, action: &Action, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    let taken = core::mem::take(out);
    *out = postcard::to_extend(&(now, action), taken).expect("writing to memory cannot fail");
    let length = u32::try_from(out.len() - start - 8).expect("an action is small");
    let check = check_of(&out[start + 8..], digest);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&check.to_le_bytes());
}

/// Ends a segment in good order.
pub fn end(digest: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&0_u32.to_le_bytes());
    out.extend_from_slice(&digest.to_le_bytes());
}

/// A segment being replayed. Its bytes need not be trusted.
#[derive(Debug)]
pub struct Replay<'a> {
    /// The state after the actions so far.
    pub core: Core,
    /// Wall clock at the segment's beginning, milliseconds since 1970.
    pub began_unix_ms: u64,
    /// The core's time then.
    pub began: Time,
    /// Actions replayed so far.
    pub actions: u64,
    /// Whether the segment's end was reached and agreed.
    pub ended: bool,
    rest: &'a [u8],
}

impl<'a> Replay<'a> {
    /// Reads the checkpoint.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn new(bytes: &'a [u8]) -> Result<Replay<'a>, JournalError> {
        let (magic, bytes) = bytes.split_first_chunk::<4>().ok_or(JournalError::NotASegment)?;
        if magic != MAGIC {
            return Err(JournalError::NotASegment);
        }
        let (unix, bytes) = bytes.split_first_chunk::<8>().ok_or(JournalError::NotASegment)?;
        let (length, bytes) = bytes.split_first_chunk::<4>().ok_or(JournalError::NotASegment)?;
        let (check, bytes) = bytes.split_first_chunk::<4>().ok_or(JournalError::NotASegment)?;
        let (unix_ms, length) = (u64::from_le_bytes(*unix), u32::from_le_bytes(*length) as usize);
        if length > MAX_CHECKPOINT {
            return Err(JournalError::TooLarge);
        }
        let (checkpoint, rest) = bytes.split_at_checked(length).ok_or(JournalError::NotASegment)?;
        if check_of(checkpoint, unix_ms) != u32::from_le_bytes(*check) {
            return Err(JournalError::Checkpoint(LoadError::Malformed));
        }
        let core = Core::load(checkpoint).map_err(JournalError::Checkpoint)?;
        let began = core.view().now();
        Ok(Replay { core, began_unix_ms: unix_ms, began, actions: 0, ended: false, rest })
    }

    /// Replays one action; its effects are left in `out`, which is cleared first. `None` at the end: of the segment
    /// when `ended`, else of what a crash left.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn step(&mut self, out: &mut Effects) -> Result<Option<(Time, Action)>, JournalError> {
        out.clear();
        let Some((length, rest)) = self.rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 {
            let Some((digest, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
            self.rest = rest;
            if u64::from_le_bytes(*digest) != self.core.digest() {
                return Err(JournalError::EndMismatch);
            }
            self.ended = true;
            return Ok(None);
        }
        if length > MAX_RECORD {
            return Err(JournalError::TooLarge);
        }
        let Some((check, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let Some((body, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        let mismatch = JournalError::Mismatch { after_actions: self.actions };
        if check_of(body, self.core.digest()) != u32::from_le_bytes(*check) {
            return Err(mismatch);
        }
        let (now, action): (Time, Action) = postcard::from_bytes(body).map_err(|_| mismatch)?;
        self.core.step(now, &action, out);
        self.actions += 1;
        self.rest = rest;
        Ok(Some((now, action)))
    }

    /// The wall clock at a time of the core, milliseconds since 1970, as the segment's beginning had it.
    pub fn unix_ms(&self, at: Time) -> u64 {
        let micros = at.0.saturating_sub(self.began.0);
        self.began_unix_ms.saturating_add(micros / 1_000)
    }
}

fn check_of(bytes: &[u8], seed: u64) -> u32 {
    let hash = xxh3_64_with_seed(bytes, seed);
    (hash ^ (hash >> 32)) as u32
}
