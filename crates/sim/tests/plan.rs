//! A planned network, small: it finds itself by peer exchange, heals after a partition, and is the same for the same
//! seed.

use peerkeep_sim::plan::{Plan, PlanError, Progress, Split, run};
use std::time::Duration;

fn plan() -> Plan {
    Plan { nodes: 40, duration: Duration::from_secs(240), seed: 7, target: Some(6), ..Plan::default() }
}

#[test]
fn a_planned_network_connects_by_peer_exchange_and_never_twice() {
    let report = run(&Plan { loss_percent: 5.0, nat_percent: 30, ..plan() }, &mut |_| ()).expect("a plan");
    let last = report.samples.last().expect("samples");
    assert_eq!(last.alive, 40);
    assert!(last.connected_share > 0.9, "{last:?}");
    assert!(last.reachable_share > 0.99, "{last:?}");
    assert_eq!(last.duplicates, 0);
    assert!(report.time_to_connect.is_some_and(|time| time < Duration::from_secs(120)), "{report:?}");
    assert!(report.actions_per_node[0] > 0 && report.actions_per_node[0] <= report.actions_per_node[2]);
}

#[test]
fn s1_82_a_partition_splits_a_planned_network_and_heals() {
    let at = Duration::from_secs(60);
    let partition = Some(Split { at, lasts: Duration::from_secs(40), share_percent: 50 });
    let report = run(&Plan { partition, ..plan() }, &mut |_| ()).expect("a plan");
    let lowest = report.samples.iter().map(|sample| sample.connected_share).fold(1.0, f64::min);
    let during = report.samples.iter().find(|sample| sample.at == Duration::from_secs(98)).expect("a sample");
    assert!(during.reachable_share < 0.7, "the two halves are apart: {during:?}");
    assert!(lowest < 0.9);
    assert!(
        report.time_to_heal.is_some_and(|time| time < Duration::from_secs(90)),
        "{:?}",
        report.time_to_heal
    );
}

#[test]
fn churn_costs_connections_and_the_rest_stays() {
    let mut last = None;
    let mut told = |progress: Progress| last = Some(progress);
    let report = run(&Plan { churn_percent_per_minute: 20.0, ..plan() }, &mut told).expect("a plan");
    assert!(report.samples.iter().any(|sample| sample.alive < 40), "some are away at times");
    assert!(report.samples.last().is_some_and(|sample| sample.connected_share > 0.8));
    assert!(last.is_some_and(|progress| progress.at == progress.of), "progress is told to the end");
}

#[test]
fn the_same_plan_and_seed_are_the_same_network() {
    let figures = || run(&plan(), &mut |_| ()).expect("a plan").samples;
    assert_eq!(figures(), figures());
    let other = run(&Plan { seed: 8, ..plan() }, &mut |_| ()).expect("a plan").samples;
    assert_ne!(figures(), other);
}

#[test]
fn a_plan_out_of_range_is_refused_and_says_why() {
    for plan in [
        Plan { nodes: 1, ..plan() },
        Plan { loss_percent: 91.0, ..plan() },
        Plan { loss_percent: f64::NAN, ..plan() },
        Plan { churn_percent_per_minute: -1.0, ..plan() },
        Plan { nat_percent: 101, ..plan() },
    ] {
        assert!(matches!(run(&plan, &mut |_| ()), Err(PlanError::Range(_))), "{plan:?}");
    }
    let mut config = peerkeep_core::Config::new(peerkeep_sim::scenario::key(0), 1);
    config.limits.total = 0;
    assert!(matches!(run(&Plan { config: Some(config), ..plan() }, &mut |_| ()), Err(PlanError::Config(_))));
}
