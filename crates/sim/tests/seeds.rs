//! Simulated worlds within the ordinary tests: seeds that failed once, a few for each kind of fault, and that the world
//! itself is deterministic. The long runs are `cargo xtask sim`.

use peerkeep_core::Time;
use peerkeep_sim::scenario::{Disk, Kind};
use peerkeep_sim::{QUIET_THREAD, Scenario, run};

/// Seeds that found a bug of the core, with what it was.
const ONCE_FAILED: [(u64, &str); 8] = [
    (871, "a refused dial by address left two dials to one peer"),
    (1_414, "the same, refused for want of room"),
    (2_977, "the same, behind a dial that held a row longer"),
    (2_098, "a new wish waited for the cool-down of the target"),
    (33_946, "the same, while the target was waiting for it too"),
    (83_831, "a wish for an address did too, when such a peer answered there"),
    (15_460, "a hello claimed what was accepted after its dial was decided"),
    (23_626, "a dial number seen before was taken for a later dial"),
];

/// On a thread whose panics the run catches itself.
fn holds(scenario: Scenario, about: &str) -> u64 {
    let run = move || {
        let outcome = run(&scenario, false);
        (scenario.seed, outcome)
    };
    let thread = std::thread::Builder::new().name(QUIET_THREAD.into()).spawn(run).expect("a thread");
    let (seed, outcome) = thread.join().expect("panics are caught inside");
    assert_eq!(outcome.violation, None, "seed {seed}: {about}; see `cargo xtask sim --seed {seed}`");
    assert_eq!(outcome.replayed, outcome.actions, "seed {seed}: every action of every life is replayed");
    outcome.actions
}

fn hold_with(kind: impl Fn(Time) -> Kind + Copy, about: &str) {
    for seed in 0..8 {
        holds(Scenario::only(seed, kind), about);
    }
}

#[test]
fn seeds_that_failed_once_hold() {
    for (seed, about) in ONCE_FAILED {
        holds(Scenario::of(seed), about);
    }
}

/// S0.47, SX.9: every run is replayed from its journals to equal digests and equal bytes.
#[test]
fn s0_47_worlds_hold_every_promise_and_replay_from_their_journals() {
    let actions: u64 = (0..40).map(|seed| holds(Scenario::of(seed), "any faults")).sum();
    assert!(actions > 20_000, "the worlds are busy: {actions} actions");
}

#[test]
fn a_seed_is_one_world_however_often_it_is_run() {
    for seed in [3, 12, 40] {
        let scenario = Scenario::of(seed);
        let (once, again) = (run(&scenario, true), run(&scenario, true));
        assert_eq!(once.story, again.story, "seed {seed}");
        assert_eq!((once.actions, once.connected), (again.actions, again.connected), "seed {seed}");
        assert!(!once.story.is_empty());
    }
}

/// Faults C1 and C4: silent breaks, half-open ends and resets.
#[test]
fn fault_c1_broken_and_half_open_links_are_found_and_replaced() {
    hold_with(|_| Kind::Break, "silent breaks");
    hold_with(|_| Kind::HalfOpen, "half-open ends");
    hold_with(|_| Kind::Reset, "resets");
}

/// Fault C6: partitions, one-way ones too.
#[test]
fn fault_c6_partitions_heal_also_when_they_were_one_way() {
    hold_with(|until| Kind::Partition { group: 0x5555_5555_5555_5555, one_way: false, until }, "partitions");
    hold_with(|until| Kind::Partition { group: 0x5555_5555_5555_5555, one_way: true, until }, "one way");
}

/// Fault C7: loss and long ways.
#[test]
fn fault_c7_loss_and_latency_keep_every_promise() {
    hold_with(|until| Kind::Loss { per_mille: 300, until }, "loss of 30 %");
    hold_with(|until| Kind::Lag { extra_us: 2_000_000, until }, "ways of two seconds");
}

/// Faults K1, K2, K4 and H15: crashes with whole, torn, unreadable and lost stores.
#[test]
fn fault_k4_crashes_and_damaged_stores_lock_nobody_out() {
    for disk in [Disk::Kept, Disk::Torn, Disk::Unreadable, Disk::Lost] {
        for silently in [true, false] {
            hold_with(move |until| Kind::Crash { silently, until, disk }, "crashes");
        }
    }
}

/// Faults C9, T1 and T3: sleep, jumps of the wall clock, a monotonic clock that reads an earlier time.
#[test]
fn fault_c9_sleep_and_clocks_that_jump_keep_every_promise() {
    hold_with(|until| Kind::Suspend { until }, "sleep");
    hold_with(|_| Kind::Clock { by_ms: -300_000_000_000 }, "a wall clock that goes back ten years");
    hold_with(|_| Kind::TimeBack { by_us: 1_500_000 }, "time that goes back");
}

/// Fault D12: a machine that knows it has no network; and routes that change.
#[test]
fn fault_d12_machines_without_a_network_come_back() {
    hold_with(|until| Kind::Offline { until }, "no network");
    hold_with(|_| Kind::Moved, "routes that change");
}

/// Fault I5: operators at random, misbehaviour, rumours.
#[test]
fn fault_i5_operators_at_random_break_no_promise() {
    hold_with(|_| Kind::Command, "operators");
    hold_with(|_| Kind::Violate, "misbehaviour");
    hold_with(|_| Kind::Gossip, "rumours");
}
