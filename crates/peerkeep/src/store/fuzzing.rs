//! Doors to the store's decoders for the fuzz targets and the replay of their corpora; hidden, and no part of any
//! interface. It holds what must be true of them and panics when it is not.

use super::row::{self, PeerColumns};
use super::{Store, StoreError, StoreLimits, StoredBan, StoredEvent, StoredPeer};
use crate::{AddressSource, BanReason, EventKind, PeerId, Timestamp, parse_target, print_target};
use peerkeep_core::{Addr, MAX_ADDRS, PeerKey, Who};
use std::path::Path;

/// A peer's columns whose sum holds, whatever is in them: nothing bad comes out, and what comes out is stored and read
/// back the same.
pub fn peer(texts: [&str; 4], flags: [i64; 3], seen_at: i64, updated_at: i64) {
    let [who, addresses, names, last_error] = texts.map(str::to_owned);
    let (failures, wait_ms) = (seen_at & 0xffff, updated_at & 0xffff_ffff);
    let columns =
        PeerColumns { who, addresses, names, flags, seen_at, updated_at, last_error, failures, wait_ms };
    let Some(peer) = columns.parse() else { return };
    assert!(peer.addresses.len() <= MAX_ADDRS && peer.names.len() <= MAX_ADDRS);
    assert!(peer.addresses.iter().all(|(addr, _)| addr.check().is_ok()), "only what can be dialled");
    assert_eq!(PeerColumns::new(&peer).parse().as_ref(), Some(&peer), "stored and read back");
}

/// A ban's columns whose sum holds.
pub fn ban(target: &str, set_at: i64, span_ms: Option<i64>, reason: &str) {
    let Some(ban) = row::parse_ban(target, set_at, span_ms, reason) else { return };
    let printed = print_target(&ban.target);
    assert_eq!(row::parse_ban(&printed, set_at, span_ms, reason), Some(ban), "stored and read back");
}

/// An event's columns.
pub fn event(who: &str, event: &str) {
    if let Some(known) = row::parse_who(who) {
        assert_eq!(row::who_text(&known), who, "a name has one spelling");
    }
    let Ok(kind) = serde_json::from_str::<EventKind>(event) else { return };
    let written = serde_json::to_string(&kind).expect("our own events are JSON");
    assert_eq!(serde_json::from_str::<EventKind>(&written).ok(), Some(kind));
}

/// A whole file, damaged or not, in a folder of its own: opened, written to and closed. How many peers and bans it held.
///
/// # Errors
/// As the node's start: a newer program's file, or one that cannot be put aside.
pub async fn file(folder: &Path) -> Result<(usize, usize), StoreError> {
    let (store, loaded) = Store::open(folder, StoreLimits::default()).await?;
    store.put_epoch(loaded.epoch.saturating_add(1));
    let _ = store.history(None, 100).await;
    store.flush().await;
    store.close().await;
    Ok((loaded.peers.len(), loaded.bans.len()))
}

/// Fills a new store with some of everything.
///
/// # Errors
/// When there is no room for one.
pub async fn fill(folder: &Path) -> Result<(), StoreError> {
    let (store, _) = Store::open(folder, StoreLimits::default()).await?;
    store.put_epoch(5);
    for n in 1..20 {
        let who = Who::mesh(PeerKey::ed25519([n; 32]));
        let place = Addr::tcp(([192, 0, 2, n], 7330).into());
        store.put_peer(StoredPeer {
            who,
            addresses: vec![(place, AddressSource::Proven)],
            names: Vec::new(),
            wanted: n < 5,
            held: false,
            first_use: false,
            seen_at: Timestamp(u64::from(n)),
            updated_at: Timestamp(9),
            last_error: None,
            failures: u16::from(n % 3),
            wait: std::time::Duration::from_secs(u64::from(n % 3)),
        });
        store.put_event(StoredEvent {
            who,
            at: Timestamp(7),
            event: EventKind::Discovered { peer: PeerId(who.key) },
        });
    }
    if let Ok(target) = parse_target("203.0.113.0/24") {
        store.put_ban(StoredBan { target, set_at: Timestamp(1), span: None, reason: BanReason::Operator });
    }
    store.flush().await;
    store.close().await;
    Ok(())
}
