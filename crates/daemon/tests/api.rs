//! The API on its socket: who may enter, what it refuses, and what a client makes of others' sockets.
#![allow(missing_docs)]

mod common;

use common::{Home, SOON, Said, root, until};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// Sends these bytes and gives what comes back until the other side closes or says nothing for a while.
fn raw(home: &Home, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(home.data().join("peerkeep.sock")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(8))).expect("a timeout");
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count) = stream.read(&mut chunk) {
        if count == 0 || answer.len() > 100_000 {
            break;
        }
        answer.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Fault A6: headers and bodies are capped.
#[test]
fn requests_that_are_wrong_are_refused_with_a_reason() {
    let home = Home::new(31);
    let daemon = home.start(&[]);
    let get = |path: &str| {
        raw(&home, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
    };
    assert!(get("/v1/version").contains("\"api\":1"));
    assert!(get("/v1/version").contains("peerkeep-api: 1"));
    assert!(get("/nothing").starts_with("HTTP/1.1 404"));
    assert!(get("/v1/connect").starts_with("HTTP/1.1 405"));
    for (body, why) in [
        ("{", "EOF"),
        ("[]", "invalid"),
        ("{\"peer\":\"x\",\"extra\":1}", "unknown field"),
        ("{\"peer\":\"not an address\"}", "error"),
    ] {
        let answer = raw(&home, &post("/v1/connect", body));
        assert!(answer.starts_with("HTTP/1.1 400"), "{body}: {answer}");
        assert!(answer.contains(why), "{body}: {answer}");
    }
    let long = format!("{{\"peer\":\"{}\"}}", "x".repeat(70_000));
    let answer = raw(&home, &post("/v1/connect", &long));
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("65536"), "{answer}");
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let answer = raw(&home, format!("GET /v1/status HTTP/1.1\r\n{many}\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    assert!(!raw(&home, b"\x16\x03\x01\x02\x00 not http at all\r\n\r\n").contains("200 OK"));
    home.ask(&["status"]).expect(0);
    daemon.stop();
}

/// Fault A6: so is their time.
#[test]
fn a_client_that_sends_nothing_is_dropped_and_holds_nobody_up() {
    let home = Home::new(32);
    let daemon = home.start(&[]);
    let idle: Vec<UnixStream> = (0..70)
        .map(|_| UnixStream::connect(home.data().join("peerkeep.sock")).expect("the backlog takes it"))
        .collect();
    // All slots are held by clients that say nothing; when their time is over, others get in.
    let began = Instant::now();
    home.ask(&["status"]).expect(0);
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    drop(idle);
    daemon.stop();
}

#[test]
fn fault_a4_another_user_is_refused_whatever_the_files_say() {
    if !root("fault_a4_another_user_is_refused_whatever_the_files_say") {
        return;
    }
    let home = Home::new(33);
    let daemon = home.start(&[]);
    // Open every file on the way: what refuses now is the check of the credentials alone.
    for path in [home.folder.path().to_owned(), home.data()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    fs::set_permissions(home.data().join("peerkeep.sock"), fs::Permissions::from_mode(0o666)).expect("ours");
    let copy = home.folder.path().join("peerkeep");
    fs::copy(common::program(), &copy).expect("a copy that nobody may run");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
    command.args(["--json", "status", "--data"]).arg(home.data());
    let said = Said::of(command.output().expect("setpriv runs")).expect(1);
    assert!(said.out.contains("refuses"), "{said:?}");
    assert!(home.log().contains("another user was refused"), "{}", home.log());
    home.ask(&["status"]).expect(0);
    daemon.stop();
}

#[test]
fn fault_a14_a_socket_of_somebody_else_is_not_trusted() {
    if !root("fault_a14_a_socket_of_somebody_else_is_not_trusted") {
        return;
    }
    let home = Home::new(34);
    fs::create_dir(home.data()).expect("a folder");
    fs::set_permissions(home.data(), fs::Permissions::from_mode(0o700)).expect("ours");
    let socket = home.data().join("peerkeep.sock");
    let trap = UnixListener::bind(&socket).expect("bind");
    std::os::unix::fs::chown(&socket, Some(65_534), None).expect("root may");
    let said = home.try_start(0, &[]).err().expect("somebody else's socket is not replaced");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("65534"), "{said:?}");
    assert!(socket.exists());
    drop(trap);
}

#[test]
fn fault_a14_a_stale_socket_is_replaced_at_the_next_start() {
    let home = Home::new(35);
    home.start(&[]).kill();
    assert!(home.data().join("peerkeep.sock").exists(), "a killed daemon leaves it");
    let said = home.ask(&["status"]).expect(3);
    assert!(said.err.contains("peerkeep run"), "{said:?}");
    let daemon = home.start(&[]);
    home.ask(&["status"]).expect(0);
    daemon.stop();
}

#[test]
fn events_are_followed_line_by_line_and_end_with_the_daemon() {
    let (home, other) = (Home::new(36), Home::new(37));
    let daemon = home.start(&[]);
    let peer = other.start(&[]);
    let mut follow = common::command();
    follow.arg("--json").arg("--data").arg(home.data()).arg("events");
    let follower = follow
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    // The follower is there once the daemon has one more client; asking for events twice shows that.
    let within = home.ask(&["events", "--count", "1", "--within", "200ms"]).expect(5);
    assert!(within.err.contains("0 events"), "{within:?}");
    home.ask(&["connect", &peer.address]).expect(0);
    until("connected", SOON, || home.connected() == 1);
    daemon.stop();
    let said = Said::of(follower.wait_with_output().expect("it ends")).expect(3);
    let events: Vec<serde_json::Value> =
        said.out.lines().map(|line| serde_json::from_str(line).expect("one object on each line")).collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    for name in ["dialing", "connected", "lost"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    peer.stop();
}

/// With `--follow` the end of the daemon is not the end: events of its next start follow, from its first one on.
#[test]
fn a_follower_of_events_goes_on_when_the_daemon_restarts_and_says_so() {
    let (home, other) = (Home::new(248), Home::new(249));
    let daemon = home.start(&[]);
    let peer = other.start(&[]);
    let (out, err) = (home.folder.path().join("out"), home.folder.path().join("err"));
    let file = |path: &std::path::Path| fs::File::create(path).expect("a file");
    let mut follow = common::command();
    follow.arg("--json").arg("--data").arg(home.data()).args(["events", "--follow"]);
    let mut follower = follow.stdout(file(&out)).stderr(file(&err)).spawn().expect("runs");
    let text = |path: &std::path::Path| fs::read_to_string(path).expect("a file");
    let connected = || text(&out).matches("\"event\":\"connected\"").count();
    until("it follows", SOON, || {
        home.ask(&["ban", "203.0.113.9"]).expect(0);
        text(&out).contains("banned")
    });
    home.ask(&["connect", &peer.address]).expect(0);
    until("the first connection", SOON, || connected() == 1);
    daemon.stop();
    until("it says that the daemon is gone", SOON, || text(&err).contains("has stopped"));
    let daemon = home.start(&[]);
    home.ask(&["connect", &peer.address]).expect(0);
    until("the connection after the restart", SOON, || connected() >= 2);
    assert!(text(&err).contains("is back"), "{}", text(&err));
    let lines = text(&out);
    let events: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("one object on each line")).collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert!(names.contains(&"lost") && names.contains(&"shutting_down"), "nothing is missed: {names:?}");
    follower.kill().expect("ours");
    follower.wait().expect("it ends");
    daemon.stop();
    peer.stop();
}

/// Fault A7.
#[test]
fn a_reader_of_events_that_does_not_read_is_told_how_much_it_missed() {
    let home = Home::new(38);
    let daemon = home.start(&[]);
    let connect = || UnixStream::connect(home.data().join("peerkeep.sock")).expect("it listens");
    let mut slow = connect();
    slow.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    slow.set_read_timeout(Some(Duration::from_secs(8))).expect("a timeout");
    let mut head = [0; 16];
    slow.read_exact(&mut head).expect("the stream has begun");
    // One connection makes more events than the kernel and the queue hold for a client that reads none of them.
    let mut busy = connect();
    let body = "{\"target\":\"203.0.113.9\"}";
    let mut answer = [0; 4096];
    for round in 0..6_000 {
        let path = if round % 2 == 0 { "/v1/bans" } else { "/v1/unban" };
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        busy.write_all(request.as_bytes()).expect("sent");
        let count = busy.read(&mut answer).expect("answered");
        assert!(
            answer[..count].starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer[..count])
        );
    }
    let mut seen = String::new();
    let mut chunk = [0; 65_536];
    while !seen.contains("event: lagged") {
        let count = slow.read(&mut chunk).expect("the stream goes on");
        assert!(count > 0, "the stream ended");
        seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    assert!(seen.contains("\"missed\":"), "it says how many");
    home.ask(&["status"]).expect(0);
    daemon.stop();
}
