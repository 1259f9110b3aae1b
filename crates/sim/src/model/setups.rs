//! The setups: which nodes, which rules, how many faults. Durations are whole ticks of the core's timers, so that no
//! rounding tells two like states apart; they keep the order of the production values.

use super::parts::Budget;
use super::promises::Seen;
use peerkeep_core::{Addr, Addrs, Backoff, Config, Duplicates, Liveness, PeerKey, Preference};
use std::time::Duration;

/// Which nodes, which rules, how many faults.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its name in reports.
    pub name: &'static str,
    /// Two or three.
    pub nodes: u8,
    /// Faults at most.
    pub budget: Budget,
    /// Whether each of the first nodes can dial; it is always reachable.
    pub can_dial: [bool; 3],
    /// How two connections are arbitrated.
    pub duplicates: Duplicates,
    /// The lower address dials, instead of the lower identity.
    pub by_address: bool,
    /// Both dial at once.
    pub at_once: bool,
    /// The cores' own probes notice silence, instead of the transport.
    pub probes: bool,
    /// Carrying out an order takes time, in which other things happen.
    pub slow: bool,
    /// What it must reach, lest it shows nothing.
    pub(crate) must: Vec<Seen>,
}

/// One tick of the core's timers.
pub(crate) const TICK: Duration = Duration::from_micros(1_024);

const fn ticks(count: u32) -> Duration {
    Duration::from_micros(1_024 * count as u64)
}

pub(crate) fn key(node: u8) -> PeerKey {
    PeerKey::ed25519([node + 1; 32])
}

/// Where a node is. The higher identity has the lower address, so that the two preferences disagree.
pub(crate) fn addr(node: u8) -> Addr {
    Addr::tcp(std::net::SocketAddr::from(([10, 0, 200 - node, 1], 7330)))
}

impl Setup {
    fn new(name: &'static str, budget: Budget) -> Setup {
        Setup {
            name,
            nodes: 2,
            budget,
            can_dial: [true; 3],
            duplicates: Duplicates::Numbers,
            by_address: false,
            at_once: false,
            probes: false,
            slow: false,
            must: vec![Seen::Rest],
        }
    }

    fn must(mut self, seen: &[Seen]) -> Setup {
        self.must.extend_from_slice(seen);
        self
    }

    fn but(mut self, change: impl FnOnce(&mut Setup)) -> Setup {
        change(&mut self);
        self
    }

    /// Where that node looks for another one; nowhere when it cannot dial.
    pub(crate) fn known(&self, from: u8, to: u8) -> Addrs {
        self.can_dial[usize::from(from)].then_some(addr(to)).into_iter().collect()
    }

    pub(crate) fn config(&self, node: u8, epoch: u64) -> Config {
        let mut config = Config::new(key(node), epoch);
        let rules = &mut config.rules[0];
        rules.target = 0;
        rules.duplicates = self.duplicates;
        // No jitter, and no growth: the number of failures then changes nothing.
        rules.backoff = Backoff {
            first: ticks(300),
            growth_per_mille: 1_000,
            max: ticks(300),
            jitter_per_mille: 0,
            max_attempts: 0,
            fast_window: Duration::ZERO,
            fast_interval: Duration::ZERO,
            stable: Duration::ZERO,
        };
        rules.hold = ticks(1_000);
        rules.handshake = ticks(5_000);
        rules.establish = ticks(10_000);
        rules.goodbye = ticks(2_000);
        rules.liveness = match self.probes {
            true => Liveness::Probe { silence: ticks(15_000), deadline: ticks(5_000), misses: 1 },
            false => Liveness::Transport,
        };
        config.turn_wait = ticks(200);
        config.preference = match (self.at_once, self.by_address) {
            (true, _) => Preference::Nobody,
            (false, true) => Preference::Address { local_ip: addr(node).ip },
            (false, false) => Preference::Identity,
        };
        // Small tables are cheap to copy; no run comes near them.
        let limits = &mut config.limits;
        (limits.total, limits.inbound, limits.outbound, limits.pending) = (32, 32, 32, 32);
        (limits.per_peer, limits.per_ip, limits.per_subnet) = (32, 32, 32);
        (limits.dials_per_minute, limits.dials_per_minute_per_ip) = (1_000, 1_000);
        (limits.contacts, limits.bans, limits.courtesy) = (4, 1, 0);
        config
    }
}

fn budget(breaks: u8, crashes: u8, cancels: u8) -> Budget {
    Budget { breaks, crashes, cancels, ..Budget::default() }
}

/// Everything the issue asks for.
pub fn full() -> Vec<Setup> {
    use Seen::*;
    let numbers = [Crossed, Held];
    let alone = |name, can_dial| {
        Setup::new(name, budget(1, 1, 1)).but(|setup| setup.can_dial = can_dial).must(&[HalfOpen])
    };
    let mut all = vec![
        Setup::new("2 breaks, 1 crash", budget(2, 1, 0)).must(&numbers).must(&[HalfOpen, Stale]),
        Setup::new("1 break, 1 crash, 2 cancels", budget(1, 1, 2)).must(&numbers).must(&[HalfOpen, Stale]),
        Setup::new("1 break, 1 crash, 1 early deadline", Budget { early: 1, ..budget(1, 1, 0) })
            .must(&numbers)
            .must(&[EarlyDeadline]),
        Setup::new("1 break, 1 cancel, 1 early deadline", Budget { early: 1, ..budget(1, 0, 1) })
            .must(&[EarlyDeadline]),
        Setup::new("both at once, 1 break, 1 crash, 1 cancel", budget(1, 1, 1))
            .but(|setup| setup.at_once = true)
            .must(&numbers),
        Setup::new("slow drivers, 1 break", budget(1, 0, 0)).but(|setup| setup.slow = true).must(&numbers),
        alone("the higher cannot dial", [true, false, true]),
        alone("the lower cannot dial", [false, true, true]),
    ];
    for (name, budget) in [
        ("three nodes, 1 break", budget(1, 0, 0)),
        ("three nodes, 1 crash", budget(0, 1, 0)),
        ("three nodes, 1 cancel", budget(0, 0, 1)),
    ] {
        all.push(Setup::new(name, budget).but(|setup| setup.nodes = 3));
    }
    all.extend(replacements());
    for (name, can_dial) in [
        ("epoch back", [true; 3]),
        ("epoch back, higher cannot dial", [true, false, true]),
        ("epoch back, lower cannot dial", [false, true, true]),
    ] {
        let budget = Budget { back: 1, ..budget(1, 1, 0) };
        all.push(Setup::new(name, budget).but(|setup| setup.can_dial = can_dial).must(&[Passed]));
    }
    all.extend([
        Setup::new("by address, 1 break, 1 crash, 1 cancel", budget(1, 1, 1))
            .but(|setup| setup.by_address = true),
        Setup::new("by address, lower address cannot dial", budget(1, 1, 1)).but(|setup| {
            setup.by_address = true;
            setup.can_dial = [true, false, true];
        }),
        Setup::new("the cores' own probes, 1 break", budget(1, 0, 0)).but(|setup| setup.probes = true),
    ]);
    for (name, can_dial) in [
        ("no numbers, 1 break, 1 crash", [true; 3]),
        ("no numbers, higher cannot dial", [true, false, true]),
        ("no numbers, lower cannot dial", [false, true, true]),
    ] {
        all.push(Setup::new(name, budget(1, 1, 0)).but(|setup| {
            setup.duplicates = Duplicates::HoldAndConfirm;
            setup.can_dial = can_dial;
        }));
    }
    all
}

/// A degraded connection and its successor.
fn replacements() -> Vec<Setup> {
    use Seen::*;
    let mut all = Vec::new();
    for (name, faults) in [
        ("replacement, 1 break", budget(1, 0, 0)),
        ("replacement, 1 crash", budget(0, 1, 0)),
        ("replacement, 1 break, 1 cancel", budget(1, 0, 1)),
        ("replacement, 1 break, 1 early deadline", Budget { early: 1, ..budget(1, 0, 0) }),
    ] {
        let budget = Budget { replaces: 2, ..faults };
        all.push(Setup::new(name, budget).must(&[Replaced, Overlap]));
    }
    for (name, can_dial) in [
        ("replacement, higher cannot dial", [true, false, true]),
        ("replacement, lower cannot dial", [false, true, true]),
    ] {
        let budget = Budget { replaces: 1, ..budget(1, 0, 1) };
        all.push(Setup::new(name, budget).but(|setup| setup.can_dial = can_dial).must(&[Replaced]));
    }
    all
}

/// What takes a second or two: for every change.
pub fn quick() -> Vec<Setup> {
    let both = |setup: &mut Setup| setup.at_once = true;
    vec![
        Setup::new("1 break", budget(1, 0, 0)).must(&[Seen::HalfOpen]),
        Setup::new("both at once, 1 crash", budget(0, 1, 0)).but(both).must(&[Seen::Crossed, Seen::Held]),
        Setup::new("both at once, 1 cancel", budget(0, 0, 1)).but(both),
        Setup::new("1 early deadline", Budget { early: 1, ..Budget::default() }).must(&[Seen::EarlyDeadline]),
        Setup::new("replacement", Budget { replaces: 2, ..Budget::default() })
            .must(&[Seen::Replaced, Seen::Overlap]),
        Setup::new("epoch back", Budget { back: 1, ..Budget::default() }).must(&[Seen::Passed]),
        Setup::new("no numbers", budget(0, 0, 0)).but(|setup| setup.duplicates = Duplicates::HoldAndConfirm),
    ]
}
