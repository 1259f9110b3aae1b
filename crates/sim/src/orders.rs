//! What a link does when it is told to, and how connections end: each end says so once. It obeys; when to end what is
//! the core's decision.

use crate::node::Socket;
use crate::scenario;
use crate::wire::{Msg, WireRef};
use crate::world::{Event, Order, World};
use peerkeep_core::{Close, ConnRef, End, Fact, Fault, FaultKind, Refusal, Report, Step, Time};
use std::time::Duration;

impl World {
    // ---- ending

    /// An end hears that its wire is over.
    pub fn end_of(&mut self, wire: WireRef, side: u8, end: End) {
        let Some(row) = self.wires.get(wire).copied() else { return };
        let mine = row.ends[usize::from(side)];
        if !mine.is_open {
            return;
        }
        self.shut(wire, side.into());
        let is_live = self.node(mine.node).slot(mine.conn).is_some_and(|slot| slot.is_live);
        let failed = match end {
            End::Fault(fault) if fault.kind != FaultKind::Declined => Some(fault),
            _ => None,
        };
        if let (0, false, Some(fault)) = (side, is_live, failed) {
            if self.racing(mine.node, mine.conn).is_some() {
                return self.leg_failed(mine.node, mine.conn, row.leg, fault);
            }
            let addr = scenario::addr(row.ends[1].node, self.node(row.ends[1].node).plan.nat);
            self.tell(mine.node, Fact::Missed { conn: mine.conn, addr, fault });
        }
        if let Some(socket) = self.socket(mine.node, mine.conn) {
            *socket = Socket::Over;
            self.tell(mine.node, Fact::Gone { conn: mine.conn, end });
        }
    }

    /// The kernel gives up: nothing it sent was acknowledged.
    pub fn give_up(&mut self, wire: WireRef, side: u8) {
        let is_open = self.wires.get(wire).is_some_and(|row| row.ends[usize::from(side)].is_open);
        if is_open {
            self.end_of(wire, side, End::Fault(Fault::new(Step::Live, FaultKind::Timeout)));
        }
    }

    pub fn gone(&mut self, number: u32, conn: ConnRef, end: End) {
        if self.node(number).slot(conn).is_some() {
            self.tell(number, Fact::Gone { conn, end });
        }
    }

    pub fn gone_later(&mut self, number: u32, conn: ConnRef, end: End, within_us: u64) {
        let boot = self.node(number).boot;
        let wait = Duration::from_micros(self.rng.below(within_us));
        self.queue.push(self.now + wait, Event::Gone { node: number, boot, conn, end });
    }

    /// Closes a socket without a word.
    pub fn shut(&mut self, wire: WireRef, side: usize) {
        self.bury(wire, side);
        if let Some(row) = self.wires.get_mut(wire) {
            row.ends[side].is_open = false;
        }
        self.wires.release(wire);
    }

    /// Closes a socket with a last word to the other side.
    pub fn drop_end(&mut self, wire: WireRef, side: usize, word: Msg) {
        if self.wires.get(wire).is_some_and(|row| row.ends[side].is_open) {
            self.send(wire, side, word);
            self.shut(wire, side);
        }
    }

    // ---- orders

    /// A link obeys; what it is too late for, it lets be.
    pub fn obey(&mut self, number: u32, conn: ConnRef, order: Order) {
        let node = self.node(number);
        let Some(slot) = node.slot(conn) else { return };
        let is_live = slot.is_live;
        let linked = match slot.socket {
            Socket::Linked { wire, side } => Some((wire, usize::from(side))),
            _ => None,
        };
        match (order, linked) {
            (Order::Admit, Some((wire, 0))) => {
                self.send(wire, 0, Msg::Confirm);
                self.ready(number, conn, wire);
            }
            (Order::Admit, Some((wire, _))) => {
                let answer = self.node(number).core.view().answer();
                self.send(wire, 1, Msg::Answer(answer));
            }
            (Order::Turn { why, retry_after }, Some((wire, side))) => {
                let newer = if let Refusal::Stale { newer } = why { newer } else { 0 };
                self.drop_end(wire, side, Msg::Refusal { newer, retry_after });
                self.linger(number, conn);
            }
            (Order::Probe, Some((wire, side))) if is_live => self.send(wire, side, Msg::Ping),
            (Order::Close { why, unless_used_since }, linked) => {
                self.close(number, conn, linked, why, unless_used_since);
            }
            (Order::Admit | Order::Turn { .. } | Order::Probe, _) => {}
        }
    }

    fn close(
        &mut self,
        number: u32,
        conn: ConnRef,
        linked: Option<(WireRef, usize)>,
        why: Close,
        unless_used_since: Time,
    ) {
        if let Some(racing) = self.racing(number, conn) {
            let wires = racing.wires;
            wires.into_iter().for_each(|wire| self.drop_end(wire, 0, Msg::Reset));
            return self.linger(number, conn);
        }
        if matches!(self.socket(number, conn), Some(Socket::Lookup)) {
            return self.linger(number, conn);
        }
        let Some((wire, side)) = linked else { return };
        let is_live = self.node(number).slot(conn).is_some_and(|slot| slot.is_live);
        let used_at = self.wires.get(wire).map_or(Time::ZERO, |row| row.ends[side].used_at);
        if is_live && used_at > unless_used_since {
            let report = Report { received_at: used_at, used_at, ..Report::default() };
            return self.tell(number, Fact::Reported { conn, report });
        }
        self.drop_end(wire, side, if is_live { Msg::Bye(why) } else { Msg::Reset });
        self.linger(number, conn);
    }

    fn linger(&mut self, number: u32, conn: ConnRef) {
        let within = self.node(number).plan.linger_us;
        if let Some(socket) = self.socket(number, conn) {
            *socket = Socket::Over;
        }
        if within == 0 {
            self.tell(number, Fact::Gone { conn, end: End::Asked });
        } else {
            self.gone_later(number, conn, End::Asked, within);
        }
    }
}
