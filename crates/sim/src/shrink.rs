//! Makes a failing run smaller: disturbances and nodes are left out for as long as the same promise is still broken.
//! Bounded in runs, so that it ends; the result need not be the smallest there is.

use crate::run::{Outcome, run};
use crate::scenario::Scenario;

/// Runs spent at most.
const MOST_RUNS: u32 = 400;

/// A smaller scenario that breaks the same promise, and its outcome with the story. `None` when it breaks none.
pub fn shrink(scenario: &Scenario) -> Option<(Scenario, Outcome)> {
    let what = run(scenario, false).violation?.what;
    let mut shrinker = Shrinker { best: scenario.clone(), what, runs: 0 };
    shrinker.leave_out_nodes();
    shrinker.leave_out_disturbances();
    shrinker.leave_out_nodes();
    shrinker.leave_out_wants();
    let outcome = run(&shrinker.best, true);
    Some((shrinker.best, outcome))
}

struct Shrinker {
    best: Scenario,
    what: String,
    runs: u32,
}

impl Shrinker {
    /// Keeps a candidate that still fails in the same way.
    fn keeps(&mut self, candidate: Scenario) -> bool {
        if self.runs >= MOST_RUNS {
            return false;
        }
        self.runs += 1;
        let fails = run(&candidate, false).violation.is_some_and(|violation| violation.what == self.what);
        if fails {
            self.best = candidate;
        }
        fails
    }

    fn leave_out_nodes(&mut self) {
        for node in 0..self.best.nodes.len() {
            if !self.best.nodes[node].is_absent {
                let mut candidate = self.best.clone();
                candidate.nodes[node].is_absent = true;
                self.keeps(candidate);
            }
        }
    }

    /// Halves, then quarters, and so on down to single ones.
    fn leave_out_disturbances(&mut self) {
        let mut size = self.best.disturbances.len();
        while size > 0 {
            let mut from = 0;
            while from < self.best.disturbances.len() {
                let mut candidate = self.best.clone();
                let to = (from + size).min(candidate.disturbances.len());
                candidate.disturbances.drain(from..to);
                if !self.keeps(candidate) {
                    from = to;
                }
            }
            size /= 2;
        }
    }

    fn leave_out_wants(&mut self) {
        for node in 0..self.best.nodes.len() {
            for want in (0..self.best.nodes[node].wants.len()).rev() {
                let mut candidate = self.best.clone();
                candidate.nodes[node].wants.remove(want);
                self.keeps(candidate);
            }
        }
    }
}
