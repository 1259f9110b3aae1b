//! Bugs that were found by reading and by trying to break a finished core: each test failed before its fix. Through
//! the public door only.

use crate::rig::{Rig, addrs, at, fault, peer};
use peerkeep_core::*;
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

#[test]
fn a_connected_peer_is_not_given_up_for_an_older_dial_of_ours() {
    let mut rig = Rig::new(|c| c.rules[0].backoff.max_attempts = 1);
    rig.connect(200);
    let own = rig.dialled().expect("a dial");
    let conn = rig.arrive(at(200)).expect("room");
    rig.hello(conn, 200, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    rig.pass(Duration::from_millis(1_100));
    assert!(rig.closed().contains(&(own, Close::Cancelled)), "the hold is over");
    rig.saw(Fact::Ready { conn });
    assert_eq!(rig.told(), [Told::Connected]);
    rig.gone(own, End::Asked);
    assert!(!rig.told().contains(&Told::GaveUp), "{:?}", rig.told());
    assert!(rig.contact(200).expect("known").asked, "the wish stands");
}

#[test]
fn an_address_that_answers_is_forgiven_its_failures() {
    let mut rig = Rig::new(|_| ());
    let (good, other) = (at(1), at(2));
    rig.ask(Command::Want { who: peer(1), addrs: addrs(&[good, other]), named: false });
    let conn = rig.dialled().expect("a dial");
    rig.saw(Fact::Missed { conn, addr: good, fault: fault(FaultKind::Refused) });
    rig.saw(Fact::Missed { conn, addr: other, fault: fault(FaultKind::Refused) });
    rig.fail(conn, FaultKind::Refused);
    rig.seconds(3);
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    let known = rig.contact(1).expect("known").addrs;
    assert_eq!((known[0].addr, known[0].failures), (good, 0), "{known:?}");
}

#[test]
fn an_answered_dial_that_never_settles_is_followed_by_the_backoff() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.saw(Fact::Met { conn, key: peer(1).key, at: at(1), greeting: greeting() });
    rig.seconds(11);
    assert_eq!(rig.closed(), [(conn, Close::Timeout)]);
    assert_eq!(rig.dialled(), None, "the end brings the verdict");
    rig.gone(conn, End::Asked);
    assert!(matches!(rig.why(1), Why::Refused(Refusal::Backoff { .. })));
}

#[test]
fn a_handshake_that_misbehaves_is_followed_by_the_slow_return() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.gone(conn, End::Violation(Violation::Malformed));
    rig.seconds(40);
    assert_eq!(rig.dialled(), None);
}

#[test]
fn retrying_a_wanted_peer_leaves_no_wish_behind() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Refused);
    rig.ask(Command::Retry(peer(1)));
    let conn = rig.dialled().expect("a dial");
    rig.ask(Command::Unwant(peer(1)));
    rig.fail(conn, FaultKind::Refused);
    rig.seconds(600);
    assert_eq!(rig.dialled(), None, "wanted no longer");
}

/// Fault D4, for a link that still works: make before break.
#[test]
fn a_replacing_hello_leaves_the_old_link_up_until_the_confirm() {
    let mut rig = Rig::new(|_| ());
    let old = rig.up(1);
    let dial = rig.core.view().conn(old).expect("up").dial;
    let new = rig.arrive(at(1)).expect("room");
    let hello = Greeting { epoch: 500, dial: 1, accepted: (1_000, dial), replaces: true };
    rig.hello(new, 1, hello);
    assert_eq!(rig.closed(), [], "make before break");
    rig.saw(Fact::Ready { conn: new });
    assert_eq!(rig.closed(), [(old, Close::Replaced)]);
}

#[test]
fn a_refusal_by_somebody_else_costs_the_address_it_came_from_and_no_other() {
    let mut rig = Rig::new(|_| ());
    rig.ask(Command::Want { who: peer(1), addrs: addrs(&[at(1), at(2)]), named: false });
    let conn = rig.dialled().expect("a dial");
    let key = Some(peer(2).key);
    rig.saw(Fact::Declined { conn, key, at: at(2), code: 0, retry_after: Duration::ZERO, newer_epoch: 0 });
    rig.fail(conn, FaultKind::Declined);
    let known = rig.contact(1).expect("known").addrs;
    assert_eq!(known.iter().map(|known| known.addr).collect::<Vec<_>>(), [at(1)]);
}

#[test]
fn what_was_asked_for_and_became_hopeless_is_given_up_and_said_so() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    let target = Target::Subnet(Subnet::host(at(1).ip));
    rig.ask(Command::Ban { target, span: Some(Duration::from_secs(10)) });
    rig.gone(conn, End::Asked);
    rig.seconds(20);
    assert!(!rig.contact(1).expect("known").asked, "nobody is left wanting what nothing will bring");

    let mut rig = Rig::new(|_| ());
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.saw(Fact::Met { conn, key: peer(2).key, at: at(1), greeting: greeting() });
    rig.gone(conn, End::Asked);
    rig.seconds(600);
    assert!(!rig.contact(1).expect("known").asked);
    assert_eq!(rig.standing(1), Standing::GaveUp);
    assert!(matches!(rig.connect(1), Answer::Begun(_) | Answer::Queued(_)), "a new address revives it");
}

#[test]
fn a_network_that_changes_all_the_time_keeps_no_dead_link_alive() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.up(1);
    let mut closed = false;
    for _ in 0..20 {
        rig.step(Action::Network(Change::Moved));
        rig.seconds(3);
        closed |= rig.closed().contains(&(conn, Close::Dead));
    }
    assert!(closed);
}

#[test]
fn a_dial_that_gives_way_to_a_held_conn_is_no_failure_to_whoever_waits() {
    let mut rig = Rig::new(|_| ());
    rig.connect(200);
    let own = rig.dialled().expect("a dial");
    let conn = rig.arrive(at(200)).expect("room");
    rig.hello(conn, 200, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    rig.pass(Duration::from_millis(1_100));
    rig.gone(own, End::Asked);
    assert_eq!(rig.told(), [], "the other one is on its way");
    rig.saw(Fact::Ready { conn });
    assert_eq!(rig.told(), [Told::Connected]);
}

/// Promise T6: idle is cheap.
#[test]
fn a_wanted_link_that_nobody_uses_is_not_looked_at_every_other_second() {
    let mut rig = Rig::new(|c| {
        c.rules[0].idle = Some(Duration::from_secs(60));
        c.rules[0].liveness = Liveness::Transport;
    });
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    let before = rig.core.stats().actions;
    rig.seconds(600);
    let wakes = rig.core.stats().actions - before;
    assert!(wakes < 40, "{wakes} wakes in ten minutes");
}

#[test]
fn a_node_that_gave_up_on_everybody_does_not_stay_alone_for_ever() {
    let mut rig = Rig::new(|c| {
        c.rules[0].target = 3;
        c.rules[0].backoff = Backoff { max_attempts: 2, ..Backoff::default() };
    });
    for n in 1..=3 {
        rig.saw(Fact::Learned { who: peer(n), addrs: addrs(&[at(n)]), source: Source::Told });
        let conn = rig.dialled().expect("the target is not met");
        rig.fail(conn, FaultKind::Refused);
    }
    let fail_all = |rig: &mut Rig, seconds| {
        let mut dials = 0;
        for _ in 0..seconds {
            let dialled: Vec<ConnRef> = rig
                .seconds(1)
                .iter()
                .filter_map(|effect| match effect {
                    Effect::Dial { conn, .. } => Some(*conn),
                    _ => None,
                })
                .collect();
            dials += dialled.len();
            for conn in dialled {
                rig.fail(conn, FaultKind::Refused);
            }
        }
        dials
    };
    fail_all(&mut rig, 20);
    assert_eq!([1, 2, 3].map(|n| rig.standing(n)).iter().filter(|s| **s == Standing::GaveUp).count(), 3);
    let dials = fail_all(&mut rig, 600);
    assert!((10..=21).contains(&dials), "one every half a minute: {dials} in ten");
    while rig.seconds(1).iter().all(|effect| !matches!(effect, Effect::Dial { .. })) {}
    let conn = rig.dialled().expect("a dial");
    let who = rig.core.view().dial(conn).expect("what to dial").who;
    rig.answer(conn, who.key.bytes[0]);
    assert_eq!(rig.standing(who.key.bytes[0]), Standing::Connected);
}

#[test]
fn a_queued_dial_outlives_an_inbound_handshake_on_a_stack_without_identities() {
    let mut rig = Rig::new(|c| c.limits.outbound = 1);
    rig.connect(2);
    let other = rig.dialled().expect("a dial");
    let who = on(StackId::Bitcoin, 1);
    rig.ask(Command::Connect { who, addrs: addrs(&[at(1)]), named: false });
    rig.saw(Fact::Arrived { ticket: Ticket(99), stack: StackId::Bitcoin, remote: at(1) });
    let Some(Effect::Accept { conn, .. }) = rig.out.first().copied() else { panic!("{:?}", rig.out) };
    rig.saw(Fact::Met { conn, key: who.key, at: at(1), greeting: greeting() });
    // A slot frees while the handshake of the inbound one is under way, which then comes to nothing.
    rig.fail(other, FaultKind::Refused);
    rig.ask(Command::Reset(peer(2)));
    rig.fail(conn, FaultKind::Reset);
    assert!(rig.dialled().is_some(), "the dial that waited begins");
}
