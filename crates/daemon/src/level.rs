//! How much is logged and how it looks, changeable while the daemon runs.

use crate::exit::{Code, Failure};
use peerkeep::{LogFormat, LogSettings};
use std::fmt;
use tracing_subscriber::EnvFilter;

/// The handle to the running log's filter.
pub struct Level {
    fixed: bool,
    set: Box<dyn Fn(Option<EnvFilter>, LogFormat) -> bool + Send + Sync>,
}

impl Level {
    /// A handle that calls `set`; `fixed` when the environment decided and the file has no say.
    pub fn new(
        fixed: bool,
        set: impl Fn(Option<EnvFilter>, LogFormat) -> bool + Send + Sync + 'static,
    ) -> Level {
        Level { fixed, set: Box::new(set) }
    }

    /// Takes the level and look of a reloaded file.
    pub fn change(&self, log: &LogSettings) {
        let filter = if self.fixed { None } else { filter(&log.level).ok() };
        if !(self.set)(filter, log.format) {
            tracing::warn!("the log could not be changed");
        }
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Level").field("fixed", &self.fixed).finish_non_exhaustive()
    }
}

/// The filter that a text means.
///
/// # Errors
/// It is none.
pub fn filter(text: &str) -> Result<EnvFilter, Failure> {
    // The chatter of the database, and what is wrong with answers of DNS servers, are below what a user of this program
    // asked for with a bare level.
    let quiet = ",sqlx=warn,hickory_net=error,hickory_resolver=error,hickory_proto=error";
    let text = if text.contains(['=', ',']) { text.to_owned() } else { format!("{text}{quiet}") };
    EnvFilter::try_new(&text).map_err(|error| {
        Failure::new(Code::Config, format!("log.level: {text:?} is no level and no filter: {error}"))
            .next("use error, warn, info, debug, trace, or a filter such as info,peerkeep_net=debug")
    })
}
