//! Arbitrary stories for the core: a few bytes are a configuration, the rest actions, sensible and senseless alike, in
//! virtual time. Every invariant holds after every action, every command is answered once, effects name conns that
//! live, and the journal replays to the same digest.

use super::input::Input;
use peerkeep_core::*;
use std::collections::BTreeSet;
use std::time::Duration;

const ME: PeerKey = PeerKey::ed25519([100; 32]);
/// Most actions in one story.
const MOST_ACTIONS: u32 = 300;

struct Story {
    core: Core,
    now: Time,
    out: Effects,
    journal: Option<Vec<u8>>,
    conns: Vec<ConnRef>,
    up: BTreeSet<ConnRef>,
    commands: u32,
    tickets: u32,
}

/// One story.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut story = Story::new(&mut input);
    for _ in 0..MOST_ACTIONS {
        if input.is_empty() {
            break;
        }
        let action = story.action(&mut input);
        story.step(action);
    }
    story.finish();
}

/// A quiet core with room for little.
pub fn small() -> Core {
    Core::new(config(0), [7; 32], Time(0)).expect("a configuration")
}

/// A core with some of everything, and the segment that led there.
pub fn busy() -> (Core, Vec<u8>) {
    let mut input = Input(&[0, 1]);
    let mut story = Story::new(&mut input);
    let dial = |n: u8| Command::Want { who: who(n), addrs: [at(n % 6)].into_iter().collect(), named: n == 3 };
    for n in 0..5 {
        story.ask(dial(n));
    }
    for turn in 0..12_u8 {
        let bytes = [40, turn, 2, turn, 0, 1];
        let action = story.sensible(&mut Input(&bytes)).unwrap_or(Action::Wake);
        story.step(action);
    }
    for n in 0..3 {
        story.tickets += 1;
        let ticket = Ticket(story.tickets);
        story.step(Action::Saw(Fact::Arrived { ticket, stack: StackId::Mesh, remote: at(n) }));
    }
    let target = Target::Key(who(9).key);
    story.ask(Command::Ban { target, span: Some(Duration::from_secs(9)) });
    story.step(Action::Saw(Fact::Bound { a: who(6), b: who(7) }));
    let mut segment = story.journal.take().unwrap_or_default();
    journal::end(story.core.digest(), &mut segment);
    (story.core, segment)
}

/// Goes on with a core of any past for a while; nothing may panic.
pub fn live_on(core: &mut Core, input: &mut Input<'_>, out: &mut Effects) {
    let mut now = core.view().now();
    for round in 0..12_u32 {
        out.clear();
        let gone = core.view().conns().nth(input.below(3)).map(|conn| {
            Action::Saw(Fact::Gone { conn: conn.conn, end: End::Fault(fault(FaultKind::Reset)) })
        });
        let action = match round % 4 {
            0 => {
                let (who, addrs) = (who(input.byte()), [at(1)].into_iter().collect());
                Action::Do(CommandId(round), Command::Connect { who, addrs, named: false })
            }
            1 => gone.unwrap_or(Action::Wake),
            2 => {
                let addrs = [at(3)].into_iter().collect();
                Action::Saw(Fact::Learned { who: who(8), addrs, source: Source::Gossip })
            }
            _ => Action::Wake,
        };
        core.step(now, &action, out);
        now = now + Duration::from_secs(7);
    }
}

fn who(n: u8) -> Who {
    let stack = [StackId::Mesh, StackId::Libp2p, StackId::Bitcoin, StackId::Lan];
    let stack = if n < 192 { StackId::Mesh } else { stack[usize::from(n) % 4] };
    Who { stack, key: PeerKey::ed25519([95 + n % 10; 32]) }
}

fn at(n: u8) -> Addr {
    let kind = if n >= 250 { AddrKind::Quic } else { AddrKind::Tcp };
    Addr::new(([10, 1, n % 6, 1], u16::from(n / 6) + 1).into(), kind)
}

fn fault(kind: FaultKind) -> Fault {
    Fault::new(Step::Connect, kind)
}

fn config(how: u8) -> Config {
    let mut config = Config::new(ME, 1_000);
    config.rules[0].target = u16::from(how & 3);
    config.limits.total = 12;
    config.limits.inbound = 8;
    config.limits.outbound = 6;
    config.limits.pending = 6;
    config.limits.per_ip = 4;
    config.limits.contacts = 10;
    config.limits.bans = 4;
    config.limits.dials_per_minute = 30;
    config.limits.courtesy = 2;
    config.dial_private_gossip = how & 4 == 0;
    config.preference = [Preference::Identity, Preference::Nobody][usize::from(how >> 3 & 1)];
    if how & 16 != 0 {
        config.rules[0].duplicates = Duplicates::HoldAndConfirm;
    }
    if how & 32 != 0 {
        config.rules[0].idle = Some(Duration::from_secs(20));
    }
    if how & 64 != 0 {
        config.rules[0].backoff = Backoff::THREE_AT_ONCE;
    }
    config
}

impl Story {
    fn new(input: &mut Input<'_>) -> Story {
        let core = Core::new(config(input.byte()), [7; 32], Time(0)).expect("a configuration");
        // Every fourth story is recorded and replayed, which costs as much as the rest of it.
        let journal = (input.byte() & 3 == 1).then(|| {
            let mut segment = Vec::new();
            journal::begin(&core, 0, &mut segment);
            segment
        });
        let (conns, up) = (Vec::new(), BTreeSet::new());
        Story { core, now: Time(0), out: Effects::new(), journal, conns, up, commands: 0, tickets: 0 }
    }

    fn ask(&mut self, command: Command) {
        self.commands += 1;
        self.step(Action::Do(CommandId(self.commands), command));
    }

    fn step(&mut self, action: Action) {
        if let Some(journal) = &mut self.journal {
            journal::append(self.core.digest(), self.now, &action, journal);
        }
        self.out.clear();
        self.core.step(self.now, &action, &mut self.out);
        self.core.check().unwrap_or_else(|broken| panic!("{broken:?} after {action:?}"));
        self.check_effects(&action);
    }

    fn check_effects(&mut self, action: &Action) {
        let (mut replies, mut verdicts) = (0, 0);
        let view = self.core.view();
        let lives = |conn: ConnRef| assert!(view.conn(conn).is_some(), "an order for a conn that is no more");
        for effect in self.out.as_slice() {
            match *effect {
                Effect::Resolve { conn } | Effect::Dial { conn, .. } => {
                    lives(conn);
                    if !self.conns.contains(&conn) {
                        self.conns.push(conn);
                    }
                }
                Effect::Accept { ticket, conn, .. } => {
                    lives(conn);
                    verdicts += u32::from(ticket.0 == self.tickets);
                    self.conns.push(conn);
                }
                Effect::Refuse { ticket, .. } => verdicts += u32::from(ticket.0 == self.tickets),
                Effect::Admit { conn } | Effect::Turn { conn, .. } | Effect::Probe { conn } => lives(conn),
                Effect::Close { conn, .. } => lives(conn),
                Effect::Tell { conn, what: Told::Connected, .. } => {
                    assert!(self.up.insert(conn), "announced once");
                }
                Effect::Tell { conn, what: Told::Lost(_), .. } => {
                    assert!(self.up.remove(&conn), "lost once, and only what was announced");
                }
                Effect::Reply { to, .. } => {
                    assert_eq!(to.0, self.commands);
                    replies += 1;
                }
                _ => {}
            }
        }
        let asked = matches!(action, Action::Do(..));
        assert_eq!(replies, u32::from(asked), "every command is answered once, in its own step");
        let arrived = matches!(action, Action::Saw(Fact::Arrived { .. }));
        assert_eq!(verdicts, u32::from(arrived), "every arrival is judged once, in its own step");
    }

    fn finish(mut self) {
        let Some(mut segment) = self.journal.take() else { return };
        journal::end(self.core.digest(), &mut segment);
        let mut replay = journal::Replay::new(&segment).expect("our own segment");
        while replay.step(&mut self.out).expect("the same decisions").is_some() {}
        assert!(replay.ended, "and the same end");
        assert_eq!(replay.core.canonical(self.now), self.core.canonical(self.now));
    }

    fn action(&mut self, input: &mut Input<'_>) -> Action {
        match input.byte() {
            0..=59 => {
                self.commands += 1;
                Action::Do(CommandId(self.commands), self.command(input))
            }
            60..=149 => self.sensible(input).unwrap_or(Action::Wake),
            150..=209 => Action::Saw(self.fact(input)),
            210..=229 => {
                self.now = self.core.next_wake().unwrap_or(self.now).max(self.now);
                Action::Wake
            }
            230..=245 => {
                const STEPS_MS: [u64; 8] = [0, 1, 20, 500, 2_000, 10_000, 61_000, 400_000];
                self.now = self.now + Duration::from_millis(STEPS_MS[input.below(8)]);
                Action::Wake
            }
            246..=248 => Action::Clock { unix_ms: input.number() },
            249..=252 => Action::Network([Change::Online, Change::Offline, Change::Moved][input.below(3)]),
            253 => {
                self.now = Time(self.now.0.saturating_sub(1_000_000));
                Action::Wake
            }
            _ => {
                self.now = self.now + Duration::from_secs(input.number() % 1_000_000_000_000);
                Action::Wake
            }
        }
    }

    fn command(&mut self, input: &mut Input<'_>) -> Command {
        let kind = input.below(16);
        let who = who(input.byte());
        match kind {
            0..=2 => Command::Connect { who, addrs: addrs(input), named: input.below(8) == 7 },
            3 | 4 => Command::Want { who, addrs: addrs(input), named: input.below(8) == 7 },
            5 => Command::Unwant(who),
            6 => Command::Disconnect(who),
            7 => Command::Cancel(who),
            8 => Command::Retry(who),
            9 => Command::Reset(who),
            10 => Command::Hold { who, on: input.flag() },
            11 => {
                Command::Ban { target: target(who, input), span: Some(Duration::from_secs(input.number())) }
            }
            12 => Command::Unban(target(who, input)),
            13 => Command::Forget(who),
            14 => Command::Configure(Box::new(self.changed(input))),
            _ if input.below(8) == 7 => Command::Shutdown,
            _ => Command::Ban { target: target(who, input), span: None },
        }
    }

    fn changed(&self, input: &mut Input<'_>) -> Config {
        let mut config = if input.flag() { config(input.byte()) } else { self.core.config().clone() };
        match input.below(6) {
            0 => config.limits.inbound = input.u32(),
            1 => config.limits.contacts = u32::from(input.byte() % 20),
            2 => config.limits.bans = u32::from(input.byte() % 8),
            3 => config.rules[0].target = u16::from_le_bytes(input.array()),
            4 => config.exempt = vec![target(who(input.byte()), input)],
            _ => config.rules[0].hold = Duration::from_millis(input.number()),
        }
        config
    }

    fn conn(&self, input: &mut Input<'_>) -> ConnRef {
        let n = input.below(32);
        if n >= 28 || self.conns.is_empty() {
            return ConnRef { row: u32::from(input.byte() % 30), generation: u32::from(input.byte() % 3) };
        }
        self.conns[self.conns.len() - 1 - n % self.conns.len().min(12)]
    }

    fn fact(&mut self, input: &mut Input<'_>) -> Fact {
        let kind = input.below(16);
        if kind < 3 {
            self.tickets += 1;
            let (stack, remote) = (who(input.byte()).stack, at(input.byte()));
            return Fact::Arrived { ticket: Ticket(self.tickets), stack, remote };
        }
        let conn = self.conn(input);
        match kind {
            3 | 4 => {
                let n = input.byte();
                let key = if n == 255 { ME } else { who(n).key };
                Fact::Met { conn, key, at: at(input.byte()), greeting: greeting(input) }
            }
            5 => Fact::Ready { conn },
            6 => Fact::Missed { conn, addr: at(input.byte()), fault: any_fault(input) },
            7 => Fact::Reported { conn, report: report(self.now, input) },
            8 => Fact::Violated { conn, what: violation(input) },
            9 => Fact::Declined {
                conn,
                key: input.flag().then(|| who(input.byte()).key),
                at: at(input.byte()),
                code: input.u32(),
                retry_after: Duration::from_secs(input.number()),
                newer_epoch: input.number(),
            },
            10 => Fact::Resolved { conn, addrs: addrs(input) },
            11 => Fact::Learned { who: who(input.byte()), addrs: addrs(input), source: source(input) },
            12 => Fact::Bound { a: who(input.byte()), b: who(input.byte()) },
            13 => Fact::Routed {
                conn,
                route: [Route::Direct, Route::SameLan, Route::Relay(3)][input.below(3)],
                rtt_us: input.u32(),
                why: input.byte(),
                next_attempt: Time(input.number()),
            },
            14 => Fact::TurnedAway { count: input.u32() },
            _ => Fact::Gone { conn, end: end(input) },
        }
    }

    /// What a real stack could say next about one of the conns that live.
    fn sensible(&mut self, input: &mut Input<'_>) -> Option<Action> {
        let view = self.core.view();
        let count = view.conns().count();
        let conn = view.conns().nth(input.below(count.max(1)))?;
        let expected = view.dial(conn.conn).and_then(|dial| dial.expect);
        let key = expected.unwrap_or_else(|| who(input.byte()).key);
        let (at, conn, stage) = (conn.remote, conn.conn, conn.stage);
        Some(Action::Saw(match stage {
            Stage::Resolving => Fact::Resolved { conn, addrs: addrs(input) },
            Stage::Arriving | Stage::Dialing | Stage::Refusing => {
                Fact::Met { conn, key, at, greeting: greeting(input) }
            }
            Stage::Offered => Fact::Ready { conn },
            Stage::Closing => Fact::Gone { conn, end: End::Asked },
            Stage::Up if input.below(4) > 0 => Fact::Reported { conn, report: report(self.now, input) },
            Stage::Held | Stage::Up => Fact::Gone { conn, end: end(input) },
        }))
    }
}

fn addrs(input: &mut Input<'_>) -> Addrs {
    let count = input.below(3);
    (0..count).map(|_| at(input.byte())).collect()
}

fn target(who: Who, input: &mut Input<'_>) -> Target {
    let n = input.byte();
    match n % 4 {
        0 => Target::Subnet(Subnet::new(at(n / 4).ip, 96 + 24)),
        1 => Target::Subnet(Subnet::host(at(n / 4).ip)),
        2 if n > 200 => Target::Subnet(Subnet { ip: [n; 16], bits: input.byte() }),
        _ => Target::Key(who.key),
    }
}

fn greeting(input: &mut Input<'_>) -> Option<Greeting> {
    let n = input.byte();
    if n > 245 {
        return None;
    }
    if n > 235 {
        let accepted = (input.number(), input.u32());
        return Some(Greeting { epoch: input.number(), dial: input.u32(), accepted, replaces: n & 1 == 1 });
    }
    Some(Greeting {
        epoch: 498 + u64::from(n % 4),
        dial: u32::from(n / 4 % 6),
        accepted: (999 + u64::from(n / 24 % 3), u32::from(input.byte() % 6)),
        replaces: n >= 216,
    })
}

fn report(now: Time, input: &mut Input<'_>) -> Report {
    let n = input.byte();
    let at = if n == 255 { Time(input.number()) } else { now };
    let used_at = if n & 1 == 0 { at } else { Time(at.0 / 2) };
    Report {
        received_at: at,
        used_at,
        channels: u16::from(n >> 1 & 3),
        rtt_us: u32::from(n) * 1_000,
        sent_at: at,
        rate_kbps: u32::from(n >> 3) * 64,
        asked: u16::from(n),
        failed: u16::from(n >> 4),
    }
}

fn any_fault(input: &mut Input<'_>) -> Fault {
    use FaultKind::*;
    const KINDS: [FaultKind; 8] = [Refused, Timeout, Reset, Unreachable, Resources, Identity, Declined, Os];
    Fault { step: Step::Connect, kind: KINDS[input.below(8)], detail: u32::from(input.byte()) }
}

fn violation(input: &mut Input<'_>) -> Violation {
    [Violation::Malformed, Violation::TooMuch, Violation::TooLarge, Violation::OutOfOrder][input.below(4)]
}

fn end(input: &mut Input<'_>) -> End {
    match input.below(4) {
        0 => End::Asked,
        1 => End::Goodbye(Close::from_code(input.byte() % 11).unwrap_or(Close::Requested)),
        2 => End::Violation(violation(input)),
        _ => End::Fault(any_fault(input)),
    }
}

fn source(input: &mut Input<'_>) -> Source {
    [Source::Gossip, Source::Told, Source::Stored, Source::Named, Source::Proven][input.below(5)]
}
