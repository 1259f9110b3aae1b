//! What keeping connections costs while nothing is wrong: processor time by the kernel's own account, and lines of log.
//! It reads `/proc` and the logs; it asks no node anything.

use super::fleet::Fleet;
use std::fs;
use std::time::Duration;

/// The kernel's clock ticks a second in `/proc/PID/stat`: the same on every architecture that Rust's Linux targets have.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one node had used at some moment.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    ticks: u64,
    lines: usize,
}

/// Sums over the spans that count.
#[derive(Debug)]
pub struct Load {
    base: Vec<Used>,
    sums: Vec<Used>,
}

impl Load {
    /// Nothing used yet.
    pub fn new(nodes: usize) -> Load {
        Load { base: vec![Used::default(); nodes], sums: vec![Used::default(); nodes] }
    }

    /// A span that counts begins.
    pub fn begin(&mut self, fleet: &Fleet) {
        self.base = used(fleet);
    }

    /// It ends.
    pub fn end(&mut self, fleet: &Fleet) {
        for ((sum, base), now) in self.sums.iter_mut().zip(&self.base).zip(used(fleet)) {
            sum.ticks += now.ticks.saturating_sub(base.ticks);
            sum.lines += now.lines.saturating_sub(base.lines);
        }
    }

    /// Of one core, by node.
    pub fn cpu_percent(&self, span: Duration) -> Vec<f64> {
        let percent = |used: &Used| used.ticks as f64 / TICKS_PER_SECOND / span.as_secs_f64() * 100.0;
        let rounded = |used: &Used| (percent(used) * 1_000.0).round() / 1_000.0;
        if span.is_zero() { Vec::new() } else { self.sums.iter().map(rounded).collect() }
    }

    /// Over all nodes.
    pub fn log_lines_per_minute(&self, span: Duration) -> f64 {
        let lines: usize = self.sums.iter().map(|used| used.lines).sum();
        if span.is_zero() { 0.0 } else { lines as f64 * 60.0 / span.as_secs_f64() }
    }
}

fn used(fleet: &Fleet) -> Vec<Used> {
    let logs = fleet.logs();
    let one = |(member, log): (&super::fleet::Member, _)| Used {
        ticks: member.pid().map_or(0, |pid| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
            ticks(&stat).unwrap_or(0)
        }),
        lines: fs::read(log).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count()),
    };
    fleet.members.iter().zip(logs).map(one).collect()
}

/// Time in user and kernel mode. The program's name, in parentheses, may hold spaces.
fn ticks(stat: &str) -> Option<u64> {
    let mut numbers = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = numbers.next()?.parse().ok()?;
    let kernel: u64 = numbers.next()?.parse().ok()?;
    Some(user + kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_82_the_kernels_account_of_a_process_is_read_whatever_its_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 30 1 1 20 0 4 0 99 100 200";
        assert_eq!(ticks(stat), Some(280));
        assert_eq!(ticks("no stat"), None);
    }

    #[test]
    fn shares_and_lines_are_over_the_spans_that_count() {
        let mut load = Load::new(2);
        load.sums = vec![Used { ticks: 30, lines: 2 }, Used { ticks: 0, lines: 1 }];
        assert_eq!(load.cpu_percent(Duration::from_secs(30)), [1.0, 0.0]);
        assert!((load.log_lines_per_minute(Duration::from_secs(30)) - 6.0).abs() < 1e-9);
        assert!(load.cpu_percent(Duration::ZERO).is_empty());
    }
}
