//! The moment a conn turns out to be somebody: what a peer known by address only hands over to the identity behind it,
//! and which epochs are believed.

use crate::rig::{Rig, addr, addrs, at, peer};
use peerkeep_core::*;

fn by_address() -> Who {
    Who::mesh(PeerKey::from_addr(at(1)))
}

fn met(rig: &mut Rig, conn: ConnRef, n: u8, epoch: u64) {
    let greeting = Some(Greeting { epoch, ..Greeting::default() });
    rig.saw(Fact::Met { conn, key: peer(n).key, at: at(1), greeting });
}

/// What the identity behind an address has after it was dialled by that address.
fn heir(before: &[Command], command: Command) -> ContactView {
    let mut rig = Rig::new(|_| ());
    rig.saw(Fact::Learned { who: peer(1), addrs: addrs(&[at(9)]), source: Source::Told });
    for command in before {
        rig.ask(command.clone());
    }
    rig.ask(command);
    let conn = match rig.dialled() {
        Some(conn) => conn,
        None => {
            let conn = rig.core.view().conns().next().expect("names are looked up").conn;
            rig.saw(Fact::Resolved { conn, addrs: addrs(&[at(1)]) });
            conn
        }
    };
    met(&mut rig, conn, 1, 500);
    let view = rig.core.view();
    assert!(view.find(&by_address()).and_then(|old| view.contact(old)).is_none_or(|old| old.forgotten));
    rig.contact(1).expect("known")
}

#[test]
fn an_identity_takes_over_what_was_asked_of_its_address_and_no_more() {
    let connect = || Command::Connect { who: by_address(), addrs: addrs(&[at(1)]), named: false };
    let want = |named| Command::Want { who: by_address(), addrs: addrs(&[at(1)]), named };
    let hold = || Command::Hold { who: by_address(), on: true };
    let seen = |c: &ContactView| (c.wanted, c.asked, c.held, c.named);
    assert_eq!(seen(&heir(&[], connect())), (false, true, false, false));
    assert_eq!(seen(&heir(&[], want(false))), (true, false, false, false));
    assert_eq!(seen(&heir(&[], want(true))), (true, false, false, true));
    let known = Command::Want { who: by_address(), addrs: Addrs::new(), named: false };
    assert_eq!(seen(&heir(&[known, hold()], connect())), (true, true, true, false));
    let both = heir(&[], connect());
    let known: Vec<Addr> = both.addrs.iter().map(|known| known.addr).collect();
    assert!(known.contains(&at(1)) && known.contains(&at(9)), "the addresses of both: {known:?}");
}

#[test]
fn what_the_identity_already_has_stays() {
    let mut rig = Rig::new(|c| c.limits.outbound = 1);
    rig.ask(Command::Connect { who: by_address(), addrs: addrs(&[at(1)]), named: false });
    let conn = rig.dialled().expect("a dial");
    rig.ask(Command::Want { who: peer(1), addrs: Addrs::new(), named: true });
    rig.ask(Command::Hold { who: peer(1), on: true });
    met(&mut rig, conn, 1, 500);
    let contact = rig.contact(1).expect("known");
    assert_eq!((contact.wanted, contact.asked, contact.held, contact.named), (true, true, true, true));
}

/// Fault H15: an epoch up to the documented end is believed, and no later one.
#[test]
fn fault_h15_the_last_epoch_is_one_and_the_next_is_a_lie() {
    for (epoch, is_one) in [(1, true), (MAX_EPOCH, true), (MAX_EPOCH + 1, false)] {
        let mut rig = Rig::new(|_| ());
        let conn = rig.arrive(at(1)).expect("room");
        met(&mut rig, conn, 1, epoch);
        assert_eq!(rig.out.contains(&Effect::Admit { conn }), is_one, "inbound {epoch}");
        let mut rig = Rig::new(|_| ());
        rig.connect(1);
        let conn = rig.dialled().expect("a dial");
        met(&mut rig, conn, 1, epoch);
        assert_eq!(rig.out.contains(&Effect::Admit { conn }), is_one, "outbound {epoch}");
    }
    let mut rig = Rig::new(|_| ());
    let conn = rig.arrive(at(1)).expect("room");
    met(&mut rig, conn, 1, 0);
    assert_eq!(rig.turned(conn), Some(Refusal::Stale { newer: 0 }));
}

/// A clock that went back: an epoch of ours that somebody has seen is passed, but nobody can send us to the end of time.
#[test]
fn fault_t2_our_epoch_passes_what_was_seen_within_reach() {
    // Boots that nobody has heard of may have had the next ones.
    let (reach, leap) = (1 << 32, 1 << 16);
    let end = MAX_EPOCH - leap;
    let cases = [
        (1_000, 999, 1_000),
        (1_000, 1_000, 1_000 + leap),
        (1_000, 1_000 + reach - 1, 1_000 + reach - 1 + leap),
        (1_000, 1_000 + reach, 1_000),
        (end - 9, end - 1, MAX_EPOCH - 1),
        (end - 9, end, end - 9),
    ];
    for (mine, newer_epoch, then) in cases {
        let mut rig = Rig::new(|c| c.epoch = mine);
        rig.connect(1);
        let conn = rig.dialled().expect("a dial");
        let (key, retry_after) = (Some(peer(1).key), std::time::Duration::ZERO);
        rig.saw(Fact::Declined { conn, key, at: at(1), code: 1, retry_after, newer_epoch });
        assert_eq!(rig.core.view().epoch(), then, "{mine} told {newer_epoch}");
    }
}

#[test]
fn fault_f14_who_was_known_by_hearsay_is_no_longer_when_he_connects() {
    let mut rig = Rig::new(|c| c.limits.contacts = 4);
    let hear = |rig: &mut Rig, n: u8| {
        let addrs = addrs(&[addr(&format!("20.1.{n}.1:1"))]);
        rig.saw(Fact::Learned { who: peer(n), addrs, source: Source::Gossip });
        rig.contact(n).is_some()
    };
    assert!(hear(&mut rig, 1) && hear(&mut rig, 2) && !hear(&mut rig, 3), "half the table");
    for n in 1..3 {
        rig.inbound(n, 1).expect("room");
    }
    assert!(hear(&mut rig, 3) && hear(&mut rig, 4), "those two are more than hearsay now");
}

/// Step 2 of the rule: what is refused for old names the epoch to pass.
#[test]
fn a_hello_that_is_no_later_than_one_accepted_is_stale_and_says_what_to_pass() {
    for (epoch, dial, newer) in
        [(500, 6, None), (501, 1, None), (500, 5, Some(500)), (500, 4, Some(500)), (400, 9, Some(500))]
    {
        let mut rig = Rig::new(|_| ());
        let first = rig.arrive(at(1)).expect("room");
        rig.hello(first, 1, Greeting { epoch: 500, dial: 5, ..Greeting::default() });
        rig.saw(Fact::Ready { conn: first });
        rig.gone(first, End::Goodbye(Close::Requested));
        let next = rig.arrive(at(1)).expect("room");
        rig.hello(next, 1, Greeting { epoch, dial, ..Greeting::default() });
        assert_eq!(rig.turned(next), newer.map(|newer| Refusal::Stale { newer }), "{epoch}.{dial}");
    }
}
