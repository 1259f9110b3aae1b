//! What a replay reads: segments of any bytes, segments whose sums are right but whose records are anybody's, and
//! checkpoints. Untrusted all of them (fault K8): an error or a core that goes on, never a panic.

use super::actions;
use super::input::Input;
use peerkeep_core::journal::{self, Replay};
use peerkeep_core::{Action, Core, Effects, SAVE_VERSION, Time};
use std::cell::RefCell;
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const HEAD: usize = 20;
/// Largest memory that a checkpoint may make the reader hold beyond what it says itself: tables sized by limits that
/// were checked.
const LOAD_BUDGET: u64 = 32 << 20;

/// A core with some of everything in it, its checkpoint, and the segment that led there.
pub static BUSY: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let core = actions::busy();
    let mut checkpoint = Vec::new();
    core.0.save(&mut checkpoint);
    (checkpoint, core.1)
});

thread_local! {
    static OUT: RefCell<Effects> = RefCell::new(Effects::new());
}

/// Any bytes, or a true segment bent where the input says.
pub fn segment(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    if how & 1 == 0 {
        replay(rest);
        return;
    }
    let mut input = Input(rest);
    let mut bytes = BUSY.1.clone();
    let mut bent = false;
    while !input.is_empty() {
        let at = usize::try_from(input.u32()).unwrap_or(0) % bytes.len();
        match input.byte() {
            0 => bytes.truncate(at.max(1)),
            flip => bytes[at] ^= flip,
        }
        bent = true;
    }
    let ended = replay(&bytes);
    assert!(bent || ended, "the true segment replays to its end");
    assert!(!ended || bytes == BUSY.1, "a bent segment never agrees to its end");
}

/// Reads to the end; whether the segment ended in good order.
fn replay(bytes: &[u8]) -> bool {
    let Ok(mut replay) = Replay::new(bytes) else { return false };
    OUT.with_borrow_mut(|out| while let Ok(Some(_)) = replay.step(out) {});
    let _ = replay.unix_ms(Time(u64::MAX));
    if replay.actions > 0 && replay.ended {
        replay.core.check().expect("what replayed to its end holds together");
    }
    replay.ended
}

/// Records whose sums are right, so that their content is read: any bytes as time and action, stepped by a true core.
pub fn records(data: &[u8]) {
    let mut input = Input(data);
    let mut core = actions::small();
    OUT.with_borrow_mut(|out| {
        let mut segment = Vec::new();
        let checked = input.flag();
        if checked {
            journal::begin(&core, 0, &mut segment);
        }
        let mut stepped = 0_u64;
        while !input.is_empty() && stepped < 64 {
            let body = input.piece();
            let Ok((now, action)) = postcard::from_bytes::<(Time, Action)>(body) else { continue };
            if checked {
                segment.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_le_bytes());
                segment.extend_from_slice(&sum(body, core.digest()).to_le_bytes());
                segment.extend_from_slice(body);
            }
            out.clear();
            core.step(now, &action, out);
            core.check().unwrap_or_else(|broken| panic!("{broken:?} after {action:?} at {now:?}"));
            stepped += 1;
        }
        if checked {
            journal::end(core.digest(), &mut segment);
            let mut replay = Replay::new(&segment).expect("our own segment");
            while replay.step(out).expect("the same decisions").is_some() {}
            assert!(replay.ended && replay.actions == stepped);
        }
    });
}

fn sum(bytes: &[u8], seed: u64) -> u32 {
    let hash = xxh3_64_with_seed(bytes, seed);
    u32::try_from((hash ^ (hash >> 32)) & 0xffff_ffff).unwrap_or(0)
}

/// A checkpoint of any bytes, or a true one with bytes replaced or numbers made longer. What is loaded holds together,
/// is saved and loaded the same, and goes on without a panic.
pub fn load(data: &[u8]) {
    let mut input = Input(data);
    let mut bytes;
    if input.flag() {
        bytes = BUSY.0.clone();
        for _ in 0..input.below(5) {
            let at = 4 + usize::try_from(input.u32()).unwrap_or(0) % (bytes.len() - 4);
            let old = input.below(4);
            let new = input.below(12);
            let end = bytes.len().min(at + old);
            bytes.splice(at..end, input.take(new).iter().copied());
        }
    } else {
        bytes = SAVE_VERSION.to_le_bytes().to_vec();
        bytes.extend_from_slice(input.0);
        input = Input(&[]);
    }
    let mut loaded = None;
    let spent = allocation_counter::measure(|| loaded = Core::load(&bytes).ok());
    assert!(spent.bytes_max <= LOAD_BUDGET, "{spent:?} for {} bytes", bytes.len());
    let Some(mut core) = loaded else { return };
    // Loading is most of the work, so it is done again for some only.
    if data.len().is_multiple_of(4) {
        let mut saved = Vec::new();
        core.save(&mut saved);
        let again = Core::load(&saved).expect("what was loaded can be saved and loaded");
        assert_eq!(again.digest(), core.digest());
    }
    OUT.with_borrow_mut(|out| actions::live_on(&mut core, &mut input, out));
}

/// The head of a segment around any checkpoint, for the seeds.
pub fn around(checkpoint: &[u8]) -> Vec<u8> {
    let mut segment = b"PKJ1".to_vec();
    segment.extend_from_slice(&0_u64.to_le_bytes());
    segment.extend_from_slice(&u32::try_from(checkpoint.len()).unwrap_or(0).to_le_bytes());
    segment.extend_from_slice(&sum(checkpoint, 0).to_le_bytes());
    assert_eq!(segment.len(), HEAD);
    segment.extend_from_slice(checkpoint);
    segment
}
