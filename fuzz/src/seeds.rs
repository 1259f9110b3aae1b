//! The committed seeds.
