//! A conn: one attempt or session, as one row. Its stage says how far it is; one function sets it, `Core::set_stage`.

use crate::Addrs;
use crate::health::Health;
use crate::slab::NONE;
use crate::{
    Addr, AddrKind, Close, ConnRef, ContactRef, Fault, Greeting, Limit, PeerKey, Report, StackId, Subnet,
    Time, Who,
};
use arrayvec::ArrayVec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// How far a conn is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Stage {
    /// Outbound: names are being looked up.
    Resolving,
    /// Outbound: connecting and greeting, up to the answer.
    Dialing,
    /// Inbound: greeting, up to the hello.
    Arriving,
    /// Inbound: identified, waiting for our own dial to the same contact to end.
    Held,
    /// Agreed by us; the dialler's confirm is on its way out, the acceptor's on its way in.
    Offered,
    /// Agreed by both, carrying data.
    Up,
    /// Inbound above the limits: will be told why.
    Refusing,
    /// Ordered to end; only `Gone` counts.
    Closing,
}

impl Stage {
    /// How many stages there are.
    pub const COUNT: usize = 8;
    /// Its place in tables.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Who connected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Direction {
    /// They did.
    Inbound,
    /// We did.
    Outbound,
}

/// Most addresses of one attempt.
pub(crate) const MAX_LEGS: usize = 4;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Conn {
    pub stack: StackId,
    pub direction: Direction,
    pub stage: Stage,
    /// The contact's row; `NONE` while the other side is unknown.
    pub contact: u32,
    pub prev: u32,
    pub next: u32,
    /// Inbound: the remote address. Outbound: the one that answered, from `met` on.
    pub remote: Addr,
    /// Outbound, until met: the frozen addresses.
    pub legs: ArrayVec<Addr, MAX_LEGS>,
    pub met: bool,
    /// It was up at some time.
    pub was_up: bool,
    /// Takes the place of the connection that is up, at the confirm.
    pub replaces: bool,
    /// Why it is only tolerated to be told no.
    pub courtesy: Option<Limit>,
    /// Ours when outbound, theirs when inbound.
    pub dial: u32,
    /// Our epoch when we dialled.
    pub my_epoch: u64,
    /// Outbound: their highest dial that we had accepted when this one was decided, with their epoch. What is accepted
    /// while names are looked up is no reason to hold the other end for dead.
    pub accepted: (u64, u32),
    /// Theirs, from hello or answer; 0 until known.
    pub peer_epoch: u64,
    /// The one establishment deadline.
    pub deadline: Time,
    pub began: Time,
    pub up_at: Time,
    pub report: Report,
    pub health: Health,
    pub probes: u8,
    pub probe_at: Time,
    /// The reason of our own `Close`.
    pub why: Option<Close>,
    pub fault: Option<Fault>,
    /// They asked us to stay away this long.
    pub retry_after: Duration,
}

impl Conn {
    pub fn new(stack: StackId, direction: Direction, stage: Stage, remote: Addr, now: Time) -> Conn {
        Conn {
            stack,
            direction,
            stage,
            contact: NONE,
            prev: NONE,
            next: NONE,
            remote,
            legs: ArrayVec::new(),
            met: false,
            was_up: false,
            replaces: false,
            courtesy: None,
            dial: 0,
            my_epoch: 0,
            accepted: (0, 0),
            peer_epoch: 0,
            deadline: Time::NEVER,
            began: now,
            up_at: Time::ZERO,
            report: Report::default(),
            health: Health::default(),
            probes: 0,
            probe_at: Time::ZERO,
            why: None,
            fault: None,
            retry_after: Duration::ZERO,
        }
    }

    pub fn is_outbound(&self) -> bool {
        self.direction == Direction::Outbound
    }

    /// When nothing will have arrived for long enough to ask. The side that was dialled asks a little later: the question
    /// of the other one is a sign of life, so an idle link carries one in each interval, and not two.
    pub fn silent_until(&self, silence: Duration, deadline: Duration) -> Time {
        let courtesy = if self.is_outbound() { Duration::ZERO } else { deadline / 4 };
        self.report.received_at + silence + courtesy
    }

    /// An own dial that has no answer yet.
    pub fn is_pending_dial(&self) -> bool {
        matches!(self.stage, Stage::Resolving | Stage::Dialing)
    }

    /// Up in the sense of the two-dials rule: the dialler's conn is, from the answer on.
    pub fn is_up(&self) -> bool {
        self.stage == Stage::Up || (self.stage == Stage::Offered && self.is_outbound())
    }

    /// Whether a successor marked as such lets it stay for the time being: the other side may have announced it.
    pub fn may_be_replaced(&self) -> bool {
        matches!(self.stage, Stage::Up | Stage::Offered)
    }

    /// Whether it takes one of the pending slots.
    pub fn is_pending(&self) -> bool {
        !self.was_up && self.stage != Stage::Up
    }

    /// The IP addresses it is counted under.
    pub fn counted_ips(&self) -> ArrayVec<[u8; 16], MAX_LEGS> {
        let mut ips = ArrayVec::new();
        if self.met || !self.is_outbound() {
            ips.push(self.remote.ip);
            return ips;
        }
        for leg in &self.legs {
            if !ips.contains(&leg.ip) {
                ips.push(leg.ip);
            }
        }
        ips
    }

    /// The subnets it is counted under, once each however many of its addresses lie there.
    pub fn counted_subnets(&self) -> ArrayVec<Subnet, MAX_LEGS> {
        let mut subnets = ArrayVec::new();
        for ip in self.counted_ips() {
            let subnet = Addr { ip, port: 0, kind: AddrKind::Tcp }.subnet();
            if !subnets.contains(&subnet) {
                subnets.push(subnet);
            }
        }
        subnets
    }
}

/// What a dial needs to know.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Whom.
    pub who: Who,
    /// The contact.
    pub contact: ContactRef,
    /// Which identity must answer; `None` trusts on first use.
    pub expect: Option<PeerKey>,
    /// Frozen addresses in order, at most four.
    pub addrs: Addrs,
    /// What the hello carries.
    pub greeting: Greeting,
}

/// A conn as others see it.
#[derive(Clone, Debug)]
pub struct ConnView {
    /// Its handle.
    pub conn: ConnRef,
    /// The contact, once known.
    pub contact: Option<ContactRef>,
    /// On which stack.
    pub stack: StackId,
    /// Who connected.
    pub direction: Direction,
    /// How far it is.
    pub stage: Stage,
    /// The other end; of a dial, the first address until one answered.
    pub remote: Addr,
    /// The dialler's number for it.
    pub dial: u32,
    /// When it began.
    pub began: Time,
    /// When it came up; `None` when it never did.
    pub up_at: Option<Time>,
    /// The link's numbers.
    pub report: Report,
    /// How good it is.
    pub health: crate::HealthView,
    /// Why we ended it, when we did.
    pub why: Option<Close>,
    /// What failed last.
    pub fault: Option<Fault>,
}
