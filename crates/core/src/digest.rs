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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Close, CommandId, Grade, Limit, Ticket, Time, Violation};
    use alloc::vec::Vec;

    const CONNS: [ConnRef; 4] = [
        ConnRef { row: 0, generation: 0 },
        ConnRef { row: 0, generation: 3 },
        ConnRef { row: 3, generation: 0 },
        ConnRef { row: 3, generation: 3 },
    ];
    const TIMES: [Time; 4] = [Time(1), Time(2), Time(1 << 40), Time::NEVER];

    fn refusals() -> Vec<Refusal> {
        let mut all = Vec::from([Refusal::Myself, Refusal::Unknown, Refusal::Draining, Refusal::NotNow]);
        for until in TIMES {
            all.extend([Refusal::Banned { until }, Refusal::TheirTurn { until }, Refusal::Backoff { until }]);
        }
        all.extend([Limit::Total, Limit::Inbound, Limit::Bans].map(Refusal::Full));
        all.extend([1, 2, 1 << 40].map(|newer| Refusal::Stale { newer }));
        all
    }

    fn told() -> Vec<Told> {
        let mut all =
            Vec::from([Told::Discovered, Told::Connected, Told::Failed, Told::GaveUp, Told::Banned]);
        all.extend([1, 2, 300].map(|attempt| Told::Dialing { attempt }));
        all.extend([Close::Requested, Close::Idle, Close::Shutdown].map(Told::Lost));
        all.extend([Grade::Critical, Grade::Poor, Grade::Fair].map(Told::Degraded));
        all.extend([Violation::Malformed, Violation::TooMuch, Violation::Lie].map(Told::Violated));
        all.extend(CONNS.map(|ConnRef { row, generation }| Told::Identified {
            as_contact: ContactRef { row, generation },
        }));
        all
    }

    /// Effects of which any two differ, most of them in one thing only.
    fn effects() -> Vec<Effect> {
        let mut all = Vec::new();
        for conn in CONNS {
            let contact = ContactRef { row: conn.row, generation: conn.generation };
            let ban = BanRef { row: conn.row, generation: conn.generation };
            let ticket = Ticket(conn.row);
            all.extend([Effect::Resolve { conn }, Effect::Admit { conn }, Effect::Probe { conn }]);
            all.extend([Effect::Store { contact }, Effect::StoreBan { ban }]);
            all.extend(TIMES.map(|deadline| Effect::Dial { conn, deadline }));
            all.extend(TIMES.map(|deadline| Effect::Accept { ticket, conn, deadline }));
            all.extend(refusals().into_iter().map(|why| Effect::Turn { conn, why }));
            all.extend(told().into_iter().map(|what| Effect::Tell { contact, conn, what }));
            for why in [Close::Requested, Close::Dead] {
                all.extend(TIMES.map(|unless_used_since| Effect::Close { conn, why, unless_used_since }));
            }
        }
        let contact = ContactRef { row: 1, generation: 1 };
        all.push(Effect::Tell { contact, conn: CONNS[0], what: Told::Failed });
        for to in [CommandId(1), CommandId(2)] {
            let mut answers = Vec::from([Answer::Done, Answer::Begun(contact)]);
            answers.extend(CONNS.map(|c| Answer::Begun(ContactRef { row: c.row, generation: c.generation })));
            for why in refusals() {
                answers.extend([Answer::Queued(why), Answer::No(why)]);
            }
            all.extend(answers.into_iter().map(|answer| Effect::Reply { to, answer }));
        }
        for ticket in [Ticket(1), Ticket(2)] {
            all.extend(refusals().into_iter().map(|why| Effect::Refuse { ticket, why }));
        }
        all
    }

    #[test]
    fn effects_that_differ_in_anything_lead_to_different_digests() {
        let digest = |effects: &[Effect]| {
            let mut digest = Digest(7);
            effects.iter().for_each(|effect| digest.effect(effect));
            digest.0
        };
        let all = effects();
        let mut seen: Vec<u64> = all.iter().map(|effect| digest(core::slice::from_ref(effect))).collect();
        seen.push(7);
        seen.extend(all.windows(2).map(digest));
        seen.extend(all.windows(2).map(|pair| digest(&[pair[1], pair[0]])));
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count, "also in another order");
    }

    /// Fault K5: recorded journals carry these numbers.
    #[test]
    fn fault_k5_the_fold_is_the_one_that_recorded_journals_were_made_with() {
        let mut digest = Digest(0x0123_4567_89ab_cdef);
        let folded = [0, 1, 0xfedc_ba98_7654_3210, u64::MAX].map(|value| {
            digest.mix(value);
            digest.0
        });
        let expected =
            [0x0c27_a443_d5ff_218e, 0x0e08_8058_757e_6d32, 0x6557_8a01_2aa9_9919, 0x419f_3408_9c42_5460];
        assert_eq!(folded, expected, "multiplied by the golden ratio, halves folded, rotated by 32");
    }
}
