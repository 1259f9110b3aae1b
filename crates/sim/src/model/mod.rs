//! The model checker: every interleaving of a few real cores, their wires and a budget of faults. It explores; it
//! decides nothing for the cores. What it leaves out of a state, and why that is sound, stands in docs/proof.md.

mod acts;
mod parts;
mod promises;
mod setups;
mod state;

pub use acts::Act;
pub use parts::Budget;
pub use setups::{Setup, full, quick};
pub use state::State;

use promises::Seen;
use stateright::{Checker, HasDiscoveries, Property};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a run may cost at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads; default one per core, at most two.
    pub threads: usize,
    /// After this the run is unfinished. Default 1 h: a guard, no measure.
    pub span: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Limits { threads: cores.min(2), span: Duration::from_secs(3_600) }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The setup's name.
    pub name: &'static str,
    /// Transitions taken.
    pub states: usize,
    /// Different states found.
    pub unique: usize,
    /// Length of the longest path.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether every reachable state was looked at.
    pub finished: bool,
    /// Broken promises, each with a shortest story that breaks it.
    pub violations: Vec<Broken>,
    /// Situations that this setup must reach, and did not: what it says about them would be empty.
    pub unreached: Vec<&'static str>,
}

impl Report {
    /// Whether every promise holds in every state, and nothing was left out.
    pub fn passed(&self) -> bool {
        self.finished && self.violations.is_empty() && self.unreached.is_empty()
    }
}

/// A promise that does not hold.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which.
    pub promise: &'static str,
    /// What happened, step by step.
    pub story: Vec<String>,
}

/// A setup with what its states have in common.
pub(crate) struct World {
    pub setup: Setup,
    /// Situations seen so far, by [`Seen`].
    pub seen: AtomicU64,
}

impl World {
    pub fn note(&self, seen: Seen) {
        let bit = 1 << seen as u64;
        if self.seen.load(Ordering::Relaxed) & bit == 0 {
            self.seen.fetch_or(bit, Ordering::Relaxed);
        }
    }
}

impl stateright::Model for World {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, out: &mut Vec<Act>) {
        state.enabled(self, out);
    }

    fn next_state(&self, last: &State, act: Act) -> Option<State> {
        last.after(self, act)
    }

    fn properties(&self) -> Vec<Property<World>> {
        promises::properties()
    }
}

/// Explores a setup to its end; `progress` is told transitions and different states once a second.
pub fn run(setup: Setup, limits: Limits, mut progress: impl FnMut(usize, usize)) -> Report {
    let began = Instant::now();
    let name = setup.name;
    let must = setup.must.clone();
    let check = |builder: stateright::CheckerBuilder<World>| builder.finish_when(HasDiscoveries::AnyFailures);
    let world = World { setup: setup.clone(), seen: AtomicU64::new(0) };
    let checker =
        check(stateright::Model::checker(world)).threads(limits.threads).timeout(limits.span).spawn_dfs();
    while !checker.is_done() && began.elapsed() < limits.span {
        std::thread::sleep(Duration::from_millis(50));
        progress(checker.state_count(), checker.unique_state_count());
    }
    let checker = checker.join();
    let (states, unique, depth) = (checker.state_count(), checker.unique_state_count(), checker.max_depth());
    let took = began.elapsed();
    let seen = checker.model().seen.load(Ordering::Relaxed);
    let mut violations = stories(&checker);
    if !violations.is_empty() {
        // The first story found goes deep; breadth first finds a shortest one.
        let world = World { setup, seen: AtomicU64::new(0) };
        let builder = check(stateright::Model::checker(world)).threads(1).timeout(Duration::from_secs(60));
        let shortest = stories(&builder.spawn_bfs().join());
        if !shortest.is_empty() {
            violations = shortest;
        }
    }
    let unreached = if violations.is_empty() { promises::missing(seen, &must) } else { Vec::new() };
    let finished = took < limits.span;
    Report { name, states, unique, depth, took, finished, violations, unreached }
}

fn stories(checker: &impl Checker<World>) -> Vec<Broken> {
    let found = checker.discoveries().into_iter();
    let tell = |(promise, path): (&'static str, stateright::Path<State, Act>)| {
        let mut story = Vec::new();
        for (state, act) in path.into_vec() {
            story.extend(state.told());
            story.extend(act.map(|act| format!("-> {act:?}")));
        }
        Broken { promise, story }
    };
    found.map(tell).collect()
}
