//! What a process costs, as the kernel counts it: resident memory, descriptors, processor time. Linux only.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// Resident memory of a process, KiB, shared pages included.
pub fn resident_kib(pid: u32) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss line")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Processor time of a process so far, user and system, all threads that live; in steps of 10 ms.
pub fn processor(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let mut ticks = fields.split_whitespace().skip(11).take(2);
    let mut next = || -> Result<u64> { Ok(ticks.next().context("a short stat")?.parse()?) };
    Ok(Duration::from_millis((next()? + next()?) * 10))
}

/// Processor time of this process so far, in nanoseconds.
pub fn own_cpu_ns() -> i128 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    i128::from(spent.tv_sec) * 1_000_000_000 + i128::from(spent.tv_nsec)
}
