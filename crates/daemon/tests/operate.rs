//! What operators rely on: live reload, metrics, and an API that no client can hold up.
#![allow(missing_docs)]

mod common;

use common::{Home, SOON, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn talk(mut stream: impl Read + Write, request: &str) -> String {
    let _ = stream.write_all(request.as_bytes());
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(count) = stream.read(&mut chunk) {
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    stream
}

fn raw(home: &Home, request: &str) -> String {
    talk(connect(&home.data().join("peerkeep.sock")), request)
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("bound").port()
}

fn scrape(port: u16, head: &str) -> String {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    talk(stream, &format!("GET /metrics HTTP/1.1\r\n{head}\r\n"))
}

fn write_config(home: &Home, text: &str) {
    fs::write(home.data().join("peerkeep.toml"), text).expect("writable");
}

/// Faults A1 and R6.
#[test]
fn metrics_are_off_unless_switched_on_answer_their_own_name_only_and_pass_promtool() {
    let (home, other) = (Home::new(161), Home::new(162));
    let daemon = home.start(&[]);
    assert!(TcpStream::connect(("127.0.0.1", 7331)).is_err(), "off by default");
    let peer = other.start(&[]);
    let port = free_port();
    write_config(&home, &format!("[metrics]\nenabled = true\naddress = \"127.0.0.1:{port}\"\n"));
    let reloaded = home.json(&["config", "reload"]);
    assert_eq!(reloaded["changed"], json!(["metrics.enabled", "metrics.address"]));
    home.ask(&["connect", &peer.address]).expect(0);

    let host = format!("host: 127.0.0.1:{port}\r\n");
    let answer = scrape(port, &host);
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("access-control"), "{head}");
    for line in [
        "peerkeep_peers{standing=\"connected\"} 1",
        "peerkeep_connections{stage=\"up\"} 1",
        "peerkeep_stage_seconds_count{stage=\"connect\"} 1",
        "peerkeep_stage_seconds_count{stage=\"secure\"} 1",
        "peerkeep_stage_seconds_count{stage=\"hello\"} 1",
        "peerkeep_stage_seconds_count{stage=\"resolve\"} 0",
        "peerkeep_limit{limit=\"total\"} 500",
    ] {
        assert!(body.contains(line), "{line} is not in\n{body}");
    }
    assert!(!body.contains(&peer.id) && !body.contains("127.0.0.162"), "no peer is a label (fault R6)");
    promtool(body);

    for bad in [
        "host: evil.com\r\n".to_owned(),
        format!("host: evil.com:{port}\r\n"),
        String::new(),
        format!("{host}origin: http://evil.com\r\n"),
        format!("{host}sec-fetch-site: cross-site\r\n"),
    ] {
        let answer = scrape(port, &bad);
        assert!(!answer.contains("200 OK") && !answer.contains("peerkeep_"), "fault A1: {bad}{answer}");
    }
    let post = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let answer = talk(post, &format!("POST /metrics HTTP/1.1\r\n{host}content-length: 0\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let v1 = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    assert!(talk(v1, &format!("GET /v1/status HTTP/1.1\r\n{host}\r\n")).starts_with("HTTP/1.1 404"));

    write_config(&home, "[metrics]\nenabled = true\naddress = \"0.0.0.0:7339\"\n");
    let refused = home.ask(&["config", "reload"]).expect(6);
    assert!(refused.err.contains("line 3") && refused.err.contains("metrics.hosts"), "{refused:?}");
    assert!(scrape(port, &host).contains("200 OK"), "the old one stays");
    write_config(&home, "");
    home.ask(&["config", "reload"]).expect(0);
    until("the port is closed", SOON, || TcpStream::connect(("127.0.0.1", port)).is_err());
    daemon.stop();
    peer.stop();
}

/// Has Prometheus' own tool read the figures, where it is installed.
fn promtool(text: &str) {
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else {
        eprintln!(
            "SKIPPED promtool check metrics: promtool is not installed (`cargo xtask setup` installs it)"
        );
        return;
    };
    tool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let output = tool.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Fault G3: the new one is there before the old one goes, and an error changes nothing.
#[test]
fn a_reload_moves_the_api_socket_and_changes_the_log_while_the_daemon_runs() {
    let home = Home::new(163);
    let daemon = home.start(&[]);
    let first = home.data().join("peerkeep.sock");
    assert_eq!(fs::metadata(&first).expect("there").permissions().mode() & 0o777, 0o600, "fault A4");
    let second = home.folder.path().join("second.sock");
    let text =
        format!("[api]\nsocket = \"{}\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n", second.display());
    write_config(&home, &text);
    // The command line looks where the file says, so only a signal reaches the daemon now.
    daemon.signal(Signal::HUP);
    until("the old socket is gone", SOON, || !first.exists());
    let reloaded = home.json(&["config", "reload"]);
    assert_eq!((&reloaded["changed"], &reloaded["needs_restart"]), (&json!([]), &json!([])));
    let answer = talk(connect(&second), "GET /v1/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"ready\":true"), "{answer}");
    let lines: Vec<Value> = home.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(lines.iter().any(|line| line["level"] == "INFO"), "the log is JSON now: {}", home.log());

    // Something that is not ours stands where the next socket should be: all stays as it was.
    let taken = home.folder.path().join("taken");
    fs::write(&taken, "precious").expect("writable");
    write_config(&home, &format!("[api]\nsocket = \"{}\"\n[limits]\ntotal = 77\n", taken.display()));
    daemon.signal(Signal::HUP);
    until("it is refused", SOON, || home.log().contains("not a socket"));
    let answer = talk(connect(&second), "GET /v1/config HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(answer.contains("\"total\":500"), "nothing of it was taken: {answer}");
    daemon.stop();
}

#[test]
fn fault_g3_what_only_a_start_can_change_is_refused_at_a_reload_and_listed() {
    let home = Home::new(164);
    let daemon = home.start(&[]);
    write_config(&home, "[node]\nthreads = 3\n[limits]\ntotal = 77\n");
    let said = home.ask(&["config", "reload"]).expect(6);
    assert!(said.err.contains("node.threads") && said.err.contains("restart"), "{said:?}");
    let shown = home.ask(&["config", "show"]).expect(0).out;
    assert!(
        shown.contains("total = 500") && shown.starts_with("# A reload changes everything but node.threads")
    );
    daemon.stop();
}

#[test]
fn fault_a6_requests_without_end_or_with_two_lengths_are_refused_in_time() {
    let home = Home::new(165);
    let daemon = home.start(&[]);
    let post = "POST /v1/connect HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    // Two lengths: what one reader takes for a body another takes for a request.
    let hidden = "GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\n";
    for lengths in [
        format!(
            "content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
            5 + hidden.len()
        ),
        format!("content-length: 2\r\ncontent-length: {}\r\n\r\n{{}}{hidden}", 2 + hidden.len()),
        format!("transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
    ] {
        let answer = raw(&home, &format!("{post}{lengths}"));
        assert!(!answer.contains("HTTP/1.1 200") || !answer.contains("\"api\""), "{lengths}: {answer}");
    }
    // A body of ten gigabytes is refused by its length, a chunked one without end by its size.
    assert!(raw(&home, &format!("{post}content-length: 10000000000\r\n\r\n{{")).starts_with("HTTP/1.1 400"));
    let mut endless = connect(&home.data().join("peerkeep.sock"));
    endless.write_all(format!("{post}transfer-encoding: chunked\r\n\r\n").as_bytes()).expect("sent");
    let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
    let sent = (0..10_000).take_while(|_| endless.write_all(chunk.as_bytes()).is_ok()).count();
    assert!(sent < 5_000, "it does not read on for ever");
    // A body that trickles.
    let began = Instant::now();
    let answer = raw(&home, &format!("{post}content-length: 100\r\n\r\n{{"));
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    // Requests in a row on one connection are answered in order.
    let two = "GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\nGET /v1/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = raw(&home, two);
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    home.ask(&["status"]).expect(0);
    daemon.stop();
}

#[test]
fn fault_a7_readers_of_events_are_limited_and_hold_no_order_up() {
    let home = Home::new(166);
    let daemon = home.start(&[]);
    let follow = || {
        let mut stream = connect(&home.data().join("peerkeep.sock"));
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("answered");
        (stream, String::from_utf8_lossy(&head).into_owned())
    };
    let readers: Vec<_> = (0..32).map(|_| follow()).collect();
    assert!(readers.iter().all(|(_, head)| head == "HTTP/1.1 200"));
    assert_eq!(follow().1, "HTTP/1.1 429");
    home.ask(&["status"]).expect(0);
    home.ask(&["ban", "203.0.113.9"]).expect(0);
    drop(readers);
    until("places are given back", SOON, || follow().1 == "HTTP/1.1 200");
    daemon.stop();
}

#[test]
fn fault_a9_a_thousand_connects_in_a_loop_are_queued_or_refused_and_the_node_stays_responsive() {
    let home = Home::new(167);
    let daemon = home.start(&["--set", "limits.known_peers=500"]);
    let mut stream = connect(&home.data().join("peerkeep.sock"));
    let (mut taken, mut refused, mut chunk) = (0, 0, [0; 4096]);
    for n in 0..1_000_u32 {
        let body = json!({ "peer": format!("/ip4/127.1.{}.{}/tcp/1", n / 250, n % 250 + 1), "wait_ms": 0 })
            .to_string();
        let length = body.len();
        let request = format!(
            "POST /v1/connect HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let count = stream.read(&mut chunk).expect("answered");
        let answer = String::from_utf8_lossy(&chunk[..count]);
        match answer.get(9..12) {
            Some("200") => taken += 1,
            Some("429") => {
                assert!(answer.contains("retry-after") && answer.contains("contacts"), "{answer}");
                refused += 1;
            }
            _ => panic!("{answer}"),
        }
    }
    assert!(taken >= 400 && refused >= 300, "{taken} taken, {refused} refused");
    let began = Instant::now();
    let status = home.json(&["status"]);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(status["counts"]["pending"].as_u64().expect("a number") <= 64, "{status}");
    daemon.stop();
}

#[test]
fn fault_a15_a_daemon_that_drains_refuses_orders_with_a_reason_and_answers_questions() {
    let (home, other) = (Home::new(168), Home::new(169));
    let (mut daemon, peer) = (home.start(&[]), other.start(&[]));
    home.ask(&["connect", &peer.address]).expect(0);
    // A peer that stands still does not answer our goodbye: draining takes as long as it may.
    peer.signal(Signal::STOP);
    let mut orders = connect(&home.data().join("peerkeep.sock"));
    let mut ask = |request: &str| {
        orders.write_all(request.as_bytes()).expect("sent");
        let mut chunk = [0; 8192];
        let count = orders.read(&mut chunk).expect("answered");
        String::from_utf8_lossy(&chunk[..count]).into_owned()
    };
    assert!(ask("GET /v1/ready HTTP/1.1\r\nhost: x\r\n\r\n").starts_with("HTTP/1.1 200"));
    daemon.signal(Signal::TERM);
    until("it is going down", Duration::from_secs(2), || {
        ask("GET /v1/ready HTTP/1.1\r\nhost: x\r\n\r\n").contains("the node is going down")
    });
    let body = json!({ "peer": "127.0.0.1:9", "wait_ms": 0 }).to_string();
    let answer = ask(&format!(
        "POST /v1/connect HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("shutting down"), "{answer}");
    assert!(ask("GET /v1/live HTTP/1.1\r\nhost: x\r\n\r\n").starts_with("HTTP/1.1 200"));
    peer.signal(Signal::CONT);
    daemon.wait(Duration::from_secs(12));
    peer.stop();
}
