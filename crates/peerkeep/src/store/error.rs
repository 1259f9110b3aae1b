//! When the store keeps a node from starting. A full or read-only disk does not: the node then runs from memory, ailing.

use std::path::PathBuf;

/// Why a store is not used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer program wrote it (fault K5). It is left alone.
    #[error(
        "{} was written by a newer version of this program (its schema is {theirs}, this program knows {ours}); \
         it is left alone: use that version, or another data folder", path.display()
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its schema.
        theirs: i64,
        /// The newest known here.
        ours: i64,
    },
    /// A damaged file could not even be put aside (fault K4).
    #[error("{} is damaged and cannot be put aside: {error}", path.display())]
    Quarantine {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// SQLite reports something else.
    #[error("{}: {error}", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// What.
        #[source]
        error: sqlx::Error,
    },
}
