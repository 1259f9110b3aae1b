//! What somebody can read afterwards about a live run: the steps of a connect, a retry and a disconnect in the replayed
//! journal, the events, and the log.
#![allow(missing_docs)]

mod common;

use common::{Daemon, Home, SOON, command, until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::Duration;

/// A peer's story, as sentences; the node need not run any more.
fn story(home: &Home, peer: &str) -> Vec<String> {
    let journal = home.data().join("journal");
    let replayed = home.json(&["replay", journal.to_str().expect("text"), "--peer", peer]);
    assert_eq!(replayed["digest_match"], true, "{replayed}");
    let sentences = replayed["story"].as_array().expect("a story").iter();
    sentences.map(|sentence| sentence["text"].as_str().expect("text").to_owned()).collect()
}

/// Each of these begins a sentence or a line, or is in it, one after the other; what is between does not matter.
#[track_caller]
fn in_order<'a>(lines: impl IntoIterator<Item = &'a String>, steps: &[&str]) {
    let lines: Vec<&String> = lines.into_iter().collect();
    let mut rest = lines.iter();
    for step in steps {
        assert!(rest.any(|line| line.contains(step)), "{step:?} is missing or out of order in {lines:#?}");
    }
}

/// `peerkeep events --follow --json` into a file.
struct Events<'a> {
    home: &'a Home,
    child: Child,
}

impl<'a> Events<'a> {
    fn follow(daemon: &Daemon<'a>) -> Events<'a> {
        let home = daemon.home;
        let file = File::create(home.folder.path().join("events")).expect("a file");
        let mut command = command();
        command.arg("--data").arg(home.data()).args(["--json", "events", "--follow"]);
        let child = command.stdout(file).stderr(Stdio::null()).spawn().expect("it runs");
        let events = Events { home, child };
        // A ban is an event of its own and concerns nobody: it shows that the reader is there.
        until("the reader hears", SOON, || {
            home.ask(&["ban", "203.0.113.9", "--for", "1h"]).expect(0);
            home.ask(&["unban", "203.0.113.9"]).expect(0);
            !events.all().is_empty()
        });
        events
    }

    fn all(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.home.folder.path().join("events")).expect("a file");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The words of the events about one peer, in order.
    fn of(&self, peer: &str) -> Vec<String> {
        let about = |event: &&Value| event["peer"] == peer || event["target"] == peer;
        let word = |event: &Value| event["event"].as_str().expect("a word").to_owned();
        self.all().iter().filter(about).map(word).collect()
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// S0.57 and S0.59: asked, begun, dialled, met, agreed, connected; then asked, closed, told, gone.
#[test]
fn s0_57_s0_59_a_live_connect_has_its_six_steps_in_order_and_a_disconnect_its_four() {
    let (one, two) = (Home::new(101), Home::new(102));
    let first = one.start(&[]);
    let second = two.start(&[]);
    two.ask(&["connect", &first.address]).expect(0);
    two.ask(&["disconnect", &first.id]).expect(0);
    until("disconnected", SOON, || two.connected() == 0 && one.connected() == 0);
    second.stop();
    let told = story(&two, &first.id);
    in_order(
        &told,
        &[
            "Somebody asked to connect to it at 127.0.0.101",
            "Attempt 1 begins",
            "We dial it at 127.0.0.101",
            "It answered at 127.0.0.101",
            "We agree to connection",
            "It is connected, dialled by us",
        ],
    );
    in_order(
        &told,
        &[
            "Somebody asked to disconnect it",
            "We close connection",
            "The connection is lost: it was asked for",
            "is gone: as we asked",
        ],
    );
    first.stop();
}

/// S0.58: failed, waiting, tried again, connected, against a server that takes connections and drops them at first.
#[test]
fn s0_58_a_flaky_server_shows_the_four_steps_of_a_retry_in_order() {
    let (one, two) = (Home::new(103), Home::new(104));
    let first = one.start(&[]);
    let (port, address, id) = (first.port(), first.address.clone(), first.id.clone());
    first.stop();
    let second = two.start(&[]);
    let flaky = TcpListener::bind(("127.0.0.103", port)).expect("the port is free again");
    let dropping = std::thread::spawn(move || drop(flaky.accept().expect("somebody dials")));
    two.ask(&["want", &address]).expect(0);
    dropping.join().expect("it ends");
    until("a failure", SOON, || two.json(&["status"])["totals"]["failed"].as_u64() > Some(0));
    let first = one.start_on(port, &[]);
    until("connected", SOON, || two.connected() == 1);
    second.stop();
    let told = story(&two, &id);
    let failed = |sentence: &&String| !sentence.contains("The next attempt is due in");
    in_order(
        told.iter().skip_while(failed),
        &[
            "The attempt failed: ",
            "Attempt 2 begins",
            "We dial it at 127.0.0.103",
            "It is connected, dialled by us",
        ],
    );
    first.stop();
}

/// S0.73: what the peer list says follows the connections, and every change is an event, in order.
#[test]
fn s0_73_a_peers_standing_follows_its_connections_from_discovered_to_banned() {
    let (one, two) = (Home::new(105), Home::new(106));
    let first = one.start(&[]);
    let port = first.port();
    let second = two.start(&[]);
    let events = Events::follow(&second);
    let (id, address) = (first.id.clone(), first.address.clone());
    let state = || two.json(&["peer", &id])["states"]["connection"].clone();
    two.ask(&["connect", &address]).expect(0);
    assert!(state().get("Connected").is_some(), "{}", state());
    two.ask(&["disconnect", &id]).expect(0);
    until("disconnected", SOON, || state() == "Disconnected");
    first.stop();
    two.ask(&["want", &address]).expect(0);
    until("failed", SOON, || state().get("ConnectionFailed").is_some());
    // Somebody who takes the connection and says nothing: the attempt is seen under way.
    let silent = TcpListener::bind(("127.0.0.105", port)).expect("the port is free again");
    two.ask(&["retry", &id]);
    until("connecting", SOON, || state().get("Connecting").is_some());
    drop(silent);
    let first = one.start_on(port, &[]);
    two.ask(&["retry", &id]);
    until("connected again", SOON, || state().get("Connected").is_some());
    two.ask(&["ban", &id, "--for", "1h"]).expect(0);
    until("closed", SOON, || two.connected() == 0);
    let seen = two.json(&["peer", &id]);
    assert_eq!(seen["banned"], true, "{seen}");
    assert_eq!(seen["states"]["connection"], "Disconnected", "{seen}");

    until("the events", SOON, || events.of(&id).iter().any(|event| event == "banned"));
    in_order(
        &events.of(&id),
        &["discovered", "dialing", "connected", "lost", "dialing", "failed", "dialing", "connected"],
    );
    in_order(&events.of(&id), &["connected", "connected", "banned"]);
    assert_eq!(events.of(&id).iter().filter(|event| *event == "lost").count(), 2, "{:?}", events.of(&id));
    second.stop();
    first.stop();
}

/// S3.75, with an application that begins its work at three connected peers.
#[test]
fn s3_75_an_application_is_told_when_three_are_connected() {
    let app = Home::new(107);
    let daemon = app.start(&["--set", "peers.dial_private_gossip=true"]);
    let events = Events::follow(&daemon);
    let others: Vec<Home> = (108..=110).map(Home::new).collect();
    let quorum = || events.all().iter().filter(|event| event["event"] == "connected").count();
    let mut running = Vec::new();
    for (before, home) in others.iter().enumerate() {
        assert!(quorum() <= before, "not told before it is so");
        running.push(home.start(&["--want", &daemon.address]));
    }
    let limit = Duration::from_secs(600);
    let took = until("the application is told of three peers", limit.min(SOON), || quorum() == 3);
    eprintln!("told of three peers after {took:?}");
    let peers: std::collections::BTreeSet<String> = events
        .all()
        .iter()
        .filter(|event| event["event"] == "connected")
        .map(|event| event["peer"].to_string())
        .collect();
    assert_eq!(peers.len(), 3, "three different ones: {peers:?}");
    assert_eq!(app.connected(), 3);
    daemon.stop();
    running.into_iter().for_each(Daemon::stop);
}

/// The lines of a log that hold this, in order.
fn lines(home: &Home, text: &str) -> Vec<String> {
    home.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

/// S0.48, S0.50, S0.52, S0.54: each change that a person wants to see, at INFO, with the peer and where it is.
#[test]
fn s0_48_s0_50_s0_52_s0_54_the_log_follows_a_connection_from_dial_to_disconnect() {
    let (one, two) = (Home::new(111), Home::new(112));
    let first = one.start(&[]);
    let second = two.start(&[]);
    two.ask(&["connect", &first.address]).expect(0);
    two.ask(&["disconnect", &first.id]).expect(0);
    until("disconnected", SOON, || two.connected() == 0 && one.connected() == 0);
    until("the last line", SOON, || !lines(&two, " disconnected ").is_empty());
    let place = format!("127.0.0.111:{}", first.port());
    let about = lines(&two, &first.id);
    in_order(&about, &[" connecting ", " connected ", " disconnecting ", " disconnected "]);
    for (line, word) in [(0, "connecting"), (1, "connected"), (2, "disconnecting"), (3, "disconnected")] {
        let line = &about[line];
        assert!(line.contains(" INFO ") && line.contains(&format!(" {word} ")), "{word}: {about:#?}");
    }
    assert!(about[0].contains(&format!("address={place}")) && about[0].contains("attempt=1"), "{about:#?}");
    assert!(about[1].contains(&format!("remote={place}")), "{about:#?}");
    assert!(about[3].contains("reason=it was asked for"), "{about:#?}");
    assert_eq!(about.len(), 4, "and no more than that: {about:#?}");
    second.stop();
    first.stop();
}

/// S0.54: the line of a finished disconnect waits for the end of the socket, here for a peer that stands still.
#[test]
fn s0_54_a_disconnect_is_finished_in_the_log_when_its_socket_is_closed_and_not_before() {
    let (one, two) = (Home::new(115), Home::new(116));
    let first = one.start(&[]);
    let second = two.start(&["--set", "timeouts.goodbye=1m"]);
    two.ask(&["connect", &first.address]).expect(0);
    first.signal(Signal::STOP);
    two.ask(&["disconnect", &first.id]).expect(0);
    assert_eq!(two.connected(), 0, "to users it is over at once");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(lines(&two, " disconnecting ").len(), 1);
    assert!(
        lines(&two, " disconnected ").is_empty(),
        "the socket is open: its peer has not answered the goodbye"
    );
    first.signal(Signal::CONT);
    until("the last line", SOON, || !lines(&two, " disconnected ").is_empty());
    let [line] = &lines(&two, " disconnected ")[..] else { panic!("one line") };
    assert!(line.contains(&first.id) && line.contains("reason=it was asked for"), "{line}");
    let age = line.split_once(" age=").expect("how long it lasted").1;
    assert!(!age.starts_with("0"), "{line}");
    second.stop();
    first.stop();
}

/// S0.51 and S0.78: every failure is in the log with peer, address, attempt and cause: the first at WARN, and those
/// that follow at DEBUG until it is time for another WARN (S3.83).
#[test]
fn s0_51_s0_78_each_failure_is_logged_once_with_peer_address_attempt_and_cause() {
    let home = Home::new(113);
    let daemon = home.start(&[
        "--set",
        "log.level=debug",
        "--set",
        "backoff.first=100ms",
        "--set",
        "backoff.max=200ms",
        "--set",
        "backoff.fast_interval=200ms",
    ]);
    let id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let closed = TcpListener::bind("127.0.0.114:0").expect("a port").local_addr().expect("bound");
    home.ask(&["connect", &format!("/ip4/127.0.0.114/tcp/{}/p2p/{id}", closed.port()), "--wait", "0s"]);
    until("given up", SOON, || home.json(&["peer", id])["standing"] == "gave_up");
    let status = home.json(&["status"]);
    let (mut failed, gave_up) = (lines(&home, " could not connect "), lines(&home, " given up: "));
    let total = status["totals"]["failed"].as_u64().and_then(|total| usize::try_from(total).ok());
    assert_eq!((Some(failed.len() + 1), gave_up.len()), (total, 1), "{failed:#?} {gave_up:#?}");
    for (line, attempt) in failed.iter().zip(1..) {
        assert!(line.contains(&format!(" attempt={attempt} ")), "{line}");
    }
    failed.extend(gave_up);
    for line in &failed {
        assert!(line.contains(&format!("peer={id} address={closed}")), "{line}");
        assert!(line.contains("onnection refused"), "{line}");
    }
    assert!(failed.last().is_some_and(|line| line.contains(" WARN ") && line.contains("attempts=8")));
    failed.pop();
    let warnings = failed.iter().filter(|line| line.contains(" WARN ")).count();
    assert_eq!((warnings, failed[0].contains(" WARN ")), (1, true), "{failed:#?}");
    let begun = lines(&home, " connecting ");
    assert_eq!(begun.len(), failed.len() + 1, "{begun:#?}");
    assert_eq!(begun.iter().filter(|line| line.contains(" INFO ")).count(), 1, "{begun:#?}");
    daemon.stop();
}

/// S0.46: whoever asks something of a stranger is told no, and the log says so.
#[test]
fn s0_46_a_refused_command_is_in_the_log_with_the_peer_and_the_reason() {
    let home = Home::new(115);
    let daemon = home.start(&[]);
    let stranger = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    for what in ["disconnect", "cancel", "retry", "reset"] {
        home.ask(&[what, stranger]).expect(4);
        let refused = lines(&home, "a command was refused");
        let last = refused.last().unwrap_or_else(|| panic!("{what}: {}", home.log()));
        assert!(last.contains(" INFO ") && last.contains(&format!("what=\"{what}\"")), "{last}");
        assert!(last.contains(stranger) && last.contains("why="), "{last}");
    }
    home.ask(&["disconnect", "nobody\u{1b}[2J"]).expect(4);
    assert!(!home.log().contains('\u{1b}'), "fault A14: no escapes in the log");
    daemon.stop();
}

/// S3.35: once for each need, and not for each attempt.
#[test]
fn s3_35_the_log_says_who_dials_and_why() {
    let (low, high) = (Home::new(116), Home::new(117));
    let by_address = |ip: &str| {
        ["--set".to_owned(), format!("network.local_ip={ip}"), "--set".into(), "preference.wait=1s".into()]
    };
    let (low_options, high_options) = (by_address("127.0.0.116"), by_address("127.0.0.117"));
    let higher = high.start(&high_options.each_ref().map(String::as_str));
    let lower = low.start(&low_options.each_ref().map(String::as_str));
    low.ask(&["want", &higher.address]).expect(0);
    until("connected", SOON, || low.connected() == 1 && high.connected() == 1);
    let dialled = lines(&low, " connecting ");
    assert_eq!(dialled.len(), 1, "{dialled:#?}");
    assert!(
        dialled[0].contains(" INFO ") && dialled[0].contains("ours is the lower address"),
        "{dialled:#?}"
    );
    // The higher one waits, and dials a dead one only after that.
    let (dead, address) = (lower.id.clone(), lower.address.clone());
    lower.stop();
    high.ask(&["want", &address]).expect(0);
    let failures = || high.json(&["status"])["totals"]["failed"].as_u64();
    until("it has failed often", SOON, || failures() >= Some(3));
    let waiting = lines(&high, "waiting for them to dial first");
    assert_eq!(waiting.len(), 1, "once, not for each attempt: {waiting:#?}");
    assert!(waiting[0].contains(" INFO ") && waiting[0].contains(&dead), "{waiting:#?}");
    let dialled = lines(&high, " connecting ");
    assert_eq!(dialled.len(), 1, "{dialled:#?}");
    assert!(dialled[0].contains("they did not dial"), "{dialled:#?}");
    in_order(&lines(&high, &dead), &["waiting for them to dial first", " connecting ", "could not connect"]);
    higher.stop();
}
