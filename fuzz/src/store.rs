//! What is read from the store: rows whose sum holds but whose content is anybody's, and whole damaged files.

use super::input::Input;
use peerkeep::fuzzing;
use std::sync::LazyLock;

/// A row of each table.
pub fn rows(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.below(3);
    let numbers = [input.number(), input.number(), input.number()].map(u64::cast_signed);
    let flags = input.byte();
    let Ok(text) = str::from_utf8(input.0) else { return };
    let mut texts = text.splitn(4, '\n');
    let mut next = || texts.next().unwrap_or_default();
    match kind {
        0 => {
            let flags = [flags & 1, flags >> 1 & 1, flags >> 2 & 1].map(i64::from);
            fuzzing::peer([next(), next(), next(), next()], flags, numbers[0].max(0), numbers[1].max(0));
        }
        1 => {
            let reason = if flags & 1 == 0 { "operator" } else { "misbehaviour" };
            fuzzing::ban(next(), numbers[0], (flags & 2 == 0).then_some(numbers[1]), reason);
        }
        _ => fuzzing::event(next(), next()),
    }
}

/// A sound file, then damaged as the input says: bytes changed, cut off, or replaced as a whole. A start survives it,
/// and the start after that finds a sound file.
pub fn file(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(peerkeep::STORE_FILE);
    std::fs::write(&path, damaged(data)).expect("writable");
    let runtime = runtime();
    let first = runtime.block_on(fuzzing::file(folder.path()));
    if first.is_ok() {
        let second = runtime.block_on(fuzzing::file(folder.path())).expect("what was repaired opens");
        assert_eq!(first.ok(), Some(second), "nothing more is lost by the next start");
    }
}

/// A sound file with peers, a ban and a history.
static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    runtime().block_on(fuzzing::fill(folder.path())).expect("a new store");
    std::fs::read(folder.path().join(peerkeep::STORE_FILE)).expect("closed and whole")
});

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn damaged(data: &[u8]) -> Vec<u8> {
    let mut input = Input(data);
    if input.below(8) == 7 {
        return input.0.to_vec();
    }
    let mut bytes = SOUND.clone();
    while !input.is_empty() {
        let at = usize::try_from(input.u32()).unwrap_or(0) % bytes.len();
        match input.byte() {
            255 => bytes.truncate(at.max(1)),
            length => {
                let piece = input.take(usize::from(length % 8) + 1);
                let room = bytes.len().min(at + piece.len());
                bytes[at..room].copy_from_slice(&piece[..room - at]);
            }
        }
    }
    bytes
}
