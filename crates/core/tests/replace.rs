//! Replacing a degraded connection: a second one beside it, and what its success or failure means for the first.

use crate::rig::{Rig, at, peer};
use crate::world::{World, key};
use peerkeep_core::*;
use std::time::Duration;

/// Silence is no death here.
fn bench(tweak: impl FnOnce(&mut Config)) -> Rig {
    Rig::new(|config| {
        config.rules[0].liveness = Liveness::Transport;
        tweak(config);
    })
}

fn hello(dial: u32, replaces: bool) -> Option<Greeting> {
    Some(Greeting { epoch: 500, dial, accepted: (1_000, 1), replaces })
}

fn answer() -> Option<Greeting> {
    Some(Greeting { epoch: 500, ..Greeting::default() })
}

/// A connection of ours that is up, with numbers.
fn connected(rig: &mut Rig) -> ConnRef {
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.saw(Fact::Met { conn, key: peer(1).key, at: at(1), greeting: answer() });
    rig.saw(Fact::Ready { conn });
    rig.seconds(60);
    conn
}

fn ask(rig: &mut Rig) -> ConnRef {
    assert!(matches!(rig.ask(Command::Replace(peer(1))), Answer::Begun(_)));
    rig.dialled().expect("a dial")
}

#[test]
fn a_successor_is_dialled_beside_the_old_connection_and_says_so() {
    let mut rig = bench(|_| ());
    let old = connected(&mut rig);
    let new = ask(&mut rig);
    assert_eq!(rig.closed(), []);
    assert_eq!(rig.standing(1), Standing::Connected);
    let dial = rig.core.view().dial(new).expect("a dial");
    assert!(dial.greeting.replaces && dial.greeting.dial == 2);
    rig.saw(Fact::Met { conn: new, key: peer(1).key, at: at(1), greeting: answer() });
    assert_eq!(rig.closed(), [], "the acceptor closes the old one");
    rig.saw(Fact::Ready { conn: new });
    assert_eq!((rig.told(), rig.closed()), (vec![Told::Connected], vec![]));
    rig.gone(old, End::Goodbye(Close::Replaced));
    assert_eq!(rig.told(), [Told::Lost(Close::Replaced)]);
    assert_eq!((rig.standing(1), rig.dialled()), (Standing::Connected, None));
    rig.seconds(100);
    assert_eq!(rig.dialled(), None, "nothing was lost");
}

#[test]
fn the_acceptor_closes_the_old_connection_at_the_confirm() {
    let mut rig = bench(|_| ());
    let old = connected(&mut rig);
    let new = rig.arrive(at(1)).expect("room");
    rig.saw(Fact::Met { conn: new, key: peer(1).key, at: at(1), greeting: hello(1, true) });
    assert_eq!(rig.closed(), []);
    assert_eq!(rig.standing(1), Standing::Connected);
    rig.saw(Fact::Ready { conn: new });
    assert_eq!(rig.closed(), [(old, Close::Replaced)]);
    assert_eq!(rig.told(), [Told::Connected, Told::Lost(Close::Replaced)]);
    rig.gone(old, End::Asked);
    assert_eq!((rig.standing(1), rig.dialled()), (Standing::Connected, None));
}

#[test]
fn a_successor_that_fails_leaves_the_old_connection_as_it_was() {
    for end in [End::Fault(Fault::new(Step::Connect, FaultKind::Refused)), End::Goodbye(Close::Timeout)] {
        let mut rig = bench(|_| ());
        let old = connected(&mut rig);
        let new = ask(&mut rig);
        rig.gone(new, end);
        assert_eq!((rig.told(), rig.closed()), (vec![Told::Failed], vec![]));
        assert_eq!(rig.standing(1), Standing::Connected);
        let again = rig.ask(Command::Replace(peer(1)));
        assert!(matches!(again, Answer::No(Refusal::Backoff { .. })), "not in a loop: {again:?}");
        rig.seconds(10);
        let new = ask(&mut rig);
        rig.ask(Command::Cancel(peer(1)));
        assert_eq!(rig.closed(), [(new, Close::Requested)]);
        rig.gone(new, End::Asked);
        rig.gone(old, End::Fault(Fault::new(Step::Live, FaultKind::Reset)));
        assert_eq!(
            rig.standing(1),
            Standing::Dialing,
            "its failures are not the peer's: the redial comes at once"
        );
    }
}

#[test]
fn an_offer_without_a_confirm_replaces_nothing() {
    let mut rig = bench(|_| ());
    let old = connected(&mut rig);
    let new = rig.arrive(at(1)).expect("room");
    rig.saw(Fact::Met { conn: new, key: peer(1).key, at: at(1), greeting: hello(1, true) });
    rig.seconds(6);
    assert_eq!(rig.closed(), [(new, Close::Timeout)]);
    rig.gone(new, End::Asked);
    assert_eq!(rig.standing(1), Standing::Connected);
    assert!(rig.core.view().conn(old).is_some_and(|conn| conn.stage == Stage::Up));
}

#[test]
fn a_replacement_is_refused_where_it_makes_no_sense() {
    let mut rig = bench(|_| ());
    assert_eq!(rig.ask(Command::Replace(peer(1))), Answer::No(Refusal::Unknown));
    rig.want(1);
    assert_eq!(rig.ask(Command::Replace(peer(1))), Answer::No(Refusal::NotNow));
    let mut rig = bench(|_| ());
    connected(&mut rig);
    ask(&mut rig);
    assert_eq!(rig.ask(Command::Replace(peer(1))), Answer::No(Refusal::AlreadyConnected), "one at a time");
    let mut rig = bench(|c| c.limits.per_peer = 1);
    connected(&mut rig);
    assert_eq!(rig.ask(Command::Replace(peer(1))), Answer::No(Refusal::Full(Limit::PerPeer)));
    let mut rig = bench(|c| c.rules[0].duplicates = Duplicates::HoldAndConfirm);
    connected(&mut rig);
    assert_eq!(rig.ask(Command::Replace(peer(1))), Answer::No(Refusal::NotNow), "its hello has no mark");
}

#[test]
fn without_arbitration_the_dialler_closes_the_old_one_itself() {
    let mut rig = bench(|c| c.rules[0].duplicates = Duplicates::Allowed);
    let old = connected(&mut rig);
    let new = ask(&mut rig);
    rig.saw(Fact::Met { conn: new, key: peer(1).key, at: at(1), greeting: None });
    assert_eq!(rig.closed(), []);
    rig.saw(Fact::Ready { conn: new });
    assert_eq!(rig.closed(), [(old, Close::Replaced)]);
}

#[test]
fn whoever_asks_one_connection_remains_and_it_is_the_new_one() {
    for seed in 0..400 {
        let mut world = World::new(2, seed, |_| ());
        world.want(0, 1);
        world.want(1, 0);
        world.run_for(Duration::from_secs(40));
        let old = world.links(0, 1);
        assert_eq!(old.len(), 1);
        for (asker, bit) in [(0, 1), (1, 2)] {
            if (seed % 3 + 1) & bit != 0 {
                let answer = world.command(asker, Command::Replace(Who::mesh(key(1 - asker))));
                let overtaken = asker == 1 && answer == Answer::No(Refusal::AlreadyConnected);
                assert!(overtaken || matches!(answer, Answer::Begun(_)), "{answer:?}");
                for _ in 0..seed / 3 % 4 {
                    world.tick();
                }
            }
        }
        world.run_for(Duration::from_secs(40));
        let new = world.links(0, 1);
        assert_eq!(new.len(), 1, "seed {seed}");
        assert_ne!(new, old, "seed {seed}");
        world.replay_all();
    }
}
