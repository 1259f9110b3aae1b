//! The child processes: a listener or a dialler of one contender, told what to do by lines on standard input, answering each
//! with one line. It refuses to outlive its parent (end of input ends it) or to work on one line for more than two minutes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench_channels::{Stream, duty};
use bench_parts::{
    cost::own_cpu_ns,
    quantile,
    worker::{orders, say},
};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::contender::{Contender, Dialler, Listener, Over, Until};

const PATIENCE: Duration = Duration::from_secs(120);

/// Which end of the connections a child holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Role {
    /// Accepts; its memory is measured.
    Listen,
    /// Dials as told.
    Dial,
}

/// Microseconds.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Times {
    /// Half of them took at most this.
    pub p50_us: f64,
    /// All but one in a hundred took at most this.
    pub p99_us: f64,
}

impl Times {
    fn of(times: Vec<f64>) -> Times {
        Times { p50_us: quantile(times.clone(), 0.5), p99_us: quantile(times, 0.99) }
    }
}

/// Runs one role of a contender until standard input ends.
pub async fn run<C: Contender>(role: Role, over: Over, address: &str, slots: usize) -> Result<()> {
    match role {
        Role::Listen => listen::<C>(over).await,
        Role::Dial => dial::<C>(over, address, slots).await,
    }
}

async fn listen<C: Contender>(over: Over) -> Result<()> {
    let listener = C::listen(over).await?;
    let mut lines = orders();
    say(&listener.address())?;
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["cpu"] => say(&own_cpu_ns().to_string())?,
            ["settle", up, met] => {
                let settled = timeout(PATIENCE / 4, listener.tally().settle(up.parse()?, met.parse()?)).await;
                settled
                    .with_context(|| format!("{line}, but there are {:?}", listener.tally().counts()))??;
                say("settled")?;
            }
            ["rest", up] => {
                let rested = timeout(PATIENCE / 4, listener.tally().rest(up.parse()?)).await;
                rested
                    .with_context(|| format!("{line}, but there are {:?}", listener.tally().counts()))??;
                say("rests")?;
            }
            _ => bail!("a listener does not know {line:?}"),
        }
    }
    Ok(())
}

async fn dial<C: Contender>(over: Over, address: &str, slots: usize) -> Result<()> {
    let dialler = C::dialler(over, address, slots).await?;
    let mut held = Vec::new();
    let mut lines = orders();
    say("ready")?;
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        let work = async {
            anyhow::Ok(match words[..] {
                ["cpu"] => own_cpu_ns().to_string(),
                ["handshakes", count, at_once] => {
                    handshakes(&dialler, count.parse()?, at_once.parse()?).await?
                }
                ["hold", count] => {
                    hold(&dialler, count.parse()?, &mut held).await?;
                    "held".to_owned()
                }
                ["release"] => {
                    for (slot, conn) in held.drain(..).enumerate() {
                        dialler.close(slot, conn).await?;
                    }
                    "released".to_owned()
                }
                ["first", count] => serde_json::to_string(&firsts(&dialler, count.parse()?).await?)?,
                ["echoes", count] => serde_json::to_string(&echoes(&dialler, count.parse()?).await?)?,
                ["upload", channels, mib] => {
                    upload(&dialler, channels.parse()?, mib.parse()?).await?.to_string()
                }
                ["crowd", rounds, unread] => {
                    serde_json::to_string(&crowd(&dialler, rounds.parse()?, unread == "unread").await?)?
                }
                _ => bail!("a dialler does not know {line:?}"),
            })
        };
        let answer = timeout(PATIENCE, work).await.with_context(|| format!("{line} takes too long"))??;
        say(&answer)?;
    }
    Ok(())
}

/// Gives the microseconds they took.
async fn handshakes<D: Dialler>(dialler: &D, count: usize, at_once: usize) -> Result<String> {
    let start = Instant::now();
    try_join_all((0..at_once).map(|slot| repeat(dialler, slot, count / at_once))).await?;
    Ok(start.elapsed().as_micros().to_string())
}

async fn repeat<D: Dialler>(dialler: &D, slot: usize, count: usize) -> Result<()> {
    for _ in 0..count {
        let conn = dialler.open(slot, Until::Identified).await?;
        dialler.close(slot, conn).await?;
    }
    Ok(())
}

/// Eight at a time: a crowd of unfinished handshakes would leave the listener a larger heap than what it then holds.
async fn hold<D: Dialler>(dialler: &D, count: usize, held: &mut Vec<D::Conn>) -> Result<()> {
    let slots: Vec<usize> = (0..count).collect();
    for crowd in slots.chunks(8) {
        held.extend(try_join_all(crowd.iter().map(|slot| dialler.open(*slot, Until::Identified))).await?);
    }
    Ok(())
}

/// From the dial to the end of the first echo.
async fn firsts<D: Dialler>(dialler: &D, count: usize) -> Result<Times> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        let conn = dialler.open(0, Until::Up).await?;
        let mut stream = dialler.stream(&conn).await?;
        duty::echo(&mut *stream).await?;
        times.push(micros(begun));
        drop(stream);
        dialler.close(0, conn).await?;
    }
    Ok(Times::of(times))
}

/// Each on a fresh channel of one connection.
async fn echoes<D: Dialler>(dialler: &D, count: usize) -> Result<Times> {
    let conn = dialler.open(0, Until::Identified).await?;
    let mut times = Vec::with_capacity(count);
    for index in 0..WARM_UP + count {
        let begun = Instant::now();
        let mut stream = dialler.stream(&conn).await?;
        duty::echo(&mut *stream).await?;
        if index >= WARM_UP {
            times.push(micros(begun));
        }
    }
    dialler.close(0, conn).await?;
    Ok(Times::of(times))
}

/// Gives the seconds until the other side has everything.
async fn upload<D: Dialler>(dialler: &D, channels: u64, mib: u64) -> Result<f64> {
    let conn = dialler.open(0, Until::Identified).await?;
    let mut streams = try_join_all((0..channels).map(|_| dialler.stream(&conn))).await?;
    let begun = Instant::now();
    let each = mib * 1_024 * 1_024 / channels;
    try_join_all(streams.iter_mut().map(|stream| duty::fill(&mut **stream, each))).await?;
    let took = begun.elapsed().as_secs_f64();
    drop(streams);
    dialler.close(0, conn).await?;
    Ok(took)
}

/// Echoes on 99 channels at once, round after round, beside a hundredth: read like them, or not read and full.
async fn crowd<D: Dialler>(dialler: &D, rounds: usize, unread: bool) -> Result<Times> {
    let conn = dialler.open(0, Until::Identified).await?;
    let mut hundredth = dialler.stream(&conn).await?;
    let mut streams = try_join_all((0..99).map(|_| dialler.stream(&conn))).await?;
    for stream in &mut streams {
        duty::echo(&mut **stream).await?;
    }
    let all = try_join_all(streams.iter_mut().map(|stream| again(&mut **stream, rounds)));
    let times = if unread {
        let mut pouring = std::pin::pin!(pour(&mut *hundredth));
        // It is full when no more goes in.
        let full = timeout(FULL, &mut pouring).await;
        full.err().context("the stream that nobody reads took everything")?;
        tokio::select! {
            poured = &mut pouring => bail!("the stream that nobody reads ended: {poured:?}"),
            times = all => times?,
        }
    } else {
        duty::echo(&mut *hundredth).await?;
        let (_, times) = futures::future::try_join(again(&mut *hundredth, rounds), all).await?;
        times
    };
    drop((streams, hundredth));
    dialler.close(0, conn).await?;
    Ok(Times::of(times.into_iter().flatten().collect()))
}

/// Echoes before those that count.
const WARM_UP: usize = 200;
/// Long enough for any window to fill on a loopback.
const FULL: Duration = Duration::from_secs(2);

/// More echoes on a stream that has had its first.
async fn again(stream: &mut dyn Stream, rounds: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let (begun, mut bytes) = (Instant::now(), [9; duty::ECHO]);
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        stream.read_exact(&mut bytes).await?;
        times.push(micros(begun));
    }
    Ok(times)
}

/// Writes for as long as there is room.
async fn pour(stream: &mut dyn Stream) -> Result<()> {
    stream.write_u8(b'm').await?;
    let bytes = vec![7; 64 * 1_024];
    loop {
        stream.write_all(&bytes).await?;
        stream.flush().await?;
    }
}

fn micros(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}
