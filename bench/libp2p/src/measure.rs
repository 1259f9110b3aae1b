//! The parent's side: starts a listener and a dialler of a contender, makes them work, and takes the figures. It refuses to end
//! any process but the children it started.

use std::{thread::sleep, time::Duration};

use anyhow::Result;
use bench_parts::{cost::resident_kib, median, worker::Worker};

use crate::{
    Args, Name,
    child::{Role, Times},
    contender::Over,
};

/// The rows, in the order of [`Round`]: the key in the JSON, and what people read.
pub const ROWS: [(&str, &str); 13] = [
    ("cpu_us_per_handshake", "CPU per handshake, both sides, one at a time, us"),
    ("cpu_us_per_handshake_16", "the same, 16 at once, us"),
    ("handshakes_per_second_16", "handshakes a second, 16 at once"),
    ("kib_per_idle_connection", "KiB per idle connection, listener's process"),
    ("first_echo_p50_us", "dial to first echo, p50, us"),
    ("echo_p50_us", "32-byte echo on a fresh channel, p50, us"),
    ("echo_p99_us", "the same, p99, us"),
    ("upload_mib_per_second_1", "upload, 1 channel, MiB/s"),
    ("upload_mib_per_second_10", "upload, 10 channels, MiB/s"),
    ("upload_cpu_s_per_gib_1", "CPU s per GiB, both sides, 1 channel"),
    ("upload_cpu_s_per_gib_10", "the same, 10 channels"),
    ("crowd_p99_us", "99 of 100 channels, all read, p99, us"),
    ("crowd_one_unread_p99_us", "the same, the hundredth not read, p99, us"),
];

/// What one contender cost in one round, as [`ROWS`] says.
pub type Round = [f64; 13];

/// One round of everything, with fresh processes.
pub fn round(args: &Args, name: Name, over: Over) -> Result<Round> {
    let one = handshakes(args, name, over, 1)?;
    let many = handshakes(args, name, over, 16)?;
    let memory = idle_memory(args, name, over)?;
    let mut pair = Pair::start(name, name, over, 1)?;
    pair.dialler.ask(&format!("first {}", args.firsts / 8))?;
    let first = pair.times(&format!("first {}", args.firsts))?;
    let echo = pair.times(&format!("echoes {}", args.echoes))?;
    pair.upload(args, 10)?;
    let (alone, ten) = (pair.upload(args, 1)?, pair.upload(args, 10)?);
    let (mut calm, mut unread) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        calm.push(pair.times(&format!("crowd {} read", args.echoes / 10))?.p99_us);
        unread.push(pair.times(&format!("crowd {} unread", args.echoes / 10))?.p99_us);
    }
    Ok([
        one.cpu_us,
        many.cpu_us,
        many.per_second,
        memory,
        first.p50_us,
        echo.p50_us,
        echo.p99_us,
        alone.mib_per_second,
        ten.mib_per_second,
        alone.cpu_s_per_gib,
        ten.cpu_s_per_gib,
        median(calm),
        median(unread),
    ])
}

/// The median of each row.
pub fn middle(rounds: &[Round]) -> Round {
    std::array::from_fn(|row| median(rounds.iter().map(|round| round[row]).collect()))
}

struct Pace {
    cpu_us: f64,
    per_second: f64,
}

fn handshakes(args: &Args, name: Name, over: Over, at_once: usize) -> Result<Pace> {
    let count = args.handshakes / at_once * at_once;
    let mut pair = Pair::start(name, name, over, at_once)?;
    pair.handshakes(at_once * 8, at_once)?;
    let before = pair.cpu_us()?;
    let micros = pair.handshakes(count, at_once)?;
    let spent = pair.cpu_us()? - before;
    Ok(Pace { cpu_us: spent / count as f64, per_second: count as f64 * 1e6 / micros })
}

/// The floor dials all contenders, each time as another peer: so the listeners hold the same.
fn idle_memory(args: &Args, name: Name, over: Over) -> Result<f64> {
    let mut pair = Pair::start(name, Name::Floor, over, args.idle)?;
    // A few: they touch the code once without leaving a heap that the measured connections would fill for free.
    pair.hold(8)?;
    pair.dialler.ask("release")?;
    pair.still_holds(0)?;
    sleep(Duration::from_secs(1));
    let before = resident_kib(pair.listener.pid())?;
    pair.hold(args.idle)?;
    sleep(Duration::from_secs(args.settle));
    pair.still_holds(args.idle)?;
    let after = resident_kib(pair.listener.pid())?;
    Ok((after - before) / args.idle as f64)
}

struct Upload {
    mib_per_second: f64,
    cpu_s_per_gib: f64,
}

/// A listener of one contender and a dialler, of the same or another.
struct Pair {
    listener: Worker,
    dialler: Worker,
    met: u64,
}

impl Pair {
    fn start(listens: Name, dials: Name, over: Over, slots: usize) -> Result<Pair> {
        let (listener, address) = start(listens, Role::Listen, over, "-", slots)?;
        let (dialler, _) = start(dials, Role::Dial, over, &address, slots)?;
        Ok(Pair { listener, dialler, met: 0 })
    }

    /// Microseconds it took. A listener may never have announced what was closed at once, so another connection comes and
    /// goes behind them: with its end the listener is done with all.
    fn handshakes(&mut self, count: usize, at_once: usize) -> Result<f64> {
        let micros = self.dialler.ask(&format!("handshakes {count} {at_once}"))?;
        self.dialler.ask("hold 1")?;
        self.listener.ask("rest 1")?;
        self.dialler.ask("release")?;
        self.listener.ask("rest 0")?;
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

    fn times(&mut self, order: &str) -> Result<Times> {
        Ok(serde_json::from_str(&self.dialler.ask(order)?)?)
    }

    fn upload(&mut self, args: &Args, channels: u64) -> Result<Upload> {
        let before = self.cpu_us()?;
        let seconds: f64 = self.dialler.ask(&format!("upload {channels} {}", args.mib))?.parse()?;
        let (spent, mib) = (self.cpu_us()? - before, args.mib as f64);
        Ok(Upload { mib_per_second: mib / seconds, cpu_s_per_gib: spent / 1e6 * 1_024.0 / mib })
    }

    fn cpu_us(&mut self) -> Result<f64> {
        Ok(cpu_us(&mut self.listener)? + cpu_us(&mut self.dialler)?)
    }
}

fn start(name: Name, role: Role, over: Over, address: &str, slots: usize) -> Result<(Worker, String)> {
    let (role, slots) = (format!("{role:?}").to_lowercase(), slots.to_string());
    let whom = ["--role", &role, "--contender", name.word(), "--address", address];
    Worker::start(&[&whom[..], &["--slots", &slots, "--over", over.word()]].concat())
}

fn cpu_us(worker: &mut Worker) -> Result<f64> {
    Ok(worker.ask("cpu")?.parse::<f64>()? / 1e3)
}
