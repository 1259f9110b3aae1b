//! What drivers and the network do for a core: look up, dial, race, accept, carry greetings and bytes, close. It follows
//! orders and reports facts, as the sockets of `net` do, with their delays and crossings.

use crate::node::{Racing, Slot, Socket};
use crate::scenario::{self, Nat, node_of_addr, source_addr};
use crate::weather::{REOPEN_US, USER_TIMEOUT};
use crate::wire::{End as WireEnd, Msg, NOBODY, PEERS, WireRef};
use crate::world::{Event, World};
use peerkeep_core::{
    Addr, Addrs, ConnRef, Duplicates, End, Fact, Fault, FaultKind, Greeting, Refusal, Report, Source,
    StackId, Step, Ticket, Time, Who,
};
use peerkeep_paths::{MAX_LEGS, Move, Moves, Race, STAGGER};
use std::time::Duration;

impl World {
    // ---- dialling

    pub fn resolve(&mut self, number: u32, conn: ConnRef) {
        let (now, boot) = (self.now, self.node(number).boot);
        if self.node(number).open_slot(conn, Socket::Lookup).is_none() {
            return self.fail("a conn has a row of its own", [number; 2], format!("{conn}"));
        }
        let wait = Duration::from_micros(1 + self.rng.below(30_000));
        self.queue.push(now + wait, Event::Resolved { node: number, boot, conn });
    }

    pub fn resolved(&mut self, number: u32, conn: ConnRef) {
        let node = self.node(number);
        let Some(Slot { socket: Socket::Lookup, .. }) = node.slot(conn) else { return };
        let who = node.core.view().dial(conn).map(|dial| dial.who);
        let found = who.and_then(|who| scenario::node_of_key(&who.key));
        let mut addrs = Addrs::new();
        if let Some(other) = found.filter(|_| self.rng.chance(950)) {
            let nat = self.node(other).plan.nat;
            addrs.push(scenario::addr(other, nat));
        }
        self.step(number, peerkeep_core::Action::Saw(Fact::Resolved { conn, addrs }));
    }

    pub fn dial(&mut self, number: u32, conn: ConnRef) {
        self.tally.dials += 1;
        let now = self.now;
        let node = self.node(number);
        let Some(dial) = node.core.view().dial(conn) else {
            return self.fail("a dial can be looked at", [number; 2], format!("{conn}"));
        };
        self.hold_dial(number, &dial);
        let mut moves = Moves::new();
        let race = Race::start(&dial.addrs, STAGGER, now, &mut moves);
        let fault = Fault::new(Step::Connect, FaultKind::Unreachable);
        let racing = Racing { race, wires: [WireRef::NONE; MAX_LEGS], greeting: dial.greeting, fault };
        let socket = Socket::Racing(Box::new(racing));
        let node = self.node(number);
        let looked_up = node.slot(conn).filter(|slot| matches!(slot.socket, Socket::Lookup));
        if let Some(slot) = looked_up {
            slot.socket = socket;
        } else if node.open_slot(conn, socket).is_none() {
            return self.fail("a conn has a row of its own", [number; 2], format!("{conn}"));
        }
        self.story.add(now, [number; 2], || {
            format!("node {number} dials {:?} as {conn} ({:?})", dial.addrs, dial.greeting)
        });
        self.make_moves(number, conn, moves);
    }

    fn make_moves(&mut self, number: u32, conn: ConnRef, moves: Moves) {
        for step in moves {
            match step {
                Move::Start { leg, addr } => self.start_leg(number, conn, leg, addr),
                Move::Stop { leg } => {
                    let wire = self.racing(number, conn).map(|racing| racing.wires[leg]);
                    if let Some(wire) = wire {
                        self.drop_end(wire, 0, Msg::Reset);
                    }
                }
                Move::Lost => {
                    let fault = self.racing(number, conn).map(|racing| racing.fault);
                    if let (Some(fault), Some(socket)) = (fault, self.socket(number, conn)) {
                        *socket = Socket::Over;
                        self.gone_later(number, conn, End::Fault(fault), 1);
                    }
                }
            }
        }
        let boot = self.node(number).boot;
        if let Some(at) = self.racing(number, conn).and_then(|racing| racing.race.next_wake()) {
            self.queue.push(at, Event::RaceWake { node: number, boot, conn });
        }
    }

    pub fn racing(&mut self, number: u32, conn: ConnRef) -> Option<&mut Racing> {
        match self.socket(number, conn) {
            Some(Socket::Racing(racing)) => Some(racing),
            _ => None,
        }
    }

    pub fn race_wake(&mut self, number: u32, conn: ConnRef) {
        let now = self.now;
        let mut moves = Moves::new();
        if let Some(racing) = self.racing(number, conn) {
            racing.race.handle_wake(now, &mut moves);
            self.make_moves(number, conn, moves);
        }
    }

    fn start_leg(&mut self, number: u32, conn: ConnRef, leg: usize, addr: Addr) {
        let boot = self.node(number).boot;
        let target = node_of_addr(&addr).filter(|other| self.reaches(number, *other, &addr));
        let lag = self.node(number).plan.lag_us;
        let leg_u8 = u8::try_from(leg).unwrap_or(u8::MAX);
        if self.is_offline(number) {
            let fault = Fault::new(Step::Connect, FaultKind::Unreachable);
            let event = Event::LegFailed { node: number, boot, conn, leg: leg_u8, fault };
            return self.queue.push(self.now + Duration::from_micros(10), event);
        }
        let Some(other) = target else {
            // Some places answer that nobody is there, most do not.
            if addr.ip[14].is_multiple_of(2) {
                let fault = Fault::new(Step::Connect, FaultKind::Refused);
                let event = Event::LegFailed { node: number, boot, conn, leg: leg_u8, fault };
                self.queue.push(self.now + Duration::from_micros(2 * lag + 1), event);
            }
            return;
        };
        let acceptor = WireEnd { is_open: false, ..WireEnd::new(other, 0, ConnRef::NONE) };
        let wire = self.wires.add(WireEnd::new(number, boot, conn), acceptor, leg_u8);
        if let Some(racing) = self.racing(number, conn) {
            racing.wires[leg] = wire;
        }
        if let Some(at) = self.arrival(number, other, REOPEN_US) {
            self.queue.push(at, Event::Syn { wire });
        }
    }

    /// Whether routers and firewalls let a connection through. An address within a group means something there only.
    pub fn reaches(&self, from: u32, to: u32, addr: &Addr) -> bool {
        let (Some(from), Some(to_node)) = (self.nodes.get(from as usize), self.nodes.get(to as usize)) else {
            return false;
        };
        if *addr != scenario::addr(to, to_node.plan.nat) || to_node.plan.is_absent {
            return false;
        }
        match (from.plan.nat, to_node.plan.nat) {
            (Nat::Mute, _) | (_, Nat::Deaf) => false,
            (from, Nat::Behind(group)) => from == Nat::Behind(group),
            _ => true,
        }
    }

    /// When a segment sent now arrives; `None` when it never does.
    fn arrival(&mut self, from: u32, to: u32, resend_us: u64) -> Option<Time> {
        let lag = self.nodes[from as usize].plan.lag_us + self.nodes[to as usize].plan.lag_us;
        let travel = Duration::from_micros(self.weather.travel_us(lag, resend_us, &mut self.rng));
        match self.weather.blocked_until(from, to) {
            None => Some(self.now + travel),
            Some(until) if until - self.now > USER_TIMEOUT => None,
            // Sent again at some time after the way is free.
            Some(until) => Some(until + travel + Duration::from_micros(self.rng.below(2 * resend_us))),
        }
    }

    pub fn syn(&mut self, wire: WireRef) {
        let Some(row) = self.wires.get(wire).copied() else { return };
        let [from, to] = [row.ends[0].node, row.ends[1].node];
        if self.is_from_the_dead(row.ends[0]) {
            return;
        }
        let node = &self.nodes[to as usize];
        if !node.is_alive {
            if node.is_powered {
                self.answer_syn(wire, to, from, false);
            }
            return;
        }
        let boot = node.boot;
        let ticket = self.ticket();
        if let Some(row) = self.wires.get_mut(wire) {
            row.ends[1].is_open = true;
            row.ends[1].boot = boot;
            row.ticket = ticket;
        }
        self.arriving = Some((ticket, wire));
        let port = 1_024 + u16::try_from(wire.row % 60_000).unwrap_or(0);
        let same_lan = self.nodes[from as usize].plan.nat == self.nodes[to as usize].plan.nat;
        let remote = match self.nodes[from as usize].plan.nat {
            nat @ Nat::Behind(_) if same_lan => Addr { port, ..scenario::addr(from, nat) },
            nat => source_addr(from, nat, port),
        };
        self.answer_syn(wire, to, from, true);
        self.step(to, peerkeep_core::Action::Saw(Fact::Arrived { ticket, stack: StackId::Mesh, remote }));
        if self.arriving.take().is_some() {
            self.fail("every arrival is accepted or refused", [from, to], format!("{ticket:?}"));
        }
    }

    fn answer_syn(&mut self, wire: WireRef, from: u32, to: u32, is_accepted: bool) {
        if let Some(at) = self.arrival(from, to, REOPEN_US) {
            if let Some(row) = self.wires.get_mut(wire) {
                row.ends[0].arrival = at;
            }
            self.queue.push(at, Event::SynAnswered { wire, is_accepted });
        }
    }

    pub fn accept(&mut self, number: u32, ticket: Ticket, conn: ConnRef) {
        let Some((_, wire)) = self.arriving.take_if(|(arriving, _)| *arriving == ticket) else {
            return self.fail("an arrival is judged once", [number; 2], format!("{ticket:?}"));
        };
        if let Some(row) = self.wires.get_mut(wire) {
            row.ends[1].conn = conn;
        }
        if self.node(number).open_slot(conn, Socket::Linked { wire, side: 1 }).is_none() {
            self.fail("a conn has a row of its own", [number; 2], format!("{conn}"));
        }
    }

    pub fn refuse(&mut self, number: u32, ticket: Ticket, why: Refusal) {
        let Some((_, wire)) = self.arriving.take_if(|(arriving, _)| *arriving == ticket) else {
            return self.fail("an arrival is judged once", [number; 2], format!("{ticket:?}"));
        };
        self.story.add(self.now, [number; 2], || format!("node {number} drops an arrival: {why:?}"));
        self.drop_end(wire, 1, Msg::Reset);
    }

    pub fn syn_answered(&mut self, wire: WireRef, is_accepted: bool) {
        let Some(row) = self.wires.get(wire).copied() else { return };
        let end = row.ends[0];
        if !end.is_open {
            return;
        }
        if !is_accepted {
            self.shut(wire, 0);
            let fault = Fault::new(Step::Connect, FaultKind::Refused);
            return self.leg_failed(end.node, end.conn, row.leg, fault);
        }
        let mut moves = Moves::new();
        let Some(racing) = self.racing(end.node, end.conn) else { return };
        let (won, greeting) =
            (racing.race.handle_connected(usize::from(row.leg), &mut moves), racing.greeting);
        self.make_moves(end.node, end.conn, moves);
        if !won {
            return self.drop_end(wire, 0, Msg::Reset);
        }
        if let Some(socket) = self.socket(end.node, end.conn) {
            *socket = Socket::Linked { wire, side: 0 };
        }
        let expects = self.node(end.node).core.view().dial(end.conn).and_then(|dial| dial.expect);
        let is_stranger = expects.is_none();
        if is_stranger || greeting.replaces {
            self.promises.replacing(end.node, row.ends[1].node, self.now);
        }
        self.send(wire, 0, Msg::Hello(greeting));
    }

    pub fn leg_failed(&mut self, number: u32, conn: ConnRef, leg: u8, fault: Fault) {
        let now = self.now;
        let mut moves = Moves::new();
        let Some(racing) = self.racing(number, conn) else { return };
        let addr = racing.race.addr(usize::from(leg));
        racing.fault = fault;
        racing.race.handle_failed(usize::from(leg), now, &mut moves);
        if let Some(addr) = addr {
            self.tell(number, Fact::Missed { conn, addr, fault });
        }
        self.make_moves(number, conn, moves);
    }

    // ---- carrying

    pub fn send(&mut self, wire: WireRef, from_side: usize, msg: Msg) {
        let Some(row) = self.wires.get(wire) else { return };
        let (from, to) = (row.ends[from_side].node, row.ends[1 - from_side].node);
        self.tally.bytes += msg.bytes();
        if row.ends[1 - from_side].is_cut {
            return;
        }
        let is_reset = matches!(msg, Msg::Reset);
        let lag = self.nodes[from as usize].plan.lag_us + self.nodes[to as usize].plan.lag_us;
        let travel = self.weather.segment_us(lag, &mut self.rng);
        let mut at = self.now + Duration::from_micros(travel);
        if let Some(until) = self.weather.blocked_until(from, to) {
            if is_reset || until - self.now > USER_TIMEOUT {
                let side = u8::from(from_side == 1);
                return self.queue.push(self.now + USER_TIMEOUT, Event::GiveUp { wire, side });
            }
            at = until + Duration::from_micros(travel + self.rng.below(400_000));
        }
        let now = self.now;
        let Some(row) = self.wires.get_mut(wire) else { return };
        if at - now > Duration::from_secs(1) {
            row.troubled_until = row.troubled_until.max(at + Duration::from_secs(60));
        }
        let end = &mut row.ends[1 - from_side];
        end.arrival = end.arrival.max(at);
        let event = Event::Arrive { wire, side: u8::from(from_side == 0), msg };
        self.queue.push(end.arrival, event);
    }

    pub fn arrive(&mut self, wire: WireRef, side: u8, msg: Msg) {
        let at = usize::from(side);
        let Some(row) = self.wires.get(wire).copied() else { return };
        let (end, peer) = (row.ends[at], row.ends[1 - at].node);
        if end.is_cut || self.is_from_the_dead(row.ends[1 - at]) {
            return;
        }
        if !end.is_open {
            let is_last_word = matches!(msg, Msg::Reset | Msg::Bye(_));
            if self.nodes[end.node as usize].is_powered && !is_last_word {
                self.send(wire, at, Msg::Reset);
            }
            return;
        }
        let (number, conn) = (end.node, end.conn);
        let Some(is_live) = self.node(number).slot(conn).map(|slot| slot.is_live) else {
            let what = "the world has a note of every open socket";
            return self.fail(what, [number, peer], format!("{conn} {msg:?}"));
        };
        self.story.add(self.now, [number, peer], || {
            format!("node {number} gets {msg:?} from node {peer} on {conn}")
        });
        match msg {
            Msg::Hello(greeting) | Msg::Answer(greeting) => self.meet(number, conn, peer, side, greeting),
            Msg::Refusal { newer, retry_after } => self.declined(wire, side, newer, retry_after),
            Msg::Confirm => self.ready(number, conn, wire),
            Msg::Ping | Msg::Pong | Msg::Data if is_live => self.received(wire, at, msg),
            Msg::Peers(peers) if is_live => self.learn(number, peer, peers),
            Msg::Ping | Msg::Pong | Msg::Data | Msg::Peers(_) => {}
            Msg::Bye(why) => {
                let fault = Fault::new(Step::Hello, FaultKind::Closed);
                self.end_of(wire, side, if is_live { End::Goodbye(why) } else { End::Fault(fault) });
            }
            Msg::Reset => {
                let step = if is_live { Step::Live } else { Step::Hello };
                self.end_of(wire, side, End::Fault(Fault::new(step, FaultKind::Reset)));
            }
        }
    }

    /// Whether this would have had to be sent again by a machine that had no power any more.
    fn is_from_the_dead(&self, sender: WireEnd) -> bool {
        const ON_THE_WIRE: Duration = Duration::from_millis(250);
        let node = &self.nodes[sender.node as usize];
        let is_of_an_earlier_life = node.boot != sender.boot || !node.is_alive;
        is_of_an_earlier_life && node.dark_since != Time::ZERO && node.dark_since + ON_THE_WIRE < self.now
    }

    fn meet(&mut self, number: u32, conn: ConnRef, peer: u32, side: u8, greeting: Greeting) {
        let nat = self.node(peer).plan.nat;
        let at = match side {
            0 => scenario::addr(peer, nat),
            _ => match self.node(number).core.view().conn(conn) {
                Some(conn) => conn.remote,
                None => return,
            },
        };
        let has_numbers = self.promises.duplicates == Duplicates::Numbers;
        let (key, greeting) = (scenario::key(peer), has_numbers.then_some(greeting));
        self.tell(number, Fact::Met { conn, key, at, greeting });
        if matches!(nat, Nat::Open | Nat::Mute) {
            let addrs: Addrs = [scenario::addr(peer, nat)].into_iter().collect();
            self.tell(number, Fact::Learned { who: Who::mesh(key), addrs, source: Source::Told });
        }
    }

    fn declined(&mut self, wire: WireRef, side: u8, newer_epoch: u64, retry_after: Duration) {
        let Some(row) = self.wires.get(wire).copied() else { return };
        let (end, peer) = (row.ends[usize::from(side)], row.ends[1 - usize::from(side)].node);
        if side == 0 {
            let (key, at) = (Some(scenario::key(peer)), scenario::addr(peer, self.node(peer).plan.nat));
            let conn = end.conn;
            self.tell(end.node, Fact::Declined { conn, key, at, code: 4, retry_after, newer_epoch });
        }
        self.end_of(wire, side, End::Fault(Fault::new(Step::Hello, FaultKind::Declined)));
    }

    pub fn ready(&mut self, number: u32, conn: ConnRef, wire: WireRef) {
        let now = self.now;
        if let Some(slot) = self.node(number).slot(conn) {
            slot.is_live = true;
        }
        if let Some(row) = self.wires.get_mut(wire) {
            row.ends.iter_mut().filter(|end| end.node == number && end.conn == conn).for_each(|end| {
                end.used_at = now;
            });
        }
        self.tell(number, Fact::Ready { conn });
    }

    fn received(&mut self, wire: WireRef, at: usize, msg: Msg) {
        let now = self.now;
        let Some(row) = self.wires.get_mut(wire) else { return };
        let end = &mut row.ends[at];
        if matches!(msg, Msg::Data) {
            end.used_at = now;
        }
        let (number, conn, used_at) = (end.node, end.conn, end.used_at);
        if matches!(msg, Msg::Ping) {
            self.send(wire, at, Msg::Pong);
        }
        let report = Report { received_at: now, used_at, ..Report::default() };
        self.tell(number, Fact::Reported { conn, report });
    }

    fn learn(&mut self, number: u32, teller: u32, peers: [u32; PEERS]) {
        for peer in peers.into_iter().filter(|peer| *peer != NOBODY && *peer != number && *peer != teller) {
            let nat = self.node(peer).plan.nat;
            let addrs: Addrs = [scenario::addr(peer, nat)].into_iter().collect();
            let who = Who::mesh(scenario::key(peer));
            self.tell(number, Fact::Learned { who, addrs, source: Source::Gossip });
        }
    }
}
