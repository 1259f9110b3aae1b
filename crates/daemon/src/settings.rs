//! From file, environment and command line to the library's settings. The precedence is the one the help states:
//! command line, environment, file, defaults. Which values are right is the library's business.

use crate::exit::{Code, Failure};
use crate::place::Place;
use peerkeep::{DEFAULT_PORT, Override, Settings, SettingsError};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Variables are named `PEERKEEP_<SECTION>_<KEY>`, such as `PEERKEEP_LOG_LEVEL`.
const PREFIX: &str = "PEERKEEP_";

/// What the command line says about settings.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Listen here instead of where the configuration says; without a port on 7330, port 0 takes a free one. May be
    /// repeated
    #[arg(long, value_name = "IP[:PORT]", value_parser = listen_address)]
    pub listen: Vec<SocketAddr>,
    /// The file with the network secret, which every node of the network has
    #[arg(long, value_name = "FILE")]
    pub secret: Option<PathBuf>,
    /// Any other setting, such as limits.total=100. May be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok((ip, DEFAULT_PORT).into());
    }
    text.parse().map_err(|_| "write it as 0.0.0.0:7330 or [::]:7330".into())
}

/// Reads them all.
///
/// # Errors
/// Every mistake, by line and key; nothing of a file with mistakes is taken.
pub fn load(place: &Place, overrides: &Overrides) -> Result<Settings, Failure> {
    let mut all = from_environment(|name| std::env::var(name).ok());
    all.extend(from_options(overrides)?);
    let read = if place.config_named || place.config.exists() {
        Settings::load(&place.config, &all)
    } else {
        Settings::read("", None, &all)
    };
    read.map_err(|error| explain(place, &error))
}

/// As JSON; secrets are in files of their own and only their names are settings.
pub fn to_json(settings: &Settings) -> serde_json::Value {
    toml::from_str(&settings.to_toml()).unwrap_or_default()
}

fn explain(place: &Place, error: &SettingsError) -> Failure {
    Failure::new(Code::Config, error.to_string()).next(format!(
        "correct it, then `peerkeep config check {}`; `peerkeep config show --default` explains every key",
        place.config.display()
    ))
}

fn from_options(overrides: &Overrides) -> Result<Vec<Override>, Failure> {
    let mut all = Vec::new();
    if !overrides.listen.is_empty() {
        let value = format!("{:?}", overrides.listen.iter().map(ToString::to_string).collect::<Vec<_>>());
        all.push(Override { key: "listen.addresses".into(), value, origin: "--listen".into() });
    }
    if let Some(secret) = &overrides.secret {
        let path = std::path::absolute(secret).unwrap_or_else(|_| secret.clone());
        let value = toml::Value::String(path.to_string_lossy().into_owned()).to_string();
        all.push(Override { key: "network.secret_file".into(), value, origin: "--secret".into() });
    }
    for set in &overrides.set {
        let Some((key, value)) = set.split_once('=') else {
            return Err(Failure::new(Code::Usage, format!("--set {set}: this has no value"))
                .next("write it as --set section.key=value"));
        };
        let override_ =
            Override { key: key.trim().into(), value: value.trim().into(), origin: "--set".into() };
        all.push(override_);
    }
    Ok(all)
}

/// Every setting that a variable names. The names come from the settings themselves, so none is forgotten.
fn from_environment(var: impl Fn(&str) -> Option<String>) -> Vec<Override> {
    let Ok(sections) = toml::from_str::<toml::Table>(&Settings::default().to_toml()) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for (section, keys) in &sections {
        let Some(keys) = keys.as_table() else { continue };
        for key in keys.keys() {
            let name = format!("{PREFIX}{section}_{key}").to_uppercase();
            if let Some(value) = var(&name) {
                all.push(Override { key: format!("{section}.{key}"), value, origin: name });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn place(folder: &Path, text: &str) -> Place {
        std::fs::write(folder.join("peerkeep.toml"), text).expect("write");
        Place::find(Some(folder), None).expect("absolute")
    }

    #[test]
    fn fault_g5_options_win_over_the_environment_and_that_over_the_file() {
        let named = |name: &str| (name == "PEERKEEP_LIMITS_TOTAL").then(|| "30".to_owned());
        let environment = from_environment(named);
        assert_eq!(environment.len(), 1);
        let overrides = Overrides { set: vec!["limits.total=40".into()], ..Overrides::default() };
        let mut both = environment.clone();
        both.extend(from_options(&overrides).expect("well formed"));
        let text = "[limits]\ntotal = 20\ninbound = 5\noutbound = 5\n";
        let total =
            |overrides: &[Override]| Settings::read(text, None, overrides).expect("good").limits.total;
        assert_eq!((total(&[]), total(&environment), total(&both)), (20, 30, 40));
    }

    #[test]
    fn fault_g1_a_mistake_is_named_by_line_and_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path(), "[limits]\ntotal = 10\ntotl = 3\n");
        let failure = load(&place, &Overrides::default()).expect_err("refused");
        assert_eq!(failure.code, Code::Config);
        assert!(failure.message.contains("line 3") && failure.message.contains("limits.totl"), "{failure}");
    }

    #[test]
    fn options_reach_the_settings() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path(), "");
        let overrides = Overrides { listen: vec![([127, 0, 0, 9], 0).into()], ..Overrides::default() };
        let settings = load(&place, &overrides).expect("good");
        assert_eq!(settings.listen.addresses, [([127, 0, 0, 9], 0).into()]);
        assert_eq!(to_json(&settings)["listen"]["addresses"][0], "127.0.0.9:0");
    }

    #[test]
    fn a_listen_address_may_leave_out_its_port() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:7330"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("::", "[::]:7330"),
            ("[::1]", "[::1]:7330"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(listen_address(text).map(|address| address.to_string()), Ok(address.into()));
        }
        assert!(listen_address("localhost").is_err());
    }

    #[test]
    fn a_set_without_a_value_is_a_usage_error() {
        let overrides = Overrides { set: vec!["limits.total".into()], ..Overrides::default() };
        assert_eq!(from_options(&overrides).expect_err("refused").code, Code::Usage);
    }
}
