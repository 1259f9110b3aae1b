//! The race between a peer's addresses (happy eyeballs): legs start one after another, the first that connects wins,
//! the others are told to stop. It does not know how a leg connects, and does not choose or filter addresses.

use arrayvec::ArrayVec;
use core::time::Duration;
use peerkeep_core::{Addr, Time};

/// Most addresses in one race; more are ignored.
pub const MAX_LEGS: usize = 4;

/// Head start of a leg over the next one. RFC 8305 recommends 250 ms.
pub const STAGGER: Duration = Duration::from_millis(250);

/// What the caller has to do. `leg` counts from 0 in the order of [`interleave`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// Start connecting.
    Start {
        /// Which leg.
        leg: usize,
        /// Where to.
        addr: Addr,
    },
    /// Stop connecting: another leg has won, or the race was called off.
    Stop {
        /// Which leg.
        leg: usize,
    },
    /// No leg is left; the race is lost.
    Lost,
}

/// The caller's buffer; no call pushes more than this many.
pub type Moves = ArrayVec<Move, { MAX_LEGS + 1 }>;

/// One race.
#[derive(Clone, Debug)]
pub struct Race {
    legs: ArrayVec<(Addr, Leg), MAX_LEGS>,
    stagger: Duration,
    next_start: Time,
    is_over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leg {
    Waiting,
    Running,
    Failed,
}

impl Race {
    /// A race between the first [`MAX_LEGS`] of `addrs`, families interleaved. Starts the first leg.
    pub fn start(addrs: &[Addr], stagger: Duration, now: Time, out: &mut Moves) -> Race {
        let legs = interleave(addrs).into_iter().map(|addr| (addr, Leg::Waiting)).collect();
        let mut race = Race { legs, stagger, next_start: now, is_over: false };
        race.handle_wake(now, out);
        race.lose_if_empty(out);
        race
    }

    /// When `handle_wake` has something to do.
    pub fn next_wake(&self) -> Option<Time> {
        let has_waiting = !self.is_over && self.waiting().is_some();
        has_waiting.then_some(self.next_start)
    }

    /// Starts the next leg when its time has come. Early, late and repeated calls do no harm.
    pub fn handle_wake(&mut self, now: Time, out: &mut Moves) {
        if self.is_over || now < self.next_start {
            return;
        }
        if let Some(leg) = self.waiting() {
            self.legs[leg].1 = Leg::Running;
            // From now, not from when it was due: after a stall the legs must not all start at once.
            self.next_start = now.after(self.stagger);
            out.push(Move::Start { leg, addr: self.legs[leg].0 });
        }
    }

    /// A leg failed: the next one starts at once.
    pub fn handle_failed(&mut self, leg: usize, now: Time, out: &mut Moves) {
        if self.is_over || self.state(leg) != Some(Leg::Running) {
            return;
        }
        self.legs[leg].1 = Leg::Failed;
        self.next_start = self.next_start.min(now);
        self.handle_wake(now, out);
        self.lose_if_empty(out);
    }

    /// A leg connected. `true` if it won; `false` if it came too late and must be dropped.
    #[must_use]
    pub fn handle_connected(&mut self, leg: usize, out: &mut Moves) -> bool {
        if self.is_over || self.state(leg) != Some(Leg::Running) {
            return false;
        }
        self.stop_running(Some(leg), out);
        true
    }

    /// Calls the race off: all running legs stop.
    pub fn cancel(&mut self, out: &mut Moves) {
        if !self.is_over {
            self.stop_running(None, out);
        }
    }

    /// Whether it is won, lost or called off.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// A leg's address.
    pub fn addr(&self, leg: usize) -> Option<Addr> {
        self.legs.get(leg).map(|(addr, _)| *addr)
    }

    fn stop_running(&mut self, winner: Option<usize>, out: &mut Moves) {
        self.is_over = true;
        for (leg, (_, state)) in self.legs.iter().enumerate() {
            if *state == Leg::Running && Some(leg) != winner {
                out.push(Move::Stop { leg });
            }
        }
    }

    fn lose_if_empty(&mut self, out: &mut Moves) {
        if self.legs.iter().all(|(_, state)| *state == Leg::Failed) {
            self.is_over = true;
            out.push(Move::Lost);
        }
    }

    fn waiting(&self) -> Option<usize> {
        self.legs.iter().position(|(_, state)| *state == Leg::Waiting)
    }

    fn state(&self, leg: usize) -> Option<Leg> {
        self.legs.get(leg).map(|(_, state)| *state)
    }
}

/// The order of the legs: the families take turns, beginning with the family of the first address; within a family
/// the given order stays. Doubles are dropped, and what is beyond [`MAX_LEGS`].
pub fn interleave(addrs: &[Addr]) -> ArrayVec<Addr, MAX_LEGS> {
    let mut legs = ArrayVec::new();
    let Some(first) = addrs.first() else { return legs };
    let mut wants_v6 = first.ip_addr().is_ipv6();
    while !legs.is_full() {
        let fresh = |addr: &&Addr| !legs.contains(*addr);
        let in_turn = addrs.iter().filter(fresh).find(|addr| addr.ip_addr().is_ipv6() == wants_v6);
        let Some(next) = in_turn.or_else(|| addrs.iter().find(fresh)) else { break };
        legs.push(*next);
        wants_v6 = !next.ip_addr().is_ipv6();
    }
    legs
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    fn addr(text: &str) -> Addr {
        Addr::tcp(text.parse::<SocketAddr>().expect("a socket address"))
    }

    fn start(addrs: &[Addr], now: Time) -> (Race, Moves) {
        let mut out = Moves::new();
        let race = Race::start(addrs, STAGGER, now, &mut out);
        (race, out)
    }

    fn started(moves: &[Move]) -> ArrayVec<usize, 8> {
        moves.iter().filter_map(|m| if let Move::Start { leg, .. } = m { Some(*leg) } else { None }).collect()
    }

    const V6: &str = "[2001:db8::1]:1";
    const V4: &str = "192.0.2.1:1";

    #[test]
    fn families_take_turns_beginning_with_the_first() {
        let (a, b) = (addr("[2001:db8::1]:1"), addr("[2001:db8::2]:1"));
        let (c, d) = (addr("192.0.2.1:1"), addr("192.0.2.2:1"));
        assert_eq!(interleave(&[a, b, c, d]).as_slice(), [a, c, b, d]);
        assert_eq!(interleave(&[c, a, b, d]).as_slice(), [c, a, d, b]);
        assert_eq!(interleave(&[a, b]).as_slice(), [a, b]);
        assert_eq!(interleave(&[a, a, a]).as_slice(), [a]);
        assert_eq!(interleave(&[]).as_slice(), []);
    }

    #[test]
    fn at_most_four_addresses_race() {
        let many: ArrayVec<Addr, 8> =
            (1..=8).map(|n| Addr::tcp(SocketAddr::from(([192, 0, 2, n], 1)))).collect();
        assert_eq!(interleave(&many).len(), MAX_LEGS);
    }

    #[test]
    fn fault_d15_silent_v6_costs_one_stagger() {
        let zero = Time::from_millis(5);
        let (mut race, mut out) = start(&[addr(V6), addr(V4)], zero);
        assert_eq!(started(&out), ArrayVec::<_, 8>::from_iter([0]));
        assert_eq!(race.next_wake(), Some(zero.after(STAGGER)));
        out.clear();
        race.handle_wake(zero.after(Duration::from_millis(249)), &mut out);
        assert!(out.is_empty(), "not before its time");
        race.handle_wake(zero.after(Duration::from_millis(250)), &mut out);
        assert_eq!(out.as_slice(), [Move::Start { leg: 1, addr: addr(V4) }]);
        out.clear();
        assert!(race.handle_connected(1, &mut out));
        assert_eq!(out.as_slice(), [Move::Stop { leg: 0 }], "the loser is told");
        assert_eq!(race.next_wake(), None);
        assert!(!race.handle_connected(0, &mut out), "a late connection is not a second winner");
    }

    #[test]
    fn fault_d15_refused_v6_costs_nothing() {
        let (mut race, mut out) = start(&[addr(V6), addr(V4)], Time::ZERO);
        out.clear();
        race.handle_failed(0, Time::from_millis(1), &mut out);
        assert_eq!(out.as_slice(), [Move::Start { leg: 1, addr: addr(V4) }]);
        out.clear();
        assert!(race.handle_connected(1, &mut out));
        assert!(out.is_empty(), "no leg is left to stop");
    }

    #[test]
    fn a_failure_gives_the_next_leg_its_full_head_start() {
        let addrs = [addr("192.0.2.1:1"), addr("192.0.2.2:1"), addr("192.0.2.3:1")];
        let (mut race, mut out) = start(&addrs, Time::ZERO);
        race.handle_failed(0, Time::from_millis(100), &mut out);
        assert_eq!(started(&out).as_slice(), [0, 1]);
        assert_eq!(race.next_wake(), Some(Time::from_millis(350)));
    }

    #[test]
    fn the_race_is_lost_when_the_last_leg_fails() {
        let (mut race, mut out) = start(&[addr(V6), addr(V4)], Time::ZERO);
        race.handle_failed(0, Time::ZERO, &mut out);
        out.clear();
        race.handle_failed(1, Time::ZERO, &mut out);
        assert_eq!(out.as_slice(), [Move::Lost]);
        out.clear();
        race.handle_failed(1, Time::ZERO, &mut out);
        race.handle_failed(7, Time::ZERO, &mut out);
        assert!(out.is_empty() && race.is_over(), "told once");
    }

    #[test]
    fn a_race_without_addresses_is_lost_at_once() {
        let (race, out) = start(&[], Time::ZERO);
        assert_eq!(out.as_slice(), [Move::Lost]);
        assert!(race.is_over());
    }

    #[test]
    fn a_late_wake_starts_one_leg_not_all() {
        let addrs = [addr("192.0.2.1:1"), addr("192.0.2.2:1"), addr("192.0.2.3:1")];
        let (mut race, mut out) = start(&addrs, Time::ZERO);
        out.clear();
        race.handle_wake(Time::from_millis(60_000), &mut out);
        assert_eq!(started(&out).as_slice(), [1]);
        assert_eq!(race.next_wake(), Some(Time::from_millis(60_250)));
    }

    #[test]
    fn calling_off_stops_what_runs() {
        let (mut race, mut out) = start(&[addr(V6), addr(V4)], Time::ZERO);
        race.handle_wake(Time::from_millis(250), &mut out);
        out.clear();
        race.cancel(&mut out);
        assert_eq!(out.as_slice(), [Move::Stop { leg: 0 }, Move::Stop { leg: 1 }]);
        out.clear();
        race.cancel(&mut out);
        race.handle_wake(Time::from_millis(900), &mut out);
        assert!(out.is_empty() && race.is_over());
    }
}
