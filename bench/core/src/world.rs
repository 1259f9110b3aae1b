//! A made-up world that answers the core's effects with facts and does a little of everything at random: strangers and
//! acquaintances arrive, dials succeed and fail, links report, peers leave, addresses are learnt, bans come and go.
//! It is driven by a seed alone and refuses to look inside the core except through its view.

use std::{
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use peerkeep_core::{
    Action, Addr, Addrs, Close, Command, CommandId, Config, ConnRef, Core, Effect, Effects, End, Fact, Fault,
    FaultKind, Greeting, PeerKey, Report, Source, StackId, Standing, Step, Subnet, Target, Ticket, Time, Who,
};

/// Bans that stand from the start, keys and subnets each.
pub const BANS: usize = 500;

/// An action and when it happens.
pub type Event = (Time, Action);

/// See the head of this file.
pub struct World {
    dice: Dice,
    now: Time,
    contacts: u64,
    connected: usize,
    next_ticket: u32,
    next_command: u32,
    due: VecDeque<Action>,
    up: Vec<ConnRef>,
    place: HashMap<ConnRef, usize>,
    callers: HashMap<Ticket, (u64, Addr)>,
}

impl World {
    /// A world with so many `contacts`, in which about `connected` of them are up.
    pub fn new(seed: u64, contacts: u64, connected: usize) -> World {
        World {
            dice: Dice(seed | 1),
            now: Time::from_millis(1_000),
            contacts,
            connected,
            next_ticket: 0,
            next_command: 0,
            due: VecDeque::new(),
            up: Vec::new(),
            place: HashMap::new(),
            callers: HashMap::new(),
        }
    }

    /// What makes contact number `n` known: a key and two addresses.
    pub fn introduction(n: u64) -> Action {
        let addrs = [address(n, 0), address(n, 1)].into_iter().collect();
        Action::Saw(Fact::Learned { who: who(n), addrs, source: Source::Stored })
    }

    /// The bans that stand from the start, of strangers: their keys, who come all the same, and their subnets.
    pub fn bans(contacts: u64) -> impl Iterator<Item = Action> {
        let keys = (0..BANS as u64).map(move |n| Target::Key(who(contacts + n).key));
        let subnets =
            (0..BANS as u64).map(move |n| Target::Subnet(address(contacts + BANS as u64 + n, 0).subnet()));
        keys.chain(subnets).map(|target| {
            Action::Do(CommandId(u32::MAX), Command::Ban { target, span: Some(Duration::from_secs(86_400)) })
        })
    }

    /// When the next action happens; must be followed by [`World::hear`].
    pub fn next(&mut self, core: &Core) -> Event {
        self.now = self.now.after(Duration::from_millis(1));
        if core.next_wake().is_some_and(|at| at <= self.now) {
            return (self.now, Action::Wake);
        }
        if self.dice.below(100) < 60
            && let Some(action) = self.due.pop_front()
        {
            return (self.now, action);
        }
        (self.now, self.whim(core))
    }

    /// Takes note of what an action did, and prepares the answers.
    pub fn hear(&mut self, core: &Core, action: &Action, effects: &Effects) {
        match action {
            Action::Saw(Fact::Gone { conn, .. }) => self.fall(*conn),
            Action::Saw(Fact::Ready { conn }) => self.rise(*conn),
            _ => {}
        }
        for effect in effects.as_slice() {
            self.hear_one(core, *effect);
        }
    }

    /// How many connections are up.
    pub fn up(&self) -> usize {
        self.up.len()
    }

    fn hear_one(&mut self, core: &Core, effect: Effect) {
        match effect {
            Effect::Resolve { conn } => self.due.push_back(saw(Fact::Resolved { conn, addrs: Addrs::new() })),
            Effect::Dial { conn, .. } => self.dial(core, conn),
            Effect::Accept { ticket, conn, .. } => {
                if let Some((caller, remote)) = self.callers.remove(&ticket) {
                    let greeting = Some(Greeting { epoch: 1, dial: self.next_ticket, ..Greeting::default() });
                    self.due.push_back(saw(Fact::Met { conn, key: who(caller).key, at: remote, greeting }));
                }
            }
            Effect::Refuse { ticket, .. } => drop(self.callers.remove(&ticket)),
            Effect::Admit { conn } => self.due.push_back(saw(Fact::Ready { conn })),
            Effect::Turn { conn, .. } => self.end(conn, End::Asked),
            Effect::Close { conn, .. } => self.end(conn, End::Asked),
            Effect::Probe { conn } => {
                let answer = self.report(conn);
                self.due.push_back(answer);
            }
            Effect::Store { .. } | Effect::StoreBan { .. } | Effect::Tell { .. } | Effect::Reply { .. } => {}
        }
    }

    /// One address in three does not answer; one attempt in four fails altogether.
    fn dial(&mut self, core: &Core, conn: ConnRef) {
        let Some(dial) = core.view().dial(conn) else { return };
        let refused = Fault::new(Step::Connect, FaultKind::Refused);
        let (Some(first), Some(last)) = (dial.addrs.first(), dial.addrs.last()) else {
            return self.end(conn, End::Fault(refused));
        };
        if self.dice.below(3) == 0 {
            self.due.push_back(saw(Fact::Missed { conn, addr: *first, fault: refused }));
        }
        match dial.expect {
            Some(key) if self.dice.below(4) > 0 => {
                let greeting = Some(Greeting { epoch: 1, ..Greeting::default() });
                self.due.push_back(saw(Fact::Met { conn, key, at: *last, greeting }));
            }
            _ => self.end(conn, End::Fault(refused)),
        }
    }

    /// Something nobody asked for.
    fn whim(&mut self, core: &Core) -> Action {
        let crowded = self.up.len() >= self.connected;
        match self.dice.below(100) {
            0..40 => self.link_reports(core),
            40..60 if crowded => self.leaves(core),
            40..60 => self.arrives(core),
            60..75 if crowded => self.disconnects(core),
            60..75 => {
                let who = who(self.somebody_apart(core));
                self.command(Command::Connect { who, addrs: Addrs::new(), named: false })
            }
            75..92 => self.learns(),
            92..96 => {
                let (who, on) = (who(self.anybody()), self.dice.below(2) == 0);
                self.command(Command::Hold { who, on })
            }
            96..98 => self.bans_one(),
            98..99 => self.wants_one(),
            _ => Action::Saw(Fact::TurnedAway { count: 1 }),
        }
    }

    fn link_reports(&mut self, core: &Core) -> Action {
        match self.any_up() {
            Some(conn) => self.report(conn),
            None => self.arrives(core),
        }
    }

    fn leaves(&mut self, core: &Core) -> Action {
        match self.any_up() {
            Some(conn) => saw(Fact::Gone { conn, end: End::Goodbye(Close::Idle) }),
            None => self.arrives(core),
        }
    }

    fn disconnects(&mut self, core: &Core) -> Action {
        let peer = self.any_up().and_then(|conn| core.view().conn(conn)).and_then(|conn| conn.contact);
        match peer.and_then(|peer| core.view().contact(peer)) {
            Some(contact) => self.command(Command::Disconnect(contact.who)),
            None => self.arrives(core),
        }
    }

    /// A peer we know of, from one of its addresses with a new port; one in thirty is a banned stranger.
    fn arrives(&mut self, core: &Core) -> Action {
        let caller = match self.dice.below(30) {
            0 => self.contacts + self.dice.below(2 * BANS as u64),
            _ => self.somebody_apart(core),
        };
        let port = 1_024 + (self.dice.below(60_000) as u16);
        let remote = Addr { port, ..address(caller, 0) };
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.callers.insert(ticket, (caller, remote));
        Action::Saw(Fact::Arrived { ticket, stack: StackId::Mesh, remote })
    }

    /// Mostly what is known already; now and then a new address.
    fn learns(&mut self) -> Action {
        let n = self.anybody();
        let which = if self.dice.below(20) == 0 { 2 } else { 1 };
        let addrs = [address(n, 0), address(n, which)].into_iter().collect();
        saw(Fact::Learned { who: who(n), addrs, source: Source::Gossip })
    }

    /// A known peer, its address or a stranger is banned; the ban is lifted a little later, so that it stays a rare thing.
    fn bans_one(&mut self) -> Action {
        let n = self.anybody();
        let target = match self.dice.below(4) {
            0 => Target::Subnet(Subnet::host(address(n, 0).ip)),
            1 => Target::Key(who(n).key),
            _ => Target::Key(who(self.contacts + 2 * BANS as u64 + n).key),
        };
        let lift = self.command(Command::Unban(target));
        self.due.push_back(lift);
        self.command(Command::Ban { target, span: Some(Duration::from_secs(60)) })
    }

    /// A hundred contacts are wanted or not, at every size.
    fn wants_one(&mut self) -> Action {
        let who = who(self.dice.below(self.contacts.min(100)));
        match self.dice.below(2) {
            0 => self.command(Command::Want { who, addrs: Addrs::new(), named: false }),
            _ => self.command(Command::Unwant(who)),
        }
    }

    fn command(&mut self, command: Command) -> Action {
        Action::Do(self.command_id(), command)
    }

    fn command_id(&mut self) -> CommandId {
        self.next_command = self.next_command.wrapping_add(1);
        CommandId(self.next_command)
    }

    fn report(&mut self, conn: ConnRef) -> Action {
        let rtt_us = 20_000 + self.dice.below(5_000) as u32;
        let report =
            Report { received_at: self.now, used_at: self.now, channels: 1, rtt_us, ..Report::default() };
        saw(Fact::Reported { conn, report })
    }

    fn anybody(&mut self) -> u64 {
        self.dice.below(self.contacts)
    }

    /// Somebody with whom nothing is going on, if that can be found quickly: else small worlds would be a crowd that is
    /// connected to itself, and not the same mix.
    fn somebody_apart(&mut self, core: &Core) -> u64 {
        let view = core.view();
        for _ in 0..8 {
            let n = self.anybody();
            let standing =
                view.find(&who(n)).and_then(|peer| view.contact(peer)).map(|contact| contact.standing);
            if standing == Some(Standing::Idle) {
                return n;
            }
        }
        self.anybody()
    }

    fn any_up(&mut self) -> Option<ConnRef> {
        let index = usize::try_from(self.dice.below(self.up.len().max(1) as u64)).ok()?;
        self.up.get(index).copied()
    }

    fn end(&mut self, conn: ConnRef, end: End) {
        self.due.push_back(saw(Fact::Gone { conn, end }));
    }

    fn rise(&mut self, conn: ConnRef) {
        self.place.insert(conn, self.up.len());
        self.up.push(conn);
    }

    fn fall(&mut self, conn: ConnRef) {
        if let Some(index) = self.place.remove(&conn) {
            self.up.swap_remove(index);
            if let Some(moved) = self.up.get(index) {
                self.place.insert(*moved, index);
            }
        }
    }
}

/// The configuration under which it is measured: every limit on, none so low that it would stop the world.
pub fn config(contacts: u64, connected: usize) -> Config {
    let mut config = Config::new(PeerKey::ed25519([128; 32]), 1);
    let connected = u32::try_from(connected).unwrap_or(u32::MAX / 4);
    config.limits.total = connected * 2;
    config.limits.inbound = connected * 2;
    config.limits.outbound = connected * 2;
    config.limits.pending = connected;
    config.limits.dials_per_minute = 1 << 20;
    config.limits.contacts = u32::try_from(contacts).unwrap_or(u32::MAX);
    config
}

/// What kind of action it is.
pub fn kind(action: &Action) -> &'static str {
    match action {
        Action::Wake => "wake",
        Action::Clock { .. } => "clock",
        Action::Network(_) => "network",
        Action::Do(_, Command::Connect { .. }) => "connect",
        Action::Do(_, Command::Disconnect(_)) => "disconnect",
        Action::Do(_, Command::Ban { .. } | Command::Unban(_)) => "ban",
        Action::Do(..) => "other commands",
        Action::Saw(Fact::Learned { .. }) => "learned",
        Action::Saw(Fact::Arrived { .. }) => "arrived",
        Action::Saw(Fact::Missed { .. }) => "missed",
        Action::Saw(Fact::Met { .. }) => "met",
        Action::Saw(Fact::Ready { .. }) => "ready",
        Action::Saw(Fact::Reported { .. }) => "reported",
        Action::Saw(Fact::Gone { .. }) => "gone",
        Action::Saw(_) => "other facts",
    }
}

fn saw(fact: Fact) -> Action {
    Action::Saw(fact)
}

fn who(n: u64) -> Who {
    let mut bytes = [0; 32];
    for (index, part) in bytes.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&mix(n * 4 + index as u64).to_le_bytes());
    }
    Who::mesh(PeerKey::ed25519(bytes))
}

/// A public-looking IPv4 address: four contacts share a /24, so that the limits by subnet have something to count.
fn address(n: u64, which: u64) -> Addr {
    let net = mix((n / 4) << 2 | which);
    let [_, b, c, ..] = net.to_le_bytes();
    let [_, _, _, d, e, ..] = mix(n << 2 | which).to_le_bytes();
    let a = 64 + (net >> 40) as u8 % 32;
    let port = 2_000 + u16::from(e);
    Addr::tcp(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
}

/// A bijection that scatters.
fn mix(n: u64) -> u64 {
    let n = (n.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) ^ n >> 31
}

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
