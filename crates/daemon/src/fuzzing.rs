//! Doors to the API's decoders for the fuzz targets and the replay of their corpora; hidden, and no part of any
//! interface. It holds what must be true of them and touches neither sockets nor files.

use crate::api::{BanRequest, Banned, Connected, PeerRequest, Problem, Reloaded, Version};
use crate::exit::Failure;
use crate::out;
use peerkeep::{EventKind, NodeStatus, PeerAddress, PeerStatus, Why, parse_target, print_target};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request's body as the routes read it. What is taken says the same when it is written again.
pub fn request(bytes: &[u8]) {
    if let Some(request) = read_twice::<PeerRequest>(bytes)
        && let Ok(address) = request.peer.parse::<PeerAddress>()
        && address.to_multiaddr().is_some()
    {
        assert_eq!(address.to_string().parse().as_ref(), Ok(&address), "an address reads as it is written");
    }
    if let Some(request) = read_twice::<BanRequest>(bytes)
        && let Ok(target) = parse_target(&request.target)
    {
        assert_eq!(parse_target(&print_target(&target)), Ok(target), "a target reads as it is written");
    }
}

/// A daemon's answer as the commands read it, from a daemon that may be a fake one (fault A14).
pub fn answer(bytes: &[u8]) {
    read_twice::<Version>(bytes);
    read_twice::<Connected>(bytes);
    read_twice::<Banned>(bytes);
    read_twice::<Reloaded>(bytes);
    read_twice::<NodeStatus>(bytes);
    read_twice::<PeerStatus>(bytes);
    read_twice::<Why>(bytes);
    read_twice::<EventKind>(bytes);
    if let Some(problem) = read_twice::<Problem>(bytes) {
        let failure = Failure::from(problem);
        assert_clean(&out::clean_lines(&failure.to_string()), true);
    }
}

/// Text from anybody on its way to a terminal.
pub fn terminal(text: &str) {
    let cleaned = out::clean(text);
    assert_clean(&cleaned, false);
    assert_eq!(out::clean(&cleaned), cleaned, "what is clean stays as it is");
    assert_clean(&out::clean_lines(text), true);
}

fn read_twice<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&value).expect("our own types are JSON");
    let again: T = serde_json::from_slice(&written).expect("what we write can be read");
    assert_eq!(serde_json::to_vec(&again).expect("as before"), written, "written twice, the same twice");
    Some(value)
}

fn assert_clean(text: &str, lines: bool) {
    let bad = |c: char| c.is_control() && !(lines && c == '\n') || matches!(c, '\u{202a}'..='\u{202e}');
    assert!(!text.contains(bad), "{text:?}");
}
