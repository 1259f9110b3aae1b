//! The rows and how they are written. A row whose checksum or content does not hold is left out and counted: a damaged
//! file gives what is still good in it (fault K4), and nothing read from it reaches the core unchecked.

use crate::{
    AddressSource, BanReason, ErrorStatus, EventKind, PeerAddress, PeerId, Place, Stack, Timestamp,
    multiaddr_of, parse_target, print_target,
};
use peerkeep_core::{Addr, MAX_ADDRS, Target, Who};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3;

/// A remembered peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredPeer {
    /// Its name on a stack.
    pub who: Who,
    /// Its addresses, best first, at most eight.
    pub addresses: Vec<(Addr, AddressSource)>,
    /// Its DNS names with ports, as multiaddresses, at most eight.
    pub names: Vec<PeerAddress>,
    /// Keep connected.
    pub wanted: bool,
    /// Keep its connection however idle.
    pub held: bool,
    /// Its key was trusted on first use.
    pub first_use: bool,
    /// When it was last connected; 1970 for never.
    pub seen_at: Timestamp,
    /// When this was written.
    pub updated_at: Timestamp,
    /// What failed last.
    pub last_error: Option<ErrorStatus>,
    /// Failed attempts in a row, one under way included.
    pub failures: u16,
    /// How long after `updated_at` it is not dialled by itself.
    pub wait: Duration,
}

/// Failures are forgotten when the wait has been over for this long.
const FORGET_FAILURES: Duration = Duration::from_secs(3_600);

impl StoredPeer {
    /// The failures and what is left of the wait, if they still count: at most the whole wait, whatever the clock says.
    pub fn backoff_left(&self, now: Timestamp) -> Option<(u16, Duration)> {
        let until = self.updated_at.after(self.wait);
        let counts = self.failures > 0 && now.since(until) < FORGET_FAILURES;
        counts.then(|| (self.failures, until.since(now).min(self.wait)))
    }
}

/// A remembered ban. It carries both an end and a length, so that no wrong clock makes it eternal (faults I6, I7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredBan {
    /// What.
    pub target: Target,
    /// When it was set.
    pub set_at: Timestamp,
    /// For how long; `None` until lifted.
    pub span: Option<Duration>,
    /// Why.
    pub reason: BanReason,
}

impl StoredBan {
    /// What is left of it: at most its whole length, whatever the clock says. `Some(None)` is "until lifted", `None`
    /// is over.
    pub fn remaining(&self, now: Timestamp) -> Option<Option<Duration>> {
        let Some(span) = self.span else { return Some(None) };
        let left = self.set_at.after(span).since(now).min(span);
        (left > Duration::ZERO).then_some(Some(left))
    }
}

/// A remembered event of one peer.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredEvent {
    /// Whose.
    pub who: Who,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: EventKind,
}

/// The key of a peer's row.
pub(super) fn who_text(who: &Who) -> String {
    format!("{} {}", Stack::from(who.stack).text(), PeerId(who.key))
}

pub(super) fn parse_who(text: &str) -> Option<Who> {
    let (stack, key) = text.split_once(' ')?;
    let stack = Stack::ALL.iter().find(|known| known.text() == stack)?;
    Some(Who { stack: (*stack).into(), key: key.parse::<PeerId>().ok()?.0 })
}

/// A sum over the parts of a row, each with its length, as SQLite's signed integer.
fn checksum(parts: &[&[u8]]) -> i64 {
    let mut sum = Xxh3::new();
    for part in parts {
        sum.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        sum.update(part);
    }
    i64::from_le_bytes(sum.digest().to_le_bytes())
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn time(value: i64) -> Timestamp {
    Timestamp(u64::try_from(value).unwrap_or(0))
}

/// A peer's columns as they are stored.
#[derive(Debug, Default)]
pub(super) struct PeerColumns {
    pub who: String,
    pub addresses: String,
    pub names: String,
    pub flags: [i64; 3],
    pub seen_at: i64,
    pub updated_at: i64,
    pub last_error: String,
    pub failures: i64,
    pub wait_ms: i64,
}

impl PeerColumns {
    pub fn new(peer: &StoredPeer) -> PeerColumns {
        let addresses: Vec<(String, AddressSource)> =
            peer.addresses.iter().map(|(addr, source)| (multiaddr_of(addr).to_string(), *source)).collect();
        let names: Vec<String> = peer.names.iter().map(PeerAddress::to_string).collect();
        let json = |result: Result<String, serde_json::Error>| result.unwrap_or_default();
        PeerColumns {
            who: who_text(&peer.who),
            addresses: json(serde_json::to_string(&addresses)),
            names: json(serde_json::to_string(&names)),
            flags: [peer.wanted, peer.held, peer.first_use].map(i64::from),
            seen_at: int(peer.seen_at.0),
            updated_at: int(peer.updated_at.0),
            last_error: peer
                .last_error
                .as_ref()
                .map(|error| json(serde_json::to_string(error)))
                .unwrap_or_default(),
            failures: peer.failures.into(),
            wait_ms: i64::try_from(peer.wait.as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn checksum(&self) -> i64 {
        let flags = self.flags.map(i64::to_le_bytes).concat();
        let (seen_at, updated_at) = (self.seen_at.to_le_bytes(), self.updated_at.to_le_bytes());
        let backoff = [self.failures, self.wait_ms].map(i64::to_le_bytes).concat();
        let mut parts: Vec<&[u8]> = vec![
            self.who.as_bytes(),
            self.addresses.as_bytes(),
            self.names.as_bytes(),
            &flags,
            &seen_at,
            &updated_at,
            self.last_error.as_bytes(),
        ];
        // Rows from before there were such columns have no such part, and zeros in them.
        if (self.failures, self.wait_ms) != (0, 0) {
            parts.push(&backoff);
        }
        checksum(&parts)
    }

    /// By the places that the columns have had since the first schema; names would be looked up for every row.
    fn read(row: &SqliteRow) -> Result<(PeerColumns, i64), sqlx::Error> {
        let columns = PeerColumns {
            who: row.try_get(0)?,
            addresses: row.try_get(1)?,
            names: row.try_get(2)?,
            flags: [row.try_get(3)?, row.try_get(4)?, row.try_get(5)?],
            seen_at: row.try_get(6)?,
            updated_at: row.try_get(7)?,
            last_error: row.try_get(8)?,
            // A damaged file is also read in its old form.
            failures: row.try_get(10).unwrap_or(0),
            wait_ms: row.try_get(11).unwrap_or(0),
        };
        Ok((columns, row.try_get(9)?))
    }

    pub fn parse(&self) -> Option<StoredPeer> {
        let addresses: Vec<(String, AddressSource)> = serde_json::from_str(&self.addresses).ok()?;
        let names: Vec<String> = serde_json::from_str(&self.names).ok()?;
        let addresses =
            addresses.iter().take(MAX_ADDRS).filter_map(|(text, source)| match text.parse().ok()? {
                PeerAddress { place: Some(Place::Ip(addr)), .. } => Some((addr, *source)),
                _ => None,
            });
        let last_error = match self.last_error.as_str() {
            "" => None,
            json => serde_json::from_str(json).ok(),
        };
        Some(StoredPeer {
            who: parse_who(&self.who)?,
            addresses: addresses.collect(),
            names: names.iter().take(MAX_ADDRS).filter_map(|text| text.parse().ok()).collect(),
            wanted: self.flags[0] != 0,
            held: self.flags[1] != 0,
            first_use: self.flags[2] != 0,
            seen_at: time(self.seen_at),
            updated_at: time(self.updated_at),
            last_error,
            failures: u16::try_from(self.failures).ok()?,
            wait: Duration::from_millis(u64::try_from(self.wait_ms).ok()?),
        })
    }
}

pub(super) fn read_peer(row: &SqliteRow) -> Option<StoredPeer> {
    let (columns, sum) = PeerColumns::read(row).ok()?;
    if columns.checksum() == sum { columns.parse() } else { None }
}

pub(super) async fn put_peer(conn: &mut SqliteConnection, peer: &StoredPeer) -> Result<(), sqlx::Error> {
    let columns = PeerColumns::new(peer);
    let sum = columns.checksum();
    sqlx::query(
        "INSERT OR REPLACE INTO peers (who, addresses, names, wanted, held, first_use, seen_at, updated_at, \
         last_error, failures, wait_ms, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(columns.who)
    .bind(columns.addresses)
    .bind(columns.names)
    .bind(columns.flags[0])
    .bind(columns.flags[1])
    .bind(columns.flags[2])
    .bind(columns.seen_at)
    .bind(columns.updated_at)
    .bind(columns.last_error)
    .bind(columns.failures)
    .bind(columns.wait_ms)
    .bind(sum)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn remove_peer(conn: &mut SqliteConnection, who: &Who) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM peers WHERE who = ?").bind(who_text(who)).execute(conn).await?;
    Ok(())
}

fn ban_sum(target: &str, set_at: i64, span_ms: Option<i64>, reason: &str) -> i64 {
    let span = span_ms.map(i64::to_le_bytes);
    let span: &[u8] = span.as_ref().map_or(&[], |bytes| bytes);
    checksum(&[target.as_bytes(), &set_at.to_le_bytes(), span, reason.as_bytes()])
}

pub(super) async fn put_ban(conn: &mut SqliteConnection, ban: &StoredBan) -> Result<(), sqlx::Error> {
    let target = print_target(&ban.target);
    let set_at = int(ban.set_at.0);
    let span_ms = ban.span.map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
    let reason = match ban.reason {
        BanReason::Operator => "operator",
        BanReason::Misbehaviour => "misbehaviour",
    };
    let sum = ban_sum(&target, set_at, span_ms, reason);
    sqlx::query(
        "INSERT OR REPLACE INTO bans (target, set_at, span_ms, reason, checksum) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(target)
    .bind(set_at)
    .bind(span_ms)
    .bind(reason)
    .bind(sum)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn remove_ban(conn: &mut SqliteConnection, target: &Target) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM bans WHERE target = ?").bind(print_target(target)).execute(conn).await?;
    Ok(())
}

pub(super) fn read_ban(row: &SqliteRow) -> Option<StoredBan> {
    let target: String = row.try_get("target").ok()?;
    let set_at: i64 = row.try_get("set_at").ok()?;
    let span_ms: Option<i64> = row.try_get("span_ms").ok()?;
    let reason: String = row.try_get("reason").ok()?;
    let sum: i64 = row.try_get("checksum").ok()?;
    if ban_sum(&target, set_at, span_ms, &reason) != sum {
        return None;
    }
    parse_ban(&target, set_at, span_ms, &reason)
}

/// A ban's columns, whose sum holds.
pub(super) fn parse_ban(target: &str, set_at: i64, span_ms: Option<i64>, reason: &str) -> Option<StoredBan> {
    let span = match span_ms {
        Some(ms) => Some(Duration::from_millis(u64::try_from(ms).ok()?)),
        None => None,
    };
    let reason = if reason == "operator" { BanReason::Operator } else { BanReason::Misbehaviour };
    Some(StoredBan { target: parse_target(target).ok()?, set_at: time(set_at), span, reason })
}

pub(super) async fn put_event(conn: &mut SqliteConnection, event: &StoredEvent) -> Result<(), sqlx::Error> {
    let json = serde_json::to_string(&event.event).unwrap_or_default();
    sqlx::query("INSERT INTO history (who, at, event) VALUES (?, ?, ?)")
        .bind(who_text(&event.who))
        .bind(int(event.at.0))
        .bind(json)
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) fn read_event(row: &SqliteRow) -> Option<StoredEvent> {
    let who: String = row.try_get("who").ok()?;
    let at: i64 = row.try_get("at").ok()?;
    let event: String = row.try_get("event").ok()?;
    Some(StoredEvent { who: parse_who(&who)?, at: time(at), event: serde_json::from_str(&event).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(set_at: u64, span: Option<u64>) -> StoredBan {
        StoredBan {
            target: parse_target("192.0.2.1").expect("a target"),
            set_at: Timestamp(set_at),
            span: span.map(Duration::from_millis),
            reason: BanReason::Operator,
        }
    }

    #[test]
    fn fault_i7_what_is_left_of_a_ban_is_bounded_by_its_length_whatever_the_clock_says() {
        let left = |now| ban(1_000_000, Some(60_000)).remaining(Timestamp(now));
        let ms = |ms| Some(Some(Duration::from_millis(ms)));
        assert_eq!(left(1_000_000), ms(60_000));
        assert_eq!(left(1_030_000), ms(30_000));
        assert_eq!(left(1_060_000), None, "over");
        assert_eq!(left(u64::MAX), None, "the clock jumped ahead");
        assert_eq!(left(0), ms(60_000), "the clock jumped back: at most the whole length again");
        assert_eq!(ban(5, None).remaining(Timestamp(u64::MAX)), Some(None), "until lifted");
        assert!(ban(u64::MAX, Some(u64::MAX)).remaining(Timestamp(0)).is_some(), "no overflow");
    }

    #[test]
    fn fault_k9_a_remembered_wait_never_grows_and_failures_are_forgotten_whatever_the_clock_says() {
        let secs = Duration::from_secs;
        let peer = StoredPeer {
            who: parse_who("mesh 12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN").expect("a peer"),
            addresses: Vec::new(),
            names: Vec::new(),
            wanted: true,
            held: false,
            first_use: false,
            seen_at: Timestamp(0),
            updated_at: Timestamp(1_000_000),
            last_error: None,
            failures: 3,
            wait: secs(60),
        };
        let left = |now| peer.backoff_left(Timestamp(now));
        assert_eq!(left(1_000_000), Some((3, secs(60))));
        assert_eq!(left(1_040_000), Some((3, secs(20))));
        assert_eq!(left(1_061_000), Some((3, Duration::ZERO)), "due, and not forgotten");
        assert_eq!(left(0), Some((3, secs(60))), "the clock jumped back: at most the whole wait again");
        assert_eq!(left(1_060_000 + 3_600_000), None, "long over");
        assert_eq!(left(u64::MAX), None, "the clock jumped ahead");
        let nothing = StoredPeer { failures: 0, ..peer.clone() };
        assert_eq!(nothing.backoff_left(Timestamp(1_000_000)), None);
        let silly = StoredPeer { updated_at: Timestamp(u64::MAX), wait: Duration::MAX, ..peer };
        assert!(silly.backoff_left(Timestamp(0)).is_some(), "no overflow: the core bounds it");
    }
}
