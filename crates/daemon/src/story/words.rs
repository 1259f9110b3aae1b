//! The core's words as clauses of sentences. Exhaustive, so that a new word there has to be given a phrase here.

use crate::out;
use peerkeep::{CloseReason, ErrorKind, LimitName, Misbehaviour, StepName};
use peerkeep_core::{Addr, Answer, Close, End, Fault, Limit, Refusal, Time, Violation};
use std::time::Duration;

/// Why we may not, as a clause; `now` makes times into spans.
pub fn refusal(now: Time, why: Refusal) -> String {
    let left = |until: Time| {
        if until == Time::NEVER {
            "until lifted".into()
        } else {
            format!("for another {}", out::span(until - now))
        }
    };
    match why {
        Refusal::Myself => "it is ourselves".into(),
        Refusal::Unknown => "nobody by that name is known".into(),
        Refusal::Banned { until } => format!("it is banned {}", left(until)),
        Refusal::Draining => "this node is shutting down".into(),
        Refusal::GaveUp => "all attempts are used up".into(),
        Refusal::NoAddress => "no address is known that may be dialled".into(),
        Refusal::Unwanted => "nobody wants it connected".into(),
        Refusal::NotNow => "it does not fit where the peer stands".into(),
        Refusal::AlreadyConnected => "it is connected, or being connected, already".into(),
        Refusal::TheirTurn { until } => format!("it is the other side's turn to dial {}", left(until)),
        Refusal::Backoff { until } => format!("it waits before the next attempt {}", left(until)),
        Refusal::Offline => "this machine has no network".into(),
        Refusal::Full(limit) => format!("the limit on {} is reached", limit_name(limit)),
        Refusal::BadTarget => "the ban names too much".into(),
        Refusal::BadConfig => "the configuration does not hold together".into(),
        Refusal::Stale { newer: 0 } => "the greeting was older than what is known".into(),
        Refusal::Stale { newer } => format!("the greeting came from a start before the known one ({newer})"),
    }
}

/// The answer to a command, as the end of a sentence about it.
pub fn answer(now: Time, answer: Answer) -> String {
    match answer {
        Answer::Done => "done".into(),
        Answer::Begun(_) => "begun".into(),
        Answer::Queued(why) => format!("it has to wait: {}", refusal(now, why)),
        Answer::No(why) => format!("refused: {}", refusal(now, why)),
    }
}

/// What failed, as a clause.
pub fn fault(fault: Fault) -> String {
    let mut text = format!("{} while {}", ErrorKind::from(fault.kind), StepName::from(fault.step));
    if fault.detail != 0 {
        text.push_str(&format!(" (number {})", fault.detail));
    }
    text
}

/// How a conn ended, as a clause.
pub fn end(end: End) -> String {
    match end {
        End::Asked => "as we asked".into(),
        End::Goodbye(why) => format!("it said goodbye: {}", close(why)),
        End::Fault(failed) => fault(failed),
        End::Violation(what) => format!("it misbehaved: {}", violation(what)),
    }
}

/// Why a connection is closed.
pub fn close(why: Close) -> &'static str {
    CloseReason::from(why).text()
}

/// How somebody misbehaved.
pub fn violation(what: Violation) -> &'static str {
    Misbehaviour::from(what).text()
}

/// Addresses as `ip:port`.
pub fn addrs<'a>(addrs: impl IntoIterator<Item = &'a Addr>) -> String {
    let all: Vec<String> = addrs.into_iter().map(|addr| addr.socket().to_string()).collect();
    if all.is_empty() { "no address".into() } else { all.join(", ") }
}

/// For how long, or until when.
pub fn span(span: Option<Duration>) -> String {
    span.map_or_else(|| "until lifted".into(), |span| format!("for {}", out::span(span)))
}

fn limit_name(limit: Limit) -> &'static str {
    LimitName::from(limit).text()
}
