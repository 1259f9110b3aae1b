//! The loop that writes: a batch at most every half second or as soon as one is full, in one transaction. Bans and the
//! boot epoch are synced to the disk before the transaction counts; the rest survives a killed process either way.

use super::file::{self, Loaded, Trouble};
use super::queue::{Ask, BATCH, Batch, Change, Queue};
use super::row;
use sqlx::{Connection, Row, SqliteConnection};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long changes gather.
const GATHER: Duration = Duration::from_millis(500);
/// After a failed write, the next try comes after this, doubling up to the maximum.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Trim the history after so many events.
const TRIM_EVERY: u32 = 512;

struct Writer {
    path: PathBuf,
    conn: Option<SqliteConnection>,
    queue: Arc<Queue>,
    since_trim: u32,
}

/// Writes until the queue is closed.
pub(super) async fn run(path: PathBuf, conn: Option<SqliteConnection>, queue: Arc<Queue>) {
    let mut writer = Writer { path, conn, queue, since_trim: TRIM_EVERY };
    let mut pause = RETRY;
    loop {
        let closing = writer.queue.is_closing();
        if !closing && writer.queue.is_empty() && writer.conn.is_some() {
            writer.queue.stir.notified().await;
            let _ = tokio::time::timeout(GATHER, writer.queue.urgent.notified()).await;
        }
        // Taken before the writing: whatever was put before a question is written before its answer.
        let asks = writer.queue.take_asks();
        let written = writer.write_all().await;
        writer.answer(asks, written.is_ok()).await;
        match written {
            Ok(()) if closing => break,
            Ok(()) => pause = RETRY,
            Err(text) => {
                if writer.queue.fell_ill(text.clone()) {
                    tracing::warn!(path = %writer.path.display(), error = text, "the store cannot be written");
                }
                if closing {
                    break;
                }
                let _ = tokio::time::timeout(pause, writer.queue.urgent.notified()).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
    if let Some(conn) = writer.conn.take() {
        let _ = conn.close().await;
    }
}

impl Writer {
    /// Writes everything that waits; a damaged file is repaired on the way.
    async fn write_all(&mut self) -> Result<(), String> {
        self.reopen().await?;
        loop {
            let batch = self.queue.take();
            if batch.is_empty() {
                if self.queue.recovered() {
                    tracing::info!(path = %self.path.display(), "the store can be written again");
                }
                return Ok(());
            }
            let Some(conn) = &mut self.conn else { return Err("the store is not open".to_owned()) };
            self.since_trim += u32::try_from(batch.events.len()).unwrap_or(u32::MAX);
            let trim = self.since_trim >= TRIM_EVERY;
            match write_batch(conn, &batch, &self.queue, trim).await {
                Ok(()) if trim => self.since_trim = 0,
                Ok(()) => {}
                Err(error) => {
                    self.queue.put_back(batch);
                    return self.fail(Trouble::from(error)).await;
                }
            }
        }
    }

    async fn fail(&mut self, trouble: Trouble) -> Result<(), String> {
        let text = trouble.text();
        // A connection that failed once is not trusted again: the file may have been replaced or unmounted.
        if let Some(conn) = self.conn.take() {
            let _ = conn.close().await;
        }
        if let Trouble::Damaged(error) = trouble {
            self.repair(&error.to_string()).await?;
            return Err(text);
        }
        Err(text)
    }

    async fn repair(&mut self, error: &str) -> Result<(), String> {
        let most = self.queue.limits().peers.max(self.queue.limits().bans);
        let (aside, saved) = file::quarantine(&self.path, most).await.map_err(|error| error.to_string())?;
        super::report_damage(&self.path, &aside, error, &saved);
        let mut conn = file::open(&self.path).await.map_err(|trouble| trouble.text())?;
        restore(&mut conn, &saved).await.map_err(|trouble| trouble.text())?;
        self.conn = Some(conn);
        Ok(())
    }

    async fn reopen(&mut self) -> Result<(), String> {
        if self.conn.is_some() {
            return Ok(());
        }
        match file::open(&self.path).await {
            Ok(conn) => {
                self.conn = Some(conn);
                Ok(())
            }
            Err(Trouble::Damaged(error)) => self.repair(&error.to_string()).await,
            Err(trouble) => Err(trouble.text()),
        }
    }

    async fn answer(&mut self, asks: VecDeque<Ask>, written: bool) {
        for ask in asks {
            match ask {
                Ask::Flush(done) => {
                    let _ = done.send(written);
                }
                Ask::History { who, limit, done } => {
                    let who = who.as_ref().map(row::who_text);
                    let events = match &mut self.conn {
                        Some(conn) => file::history(conn, who.as_deref(), limit).await.unwrap_or_default(),
                        None => Vec::new(),
                    };
                    let _ = done.send(events);
                }
            }
        }
    }
}

async fn write_batch(
    conn: &mut SqliteConnection,
    batch: &Batch,
    queue: &Queue,
    trim: bool,
) -> Result<(), sqlx::Error> {
    let full = batch.epoch.is_some() || !batch.bans.is_empty();
    let level = if full { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
    sqlx::query(level).execute(&mut *conn).await?;
    let mut transaction = conn.begin().await?;
    if let Some(epoch) = batch.epoch {
        put_meta(&mut transaction, "epoch", epoch.to_string()).await?;
        put_meta(&mut transaction, "version", env!("CARGO_PKG_VERSION").to_owned()).await?;
    }
    if let Some(anchors) = &batch.anchors {
        let text: Vec<String> = anchors.iter().map(row::who_text).collect();
        put_meta(&mut transaction, "anchors", text.join("\n")).await?;
    }
    for (target, change) in &batch.bans {
        match change {
            Change::Put(ban) => row::put_ban(&mut transaction, ban).await?,
            Change::Remove => row::remove_ban(&mut transaction, target).await?,
        }
    }
    for (who, change) in &batch.peers {
        match change {
            Change::Put(peer) => row::put_peer(&mut transaction, peer).await?,
            Change::Remove => row::remove_peer(&mut transaction, who).await?,
        }
    }
    for event in &batch.events {
        row::put_event(&mut transaction, event).await?;
    }
    trim_tables(&mut transaction, batch, queue, trim).await?;
    transaction.commit().await
}

async fn put_meta(conn: &mut SqliteConnection, name: &'static str, value: String) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)")
        .bind(name)
        .bind(value)
        .execute(conn)
        .await?;
    Ok(())
}

/// Keeps every table within its cap at the write, not at some later reading (fault K6).
async fn trim_tables(
    conn: &mut SqliteConnection,
    batch: &Batch,
    queue: &Queue,
    trim: bool,
) -> Result<(), sqlx::Error> {
    if batch.peers.iter().any(|(_, change)| matches!(change, Change::Put(_))) {
        let excess = count(conn, "SELECT count(*) FROM peers").await? - i64::from(queue.limits().peers);
        if excess > 0 {
            let least = "DELETE FROM peers WHERE who IN \
                         (SELECT who FROM peers ORDER BY wanted, seen_at, updated_at LIMIT ?)";
            sqlx::query(least).bind(excess).execute(&mut *conn).await?;
        }
    }
    if !batch.bans.is_empty() {
        let excess = count(conn, "SELECT count(*) FROM bans").await? - i64::from(queue.limits().bans);
        if excess > 0 {
            let oldest = "DELETE FROM bans WHERE target IN (SELECT target FROM bans ORDER BY set_at LIMIT ?)";
            sqlx::query(oldest).bind(excess).execute(&mut *conn).await?;
        }
    }
    for who in unique(batch) {
        let older = "DELETE FROM history WHERE who = ?1 AND id <= \
                     (SELECT id FROM history WHERE who = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
        sqlx::query(older)
            .bind(who)
            .bind(i64::from(queue.limits().history_per_peer))
            .execute(&mut *conn)
            .await?;
    }
    if trim {
        let older =
            "DELETE FROM history WHERE id <= (SELECT id FROM history ORDER BY id DESC LIMIT 1 OFFSET ?)";
        sqlx::query(older).bind(i64::from(queue.limits().history)).execute(&mut *conn).await?;
    }
    Ok(())
}

fn unique(batch: &Batch) -> std::collections::BTreeSet<String> {
    batch.events.iter().map(|event| row::who_text(&event.who)).collect()
}

async fn count(conn: &mut SqliteConnection, query: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query(query).fetch_one(conn).await?.try_get(0)
}

/// Writes what was saved from a damaged file into a new one.
pub(super) async fn restore(conn: &mut SqliteConnection, saved: &Loaded) -> Result<(), Trouble> {
    let mut transaction = conn.begin().await?;
    if saved.epoch > 0 {
        put_meta(&mut transaction, "epoch", saved.epoch.to_string()).await?;
    }
    for ban in &saved.bans {
        row::put_ban(&mut transaction, ban).await?;
    }
    for chunk in saved.peers.chunks(BATCH) {
        for peer in chunk {
            row::put_peer(&mut transaction, peer).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}
