//! The core decides: who is dialled, when, whom to admit, which of two connections stays, when to come back, whom to
//! ban, and why. It opens no socket, reads no clock, draws no randomness and allocates nothing once warm.
//!
//! There is one way in, [`Core::step`], and one way out, [`Effects`]. The caller (net's owner task, the simulator, the
//! model checker, a replay) appends each [`Action`] to the journal, steps, and carries out the effects. What the core
//! deliberately does not do: hold payload, names or secrets; know a wire format; wait for anything.
#![no_std]
extern crate alloc;

mod action;
mod addr;
mod admit;
mod backoff;
mod ban;
pub mod canary;
mod canonical;
mod check;
mod close;
mod config;
mod conn;
mod connect;
mod contact;
mod counts;
mod digest;
mod door;
mod effect;
mod health;
pub mod journal;
mod keep;
mod key;
mod list;
mod liveness;
mod replace;
mod resolve;
mod save;
mod shed;
mod slab;
mod state;
mod time;
mod upkeep;
mod verdict;
mod view;
mod wheel;
mod words;

pub use action::{Action, Change, Command, CommandId, Fact, Greeting, Report, Route, Source, Target, Ticket};
pub use addr::{Addr, AddrKind, Addrs, BadAddr, MAX_ADDRS, Subnet};
pub use backoff::Backoff;
pub use ban::Ban;
pub use check::Broken;
pub use config::{Config, ConfigError, Duplicates, Limits, Liveness, MAX_EPOCH, Preference, Rules};
pub use conn::{ConnView, Dial, Direction, Stage};
pub use contact::{KnownAddr, Standing};
pub use counts::{Counts, Stats};
pub use effect::{Answer, Effect, Effects, Told};
pub use health::{Grade, HealthView, Scores, score_bandwidth, score_latency, score_reliability};
pub use key::{BanRef, ConnRef, ContactRef, KeyKind, PeerKey, STACKS, StackId, Who};
pub use save::{LoadError, SAVE_VERSION};
pub use state::Core;
pub use time::Time;
pub use view::{ContactView, View, Why};
pub use words::{Close, End, Fault, FaultKind, Limit, Refusal, Step, Violation};
