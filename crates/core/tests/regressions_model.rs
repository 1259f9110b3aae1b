//! What the model checker found, each as the shortest story that shows it. Through the public door only.

use crate::rig::{Rig, at, peer};
use peerkeep_core::*;
use std::time::Duration;

/// A node boots at 1,001 and answers a dial, dies, and boots at 999 because its clock went back. A peer that remembers
/// its boot at 1,000 refuses it before that answer arrives; at 1,001 it would be taken for the boot that died.
#[test]
fn an_epoch_taken_after_a_refusal_is_none_that_a_lost_boot_may_have_had() {
    let mut low = Rig::new(|config| config.epoch = 999);
    low.want(1);
    let conn = low.dialled().expect("a dial");
    let key = Some(peer(1).key);
    low.saw(Fact::Declined {
        conn,
        key,
        at: at(1),
        code: 0,
        retry_after: Duration::ZERO,
        newer_epoch: 1_000,
    });
    let taken = low.core.view().epoch();
    assert!(taken > 1_000 + 3_600, "{taken} may be the epoch of a boot an hour later");

    let mut other = Rig::new(|_| ());
    other.want(1);
    let old = other.dialled().expect("a dial");
    let answer = Greeting { epoch: 1_001, ..Greeting::default() };
    other.saw(Fact::Met { conn: old, key: peer(1).key, at: at(1), greeting: Some(answer) });
    other.saw(Fact::Ready { conn: old });
    let new = other.arrive(at(1)).expect("room");
    other.hello(new, 1, Greeting { epoch: taken, dial: 2, ..Greeting::default() });
    assert_eq!(other.turned(new), None, "a working dial is not refused for a dead connection");
    assert!(other.closed().contains(&(old, Close::Dead)));
}
