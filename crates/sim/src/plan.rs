//! A network that somebody plans: so many nodes, so much loss, churn and NAT, for so long, with the planner's own
//! settings; and what became of it over time. It measures; it judges nothing, and it needs no network.

use crate::rng::Rng;
use crate::scenario::{self, Nat, NodePlan, Scenario};
use crate::story::Story;
use crate::weather::{Group, Partition};
use crate::world::{Event, Options, Tally, World};
use peerkeep_core::{Config, Duplicates, Time};
use std::time::Duration;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes, 2 to 100,000.
    pub nodes: u32,
    /// Virtual time.
    pub duration: Duration,
    /// Segments lost, per cent, 0 to 90.
    pub loss_percent: f64,
    /// Nodes that leave in a minute, per cent of all; each comes back after 5 to 65 seconds.
    pub churn_percent_per_minute: f64,
    /// Nodes behind routers that let nothing in, per cent.
    pub nat_percent: u8,
    /// Decides everything else.
    pub seed: u64,
    /// A time in which the network is in two parts.
    pub partition: Option<Split>,
    /// Connections each node tries to have; `None` as `config` says.
    pub target: Option<u16>,
    /// One way between two nodes, on average; each node's own part of it varies by half.
    pub latency: Duration,
    /// Every node's settings; `None` for the defaults. Identity and boot epoch are replaced, and at most 512 contacts
    /// are remembered by each node.
    pub config: Option<Config>,
    /// Nodes that everybody knows at the start; the rest is found by peer exchange. 0 for three, and one more for every
    /// hundred nodes: a few alone are full long before everybody came by.
    pub bootstrap: u32,
}

/// A partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Split {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// How many of the nodes are on one side, per cent.
    pub share_percent: u8,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            nodes: 100,
            duration: Duration::from_secs(600),
            loss_percent: 0.0,
            churn_percent_per_minute: 0.0,
            nat_percent: 0,
            seed: 1,
            partition: None,
            target: None,
            latency: Duration::from_millis(30),
            config: None,
            bootstrap: 0,
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Progress {
    /// Virtual time so far.
    pub at: Duration,
    /// Virtual time in all.
    pub of: Duration,
    /// The last sample's share.
    pub connected_share: f64,
}

/// The network at one time. Counts are since the beginning.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sample {
    /// Virtual time.
    pub at: Duration,
    /// Nodes that run.
    pub alive: u32,
    /// Of the connections that running nodes want to have, how many they have, 0 to 1.
    pub connected_share: f64,
    /// Pairs that share a connection.
    pub links: u64,
    /// Of the nodes that run, how many can reach each other over connections: the largest group's share, 0 to 1.
    pub reachable_share: f64,
    /// Dials begun.
    pub dials: u64,
    /// Conns that ended without ever carrying data, either end's.
    pub wasted: u64,
    /// Second connections between two nodes, both up at both ends.
    pub duplicates: u64,
    /// Actions that cores stepped.
    pub actions: u64,
    /// Bytes of greetings, pings, peer exchange and goodbyes, roughly.
    pub bytes: u64,
}

/// What became of a plan.
#[derive(Clone, Debug)]
pub struct Report {
    /// In order of time; the last one is at the end.
    pub samples: Vec<Sample>,
    /// Connections a node has at most of those it tries to have.
    pub target: u32,
    /// From the end of the partition until at least 99 % of the nodes could reach each other again; `None` when there
    /// was no partition, or it did not come to that.
    pub time_to_heal: Option<Duration>,
    /// From the start until 99 % of the wanted connections were there.
    pub time_to_connect: Option<Duration>,
    /// Actions per node: median, 99th percentile, most.
    pub actions_per_node: [u64; 3],
}

/// Why a plan cannot be simulated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A number is outside its range.
    #[error("{0}")]
    Range(&'static str),
    /// The settings do not hold together.
    #[error("the settings do not hold together: {0:?}")]
    Config(peerkeep_core::ConfigError),
}

/// Simulates a plan. `on_progress` is called with every sample.
///
/// # Errors
/// What is wrong with the plan; nothing was simulated then.
pub fn run(plan: &Plan, on_progress: &mut dyn FnMut(Progress)) -> Result<Report, PlanError> {
    let scenario = draw(plan)?;
    let options = Options { journal: false, check: false, disk: false, exchange: true, strict: false };
    let world = World::new(&scenario, options, Story::default());
    let mut sim = Sim { rng: Rng::new(plan.seed ^ 0x7ab1e), samples: Vec::new(), plan, world };
    sim.prepare();
    sim.go(on_progress);
    Ok(sim.report())
}

fn draw(plan: &Plan) -> Result<Scenario, PlanError> {
    let range = |holds: bool, what| if holds { Ok(()) } else { Err(PlanError::Range(what)) };
    range((2..=100_000).contains(&plan.nodes), "nodes must be 2 to 100000")?;
    range((0.0..=90.0).contains(&plan.loss_percent), "loss must be 0 to 90 per cent")?;
    range(
        (0.0..=100.0).contains(&plan.churn_percent_per_minute),
        "churn must be 0 to 100 per cent a minute",
    )?;
    range(plan.nat_percent <= 100, "nodes behind NAT must be 0 to 100 per cent")?;
    range(plan.latency <= Duration::from_secs(10), "latency must be at most 10 seconds")?;
    range(plan.duration <= Duration::from_secs(7 * 86_400), "the time must be at most a week")?;
    let bootstrap = match plan.bootstrap {
        0 => (3 + plan.nodes / 100).min(plan.nodes),
        chosen => chosen.min(plan.nodes),
    };
    let mut rng = Rng::new(plan.seed);
    let latency_us = u64::try_from(plan.latency.as_micros()).unwrap_or(0);
    let mut nodes = Vec::with_capacity(plan.nodes as usize);
    for node in 0..plan.nodes {
        let mut config = plan.config.clone().unwrap_or_else(|| Config::new(scenario::key(node), 1));
        (config.me, config.epoch) = (scenario::key(node), 1);
        config.limits.contacts = config.limits.contacts.min(512);
        config.limits.bans = config.limits.bans.min(64);
        if let Some(target) = plan.target {
            config.rules[0].target = target;
        }
        config.check().map_err(PlanError::Config)?;
        let is_hidden = node >= bootstrap && rng.below(100) < u64::from(plan.nat_percent);
        nodes.push(NodePlan {
            is_absent: false,
            config,
            nat: if is_hidden { Nat::Behind(u8::try_from(rng.below(250)).unwrap_or(0)) } else { Nat::Open },
            lag_us: latency_us / 4 + rng.below(latency_us / 2 + 1),
            order_us: 0,
            linger_us: 1_000,
            wants: Vec::new(),
            knows: acquaintances(node, bootstrap, &mut rng),
        });
    }
    Ok(Scenario {
        seed: plan.seed,
        nodes,
        disturbances: Vec::new(),
        faults_until: Time::NEVER,
        duplicates: Duplicates::Numbers,
        jitter_us: latency_us / 10,
        loss_per_mille: per_mille(plan.loss_percent),
    })
}

/// Whom a node knows at the start: all of the bootstrap nodes, or eight of them.
fn acquaintances(node: u32, bootstrap: u32, rng: &mut Rng) -> Vec<u32> {
    const MOST: u32 = 8;
    let first = u32::try_from(rng.below(u64::from(bootstrap))).unwrap_or(0);
    let others = (0..bootstrap).map(|step| (first + step) % bootstrap).filter(|known| *known != node);
    others.take(MOST as usize).collect()
}

fn per_mille(per_cent: f64) -> u64 {
    (per_cent * 10.0).clamp(0.0, 1_000.0) as u64
}

/// What a tick is about.
const SAMPLE: u32 = 0;
const BOOT: u32 = 1;
const LEAVE: u32 = 2;
const DIVIDE: u32 = 3;
/// Nodes start within this time.
const START: Duration = Duration::from_secs(20);
/// Samples in a run.
const SAMPLES: u32 = 120;

struct Sim<'a> {
    plan: &'a Plan,
    world: World,
    rng: Rng,
    samples: Vec<Sample>,
}

impl Sim<'_> {
    fn at(&mut self, when: Duration, what: u32, node: u32) {
        self.world.queue.push(Time::ZERO + when, Event::Tick { what, node });
    }

    fn below(&mut self, span: Duration) -> Duration {
        Duration::from_micros(self.rng.below(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    fn prepare(&mut self) {
        for node in 0..self.plan.nodes {
            let when = self.below(START.min(self.plan.duration / 4));
            self.at(when, BOOT, node);
        }
        let step = self.plan.duration / SAMPLES;
        for sample in 1..=SAMPLES {
            self.at(step * sample, SAMPLE, 0);
        }
        let minutes = self.plan.duration.as_secs_f64() / 60.0;
        let leaving = f64::from(self.plan.nodes) * self.plan.churn_percent_per_minute / 100.0 * minutes;
        for _ in 0..leaving as u64 {
            let when = self.below(self.plan.duration);
            let node = u32::try_from(self.rng.below(u64::from(self.plan.nodes))).unwrap_or(0);
            self.at(when, LEAVE, node);
        }
        if let Some(split) = self.plan.partition {
            self.at(split.at, DIVIDE, 0);
            // Nothing else takes it away again.
            self.at(split.at + split.lasts, DIVIDE, 1);
        }
    }

    fn go(&mut self, on_progress: &mut dyn FnMut(Progress)) {
        let end = Time::ZERO + self.plan.duration;
        while self.world.queue.next().is_some_and(|at| at <= end) {
            self.world.advance();
            while let Some((what, node)) = self.world.ticks.pop() {
                self.tick(what, node, on_progress);
            }
        }
    }

    fn tick(&mut self, what: u32, node: u32, on_progress: &mut dyn FnMut(Progress)) {
        let now = self.world.now - Time::ZERO;
        match what {
            SAMPLE => {
                let sample = self.sample(now);
                self.samples.push(sample);
                let connected_share = sample.connected_share;
                on_progress(Progress { at: now, of: self.plan.duration, connected_share });
            }
            BOOT if !self.world.node(node).is_alive => self.world.boot(node),
            LEAVE if self.world.node(node).is_alive => {
                let silently = self.rng.chance(300);
                self.world.crash(node, silently);
                let away = Duration::from_secs(5) + self.below(Duration::from_secs(60));
                self.at(now + away, BOOT, node);
            }
            DIVIDE if node == 0 => {
                let Some(split) = self.plan.partition else { return };
                let first = u64::from(self.plan.nodes) * u64::from(split.share_percent.min(100)) / 100;
                let group = Group::Below(u32::try_from(first).unwrap_or(0));
                let until = self.world.now + split.lasts;
                self.world.divide(Partition { group, one_way: false, until });
            }
            DIVIDE => self.world.weather.partitions.clear(),
            _ => {}
        }
    }

    /// Connections each node tries to have, as far as there are others.
    fn target(&self) -> u32 {
        let node = &self.world.nodes[0].plan.config;
        u32::from(node.rules[0].target).min(self.plan.nodes - 1)
    }

    fn sample(&mut self, at: Duration) -> Sample {
        let target = self.target();
        let (mut alive, mut have) = (0_u32, 0_u64);
        for node in self.world.nodes.iter().filter(|node| node.is_alive) {
            alive += 1;
            have += u64::from(node.core.view().counts().up().min(target));
        }
        let wanted = u64::from(alive) * u64::from(target);
        let Tally { actions, dials, wasted, duplicates, bytes, .. } = self.world.tally;
        Sample {
            at,
            alive,
            connected_share: share(have, wanted),
            links: self.world.promises.pairs().len() as u64,
            reachable_share: share(self.largest_group(), u64::from(alive)),
            dials,
            wasted,
            duplicates,
            actions,
            bytes,
        }
    }

    /// How many nodes are in the largest group that hangs together.
    fn largest_group(&self) -> u64 {
        let mut parent: Vec<u32> = (0..self.plan.nodes).collect();
        fn root(parent: &mut [u32], mut at: u32) -> u32 {
            while parent[at as usize] != at {
                parent[at as usize] = parent[parent[at as usize] as usize];
                at = parent[at as usize];
            }
            at
        }
        for (a, b) in self.world.promises.pairs() {
            let (a, b) = (root(&mut parent, a), root(&mut parent, b));
            parent[a as usize] = b;
        }
        let mut sizes = vec![0_u64; self.plan.nodes as usize];
        for node in 0..self.plan.nodes {
            if self.world.nodes[node as usize].is_alive {
                let root = root(&mut parent, node);
                sizes[root as usize] += 1;
            }
        }
        sizes.into_iter().max().unwrap_or(0)
    }

    fn report(self) -> Report {
        let target = self.target();
        let mut actions: Vec<u64> = self.world.nodes.iter().map(|node| node.actions).collect();
        actions.sort_unstable();
        let at = |share: usize| actions.get(actions.len().saturating_sub(1) * share / 100).copied();
        let healed_at = self.plan.partition.map(|split| split.at + split.lasts);
        let time_to_heal = healed_at.and_then(|healed| {
            let whole = self.samples.iter().find(|s| s.at >= healed && s.reachable_share >= 0.99)?;
            Some(whole.at - healed)
        });
        Report {
            target,
            time_to_heal,
            time_to_connect: self.samples.iter().find(|s| s.connected_share >= 0.99).map(|s| s.at),
            actions_per_node: [50, 99, 100].map(|share| at(share).unwrap_or(0)),
            samples: self.samples,
        }
    }
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 1.0 } else { part as f64 / of as f64 }
}
