//! paths.
