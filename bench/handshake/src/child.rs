//! The child processes: one side of one contender, on one thread, or with `--own-threads` beside the node's own. Each order is answered with the
//! processor time spent so far, in nanoseconds, once the work of it is over. It refuses to outlive its parent.

use std::{cell::Cell, rc::Rc, time::Duration};

use anyhow::{Context, Result, ensure};
use bench_parts::{
    cost, node,
    worker::{orders, say},
};
use futures::future::try_join_all;
use peerkeep::Node;
use tokio::time::{sleep, timeout};

use crate::{Name, ours, quinn_alone, rustls_alone};

const PATIENCE: Duration = Duration::from_secs(120);

enum Listener {
    Ours(Node),
    Alone(Rc<Cell<u64>>),
}

/// Each order is how many connections must have been by then.
pub async fn listen(name: Name, own_threads: bool) -> Result<()> {
    let met = Rc::new(Cell::new(0));
    let (listener, address) = match name {
        Name::OursTcp | Name::OursQuic => {
            let at = if name == Name::OursTcp { node::tcp() } else { node::quic() };
            let node = ours::listen(at, own_threads).await?;
            let address = node::address(&node)?;
            (Listener::Ours(node), address)
        }
        Name::Rustls => (Listener::Alone(met.clone()), rustls_alone::listen(met).await?),
        Name::Quinn => (Listener::Alone(met.clone()), quinn_alone::listen(met)?),
    };
    say(&address)?;
    let mut lines = orders();
    while let Some(line) = lines.recv().await {
        let expected: u64 = line.parse()?;
        let met = timeout(PATIENCE, listener.met(expected)).await.context("connections are missing")??;
        // Each was whole on the dialler's side; here a few in a hundred may be missing, no more.
        ensure!(met <= expected && met * 100 >= expected * 95, "{met} connections instead of {expected}");
        say(&cost::own_cpu_ns().to_string())?;
    }
    Ok(())
}

impl Listener {
    async fn met(&self, expected: u64) -> Result<u64> {
        match self {
            Listener::Ours(node) => ours::met(node, expected).await,
            Listener::Alone(met) => {
                while met.get() < expected {
                    sleep(Duration::from_millis(5)).await;
                }
                Ok(met.get())
            }
        }
    }
}

enum Dialler {
    Ours(ours::Dialler),
    Rustls(rustls_alone::Dialler),
    Quinn(quinn_alone::Dialler),
}

/// Each order is a number of connections and how many of them at once.
pub async fn dial(name: Name, address: &str, slots: usize, own_threads: bool) -> Result<()> {
    let dialler = match name {
        Name::OursTcp | Name::OursQuic => {
            Dialler::Ours(ours::Dialler::new(address, slots, own_threads).await?)
        }
        Name::Rustls => Dialler::Rustls(rustls_alone::Dialler::new(address)?),
        Name::Quinn => Dialler::Quinn(quinn_alone::Dialler::new(address)?),
    };
    let mut lines = orders();
    say("ready")?;
    while let Some(line) = lines.recv().await {
        let (count, at_once) = line.split_once(' ').context("two numbers")?;
        let (count, at_once): (usize, usize) = (count.parse()?, at_once.parse()?);
        let workers = (0..at_once).map(|slot| dialler.repeat(slot, count / at_once));
        timeout(PATIENCE, try_join_all(workers)).await??;
        say(&cost::own_cpu_ns().to_string())?;
    }
    Ok(())
}

impl Dialler {
    async fn repeat(&self, slot: usize, count: usize) -> Result<()> {
        for _ in 0..count {
            match self {
                Dialler::Ours(dialler) => dialler.cycle(slot).await?,
                Dialler::Rustls(dialler) => dialler.cycle().await?,
                Dialler::Quinn(dialler) => dialler.cycle().await?,
            }
        }
        Ok(())
    }
}
