//! What a step may cost: no allocation once warm and no work that grows with the number of peers, with journal, bans
//! and limits on together. Counted, not timed.

use crate::world::Rng;
use peerkeep_core::*;
use std::time::Duration;

fn who(n: u32) -> Who {
    let mut bytes = [3; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    Who::mesh(PeerKey::ed25519(bytes))
}

fn at(n: u32) -> Addr {
    let [_, b, c, d] = n.to_be_bytes();
    Addr::tcp(std::net::SocketAddr::from(([20, b, c, d], 7_330)))
}

struct Life {
    core: Core,
    now: Time,
    out: Effects,
    journal: Vec<u8>,
    rng: Rng,
    ticket: u32,
    dial: u32,
}

impl Life {
    fn new(contacts: u32) -> Life {
        let mut config = Config::new(PeerKey::ed25519([9; 32]), 1_000);
        config.rules[0].target = 0;
        config.limits.contacts = contacts + 1_000;
        config.limits.per_subnet = 500;
        config.limits.dials_per_minute = 10_000;
        let core = Core::new(config, [1; 32], Time(0)).expect("a config");
        let (out, journal) = (Effects::new(), Vec::with_capacity(1 << 20));
        let mut life = Life { core, now: Time(0), out, journal, rng: Rng(5), ticket: 0, dial: 0 };
        for n in 0..contacts {
            let addrs = [at(n), at(n ^ 0x00ff_ffff)].into_iter().collect();
            life.step(Action::Saw(Fact::Learned { who: who(n), addrs, source: Source::Stored }));
        }
        for n in 0..500 {
            let target = match n % 2 {
                0 => Target::Key(who(1 << 30 | n).key),
                _ => Target::Subnet(Subnet::host(Addr::tcp(([99, 1, 1, (n % 250) as u8], 1).into()).ip)),
            };
            life.step(Action::Do(
                CommandId(n),
                Command::Ban { target, span: Some(Duration::from_secs(9_999)) },
            ));
        }
        life
    }

    fn step(&mut self, action: Action) {
        self.journal.clear();
        journal::append(self.core.digest(), self.now, &action, &mut self.journal);
        self.out.clear();
        self.core.step(self.now, &action, &mut self.out);
    }

    fn conn(&self) -> Option<ConnRef> {
        self.out.as_slice().iter().find_map(|effect| match effect {
            Effect::Dial { conn, .. } | Effect::Accept { conn, .. } => Some(*conn),
            _ => None,
        })
    }

    /// A peer comes, reports and goes; another is dialled and fails; a third is dialled, comes up and is closed.
    fn round(&mut self, contacts: u32) {
        let mut any = || (self.rng.next() % u64::from(contacts)) as u32;
        let (a, b, c) = (any(), any(), any());
        self.now = self.now + Duration::from_millis(20);
        self.ticket += 1;
        self.dial += 1;
        let (ticket, stack) = (Ticket(self.ticket), StackId::Mesh);
        self.step(Action::Saw(Fact::Arrived { ticket, stack, remote: at(a) }));
        if let Some(conn) = self.conn() {
            let greeting = Some(Greeting { epoch: 7, dial: self.dial, ..Greeting::default() });
            self.step(Action::Saw(Fact::Met { conn, key: who(a).key, at: at(a), greeting }));
            self.step(Action::Saw(Fact::Ready { conn }));
            let report = Report { received_at: self.now, ..Report::default() };
            self.step(Action::Saw(Fact::Reported { conn, report }));
            self.step(Action::Saw(Fact::Gone { conn, end: End::Goodbye(Close::Requested) }));
        }
        for (n, comes_up) in [(b, false), (c, true)] {
            self.step(Action::Do(
                CommandId(1),
                Command::Connect { who: who(n), addrs: Addrs::new(), named: false },
            ));
            let Some(conn) = self.conn() else { continue };
            if comes_up {
                let greeting = Some(Greeting { epoch: 7, ..Greeting::default() });
                self.step(Action::Saw(Fact::Met { conn, key: who(n).key, at: at(n), greeting }));
                self.step(Action::Saw(Fact::Ready { conn }));
                self.step(Action::Do(CommandId(2), Command::Disconnect(who(n))));
            }
            self.step(Action::Saw(Fact::Gone { conn, end: End::Asked }));
            self.step(Action::Do(CommandId(3), Command::Reset(who(n))));
        }
        self.step(Action::Wake);
    }
}

#[test]
fn a_warm_step_allocates_nothing_with_journal_bans_and_limits_on() {
    let mut life = Life::new(2_000);
    for _ in 0..6_000 {
        life.round(2_000);
    }
    let allocated = allocation_counter::measure(|| {
        for _ in 0..2_000 {
            life.round(2_000);
        }
    });
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
    assert_eq!(life.core.check(), Ok(()));
}

#[test]
fn no_step_is_proportional_to_the_number_of_peers() {
    let most_work = |contacts: u32| {
        let mut life = Life::new(contacts);
        let mut most = 0;
        for _ in 0..3_000 {
            let before = life.core.work();
            life.round(contacts);
            most = most.max(life.core.work() - before);
        }
        most
    };
    let (small, large) = (most_work(1_000), most_work(300_000));
    assert!(small > 10, "the counter counts: {small}");
    assert!(
        large <= small + small / 4,
        "{small} rows touched in a round among 1,000 peers, {large} among 300,000"
    );
}
