//! Before and after: document 003's old behaviour, emulated from what it and its users reported, beside ours, on four
//! nodes. The emulation is a few rules, not a state machine of ours: both sides dial whom they miss every two seconds,
//! break ties by two orders that disagree, and lose every pong because it is looked up under another name.

use crate::world::{Rng, World};
use peerkeep_core::*;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

const NODES: [[u8; 4]; 4] = [[50, 28, 104, 50], [69, 167, 168, 176], [165, 84, 215, 117], [64, 91, 241, 10]];
const MINUTES: u64 = 10;

/// What ten minutes came to.
#[derive(Debug, Default)]
struct Outcome {
    dials: u64,
    failed_handshakes: u64,
    lost: u64,
    /// Links at the end.
    links: usize,
}

/// The old way, second by second.
fn before(seed: u64) -> Outcome {
    let mut rng = Rng(seed);
    let mut outcome = Outcome::default();
    // Who dialled whom, and since when it is up.
    let mut links: Vec<(usize, usize, u64)> = Vec::new();
    for second in 0..MINUTES * 60 {
        // Three missed pongs: gone within a minute of coming up.
        let before = links.len();
        links.retain(|(_, _, since)| second - since < 45);
        outcome.lost += (before - links.len()) as u64;
        if second % 2 != 0 {
            continue;
        }
        let linked = |links: &[(usize, usize, u64)], a, b| {
            links.iter().any(|(x, y, _)| (*x, *y) == (a, b) || (*x, *y) == (b, a))
        };
        let mut dials: BTreeSet<(usize, usize)> = BTreeSet::new();
        for a in 0..4 {
            for b in 0..4 {
                if a != b && !linked(&links, a, b) && !rng.chance(5) {
                    dials.insert((a, b));
                }
            }
        }
        outcome.dials += dials.len() as u64;
        for (a, b) in &dials {
            let (mine, theirs) = (Ipv4Addr::from(NODES[*a]), Ipv4Addr::from(NODES[*b]));
            let crossed = dials.contains(&(*b, *a));
            // The acceptor compares texts, the dialler numbers: one closes what the other keeps.
            let acceptor_keeps = mine.to_string() < theirs.to_string();
            let dialler_keeps = mine > theirs;
            if crossed && !(acceptor_keeps && dialler_keeps) {
                outcome.failed_handshakes += 1;
            } else if !linked(&links, *a, *b) {
                links.push((*a, *b, second));
            }
        }
    }
    outcome.links = links.len();
    outcome
}

/// Ours: four cores that want each other.
fn after(seed: u64) -> Outcome {
    let mut world = World::new(4, seed, |_| ());
    for a in 0..4 {
        for b in 0..4 {
            if a != b {
                world.want(a, b);
            }
        }
    }
    world.run_for(Duration::from_secs(MINUTES * 60));
    let pairs = (0..4).flat_map(|a| (a + 1..4).map(move |b| (a, b)));
    let stats = world.nodes.iter().map(|node| node.core.stats());
    let (failed, lost) = stats.fold((0, 0), |(f, l), s: Stats| (f + s.failures, l + s.lost));
    Outcome {
        dials: world.dials,
        failed_handshakes: failed,
        lost,
        links: pairs.map(|(a, b)| world.links(a, b).len()).sum(),
    }
}

#[test]
fn s3_88_s3_93_four_nodes_do_not_settle_the_old_way_and_do_with_ours() {
    for seed in 0..20 {
        let (old, new) = (before(seed), after(seed));
        assert!(old.dials > 50 * MINUTES, "the reported fifty dials a minute: {old:?}");
        assert!(old.failed_handshakes * 10 > old.dials * 8, "most handshakes fail: {old:?}");
        assert!(old.lost > 2 * MINUTES, "what comes up does not stay: {old:?}");
        assert_eq!((new.links, new.dials), (6, 6), "seed {seed}: three connections each, one dial a pair");
        assert_eq!((new.failed_handshakes, new.lost), (0, 0), "seed {seed}: {new:?}");
        let gain = 1.0 - new.dials as f64 / old.dials as f64;
        assert!(gain > 0.95, "the expected 80 and then 95 per cent: {gain}");
    }
}
