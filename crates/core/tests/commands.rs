//! What the commands promise from every standing: reset, connect again, retry, and a thousand peers who do not notice
//! each other. Through the public door only.

use crate::rig::{Rig, addr, addrs, at, peer};
use peerkeep_core::*;
use std::collections::BTreeSet;
use std::time::Duration;

type Setup = fn(&mut Rig);

/// How to bring peer 1 to each standing, with a budget of two attempts and one outbound slot.
const STANDINGS: [(&str, Setup, Standing); 7] = [
    ("known", learned, Standing::Idle),
    ("queued", queued, Standing::Queued(Limit::Outbound)),
    ("in its backoff", waiting, Standing::Waiting),
    ("offered", offered, Standing::Waiting),
    ("dialling", dialling, Standing::Dialing),
    ("connected", connected, Standing::Connected),
    ("given up", given_up, Standing::GaveUp),
];

fn learned(rig: &mut Rig) {
    rig.saw(Fact::Learned { who: peer(1), addrs: addrs(&[at(1)]), source: Source::Told });
}

fn queued(rig: &mut Rig) {
    rig.connect(2);
    rig.connect(1);
}

fn waiting(rig: &mut Rig) {
    rig.connect(1);
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Refused);
}

fn offered(rig: &mut Rig) {
    let conn = rig.arrive(at(1)).expect("room");
    rig.hello(conn, 1, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
}

fn dialling(rig: &mut Rig) {
    rig.connect(1);
}

fn connected(rig: &mut Rig) {
    rig.up(1);
}

fn given_up(rig: &mut Rig) {
    waiting(rig);
    rig.seconds(3);
    let conn = rig.dialled().expect("the second attempt");
    rig.fail(conn, FaultKind::Refused);
}

fn small(config: &mut Config) {
    config.limits.outbound = 1;
    config.rules[0].backoff.max_attempts = 2;
}

#[test]
fn s0_7_s0_23_s0_32_reset_ends_everything_from_every_standing() {
    for (name, set_up, standing) in STANDINGS {
        let mut rig = Rig::new(small);
        set_up(&mut rig);
        assert_eq!(rig.standing(1), standing, "{name}");
        let live: Vec<ConnRef> = rig
            .core
            .view()
            .conns()
            .filter(|conn| conn.contact == rig.core.view().find(&peer(1)))
            .map(|conn| conn.conn)
            .collect();
        assert_eq!(rig.ask(Command::Reset(peer(1))), Answer::Done, "{name}");
        assert_eq!(rig.standing(1), Standing::Idle, "{name}");
        let closed: Vec<ConnRef> = rig.closed().into_iter().map(|(conn, _)| conn).collect();
        assert_eq!(closed, live, "{name}: its socket is closed and no other");
        let contact = rig.contact(1).expect("its addresses are kept");
        assert_eq!((contact.failures, contact.retry_at, contact.last_fault), (0, None, None), "{name}");
        // The one that kept the slot, if any, is of no more use to this test.
        rig.ask(Command::Reset(peer(2)));
        for conn in rig.core.view().conns().map(|conn| conn.conn).collect::<Vec<_>>() {
            rig.gone(conn, End::Asked);
        }
        assert_eq!(rig.slots(), 0, "{name}");
        rig.step(Action::Wake);
        assert_eq!(rig.core.next_wake(), None, "{name}: no timer is left");
        rig.seconds(3_600);
        assert_eq!(rig.dialled(), None, "{name}: and nothing begins by itself");
        assert_eq!(rig.standing(1), Standing::Idle, "{name}");
        assert!(matches!(rig.connect(1), Answer::Begun(_)), "{name}");
        assert!(rig.told().contains(&Told::Dialing { attempt: 1 }), "{name}: the attempts were forgotten");
    }
    assert_eq!(
        Rig::new(small).ask(Command::Reset(peer(1))),
        Answer::No(Refusal::Unknown),
        "no entry, no reset"
    );
}

#[test]
fn s0_23_reset_leaves_a_lasting_wish_which_starts_anew() {
    let mut rig = Rig::new(|_| ());
    rig.want(1);
    for _ in 0..3 {
        let conn = rig.dialled().expect("a dial");
        rig.fail(conn, FaultKind::Refused);
        rig.seconds(10);
    }
    rig.ask(Command::Reset(peer(1)));
    assert!(rig.told().contains(&Told::Dialing { attempt: 1 }), "{:?}", rig.told());
}

fn dials_until_quiet(rig: &mut Rig, after_each: impl Fn(&mut Rig)) -> u32 {
    let mut dials = 0;
    while let Some(conn) = rig.dialled() {
        dials += 1;
        rig.fail(conn, FaultKind::Refused);
        after_each(rig);
        rig.seconds(3_600);
    }
    dials
}

#[test]
fn s0_27_connecting_again_is_no_way_around_the_budget_until_it_is_spent() {
    let mut rig = Rig::new(|c| c.rules[0].backoff.max_attempts = 3);
    rig.connect(1);
    let dials = dials_until_quiet(&mut rig, |rig| {
        if rig.standing(1) == Standing::Waiting {
            let failures = rig.contact(1).expect("known").failures;
            assert!(matches!(rig.connect(1), Answer::Queued(Refusal::Backoff { .. })));
            assert_eq!(rig.dialled(), None);
            assert_eq!(rig.contact(1).expect("known").failures, failures, "the budget is not widened");
        }
    });
    assert_eq!((dials, rig.standing(1)), (3, Standing::GaveUp));
    assert!(matches!(rig.connect(1), Answer::Begun(_)), "whoever asks after that asks for a new budget");
    assert!(rig.told().contains(&Told::Dialing { attempt: 1 }));
    assert_eq!(dials_until_quiet(&mut rig, |_| ()), 3);
    assert_eq!(rig.standing(1), Standing::GaveUp);
}

#[test]
fn s0_34_a_connect_is_attempt_one_of_the_profiles_maximum_at_the_actions_time() {
    let default = Rig::new(|_| ());
    assert_eq!(default.core.config().rules[0].backoff.max_attempts, 8);
    for (mut rig, most) in [(Rig::literal(), 3), (default, 8)] {
        rig.now = Time::from_millis(77);
        rig.connect(1);
        let contact = rig.contact(1).expect("known");
        assert_eq!((contact.max_attempts, contact.since, contact.failures), (most, rig.now, 0));
        assert_eq!(contact.standing, Standing::Dialing);
        assert!(rig.told().contains(&Told::Dialing { attempt: 1 }));
    }
}

#[test]
fn s0_42_s0_43_a_retry_is_one_more_attempt_and_one_dial_to_the_same_addresses() {
    let mut rig = Rig::new(|_| ());
    rig.ask(Command::Connect { who: peer(1), addrs: addrs(&[at(1), at(2)]), named: false });
    let first = rig.dialled().expect("a dial");
    let addresses = rig.core.view().dial(first).expect("what to dial").addrs;
    let most = rig.contact(1).expect("known").max_attempts;
    rig.fail(first, FaultKind::Refused);
    assert!(matches!(rig.ask(Command::Retry(peer(1))), Answer::Begun(_)));
    let orders = rig.out.iter().filter(|e| matches!(e, Effect::Dial { .. } | Effect::Resolve { .. })).count();
    assert_eq!(orders, 1, "{:?}", rig.out);
    let second = rig.dialled().expect("a dial");
    assert_eq!(rig.core.view().dial(second).expect("what to dial").addrs, addresses);
    assert!(rig.told().contains(&Told::Dialing { attempt: 2 }));
    assert_eq!(rig.contact(1).expect("known").max_attempts, most);
    assert_eq!(rig.standing(1), Standing::Dialing);
}

fn one_of_many(n: u16) -> (Who, Addr) {
    let [high, low] = n.to_be_bytes();
    let mut bytes = [1; 32];
    bytes[..2].copy_from_slice(&[high, low]);
    (Who::mesh(PeerKey::ed25519(bytes)), addr(&format!("11.{high}.{low}.1:7330")))
}

/// What there is to see about every peer, in the order of names.
fn picture(rig: &Rig) -> Vec<(Who, String)> {
    let mut all: Vec<_> = rig.core.view().contacts().map(|c| (c.who, format!("{c:?}"))).collect();
    all.sort();
    all
}

#[test]
fn s0_69_a_thousand_peers_stand_where_they_stand_whatever_the_others_do() {
    let mut rig = Rig::new(|config| {
        config.limits = Limits {
            total: 2_000,
            outbound: 2_000,
            pending: 2_000,
            dials_per_minute: 5_000,
            ..Limits::default()
        };
        config.rules[0].liveness = Liveness::Transport;
        config.rules[0].backoff.max_attempts = 2;
        config.rules[0].backoff.first = Duration::from_secs(60);
    });
    let connect = |rig: &mut Rig, n| {
        let (who, one) = one_of_many(n);
        rig.ask(Command::Connect { who, addrs: addrs(&[one]), named: false });
        (who, one, rig.dialled().expect("a dial"))
    };
    for n in 0..1_000 {
        let (who, one, conn) = connect(&mut rig, n);
        match n % 5 {
            0 => {}
            1 => {
                let greeting = Some(Greeting { epoch: 500, ..Greeting::default() });
                rig.saw(Fact::Met { conn, key: who.key, at: one, greeting });
                rig.saw(Fact::Ready { conn });
            }
            2 => rig.fail(conn, FaultKind::Refused),
            3 => {
                rig.fail(conn, FaultKind::Refused);
                rig.ask(Command::Retry(who));
                let conn = rig.dialled().expect("a dial");
                rig.fail(conn, FaultKind::Refused);
            }
            _ => {
                rig.ask(Command::Cancel(who));
                rig.gone(conn, End::Asked);
            }
        }
    }
    let expected =
        [Standing::Dialing, Standing::Connected, Standing::Waiting, Standing::GaveUp, Standing::Idle];
    let standing = |rig: &Rig, n: u16| {
        let view = rig.core.view();
        view.contact(view.find(&one_of_many(n).0).expect("known")).expect("known").standing
    };
    for n in 0..1_000 {
        assert_eq!(standing(&rig, n), expected[usize::from(n % 5)], "peer {n}");
    }
    let mut before = picture(&rig);
    for n in (0..1_000).step_by(9) {
        let who = one_of_many(n).0;
        // Nothing is left to reset of those who are idle.
        rig.ask(match n % 2 == 0 && n % 5 != 4 {
            true => Command::Reset(who),
            false => Command::Hold { who, on: true },
        });
        let after = picture(&rig);
        let changed: BTreeSet<Who> =
            before.iter().zip(&after).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
        assert_eq!(changed, BTreeSet::from([who]), "peer {n} and nobody else");
        before = after;
    }
}

/// A bug that was: the wake for the one that gave up was due at once, for ever, while it could not be tried.
#[test]
fn a_node_that_is_alone_waits_for_whom_it_cannot_try_yet_without_spinning() {
    let mut rig = Rig::new(|c| {
        c.rules[0].target = 1;
        c.rules[0].backoff.max_attempts = 1;
    });
    let first = rig.inbound(1, 5).expect("room");
    rig.gone(first, End::Goodbye(Close::Idle));
    let dial = rig.dialled().unwrap_or_else(|| {
        rig.connect(1);
        rig.dialled().expect("a dial")
    });
    rig.fail(dial, FaultKind::Refused);
    assert_eq!(rig.standing(1), Standing::GaveUp);
    // Its refused dial is still on its way out: nothing else can be begun with it yet.
    let stale = rig.arrive(at(1)).expect("room");
    rig.hello(stale, 1, Greeting { epoch: 500, dial: 1, ..Greeting::default() });
    assert!(rig.turned(stale).is_some());
    assert_eq!(rig.standing(1), Standing::GaveUp);
    rig.seconds(120);
    rig.gone(stale, End::Asked);
    rig.seconds(31);
    assert!(rig.dialled().is_some(), "then it is its turn");
}

fn recalled(rig: &mut Rig, n: u8, failures: u16, wait: Duration) {
    rig.saw(Fact::Recalled { who: peer(n), failures, wait });
    rig.saw(Fact::Learned { who: peer(n), addrs: addrs(&[at(n)]), source: Source::Stored });
}

#[test]
fn fault_k9_remembered_failures_keep_us_from_dialling_and_nobody_from_asking() {
    let wait = Duration::from_secs(100);
    let mut rig = Rig::new(|config| config.rules[0].target = 8);
    rig.saw(Fact::Recalled { who: peer(1), failures: 3, wait });
    assert!(matches!(rig.want(1), Answer::Queued(Refusal::Backoff { .. })), "wanted, and not dialled yet");
    recalled(&mut rig, 2, 3, wait);
    rig.pass(wait - Duration::from_secs(1));
    assert_eq!(rig.core.stats().dials, 0, "neither who is wanted nor who would fill the target");
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.core.stats().dials, 2, "their time has come");
    for n in [3, 4] {
        recalled(&mut rig, n, 3, wait);
        let (answer, attempt) = match n {
            3 => (rig.connect(n), 4),
            _ => (rig.ask(Command::Retry(peer(n))), 4),
        };
        assert!(matches!(answer, Answer::Begun(_)), "whoever asks is served at once: {answer:?}");
        let told = rig.out.iter().any(|effect| {
            matches!(effect, Effect::Tell { what: Told::Dialing { attempt: number }, .. } if *number == attempt)
        });
        assert!(told, "with the attempts that are left: {:?}", rig.out);
        let conn = rig.dialled().expect("a dial");
        rig.fail(conn, FaultKind::Refused);
        let again = rig.connect(n);
        assert!(matches!(again, Answer::Queued(Refusal::Backoff { .. })), "as without a restart: {again:?}");
    }
}

#[test]
fn fault_k9_no_remembered_wait_is_longer_than_the_longest_delay() {
    let mut rig = Rig::new(|_| ());
    recalled(&mut rig, 1, u16::MAX, Duration::MAX);
    rig.want(1);
    rig.pass(Duration::from_secs(3_600));
    assert_eq!(rig.core.stats().dials, 1);
    // What happened in this run counts, whatever the store says.
    let conn = rig.dialled().expect("a dial");
    rig.fail(conn, FaultKind::Refused);
    let before = rig.core.canonical(rig.now);
    rig.saw(Fact::Recalled { who: peer(1), failures: 1, wait: Duration::ZERO });
    assert_eq!(rig.core.canonical(rig.now), before);
    // Nor does it say anything of ourselves.
    let me = Who::mesh(rig.core.config().me);
    rig.saw(Fact::Recalled { who: me, failures: 1, wait: Duration::ZERO });
    assert!(rig.core.view().find(&me).is_none());
}
