//! Starting other programs: found in PATH, run from the repository's root, failed loudly.
//!
//! No shell is involved, so no argument is ever split or expanded.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::project;

/// Whether colours and progress bars are unwanted: set by every build service.
pub fn plain() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// The file that `program` would start, or nothing when it is not in PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Administration tools live here, and a user's PATH on Debian leaves it out.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A program to be run in the repository's root, with plain output when [`plain`] says so.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(project::root());
    if plain() {
        command
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TERM_PROGRESS_WHEN", "never")
            .env("NO_COLOR", "1");
    }
    command
}

/// The cargo that started us, so that a `+toolchain` stays in force.
pub fn cargo() -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs to the end, sharing our terminal.
///
/// # Errors
/// When the program cannot be started, or ends with anything but success.
pub fn status(command: &mut Command) -> Result<()> {
    let shown = describe(command);
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs to the end, passing each line of its stdout to `line` and then to our stdout.
///
/// # Errors
/// As [`status`].
pub fn tee(command: &mut Command, mut line: impl FnMut(&str)) -> Result<()> {
    let shown = describe(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{shown}`"))?;
    if let Some(stdout) = child.stdout.take() {
        for bytes in BufReader::new(stdout).split(b'\n') {
            let bytes = bytes?;
            let text = String::from_utf8_lossy(&bytes);
            println!("{text}");
            line(&text);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs quietly and says whether it succeeded; a program that cannot start did not.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-of-peerkeep").is_none());
    }

    #[test]
    fn tee_passes_each_line_and_reports_the_exit_code() {
        let mut lines = Vec::new();
        tee(program("printf").arg("one\\ntwo\\n"), |l| lines.push(l.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two"]);
        let error = tee(&mut program("false"), |_| ()).unwrap_err();
        assert!(error.to_string().contains("`false` ended with"), "{error}");
        assert!(status(&mut program("no-such-program-of-peerkeep")).is_err());
    }
}
