//! Who goes first when a limit was lowered (fault G2): by use, then by age, however the rows lie.

use crate::rig::{ME, Rig, addr, at, peer};
use peerkeep_core::*;
use std::time::Duration;

fn roomy(config: &mut Config) {
    config.rules[0].liveness = Liveness::Transport;
    config.limits.total = 1_000;
    config.limits.inbound = 1_000;
    config.limits.pending = 1_000;
}

fn lower(rig: &mut Rig, inbound: u32) -> Vec<ConnRef> {
    let mut config = rig.core.config().clone();
    config.limits.inbound = inbound;
    assert_eq!(rig.ask(Command::Configure(Box::new(config))), Answer::Done);
    let mut closed = rig.closed();
    rig.pass(Duration::from_millis(200));
    closed.extend(rig.closed());
    assert!(closed.iter().all(|(_, why)| *why == Close::Resources));
    closed.into_iter().map(|(conn, _)| conn).collect()
}

fn use_it(rig: &mut Rig, conn: ConnRef) {
    rig.saw(Fact::Reported { conn, report: Report { channels: 1, ..Report::default() } });
}

#[test]
fn fault_g2_use_counts_for_more_than_age_a_hold_for_more_than_use_a_wish_most() {
    let mut rig = Rig::new(roomy);
    let mut conns = Vec::new();
    for n in 1..=5 {
        conns.push(rig.inbound(n, 1).expect("room"));
        rig.seconds(1);
    }
    use_it(&mut rig, conns[2]);
    rig.ask(Command::Hold { who: peer(4), on: true });
    rig.want(5);
    // The first two are of no use: the newer one goes before the older.
    for (left, next) in [(4, 1), (3, 0), (2, 2), (1, 3)] {
        assert_eq!(lower(&mut rig, left), [conns[next]], "{left} may stay");
        rig.gone(conns[next], End::Asked);
        rig.seconds(1);
    }
    assert_eq!(rig.standing(5), Standing::Connected);
}

#[test]
fn fault_g2_a_full_batch_holds_those_of_least_use_wherever_their_rows_are() {
    for used_come_first in [true, false] {
        let mut rig = Rig::new(roomy);
        let mut useless = Vec::new();
        for n in 0..128 {
            let remote = addr(&format!("10.1.{n}.1:1"));
            let conn = rig.arrive(remote).expect("room");
            let key = PeerKey::ed25519([n as u8 + 101; 32]);
            assert_ne!(key, ME);
            let greeting = Some(Greeting { epoch: 500, dial: 1, ..Greeting::default() });
            rig.saw(Fact::Met { conn, key, at: at(1), greeting });
            rig.saw(Fact::Ready { conn });
            match (n < 64) == used_come_first {
                true => use_it(&mut rig, conn),
                false => useless.push(conn),
            }
        }
        let mut closed = lower(&mut rig, 64);
        closed.sort_unstable();
        useless.sort_unstable();
        assert_eq!(closed, useless, "used first: {used_come_first}");
    }
}
