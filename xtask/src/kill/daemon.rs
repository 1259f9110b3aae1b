//! One daemon process in a folder of its own, and its API over the unix socket: one request per connection, no library.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::is_put_aside;
use super::orders::{address, peer};

/// Where the daemon lives, and the program.
pub struct Home {
    folder: tempfile::TempDir,
    program: PathBuf,
    pub peers: u32,
}

/// A daemon that is ready.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    /// From its start to the answer that it takes orders.
    pub ready_after: Duration,
    /// What that cost it of a processor.
    pub cpu_ms: u64,
}

/// An answer that takes longer is none.
const ANSWER: Duration = Duration::from_secs(20);

impl Home {
    pub fn new(program: PathBuf, peers: u32) -> Result<Home> {
        let folder = tempfile::Builder::new().prefix("peerkeep-kill").tempdir()?;
        Ok(Home { folder, program, peers })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Writes a configuration that knows these peers, all at places of this machine where nobody listens.
    pub fn configure(&self, known: Range<u32>) -> Result<()> {
        // Room for those that orders are about.
        let mut text = format!("[limits]\nknown_peers = {}\n", self.peers + 1_000);
        if !known.is_empty() {
            text.push_str("[peers]\nknown = [\n");
            for number in known {
                text.push_str(&format!("\"{}/p2p/{}\",\n", address(number), peer(number)));
            }
            text.push_str("]\n");
        }
        fs::write(self.folder.path().join("config.toml"), text).context("the configuration")
    }

    pub fn spawn(&self) -> Result<Child> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars() {
            if name.starts_with("PEERKEEP_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.args(["run", "--json", "--die-with-parent", "--listen", "127.0.0.1:0"]);
        command.arg("--data").arg(self.data()).arg("--config").arg(self.folder.path().join("config.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        command.spawn().with_context(|| format!("cannot start {}", self.program.display()))
    }

    /// Starts it and waits until it says that it takes orders.
    pub fn start(&self, longest: Duration) -> Result<Daemon> {
        let began = Instant::now();
        let mut child = self.spawn()?;
        let stdout = child.stdout.take().context("piped")?;
        let (sender, first_line) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let _ = sender.send(lines.next());
            lines.for_each(drop);
        });
        let socket = self.data().join("peerkeep.sock");
        let mut daemon = Daemon { child, socket, ready_after: Duration::ZERO, cpu_ms: 0 };
        let ready = match first_line.recv_timeout(longest) {
            Ok(Some(Ok(_))) => daemon.get("/v1/ready"),
            _ => bail!("it said nothing; its log ends with:\n{}", self.end_of_log()),
        };
        let ready = ready.with_context(|| format!("its log ends with:\n{}", self.end_of_log()))?;
        if ready["ready"] != true {
            bail!("it is not ready: {ready}");
        }
        daemon.ready_after = began.elapsed();
        daemon.cpu_ms = daemon.cpu_ms().unwrap_or(0);
        Ok(daemon)
    }

    fn end_of_log(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Files put aside and lines of level ERROR since the last time: each means that a store was not whole.
    pub fn signs_of_damage(&self) -> Result<Vec<String>> {
        let mut signs = Vec::new();
        for entry in fs::read_dir(self.data())? {
            let path = entry?.path();
            if is_put_aside(&path) {
                signs.push(format!("{} was put aside", path.display()));
                fs::remove_file(path)?;
            }
        }
        let log = fs::read_to_string(self.log())?;
        signs.extend(log.lines().filter(|line| line.contains("ERROR")).map(str::to_owned));
        // What is read is read; the running daemon appends to the emptied file.
        File::options().write(true).open(self.log())?.set_len(0)?;
        Ok(signs)
    }
}

impl Daemon {
    pub fn get(&self, path: &str) -> Result<Value> {
        ask(&self.socket, "GET", path, "")
    }

    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Peers that it knows.
    pub fn known(&self) -> Result<u64> {
        self.get("/v1/status")?["counts"]["known"].as_u64().context("no count of known peers")
    }

    /// Time on a processor so far: columns 14 and 15 of its line, in hundredths of a second.
    fn cpu_ms(&self) -> Option<u64> {
        let line = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let after_name = line.rsplit_once(") ")?.1;
        let ticks = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().ok());
        ticks.sum::<Option<u64>>().map(|ticks| ticks * 10)
    }

    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("SIGKILL")?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and its end in good order.
    pub fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        let signalled = Command::new("kill").args(["-TERM", &pid]).status().context("kill")?;
        let ended = self.child.wait()?;
        if !signalled.success() || !ended.success() {
            bail!("the daemon ended with {ended}");
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request and the JSON of its answer; anything but success is an error.
pub fn ask(socket: &PathBuf, method: &str, path: &str, body: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: peerkeep\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).with_context(|| format!("{method} {path}"))
}

fn parse(answer: &[u8]) -> Result<Value> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").context("the answer broke off")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("{}: {body}", head.lines().next().unwrap_or_default());
    }
    // Long answers come in pieces, each behind its length; JSON itself never holds these line ends.
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => body.split("\r\n").skip(1).step_by(2).collect(),
        false => body.to_owned(),
    };
    serde_json::from_str(&body).context("the answer is not JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_in_pieces_and_never_half() {
        let whole = parse(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"a\": 1}").unwrap();
        let pieces =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n5\r\n\": 1}\r\n0\r\n\r\n";
        assert_eq!(parse(pieces).unwrap(), whole);
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"a\"").is_err());
        assert!(parse(b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
