//! Where a node keeps its things, and which of them a command means. Creates nothing and opens nothing.

use crate::exit::Failure;
use crate::settings::Overrides;
use peerkeep::Settings;
use std::path::{Path, PathBuf};

/// A data folder and a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The data folder.
    pub data: PathBuf,
    /// The configuration file; it need not exist unless it was named.
    pub config: PathBuf,
    /// Whether the configuration file was named by the user.
    pub config_named: bool,
}

impl Place {
    /// The place that the options name; the default folder is `$XDG_STATE_HOME/peerkeep` or `~/.local/state/peerkeep`.
    ///
    /// # Errors
    /// Neither an option nor the environment says where.
    pub fn find(data: Option<&Path>, config: Option<&Path>) -> Result<Place, Failure> {
        let data = match data {
            Some(data) => data.to_owned(),
            None => default_data(|name| std::env::var_os(name).map(PathBuf::from)).ok_or_else(|| {
                Failure::failed("no home folder is known").next("name a data folder: --data DIR")
            })?,
        };
        let data = std::path::absolute(&data)
            .map_err(|error| Failure::failed(format!("{}: {error}", data.display())))?;
        let config_named = config.is_some();
        let config = config.map_or_else(|| data.join("peerkeep.toml"), Path::to_owned);
        Ok(Place { data, config, config_named })
    }

    /// The API's socket of a daemon with these settings.
    pub fn socket_of(&self, settings: &Settings) -> PathBuf {
        self.data.join(settings.api.socket.as_deref().unwrap_or(Path::new("peerkeep.sock")))
    }

    /// The API's socket, for a client: as the settings file says, if it can be read.
    pub fn socket(&self) -> PathBuf {
        let settings = crate::settings::load(self, &Overrides::default()).unwrap_or_default();
        self.socket_of(&settings)
    }

    /// The identity's key file.
    pub fn identity(&self) -> PathBuf {
        self.data.join("identity.key")
    }

    /// The option that leads other commands here, empty for the default folder.
    pub fn option(&self) -> String {
        let usual = default_data(|name| std::env::var_os(name).map(PathBuf::from));
        if usual.as_ref() == Some(&self.data) {
            String::new()
        } else {
            format!(" --data {}", self.data.display())
        }
    }
}

fn default_data(var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // The base directory specification says that a relative path there is to be ignored.
    let state = var("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let home = || var("HOME").filter(|path| path.is_absolute()).map(|home| home.join(".local/state"));
    state.or_else(home).map(|state| state.join("peerkeep"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(xdg: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
        default_data(|name| if name == "HOME" { home.map(PathBuf::from) } else { xdg.map(PathBuf::from) })
    }

    #[test]
    fn the_data_folder_follows_the_base_directories() {
        assert_eq!(with(Some("/x"), Some("/h")), Some("/x/peerkeep".into()));
        assert_eq!(with(None, Some("/h")), Some("/h/.local/state/peerkeep".into()));
        assert_eq!(with(Some("relative"), Some("/h")), Some("/h/.local/state/peerkeep".into()));
        assert_eq!(with(None, None), None);
    }

    #[test]
    fn the_option_wins_and_names_the_config_beside_it() {
        let place = Place::find(Some(Path::new("/d")), None).expect("absolute");
        assert_eq!(place.config, Path::new("/d/peerkeep.toml"));
        assert_eq!(place.option(), " --data /d");
        assert!(!place.config_named);
    }
}
