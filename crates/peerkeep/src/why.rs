//! From a typed reason to plain sentences: what stands in the way, and what would change it. The reason itself is the
//! core's; nothing is decided here.

use crate::Reason;

/// The sentence for a refused command.
pub(crate) fn refusal(reason: &Reason) -> String {
    format!("refused: {}", clause(reason))
}

/// What stands in the way, as a clause.
pub(crate) fn clause(reason: &Reason) -> String {
    let text = match reason {
        Reason::Connected => "it is connected",
        Reason::InProgress => "an attempt is under way",
        Reason::Due => "the next attempt is due now",
        Reason::Myself => "this is the node itself",
        Reason::Unknown => "no such peer is known",
        Reason::Banned => "it is banned",
        Reason::Draining => "the node is shutting down",
        Reason::GaveUp => "all attempts failed and it was given up",
        Reason::NoAddress => "no address is known that may be dialled",
        Reason::Unwanted => "nobody asked for a connection to it",
        Reason::NotNow => "this does not fit its present state",
        Reason::AlreadyConnected => "it is connected, or being connected, already",
        Reason::TheirTurn => "the other side is expected to dial first",
        Reason::Backoff => "it waits before the next attempt",
        Reason::Offline => "this machine has no network",
        Reason::Full { limit } => return format!("the limit on {limit} is reached"),
        Reason::BadTarget => "the subnet is too wide or malformed",
        Reason::BadConfig => "the settings do not hold together",
        Reason::Stale => "its greeting was older than what is known",
    };
    text.to_owned()
}

/// What would change it: something to do, or to wait for.
pub(crate) fn remedy(reason: &Reason) -> &'static str {
    match reason {
        Reason::Connected | Reason::InProgress | Reason::Due => "Nothing needs to be done.",
        Reason::Myself => "Nothing: a node does not connect to itself.",
        Reason::Unknown => "Connect to it with an address.",
        Reason::Banned => "Wait for the ban to end, or lift it with `unban`.",
        Reason::Draining => "Start the node again.",
        Reason::GaveUp => "Use `connect`, `reset` or `want`.",
        Reason::NoAddress => {
            "Use `connect` with an address, or wait until it dials us or another peer names one."
        }
        Reason::Unwanted => "Use `connect` or `want`.",
        Reason::NotNow => "Look at its state first with `peer`.",
        Reason::AlreadyConnected => "Nothing needs to be done.",
        Reason::TheirTurn => "Wait: after the waiting time this node dials anyway.",
        Reason::Backoff => "Wait, or use `retry` to try now.",
        Reason::Offline => "Connect this machine to a network.",
        Reason::Full { .. } => "Wait until a connection ends, or raise the limit in the settings.",
        Reason::BadTarget => "Name a narrower subnet.",
        Reason::BadConfig => "Run `config check`.",
        Reason::Stale => "Nothing: the other side dials again with a newer greeting.",
    }
}
