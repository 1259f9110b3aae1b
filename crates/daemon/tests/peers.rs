//! Daemons that keep each other: connect, why, want, crash and return, ban, and what the commands show of it.
#![allow(missing_docs)]

mod common;

use common::{Home, SOON, until};
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
    let said = one.ask(&["connect", &second.id]).expect(1);
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
