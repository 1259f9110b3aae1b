//! The demo's processes: started, killed, paused and stopped here and nowhere else. Whatever happens, dropping the
//! fleet leaves no process and no folder behind.

use super::Plan;
use super::figures::Figures;
use crate::client::Client;
use crate::exit::Failure;
use crate::out;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Most time until a node prints its address.
const START_TIME: Duration = Duration::from_secs(20);
/// Most time for a node to say goodbye.
const STOP_TIME: Duration = Duration::from_secs(12);

/// What `peerkeep run --json` prints when it is ready.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// Its identity.
    pub id: String,
}

/// One node.
#[derive(Debug)]
pub struct Member {
    /// Its own loopback address.
    pub ip: Ipv4Addr,
    /// Its data folder.
    pub data: PathBuf,
    /// What it printed at its first start.
    pub ready: Option<Ready>,
    /// What somebody watching should know: `running`, `killed`, `paused`.
    pub state: &'static str,
    child: Option<Child>,
}

/// All of them.
#[derive(Debug)]
pub struct Fleet {
    /// In order.
    pub members: Vec<Member>,
    /// The port that all listen on, each on its own address.
    pub port: u16,
    program: PathBuf,
    secret: PathBuf,
    config: PathBuf,
    // Last, so that it goes after the children.
    folder: TempDir,
}

impl Fleet {
    /// Folders, a network secret and a free port; nothing runs yet.
    pub fn new(plan: &Plan) -> Result<Fleet, Failure> {
        let told = |error: std::io::Error| Failure::failed(format!("the demo's folder: {error}"));
        let folder = tempfile::Builder::new().prefix("peerkeep-demo-").tempdir().map_err(told)?;
        let secret = folder.path().join("network.secret");
        write_secret(&secret).map_err(told)?;
        let config = folder.path().join("peerkeep.toml");
        fs::write(&config, config_for(plan.nodes)).map_err(told)?;
        let ips: Vec<Ipv4Addr> =
            (1..=plan.nodes).map(|n| Ipv4Addr::new(127, 0, 0, u8::try_from(n).unwrap_or(1))).collect();
        let port = free_port(&ips)?;
        let mut members = Vec::new();
        for (index, ip) in ips.into_iter().enumerate() {
            let data = folder.path().join(format!("node-{}", index + 1));
            members.push(Member { ip, data, ready: None, state: "starting", child: None });
        }
        let program = std::env::current_exe().map_err(told)?;
        Ok(Fleet { members, port, program, secret, config, folder })
    }

    /// Starts all at the same time. All but the first are told the first one's address, without its identity.
    pub async fn start_all(&mut self) -> Result<(), Failure> {
        let mut outputs = Vec::new();
        for index in 0..self.members.len() {
            outputs.push(self.spawn(index)?);
        }
        for (index, output) in outputs.into_iter().enumerate() {
            self.await_ready(index, output).await?;
        }
        Ok(())
    }

    /// Starts one again in its old folder and waits until it listens.
    pub async fn start(&mut self, index: usize) -> Result<(), Failure> {
        let output = self.spawn(index)?;
        self.await_ready(index, output).await
    }

    fn spawn(&mut self, index: usize) -> Result<tokio::process::ChildStdout, Failure> {
        let first = SocketAddrV4::new(self.members[0].ip, self.port);
        let member = &mut self.members[index];
        let told =
            |error: std::io::Error| Failure::failed(format!("node {} cannot be started: {error}", index + 1));
        let log = OpenOptions::new().create(true).append(true).open(log_path(&member.data)).map_err(told)?;
        let mut command = Command::new(&self.program);
        command
            .args(["run", "--json", "--die-with-parent", "--listen"])
            .arg(format!("{}:{}", member.ip, self.port))
            .arg("--data")
            .arg(&member.data)
            .arg("--config")
            .arg(&self.config)
            .arg("--secret")
            .arg(&self.secret)
            .env_remove("PEERKEEP_DATA")
            .env_remove("PEERKEEP_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        if index > 0 {
            command.arg("--want").arg(first.to_string());
        }
        let mut child = command.spawn().map_err(told)?;
        let output = child.stdout.take();
        member.child = Some(child);
        output.ok_or_else(|| Failure::failed("a node without output"))
    }

    async fn await_ready(
        &mut self,
        index: usize,
        output: tokio::process::ChildStdout,
    ) -> Result<(), Failure> {
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(START_TIME, lines.next_line()).await;
        let ready = match &line {
            Ok(Ok(Some(line))) => serde_json::from_str::<Ready>(line).ok(),
            _ => None,
        };
        // Whatever else it prints is not ours to read, but the pipe must not fill or break.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let Some(ready) = ready else {
            return Err(Failure::failed(format!("node {} did not start", index + 1))
                .next(format!("its log ends with:\n{}", tail(&log_path(&self.members[index].data)))));
        };
        let member = &mut self.members[index];
        member.ready = Some(ready);
        member.state = "running";
        Ok(())
    }

    /// Sends a signal to one node and says so in its state.
    pub fn signal(&mut self, index: usize, signal: Signal, state: &'static str) {
        let member = &mut self.members[index];
        if let Some(pid) = member.pid() {
            let _ = kill_process(pid, signal);
            member.state = state;
        }
    }

    /// Waits for a killed node to be gone.
    pub async fn reap(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].child.take() {
            let _ = child.wait().await;
        }
    }

    /// A client of one node's API.
    pub async fn client(&self, index: usize) -> Result<Client, Failure> {
        Client::open_socket(&self.socket(index), "").await
    }

    /// The API socket of one node.
    pub fn socket(&self, index: usize) -> PathBuf {
        self.members[index].data.join("peerkeep.sock")
    }

    /// Asks all to stop and notes who did not in time or not well.
    pub async fn stop_all(&mut self, figures: &mut Figures) {
        for index in 0..self.members.len() {
            self.signal(index, Signal::CONT, "stopping");
            self.signal(index, Signal::TERM, "stopping");
        }
        let deadline = tokio::time::Instant::now() + STOP_TIME;
        for (index, member) in self.members.iter_mut().enumerate() {
            let Some(mut child) = member.child.take() else { continue };
            match tokio::time::timeout_at(deadline, child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(ended) => figures.miss(format!("node {} ended badly: {ended:?}", index + 1)),
                Err(_) => {
                    figures.miss(format!("node {} did not stop within {}", index + 1, out::span(STOP_TIME)))
                }
            }
        }
    }

    /// The logs' paths, in order.
    pub fn logs(&self) -> Vec<PathBuf> {
        self.members.iter().map(|member| log_path(&member.data)).collect()
    }

    /// The journals' folders, in order.
    pub fn journals(&self) -> Vec<PathBuf> {
        self.members.iter().map(|member| member.data.join("journal")).collect()
    }

    /// Leaves the folders where they are.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(pid) = member.pid() {
                let _ = kill_process(pid, Signal::KILL);
            }
            // Not reaped asynchronously: the folder may go only after the process.
            if let Some(mut child) = member.child.take() {
                let until = std::time::Instant::now() + Duration::from_secs(2);
                while matches!(child.try_wait(), Ok(None)) && std::time::Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
}

impl Member {
    /// Its process, while there is one.
    pub fn pid(&self) -> Option<Pid> {
        let raw = i32::try_from(self.child.as_ref()?.id()?).ok()?;
        Pid::from_raw(raw)
    }

    /// Its identity, once it has printed it.
    pub fn id(&self) -> &str {
        self.ready.as_ref().map_or("", |ready| ready.id.as_str())
    }
}

fn log_path(data: &Path) -> PathBuf {
    data.with_extension("log")
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    out::clean_lines(&lines[lines.len().saturating_sub(8)..].join("\n"))
}

fn write_secret(path: &Path) -> std::io::Result<()> {
    let mut bytes = [0_u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for byte in bytes {
        write!(file, "{byte:02x}")?;
    }
    writeln!(file)
}

/// A port free on every one of these addresses, below the range that the kernel hands out by itself.
fn free_port(ips: &[Ipv4Addr]) -> Result<u16, Failure> {
    for salt in 0..200_u32 {
        let random = RandomState::new().hash_one(salt);
        let port = 20_000 + u16::try_from(random % 12_000).unwrap_or(0);
        if ips.iter().all(|ip| TcpListener::bind((*ip, port)).is_ok()) {
            return Ok(port);
        }
    }
    Err(Failure::failed(format!(
        "no free port on {}",
        ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    ))
    .next("the demo needs 127.0.0.1, 127.0.0.2, ... on this machine"))
}

/// All nodes are on this machine, so addresses that a node hears of are loopback ones and may be dialled. Everybody is
/// to be connected to everybody, also when there are more nodes than a node keeps by default.
fn config_for(nodes: usize) -> String {
    let target = nodes.saturating_sub(1);
    format!("[network]\nname = \"demo\"\n\n[peers]\ndial_private_gossip = true\ntarget = {target}\n")
}
