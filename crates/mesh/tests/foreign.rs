//! The node against implementations of TLS and QUIC that share no code with ours: OpenSSL's programs and aioquic. Started
//! by `cargo xtask interop openssl` and `cargo xtask interop quic`; a part that is not installed is skipped, loudly.

mod common;

use common::*;
use peerkeep_core::{Addr, AddrKind, FaultKind, PeerKey, Step};
use peerkeep_mesh::{Identity, Protection};
use peerkeep_net::{Io, MeetError, Meeting, Quic, QuicIo, QuicOptions, Stack, Terms};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const SECRET: &str = "the secret of the test network";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/python/mesh_quic.py");
const SEED: u8 = 9;

/// The python that has aioquic: the one that xtask made, or whatever is called so.
fn python() -> String {
    std::env::var("PEERKEEP_INTEROP_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn has_aioquic() -> bool {
    let probe = std::process::Command::new(python()).args(["-c", "import aioquic, cryptography"]).output();
    let has = probe.is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("SKIPPED: python with aioquic is not installed here; `cargo xtask interop quic` brings it");
    }
    has
}

fn has_openssl() -> bool {
    let probe = std::process::Command::new("openssl").arg("version").output();
    let has = probe.is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("SKIPPED: openssl is not installed here");
    }
    has
}

struct Python {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Python {
    fn start(words: &[&str]) -> Python {
        let seed = format!("{SEED:02x}").repeat(32);
        let mut command = Command::new(python());
        command.arg(SCRIPT).args(words).args(["--seed", &seed, "--network", "test", "--secret", SECRET]);
        command.env("PYTHONDONTWRITEBYTECODE", "1").stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("python starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Python { _child: child, lines }
    }

    async fn until(&mut self, event: &str) -> Value {
        soon(async {
            let mut said = Vec::new();
            loop {
                let Some(line) = self.lines.next_line().await.expect("readable") else {
                    panic!("it never said {event}: {said:?}")
                };
                let value: Value = serde_json::from_str(&line).expect("JSON");
                if value["event"] == event {
                    return value;
                }
                said.push(value);
            }
        })
        .await
    }
}

fn second() -> PeerKey {
    Identity::from_seed(&[SEED; 32]).expect("an identity").key()
}

fn endpoint(node: &Node) -> quinn::Endpoint {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
    let server = node.stack.quic_server();
    let config = quinn::EndpointConfig::new(server.reset_key.clone());
    quinn::Endpoint::new(config, Some(server.config), socket, Arc::new(quinn::TokioRuntime))
        .expect("an endpoint")
}

async fn accept_one(node: &Node, endpoint: &quinn::Endpoint) -> Result<Up, MeetError> {
    let incoming = soon(endpoint.accept()).await.expect("open");
    let remote = incoming.remote_address();
    let connecting = incoming.accept().map_err(|error| node.stack.quic_fault(Step::Secure, &error))?;
    let terms = Terms { remote: Addr::new(remote, AddrKind::Quic), ..accept_terms(remote) };
    let (met, meeting) = soon(node.stack.meet(Io::Quic(QuicIo::Arrived(connecting)), terms)).await?;
    Ok(Up::start(met, soon(meeting.settle(admit())).await?))
}

async fn echo_back(incoming: &mut peerkeep_mesh::Incoming) -> peerkeep_mesh::Channel {
    let mut channel = soon(incoming.recv()).await.expect("a channel");
    let mut bytes = [0; 22];
    soon(channel.read_exact(&mut bytes)).await.expect("read");
    channel.write_all(&bytes).await.expect("written");
    channel
}

#[tokio::test]
async fn quic_aioquic_dials_us_greets_pings_and_opens_a_channel() {
    if !has_aioquic() {
        return;
    }
    local(async {
        let node = Node::new(1);
        let mut incoming = node.registry.accept("echo", 1).expect("free");
        let endpoint = endpoint(&node);
        let to = endpoint.local_addr().expect("bound").to_string();
        let mut python = Python::start(&["dial", "--to", &to]);
        let up = accept_one(&node, &endpoint).await.expect("up");
        assert_eq!(up.met.key, second());
        assert_eq!(
            up.met.listen.first().map(|addr| addr.kind),
            Some(AddrKind::Quic),
            "its QUIC address is read"
        );
        assert_eq!(python.until("secure").await["protocol"], "peerkeep-quic/1");
        let greeted = python.until("up").await;
        assert!(greeted["seen"].as_str().is_some_and(|seen| seen.ends_with("/quic")), "{greeted}");
        assert_eq!(python.until("pong").await["known"], true);
        let _open = echo_back(&mut incoming).await;
        assert_eq!(python.until("echo").await["text"], "echo over another QUIC");
        up.close(peerkeep_core::Close::Idle).await;
        assert_eq!(python.until("goodbye").await["reason"], "idle");
    })
    .await;
}

#[tokio::test]
async fn quic_we_dial_aioquic_greet_and_open_a_channel() {
    if !has_aioquic() {
        return;
    }
    local(async {
        let node = Node::new(1);
        let mut python = Python::start(&["listen"]);
        let port = python.until("listening").await["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let to = SocketAddr::from(([127, 0, 0, 1], port.expect("a port")));
        let quic = Quic::new(node.stack.quic_server(), QuicOptions::default());
        let terms = Terms { remote: Addr::new(to, AddrKind::Quic), ..dial_terms(Some(second()), to) };
        let dial = node.stack.quic_dial(&terms).expect("QUIC");
        let fault = |step, error: &quinn::ConnectionError| node.stack.quic_fault(step, error);
        let io = soon(quic.connect(to, dial, fault)).await.expect("connected");
        let (met, meeting) = soon(node.stack.meet(Io::Quic(io), terms)).await.expect("met");
        assert_eq!(met.key, second());
        let up = Up::start(met, soon(meeting.settle(admit())).await.expect("agreed"));
        assert_eq!(python.until("up").await["epoch"], 100);
        up.post.probe();
        python.until("ping").await;
        let mut channel = soon(up.handle.open("echo")).await.expect("agreed");
        channel.write_all(b"over another QUIC").await.expect("written");
        let mut back = [0; 17];
        soon(channel.read_exact(&mut back)).await.expect("read");
        assert_eq!(&back, b"over another QUIC");
        up.close(peerkeep_core::Close::Shutdown).await;
        assert_eq!(python.until("goodbye").await["reason"], "shutdown");
    })
    .await;
}

#[tokio::test]
async fn quic_aioquic_with_another_protocol_or_without_a_certificate_is_refused() {
    if !has_aioquic() {
        return;
    }
    local(async {
        for (bad, kind) in [("alpn", FaultKind::Protocol), ("no-certificate", FaultKind::Secure)] {
            let node = Node::new(1);
            let endpoint = endpoint(&node);
            let to = endpoint.local_addr().expect("bound").to_string();
            let mut python = Python::start(&["dial", "--to", &to, "--bad", bad]);
            let Err(MeetError::Fault(fault)) = accept_one(&node, &endpoint).await else { panic!("{bad}") };
            assert_eq!((fault.step, fault.kind), (Step::Secure, kind), "{bad}");
            let closed = python.until("closed").await;
            assert!(closed["code"].as_u64() >= Some(0x100), "told in TLS's words: {closed}");
        }
    })
    .await;
}

/// A key and a certificate that OpenSSL made.
struct Papers(tempfile::TempDir);

impl Papers {
    fn new(algorithm: &str) -> Papers {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = std::process::Command::new("openssl");
        command.current_dir(folder.path()).args([
            "req",
            "-x509",
            "-nodes",
            "-subj",
            "/CN=foreign",
            "-days",
            "1",
        ]);
        command.args(["-newkey", algorithm, "-keyout", "key.pem", "-out", "cert.pem"]);
        if algorithm == "ec" {
            command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        }
        assert!(command.output().expect("openssl starts").status.success(), "{algorithm}");
        Papers(folder)
    }

    fn openssl(&self, words: &[&str]) -> Command {
        let mut command = Command::new("openssl");
        command.current_dir(self.0.path()).args(words).args(["-cert", "cert.pem", "-key", "key.pem"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

/// What `s_client` says about a handshake with us, and what we make of it: a hello never comes.
async fn s_client(papers: &Papers, more: &[&str]) -> (String, MeetError) {
    let node = Node::new(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let to = listener.local_addr().expect("bound").to_string();
    let words = [&["s_client", "-connect", &to], more].concat();
    let mut child = papers.openssl(&words).spawn().expect("openssl starts");
    let (tcp, _) = soon(listener.accept()).await.expect("accepts");
    // The end of its input ends it, once the handshake is over.
    let ours = async { accept(&node, admit(), tcp).await.err().expect("it never says hello") };
    let theirs = async {
        let mut said = String::new();
        let mut out = child.stdout.take().expect("piped");
        drop(child.stdin.take());
        let _ = out.read_to_string(&mut said).await;
        let mut more = String::new();
        let _ = child.stderr.take().expect("piped").read_to_string(&mut more).await;
        said + &more
    };
    let (said, error) = soon(async { tokio::join!(theirs, ours) }).await;
    (said, error)
}

#[tokio::test]
async fn openssl_s1_15_s_client_with_an_ed25519_certificate_finishes_tls_1_3() {
    if !has_openssl() {
        return;
    }
    local(async {
        let papers = Papers::new("ed25519");
        let (said, error) = s_client(&papers, &["-tls1_3", "-alpn", "peerkeep/1"]).await;
        assert!(said.contains("TLSv1.3") && said.contains("ALPN protocol: peerkeep/1"), "{said}");
        assert!(said.to_lowercase().contains("ed25519"), "{said}");
        let MeetError::Fault(fault) = error else { panic!("{error:?}") };
        assert_eq!(fault.step, Step::Hello, "TLS was done: only the hello was missing");
    })
    .await;
}

#[tokio::test]
async fn openssl_s1_15_what_is_older_foreign_or_unproven_is_refused() {
    if !has_openssl() {
        return;
    }
    local(async {
        let (ed25519, ecdsa, rsa) = (Papers::new("ed25519"), Papers::new("ec"), Papers::new("rsa:2048"));
        let good = ["-tls1_3", "-alpn", "peerkeep/1"];
        for (papers, words, what) in [
            (&ed25519, &["-tls1_2", "-alpn", "peerkeep/1"][..], "TLS 1.2"),
            (&ed25519, &["-tls1_3", "-alpn", "h2"], "another protocol"),
            (&ed25519, &["-tls1_3"], "no protocol"),
            (&ecdsa, &good, "an ECDSA certificate"),
            (&rsa, &good, "an RSA certificate"),
        ] {
            let (said, error) = s_client(papers, words).await;
            let MeetError::Fault(fault) = error else { panic!("{what}: {error:?}") };
            assert_eq!(fault.step, Step::Secure, "{what}: {said}");
        }
    })
    .await;
}

#[tokio::test]
async fn openssl_s1_15_we_dial_s_server_and_a_bad_certificate_is_refused() {
    if !has_openssl() {
        return;
    }
    local(async {
        let node = Node::new(1);
        for (algorithm, step) in [("ed25519", Step::Hello), ("ec", Step::Secure), ("rsa:2048", Step::Secure)]
        {
            let papers = Papers::new(algorithm);
            let words =
                ["s_server", "-accept", "127.0.0.1:0", "-tls1_3", "-alpn", "peerkeep/1", "-Verify", "1"];
            let mut child = papers.openssl(&words).spawn().expect("openssl starts");
            let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
            let to = soon(async {
                loop {
                    let line = lines.next_line().await.expect("readable").expect("it says where it listens");
                    if let Some(at) = line.strip_prefix("ACCEPT ") {
                        break at.to_owned();
                    }
                }
            })
            .await;
            let tcp = TcpStream::connect(&to).await.expect("connects");
            let dialled =
                async { dial(&node, None, tcp).await.err().expect("it does not speak our greeting") };
            let ending = async {
                // After TLS it waits for a person; one who leaves ends it.
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                drop(child.stdin.take());
                let _ = child.start_kill();
            };
            let (error, ()) = soon(async { tokio::join!(dialled, ending) }).await;
            match error {
                MeetError::Fault(fault) => assert_eq!(fault.step, step, "{algorithm}: {fault:?}"),
                other => panic!("{algorithm}: {other:?}"),
            }
        }
    })
    .await;
}

type Ends = (ChildStdin, ChildStdout);

/// One end of a tunnel that OpenSSL makes: what goes in and what comes out.
fn tunnel_end(papers: &Papers, words: &[&str]) -> (Child, Ends) {
    let mut child = papers.openssl(words).stderr(Stdio::null()).spawn().expect("openssl starts");
    let ends = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    (child, ends)
}

/// Joins a socket with an end of the tunnel, until either closes.
async fn join(tcp: TcpStream, (mut into, mut out): Ends) {
    let (mut read, mut write) = tcp.into_split();
    tokio::select! {
        _ = tokio::io::copy(&mut read, &mut into) => {}
        _ = tokio::io::copy(&mut out, &mut write) => {}
    }
}

/// Passes bytes on between the two ends of the tunnel and keeps a copy of them.
async fn record(tcp: TcpStream, to: SocketAddr, seen: Arc<std::sync::Mutex<Vec<u8>>>) {
    let other = loop {
        match TcpStream::connect(to).await {
            Ok(other) => break other,
            // It does not listen yet; the test as a whole is bounded.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    let ((mut a, mut b), (mut c, mut d)) = (tcp.into_split(), other.into_split());
    let pass = async |from: &mut tokio::net::tcp::OwnedReadHalf, to: &mut tokio::net::tcp::OwnedWriteHalf| {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            seen.lock().expect("sound").extend_from_slice(&bytes[..count]);
            if to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = pass(&mut a, &mut d) => {}
        () = pass(&mut c, &mut b) => {}
    }
}

/// The other form of the setting: TLS is a foreign tool's, ours is off, on loopback.
#[tokio::test]
async fn openssl_s1_3_nodes_without_tls_of_their_own_talk_through_a_tunnel_that_openssl_makes() {
    if !has_openssl() {
        return;
    }
    local(async {
        let plain = |config: &mut peerkeep_mesh::MeshConfig| {
            config.protection = Protection::Plain { anywhere: false };
        };
        let (a, b) = (Node::with(1, plain), Node::with(2, plain));
        let mut incoming = b.registry.accept("echo", 1).expect("free");
        let papers = Papers::new("ec");
        // A free port: s_server with `-quiet` does not say which one it took.
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
        let server_at = free.expect("a port");
        let (_server, server) = tunnel_end(
            &papers,
            &["s_server", "-quiet", "-naccept", "1", "-tls1_3", "-accept", &server_at.to_string()],
        );
        let middle = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let middle_at = middle.local_addr().expect("bound").to_string();
        let (_client, client) =
            tunnel_end(&papers, &["s_client", "-quiet", "-tls1_3", "-connect", &middle_at]);
        let (tcp, _) = soon(middle.accept()).await.expect("s_client connects");
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        tokio::task::spawn_local(record(tcp, server_at, seen.clone()));
        let ((to_tunnel, at_tunnel), (from_tunnel, at_b)) = (sockets().await, sockets().await);
        tokio::task::spawn_local(join(at_tunnel, client));
        tokio::task::spawn_local(join(from_tunnel, server));
        let both = async { tokio::join!(dial(&a, Some(b.key()), to_tunnel), accept(&b, admit(), at_b)) };
        let (at_a, at_b) = soon(both).await;
        let (at_a, _at_b) = (at_a.expect("up"), at_b.expect("up"));
        let mut channel = soon(at_a.handle.open("echo")).await.expect("agreed");
        channel.write_all(b"words in a tunnel here").await.expect("written");
        let _open = echo_back(&mut incoming).await;
        let mut back = [0; 22];
        soon(channel.read_exact(&mut back)).await.expect("read");
        assert_eq!(&back, b"words in a tunnel here");
        let seen = seen.lock().expect("sound");
        let shows = |text: &[u8]| seen.windows(text.len()).any(|window| window == text);
        assert!(seen.len() > 1_000 && !shows(b"words in a tunnel") && !shows(b"peerkeep-plain/1"));
    })
    .await;
}
