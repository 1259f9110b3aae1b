//! Real daemons for tests: each in a temporary folder, on a loopback address and a port of its own. A daemon that logs
//! a line of level ERROR, or does not stop when asked, fails the test that started it.
#![allow(dead_code, missing_docs)]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for anything that should happen soon.
pub const SOON: Duration = Duration::from_secs(20);

pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_peerkeep"))
}

/// Set while the tests of a file run under document 003's profile: no pings, only TCP notices a dead peer. All daemons
/// take it as the setting that it names.
pub const PROFILE: &str = "PEERKEEP_LIVENESS_MODE";

/// A command without the environment of whoever runs the tests.
pub fn command() -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars() {
        if name.starts_with("PEERKEEP_") && name != PROFILE || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The last line as the one JSON object it has to be.
    pub fn json(&self) -> Value {
        let last = self.out.lines().last().unwrap_or_else(|| panic!("no output: {self:?}"));
        let value: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("not JSON: {self:?}"));
        assert!(value.is_object(), "not an object: {self:?}");
        value
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

pub fn run(args: &[&str]) -> Said {
    Said::of(command().args(args).output().expect("the program runs"))
}

/// A folder for a node; the same folder can be started many times.
pub struct Home {
    pub folder: TempDir,
    pub ip: String,
}

impl Home {
    pub fn new(last_octet: u8) -> Home {
        Home { folder: tempfile::tempdir().expect("a folder"), ip: format!("127.0.0.{last_octet}") }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `peerkeep run` here, with everything but the listen address and more arguments.
    pub fn run_command(&self) -> Command {
        let log =
            OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).expect("a log");
        let mut command = command();
        command.args(["run", "--json", "--die-with-parent", "--data"]).arg(self.data());
        command.current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(log);
        command
    }

    /// A daemon on a free port.
    #[track_caller]
    pub fn start(&self, more: &[&str]) -> Daemon<'_> {
        self.start_on(0, more)
    }

    #[track_caller]
    pub fn start_on(&self, port: u16, more: &[&str]) -> Daemon<'_> {
        self.try_start(port, more).unwrap_or_else(|said| panic!("the daemon did not start: {said:?}"))
    }

    /// A daemon, or how it ended instead.
    pub fn try_start(&self, port: u16, more: &[&str]) -> Result<Daemon<'_>, Said> {
        let mut command = self.run_command();
        command.arg("--listen").arg(format!("{}:{port}", self.ip)).args(more);
        let mut child = command.spawn().expect("the program runs");
        let stdout = child.stdout.take().expect("piped");
        let (sender, first_line) = mpsc::sync_channel(64);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let line = first_line.recv_timeout(SOON).unwrap_or_default();
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        if ready["addresses"].is_array() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Ok(Daemon {
                home: self,
                id: text(&ready["id"]),
                address: text(&ready["addresses"][0]),
                child: Some(child),
            });
        }
        let mut failed = Daemon { home: self, id: String::new(), address: String::new(), child: Some(child) };
        let code = failed.wait(SOON).code().unwrap_or(-1);
        Err(Said { code, out: line, err: self.log() })
    }

    /// A command about the node of this folder.
    pub fn ask(&self, args: &[&str]) -> Said {
        let mut command = command();
        Said::of(command.arg("--data").arg(self.data()).args(args).output().expect("the program runs"))
    }

    /// The same with `--json`, which must succeed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        let said = self.ask(&all);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.json()
    }

    /// How many peers are connected.
    pub fn connected(&self) -> u64 {
        self.json(&["status"])["counts"]["connected"].as_u64().unwrap_or(0)
    }
}

/// A running daemon.
pub struct Daemon<'a> {
    pub home: &'a Home,
    pub id: String,
    pub address: String,
    child: Option<Child>,
}

impl Daemon<'_> {
    pub fn port(&self) -> u16 {
        let port = self.address.split('/').skip_while(|part| *part != "tcp").nth(1);
        port.and_then(|port| port.parse().ok()).expect("an address with a port")
    }

    pub fn pid(&self) -> Pid {
        let raw = self.child.as_ref().map_or(0, Child::id);
        Pid::from_raw(i32::try_from(raw).expect("a pid")).expect("running")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("waited for once");
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = child.try_wait().expect("our child") {
                return status;
            }
            if Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                panic!("not ended within {limit:?}; its log:\n{}", self.home.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and a good end.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait(Duration::from_secs(11));
        assert!(status.success(), "{status}; its log:\n{}", self.home.log());
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait(SOON);
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = self.home.log();
        let errors: Vec<&str> = log.lines().filter(|line| line.contains(" ERROR ")).collect();
        if std::thread::panicking() {
            eprintln!("---- log of the daemon at {} ----\n{log}", self.home.ip);
        } else {
            assert!(errors.is_empty(), "logged errors: {errors:#?}");
        }
    }
}

/// Waits until something holds, and says what did not.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    loop {
        if holds() {
            return began.elapsed();
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// Whether we are root; says so when not.
pub fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: it needs root");
    }
    root
}
