//! The model checker itself, over budgets that an unoptimised build explores in seconds.

use peerkeep_sim::model::{Limits, quick, run};

/// Requirement S2.94; faults D3, D4 and D5.
#[test]
fn s2_94_every_promise_holds_over_the_small_budgets() {
    for setup in quick() {
        let name = setup.name;
        let report = run(setup, Limits::default(), |_, _| ());
        assert!(report.passed(), "{name}: {report:#?}");
        assert!(report.unique > 10, "{name} explores");
    }
}
