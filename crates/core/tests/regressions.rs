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

#[test]
fn an_idle_close_is_told_as_idle_and_nobody_comes_back_for_it() {
    let mut rig = Rig::new(|c| c.rules[0].idle = Some(Duration::from_secs(5)));
    let conn = rig.up(1);
    rig.seconds(7);
    assert!(rig.closed().contains(&(conn, Close::Idle)));
    rig.gone(conn, End::Asked);
    assert_eq!(rig.told(), [Told::Lost(Close::Idle)]);
    rig.seconds(600);
    assert_eq!(rig.dialled(), None, "closed for want of use, not lost");
    assert_eq!(rig.standing(1), Standing::Idle);
}

#[test]
fn a_loss_after_a_declined_idle_close_is_a_loss() {
    let mut rig = Rig::new(|c| {
        c.rules[0].idle = Some(Duration::from_secs(5));
        c.rules[0].liveness = Liveness::Transport;
    });
    let conn = rig.up(1);
    rig.seconds(6);
    assert!(rig.closed().contains(&(conn, Close::Idle)));
    let report = Report { received_at: rig.now, used_at: rig.now, ..Report::default() };
    rig.saw(Fact::Reported { conn, report });
    rig.gone(conn, End::Fault(fault(FaultKind::Reset)));
    assert!(rig.told().contains(&Told::Lost(Close::Dead)));
    assert_eq!(rig.standing(1), Standing::Dialing);
}

#[test]
fn a_connect_between_a_close_and_its_end_keeps_its_wish() {
    for command in [Command::Disconnect(peer(1)), Command::Reset(peer(1))] {
        let mut rig = Rig::new(|_| ());
        let old = rig.up(1);
        rig.ask(command);
        assert!(matches!(rig.connect(1), Answer::Begun(_)));
        let new = rig.dialled().expect("a dial");
        rig.gone(old, End::Asked);
        rig.fail(new, FaultKind::Refused);
        assert_eq!(rig.standing(1), Standing::Waiting, "the new wish is not the old connection's");
    }
}

#[test]
fn who_misbehaved_is_not_dialled_again_at_once() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    rig.saw(Fact::Violated { conn, what: Violation::Malformed });
    assert_eq!(rig.dialled(), None, "not before the slow return");
    rig.gone(conn, End::Asked);
    rig.seconds(40);
    assert_eq!(rig.dialled(), None);
    assert!(matches!(rig.why(1), Why::Refused(Refusal::Backoff { .. })));
}

#[test]
fn a_wanted_peer_that_is_disconnected_comes_back_after_a_moment_not_before_the_end() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    rig.ask(Command::Disconnect(peer(1)));
    assert_eq!(rig.dialled(), None);
    rig.gone(conn, End::Asked);
    rig.seconds(3);
    assert!(rig.dialled().is_some());
}

#[test]
fn a_filler_that_is_disconnected_rests() {
    let mut rig = Rig::new(|c| c.rules[0].target = 1);
    told_address(&mut rig, peer(1), at(1));
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    rig.ask(Command::Disconnect(peer(1)));
    assert_eq!(rig.dialled(), None);
    rig.gone(conn, End::Asked);
    rig.seconds(600);
    assert_eq!(rig.dialled(), None);
}
