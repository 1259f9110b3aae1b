//! Everything that may enter the core: one value type, owned and without lifetimes, so that the same action can be
//! queued by net, written to the journal, replayed, fuzzed and compared. Payload bytes and names never enter.

use crate::{Addr, Addrs, Close, Config, ConnRef, End, Fault, PeerKey, StackId, Subnet, Violation, Who};
use alloc::boxed::Box;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// An accepted socket that the core has not judged yet, numbered by net.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Ticket(pub u32);

/// A command's number; its answer carries it back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct CommandId(pub u32);

/// What happens: the argument of [`crate::Core::step`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Time has come for something, see [`crate::Core::next_wake`].
    Wake,
    /// The wall clock, told at start, every minute and after a jump. Used for bans that outlive the process.
    Clock {
        /// Milliseconds since 1970, UTC.
        unix_ms: u64,
    },
    /// The machine's network changed.
    Network(Change),
    /// Somebody asks for something.
    Do(CommandId, Command),
    /// Something happened outside.
    Saw(Fact),
}

/// What changed about the machine's network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Change {
    /// A route exists (again).
    Online,
    /// No route at all: dialling pauses, nobody is punished.
    Offline,
    /// Addresses or routes changed, or the machine woke from sleep: probe what is up.
    Moved,
}

/// What people and programs can ask for, in document 000's words and ours. Each is answered in its own step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Connect once: up to the profile's attempts, then give up (S0.18). Fresh addresses are tried first.
    Connect {
        /// Whom.
        who: Who,
        /// Where; may be empty when known.
        addrs: Addrs,
        /// Net also knows names for it, to be looked up before each dial.
        named: bool,
    },
    /// Keep connected until `Unwant`; never given up.
    Want {
        /// Whom.
        who: Who,
        /// Where; may be empty when known.
        addrs: Addrs,
        /// Net also knows names for it, to be looked up before each dial.
        named: bool,
    },
    /// Wanted no longer. An existing connection stays until it is idle or ends.
    Unwant(Who),
    /// Close what is connected (S0.21). A wanted peer is dialled again.
    Disconnect(Who),
    /// Abandon the attempt in progress (pitfall A5).
    Cancel(Who),
    /// Try again now, within the attempts left (S0.22).
    Retry(Who),
    /// Forget attempts, cancel the dial, close the connection: back to `Disconnected` (S0.23, pitfall A3).
    Reset(Who),
    /// Keep (or stop keeping) an existing connection however idle it is.
    Hold {
        /// Whom.
        who: Who,
        /// Keep, or stop keeping.
        on: bool,
    },
    /// Ban a key or a subnet.
    Ban {
        /// What.
        target: Target,
        /// For how long; `None` until lifted.
        span: Option<Duration>,
    },
    /// Lift a ban.
    Unban(Target),
    /// Forget a contact that is neither connected nor wanted: its addresses, history and place in the table.
    Forget(Who),
    /// Take a new configuration, whole or not at all.
    Configure(Box<Config>),
    /// Say goodbye to everybody and admit nobody.
    Shutdown,
    /// Open a second connection beside a degraded one. The other side closes the old one, with [`Close::Replaced`],
    /// once the new one is up; when the new one fails, the old one stays as it was. Refused when not connected, when
    /// another connection is on its way, during a ban or a backoff, above a limit, and on stacks that keep one
    /// connection without numbering their dials.
    Replace(Who),
}

/// What a ban names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Target {
    /// A key, on whatever stack.
    Key(PeerKey),
    /// An address (128 bits) or a subnet; never a port.
    Subnet(Subnet),
}

/// Where an address came from. Later ones are trusted more; a better source replaces a worse one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Source {
    /// A third peer said so.
    Gossip,
    /// The peer itself said so, in a proven hello.
    Told,
    /// The store remembers it.
    Stored,
    /// An operator or program named it.
    Named,
    /// We connected there and met the right peer.
    Proven,
}

/// The numbers a hello carries for the two-dials rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Greeting {
    /// The sender's boot epoch.
    pub epoch: u64,
    /// The number of this dial; 0 in an answer.
    pub dial: u32,
    /// The highest dial of the receiver's that the sender accepted, with the receiver's epoch; (0, 0) for none.
    pub accepted: (u64, u32),
    /// This dial is to take the place of a degraded connection that is still up.
    pub replaces: bool,
}

/// What a link reports, at most four times a second and only when something changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// When bytes last arrived.
    pub received_at: crate::Time,
    /// When an application last used it (a ping is no use).
    pub used_at: crate::Time,
    /// Channels open now.
    pub channels: u16,
    /// Smoothed round trip in microseconds; 0 when unknown.
    pub rtt_us: u32,
    /// When bytes last left.
    pub sent_at: crate::Time,
    /// Rate in kbit/s at which bytes last left while the link could not take more; 0 when that never was.
    pub rate_kbps: u32,
    /// Questions that wanted an answer, counting up and around (channels asked for; not the core's own probes).
    pub asked: u16,
    /// Of those, the ones that got none in time.
    pub failed: u16,
}

/// How bytes travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Route {
    /// Straight to the peer.
    Direct,
    /// Within one local network.
    SameLan,
    /// Through a relay, by its number in the party's list.
    Relay(u16),
}

/// What happened outside. Each names the conn (with generation) or the ticket it is about; late ones are recognised.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Fact {
    /// Somebody exists, and where.
    Learned {
        /// Who.
        who: Who,
        /// Where.
        addrs: Addrs,
        /// Says who.
        source: Source,
    },
    /// Two contacts are proven to be one peer.
    Bound {
        /// One.
        a: Who,
        /// The other.
        b: Who,
    },
    /// The names of a contact in stage `Resolving` were looked up; empty when that failed.
    Resolved {
        /// The attempt that asked.
        conn: ConnRef,
        /// What was found.
        addrs: Addrs,
    },
    /// A socket was accepted.
    Arrived {
        /// Net's number for it.
        ticket: Ticket,
        /// On which stack's listener.
        stack: StackId,
        /// From where.
        remote: Addr,
    },
    /// One address of an attempt failed; the attempt goes on.
    Missed {
        /// The attempt.
        conn: ConnRef,
        /// The address.
        addr: Addr,
        /// How.
        fault: Fault,
    },
    /// The other side is identified, and nothing is promised yet: the acceptor read a hello, the dialler an answer.
    Met {
        /// Which conn.
        conn: ConnRef,
        /// Who it proved to be.
        key: PeerKey,
        /// The address that answered, or the remote one of an inbound conn.
        at: Addr,
        /// The hello's or answer's numbers, where the stack has them.
        greeting: Option<Greeting>,
    },
    /// The dialler was refused in the stack's words. `Gone` follows.
    Declined {
        /// Which conn.
        conn: ConnRef,
        /// Who it proved to be, if that was proven.
        key: Option<PeerKey>,
        /// The address that refused us.
        at: Addr,
        /// Their reason in the stack's numbers; becomes the fault's detail.
        code: u32,
        /// Do not come back before; zero when they did not say.
        retry_after: Duration,
        /// They hold an epoch of ours for newer than the one we sent: this one; 0 when that was not the reason.
        newer_epoch: u64,
    },
    /// The link is agreed on both sides: the dialler sent the confirm, the acceptor read it.
    Ready {
        /// Which conn.
        conn: ConnRef,
    },
    /// The path agent moved the bytes to another way.
    Routed {
        /// Which conn.
        conn: ConnRef,
        /// The way now.
        route: Route,
        /// Round trip there in microseconds.
        rtt_us: u32,
        /// Why, in the agent's code.
        why: u8,
        /// When it next tries something better.
        next_attempt: crate::Time,
    },
    /// A link's numbers changed.
    Reported {
        /// Which conn.
        conn: ConnRef,
        /// The numbers.
        report: Report,
    },
    /// They misbehaved. Whether the conn survives is the core's decision.
    Violated {
        /// Which conn.
        conn: ConnRef,
        /// How.
        what: Violation,
    },
    /// The conn is over: exactly one per conn, also on error, cancel and panic.
    Gone {
        /// Which conn.
        conn: ConnRef,
        /// How.
        end: End,
    },
    /// Arrivals that net dropped under flood without asking.
    TurnedAway {
        /// How many.
        count: u32,
    },
    /// The store remembers failed attempts. Told before the contact's addresses, so that nothing is dialled in between.
    Recalled {
        /// Whose.
        who: Who,
        /// How many in a row.
        failures: u16,
        /// Not to be dialled by itself before that.
        wait: Duration,
    },
}

/// A convenience for callers: no close reason outside this list crosses the wire.
impl Close {
    /// Its number on the wire and in the store.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason with that number.
    pub const fn from_code(code: u8) -> Option<Close> {
        use Close::*;
        const ALL: [Close; 11] = [
            Requested, Idle, Replaced, Duplicate, Banned, Dead, Timeout, Cancelled, Violation, Resources,
            Shutdown,
        ];
        if (code as usize) < ALL.len() { Some(ALL[code as usize]) } else { None }
    }
}
