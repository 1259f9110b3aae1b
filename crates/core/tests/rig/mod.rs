//! One core on a bench: actions in, effects out, invariants checked after every step, everything journalled.
#![allow(dead_code, reason = "each test file uses its own part")]

use peerkeep_core::*;
use std::time::Duration;

pub struct Rig {
    pub core: Core,
    pub now: Time,
    pub out: Vec<Effect>,
    pub journal: Vec<u8>,
    commands: u32,
    tickets: u32,
}

pub const ME: PeerKey = PeerKey::ed25519([100; 32]);

/// A peer whose identity is lower than ours for n < 100, higher above.
pub fn peer(n: u8) -> Who {
    Who::mesh(PeerKey::ed25519([n; 32]))
}

pub fn addr(text: &str) -> Addr {
    Addr::tcp(text.parse().expect("a socket address"))
}

pub fn at(n: u8) -> Addr {
    addr(&format!("10.1.{n}.1:7330"))
}

pub fn addrs(list: &[Addr]) -> Addrs {
    list.iter().copied().collect()
}

pub fn fault(kind: FaultKind) -> Fault {
    Fault::new(Step::Connect, kind)
}

impl Rig {
    pub fn new(tweak: impl FnOnce(&mut Config)) -> Rig {
        let mut config = Config::new(ME, 1_000);
        config.rules[0].target = 0;
        config.preference = Preference::Nobody;
        tweak(&mut config);
        let core = Core::new(config, [7; 32], Time(0)).expect("a config");
        let mut journal = Vec::new();
        journal::begin(&core, 0, &mut journal);
        Rig { core, now: Time(0), out: Vec::new(), journal, commands: 0, tickets: 0 }
    }

    /// Document 000 to the letter: three attempts without delay, one dial at a time.
    pub fn literal() -> Rig {
        Rig::new(|config| config.rules[0].backoff = Backoff::THREE_AT_ONCE)
    }

    pub fn step(&mut self, action: Action) -> &[Effect] {
        journal::append(self.core.digest(), self.now, &action, &mut self.journal);
        let mut out = Effects::new();
        self.core.step(self.now, &action, &mut out);
        self.out = out.drain().collect();
        self.core.check().unwrap_or_else(|broken| panic!("{broken:?} after {action:?}"));
        self.core.check_in_turn().unwrap_or_else(|broken| panic!("in turn: {broken:?} after {action:?}"));
        &self.out
    }

    pub fn saw(&mut self, fact: Fact) -> &[Effect] {
        self.step(Action::Saw(fact))
    }

    pub fn ask(&mut self, command: Command) -> Answer {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.step(Action::Do(id, command));
        let replies: Vec<Answer> = self
            .out
            .iter()
            .filter_map(|effect| match effect {
                Effect::Reply { to, answer } if *to == id => Some(*answer),
                _ => None,
            })
            .collect();
        assert_eq!(replies.len(), 1, "every command is answered exactly once, in its own step");
        replies[0]
    }

    pub fn connect(&mut self, n: u8) -> Answer {
        self.ask(Command::Connect { who: peer(n), addrs: addrs(&[at(n)]), named: false })
    }

    pub fn want(&mut self, n: u8) -> Answer {
        self.ask(Command::Want { who: peer(n), addrs: addrs(&[at(n)]), named: false })
    }

    /// Lets time pass, waking as the core asks.
    pub fn pass(&mut self, span: Duration) -> Vec<Effect> {
        let until = self.now + span;
        let mut all = Vec::new();
        for _ in 0..100_000 {
            match self.core.next_wake() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.step(Action::Wake);
                    all.append(&mut self.out);
                }
                _ => {
                    self.now = until;
                    self.out.clone_from(&all);
                    return all;
                }
            }
        }
        panic!("it wakes without making progress");
    }

    pub fn seconds(&mut self, seconds: u64) -> Vec<Effect> {
        self.pass(Duration::from_secs(seconds))
    }

    pub fn dialled(&self) -> Option<ConnRef> {
        self.out.iter().find_map(|effect| match effect {
            Effect::Dial { conn, .. } => Some(*conn),
            _ => None,
        })
    }

    pub fn closed(&self) -> Vec<(ConnRef, Close)> {
        self.out
            .iter()
            .filter_map(|effect| match effect {
                Effect::Close { conn, why, .. } => Some((*conn, *why)),
                _ => None,
            })
            .collect()
    }

    pub fn told(&self) -> Vec<Told> {
        self.out
            .iter()
            .filter_map(|effect| match effect {
                Effect::Tell { what, .. } => Some(*what),
                _ => None,
            })
            .collect()
    }

    pub fn gone(&mut self, conn: ConnRef, end: End) {
        self.saw(Fact::Gone { conn, end });
    }

    pub fn fail(&mut self, conn: ConnRef, kind: FaultKind) {
        self.gone(conn, End::Fault(fault(kind)));
    }

    /// Our dial is answered and confirmed.
    pub fn answer(&mut self, conn: ConnRef, n: u8) {
        let greeting = Some(Greeting { epoch: 500, ..Greeting::default() });
        self.saw(Fact::Met { conn, key: peer(n).key, at: at(n), greeting });
        assert!(self.out.contains(&Effect::Admit { conn }), "{:?}", self.out);
        self.saw(Fact::Ready { conn });
    }

    /// Connects to a peer by our own dial.
    pub fn up(&mut self, n: u8) -> ConnRef {
        self.connect(n);
        let conn = self.dialled().expect("a dial");
        self.answer(conn, n);
        conn
    }

    pub fn arrive(&mut self, remote: Addr) -> Result<ConnRef, Refusal> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.saw(Fact::Arrived { ticket, stack: StackId::Mesh, remote });
        let verdict = self.out.iter().find_map(|effect| match effect {
            Effect::Accept { ticket: t, conn, .. } if *t == ticket => Some(Ok(*conn)),
            Effect::Refuse { ticket: t, why } if *t == ticket => Some(Err(*why)),
            _ => None,
        });
        verdict.expect("every arrival is judged in its own step")
    }

    pub fn hello(&mut self, conn: ConnRef, n: u8, greeting: Greeting) {
        self.saw(Fact::Met { conn, key: peer(n).key, at: at(n), greeting: Some(greeting) });
    }

    /// A peer connects to us, up to the confirm.
    pub fn inbound(&mut self, n: u8, dial: u32) -> Result<ConnRef, Refusal> {
        let conn = self.arrive(at(n))?;
        self.hello(conn, n, Greeting { epoch: 500, dial, ..Greeting::default() });
        match self.turned(conn) {
            Some(why) => {
                self.gone(conn, End::Asked);
                Err(why)
            }
            None => {
                self.saw(Fact::Ready { conn });
                Ok(conn)
            }
        }
    }

    pub fn turned(&self, conn: ConnRef) -> Option<Refusal> {
        self.out.iter().find_map(|effect| match effect {
            Effect::Turn { conn: c, why } if *c == conn => Some(*why),
            _ => None,
        })
    }

    pub fn contact(&self, n: u8) -> Option<ContactView> {
        let view = self.core.view();
        view.find(&peer(n)).and_then(|contact| view.contact(contact))
    }

    pub fn standing(&self, n: u8) -> Standing {
        self.contact(n).map_or(Standing::Idle, |contact| contact.standing)
    }

    pub fn why(&self, n: u8) -> Why {
        let view = self.core.view();
        view.why(view.find(&peer(n)).expect("a contact"))
    }

    pub fn slots(&self) -> u32 {
        self.core.view().counts().total()
    }
}
