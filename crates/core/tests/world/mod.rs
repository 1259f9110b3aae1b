//! A small world of real cores: in-order wires that deliver in any interleaving, break and lie half-open; nodes that
//! crash and forget. One seed decides everything. It checks; it decides nothing for the cores.
#![allow(dead_code, reason = "each test file uses its own part")]

use peerkeep_core::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    pub fn chance(&mut self, per_cent: u64) -> bool {
        self.next() % 100 < per_cent
    }
}

#[derive(Clone, Debug)]
pub enum Msg {
    Syn,
    Hello(Greeting, PeerKey),
    Answer(Greeting, PeerKey),
    Refusal { newer: u64 },
    Confirm,
    Ping,
    Pong,
    Bye(Close),
}

/// A connection: side 0 dialled, side 1 accepted.
pub struct Wire {
    pub nodes: [usize; 2],
    pub conns: [Option<ConnRef>; 2],
    pub boots: [u32; 2],
    pub queues: [VecDeque<Msg>; 2],
    /// Told `Connected` and not `Lost`.
    pub up: [bool; 2],
    pub open: [bool; 2],
    pub broken: bool,
    ticket: Option<Ticket>,
}

pub struct Node {
    pub core: Core,
    pub key: PeerKey,
    pub addr: Addr,
    pub boot: u32,
    pub alive: bool,
    pub reachable: bool,
    pub local: VecDeque<Fact>,
    pub journal: Vec<u8>,
    pub told: Vec<(Time, ContactRef, Told)>,
    pub answers: Vec<(CommandId, Answer)>,
    pub config: Config,
    out: Effects,
    commands: u32,
}

pub struct World {
    pub now: Time,
    pub nodes: Vec<Node>,
    pub wires: Vec<Wire>,
    pub rng: Rng,
    pub dials: u64,
    pub withdrawn: u64,
    tickets: u32,
}

pub fn key(n: usize) -> PeerKey {
    let mut bytes = [0; 32];
    bytes[0] = u8::try_from(n + 1).expect("few nodes");
    PeerKey::ed25519(bytes)
}

pub fn addr(n: usize) -> Addr {
    Addr::tcp(format!("10.0.{n}.1:7330").parse().expect("an address"))
}

pub fn addrs(list: &[Addr]) -> Addrs {
    list.iter().copied().collect()
}

impl World {
    pub fn new(count: usize, seed: u64, tweak: impl Fn(&mut Config)) -> World {
        let nodes = (0..count)
            .map(|n| {
                let mut config = Config::new(key(n), 1_000);
                config.rules[0].target = 0;
                tweak(&mut config);
                Node::new(config, n, seed)
            })
            .collect();
        let rng = Rng(seed);
        World { now: Time(0), nodes, wires: Vec::new(), rng, dials: 0, withdrawn: 0, tickets: 0 }
    }

    pub fn command(&mut self, node: usize, command: Command) -> Answer {
        self.nodes[node].commands += 1;
        let id = CommandId(self.nodes[node].commands);
        self.step(node, Action::Do(id, command));
        let (last, answer) = *self.nodes[node].answers.last().expect("every command is answered");
        assert_eq!(last, id, "every command is answered in its own step");
        answer
    }

    pub fn want(&mut self, node: usize, other: usize) -> Answer {
        let who = Who::mesh(key(other));
        self.command(node, Command::Want { who, addrs: addrs(&[addr(other)]), named: false })
    }

    pub fn connect(&mut self, node: usize, other: usize) -> Answer {
        let who = Who::mesh(key(other));
        self.command(node, Command::Connect { who, addrs: addrs(&[addr(other)]), named: false })
    }

    pub fn step(&mut self, at: usize, action: Action) {
        if !self.nodes[at].alive {
            return;
        }
        let node = &mut self.nodes[at];
        journal::append(node.core.digest(), self.now, &action, &mut node.journal);
        let mut out = std::mem::take(&mut node.out);
        out.clear();
        node.core.step(self.now, &action, &mut out);
        if let Err(broken) = node.core.check() {
            panic!("node {at} broke {broken:?} on {action:?}");
        }
        for effect in out.drain() {
            self.perform(at, effect);
        }
        self.nodes[at].out = out;
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Dial { conn, .. } => self.dial(at, conn),
            Effect::Resolve { conn } => {
                self.nodes[at].local.push_back(Fact::Resolved { conn, addrs: Addrs::new() });
            }
            Effect::Accept { ticket, conn, .. } => {
                let wire = self.by_ticket(at, ticket);
                self.wires[wire].conns[1] = Some(conn);
            }
            Effect::Refuse { ticket, .. } => {
                let wire = self.by_ticket(at, ticket);
                self.shut(wire, 1, Close::Resources);
            }
            Effect::Admit { conn } => self.admit(at, conn),
            Effect::Turn { conn, why } => {
                let (wire, side) = self.by_conn(at, conn);
                let newer = if let Refusal::Stale { newer } = why { newer } else { 0 };
                self.send(wire, side, Msg::Refusal { newer });
                self.shut(wire, side, Close::Duplicate);
                self.nodes[at].local.push_back(Fact::Gone { conn, end: End::Asked });
            }
            Effect::Probe { conn } => {
                let (wire, side) = self.by_conn(at, conn);
                self.send(wire, side, Msg::Ping);
            }
            Effect::Close { conn, why, unless_used_since } => {
                if unless_used_since == Time::NEVER {
                    self.close(at, conn, why);
                }
            }
            Effect::Tell { contact, conn, what } => self.told(at, contact, conn, what),
            Effect::Reply { to, answer } => self.nodes[at].answers.push((to, answer)),
            Effect::Store { .. } | Effect::StoreBan { .. } => {}
        }
    }

    fn told(&mut self, at: usize, contact: ContactRef, conn: ConnRef, what: Told) {
        self.nodes[at].told.push((self.now, contact, what));
        match what {
            Told::Connected => {
                let (wire, side) = self.by_conn(at, conn);
                assert!(!self.wires[wire].up[side], "announced once");
                self.wires[wire].up[side] = true;
            }
            Told::Lost(why) => {
                let (wire, side) = self.by_conn(at, conn);
                let wire = &mut self.wires[wire];
                assert!(wire.up[side], "only what was announced is lost");
                wire.up[side] = false;
                let by_rule = matches!(why, Close::Duplicate | Close::Replaced | Close::Dead);
                let intact = !wire.broken && wire.up[1 - side] && wire.open[1 - side];
                if by_rule && intact && wire.open[side] {
                    self.withdrawn += 1;
                }
            }
            _ => {}
        }
    }

    fn dial(&mut self, at: usize, conn: ConnRef) {
        self.dials += 1;
        let dial = self.nodes[at].core.view().dial(conn).expect("a dial");
        let target = dial.addrs.iter().find_map(|a| self.nodes.iter().position(|node| node.addr == *a));
        let reachable = target.filter(|t| self.nodes[*t].alive && self.nodes[*t].reachable);
        let Some(target) = reachable else {
            let fault = Fault::new(Step::Connect, FaultKind::Refused);
            self.nodes[at].local.push_back(Fact::Gone { conn, end: End::Fault(fault) });
            return;
        };
        let hello = Msg::Hello(dial.greeting, self.nodes[at].key);
        self.wires.push(Wire {
            nodes: [at, target],
            conns: [Some(conn), None],
            boots: [self.nodes[at].boot, self.nodes[target].boot],
            queues: [VecDeque::new(), VecDeque::from([Msg::Syn, hello])],
            up: [false; 2],
            open: [true; 2],
            broken: false,
            ticket: None,
        });
    }

    fn admit(&mut self, at: usize, conn: ConnRef) {
        let (wire, side) = self.by_conn(at, conn);
        if side == 0 {
            self.send(wire, 0, Msg::Confirm);
            self.nodes[at].local.push_front(Fact::Ready { conn });
        } else {
            let answer = self.nodes[at].core.view().answer();
            let key = self.nodes[at].key;
            self.send(wire, 1, Msg::Answer(answer, key));
        }
    }

    fn close(&mut self, at: usize, conn: ConnRef, why: Close) {
        let Some((wire, side)) = self.try_conn(at, conn) else {
            self.nodes[at].local.push_back(Fact::Gone { conn, end: End::Asked });
            return;
        };
        if self.wires[wire].open[side] {
            self.shut(wire, side, why);
            self.nodes[at].local.push_back(Fact::Gone { conn, end: End::Asked });
        }
    }

    /// One side is done: what it sent still travels, then the other side hears the end.
    fn shut(&mut self, wire: usize, side: usize, why: Close) {
        self.send(wire, side, Msg::Bye(why));
        self.wires[wire].open[side] = false;
        self.wires[wire].queues[side].clear();
    }

    fn send(&mut self, wire: usize, side: usize, msg: Msg) {
        let wire = &mut self.wires[wire];
        if !wire.broken && wire.open[1 - side] {
            wire.queues[1 - side].push_back(msg);
        }
    }

    fn by_ticket(&self, at: usize, ticket: Ticket) -> usize {
        self.wires.iter().position(|w| w.nodes[1] == at && w.ticket == Some(ticket)).expect("a ticket")
    }

    fn try_conn(&self, at: usize, conn: ConnRef) -> Option<(usize, usize)> {
        let boot = self.nodes[at].boot;
        self.wires.iter().enumerate().rev().find_map(|(index, wire)| {
            (0..2)
                .find(|s| wire.nodes[*s] == at && wire.boots[*s] == boot && wire.conns[*s] == Some(conn))
                .map(|side| (index, side))
        })
    }

    fn by_conn(&self, at: usize, conn: ConnRef) -> (usize, usize) {
        self.try_conn(at, conn).expect("a wire for the conn")
    }

    /// Everything that could happen next without time passing: (wire, side) deliveries and nodes with local facts.
    fn enabled(&self) -> Vec<Result<(usize, usize), usize>> {
        let mut list = Vec::new();
        for (index, wire) in self.wires.iter().enumerate() {
            for side in 0..2 {
                let ready = match wire.queues[side].front() {
                    None => false,
                    Some(Msg::Syn) => true,
                    Some(_) => wire.conns[side].is_some(),
                };
                if ready && wire.open[side] {
                    list.push(Ok((index, side)));
                }
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if node.alive && !node.local.is_empty() {
                list.push(Err(index));
            }
        }
        list
    }

    fn deliver(&mut self, wire: usize, side: usize) {
        let at = self.wires[wire].nodes[side];
        let Some(msg) = self.wires[wire].queues[side].pop_front() else { return };
        let remote = self.nodes[self.wires[wire].nodes[1 - side]].addr;
        let fact = match msg {
            Msg::Syn => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.wires[wire].ticket = Some(ticket);
                Fact::Arrived { ticket, stack: StackId::Mesh, remote }
            }
            msg => {
                let conn = self.wires[wire].conns[side].expect("a conn");
                match msg {
                    Msg::Hello(greeting, key) | Msg::Answer(greeting, key) => {
                        Fact::Met { conn, key, at: remote, greeting: Some(greeting) }
                    }
                    Msg::Refusal { newer } => {
                        let key = Some(self.nodes[self.wires[wire].nodes[1 - side]].key);
                        Fact::Declined {
                            conn,
                            key,
                            at: remote,
                            code: 0,
                            retry_after: Duration::ZERO,
                            newer_epoch: newer,
                        }
                    }
                    Msg::Confirm => Fact::Ready { conn },
                    Msg::Ping => {
                        self.send(wire, side, Msg::Pong);
                        self.report(conn)
                    }
                    Msg::Pong => self.report(conn),
                    Msg::Bye(why) => {
                        self.wires[wire].open[side] = false;
                        self.wires[wire].queues[side].clear();
                        Fact::Gone { conn, end: End::Goodbye(why) }
                    }
                    Msg::Syn => return,
                }
            }
        };
        self.step(at, Action::Saw(fact));
    }

    fn report(&self, conn: ConnRef) -> Fact {
        let report = Report { received_at: self.now, ..Report::default() };
        Fact::Reported { conn, report }
    }

    /// One enabled event, chosen by the seed; whether there was one.
    pub fn tick(&mut self) -> bool {
        let enabled = self.enabled();
        if enabled.is_empty() {
            return false;
        }
        match enabled[self.rng.below(enabled.len())] {
            Ok((wire, side)) => self.deliver(wire, side),
            Err(node) => {
                let fact = self.nodes[node].local.pop_front().expect("a fact");
                self.step(node, Action::Saw(fact));
            }
        }
        true
    }

    /// Delivers everything in flight, without time passing.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.tick() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Lets time pass up to `until`, delivering and waking on the way.
    pub fn run_until(&mut self, until: Time) {
        for _ in 0..1_000_000 {
            self.settle();
            let next = self
                .nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| node.alive)
                .filter_map(|(index, node)| node.core.next_wake().map(|at| (at, index)))
                .min();
            match next {
                Some((at, index)) if at <= until => {
                    self.now = self.now.max(at);
                    self.step(index, Action::Wake);
                }
                _ => {
                    self.now = self.now.max(until);
                    return;
                }
            }
        }
        panic!("time stands still: something wakes without making progress");
    }

    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    /// Messages on it vanish from now on; nobody is told.
    pub fn break_wire(&mut self, wire: usize) {
        self.wires[wire].broken = true;
        self.wires[wire].queues.iter_mut().for_each(VecDeque::clear);
    }

    /// The process dies with everything it knew; its peers hear of it or (power loss) do not.
    pub fn crash(&mut self, at: usize, silently: bool) {
        for wire in 0..self.wires.len() {
            for side in 0..2 {
                if self.wires[wire].nodes[side] == at && self.wires[wire].boots[side] == self.nodes[at].boot {
                    if !silently && self.wires[wire].open[side] {
                        self.send(wire, side, Msg::Bye(Close::Dead));
                    }
                    self.wires[wire].open[side] = false;
                    self.wires[wire].up[side] = false;
                    self.wires[wire].queues[side].clear();
                }
            }
        }
        self.nodes[at].alive = false;
    }

    pub fn restart(&mut self, at: usize, epoch: u64) {
        let old = &self.nodes[at];
        let (boot, mut config) = (old.boot + 1, old.config.clone());
        config.epoch = epoch;
        let seed = self.rng.next();
        let mut node = Node::new(config, at, seed);
        node.boot = boot;
        node.core = Core::new(node.config.clone(), seed_bytes(seed), self.now).expect("a config");
        node.journal.clear();
        journal::begin(&node.core, 0, &mut node.journal);
        self.nodes[at] = node;
    }

    /// Wires that are up at both ends between two nodes.
    pub fn links(&self, a: usize, b: usize) -> Vec<usize> {
        (0..self.wires.len())
            .filter(|index| {
                let wire = &self.wires[*index];
                (wire.nodes == [a, b] || wire.nodes == [b, a]) && wire.up == [true, true] && !wire.broken
            })
            .collect()
    }

    /// Replays every node's journal from its checkpoint and compares digests and checkpoints.
    pub fn replay_all(&mut self) {
        for node in &mut self.nodes {
            journal::end(node.core.digest(), &mut node.journal);
            let mut replay = journal::Replay::new(&node.journal).expect("a segment");
            let mut out = Effects::new();
            while replay.step(&mut out).expect("the same decisions").is_some() {}
            assert!(replay.ended);
            let (mut live, mut again) = (Vec::new(), Vec::new());
            node.core.save(&mut live);
            replay.core.save(&mut again);
            assert_eq!(live, again, "replay reproduces every byte of the state");
            node.journal.truncate(node.journal.len() - 12);
        }
    }
}

fn seed_bytes(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

impl Node {
    fn new(config: Config, n: usize, seed: u64) -> Node {
        let core = Core::new(config.clone(), seed_bytes(seed ^ n as u64), Time(0)).expect("a config");
        let mut journal = Vec::new();
        journal::begin(&core, 0, &mut journal);
        Node {
            core,
            key: key(n),
            addr: addr(n),
            boot: 0,
            alive: true,
            reachable: true,
            local: VecDeque::new(),
            journal,
            told: Vec::new(),
            answers: Vec::new(),
            config,
            out: Effects::new(),
            commands: 0,
        }
    }

    pub fn standing(&self, other: usize) -> Standing {
        let view = self.core.view();
        view.find(&Who::mesh(key(other)))
            .and_then(|contact| view.contact(contact))
            .map_or(Standing::Idle, |contact| contact.standing)
    }

    pub fn told_kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for (_, _, what) in &self.told {
            *kinds.entry(format!("{what:?}")).or_default() += 1;
        }
        kinds
    }
}
