//! What a listener on the wire reads (S1.28): every packet of a whole run is captured in a network namespace of its own,
//! over TCP and QUIC, and none of it says anything. Needs root and tcpdump; says so loudly and passes where it may not.

mod common;

use bytes::Bytes;
use common::*;
use peerkeep::{ListenAddress, Node, Settings};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CHILD: &str = "PEERKEEP_CAPTURE_CHILD";

#[test]
fn s1_28_in_a_capture_of_a_whole_run_no_application_byte_is_readable() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    if Command::new("tcpdump").arg("--version").output().is_err() {
        eprintln!("SKIPPED: tcpdump is not installed here");
        return;
    }
    let script = "set -e; ip link set lo up; exec \"$0\" --exact captured_run --nocapture";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script]).arg(std::env::current_exe().expect("a path"));
    match command.env(CHILD, "1").status() {
        Ok(status) => assert!(status.success(), "{status}"),
        Err(error) => eprintln!("SKIPPED: no unshare: {error}"),
    }
}

struct Capture(Child);

impl Capture {
    fn start(file: &Path) -> Capture {
        let mut command = Command::new("tcpdump");
        command.args(["-i", "lo", "-s", "0", "-U", "-Z", "root", "-B", "65536", "-w"]).arg(file);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it is installed");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let listens = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening on lo")));
        assert!(listens.is_some(), "tcpdump does not listen");
        std::thread::spawn(move || lines.for_each(drop));
        Capture(child)
    }

    /// All that was seen.
    fn stop(mut self, file: &Path) -> Vec<u8> {
        let id = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(id, Signal::INT).expect("it runs");
        self.0.wait().expect("our child");
        std::fs::read(file).expect("a capture")
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What an application has to hide, unlike anything else and often enough to lie within one packet many times.
fn words(mark: &str) -> Vec<u8> {
    format!("<{mark}: the cat is in the bag> ").repeat(400).into_bytes()
}

/// A whole life: met, a channel in both directions, messages, pings, goodbye.
async fn live(a: &Node, b: &Node, mark: &str) {
    let mut incoming = b.accept("captured protocol").expect("free");
    let mut inbox = b.messages("captured topic").expect("free");
    a.connect(address(b), PATIENCE).await.expect("is accepted");
    connected(a, b).await;
    let text = words(mark);
    let mut channel = a.open(b.id(), "captured protocol").await.expect("agreed");
    let (_, mut other) = soon("the channel", incoming.next()).await.expect("runs");
    let mut heard = vec![0; text.len()];
    for _ in 0..8 {
        channel.write_all(&text).await.expect("written");
        soon("the words", other.read_exact(&mut heard)).await.expect("read");
        other.write_all(&heard).await.expect("written");
        soon("their echo", channel.read_exact(&mut heard)).await.expect("read");
        assert_eq!(heard, text);
    }
    a.send(b.id(), "captured topic", Bytes::from(text.clone())).await.expect("room");
    assert_eq!(soon("the message", inbox.next()).await.expect("runs").bytes, text);
    // A quiet time, so that pings are captured too.
    tokio::time::sleep(Duration::from_millis(600)).await;
    a.disconnect(b.id()).await.expect("is connected");
    status(b, a.id(), "the end", |peer| peer.link.is_none()).await;
}

fn ours(host: u8, over: fn(std::net::SocketAddr) -> ListenAddress, secret: &Path) -> Settings {
    let mut settings = settings(host);
    settings.listen.addresses = vec![over(([127, 0, 0, host], 0).into())];
    settings.network.name = "captured network".into();
    settings.network.secret_file = Some(secret.to_owned());
    settings.node.agent = "captured agent".into();
    settings.liveness.silence = Duration::from_millis(200);
    settings.peers.target = 0;
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captured_run() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (file, secret) = (folder.path().join("capture"), folder.path().join("secret"));
    std::fs::write(&secret, "the captured secret of the network").expect("writable");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&secret, mode).expect("ours");
    let capture = Capture::start(&file);
    let tcp = |at| ListenAddress::tcp(at);
    let quic = |at| ListenAddress::quic(at);
    for (mark, over) in [("tcp", tcp as fn(_) -> _), ("quic", quic)] {
        let (a, b) = (node(1, ours(1, over, &secret)).await, node(2, ours(2, over, &secret)).await);
        live(&a, &b, mark).await;
        a.shutdown().await;
        b.shutdown().await;
    }
    // The same without TLS, so that it is known that the capture would show it.
    let plain = |host| {
        let mut settings = ours(host, tcp, &secret);
        settings.tls.enabled = false;
        settings.quic.enabled = false;
        settings
    };
    let (a, b) = (node(3, plain(3)).await, node(4, plain(4)).await);
    live(&a, &b, "plain").await;
    a.shutdown().await;
    b.shutdown().await;
    let seen = capture.stop(&file);
    let count = |text: &str| seen.windows(text.len()).filter(|window| *window == text.as_bytes()).count();
    println!("{} bytes captured", seen.len());
    assert!(seen.len() > 3 * 8 * 2 * words("tcp").len(), "all three runs are in it");
    assert!(count("<plain: the cat is in the bag>") > 1_000, "the capture shows what is not hidden");
    for secret in ["<tcp: ", "<quic: ", "the captured secret"] {
        assert_eq!(count(secret), 0, "{secret:?} is readable");
    }
    // What both say to each other before and around it is hidden as well: it shows in the plain run alone.
    let plain_from = seen.windows(16).position(|window| window == b"peerkeep-plain/1").expect("the last run");
    let before = &seen[..plain_from];
    for text in ["captured protocol", "captured topic", "captured agent", "exchange", "the cat is in"] {
        let bytes = text.as_bytes();
        assert!(seen.windows(bytes.len()).any(|window| window == bytes), "{text:?}: the plain run shows it");
        assert!(!before.windows(bytes.len()).any(|window| window == bytes), "{text:?} is readable");
    }
}
