//! A child process, seen from the parent: a question per line, an answer per line. It refuses to outlive its handle.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::child::Kind;

/// The child; it ends when this is dropped.
pub struct Worker {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts this same program as a child whose nodes are of that kind.
    pub fn start(kind: Kind) -> Result<Worker> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--child", "--stack", kind.word()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a child")?;
        let asks = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Worker { child, asks, answers })
    }

    /// Asks and waits for the answer.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.asks, "{line}")?;
        let mut answer = String::new();
        let read = self.answers.read_line(&mut answer)?;
        ensure!(read > 0, "the child ended when asked {line:?}");
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
