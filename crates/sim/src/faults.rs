//! Disturbances as they happen: each changes the network, a machine or a disk, or lets an operator speak. None touches
//! a core but through its one way in.

use crate::node::Socket;
use crate::promises::pair;
use crate::rng::Rng;
use crate::scenario::{self, Disk, Disturbance, Kind, Naming};
use crate::weather::{Group, Partition, USER_TIMEOUT};
use crate::wire::{Msg, WireRef};
use crate::world::{Event, World};
use peerkeep_core::{
    Action, Addrs, Change, Command, End, Fact, Fault, FaultKind, Source, StackId, Step, Time, Violation, Who,
};
use std::time::Duration;

impl World {
    pub fn disturb(&mut self, index: u32) {
        let Some(disturbance) = self.disturbances.get(index as usize).copied() else { return };
        let Disturbance { at: _, node, pick, kind } = disturbance;
        let mut rng = Rng::new(pick);
        if self.nodes[node as usize].plan.is_absent {
            return;
        }
        match kind {
            Kind::Break | Kind::HalfOpen | Kind::Reset => self.hurt_a_wire(node, kind, &mut rng),
            Kind::Partition { group, one_way, until } => {
                self.divide(Partition { group: Group::Mask(group), one_way, until });
                self.later(index, until, 0);
            }
            Kind::Loss { per_mille, until } => {
                self.weather.burst_per_mille = per_mille;
                self.is_rough(until);
                self.later(index, until, 0);
            }
            Kind::Lag { extra_us, until } => {
                self.weather.extra_us = extra_us;
                self.is_rough(until);
                self.later(index, until, 0);
            }
            Kind::Crash { silently, until, disk } => self.crash_for(index, node, silently, until, disk),
            Kind::Suspend { until } => self.suspend(index, node, until),
            Kind::Clock { by_ms } => {
                self.node(node).clock_offset_ms = self.node(node).clock_offset_ms.saturating_add(by_ms);
                let unix_ms = self.unix_ms(node);
                self.note(node, || format!("the wall clock of node {node} jumps by {by_ms} ms"));
                self.step(node, Action::Clock { unix_ms });
            }
            Kind::TimeBack { by_us } => {
                let now = self.now;
                self.now = Time(now.0.saturating_sub(by_us));
                self.step(node, Action::Wake);
                self.now = now;
            }
            Kind::Offline { until } => {
                self.divide(Partition { group: Group::One(node), one_way: false, until });
                self.later(index, until, 0);
                self.note(node, || format!("node {node} has no network"));
                self.step(node, Action::Network(Change::Offline));
            }
            Kind::Moved => drop(self.step(node, Action::Network(Change::Moved))),
            Kind::LostWrites { until } => {
                self.node(node).disk.deaf_until = until;
                self.note(node, || format!("the disk of node {node} takes no writes"));
            }
            Kind::Command => self.operate(node, &mut rng),
            Kind::Violate => self.violate(node, &mut rng),
            Kind::Use => self.use_a_link(node, &mut rng),
            Kind::Gossip => self.gossip(node, &mut rng),
        }
    }

    /// Ends what an earlier disturbance began.
    pub fn disturbance_over(&mut self, index: u32, boot: u32) {
        let Some(disturbance) = self.disturbances.get(index as usize).copied() else { return };
        let (now, node) = (self.now, disturbance.node);
        self.weather.partitions.retain(|partition| partition.until > now);
        match disturbance.kind {
            Kind::Loss { .. } => self.weather.burst_per_mille = 0,
            Kind::Lag { .. } => self.weather.extra_us = 0,
            Kind::Crash { .. } if self.nodes[node as usize].boot == boot && !self.node(node).is_alive => {
                self.boot(node);
            }
            Kind::Suspend { .. } if self.lives(node, boot) => {
                let unix_ms = self.unix_ms(node);
                self.note(node, || format!("node {node} wakes from sleep"));
                self.step(node, Action::Network(Change::Moved));
                self.step(node, Action::Clock { unix_ms });
            }
            Kind::Offline { .. } => {
                self.note(node, || format!("node {node} has its network back"));
                self.step(node, Action::Network(Change::Online));
            }
            _ => {}
        }
    }

    fn note(&mut self, node: u32, text: impl FnOnce() -> String) {
        self.story.add(self.now, [node; 2], text);
    }

    fn later(&mut self, index: u32, until: Time, boot: u32) {
        self.queue.push(until, Event::Over { index, boot });
    }

    fn is_rough(&mut self, until: Time) {
        self.weather.rough_until = self.weather.rough_until.max(until);
    }

    pub fn divide(&mut self, partition: Partition) {
        self.is_rough(partition.until);
        self.weather.partitions.push(partition);
        self.story.add(self.now, [0, 0], || format!("the network is divided: {partition:?}"));
    }

    /// Whether a machine knows that it has no network.
    pub fn is_offline(&self, node: u32) -> bool {
        let alone = |partition: &Partition| partition.group == Group::One(node);
        self.weather.partitions.iter().any(alone)
    }

    // ---- wires

    /// One of a node's connections, chosen by chance.
    fn a_wire(&mut self, node: u32, rng: &mut Rng) -> Option<(WireRef, usize)> {
        let linked: Vec<(WireRef, usize)> = self
            .node(node)
            .slots
            .iter()
            .filter_map(|slot| match slot.socket {
                Socket::Linked { wire, side } => Some((wire, usize::from(side))),
                _ => None,
            })
            .collect();
        linked.get(usize::try_from(rng.below(linked.len() as u64)).ok()?).copied()
    }

    fn hurt_a_wire(&mut self, node: u32, kind: Kind, rng: &mut Rng) {
        let Some((wire, side)) = self.a_wire(node, rng) else { return };
        let now = self.now;
        let Some(row) = self.wires.get_mut(wire) else { return };
        let peer = row.ends[1 - side].node;
        row.troubled_until = Time::NEVER;
        match kind {
            Kind::Break => row.ends.iter_mut().for_each(|end| end.is_cut = true),
            Kind::HalfOpen => row.ends[1 - side].is_cut = true,
            _ => {}
        }
        self.story
            .add(now, [node, peer], || format!("{kind:?} of a link between node {node} and node {peer}"));
        let reset = End::Fault(Fault::new(Step::Live, FaultKind::Reset));
        let side_u8 = u8::from(side == 1);
        if kind != Kind::Break {
            self.end_of(wire, side_u8, reset);
        } else {
            self.queue.push(now + USER_TIMEOUT, Event::GiveUp { wire, side: side_u8 });
        }
        if kind == Kind::Reset {
            self.end_of(wire, 1 - side_u8, reset);
        } else {
            self.queue.push(now + USER_TIMEOUT, Event::GiveUp { wire, side: 1 - side_u8 });
        }
    }

    fn use_a_link(&mut self, node: u32, rng: &mut Rng) {
        let Some((wire, side)) = self.a_wire(node, rng) else { return };
        let now = self.now;
        if let Some(row) = self.wires.get_mut(wire) {
            row.ends[side].used_at = now;
        }
        self.send(wire, side, Msg::Data);
    }

    fn violate(&mut self, node: u32, rng: &mut Rng) {
        const ALL: [Violation; 6] = [
            Violation::TooMuch,
            Violation::TooMuch,
            Violation::Malformed,
            Violation::WrongNetwork,
            Violation::StreamAbuse,
            Violation::BannedAgent,
        ];
        let what = ALL[usize::try_from(rng.below(6)).unwrap_or(0)];
        let Some((wire, side)) = self.a_wire(node, rng) else { return };
        let Some(row) = self.wires.get(wire).copied() else { return };
        self.promises.estranged.insert(pair(row.ends[0].node, row.ends[1].node));
        self.step(node, Action::Saw(Fact::Violated { conn: row.ends[side].conn, what }));
    }

    // ---- machines

    fn crash_for(&mut self, index: u32, node: u32, silently: bool, until: Time, disk: Disk) {
        if !self.node(node).is_alive {
            return;
        }
        self.note(node, || {
            let how = if silently { "loses power" } else { "dies" };
            format!("node {node} {how}; its disk will be {disk:?}")
        });
        self.crash(node, silently);
        let mut rng = self.rng.fork(9);
        self.node(node).disk.suffer(disk, &mut rng);
        let boot = self.node(node).boot;
        self.later(index, until, boot);
    }

    fn suspend(&mut self, index: u32, node: u32, until: Time) {
        if !self.node(node).is_alive {
            return;
        }
        self.note(node, || format!("node {node} sleeps"));
        let at = self.node(node);
        at.suspended_until = at.suspended_until.max(until);
        let (until, boot) = (at.suspended_until, at.boot);
        self.later(index, until, boot);
    }

    // ---- operators and rumours

    fn somebody(&self, node: u32, rng: &mut Rng) -> Option<u32> {
        let count = self.nodes.len() as u64;
        let other = u32::try_from(rng.below(count)).ok()?;
        (other != node && !self.nodes[other as usize].plan.is_absent).then_some(other)
    }

    fn gossip(&mut self, node: u32, rng: &mut Rng) {
        let Some(other) = self.somebody(node, rng) else { return };
        let mut addrs = Addrs::new();
        if rng.chance(300) {
            addrs.push(scenario::dead_addr(rng.bits()));
        }
        addrs.push(scenario::addr(other, self.node(other).plan.nat));
        let who = Who::mesh(scenario::key(other));
        self.step(node, Action::Saw(Fact::Learned { who, addrs, source: Source::Gossip }));
        if rng.chance(100) {
            let b = Who { stack: StackId::Libp2p, key: who.key };
            self.step(node, Action::Saw(Fact::Learned { who: b, addrs: Addrs::new(), source: Source::Told }));
            self.step(node, Action::Saw(Fact::Bound { a: who, b }));
        }
    }

    fn operate(&mut self, node: u32, rng: &mut Rng) {
        let Some(other) = self.somebody(node, rng) else { return };
        let nat = self.node(other).plan.nat;
        let naming = [Naming::Full, Naming::Full, Naming::Full, Naming::Stranger, Naming::Named]
            [usize::try_from(rng.below(5)).unwrap_or(0)];
        let (named_who, addrs, named) = scenario::who(other, nat, naming);
        let who = Who::mesh(scenario::key(other));
        let span = rng.chance(800).then(|| Duration::from_millis(1 + rng.below(60_000)));
        let command = match rng.below(26) {
            0..=3 => Command::Connect { who: named_who, addrs, named },
            4..=6 => Command::Want { who: named_who, addrs, named },
            7 | 8 => Command::Unwant(who),
            9..=11 => Command::Disconnect(who),
            12..=14 => Command::Cancel(who),
            15 | 16 => Command::Retry(who),
            17 | 18 => Command::Reset(who),
            19 => Command::Hold { who, on: rng.chance(500) },
            20 | 21 => {
                let target = scenario::ban_target(other, nat, rng.chance(300), rng.chance(700));
                self.estrange(node, other, target);
                Command::Ban { target, span }
            }
            22 => {
                let bans = &self.nodes[node as usize].known.bans;
                let at = usize::try_from(rng.below(bans.len() as u64)).unwrap_or(0);
                match bans.get(at) {
                    Some((target, _)) => Command::Unban(*target),
                    None => return,
                }
            }
            23 => Command::Forget(who),
            24 => Command::Configure(Box::new(self.another_config(node, rng))),
            _ if rng.chance(200) => {
                self.node(node).known.is_draining = true;
                Command::Shutdown
            }
            _ => Command::Disconnect(who),
        };
        self.command(node, command);
    }

    /// Pairs that a ban is about may stay apart after it: each side may have been told to stay away for long.
    fn estrange(&mut self, node: u32, _other: u32, target: peerkeep_core::Target) {
        for number in 0..u32::try_from(self.nodes.len()).unwrap_or(0) {
            let nat = self.nodes[number as usize].plan.nat;
            let is_meant = match target {
                peerkeep_core::Target::Key(key) => key == scenario::key(number),
                peerkeep_core::Target::Subnet(subnet) => {
                    subnet.contains(scenario::source_addr(number, nat, 1).ip)
                        || subnet.contains(scenario::addr(number, nat).ip)
                }
            };
            if is_meant {
                self.promises.estranged.insert(pair(node, number));
            }
        }
    }

    fn another_config(&mut self, node: u32, rng: &mut Rng) -> peerkeep_core::Config {
        let core = &self.node(node).core;
        let mut config = core.config().clone();
        match rng.below(4) {
            0 => config.rules[0].target = u16::try_from(rng.below(5)).unwrap_or(0),
            1 => config.rules[0].idle = rng.chance(500).then_some(Duration::from_secs(8)),
            2 => config.turn_wait = Duration::from_millis(rng.below(4_000)),
            _ => config.rules[0].backoff.first = Duration::from_millis(200 + rng.below(2_000)),
        }
        config
    }
}
