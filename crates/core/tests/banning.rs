//! The ban table: exact in size, lifted one by one, the same after a checkpoint, and closed by sweeps however many
//! bans come at once.

use crate::rig::{Rig, addr, at, peer};
use peerkeep_core::*;
use std::time::Duration;

fn host(n: u8) -> Target {
    Target::Subnet(Subnet::host(at(n).ip))
}

fn ban(rig: &mut Rig, target: Target) -> Answer {
    rig.ask(Command::Ban { target, span: Some(Duration::from_secs(3_600)) })
}

fn is_banned(rig: &mut Rig, n: u8) -> bool {
    match rig.arrive(at(n)) {
        Ok(conn) => {
            rig.gone(conn, End::Asked);
            false
        }
        Err(why) => matches!(why, Refusal::Banned { .. }),
    }
}

#[test]
fn fault_i6_bans_of_the_same_width_are_lifted_one_by_one() {
    let mut rig = Rig::new(|_| ());
    for n in 1..4 {
        ban(&mut rig, host(n));
    }
    for lifted in 1..4 {
        assert_eq!(rig.ask(Command::Unban(host(lifted))), Answer::Done);
        for n in 1..4 {
            assert_eq!(is_banned(&mut rig, n), n > lifted, "{n} after {lifted}");
        }
    }
    ban(&mut rig, host(2));
    assert!(is_banned(&mut rig, 2) && !is_banned(&mut rig, 1), "the first of its width again");
}

#[test]
fn the_table_holds_exactly_as_many_bans_as_may_be() {
    let mut rig = Rig::new(|c| c.limits.bans = 3);
    for n in 1..4 {
        assert_eq!(ban(&mut rig, host(n)), Answer::Done);
    }
    let full = Answer::No(Refusal::Full(Limit::Bans));
    assert_eq!(ban(&mut rig, host(4)), full);
    assert_eq!(ban(&mut rig, host(3)), Answer::Done, "longer is not one more");
    assert_eq!(rig.core.view().bans().count(), 3);
    rig.ask(Command::Unban(host(1)));
    assert_eq!(rig.core.view().bans().count(), 2);
    assert_eq!(ban(&mut rig, host(4)), Answer::Done);
    assert_eq!(ban(&mut rig, host(5)), full);
}

#[test]
fn a_checkpoint_keeps_the_bans_in_force_and_no_other() {
    let mut rig = Rig::new(|_| ());
    for n in 1..4 {
        ban(&mut rig, host(n));
    }
    rig.ask(Command::Unban(host(2)));
    let mut bytes = Vec::new();
    rig.core.save(&mut bytes);
    rig.core = Core::load(&bytes).expect("a checkpoint");
    assert_eq!([1, 2, 3].map(|n| is_banned(&mut rig, n)), [true, false, true]);
}

/// Fault I5: one sweep is under way when the next ban comes; both are carried out.
#[test]
fn fault_i5_bans_of_several_subnets_at_once_close_all_that_lies_in_them() {
    let mut rig = Rig::new(|c| {
        c.limits.total = 2_000;
        c.limits.inbound = 2_000;
        c.limits.pending = 2_000;
        c.limits.per_subnet = 1_000;
        c.limits.contacts = 10_000;
    });
    let remote = |n: u32| addr(&format!("10.{}.{}.1:1", n % 3, n));
    let mut conns = Vec::new();
    for n in 0..240 {
        let conn = rig.arrive(remote(n)).expect("room");
        let key = PeerKey::ed25519([n as u8; 32]);
        if key == rig.core.config().me {
            continue;
        }
        let greeting = Some(Greeting { epoch: 500, dial: 1, ..Greeting::default() });
        rig.saw(Fact::Met { conn, key, at: remote(n), greeting });
        rig.saw(Fact::Ready { conn });
        conns.push((conn, n % 3));
    }
    let net = |n: u8| Target::Subnet(Subnet::new(addr(&format!("10.{n}.0.0:1")).ip, 96 + 16));
    let mut closed = Vec::new();
    for n in 0..2 {
        ban(&mut rig, net(n));
        closed.extend(rig.closed());
    }
    assert!(closed.len() < 100, "a few rows a step");
    rig.seconds(1);
    closed.extend(rig.closed());
    for (conn, net) in conns {
        let why = closed.iter().find(|(closed, _)| *closed == conn).map(|(_, why)| *why);
        assert_eq!(why, (net < 2).then_some(Close::Banned), "{conn} in 10.{net}/16");
    }
}

/// Fault R4: the seed decides what collides and when redials come, all of it.
#[test]
fn fault_r4_every_word_of_the_seed_matters() {
    let run = |seed: [u8; 32]| {
        let mut config = Config::new(peer(100).key, 1_000);
        config.rules[0].target = 0;
        let core = Core::new(config, seed, Time(0)).expect("a config");
        let mut rig = Rig::new(|_| ());
        rig.core = core;
        rig.connect(1);
        let conn = rig.dialled().expect("a dial");
        rig.fail(conn, FaultKind::Refused);
        rig.contact(1).expect("known").retry_at
    };
    let base = run([0; 32]);
    assert_eq!(base, run([0; 32]));
    for word in 0..3 {
        let mut seed = [0; 32];
        seed[word * 8] = 1;
        assert_ne!(run(seed), base, "word {word}");
    }
}

#[test]
fn whom_a_subnets_ban_kept_away_is_dialled_again_within_a_minute_of_its_end() {
    let mut rig = Rig::new(|_| ());
    ban(&mut rig, host(1));
    assert!(matches!(rig.want(1), Answer::Queued(Refusal::Banned { .. })));
    rig.seconds(90);
    assert_eq!(rig.dialled(), None);
    rig.ask(Command::Unban(host(1)));
    rig.seconds(61);
    assert_eq!(rig.standing(1), Standing::Dialing);
}

#[test]
fn a_candidate_behind_a_ban_is_looked_at_once_and_not_in_a_loop() {
    let mut rig = Rig::new(|c| c.rules[0].target = 1);
    ban(&mut rig, host(1));
    let addrs = [at(1)].into_iter().collect();
    rig.saw(Fact::Learned { who: peer(1), addrs, source: Source::Told });
    let wakes = rig.core.stats().actions;
    assert!(rig.seconds(60).iter().all(|effect| !matches!(effect, Effect::Dial { .. })));
    assert!(rig.core.stats().actions - wakes < 10);
}

#[test]
fn nothing_is_learned_about_a_banned_key() {
    let mut rig = Rig::new(|_| ());
    ban(&mut rig, Target::Key(peer(1).key));
    let addrs = [at(1)].into_iter().collect();
    rig.saw(Fact::Learned { who: peer(1), addrs, source: Source::Told });
    assert!(rig.contact(1).is_none());
}
