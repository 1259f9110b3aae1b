//! The parent's side: starts a listener and a dialler of a contender, makes them work, and takes the figures.
//! It refuses to end any process but the children it started.

use std::{thread::sleep, time::Duration};

use anyhow::Result;
use bench_parts::{cost::resident_kib, worker::Worker};
use serde::Serialize;

use crate::{Args, Name, child::Role};

/// What one contender cost. `None` when the run left that part out.
#[derive(Clone, Copy, Serialize)]
pub struct Figures {
    /// Processor time of both sides for one handshake and its closing, one at a time, in microseconds.
    pub cpu_us_per_handshake: f64,
    /// The same with 16 at once.
    pub cpu_us_per_handshake_16: f64,
    /// Handshakes a second with 16 at once.
    pub handshakes_per_second_16: f64,
    /// Resident memory of the listener's whole process for one idle connection, in KiB.
    pub kib_per_idle_connection: f64,
    /// Processor time of the listener's process with 100 idle peers, in per cent of one core.
    pub cpu_percent_100_idle: f64,
}

/// One round of the handshake figures: microseconds per handshake and handshakes a second.
pub struct Pace {
    pub cpu_us: f64,
    pub per_second: f64,
}

/// Makes `count` handshakes, `at_once` at a time, with fresh processes.
pub fn handshakes(args: &Args, name: Name, count: usize, at_once: usize) -> Result<Pace> {
    let mut pair = Pair::start(args, name, at_once)?;
    pair.handshakes(at_once * 4, at_once)?;
    let before = pair.cpu_us()?;
    let micros = pair.handshakes(count, at_once)?;
    let spent = pair.cpu_us()? - before;
    Ok(Pace { cpu_us: spent / count as f64, per_second: count as f64 * 1e6 / micros })
}

/// Holds `count` idle connections and gives the listener's KiB for each.
pub fn idle_memory(args: &Args, name: Name, count: usize) -> Result<f64> {
    let mut pair = Pair::start(args, name, count)?;
    // One after another: touches the code once without leaving a heap that the measured connections would fill for free.
    pair.handshakes(8, 1)?;
    sleep(Duration::from_secs(1));
    let before = resident_kib(pair.listener.pid())?;
    pair.hold(count)?;
    sleep(Duration::from_secs(args.settle));
    pair.still_holds(count)?;
    let after = resident_kib(pair.listener.pid())?;
    Ok((after - before) / count as f64)
}

/// Holds `peers` idle connections of every contender at the same time; per cent of one core for each listener.
pub fn idle_cpu(args: &Args, names: &[Name], peers: usize) -> Result<Vec<f64>> {
    let mut pairs = Vec::new();
    for name in names {
        let mut pair = Pair::start(args, *name, peers)?;
        pair.hold(peers)?;
        pairs.push(pair);
    }
    sleep(Duration::from_secs(args.settle));
    let before: Vec<f64> = pairs.iter_mut().map(|pair| cpu_us(&mut pair.listener)).collect::<Result<_>>()?;
    sleep(Duration::from_secs(args.idle_seconds));
    let mut percents = Vec::new();
    for (pair, before) in pairs.iter_mut().zip(before) {
        pair.still_holds(peers)?;
        percents.push((cpu_us(&mut pair.listener)? - before) / (args.idle_seconds as f64 * 1e4));
    }
    Ok(percents)
}

/// A listener and a dialler of one contender.
struct Pair {
    listener: Worker,
    dialler: Worker,
    met: u64,
}

impl Pair {
    fn start(args: &Args, name: Name, slots: usize) -> Result<Pair> {
        let (listener, address) = start(args, name, Role::Listen, "-", slots)?;
        let (dialler, _) = start(args, name, Role::Dial, &address, slots)?;
        Ok(Pair { listener, dialler, met: 0 })
    }

    /// Microseconds it took; both sides must agree on how many there were.
    fn handshakes(&mut self, count: usize, at_once: usize) -> Result<f64> {
        let micros = self.dialler.ask(&format!("handshakes {count} {at_once}"))?;
        self.met += count as u64;
        self.listener.ask(&format!("settle 0 {}", self.met))?;
        Ok(micros.parse()?)
    }

    fn hold(&mut self, count: usize) -> Result<()> {
        self.dialler.ask(&format!("hold {count}"))?;
        self.met += count as u64;
        self.still_holds(count)
    }

    /// Asks the listener whether just those are still up, and no other has come.
    fn still_holds(&mut self, count: usize) -> Result<()> {
        let met = self.met;
        self.listener.ask(&format!("settle {count} {met}")).map(drop)
    }

    fn cpu_us(&mut self) -> Result<f64> {
        Ok(cpu_us(&mut self.listener)? + cpu_us(&mut self.dialler)?)
    }
}

fn start(args: &Args, name: Name, role: Role, address: &str, slots: usize) -> Result<(Worker, String)> {
    let (role, slots, threads) =
        (format!("{role:?}").to_lowercase(), slots.to_string(), args.threads.to_string());
    let whom = ["--role", &role, "--contender", name.word(), "--address", address];
    Worker::start(&[&whom[..], &["--slots", &slots, "--threads", &threads]].concat())
}

fn cpu_us(worker: &mut Worker) -> Result<f64> {
    Ok(worker.ask("cpu")?.parse::<f64>()? / 1e3)
}
