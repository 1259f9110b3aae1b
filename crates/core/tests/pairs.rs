//! Two (and a few) nodes that want each other, through thousands of seeds of interleavings, breaks, crashes and
//! cancels: exactly one connection at rest, the same on both sides, nothing announced is withdrawn by the rule.

use crate::world::{self, World};
use peerkeep_core::*;
use std::time::Duration;

const SEEDS: u64 = 600;

fn exactly_one(world: &World, a: usize, b: usize, seed: u64) {
    let links = world.links(a, b);
    assert_eq!(links.len(), 1, "seed {seed}: nodes {a} and {b} share one link");
    for (x, y) in [(a, b), (b, a)] {
        assert_eq!(world.nodes[x].standing(y), Standing::Connected, "seed {seed}");
        let count = world.nodes[x].core.view().conns().filter(|c| c.stage == Stage::Up).count();
        assert!(count >= 1, "seed {seed}");
    }
}

#[test]
fn fault_d3_simultaneous_dials_leave_exactly_one_and_withdraw_nothing() {
    for seed in 0..SEEDS {
        let mut world = World::new(2, seed, |_| ());
        world.connect(0, 1);
        world.connect(1, 0);
        world.run_for(Duration::from_secs(20));
        exactly_one(&world, 0, 1, seed);
        assert_eq!(world.withdrawn, 0, "seed {seed}");
        assert!(world.dials <= 3, "seed {seed}: {} dials", world.dials);
        world.replay_all();
    }
}

/// Fault D4, among others: redials while the other end is half open.
#[test]
fn wanted_pairs_heal_after_breaks_crashes_and_cancels() {
    for seed in 0..SEEDS {
        let mut world = World::new(2, seed, |_| ());
        let mut epochs = [1_000_u64, 1_000];
        world.want(0, 1);
        world.want(1, 0);
        let faults = 1 + world.rng.below(4);
        for _ in 0..faults {
            for _ in 0..world.rng.below(12) {
                world.tick();
            }
            if world.rng.chance(50) {
                let span = Duration::from_millis(world.rng.next() % 8_000);
                world.run_for(span);
            }
            let node = world.rng.below(2);
            match world.rng.below(4) {
                0 if !world.wires.is_empty() => {
                    let wire = world.rng.below(world.wires.len());
                    world.break_wire(wire);
                }
                1 => {
                    let silently = world.rng.chance(50);
                    world.crash(node, silently);
                    let span = Duration::from_millis(world.rng.next() % 5_000);
                    world.run_for(span);
                    // One boot in eight, the store is lost and the clock has gone back.
                    epochs[node] = if world.rng.chance(12) { 10 } else { epochs[node] + 1 };
                    let epoch = epochs[node];
                    world.restart(node, epoch);
                    world.want(node, 1 - node);
                }
                2 => {
                    world.command(node, Command::Cancel(Who::mesh(world::key(1 - node))));
                }
                _ => {
                    world.command(node, Command::Disconnect(Who::mesh(world::key(1 - node))));
                }
            }
        }
        world.run_for(Duration::from_secs(700));
        exactly_one(&world, 0, 1, seed);
        assert_eq!(world.withdrawn, 0, "seed {seed}");
        world.replay_all();
    }
}

#[test]
fn s3_64_a_handful_of_nodes_all_find_one_link_per_pair() {
    for seed in 0..60 {
        let mut world = World::new(5, seed, |_| ());
        for a in 0..5 {
            for b in 0..5 {
                if a != b {
                    world.want(a, b);
                }
            }
        }
        world.run_for(Duration::from_secs(60));
        for a in 0..5 {
            for b in a + 1..5 {
                exactly_one(&world, a, b, seed);
            }
        }
        assert_eq!(world.withdrawn, 0, "seed {seed}");
        assert_eq!(world.dials, 10, "seed {seed}: the preference leaves one dial per pair");
    }
}

#[test]
fn one_side_that_cannot_be_dialled_is_no_obstacle() {
    for hidden in 0..2 {
        let mut world = World::new(2, 5, |_| ());
        world.nodes[hidden].reachable = false;
        world.want(0, 1);
        world.want(1, 0);
        world.run_for(Duration::from_secs(30));
        exactly_one(&world, 0, 1, hidden as u64);
    }
}

#[test]
fn strangers_by_address_turn_into_one_identity() {
    for seed in 0..300 {
        let mut world = World::new(2, seed, |_| ());
        for (a, b) in [(0, 1), (1, 0)] {
            let who = Who::mesh(PeerKey::from_addr(world::addr(b)));
            let addrs = world::addrs(&[world::addr(b)]);
            world.command(a, Command::Want { who, addrs, named: false });
        }
        world.run_for(Duration::from_secs(120));
        exactly_one(&world, 0, 1, seed);
        for node in &world.nodes {
            assert_eq!(
                node.core.view().contacts().count(),
                1,
                "seed {seed}: the address is no contact of its own"
            );
            assert!(node.core.view().contacts().all(|c| c.wanted), "seed {seed}: the wish moved over");
        }
    }
}

#[test]
fn hold_and_confirm_without_numbers_leaves_one() {
    for seed in 0..SEEDS {
        let mut world = World::new(2, seed, |c| c.rules[0].duplicates = Duplicates::HoldAndConfirm);
        world.want(0, 1);
        world.want(1, 0);
        for _ in 0..world.rng.below(10) {
            world.tick();
        }
        if world.rng.chance(50) && !world.wires.is_empty() {
            let wire = world.rng.below(world.wires.len());
            world.break_wire(wire);
        }
        world.run_for(Duration::from_secs(700));
        exactly_one(&world, 0, 1, seed);
    }
}

/// S3.70: the rule on two dials goes back to hold and confirm and forth again while connections are up, on one node
/// after the other, as people roll things out and back.
#[test]
fn s3_70_nodes_that_differ_in_the_rule_on_two_dials_or_change_it_while_connected_end_with_one() {
    for seed in 0..SEEDS / 6 {
        let mut world = World::new(2, seed, |_| ());
        world.want(0, 1);
        world.want(1, 0);
        for round in 0..4 {
            for _ in 0..world.rng.below(10) {
                world.tick();
            }
            let node = world.rng.below(2);
            let mut config = world.nodes[node].core.config().clone();
            config.rules[0].duplicates =
                if world.rng.chance(70) { Duplicates::HoldAndConfirm } else { Duplicates::Numbers };
            assert_eq!(world.command(node, Command::Configure(Box::new(config))), Answer::Done);
            if world.rng.chance(50) && !world.wires.is_empty() {
                let wire = world.rng.below(world.wires.len());
                world.break_wire(wire);
            }
            world.run_for(Duration::from_secs(700));
            exactly_one(&world, 0, 1, seed * 10 + round);
        }
        world.replay_all();
    }
}
