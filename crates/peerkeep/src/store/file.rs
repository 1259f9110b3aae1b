//! The SQLite file: opening, the schema, reading everything, and putting a damaged file aside.

use super::row::{self, StoredBan, StoredEvent, StoredPeer};
use super::{MAX_ANCHORS, StoreError};
use futures::TryStreamExt;
use peerkeep_core::Who;
use sqlx::migrate::{Migrate, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use std::cmp::Reverse;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// Everything a store holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Loaded {
    /// Peers, the most useful first.
    pub peers: Vec<StoredPeer>,
    /// Bans, over or not.
    pub bans: Vec<StoredBan>,
    /// The boot epoch of the last start; 0 when there was none.
    pub epoch: u64,
    /// The best connections of the last run: dialled first.
    pub anchors: Vec<Who>,
    /// Rows that did not hold and were left out.
    pub bad_rows: u64,
}

/// How a database failed, as far as it decides what to do.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The file is damaged: put it aside (fault K4).
    Damaged(sqlx::Error),
    /// A newer program wrote it: leave it alone (fault K5).
    Newer { theirs: i64, ours: i64 },
    /// The disk is full, read-only or failing: go on from memory (fault K3).
    Disk(sqlx::Error),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Trouble {
        let code = error
            .as_database_error()
            .and_then(|error| error.code())
            .and_then(|code| code.parse::<u32>().ok())
            .map(|code| code & 0xff);
        match code {
            Some(11 | 26) => Trouble::Damaged(error),
            _ => Trouble::Disk(error),
        }
    }
}

impl Trouble {
    pub(super) fn text(&self) -> String {
        match self {
            Trouble::Damaged(error) => format!("the file is damaged: {error}"),
            Trouble::Newer { theirs, ours } => format!("schema {theirs} is newer than {ours}"),
            Trouble::Disk(error) => error.to_string(),
        }
    }
}

/// The newest schema this program knows.
pub(super) fn newest_schema() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Opens the file, brings its schema up to date, and looks whether it is whole.
pub(super) async fn open(path: &Path) -> Result<SqliteConnection, Trouble> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", "4194304")
        // Rows come from another thread: in heaps, or each would cost a switch between the two.
        .row_buffer_size(1_024)
        .busy_timeout(Duration::from_secs(2))
        .disable_statement_logging();
    // SQLite would make it readable by everybody, and gives its side files the mode of the main one. What is wrong
    // with the place, SQLite reports better.
    let _ = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let mut conn = options.connect().await?;
    refuse_newer(&mut conn).await?;
    let whole: String = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut conn).await?.try_get(0)?;
    if whole != "ok" {
        return Err(Trouble::Damaged(sqlx::Error::Protocol(whole)));
    }
    MIGRATOR.run(&mut conn).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error)
        | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => Trouble::from(error),
        other => Trouble::Damaged(sqlx::Error::Migrate(Box::new(other))),
    })?;
    Ok(conn)
}

/// Asked before anything is written to it (fault K5).
async fn refuse_newer(conn: &mut SqliteConnection) -> Result<(), Trouble> {
    let table = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'";
    let known: i64 = sqlx::query(table).fetch_one(&mut *conn).await?.try_get(0)?;
    if known == 0 {
        return Ok(());
    }
    let latest = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations";
    let theirs: i64 = sqlx::query(latest).fetch_one(&mut *conn).await?.try_get(0)?;
    let ours = newest_schema();
    if theirs > ours {
        return Err(Trouble::Newer { theirs, ours });
    }
    conn.ensure_migrations_table("_sqlx_migrations").await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error) => Trouble::from(error),
        other => Trouble::Damaged(sqlx::Error::Migrate(Box::new(other))),
    })
}

/// Reads everything, at most `limit` peers and as many bans: a file made huge by an attacker costs no more (fault K6).
pub(super) async fn load(conn: &mut SqliteConnection, limit: u32) -> Result<Loaded, Trouble> {
    let mut loaded = Loaded::default();
    read_all(conn, limit, &mut loaded).await?;
    Ok(loaded)
}

async fn read_all(conn: &mut SqliteConnection, limit: u32, into: &mut Loaded) -> Result<(), sqlx::Error> {
    read_epoch(conn, into).await?;
    read_anchors(conn, into).await?;
    read_bans(conn, "SELECT * FROM bans LIMIT ?", limit, into).await?;
    let all: i64 = sqlx::query("SELECT count(*) FROM peers").fetch_one(&mut *conn).await?.try_get(0)?;
    if all > i64::from(limit) {
        let best = "SELECT * FROM peers ORDER BY wanted DESC, seen_at DESC, updated_at DESC LIMIT ?";
        return read_peers(conn, best, limit, into).await;
    }
    // In the order of the file: by worth, every page would be read many times.
    read_peers(conn, "SELECT * FROM peers LIMIT ?", limit, into).await?;
    into.peers.sort_by_cached_key(|peer| Reverse((peer.wanted, peer.seen_at, peer.updated_at)));
    Ok(())
}

async fn read_epoch(conn: &mut SqliteConnection, into: &mut Loaded) -> Result<(), sqlx::Error> {
    let epoch = sqlx::query("SELECT value FROM meta WHERE name = 'epoch'").fetch_optional(conn).await?;
    if let Some(row) = epoch {
        let text: String = row.try_get(0)?;
        into.epoch = text.parse().unwrap_or(0);
    }
    Ok(())
}

async fn read_anchors(conn: &mut SqliteConnection, into: &mut Loaded) -> Result<(), sqlx::Error> {
    let anchors = sqlx::query("SELECT value FROM meta WHERE name = 'anchors'").fetch_optional(conn).await?;
    if let Some(row) = anchors {
        let text: String = row.try_get(0)?;
        into.anchors = text.lines().take(MAX_ANCHORS).filter_map(row::parse_who).collect();
    }
    Ok(())
}

async fn read_bans(
    conn: &mut SqliteConnection,
    query: &'static str,
    limit: u32,
    into: &mut Loaded,
) -> Result<(), sqlx::Error> {
    let mut rows = sqlx::query(query).bind(i64::from(limit)).fetch(conn);
    while let Some(row) = rows.try_next().await? {
        match row::read_ban(&row) {
            Some(ban) => into.bans.push(ban),
            None => into.bad_rows += 1,
        }
    }
    Ok(())
}

async fn read_peers(
    conn: &mut SqliteConnection,
    query: &'static str,
    limit: u32,
    into: &mut Loaded,
) -> Result<(), sqlx::Error> {
    let mut rows = sqlx::query(query).bind(i64::from(limit)).fetch(conn);
    while let Some(row) = rows.try_next().await? {
        match row::read_peer(&row) {
            Some(peer) => into.peers.push(peer),
            None => into.bad_rows += 1,
        }
    }
    Ok(())
}

/// The latest events of one peer or of all, newest first.
pub(super) async fn history(
    conn: &mut SqliteConnection,
    who: Option<&str>,
    limit: u32,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    let rows = match who {
        Some(who) => {
            sqlx::query("SELECT * FROM history WHERE who = ? ORDER BY id DESC LIMIT ?").bind(who.to_owned())
        }
        None => sqlx::query("SELECT * FROM history ORDER BY id DESC LIMIT ?"),
    };
    let rows = rows.bind(i64::from(limit)).fetch_all(conn).await?;
    Ok(rows.iter().filter_map(row::read_event).collect())
}

/// Puts a damaged file aside and saves what can still be read from it. Returns where it is now.
pub(super) async fn quarantine(path: &Path, limit: u32) -> Result<(PathBuf, Loaded), StoreError> {
    let failed = |error| StoreError::Quarantine { path: path.into(), error };
    let aside = free_name(path).map_err(failed)?;
    // The log beside it may hold rows that the file lacks, so it goes along.
    for suffix in ["-wal", "-shm"] {
        match std::fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    std::fs::rename(path, &aside).map_err(failed)?;
    Ok((aside.clone(), salvage(&aside, limit).await))
}

/// Reads each table from both ends until the damage: an error only ends that reading.
async fn salvage(aside: &Path, limit: u32) -> Loaded {
    let mut loaded = Loaded::default();
    let options = SqliteConnectOptions::new().filename(aside).read_only(true).disable_statement_logging();
    let Ok(mut conn) = options.connect().await else { return loaded };
    let _ = read_epoch(&mut conn, &mut loaded).await;
    for query in
        ["SELECT * FROM bans ORDER BY target LIMIT ?", "SELECT * FROM bans ORDER BY target DESC LIMIT ?"]
    {
        let _ = read_bans(&mut conn, query, limit, &mut loaded).await;
    }
    for query in ["SELECT * FROM peers ORDER BY who LIMIT ?", "SELECT * FROM peers ORDER BY who DESC LIMIT ?"]
    {
        let _ = read_peers(&mut conn, query, limit, &mut loaded).await;
    }
    let _ = conn.close().await;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    loaded.bans.sort_by_key(|ban| ban.target);
    loaded.bans.dedup_by_key(|ban| ban.target);
    loaded.bans.truncate(most);
    loaded.peers.sort_by_key(|peer| peer.who);
    loaded.peers.dedup_by_key(|peer| peer.who);
    loaded.peers.sort_by_key(|peer| Reverse((peer.wanted, peer.seen_at)));
    loaded.peers.truncate(most);
    loaded
}

fn free_name(path: &Path) -> io::Result<PathBuf> {
    let now = crate::Timestamp::now().unix_seconds();
    (now..now + 1_000)
        .map(|at| with_suffix(path, &format!(".corrupt-{at}")))
        .find(|name| std::fs::symlink_metadata(name).is_err())
        .ok_or_else(|| io::Error::other("too many damaged files were put aside already"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
