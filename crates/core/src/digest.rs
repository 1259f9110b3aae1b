//! A rolling hash of everything the core decides: every effect and every change of standing or stage, in order. Two
//! runs with the same digest after every action made the same decisions.

use crate::{Answer, BanRef, ConnRef, ContactRef, Effect, Refusal, Told};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest(pub u64);

/// An odd constant with well spread bits: the golden ratio.
const FOLD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Digest {
    /// Folds one number in: a multiply-and-fold step as in wyhash. It guards against mistakes, not against attackers.
    pub fn mix(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value) * u128::from(FOLD);
        self.0 = (product >> 64) as u64 ^ product as u64 ^ value.rotate_left(32);
    }

    pub fn effect(&mut self, effect: &Effect) {
        let tag = |n: u64, m: u64| n << 56 | m;
        match *effect {
            Effect::Resolve { conn } => self.both(tag(1, 0), of_conn(conn)),
            Effect::Dial { conn, deadline } => self.three(tag(2, 0), of_conn(conn), deadline.0),
            Effect::Accept { ticket, conn, deadline } => {
                self.three(tag(3, u64::from(ticket.0)), of_conn(conn), deadline.0);
            }
            Effect::Refuse { ticket, why } => self.both(tag(4, u64::from(ticket.0)), of_refusal(why)),
            Effect::Admit { conn } => self.both(tag(5, 0), of_conn(conn)),
            Effect::Turn { conn, why } => self.three(tag(6, 0), of_conn(conn), of_refusal(why)),
            Effect::Probe { conn } => self.both(tag(7, 0), of_conn(conn)),
            Effect::Close { conn, why, unless_used_since } => {
                self.three(tag(8, u64::from(why.code())), of_conn(conn), unless_used_since.0);
            }
            Effect::Store { contact } => self.both(tag(9, 0), of_contact(contact)),
            Effect::StoreBan { ban: BanRef { row, generation } } => {
                self.both(tag(10, 0), u64::from(row) << 32 | u64::from(generation));
            }
            Effect::Tell { contact, conn, what } => {
                self.three(tag(11, of_told(what)), of_contact(contact), of_conn(conn));
            }
            Effect::Reply { to, answer } => {
                let answer = match answer {
                    Answer::Done => 1,
                    Answer::Begun(contact) => 2 ^ of_contact(contact).rotate_left(8),
                    Answer::Queued(why) => 3 ^ of_refusal(why).rotate_left(8),
                    Answer::No(why) => 4 ^ of_refusal(why).rotate_left(8),
                };
                self.both(tag(12, u64::from(to.0)), answer);
            }
        }
    }

    fn both(&mut self, a: u64, b: u64) {
        self.mix(a);
        self.mix(b);
    }

    fn three(&mut self, a: u64, b: u64, c: u64) {
        self.both(a, b);
        self.mix(c);
    }
}

fn of_conn(conn: ConnRef) -> u64 {
    u64::from(conn.row) << 32 | u64::from(conn.generation)
}

fn of_contact(contact: ContactRef) -> u64 {
    u64::from(contact.row) << 32 | u64::from(contact.generation)
}

fn of_told(told: Told) -> u64 {
    match told {
        Told::Discovered => 1,
        Told::Dialing { attempt } => 2 | u64::from(attempt) << 8,
        Told::Connected => 3,
        Told::Lost(why) => 4 | u64::from(why.code()) << 8,
        Told::Failed => 5,
        Told::GaveUp => 6,
        Told::Identified { as_contact } => 7 | of_contact(as_contact) << 8,
        Told::Violated(what) => 8 | (what as u64) << 8,
        Told::Banned => 9,
        Told::Unbanned => 10,
        Told::Routed => 11,
        Told::CloneSuspected => 12,
        Told::Degraded(grade) => 13 | (grade as u64) << 8,
        Told::Restored => 14,
        Told::Replacing => 15,
    }
}

fn of_refusal(why: Refusal) -> u64 {
    match why {
        Refusal::Myself => 1,
        Refusal::Unknown => 2,
        Refusal::Banned { until } => 3 | until.0 << 8,
        Refusal::Draining => 4,
        Refusal::GaveUp => 5,
        Refusal::NoAddress => 6,
        Refusal::Unwanted => 7,
        Refusal::NotNow => 8,
        Refusal::AlreadyConnected => 9,
        Refusal::TheirTurn { until } => 10 | until.0 << 8,
        Refusal::Backoff { until } => 11 | until.0 << 8,
        Refusal::Offline => 12,
        Refusal::Full(limit) => 13 | (limit as u64) << 8,
        Refusal::BadTarget => 14,
        Refusal::BadConfig => 15,
        Refusal::Stale { newer } => 16 | newer << 8,
    }
}
