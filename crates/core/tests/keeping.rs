//! Wishes, what is learned, and the target: what each changes, what is written down, and what it must not change.

use crate::rig::{Rig, addr, addrs, at, peer};
use peerkeep_core::*;
use std::time::Duration;

fn learn(rig: &mut Rig, n: u8, one: Addr, source: Source) {
    rig.saw(Fact::Learned { who: peer(n), addrs: addrs(&[one]), source });
}

fn stored(rig: &Rig) -> usize {
    rig.out.iter().filter(|effect| matches!(effect, Effect::Store { .. })).count()
}

/// Brings a peer to `GaveUp`: the budget is two attempts.
fn give_up(rig: &mut Rig, n: u8) {
    rig.connect(n);
    for _ in 0..2 {
        let conn = rig.dialled().expect("a dial");
        rig.fail(conn, FaultKind::Refused);
        if rig.standing(n) != Standing::GaveUp {
            rig.seconds(3);
        }
    }
    assert_eq!(rig.standing(n), Standing::GaveUp);
}

fn two_attempts() -> Rig {
    Rig::new(|c| c.rules[0].backoff.max_attempts = 2)
}

fn waiting(rig: &mut Rig, n: u8) {
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Refused);
    assert_eq!(rig.standing(n), Standing::Waiting);
}

#[test]
fn a_wish_is_written_down_once_and_when_it_ends() {
    let mut rig = Rig::new(|_| ());
    learn(&mut rig, 1, at(1), Source::Stored);
    assert_eq!(stored(&rig), 0, "it came from there");
    learn(&mut rig, 2, at(2), Source::Told);
    assert_eq!(stored(&rig), 1);
    let want = |rig: &mut Rig| {
        rig.ask(Command::Want { who: peer(1), addrs: Addrs::new(), named: false });
        stored(rig)
    };
    assert_eq!(want(&mut rig), 1);
    assert_eq!(want(&mut rig), 0, "nothing new");
    rig.ask(Command::Unwant(peer(1)));
    assert_eq!(stored(&rig), 1);
    rig.ask(Command::Hold { who: peer(1), on: true });
    assert_eq!(stored(&rig), 1);
}

#[test]
fn what_is_new_is_discovered_unless_it_comes_from_our_own_store() {
    let mut rig = Rig::new(|_| ());
    for (n, source, is_told) in
        [(1, Source::Stored, false), (2, Source::Told, true), (3, Source::Gossip, true)]
    {
        learn(&mut rig, n, addr(&format!("20.1.1.{n}:1")), source);
        assert_eq!(rig.told().contains(&Told::Discovered), is_told, "{source:?}");
        learn(&mut rig, n, addr(&format!("20.1.2.{n}:1")), source);
        assert!(!rig.told().contains(&Told::Discovered), "once");
    }
}

#[test]
fn a_wish_gives_whom_was_given_up_a_new_budget_and_nobody_else() {
    let mut rig = two_attempts();
    give_up(&mut rig, 1);
    rig.want(1);
    assert!(rig.told().contains(&Told::Dialing { attempt: 1 }), "{:?}", rig.told());

    let mut rig = two_attempts();
    rig.connect(1);
    waiting(&mut rig, 1);
    let due = rig.contact(1).expect("known").retry_at;
    assert_eq!(rig.want(1), Answer::Done);
    let contact = rig.contact(1).expect("known");
    assert_eq!((contact.retry_at, contact.failures), (due, 1), "it waits as it did");
    assert_eq!(rig.dialled(), None);
}

#[test]
fn a_wish_for_whom_is_connected_or_on_the_way_changes_nothing_about_that() {
    let mut rig = Rig::new(|_| ());
    let up = rig.up(1);
    assert_eq!(rig.want(1), Answer::Done);
    assert_eq!((rig.standing(1), rig.dialled()), (Standing::Connected, None));
    rig.connect(2);
    assert_eq!(rig.want(2), Answer::Done);
    assert_eq!((rig.standing(2), rig.dialled()), (Standing::Dialing, None));
    assert!(rig.core.view().conn(up).is_some_and(|conn| conn.stage == Stage::Up));
}

#[test]
fn a_wish_that_ends_ends_the_waiting_and_nothing_that_others_want() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    waiting(&mut rig, 1);
    assert_eq!(rig.ask(Command::Unwant(peer(1))), Answer::Done);
    assert_eq!(rig.standing(1), Standing::Idle);
    assert_eq!(rig.ask(Command::Unwant(peer(1))), Answer::No(Refusal::NotNow));
    rig.seconds(60);
    assert_eq!(rig.dialled(), None);

    rig.connect(2);
    waiting(&mut rig, 2);
    rig.want(2);
    rig.ask(Command::Unwant(peer(2)));
    assert_eq!(rig.standing(2), Standing::Waiting, "somebody asked for it as well");
    rig.seconds(60);
    assert!(rig.dialled().is_some());

    rig.want(3);
    let conn = rig.dialled().expect("a dial");
    rig.ask(Command::Unwant(peer(3)));
    assert_eq!(rig.standing(3), Standing::Dialing, "what has begun goes on");
    rig.answer(conn, 3);
    assert_eq!(rig.standing(3), Standing::Connected);

    let mut rig = Rig::new(|c| c.limits.outbound = 1);
    rig.connect(1);
    rig.want(2);
    assert_eq!(rig.standing(2), Standing::Queued(Limit::Outbound));
    rig.ask(Command::Unwant(peer(2)));
    assert_eq!(rig.standing(2), Standing::Idle);
}

/// An inbound conn that is agreed but not confirmed waits by itself.
#[test]
fn a_wish_that_ends_leaves_an_offer_alone() {
    let mut rig = Rig::new(|_| ());
    let offered = rig.arrive(at(1)).expect("room");
    rig.hello(offered, 1, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    assert_eq!(rig.standing(1), Standing::Waiting);
    assert_eq!(rig.want(1), Answer::Done);
    rig.ask(Command::Unwant(peer(1)));
    assert_eq!(rig.standing(1), Standing::Waiting);
    assert_eq!(rig.ask(Command::Retry(peer(1))), Answer::No(Refusal::NotNow));
    rig.saw(Fact::Ready { conn: offered });
    assert_eq!(rig.standing(1), Standing::Connected);
}

#[test]
fn a_retry_needs_a_failure_and_no_connection_and_is_no_second_wish() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    waiting(&mut rig, 1);
    assert!(matches!(rig.ask(Command::Retry(peer(1))), Answer::Begun(_)), "not waiting for the backoff");
    assert!(!rig.contact(1).expect("known").asked, "it is wanted anyway");
    waiting(&mut rig, 1);
    let offered = rig.arrive(at(1)).expect("room");
    rig.hello(offered, 1, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    assert_eq!(rig.ask(Command::Retry(peer(1))), Answer::No(Refusal::NotNow), "one is on its way in");

    learn(&mut rig, 2, at(2), Source::Told);
    assert_eq!(rig.ask(Command::Retry(peer(2))), Answer::No(Refusal::NotNow), "nothing failed");
    rig.connect(3);
    waiting(&mut rig, 3);
    rig.ask(Command::Cancel(peer(3)));
    assert!(!rig.contact(3).expect("known").asked);
    assert!(matches!(rig.ask(Command::Retry(peer(3))), Answer::Begun(_)));
    assert!(rig.contact(3).expect("known").asked, "otherwise it is a wish");
}

#[test]
fn only_whom_nobody_wants_and_who_is_gone_can_be_forgotten() {
    let mut rig = Rig::new(|_| ());
    let forget = |rig: &mut Rig, n| rig.ask(Command::Forget(peer(n)));
    let up = rig.up(1);
    assert_eq!(forget(&mut rig, 1), Answer::No(Refusal::NotNow), "connected");
    rig.ask(Command::Disconnect(peer(1)));
    assert_eq!(forget(&mut rig, 1), Answer::No(Refusal::NotNow), "not gone yet");
    rig.gone(up, End::Asked);
    assert_eq!(forget(&mut rig, 1), Answer::Done);
    assert!(rig.contact(1).is_some_and(|contact| contact.forgotten) && stored(&rig) == 1, "one last look");
    rig.step(Action::Wake);
    assert!(rig.contact(1).is_none());
    rig.ask(Command::Want { who: peer(2), addrs: Addrs::new(), named: false });
    assert_eq!(forget(&mut rig, 2), Answer::No(Refusal::NotNow), "wanted");
    assert_eq!(forget(&mut rig, 3), Answer::No(Refusal::Unknown));
}

#[test]
fn hearsay_about_us_or_about_a_mere_address_is_nothing() {
    let mut rig = Rig::new(|_| ());
    let public = addr("20.1.1.1:1");
    let mut saw = |who, source| {
        rig.saw(Fact::Learned { who, addrs: addrs(&[public]), source });
        rig.core.view().contacts().count()
    };
    let by_address = Who::mesh(PeerKey::from_addr(public));
    for source in [Source::Gossip, Source::Told, Source::Stored] {
        assert_eq!(saw(Who::mesh(crate::rig::ME), source), 0, "{source:?}: we know who we are");
    }
    assert_eq!(saw(by_address, Source::Gossip), 0);
    assert_eq!(saw(by_address, Source::Told), 1, "an operator may name an address");
    assert_eq!(saw(peer(1), Source::Gossip), 2);
}

#[test]
fn fault_f14_hearsay_neither_crowds_out_nor_displaces_what_is_known_better() {
    let mut rig = Rig::new(|c| c.limits.contacts = 4);
    let (told, heard) = (addr("20.1.1.1:1"), addr("20.1.2.1:1"));
    learn(&mut rig, 1, told, Source::Told);
    learn(&mut rig, 1, heard, Source::Gossip);
    let known: Vec<Addr> = rig.contact(1).expect("known").addrs.iter().map(|known| known.addr).collect();
    assert_eq!(known, [told]);
    learn(&mut rig, 1, heard, Source::Told);
    assert_eq!(rig.contact(1).expect("known").addrs.len(), 2, "by the peer itself");
    for n in 2..5 {
        learn(&mut rig, n, addr(&format!("20.1.3.{n}:1")), Source::Told);
    }
    learn(&mut rig, 5, heard, Source::Gossip);
    assert!(
        rig.contact(5).is_none() && (1..5).all(|n| rig.contact(n).is_some()),
        "nobody makes room for hearsay"
    );
    rig.ask(Command::Cancel(peer(4)));
    rig.connect(4);
    let conn = rig.dialled().expect("a dial");
    rig.ask(Command::Reset(peer(4)));
    rig.gone(conn, End::Asked);
    learn(&mut rig, 5, heard, Source::Gossip);
    assert!(rig.contact(5).is_some() && rig.contact(4).is_none(), "but whoever rests does");
}

#[test]
fn news_from_the_peer_itself_revives_whom_was_given_up_and_hearsay_does_not() {
    let mut rig = two_attempts();
    give_up(&mut rig, 1);
    let fresh = |n: u8| addr(&format!("20.1.9.{n}:1"));
    learn(&mut rig, 1, fresh(1), Source::Gossip);
    assert_eq!(rig.standing(1), Standing::GaveUp);
    learn(&mut rig, 1, fresh(2), Source::Told);
    assert_eq!((rig.standing(1), rig.contact(1).expect("known").failures), (Standing::Idle, 0));
}

#[test]
fn an_address_for_whom_is_wanted_without_one_is_dialled_at_once() {
    let mut rig = Rig::new(|_| ());
    let want = Command::Want { who: peer(1), addrs: Addrs::new(), named: false };
    assert_eq!(rig.ask(want), Answer::Queued(Refusal::NoAddress));
    learn(&mut rig, 1, at(1), Source::Told);
    assert!(rig.dialled().is_some());
    learn(&mut rig, 1, at(2), Source::Told);
    assert_eq!(rig.dialled(), None, "one dial at a time");
    learn(&mut rig, 2, at(3), Source::Told);
    assert_eq!(rig.dialled(), None, "nobody wants this one");
}

#[test]
fn a_peer_has_eight_contacts_at_most_and_each_once() {
    let mut rig = Rig::new(|_| ());
    for n in 1..=12 {
        learn(&mut rig, n, at(n), Source::Told);
    }
    let bind = |rig: &mut Rig, a, b| _ = rig.saw(Fact::Bound { a: peer(a), b: peer(b) }).len();
    // A ban of one key shows who is one peer with it.
    let banned = |rig: &mut Rig, n| -> Vec<u8> {
        rig.ask(Command::Ban { target: Target::Key(peer(n).key), span: None });
        let all = (1..=12).filter(|n| rig.contact(*n).is_some_and(|c| c.banned_until.is_some())).collect();
        rig.ask(Command::Unban(Target::Key(peer(n).key)));
        all
    };
    bind(&mut rig, 1, 2);
    bind(&mut rig, 2, 1);
    assert_eq!(banned(&mut rig, 1), [1, 2], "proven twice is proven once");
    bind(&mut rig, 3, 4);
    bind(&mut rig, 4, 5);
    bind(&mut rig, 5, 6);
    bind(&mut rig, 6, 7);
    bind(&mut rig, 2, 3);
    assert_eq!(banned(&mut rig, 7), [1, 2, 3, 4, 5, 6, 7]);
    bind(&mut rig, 8, 9);
    bind(&mut rig, 9, 1);
    assert_eq!(banned(&mut rig, 1), [1, 2, 3, 4, 5, 6, 7], "nine would be too many");
    bind(&mut rig, 10, 1);
    assert_eq!(banned(&mut rig, 10), [1, 2, 3, 4, 5, 6, 7, 10], "eight are not");
    bind(&mut rig, 11, 1);
    assert_eq!(banned(&mut rig, 11), [11]);
    for n in [4, 1] {
        rig.ask(Command::Forget(peer(n)));
        rig.step(Action::Wake);
    }
    assert_eq!(banned(&mut rig, 7), [2, 3, 5, 6, 7, 10], "the others stay one peer");
}

/// The target counts who is connected, dialled, or in the queue for a slot.
#[test]
fn the_target_is_filled_exactly_and_by_nobody_while_offline_or_going_down() {
    let filled = |rig: &mut Rig, effects: Vec<Effect>| {
        let dials = effects.iter().filter(|effect| matches!(effect, Effect::Dial { .. })).count();
        (dials, rig.core.view().conns().count())
    };
    let known = |tweak: fn(&mut Rig)| {
        let mut rig = Rig::new(|c| c.rules[0].target = 3);
        tweak(&mut rig);
        for n in 1..=6 {
            learn(&mut rig, n, at(n), Source::Told);
        }
        let effects = rig.seconds(5);
        (filled(&mut rig, effects), rig)
    };
    let ((_, conns), mut rig) = known(|_| ());
    assert_eq!(conns, 3);
    let conns: Vec<ConnRef> = rig.core.view().conns().map(|conn| conn.conn).collect();
    rig.fail(conns[0], FaultKind::Refused);
    assert_eq!(rig.core.view().conns().count(), 3, "the next one takes its place");
    let ((_, conns), mut rig) = known(|rig| _ = rig.step(Action::Network(Change::Offline)));
    assert_eq!((conns, rig.core.next_wake()), (0, None), "and nothing spins");
    rig.step(Action::Network(Change::Online));
    rig.seconds(1);
    assert_eq!(rig.core.view().conns().count(), 3);
    let ((_, conns), rig) = known(|rig| _ = rig.ask(Command::Shutdown));
    assert_eq!((conns, rig.core.next_wake()), (0, None));
}

#[test]
fn a_pause_after_a_local_fault_holds_back_the_target_until_it_is_over() {
    let mut rig = Rig::new(|c| c.rules[0].target = 1);
    rig.connect(9);
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Resources);
    rig.ask(Command::Reset(peer(9)));
    learn(&mut rig, 1, at(1), Source::Told);
    assert_eq!((rig.dialled(), rig.standing(1)), (None, Standing::Idle));
    let wake = rig.core.next_wake().expect("it looks again");
    assert!(wake > rig.now, "when the pause is over, not at once");
    let effects = rig.pass(Duration::from_millis(1_002));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Dial { .. })));
}

#[test]
fn nobody_is_picked_for_the_target_while_offline_or_while_others_wait_for_a_slot() {
    let mut rig = Rig::new(|c| c.rules[0].target = 3);
    rig.step(Action::Network(Change::Offline));
    learn(&mut rig, 1, at(1), Source::Told);
    rig.seconds(1);
    assert_eq!(rig.standing(1), Standing::Idle);

    let mut rig = Rig::new(|c| {
        c.rules[0].target = 3;
        c.limits.outbound = 1;
    });
    rig.connect(1);
    rig.connect(2);
    assert_eq!(rig.standing(2), Standing::Queued(Limit::Outbound));
    learn(&mut rig, 3, at(3), Source::Told);
    rig.seconds(1);
    assert_eq!(rig.standing(3), Standing::Idle, "who was asked for comes first");
}

#[test]
fn who_waits_for_a_crowded_address_counts_for_the_target() {
    let mut rig = Rig::new(|c| {
        c.rules[0].target = 2;
        c.limits.per_ip = 1;
    });
    for n in 1..4 {
        learn(&mut rig, n, addr(&format!("20.1.1.1:{n}")), Source::Told);
    }
    let standings = [1, 2, 3].map(|n| rig.standing(n));
    assert_eq!(standings, [Standing::Dialing, Standing::Queued(Limit::PerIp), Standing::Idle]);
}

#[test]
fn who_was_picked_and_waits_is_left_alone_when_the_target_is_met_meanwhile() {
    let mut rig = Rig::new(|c| {
        c.preference = Preference::Identity;
        c.rules[0].target = 1;
    });
    learn(&mut rig, 1, at(1), Source::Told);
    assert_eq!(rig.standing(1), Standing::Waiting, "it is their turn");
    rig.inbound(2, 1).expect("room");
    let effects = rig.seconds(5);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Dial { .. })));
    assert_eq!(rig.standing(1), Standing::Idle);
}

#[test]
fn whom_was_given_up_stays_so_while_somebody_else_is_connected() {
    let mut rig = Rig::new(|c| {
        c.rules[0].target = 2;
        c.rules[0].backoff.max_attempts = 2;
        c.rules[0].liveness = Liveness::Transport;
    });
    rig.inbound(5, 1).expect("room");
    give_up(&mut rig, 1);
    let effects = rig.seconds(300);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Dial { .. })));
    let conn = rig.contact(5).and_then(|contact| contact.conn).expect("connected");
    rig.ask(Command::Disconnect(peer(5)));
    rig.gone(conn, End::Asked);
    rig.ask(Command::Forget(peer(5)));
    rig.step(Action::Wake);
    rig.seconds(31);
    assert_eq!(rig.standing(1), Standing::Dialing, "who is alone tries again");
}

/// Fault K9: the store remembers attempts that failed; whatever happened in this run is truer.
#[test]
fn fault_k9_what_the_store_remembers_counts_unless_something_happened_since() {
    let recall = |rig: &mut Rig| {
        let wait = Duration::from_secs(40);
        rig.saw(Fact::Recalled { who: peer(1), failures: 5, wait });
        rig.contact(1).expect("known").failures
    };
    let mut fresh = Rig::new(|_| ());
    assert_eq!(recall(&mut fresh), 5);
    let mut failed = Rig::new(|_| ());
    failed.want(1);
    waiting(&mut failed, 1);
    assert_eq!(recall(&mut failed), 1);
    let mut lost = Rig::new(|_| ());
    let conn = lost.up(1);
    lost.seconds(10);
    lost.ask(Command::Disconnect(peer(1)));
    lost.gone(conn, End::Asked);
    assert_eq!(recall(&mut lost), 0);
}
