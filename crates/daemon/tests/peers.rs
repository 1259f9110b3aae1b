//! Daemons that keep each other: connect, why, want, crash and return, ban, and what the commands show of it.
#![allow(missing_docs)]

mod common;

use common::{Home, SOON, until};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

#[test]
fn two_daemons_connect_and_every_command_says_so() {
    let (one, two) = (Home::new(51), Home::new(52));
    let first = one.start(&[]);
    let second = two.start(&[]);
    let connected = two.json(&["connect", &first.address]);
    assert_eq!(connected["outcome"], "connected");
    assert_eq!(connected["peer"], first.id.as_str());
    assert_eq!(connected["already"], false);
    assert_eq!(two.json(&["connect", &first.id])["already"], true);

    let peers = two.json(&["peers"]);
    assert_eq!(peers["peers"].as_array().map(Vec::len), Some(1), "{peers}");
    let peer = &peers["peers"][0];
    assert_eq!(peer["id"], first.id.as_str());
    assert_eq!(peer["standing"], "connected");
    assert_eq!(peer["direction"], "outbound");
    assert_eq!(peer["stage"], "up");
    assert_eq!(peer["remote"], format!("127.0.0.51:{}", first.port()).as_str());
    until("the other side agrees", SOON, || one.connected() == 1);
    let seen = one.json(&["peer", &second.id]);
    assert_eq!(seen["direction"], "inbound");

    let end = &first.id[first.id.len() - 8..];
    assert_eq!(two.json(&["peer", end])["id"], first.id.as_str(), "the end of an id is enough");
    let why = two.json(&["why", &first.id]);
    assert_eq!(why["reason"]["kind"], "connected");
    let table = two.ask(&["peers"]).expect(0).out;
    assert!(table.contains(&first.id) && table.contains("connected"), "{table}");
    let status = two.ask(&["status"]).expect(0).out;
    assert!(status.contains("1 connected"), "{status}");

    two.ask(&["disconnect", &first.id]).expect(0);
    until("disconnected", SOON, || two.connected() == 0 && one.connected() == 0);
    assert_ne!(two.json(&["why", &first.id])["reason"]["kind"], "connected");
    first.stop();
    second.stop();
}

/// S1.40 and S1.85: what is measured on request, and what a connection shows of itself, on the command line.
#[test]
fn s1_40_s1_85_measure_and_peer_show_the_figures_of_a_connection() {
    let (one, two) = (Home::new(246), Home::new(247));
    let (first, second) = (one.start(&[]), two.start(&["--set", "liveness.silence=500ms"]));
    two.ask(&["measure", &first.id]).expect(1);
    two.ask(&["connect", &first.address]).expect(0);
    let measured = two.json(&["measure", &first.id]);
    assert_eq!(measured["peer"], first.id.as_str());
    let number =
        |value: &serde_json::Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {measured}"));
    assert!(number(&measured["bandwidth_kbps"]) > 10_000.0, "loopback: {measured}");
    assert!((0.001..1_000.0).contains(&number(&measured["rtt_ms"])), "{measured}");
    assert!(number(&measured["sent_bytes"]) <= f64::from(22 << 20), "{measured}");
    let said = two.ask(&["measure", &first.id]).expect(0).out;
    assert!(said.contains("round trip") && said.contains("Mbit/s"), "{said}");
    let mut peer = serde_json::Value::Null;
    until("all figures are there", SOON, || {
        peer = two.json(&["peer", &first.id]);
        peer["rtt_ms"].is_f64() && peer["health"]["success_per_mille"].is_u64()
    });
    for key in ["last_sent_ms_ago", "last_received_ms_ago", "rtt_ms"] {
        assert!(peer[key].as_f64().is_some_and(|figure| figure < 5_000.0), "{key}: {peer}");
    }
    assert_eq!(peer["health"]["success_per_mille"], 1_000, "{peer}");
    assert!(peer["health"]["bandwidth_kbps"].as_f64().is_some_and(|rate| rate > 10_000.0), "{peer}");
    assert_eq!(peer["states"]["link"], "active", "{peer}");
    let listed = two.json(&["peers"]);
    assert!(listed["peers"][0]["health"]["bandwidth_kbps"].is_u64(), "{listed}");
    two.ask(&["measure", "nobody"]).expect(4);
    second.stop();
    first.stop();
}

#[test]
fn an_unknown_peer_is_4_a_bad_address_2_and_a_dead_end_1_or_5() {
    let home = Home::new(53);
    let daemon = home.start(&[]);
    let stranger = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    home.ask(&["peer", stranger]).expect(4);
    home.ask(&["why", "12D3no"]).expect(4);
    home.ask(&["unban", stranger]).expect(4);
    home.ask(&["connect", "nonsense:address:here"]).expect(2);
    home.ask(&["ban", "0.0.0.0/0"]).expect(2);
    let said = home.ask(&["connect", &daemon.address]).expect(1);
    assert!(said.err.contains("itself"), "{said:?}");
    let closed = std::net::TcpListener::bind("127.0.0.53:0").expect("a port").local_addr().expect("bound");
    let nobody = format!("/ip4/127.0.0.53/tcp/{}/p2p/{stranger}", closed.port());
    let said = home.ask(&["--json", "connect", &nobody, "--wait", "1s"]).expect(5);
    let outcome = said.json();
    assert_eq!(outcome["outcome"], "still_trying");
    assert_eq!(outcome["error"]["kind"], "refused");
    let why = home.ask(&["why", stranger]).expect(0).out;
    assert!(why.contains("refused"), "{why}");
    home.ask(&["cancel", stranger]);
    home.ask(&["reset", stranger]).expect(0);
    daemon.stop();
}

#[test]
fn a_wanted_peer_that_is_killed_is_back_within_two_seconds_of_listening() {
    let (one, two) = (Home::new(54), Home::new(55));
    let first = one.start(&[]);
    let port = first.port();
    let second = two.start(&["--want", &first.address]);
    until("connected", SOON, || two.connected() == 1);
    first.kill();
    until("the loss is noticed", SOON, || two.connected() == 0);
    std::thread::sleep(Duration::from_millis(1_200));
    let first = one.start_on(port, &[]);
    let listens = Instant::now();
    until("connected again", Duration::from_secs(2), || two.connected() == 1);
    eprintln!("connected again {:?} after it listened", listens.elapsed());
    // What is wanted is remembered: the other one restarts, without the option, and comes back by itself.
    second.stop();
    let second = two.start(&[]);
    until("connected after a restart", SOON, || two.connected() == 1);
    assert_eq!(two.json(&["peer", &first.id])["wanted"], true);
    two.ask(&["unwant", &first.id]).expect(0);
    assert_eq!(two.json(&["peer", &first.id])["wanted"], false);
    second.stop();
    first.stop();
}

#[test]
fn fault_i5_a_ban_closes_the_connection_at_once_and_keeps_it_closed() {
    let (one, two) = (Home::new(56), Home::new(57));
    let first = one.start(&[]);
    let second = two.start(&["--want", &first.address]);
    until("connected", SOON, || two.connected() == 1 && one.connected() == 1);
    let banned = one.json(&["ban", &second.id, "--for", "1h"]);
    assert_eq!(banned["target"], second.id.as_str());
    until("closed on both sides", Duration::from_secs(3), || one.connected() == 0 && two.connected() == 0);
    assert_eq!(one.json(&["why", &second.id])["reason"]["kind"], "banned");
    let said = one.ask(&["connect", &second.id]).expect(11);
    assert!(said.err.contains("banned") && said.err.contains("unban"), "{said:?}");
    // The other side tries again meanwhile, and is not let in.
    two.ask(&["retry", &first.id]);
    let bans = one.json(&["bans"]);
    assert_eq!(bans["bans"][0]["target"], second.id.as_str());
    assert!(
        bans["bans"][0]["remaining_seconds"].as_u64().is_some_and(|left| (3_500..=3_600).contains(&left))
    );
    assert_eq!(one.connected(), 0);
    one.ask(&["unban", &second.id]).expect(0);
    assert_eq!(one.json(&["bans"])["bans"], serde_json::json!([]));
    two.ask(&["retry", &first.id]);
    until("connected again", SOON, || one.connected() == 1 && two.connected() == 1);
    second.stop();
    first.stop();
}

#[test]
fn the_journal_of_a_daemon_replays_to_the_same_digests_and_tells_a_peers_story() {
    let (one, two) = (Home::new(58), Home::new(59));
    let first = one.start(&[]);
    let second = two.start(&["--want", &first.address]);
    until("connected", SOON, || two.connected() == 1);
    two.ask(&["disconnect", &first.id]).expect(0);
    until("connected again", SOON, || two.connected() == 1);
    second.stop();
    let journal = two.data().join("journal");
    let journal = journal.to_str().expect("text");
    let replayed = two.json(&["replay", journal]);
    assert_eq!(replayed["digest_match"], true, "{replayed}");
    assert!(replayed["actions"].as_u64().is_some_and(|actions| actions > 5), "{replayed}");
    let story = two.ask(&["replay", journal, "--peer", &first.id]).expect(0).out;
    for part in [
        "Somebody asked to keep it connected",
        "We dial it at 127.0.0.58",
        "It is connected, dialled by us",
        "Somebody asked to disconnect it",
    ] {
        assert!(story.contains(part), "{part:?} is not in:\n{story}");
    }
    // A crash cuts the recording; what it holds is still the same.
    first.kill();
    let cut = one.data().join("journal");
    let replayed = one.json(&["replay", cut.to_str().expect("text")]);
    assert_eq!(replayed["digest_match"], true, "{replayed}");
}

#[test]
fn nodes_of_different_networks_never_connect_and_say_why() {
    let (one, two, three) = (Home::new(60), Home::new(61), Home::new(62));
    let secret = |home: &Home, text: &str| {
        let file = home.folder.path().join("network.secret");
        fs::write(&file, text).expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
        file.to_str().expect("text").to_owned()
    };
    let ours = "a secret that is long enough\n";
    let first = one.start(&["--secret", &secret(&one, ours)]);
    let second = two.start(&["--secret", &secret(&two, ours)]);
    let stranger = three.start(&["--secret", &secret(&three, "another secret, long enough\n")]);
    assert_eq!(one.json(&["status"])["admission"], "secret");
    two.ask(&["connect", &first.address]).expect(0);
    let said = three.ask(&["--json", "connect", &first.address, "--wait", "2s"]);
    assert!(said.code == 1 || said.code == 5, "{said:?}");
    let kind = said.json()["error"]["kind"].clone();
    assert!(kind == "declined" || kind == "network", "{said:?}");
    assert!(three.log().contains("network"), "the log says why: {}", three.log());
    assert_eq!(three.connected(), 0);
    assert!(three.json(&["status"])["totals"]["failed"].as_u64() > Some(0), "it is counted");
    until("the right one is connected", SOON, || one.connected() == 1);
    for daemon in [stranger, second, first] {
        daemon.stop();
    }
}

#[test]
fn fault_g5_a_secret_in_the_wrong_place_is_refused_and_not_repeated() {
    let home = Home::new(63);
    let file = home.folder.path().join("network.secret");
    fs::write(&file, "a secret that is long enough\n").expect("write");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("ours");
    let said =
        home.try_start(0, &["--secret", file.to_str().expect("text")]).err().expect("others can read it");
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.out.contains("--secret") || said.out.contains("network.secret_file"), "{said:?}");
    let said =
        home.try_start(0, &["--set", "network.secret=hunter2hunter2hunter2"]).err().expect("never there");
    assert_eq!(said.code, 6, "{said:?}");
    assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"), "{said:?}");
    let mut open = home.run_command();
    let output = open.args(["--listen", "0.0.0.0:0"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(6), "open to everybody without a word: {output:?}");
}

/// S3.6: one command, every peer, also those that are not connected.
#[test]
fn s3_6_one_command_shows_state_age_direction_and_last_error_of_every_peer() {
    let (one, two) = (Home::new(64), Home::new(65));
    let first = one.start(&[]);
    let second = two.start(&["--want", &first.address]);
    until("connected", SOON, || two.connected() == 1 && one.connected() == 1);
    let closed = std::net::TcpListener::bind("127.0.0.64:0").expect("a port").local_addr().expect("bound");
    let dead = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    two.ask(&["want", &format!("/ip4/127.0.0.64/tcp/{}/p2p/{dead}", closed.port())]).expect(0);
    let row = |home: &Home, id: &str| {
        let peers = home.json(&["peers"]);
        let rows = peers["peers"].as_array().expect("rows");
        rows.iter().find(|peer| peer["id"] == id).cloned().unwrap_or_else(|| panic!("{id} is not in {peers}"))
    };
    until("the dead one has failed", SOON, || row(&two, dead)["last_error"].is_object());
    let live = |peer: &serde_json::Value, direction: &str, remote: &str| {
        assert_eq!(peer["standing"], "connected", "{peer}");
        assert_eq!(peer["direction"], direction, "{peer}");
        assert!(peer["remote"].as_str().is_some_and(|at| at.starts_with(remote)), "{peer}");
        assert!(peer["since"].is_string() && peer["connected_at"].is_string(), "{peer}");
        assert!(peer["age_seconds"].is_u64(), "{peer}");
    };
    live(&row(&two, &first.id), "outbound", "127.0.0.64:");
    live(&row(&one, &second.id), "inbound", "127.0.0.");
    let failed = row(&two, dead);
    assert_ne!(failed["standing"], "connected", "{failed}");
    assert_eq!(failed["last_error"]["kind"], "refused", "{failed}");
    assert!(failed["since"].is_string() && failed["attempts"].is_u64(), "{failed}");
    assert!(failed.get("age_seconds").is_none(), "nothing is connected: {failed}");
    // The same for people, on one line per peer.
    let table = two.ask(&["peers"]).expect(0).out;
    let line = |id: &str| table.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("{table}"));
    assert!(line(&first.id).contains("connected") && line(&first.id).contains(" us "), "{table}");
    assert!(line(dead).contains("refused"), "{table}");
    until("the age goes on", SOON, || row(&two, &first.id)["age_seconds"].as_u64() >= Some(1));
    second.stop();
    first.stop();
}

/// S3.70: who dials, switched there and back in the file of a running node.
#[test]
fn s3_70_a_reload_switches_who_dials_without_a_restart() {
    let home = Home::new(67);
    let settings = |order: &str| {
        let text = format!(
            "[network]\nlocal_ip = \"127.0.0.67\"\n\n[preference]\norder = \"{order}\"\nwait = \"10m\"\n"
        );
        fs::write(home.data().join("peerkeep.toml"), text).expect("write");
    };
    home.start(&[]).stop();
    settings("address");
    let daemon = home.start(&[]);
    // Below our address, and nobody listens there.
    let lower = std::net::TcpListener::bind("127.0.0.66:0").expect("a port").local_addr().expect("bound");
    let mut ids = (0_u8..3).map(|_| {
        let made = Home::new(66);
        let started = made.start(&[]);
        let id = started.id.clone();
        started.stop();
        id
    });
    let dials = || home.json(&["status"])["totals"]["dials"].as_u64().expect("a number");
    let mut want = || {
        let id = ids.next().expect("enough");
        home.ask(&["want", &format!("/ip4/127.0.0.66/tcp/{}/p2p/{id}", lower.port())]).expect(0);
        id
    };
    let reason = |id: &str| home.json(&["why", id])["reason"]["kind"].clone();
    let first = want();
    assert_eq!((reason(&first), dials()), ("their_turn".into(), 0), "the lower address dials");

    settings("nobody");
    assert_eq!(home.json(&["config", "reload"])["needs_restart"], serde_json::json!([]));
    let second = want();
    until("we dial whoever we want", SOON, || dials() > 0);
    assert_ne!(reason(&second), "their_turn");
    home.ask(&["unwant", &second]).expect(0);

    settings("address");
    assert_eq!(home.json(&["config", "reload"])["needs_restart"], serde_json::json!([]));
    let third = want();
    assert_eq!(reason(&third), "their_turn", "and back");
    daemon.stop();
}

/// S3.70: the liveness of a running node, switched there and back: a peer that stands still is noticed only by pings.
#[test]
fn s3_70_a_reload_switches_how_death_is_noticed_without_a_restart() {
    if std::env::var_os(common::PROFILE).is_some() {
        // It switches the profile itself.
        return;
    }
    let (one, two) = (Home::new(68), Home::new(69));
    let first = one.start(&[]);
    let settings = |mode: &str| {
        let text =
            format!("[liveness]\nmode = \"{mode}\"\nsilence = \"300ms\"\ndeadline = \"300ms\"\nmisses = 1\n");
        fs::write(two.data().join("peerkeep.toml"), text).expect("write");
    };
    two.start(&[]).stop();
    settings("keepalive-only");
    let second = two.start(&["--want", &first.address]);
    let lost = || two.json(&["status"])["totals"]["lost"].as_u64().expect("a number");
    let stands_still_unnoticed = |losses: u64| {
        until("connected", SOON, || two.connected() == 1);
        first.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(lost(), losses, "nobody asks, so nobody notices");
    };
    stands_still_unnoticed(0);
    settings("ping");
    assert_eq!(two.json(&["config", "reload"])["needs_restart"], serde_json::json!([]));
    until("the pings notice", SOON, || lost() == 1 && two.connected() == 0);
    settings("keepalive-only");
    assert_eq!(two.json(&["config", "reload"])["needs_restart"], serde_json::json!([]));
    first.signal(Signal::CONT);
    stands_still_unnoticed(1);
    first.signal(Signal::CONT);
    second.stop();
    first.stop();
}

/// S3.54: the tests of this file once more, with keepalive only and the short handshake.
#[test]
fn s3_54_daemons_do_the_same_with_keepalive_only_and_the_short_handshake() {
    if std::env::var_os(common::PROFILE).is_none() {
        let mut command = std::process::Command::new(std::env::current_exe().expect("a path"));
        let status = command.env(common::PROFILE, "keepalive-only").status().expect("ourselves can run");
        assert!(status.success(), "with keepalive only: {status}");
    }
}
