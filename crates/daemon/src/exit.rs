//! How a command ends: exit codes that mean something, and failures that say what to do next. Nothing here prints.

use peerkeep::EstablishError;
use std::fmt;
use std::process::ExitCode;

/// The table shown at the end of `--help`.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  failed, or refused
  2  the command line is wrong
  3  no daemon is running for this data folder
  4  no such peer, ban or file
  5  it took too long
  6  the configuration file is refused
  7  the listen address cannot be used
  8  another daemon uses this data folder
  9  the identity file is missing, unreadable or open to others
  10  a limit is reached
  11  the peer is banned
  12  the peer is connected already
  13  no address of the peer is known

Settings come from the command line first, then the environment, then the file, then the defaults.
Secrets are read from files only, never from the command line.";

/// An exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Failed, or refused.
    Failed = 1,
    /// The command line is wrong; also what clap ends with.
    Usage = 2,
    /// Nobody serves the API socket.
    NotRunning = 3,
    /// No such peer, ban or file.
    NotFound = 4,
    /// It took too long.
    Timeout = 5,
    /// The configuration file is refused.
    Config = 6,
    /// The listen address cannot be used.
    Listen = 7,
    /// Another daemon holds the data folder.
    Running = 8,
    /// The identity file is missing, unreadable or open to others.
    Identity = 9,
    /// A limit is reached.
    Limit = 10,
    /// The peer is banned.
    Banned = 11,
    /// It is connected, or being connected, already.
    AlreadyConnected = 12,
    /// There is no address to dial.
    NoAddress = 13,
}

impl Code {
    /// Its name in JSON, the same in the API and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Code::Failed => "failed",
            Code::Usage => "usage",
            Code::NotRunning => "not_running",
            Code::NotFound => "not_found",
            Code::Timeout => "timeout",
            Code::Config => "config",
            Code::Listen => "listen",
            Code::Running => "already_running",
            Code::Identity => "identity",
            Code::Limit => "limit_reached",
            Code::Banned => "banned",
            Code::AlreadyConnected => "already_connected",
            Code::NoAddress => "no_address",
        }
    }

    /// The code with that name; anything unknown is a plain failure.
    pub fn from_word(word: &str) -> Code {
        use Code::*;
        let all = [Usage, NotRunning, NotFound, Timeout, Config, Listen, Running, Identity];
        let refusals = [Limit, Banned, AlreadyConnected, NoAddress];
        all.into_iter().chain(refusals).find(|code| code.word() == word).unwrap_or(Failed)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code as u8)
    }
}

/// A command that did not succeed: what happened, and what the user can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// With which code the program ends.
    pub code: Code,
    /// What happened, one sentence without a full stop.
    pub message: String,
    /// Document 001's word for a refused connection.
    pub refusal: Option<EstablishError>,
    /// What to do next, if anything can be done.
    pub next: Option<String>,
}

impl Failure {
    /// A failure with nothing to advise.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), refusal: None, next: None }
    }

    /// A command that said all there is to say on standard output already.
    pub fn shown(code: Code) -> Failure {
        Failure::new(code, "")
    }

    /// A plain failure, code 1.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure::new(Code::Failed, message)
    }

    /// The same with advice.
    pub fn next(mut self, next: impl Into<String>) -> Failure {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(next) = &self.next {
            write!(f, "\n  {next}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::failed(format!("{error:#}"))
    }
}

/// What every command ends with.
pub type Ended = Result<(), Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_name_and_comes_back_from_it() {
        for code in [
            Code::Failed,
            Code::Usage,
            Code::NotRunning,
            Code::NotFound,
            Code::Timeout,
            Code::Config,
            Code::Listen,
            Code::Running,
            Code::Identity,
            Code::Limit,
            Code::Banned,
            Code::AlreadyConnected,
            Code::NoAddress,
        ] {
            assert_eq!(Code::from_word(code.word()), code);
            assert!(HELP.contains(&format!("\n  {}  ", code as u8)), "{code:?} is not in the help");
        }
        assert_eq!(Code::from_word("something newer"), Code::Failed);
    }
}
