//! `tests/python/mesh_peer.py` as the other side of a link.

use super::{Node, Up, accept, admit, dial, soon};
use peerkeep_mesh::Identity;
use peerkeep_net::MeetError;
use serde_json::Value;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/python/mesh_peer.py");
const SEED: u8 = 77;
const SECRET: &str = "the secret of the test network";

/// The other program and what it says.
pub struct Python {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<Value>,
}

impl Python {
    pub fn start(words: &[&str]) -> Python {
        let mut command = Command::new("python3");
        command.arg(SCRIPT).args(words).stdout(Stdio::piped()).kill_on_drop(true);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = command.spawn().expect("python starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Python { child, lines, said: Vec::new() }
    }

    /// Reads on until it says that.
    pub async fn until(&mut self, event: &str) -> Value {
        soon(async {
            loop {
                let line = self.lines.next_line().await.expect("readable");
                let Some(line) = line else { panic!("it never said {event}: {:?}", self.said) };
                let value: Value = serde_json::from_str(&line).expect("JSON");
                self.said.push(value.clone());
                if value["event"] == event {
                    return value;
                }
            }
        })
        .await
    }

    /// Everything it says until it ends.
    pub async fn rest(mut self) -> Vec<Value> {
        soon(async {
            while let Some(line) = self.lines.next_line().await.expect("readable") {
                self.said.push(serde_json::from_str(&line).expect("JSON"));
            }
            self.child.wait().await.expect("ends");
        })
        .await;
        self.said
    }
}

pub fn has(said: &[Value], event: &str) -> bool {
    said.iter().any(|value| value["event"] == event)
}

/// Whether the other program can run here; says so when not.
pub fn can_run() -> bool {
    let probe = std::process::Command::new("python3").args(["-c", "import cryptography, ssl"]).output();
    let can = probe.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("SKIPPED: python3 with the cryptography package is not installed here");
    }
    can
}

fn seed() -> String {
    format!("{SEED:02x}").repeat(32)
}

/// Python dials; gives what our acceptor made of it.
pub async fn dialled_by(node: &Node, more: &[&str]) -> (Python, Result<Up, MeetError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let to = listener.local_addr().expect("bound").to_string();
    let seed = seed();
    let mut words = vec!["dial", "--to", &to, "--seed", &seed, "--network", "test"];
    if !more.contains(&"--secret") {
        words.extend(["--secret", SECRET]);
    }
    words.extend(more);
    let python = Python::start(&words);
    let (tcp, _) = soon(listener.accept()).await.expect("accepts");
    (python, soon(accept(node, admit(), tcp)).await)
}

/// We dial Python; gives what our dialler made of it.
pub async fn dialling(node: &Node, more: &[&str]) -> (Python, Result<Up, MeetError>) {
    let trust: String = node.identity.certificate().iter().map(|byte| format!("{byte:02x}")).collect();
    let seed = seed();
    let mut words = vec!["listen", "--seed", &seed, "--network", "test", "--trust", &trust];
    if !more.contains(&"--secret") {
        words.extend(["--secret", SECRET]);
    }
    words.extend(more);
    let mut python = Python::start(&words);
    let port = python.until("listening").await["port"].as_u64().expect("a port");
    let tcp = TcpStream::connect(format!("127.0.0.1:{port}")).await.expect("connects");
    let expect = Identity::from_seed(&[SEED; 32]).expect("an identity").key();
    let up = soon(dial(node, Some(expect), tcp)).await;
    (python, up)
}
