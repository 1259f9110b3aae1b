//! What a node remembers between starts: peers, bans and history, in one SQLite file.

mod error;

pub use error::StoreError;
