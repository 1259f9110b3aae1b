//! What the demo measured, what it should have reached, and the words for it. Nothing here measures.

use super::Plan;
use super::fleet::Fleet;
use super::watch::Watch;
use crate::out;
use serde::Serialize;
use std::time::Duration;

/// Fewer dials a minute than this, over all nodes, in steady state.
const MAX_DIALS_PER_MINUTE: f64 = 10.0;
/// The slowest of a hundred connections must be agreed within this.
const MAX_ESTABLISH_MS: u64 = 1_000;
/// A killed node must be connected again that long after it listens.
const MAX_HEAL_MS: u64 = 2_000;
/// Each node must take less than this, in per cent of a core.
const MAX_CPU_PERCENT: f64 = 1.0;
/// Processor time is judged over this much time without faults: in less, the start and the faults still show.
const MIN_CPU_SPAN: Duration = Duration::from_secs(60);

/// The figures, also as JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Whether none was missed.
    pub passed: bool,
    /// How many nodes there were.
    pub nodes: usize,
    /// How long they were held, in seconds.
    pub seconds: u64,
    /// Connected peers of the node that has fewest, at the end.
    pub connections_per_node: u32,
    /// The same of every node.
    pub connections: Vec<u32>,
    /// Connections beyond one per pair: announced twice, or surplus sockets at rest.
    pub duplicate_connections: u32,
    /// Fewest connections that any node had in any look outside the windows of the faults made.
    pub connections_lowest: u32,
    /// Links lost outside those windows, as either side counted them.
    pub losses_outside_faults: u64,
    /// Handshakes that failed outside those windows.
    pub handshake_failures: u64,
    /// Dials over all nodes while nothing was wrong.
    pub dials_per_minute_steady: f64,
    /// The same with one node dead for longer than the fast window, when that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dials_per_minute_one_dead: Option<f64>,
    /// From the dial to the agreement, 99th percentile, in milliseconds.
    pub establish_p99_ms: Option<u64>,
    /// How many connections that is over.
    pub established: usize,
    /// From the restarted node's listening until all its connections were back, in milliseconds.
    pub heal_after_kill_ms: Option<u64>,
    /// From the start of the processes until all were connected, in milliseconds.
    pub first_connected_ms: u64,
    /// Processor time of each node while nothing was wrong, in per cent of a core.
    pub cpu_percent: Vec<f64>,
    /// Lines of log a minute in the same time, over all nodes.
    pub log_lines_per_minute: f64,
    /// Lines of level ERROR in the nodes' logs: each would be a bug.
    pub error_lines: usize,
    /// Actions in the nodes' journals, all replayed at the end to the same digests.
    pub replayed_actions: u64,
    /// What was missed, as sentences.
    pub missed: Vec<String>,
    #[serde(skip)]
    faults: bool,
    #[serde(skip)]
    steady: Duration,
}

impl Figures {
    /// What has been seen until now.
    pub fn of(plan: &Plan, watch: &Watch) -> Figures {
        let connections = watch.connected();
        let mut figures = Figures {
            passed: true,
            nodes: plan.nodes,
            seconds: plan.hold.as_secs(),
            connections_per_node: connections.iter().copied().min().unwrap_or(0),
            connections,
            duplicate_connections: watch.duplicates(),
            connections_lowest: watch.lowest.unwrap_or(0),
            losses_outside_faults: watch.losses,
            handshake_failures: watch.handshake_failures,
            dials_per_minute_steady: watch.dials_per_minute().unwrap_or(0.0),
            dials_per_minute_one_dead: None,
            establish_p99_ms: percentile_99(&watch.established_ms),
            established: watch.established_ms.len(),
            heal_after_kill_ms: None,
            first_connected_ms: 0,
            cpu_percent: watch.cpu_percent(),
            log_lines_per_minute: watch.log_lines_per_minute(),
            error_lines: 0,
            replayed_actions: 0,
            missed: Vec::new(),
            faults: plan.faults,
            steady: watch.steady(),
        };
        figures.judge(watch.missed_events);
        figures
    }

    /// Notes something that should have been reached and was not.
    pub fn miss(&mut self, what: impl Into<String>) {
        self.passed = false;
        self.missed.push(what.into());
    }

    /// Reads the logs: a line of level ERROR is a bug of ours.
    pub fn logs_of(&mut self, fleet: &Fleet) {
        if self.faults && self.passed && self.heal_after_kill_ms.is_none_or(|ms| ms > MAX_HEAL_MS) {
            self.miss(format!("the killed node was not back within {MAX_HEAL_MS} ms of listening"));
        }
        for (index, log) in fleet.logs().iter().enumerate() {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let mut errors = text.lines().filter(|line| line.contains(" ERROR "));
            if let Some(first) = errors.next() {
                self.error_lines += 1 + errors.count();
                let line = out::clean(first);
                self.miss(format!("node {} logged an error: {line}", index + 1));
            }
        }
    }

    /// Takes the dials a minute of the others while one node is dead.
    pub fn take_dead(&mut self, dials_per_minute: f64) {
        self.dials_per_minute_one_dead = Some(dials_per_minute);
        if dials_per_minute >= MAX_DIALS_PER_MINUTE {
            self.miss(format!("{dials_per_minute:.1} dials a minute with one node dead"));
        }
    }

    /// Replays every node's journal: it must come out as recorded, also that of the node that was killed.
    pub fn journals_of(&mut self, fleet: &Fleet) {
        for (index, journal) in fleet.journals().iter().enumerate() {
            match crate::cmd::replay::check(journal) {
                Ok((actions, None)) => self.replayed_actions += actions,
                Ok((_, Some(problem))) => self.miss(format!("node {}: {problem}", index + 1)),
                Err(failure) => self.miss(format!("node {}: {}", index + 1, failure.message)),
            }
        }
    }

    fn judge(&mut self, missed_events: u64) {
        let expected = u32::try_from(self.nodes.saturating_sub(1)).unwrap_or(u32::MAX);
        if self.connections.iter().any(|count| *count != expected) {
            self.miss(format!("connections per node {:?} instead of {expected} each", self.connections));
        }
        if self.duplicate_connections > 0 {
            self.miss(format!("{} duplicate connections", self.duplicate_connections));
        }
        if self.connections_lowest < expected {
            self.miss(format!("a node had {} connections outside the faults made", self.connections_lowest));
        }
        if self.losses_outside_faults > 0 {
            self.miss(format!("{} links lost outside the faults made", self.losses_outside_faults));
        }
        let busiest = self.busiest();
        if self.steady >= MIN_CPU_SPAN && busiest >= MAX_CPU_PERCENT {
            self.miss(format!("a node took {busiest:.2} % of a core while nothing was wrong"));
        }
        if self.handshake_failures > 0 {
            self.miss(format!("{} failed handshakes outside the faults made", self.handshake_failures));
        }
        if self.dials_per_minute_steady >= MAX_DIALS_PER_MINUTE {
            self.miss(format!("{:.1} dials a minute in steady state", self.dials_per_minute_steady));
        }
        if self.establish_p99_ms.is_some_and(|ms| ms >= MAX_ESTABLISH_MS) {
            self.miss(format!("a connection took {} ms", self.establish_p99_ms.unwrap_or(0)));
        }
        if missed_events > 0 {
            self.miss(format!("{missed_events} events were missed"));
        }
    }

    fn busiest(&self) -> f64 {
        self.cpu_percent.iter().copied().fold(0.0, f64::max)
    }

    /// The summary for people.
    pub fn summary(&self) -> String {
        let expected = self.nodes.saturating_sub(1);
        let ms = |value: Option<u64>| value.map_or_else(|| "not measured".into(), |ms| format!("{ms} ms"));
        let mut table = out::table(&["FIGURE", "MEASURED", "TO REACH"]);
        let each = self.connections.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut rows = vec![
            ["connections of each node".into(), each, format!("{expected} each")],
            ["duplicate connections".into(), self.duplicate_connections.to_string(), "0".into()],
            [
                "fewest connections of a node outside the faults made".into(),
                self.connections_lowest.to_string(),
                expected.to_string(),
            ],
            ["links lost outside the faults made".into(), self.losses_outside_faults.to_string(), "0".into()],
            [
                "failed handshakes outside the faults made".into(),
                self.handshake_failures.to_string(),
                "0".into(),
            ],
            [
                "dials a minute in steady state, all nodes".into(),
                format!("{:.1}", self.dials_per_minute_steady),
                format!("below {MAX_DIALS_PER_MINUTE:.0}"),
            ],
            [
                format!("time to connect, 99th percentile of {}", self.established),
                ms(self.establish_p99_ms),
                format!("below {MAX_ESTABLISH_MS} ms"),
            ],
        ];
        rows.push(self.cpu_row());
        rows.push([
            "lines of log a minute in steady state, all nodes".into(),
            format!("{:.1}", self.log_lines_per_minute),
            "-".into(),
        ]);
        if self.faults {
            rows.push([
                "connected again after a kill, from listening".into(),
                ms(self.heal_after_kill_ms),
                format!("{MAX_HEAL_MS} ms at most"),
            ]);
        }
        if let Some(dials) = self.dials_per_minute_one_dead {
            rows.push([
                "dials a minute with one node dead".into(),
                format!("{dials:.1}"),
                format!("below {MAX_DIALS_PER_MINUTE:.0}"),
            ]);
        }
        rows.push([
            "actions replayed from the journals".into(),
            self.replayed_actions.to_string(),
            "all the same".into(),
        ]);
        for row in rows {
            table.add_row(row.to_vec());
        }
        let mut text = format!("{table}\n");
        for missed in &self.missed {
            text.push_str(&format!("MISSED: {}\n", out::clean(missed)));
        }
        text.push_str(if self.passed { "All reached.\n" } else { "Not all reached.\n" });
        text
    }
}

impl Figures {
    fn cpu_row(&self) -> [String; 3] {
        let limit = format!("below {MAX_CPU_PERCENT:.0} %");
        let judged = if self.steady >= MIN_CPU_SPAN { limit } else { "judged from a minute on".into() };
        ["processor time of the busiest node, of a core".into(), format!("{:.2} %", self.busiest()), judged]
    }
}

/// The value that 99 of 100 do not exceed; with fewer than a hundred, the largest.
fn percentile_99(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * 99).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_the_largest_of_few_and_not_of_many() {
        assert_eq!(percentile_99(&[]), None);
        assert_eq!(percentile_99(&[7]), Some(7));
        assert_eq!(percentile_99(&[3, 9, 1]), Some(9));
        let many: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile_99(&many), Some(198));
    }
}
