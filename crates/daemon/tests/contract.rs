//! The API against its own description: every route of the document is served, real answers are what it says, orders
//! sent twice have one effect, and refusals carry document 001's words.
#![allow(missing_docs)]

mod common;

use boon::{Compiler, SchemaIndex, Schemas};
use common::{Home, SOON, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// One request; status, headers and body of its answer.
fn ask(home: &Home, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, Value) {
    let mut stream = UnixStream::connect(home.data().join("peerkeep.sock")).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = match head.contains("transfer-encoding: chunked") {
        true => body.split("\r\n").skip(1).step_by(2).collect::<String>(),
        false => body.to_owned(),
    };
    (status, head.to_owned(), serde_json::from_str(&body).unwrap_or(Value::Null))
}

struct Contract {
    document: Value,
    schemas: Schemas,
    compiler: Compiler,
}

impl Contract {
    fn of(document: Value) -> Contract {
        let mut compiler = Compiler::new();
        compiler.add_resource("http://peerkeep/openapi.json", document.clone()).expect("a document");
        Contract { document, schemas: Schemas::new(), compiler }
    }

    fn schema(&mut self, pointer: &str) -> SchemaIndex {
        let pointer = pointer.replace('{', "%7B").replace('}', "%7D");
        let at = format!("http://peerkeep/openapi.json#{pointer}");
        self.compiler.compile(&at, &mut self.schemas).expect("a schema")
    }

    #[track_caller]
    fn holds(&mut self, method: &str, path: &str, body: &Value) {
        let path = path.replace('~', "~0").replace('/', "~1");
        let kind = "application~1json";
        let index = self
            .schema(&format!("/paths/{path}/{}/responses/200/content/{kind}/schema", method.to_lowercase()));
        let outcome = self.schemas.validate(body, index);
        assert!(outcome.is_ok(), "{method} {path}: {}\n{body:#}", outcome.expect_err("not valid"));
    }

    #[track_caller]
    fn is_problem(&mut self, body: &Value) {
        let index = self.schema("/components/schemas/Problem");
        let outcome = self.schemas.validate(body, index);
        assert!(outcome.is_ok(), "{}\n{body:#}", outcome.expect_err("not valid"));
    }
}

#[test]
fn the_document_is_printed_and_served_and_every_route_in_it_is_there() {
    let home = Home::new(141);
    let printed: Value = serde_json::from_str(&common::run(&["openapi"]).expect(0).out).expect("JSON");
    let daemon = home.start(&[]);
    let (status, _, served) = ask(&home, "GET", "/openapi.json", "", "");
    assert_eq!((status, &served), (200, &printed));
    assert_eq!(served["openapi"], "3.1.0");
    let paths = served["paths"].as_object().expect("paths");
    assert!(paths.len() > 15, "{}", paths.len());
    for (path, item) in paths {
        for method in ["get", "post", "put", "delete", "patch"] {
            if path == "/v1/events" && method == "get" {
                continue;
            }
            let (status, _, body) =
                ask(&home, &method.to_uppercase(), &path.replace("{id}", "12D3unknown"), "", "{");
            let described = item.get(method).is_some();
            let served =
                status != 405 && !body["message"].as_str().unwrap_or_default().contains("no such route");
            assert_eq!(served, described, "{method} {path}: {status} {body}");
        }
    }
    daemon.stop();
}

#[test]
fn real_answers_are_what_the_document_says() {
    let (home, other) = (Home::new(142), Home::new(143));
    let (daemon, peer) = (home.start(&[]), other.start(&[]));
    let mut contract = Contract::of(ask(&home, "GET", "/openapi.json", "", "").2);
    let named = json!({ "peer": peer.address }).to_string();
    let by_id = json!({ "peer": peer.id }).to_string();
    let target = json!({ "target": "203.0.113.0/24", "for_ms": 60_000 }).to_string();
    let dead = json!({ "peer": "/ip4/127.0.0.143/tcp/1", "wait_ms": 1_500 }).to_string();
    for (path, body) in [
        ("/v1/connect", &named),
        ("/v1/want", &named),
        ("/v1/measure", &by_id),
        ("/v1/connect", &dead),
        ("/v1/bans", &target),
        ("/v1/config/reload", &String::new()),
    ] {
        let (status, _, answer) = ask(&home, "POST", path, "", body);
        assert_eq!(status, 200, "{path}: {answer}");
        contract.holds("POST", path, &answer);
    }
    let id = &peer.id;
    for (path, asked) in [
        ("/v1/version", "/v1/version".to_owned()),
        ("/v1/live", "/v1/live".into()),
        ("/v1/ready", "/v1/ready".into()),
        ("/v1/status", "/v1/status".into()),
        ("/v1/pending", "/v1/pending".into()),
        ("/v1/peers", "/v1/peers".into()),
        ("/v1/peers/{id}", format!("/v1/peers/{id}")),
        ("/v1/peers/{id}/why", format!("/v1/peers/{id}/why")),
        ("/v1/limits", "/v1/limits?address=10.0.0.1:7330".into()),
        ("/v1/resolve", "/v1/resolve?address=10.0.0.1:7330".into()),
        ("/v1/bans", "/v1/bans".into()),
        ("/v1/config", "/v1/config".into()),
    ] {
        let (status, _, answer) = ask(&home, "GET", &asked, "", "");
        assert_eq!(status, 200, "{asked}: {answer}");
        contract.holds("GET", path, &answer);
    }
    for (path, body) in
        [("/v1/unban", &target), ("/v1/unwant", &by_id), ("/v1/disconnect", &by_id), ("/v1/reset", &by_id)]
    {
        let (status, _, answer) = ask(&home, "POST", path, "", body);
        assert_eq!(status, 200, "{path}: {answer}");
        contract.holds("POST", path, &answer);
    }
    for (path, body) in [
        ("/v1/measure", &by_id),
        ("/v1/retry", &by_id),
        ("/v1/cancel", &by_id),
        ("/v1/connect", &String::from("{}")),
    ] {
        let (status, _, answer) = ask(&home, "POST", path, "", body);
        assert!(status >= 400, "{path}: {answer}");
        contract.is_problem(&answer);
    }
    let events = contract.document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"].clone();
    assert!(events["text/event-stream"]["schema"]["$ref"].is_string(), "{events}");
    daemon.stop();
    peer.stop();
}

#[test]
fn fault_a8_an_order_sent_twice_with_one_key_has_one_effect_and_one_answer() {
    let home = Home::new(144);
    let daemon = home.start(&[]);
    let key = "idempotency-key: 4711\r\n";
    let ban = json!({ "target": "203.0.113.9" }).to_string();
    let (first, _, answer) = ask(&home, "POST", "/v1/bans", key, &ban);
    assert_eq!(first, 200, "{answer}");
    ask(&home, "POST", "/v1/unban", "", &ban);
    let (again, head, repeated) = ask(&home, "POST", "/v1/bans", key, &ban);
    assert_eq!((again, &repeated), (200, &answer));
    assert!(head.contains("idempotent-replay: true"), "{head}");
    assert_eq!(ask(&home, "GET", "/v1/bans", "", "").2, json!([]), "it was carried out once");
    let other = json!({ "target": "203.0.113.10" }).to_string();
    assert_eq!(ask(&home, "POST", "/v1/bans", key, &other).0, 400, "the key belongs to another order");
    assert_eq!(ask(&home, "POST", "/v1/bans", "idempotency-key: 4712\r\n", &ban).0, 200);
    let long = format!("idempotency-key: {}\r\n", "x".repeat(200));
    assert_eq!(ask(&home, "POST", "/v1/bans", &long, &ban).0, 400);
    daemon.stop();
}

#[test]
fn s1_11_s1_13_s1_24_s1_27_s1_77_refusals_are_typed_in_the_api_and_on_the_command_line() {
    let (home, other) = (Home::new(145), Home::new(146));
    let (daemon, peer) = (home.start(&["--set", "limits.pending=1"]), other.start(&[]));
    let order = |peer: &str| json!({ "peer": peer, "queue": false, "wait_ms": 300 }).to_string();
    // Somebody who accepts and says nothing: the one place for connections being set up is taken.
    let mute = std::net::TcpListener::bind("127.0.0.147:0").expect("a port");
    let port = mute.local_addr().expect("bound").port();
    let void = format!("/ip4/127.0.0.147/tcp/{port}/p2p/{}", peer.id);
    home.ask(&["connect", &void, "--wait", "0s"]).expect(0);
    let reach = |what: &str| {
        let (status, head, answer) = ask(&home, "POST", "/v1/connect", "", &order(what));
        (status, head.contains("retry-after"), answer["refusal"].clone())
    };
    let third = "/ip4/127.0.0.147/tcp/7330";
    let full = json!({ "error": "TooManyPendingConnections" });
    assert_eq!(reach(third), (429, true, full.clone()), "S1.11");
    let said = home.ask(&["--json", "connect", third, "--no-queue"]).expect(10);
    assert_eq!(said.json()["refusal"], full);
    home.ask(&["reset", &peer.id]).expect(0);
    until("the dial is gone", SOON, || home.json(&["status"])["counts"]["pending"] == 0);

    home.ask(&["connect", &peer.address]).expect(0);
    assert_eq!(reach(&peer.address), (409, false, json!({ "error": "AlreadyConnected" })), "S1.24");
    home.ask(&["connect", &peer.address, "--no-queue"]).expect(12);
    home.ask(&["connect", &peer.address]).expect(0);

    home.ask(&["ban", &peer.id]).expect(0);
    assert_eq!(reach(&peer.address), (409, false, json!({ "error": "PeerBanned" })), "S1.13");
    home.ask(&["connect", &peer.address]).expect(11);

    let stranger = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    assert_eq!(reach(stranger), (409, false, json!({ "error": "PeerAddressUnknown" })), "S1.77");
    home.ask(&["connect", stranger]).expect(13);
    daemon.stop();

    let daemon = home.start(&["--set", "limits.outbound=1"]);
    home.ask(&["unban", &peer.id]).expect(0);
    home.ask(&["connect", &peer.address]).expect(0);
    let limit = json!({ "error": "ConnectionLimitReached", "limit": "outbound" });
    assert_eq!(reach(third), (429, true, limit), "S1.27");
    let (_, _, limits) = ask(&home, "GET", &format!("/v1/limits?address={third}"), "", "");
    assert_eq!(limits, json!({ "inbound_full": false, "reached": "outbound" }));
    daemon.stop();
    peer.stop();
}

#[test]
fn s1_89_an_address_belongs_to_a_peer_by_identity_and_not_by_source_port() {
    let (home, other) = (Home::new(148), Home::new(149));
    let (daemon, peer) = (home.start(&[]), other.start(&[]));
    let resolve = |address: &str| ask(&home, "GET", &format!("/v1/resolve?address={address}"), "", "").2;
    let at = format!("127.0.0.149:{}", peer.port());
    assert_eq!(resolve(&at), json!({ "connected": false }));
    // The peer dials: what we see of it is a source port, what it tells us is where it listens.
    other.ask(&["connect", &daemon.address]).expect(0);
    until("they are connected", SOON, || home.connected() == 1);
    until("it is known", SOON, || resolve(&at) == json!({ "peer": peer.id, "connected": true }));
    let remote = home.json(&["peer", &peer.id])["remote"].as_str().expect("a remote address").to_owned();
    assert_ne!(remote, at);
    assert_eq!(resolve(&remote), json!({ "connected": false }), "a source port is nobody's address");
    home.ask(&["connect", &peer.address, "--no-queue"]).expect(12);
    daemon.stop();
    peer.stop();
}

#[test]
fn a_reader_of_events_that_comes_back_goes_on_where_it_was() {
    let home = Home::new(150);
    let daemon = home.start(&[]);
    for n in 1..=4 {
        home.ask(&["ban", &format!("203.0.113.{n}")]).expect(0);
    }
    let follow = |last: &str, until: &str| {
        let mut stream = UnixStream::connect(home.data().join("peerkeep.sock")).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let head = if last.is_empty() { String::new() } else { format!("last-event-id: {last}\r\n") };
        let request = format!("GET /v1/events HTTP/1.1\r\nhost: x\r\n{head}\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let (mut seen, mut chunk) = (String::new(), [0; 4096]);
        while !seen.contains(until) {
            let count = stream.read(&mut chunk).expect("the stream goes on");
            assert!(count > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
        seen
    };
    // An id of another start: all that is remembered.
    let all = follow("1-0", "203.0.113.4");
    let ids: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert!(all.contains("203.0.113.1") && ids.len() >= 3, "{all}");
    let second = all.lines().position(|line| line.contains("203.0.113.2")).expect("it is there");
    let lines: Vec<&str> = all.lines().collect();
    let near = &lines[second.saturating_sub(3)..(second + 3).min(lines.len())];
    let id = near.iter().find_map(|line| line.strip_prefix("id: ")).expect("every event has an id");
    let rest = follow(id, "203.0.113.4");
    assert!(rest.contains("203.0.113.3") && !rest.contains("203.0.113.1\""), "{rest}");
    daemon.stop();
}

/// The other ends of a process's TCP connections that are up, as the kernel lists them.
fn kernel_list(pid: i32) -> BTreeSet<String> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("our child");
    let links = folder.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let inodes: Vec<String> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("readable");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == "01" && inodes.iter().any(|inode| inode == row[9]))
        .map(|row| {
            let (ip, port) = row[2].split_once(':').expect("address and port");
            let ip = u32::from_str_radix(ip, 16).expect("hex").to_le_bytes();
            let port = u16::from_str_radix(port, 16).expect("hex");
            std::net::SocketAddr::from((ip, port)).to_string()
        })
        .collect()
}

#[test]
fn s1_6_the_list_of_connections_is_the_systems_own() {
    let homes = [Home::new(151), Home::new(152), Home::new(153)];
    let [home, second, third] = &homes;
    let (daemon, out, inward) = (home.start(&["--debuggable"]), second.start(&[]), third.start(&[]));
    let listed = || -> BTreeSet<String> {
        let peers = ask(home, "GET", "/v1/peers", "", "").2;
        let all = peers.as_array().expect("a list").iter().filter(|peer| peer["stage"] == "up");
        all.map(|peer| peer["remote"].as_str().expect("where it is").to_owned()).collect()
    };
    let kernel = || kernel_list(daemon.pid().as_raw_nonzero().get());
    assert_eq!((listed(), kernel()), Default::default());
    home.ask(&["connect", &out.address]).expect(0);
    third.ask(&["connect", &daemon.address]).expect(0);
    until("both are listed", SOON, || listed().len() == 2 && listed() == kernel());
    home.ask(&["disconnect", &out.id]).expect(0);
    until("one is gone from both lists", SOON, || listed().len() == 1 && listed() == kernel());
    daemon.stop();
    out.stop();
    inward.stop();
}
