//! The boundary between the owner of the core and the wire: what a driver is given, and what a stack over a byte
//! stream has to say. Nothing here decides and nothing here opens a socket.

use crate::quic::quic_fault;
use crate::{Mail, Meter, QuicDial, QuicIo, TcpOptions};
use peerkeep_core::{
    Addr, Addrs, Close, ConnRef, Fault, Greeting, PeerKey, Refusal, StackId, Step, Ticket, Time, Violation,
};
use quinn::ConnectionError;
use std::future::Future;
use std::time::Duration;
use tokio::net::TcpStream;

/// An effect with its references expanded by the owner task before the next step. Times are the core's.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "dials are few, and a box for each is made where the core runs"
)]
pub enum Order {
    /// Connect to one of the addresses, greet, and report `Met`, `Missed`, `Declined`, `Gone`.
    Dial {
        /// The attempt.
        conn: ConnRef,
        /// Who must answer; `None` trusts on first use.
        expect: Option<PeerKey>,
        /// Frozen, in order of preference, at most four.
        addrs: Addrs,
        /// What the hello carries.
        greeting: Greeting,
        /// When all of it must be over.
        deadline: Time,
    },
    /// Let an accepted socket greet.
    Accept {
        /// Which socket.
        ticket: Ticket,
        /// What it is from now on.
        conn: ConnRef,
        /// When its handshake must be over.
        deadline: Time,
    },
    /// Drop an accepted socket.
    Refuse {
        /// Which socket.
        ticket: Ticket,
    },
    /// After `Met`: go on. `greeting` is what the acceptor's answer carries.
    Admit {
        /// Which conn.
        conn: ConnRef,
        /// Our numbers.
        greeting: Greeting,
    },
    /// After `Met`: tell them why not, then end.
    Turn {
        /// Which conn.
        conn: ConnRef,
        /// Why.
        why: Refusal,
        /// What to tell them about coming back; zero for nothing.
        retry_after: Duration,
    },
    /// Ask for a sign of life.
    Probe {
        /// Which conn.
        conn: ConnRef,
    },
    /// End it, with a goodbye when it is up.
    Close {
        /// Which conn.
        conn: ConnRef,
        /// The reason.
        why: Close,
        /// Decline if it was used after this; `Time::NEVER` closes in any case.
        unless_used_since: Time,
        /// Time for the goodbye; after it the socket is dropped.
        deadline: Time,
    },
}

/// What every stack is to the owner: takes orders, never blocks. Facts come back through the owner's inbox.
pub trait Driver: Send {
    /// Which stack it speaks.
    fn stack(&self) -> StackId;
    /// Carries out the orders in sequence and leaves the buffer empty.
    fn perform(&mut self, orders: &mut Vec<Order>);
}

/// What a handshake starts from.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Which side we are.
    pub role: Role,
    /// Who must answer, when that is known.
    pub expect: Option<PeerKey>,
    /// What our hello carries (dialler only).
    pub greeting: Greeting,
    /// The address dialled, or the remote address of an accepted socket.
    pub remote: Addr,
}

/// Which side of a connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We connected.
    Dialler,
    /// They connected.
    Acceptor,
}

/// Who was met: identified, and nothing promised yet.
#[derive(Debug, Clone)]
pub struct Met {
    /// The proven key.
    pub key: PeerKey,
    /// The numbers of their hello or answer, where the stack has them.
    pub greeting: Option<Greeting>,
    /// Where they say they listen, for the address book; at most eight.
    pub listen: Addrs,
}

/// The core's word on a conn that was met.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Go on; the acceptor's answer carries the greeting.
    Admit {
        /// Our numbers.
        greeting: Greeting,
    },
    /// Tell them why not.
    Turn {
        /// Why.
        why: Refusal,
        /// When to come back; zero for nothing.
        retry_after: Duration,
    },
}

/// How a handshake failed.
#[derive(Debug, Clone)]
pub enum MeetError {
    /// The world failed.
    Fault(Fault),
    /// They misbehaved.
    Violation(Violation),
    /// They refused us in the stack's words.
    Declined {
        /// Who it proved to be, if proven.
        key: Option<PeerKey>,
        /// Their reason in the stack's numbers.
        code: u32,
        /// Their reason, printable, bounded, escaped.
        reason: String,
        /// Do not come back before; zero when they did not say.
        retry_after: Duration,
        /// See [`peerkeep_core::Fact::Declined`].
        newer_epoch: u64,
    },
}

impl From<Fault> for MeetError {
    fn from(fault: Fault) -> MeetError {
        MeetError::Fault(fault)
    }
}

/// What a stack runs over.
#[derive(Debug)]
pub enum Io {
    /// A connected TCP stream, `TCP_NODELAY` set, buffers and keepalive as configured.
    Tcp(TcpStream),
    /// A QUIC connection: with TLS done when we dialled, with TLS under way when they did.
    Quic(QuicIo),
}

/// A wire stack over a byte stream or a QUIC connection. Served by [`crate::StreamDriver`]; its futures stay on one shard, so they need
/// not be `Send`. All must be cancel-safe in the sense that dropping them closes the socket.
pub trait Stack: Send + Sync + 'static {
    /// A conn that was met.
    type Meeting: Meeting;
    /// Its number.
    const ID: StackId;
    /// What to dial QUIC with; `None` from a stack that does not speak it. `terms.remote` is the address.
    fn quic_dial(&self, terms: &Terms) -> Option<QuicDial> {
        let _ = terms;
        None
    }
    /// A failed QUIC connection in the stack's details.
    fn quic_fault(&self, step: Step, error: &ConnectionError) -> Fault {
        quic_fault(step, error)
    }
    /// Secures the stream, exchanges greetings up to the point where the core must decide: the acceptor has read the
    /// hello, the dialler the answer. Deadlines are the caller's.
    fn meet(&self, io: Io, terms: Terms) -> impl Future<Output = Result<(Met, Self::Meeting), MeetError>>;
}

/// A conn that was met and waits for the core's word.
pub trait Meeting: 'static {
    /// What it becomes.
    type Link: Link;
    /// Admit: the acceptor sends its answer and waits for the confirm, the dialler sends the confirm, at the latest with
    /// its link's first bytes.
    /// Turn: the refusal is sent, flushed, and `Err` returned.
    fn settle(self, verdict: Verdict) -> impl Future<Output = Result<Self::Link, MeetError>>;
}

/// An agreed link.
pub trait Link: 'static {
    /// What applications hold to use it, from any thread.
    type Handle: Clone + Send + Sync + 'static;
    /// Such a handle.
    fn handle(&self) -> Self::Handle;
    /// Runs it until it ends. Answers the mail, reports through the meter.
    fn run(self, mail: Mail, meter: Meter) -> impl Future<Output = Ended>;
}

/// How a link ended, for the one `Gone`.
pub use peerkeep_core::End as Ended;

/// What the owner tells a running link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Ask for a sign of life.
    Probe,
    /// End, saying goodbye. Whether the link was used meanwhile is checked before: a link need not decline.
    Close {
        /// The reason.
        why: Close,
        /// When the driver drops the socket whatever happens.
        deadline: Time,
    },
    /// The settings of running links changed: these options for its socket, if it is a TCP stream of its own, and
    /// whatever the stack itself was told.
    Retune(TcpOptions),
}
