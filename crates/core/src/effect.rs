//! Everything that may leave the core: small `Copy` values pushed into the caller's buffer. The owner expands them
//! into owned orders before the next step. Nothing here performs anything.

use crate::{BanRef, Close, CommandId, ConnRef, ContactRef, Refusal, Ticket, Time};
use alloc::vec::Vec;

/// What the caller has to do or pass on, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Look up the names of the attempt's contact; answer with `Resolved`.
    Resolve {
        /// The attempt.
        conn: ConnRef,
    },
    /// Dial; what to dial is in [`crate::View::dial`].
    Dial {
        /// The attempt.
        conn: ConnRef,
        /// When it must be over, handshake included.
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
    /// Drop an accepted socket at once.
    Refuse {
        /// Which socket.
        ticket: Ticket,
        /// Why, for the log and the counters.
        why: Refusal,
    },
    /// After `Met`: go on. The acceptor sends its answer (see [`crate::View::answer`]), the dialler its confirm.
    Admit {
        /// Which conn.
        conn: ConnRef,
    },
    /// After `Met`: tell them why not in the stack's words and end with `Gone`.
    Turn {
        /// Which conn.
        conn: ConnRef,
        /// Why.
        why: Refusal,
    },
    /// Ask the other side for a sign of life.
    Probe {
        /// Which conn.
        conn: ConnRef,
    },
    /// End the conn, with a goodbye when it is up and time allows. `Gone` follows, and only `Gone` counts from here;
    /// except that a link used after `unless_used_since` may decline.
    Close {
        /// Which conn.
        conn: ConnRef,
        /// The reason told to the other side.
        why: Close,
        /// Decline if it was used after this; [`Time::NEVER`] means close in any case.
        unless_used_since: Time,
    },
    /// The contact's stored form changed.
    Store {
        /// Which contact.
        contact: ContactRef,
    },
    /// A ban was set, lifted or has expired: [`crate::View::ban`] tells which, until the next step.
    StoreBan {
        /// Which ban.
        ban: BanRef,
    },
    /// Something users may want to know.
    Tell {
        /// About which contact.
        contact: ContactRef,
        /// About which conn; [`ConnRef::NONE`] when about none.
        conn: ConnRef,
        /// What.
        what: Told,
    },
    /// The answer to a command.
    Reply {
        /// Which command.
        to: CommandId,
        /// The answer.
        answer: Answer,
    },
}

const _: () = assert!(size_of::<Effect>() <= 32);

/// What users are told. A contact that connects and is lost is told `Connected` and `Lost` once each, in that order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// A new contact is known.
    Discovered,
    /// An attempt began: its number within the budget.
    Dialing {
        /// 1 for the first.
        attempt: u16,
    },
    /// Both sides agreed: the connection carries data.
    Connected,
    /// The connection is over; the view still shows how, until the next step.
    Lost(Close),
    /// An attempt failed; the view shows the fault and when the next is due.
    Failed,
    /// The attempts are used up.
    GaveUp,
    /// Somebody known by address only turned out to be this contact, which takes over what was asked of it.
    Identified {
        /// The proven identity's contact.
        as_contact: ContactRef,
    },
    /// It misbehaved.
    Violated(crate::Violation),
    /// It is banned.
    Banned,
    /// It no longer is.
    Unbanned,
    /// The route changed (virtual LAN).
    Routed,
    /// Two machines use one identity (fault I1).
    CloneSuspected,
    /// The connection is worse than it should be.
    Degraded(crate::Grade),
    /// It is good again.
    Restored,
    /// A degraded connection is being replaced: another one is on its way while it goes on.
    Replacing,
}

/// The answer to a command, in its own step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// It began: the outcome comes as `Tell` for this contact.
    Begun(ContactRef),
    /// It is accepted, and waits for this to pass.
    Queued(Refusal),
    /// It was refused; nothing changed.
    No(Refusal),
}

/// The caller's buffer for effects. Kept between steps, so that a warm step allocates nothing.
#[derive(Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// An empty buffer.
    pub fn new() -> Effects {
        Effects::default()
    }

    /// Adds one.
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// What was pushed since the last `clear`, in order.
    pub fn as_slice(&self) -> &[Effect] {
        &self.0
    }

    /// Takes them out in order, keeping the memory.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.0.drain(..)
    }

    /// Forgets them, keeping the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
