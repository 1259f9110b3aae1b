//! Bugs that were found by reading and by trying to break a finished core: each test failed before its fix. Through
//! the public door only.

mod rig;

use peerkeep_core::*;
use rig::{Rig, addr, addrs, at, fault, peer};
use std::time::Duration;

fn on(stack: StackId, n: u8) -> Who {
    Who { stack, key: PeerKey::ed25519([n; 32]) }
}

fn told_address(rig: &mut Rig, who: Who, one: Addr) {
    rig.saw(Fact::Learned { who, addrs: addrs(&[one]), source: Source::Told });
}

fn greeting() -> Option<Greeting> {
    Some(Greeting { epoch: 500, ..Greeting::default() })
}

fn dials(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Dial { .. })).count()
}

#[test]
fn a_row_reused_on_another_stack_is_a_candidate_there() {
    let mut rig = Rig::new(|c| c.rules[1].target = 1);
    told_address(&mut rig, on(StackId::Mesh, 1), at(1));
    rig.ask(Command::Forget(on(StackId::Mesh, 1)));
    rig.step(Action::Wake);
    told_address(&mut rig, on(StackId::Libp2p, 2), at(2));
    assert_eq!(rig.core.view().counts().outbound, 1, "it is picked for its own stack's target");
    rig.seconds(1);
}
