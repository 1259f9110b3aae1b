//! The child processes: a listener or a dialler of one contender, told what to do by lines on standard input, answering each
//! with one line. It refuses to outlive its parent (end of input ends it) or to work on one line for more than two minutes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench_parts::{
    cost::own_cpu_ns,
    worker::{orders, say},
};
use futures::future::try_join_all;
use tokio::time::timeout;

use crate::contender::{Contender, Dialler, Listener};

const PATIENCE: Duration = Duration::from_secs(120);

/// Which end of the connections a child holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Role {
    /// Accepts; its memory is measured.
    Listen,
    /// Dials as told.
    Dial,
}

/// Runs one role of a contender until standard input ends.
pub async fn run<C: Contender>(role: Role, address: &str, slots: usize) -> Result<()> {
    match role {
        Role::Listen => listen::<C>().await,
        Role::Dial => dial::<C>(address, slots).await,
    }
}

async fn listen<C: Contender>() -> Result<()> {
    let listener = C::listen().await?;
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
            _ => bail!("a listener does not know {line:?}"),
        }
    }
    Ok(())
}

async fn dial<C: Contender>(address: &str, slots: usize) -> Result<()> {
    let dialler = C::dialler(address, slots).await?;
    let mut held = Vec::new();
    let mut lines = orders();
    say("ready")?;
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["cpu"] => say(&own_cpu_ns().to_string())?,
            ["handshakes", count, at_once] => {
                let (count, at_once): (usize, usize) = (count.parse()?, at_once.parse()?);
                let start = Instant::now();
                let workers = (0..at_once).map(|slot| repeat(&dialler, slot, count / at_once));
                timeout(PATIENCE, try_join_all(workers)).await??;
                say(&start.elapsed().as_micros().to_string())?;
            }
            ["hold", count] => {
                let count: usize = count.parse()?;
                timeout(PATIENCE, hold(&dialler, count, &mut held)).await??;
                say("held")?;
            }
            _ => bail!("a dialler does not know {line:?}"),
        }
    }
    Ok(())
}

async fn repeat<D: Dialler>(dialler: &D, slot: usize, count: usize) -> Result<()> {
    for _ in 0..count {
        let conn = dialler.open(slot).await?;
        dialler.close(slot, conn).await?;
    }
    Ok(())
}

/// Eight at a time: a crowd of unfinished handshakes would leave the listener a larger heap than what it then holds.
async fn hold<D: Dialler>(dialler: &D, count: usize, held: &mut Vec<D::Conn>) -> Result<()> {
    let slots: Vec<usize> = (0..count).collect();
    for crowd in slots.chunks(8) {
        held.extend(try_join_all(crowd.iter().map(|slot| dialler.open(*slot))).await?);
    }
    Ok(())
}
