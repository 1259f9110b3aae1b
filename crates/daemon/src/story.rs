//! A peer's story in plain sentences, told from a replayed journal.
