//! The model checker finds what it is for: wrong variants of the rule. A binary of its own, because the switch between
//! variants holds for a whole process.

use peerkeep_core::canary::{self, Canary};
use peerkeep_sim::model::{Limits, quick, run};

#[test]
fn the_small_budgets_find_every_wrong_variant_of_the_rule() {
    for wrong in [Canary::KeepFirst, Canary::NoBootEpoch, Canary::NoConfirm, Canary::SlotLeak] {
        canary::set(Some(wrong));
        let found = quick().into_iter().any(|setup| {
            let report = run(setup, Limits::default(), |_, _| ());
            report.violations.iter().any(|broken| !broken.story.is_empty())
        });
        assert!(found, "{} is not found", wrong.name());
    }
    canary::set(None);
}
