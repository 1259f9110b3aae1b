//! What a seed means: nodes, their settings and places, who wants whom, and a list of timed disturbances. The list is
//! explicit, so that a failing seed can be made smaller by leaving things out. It says what happens to the nodes, and
//! nothing about what they should do.

use crate::rng::Rng;
use peerkeep_core::{
    Addr, Addrs, Backoff, Config, Duplicates, Liveness, PeerKey, Preference, Target, Time, Who,
};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// One run, whole.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What everything not listed here is drawn from.
    pub seed: u64,
    /// The nodes. A node that was left out keeps its number.
    pub nodes: Vec<NodePlan>,
    /// What happens to them, in order of time.
    pub disturbances: Vec<Disturbance>,
    /// When faults stop.
    pub faults_until: Time,
    /// Every node's duplicate rule.
    pub duplicates: Duplicates,
    /// Variation of a message's latency, microseconds.
    pub jitter_us: u64,
    /// Lost segments, per mille, until faults stop.
    pub loss_per_mille: u64,
}

/// One node as it is meant to be.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// Left out of the run: nobody is there.
    pub is_absent: bool,
    /// Its settings.
    pub config: Config,
    /// Its place behind routers and firewalls.
    pub nat: Nat,
    /// Half of its part in a round trip's latency, microseconds.
    pub lag_us: u64,
    /// Its orders reach its links after this, microseconds.
    pub order_us: u64,
    /// How long an ended link lingers at most, microseconds.
    pub linger_us: u64,
    /// Whom its settings want, and by what name.
    pub wants: Vec<(u32, Naming)>,
    /// Whom its settings know of.
    pub knows: Vec<u32>,
}

/// How a node names a peer that it wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Naming {
    /// Key and address.
    Full,
    /// Address alone.
    Stranger,
    /// Key, and a name to look up.
    Named,
}

/// Where a node lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nat {
    /// Reachable by everybody.
    Open,
    /// Behind a router with others of its group: dials out, is reached from within.
    Behind(u8),
    /// Dials out; what comes in from anywhere vanishes.
    Deaf,
    /// Is reached; what it dials vanishes.
    Mute,
}

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Disturbance {
    /// When.
    pub at: Time,
    /// To whom.
    pub node: u32,
    /// Chooses among what is there at that time.
    pub pick: u64,
    /// What.
    pub kind: Kind,
}

/// What can happen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// A connection goes silent in both directions; nobody is told until the transport gives up.
    Break,
    /// One end of a connection is reset, the other hears nothing.
    HalfOpen,
    /// Both ends of a connection are reset.
    Reset,
    /// Nothing passes between two groups, or from one to the other only.
    Partition {
        /// A set bit puts the node of that number into the first group.
        group: u64,
        /// Packets from the second group to the first pass.
        one_way: bool,
        /// When it heals.
        until: Time,
    },
    /// A time of many lost segments.
    Loss {
        /// How many of a thousand.
        per_mille: u64,
        /// Its end.
        until: Time,
    },
    /// A time of longer ways.
    Lag {
        /// Added to each way, microseconds.
        extra_us: u64,
        /// Its end.
        until: Time,
    },
    /// The process or the machine dies.
    Crash {
        /// Power loss: nobody is told.
        silently: bool,
        /// When it boots again.
        until: Time,
        /// What the disk still knows then.
        disk: Disk,
    },
    /// The machine sleeps, and is told so when it wakes.
    Suspend {
        /// When it wakes.
        until: Time,
    },
    /// The wall clock jumps.
    Clock {
        /// By how much, milliseconds.
        by_ms: i64,
    },
    /// The monotonic clock reads an earlier time once.
    TimeBack {
        /// How much earlier, microseconds.
        by_us: u64,
    },
    /// The machine has no network, and knows it.
    Offline {
        /// When it is back.
        until: Time,
    },
    /// Routes changed.
    Moved,
    /// The disk takes no writes, without saying so.
    LostWrites {
        /// Until then.
        until: Time,
    },
    /// An operator does something.
    Command,
    /// A peer misbehaves on one of its connections.
    Violate,
    /// An application sends something.
    Use,
    /// Somebody tells it of peers.
    Gossip,
}

/// What a disk knows after a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disk {
    /// Everything.
    Kept,
    /// Nothing, not even the boot epoch.
    Lost,
    /// One row is torn and left out.
    Torn,
    /// It cannot be read: set aside, and the node starts with an empty one.
    Unreadable,
}

/// The key of a node.
pub fn key(node: u32) -> PeerKey {
    let mut bytes = [0; 32];
    // Spread, so that the order of keys is not the order of numbers.
    bytes[..4].copy_from_slice(&node.wrapping_mul(0x9e37_79b1).to_be_bytes());
    bytes[4..8].copy_from_slice(&node.to_be_bytes());
    PeerKey::ed25519(bytes)
}

/// The node of a key.
pub(crate) fn node_of_key(key: &PeerKey) -> Option<u32> {
    let number = u32::from_be_bytes(*key.bytes.get(4..8)?.first_chunk()?);
    (*key == self::key(number)).then_some(number)
}

/// The address that a node answers on, as those see it who may reach it.
pub(crate) fn addr(node: u32, nat: Nat) -> Addr {
    let [_, high, middle, low] = node.to_be_bytes();
    let ip = match nat {
        Nat::Behind(group) => Ipv4Addr::new(10, group, middle, low),
        _ => Ipv4Addr::new(20 + high, middle, low, 1),
    };
    Addr::tcp(SocketAddrV4::new(ip, PORT).into())
}

/// Where a connection that a node made seems to come from.
pub(crate) fn source_addr(node: u32, nat: Nat, port: u16) -> Addr {
    let ip = match nat {
        Nat::Behind(group) => Ipv4Addr::new(19, group, 0, 1),
        nat => {
            let Ok(ip) = u32::try_from(u128::from_be_bytes(addr(node, nat).ip) & 0xffff_ffff) else {
                return addr(node, nat);
            };
            Ipv4Addr::from(ip)
        }
    };
    Addr::tcp(SocketAddrV4::new(ip, port).into())
}

/// Who could be meant by an address; whether one gets there is the world's business.
pub(crate) fn node_of_addr(addr: &Addr) -> Option<u32> {
    if addr.port != PORT {
        return None;
    }
    let [a, b, c, d] = *addr.ip.last_chunk()?;
    match a {
        10 => Some(u32::from_be_bytes([0, 0, c, d])),
        20.. if d == 1 => Some(u32::from_be_bytes([0, a - 20, b, c])),
        _ => None,
    }
}

const PORT: u16 = 7330;

/// An address where nobody is.
pub(crate) fn dead_addr(number: u64) -> Addr {
    let low = number.to_be_bytes()[7];
    Addr::tcp(SocketAddrV4::new(Ipv4Addr::new(18, 0, low, 1), PORT).into())
}

/// The name under which a node asks for another.
pub(crate) fn who(node: u32, nat: Nat, naming: Naming) -> (Who, Addrs, bool) {
    let addrs: Addrs = [addr(node, nat)].into_iter().collect();
    match naming {
        Naming::Full => (Who::mesh(key(node)), addrs, false),
        Naming::Stranger => (Who::mesh(PeerKey::from_addr(addr(node, nat))), addrs, false),
        Naming::Named => (Who::mesh(key(node)), Addrs::new(), true),
    }
}

impl Scenario {
    /// The scenario of a seed.
    pub fn of(seed: u64) -> Scenario {
        let mut rng = Rng::new(seed ^ 0x5eed_0000_0000_0000);
        let count = Scenario::size(&mut rng);
        let duplicates = match rng.below(10) {
            0 | 1 => Duplicates::HoldAndConfirm,
            2 => Duplicates::Allowed,
            _ => Duplicates::Numbers,
        };
        let template = Template::draw(&mut rng);
        let hidden = [0, 0, 200, 500][pick(&mut rng, 4)];
        let mut nodes: Vec<NodePlan> =
            (0..count).map(|node| template.node(node, hidden, duplicates, &mut rng.fork(1))).collect();
        let wanted = 1 + rng.below(4.min(u64::from(count)));
        let everybody = count <= 6 && rng.chance(500);
        for node in 0..count {
            let mut wants = Vec::new();
            for other in 0..count {
                if other != node && (everybody || rng.below(u64::from(count)) < wanted) {
                    let naming = match rng.below(10) {
                        0 => Naming::Stranger,
                        1 => Naming::Named,
                        _ => Naming::Full,
                    };
                    wants.push((other, naming));
                }
            }
            nodes[node as usize].wants = wants;
        }
        // Many short runs and a few long ones.
        let seconds = [20, 40, 60, 120, 300][pick(&mut rng, 5)];
        let faults_until = Time::from_millis(seconds * 1_000);
        let amount = match rng.below(4) {
            0 => 2 + rng.below(4),
            1 => 5 + rng.below(15),
            _ => 10 + rng.below(10 * u64::from(count.min(12))),
        };
        let mut draw = Draw { rng: rng.fork(2), count, until: faults_until, mix: rng.below(4) };
        let mut disturbances: Vec<Disturbance> = (0..amount).map(|_| draw.disturbance()).collect();
        disturbances.sort_by_key(|disturbance| disturbance.at);
        Scenario {
            seed,
            nodes,
            disturbances,
            faults_until,
            duplicates,
            jitter_us: [0, 500, 5_000, 80_000][pick(&mut rng, 4)],
            loss_per_mille: [0, 0, 10, 50, 200][pick(&mut rng, 5)],
        }
    }

    /// The same world with disturbances of one kind alone: each of the seed's own becomes one, at its time and node.
    pub fn only(seed: u64, kind: impl Fn(Time) -> Kind) -> Scenario {
        let mut scenario = Scenario::of(seed);
        let latest = scenario.faults_until;
        for disturbance in &mut scenario.disturbances {
            let until = Time((disturbance.at.0 + disturbance.pick % 20_000_000).min(latest.0) | 1);
            disturbance.kind = kind(until);
        }
        scenario
    }

    /// 2 to 50 nodes, mostly few.
    fn size(rng: &mut Rng) -> u32 {
        let most = match rng.below(100) {
            0..=49 => 3,
            50..=79 => 6,
            80..=95 => 14,
            _ => 50,
        };
        u32::try_from(2 + rng.below(most - 1)).unwrap_or(2)
    }

    /// The longest backoff of any node.
    pub fn longest_backoff(&self) -> Duration {
        self.nodes.iter().map(|node| node.config.rules[0].backoff.max).max().unwrap_or_default()
    }
}

fn pick(rng: &mut Rng, n: u64) -> usize {
    usize::try_from(rng.below(n)).unwrap_or(0)
}

/// What the nodes of a world have in common.
struct Template {
    backoff: Backoff,
    liveness: Liveness,
    preference: u64,
    idle: Option<Duration>,
    target: u16,
    is_tight: bool,
    order_us: u64,
    linger_us: u64,
    lag_us: u64,
}

impl Template {
    fn draw(rng: &mut Rng) -> Template {
        let seconds = |list: &[u64], rng: &mut Rng| Duration::from_secs(list[pick(rng, list.len() as u64)]);
        let backoff = Backoff {
            first: Duration::from_millis([500, 1_000, 2_000][pick(rng, 3)]),
            growth_per_mille: [1_500, 2_000][pick(rng, 2)],
            max: seconds(&[5, 10, 20, 60], rng),
            jitter_per_mille: [0, 300][pick(rng, 2)],
            max_attempts: [0, 3, 8][pick(rng, 3)],
            fast_window: seconds(&[0, 10, 60], rng),
            fast_interval: Duration::from_millis(1_500),
            stable: seconds(&[5, 30], rng),
        };
        let liveness = Liveness::Probe {
            silence: seconds(&[5, 15], rng),
            deadline: seconds(&[3, 5], rng),
            misses: [1, 2, 2][pick(rng, 3)],
        };
        Template {
            backoff,
            liveness,
            preference: rng.below(4),
            idle: rng.chance(150).then_some(Duration::from_secs(10)),
            target: [0, 0, 0, 1, 3, 8][pick(rng, 6)],
            is_tight: rng.chance(120),
            order_us: [0, 0, 0, 200, 20_000][pick(rng, 5)],
            linger_us: [0, 1_000, 500_000, 1_900_000][pick(rng, 4)],
            lag_us: [100, 2_000, 30_000, 120_000][pick(rng, 4)],
        }
    }

    fn node(&self, node: u32, hidden: u64, duplicates: Duplicates, rng: &mut Rng) -> NodePlan {
        let nat = match rng.chance(hidden) {
            false => Nat::Open,
            true => match rng.below(10) {
                0 => Nat::Mute,
                1 | 2 => Nat::Deaf,
                n => Nat::Behind(if n < 6 { 1 } else { 2 }),
            },
        };
        let mut config = Config::new(key(node), 1);
        config.preference = match self.preference {
            0 => Preference::Nobody,
            1 => Preference::Address { local_ip: addr(node, nat).ip },
            _ => Preference::Identity,
        };
        config.dial_private_gossip = rng.chance(300);
        let limits = &mut config.limits;
        (limits.contacts, limits.bans) = (128, 32);
        (limits.total, limits.inbound, limits.outbound) = (150, 75, 75);
        (limits.per_ip, limits.per_subnet) = (64, 64);
        if self.is_tight {
            limits.total = draw_u32(rng, 3, 8);
            limits.inbound = draw_u32(rng, 1, 5);
            limits.outbound = draw_u32(rng, 1, 5);
            limits.pending = draw_u32(rng, 2, 4);
            limits.per_ip = draw_u32(rng, 1, 4);
            limits.contacts = draw_u32(rng, 3, 20);
            limits.dials_per_minute = draw_u32(rng, 6, 40);
            limits.courtesy = draw_u32(rng, 0, 3);
        }
        let rules = &mut config.rules[0];
        rules.duplicates = duplicates;
        rules.backoff = self.backoff;
        rules.liveness = self.liveness;
        rules.idle = self.idle;
        rules.target = self.target;
        NodePlan {
            is_absent: false,
            config,
            nat,
            lag_us: 50 + rng.below(self.lag_us),
            order_us: self.order_us,
            linger_us: self.linger_us,
            wants: Vec::new(),
            knows: Vec::new(),
        }
    }
}

fn draw_u32(rng: &mut Rng, from: u32, to: u32) -> u32 {
    from + u32::try_from(rng.below(u64::from(to - from + 1))).unwrap_or(0)
}

/// Draws disturbances. `mix` leans a world towards breaks, operators, machines or everything.
struct Draw {
    rng: Rng,
    count: u32,
    until: Time,
    mix: u64,
}

impl Draw {
    fn disturbance(&mut self) -> Disturbance {
        let rng = &mut self.rng;
        let at = Time(rng.below(self.until.0));
        let node = u32::try_from(rng.below(u64::from(self.count))).unwrap_or(0);
        let lasting = [300_000, 3_000_000, 15_000_000, 70_000_000][pick(rng, 4)];
        let until = Time((at.0 + 1 + rng.below(lasting)).min(self.until.0) | 1);
        let choice = match self.mix {
            0 => rng.below(35),
            1 => 35 + rng.below(35),
            2 => 60 + rng.below(40),
            _ => rng.below(100),
        };
        let kind = match choice {
            0..=6 => Kind::Break,
            7..=13 => Kind::HalfOpen,
            14..=18 => Kind::Reset,
            19..=24 => Kind::Partition { group: rng.bits(), one_way: rng.chance(400), until },
            25..=29 => Kind::Loss { per_mille: 100 + rng.below(500), until },
            30..=34 => Kind::Lag { extra_us: rng.below(1_500_000), until },
            35..=59 => Kind::Command,
            60..=64 => Kind::Use,
            65 | 66 => Kind::Violate,
            67..=69 => Kind::Gossip,
            70..=84 => {
                let disk = [Disk::Kept, Disk::Kept, Disk::Kept, Disk::Lost, Disk::Torn, Disk::Unreadable];
                Kind::Crash { silently: rng.chance(500), until, disk: disk[pick(rng, 6)] }
            }
            85..=88 => Kind::Suspend { until },
            89..=91 => {
                let years = 10 * 365 * 24 * 3_600 * 1_000;
                Kind::Clock { by_ms: [-years, years, 5_000, -5_000][pick(rng, 4)] }
            }
            92 => Kind::TimeBack { by_us: rng.below(2_000_000) },
            93..=95 => Kind::Offline { until },
            96 => Kind::Moved,
            _ => Kind::LostWrites { until },
        };
        Disturbance { at, node, pick: rng.bits(), kind }
    }
}

/// What a command may name besides a contact.
pub(crate) fn ban_target(node: u32, nat: Nat, wide: bool, by_key: bool) -> Target {
    if by_key {
        return Target::Key(key(node));
    }
    let seen = source_addr(node, nat, PORT);
    Target::Subnet(if wide { seen.subnet() } else { peerkeep_core::Subnet::host(seen.ip) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_lead_back_to_their_node() {
        for node in [0, 1, 255, 256, 9_999, 65_537] {
            assert_eq!(node_of_key(&key(node)), Some(node));
            assert_eq!(node_of_addr(&addr(node, Nat::Open)), Some(node));
        }
        assert_eq!(node_of_addr(&addr(300, Nat::Behind(2))), Some(300));
        assert_eq!(node_of_addr(&dead_addr(7)), None);
        assert_eq!(node_of_addr(&source_addr(3, Nat::Open, 999)), None);
    }

    #[test]
    fn a_seed_means_one_scenario_and_its_configurations_hold_together() {
        for seed in 0..2_000 {
            let scenario = Scenario::of(seed);
            assert!((2..=50).contains(&scenario.nodes.len()));
            assert!(scenario.nodes.iter().all(|node| node.config.check().is_ok()), "seed {seed}");
            assert_eq!(format!("{scenario:?}"), format!("{:?}", Scenario::of(seed)));
        }
    }
}
