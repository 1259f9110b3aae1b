//! Every setting of a node: one commented TOML file, read whole or refused whole.

mod error;

pub use error::{Mistake, SettingsError};

/// Every setting of a node.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Settings {}
