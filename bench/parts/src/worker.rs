//! Child processes of a measuring program: each is this program again, told what to do by lines on its standard input and
//! answering each with one line. It refuses to end any process but the children it started; a child ends with its input.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use tokio::sync::mpsc;

/// A child; it is ended when this is dropped.
pub struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts this program with those arguments; also gives the line the child began with.
    pub fn start(args: &[&str]) -> Result<(Worker, String)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a child")?;
        let orders = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        let mut worker = Worker { child, orders, answers };
        let first = worker.answer().with_context(|| format!("the child {args:?} did not start"))?;
        Ok((worker, first))
    }

    /// Gives an order and waits for its answer.
    pub fn ask(&mut self, order: &str) -> Result<String> {
        self.tell(order)?;
        self.answer().with_context(|| format!("asked {order:?}"))
    }

    /// Gives an order; [`Worker::answer`] fetches the answer later.
    pub fn tell(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}").context("the child went away")
    }

    /// The next answer.
    pub fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line)?;
        ensure!(read > 0, "the child ended");
        Ok(line.trim().to_owned())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a child: answers the parent.
pub fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("the parent went away")
}

/// In a child: the parent's orders; ends when the parent goes away.
pub fn orders() -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tell.blocking_send(line).is_err() {
                break;
            }
        }
    });
    told
}
