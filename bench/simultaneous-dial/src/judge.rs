//! Counts what the pairs came to. It refuses to forgive: what cannot be seen does not count as good.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a node shows of its connections to the other one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Look {
    /// Dials begun before anything was announced.
    pub dialled_first: usize,
    /// Dials begun in all.
    pub dials: usize,
    /// Connections announced as events.
    pub announced: usize,
    /// Connections announced as lost.
    pub lost: usize,
    /// Events that were missed: then nothing here is certain.
    pub missed: u64,
    /// Connections that hold a slot, up or not.
    pub slots: u32,
    /// Messages that arrived from the other node.
    pub heard: usize,
    /// It is no node of ours: it announces and withdraws as it likes.
    pub foreign: bool,
    /// The one that is up: which side of it this node is.
    pub up: Option<Side>,
}

/// Which side of a connection a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Side {
    /// It dialled.
    Dialled,
    /// It accepted.
    Accepted,
}

/// The counts over all pairs.
#[derive(Default)]
pub struct Tally {
    pairs: usize,
    exactly_one: usize,
    same: usize,
    withdrawn: usize,
    foreign_withdrawn: usize,
    crossed: usize,
    dials: usize,
    slowest_message: Duration,
}

impl Tally {
    /// A group's messages took so long to arrive, all of them.
    pub fn heard_within(&mut self, took: Duration) {
        self.slowest_message = self.slowest_message.max(took);
    }

    /// Adds a pair; tells on standard error what is wrong with it.
    pub fn judge(&mut self, pair: usize, left: &Look, right: &Look) {
        let one = |look: &Look| look.up.is_some() && look.slots == 1 && look.missed == 0;
        let exactly_one = one(left) && one(right);
        // Each side sent one message over the only connection it holds, and holds the opposite end of a dial.
        let opposite = left.up.is_some() && right.up.is_some() && left.up != right.up;
        let same = exactly_one && opposite && left.heard == 1 && right.heard == 1;
        let withdrawn = |foreign| {
            [left, right].iter().filter(|look| look.foreign == foreign).map(|look| gone(look)).sum()
        };
        self.foreign_withdrawn += withdrawn(true);
        let withdrawn: usize = withdrawn(false);
        self.pairs += 1;
        self.exactly_one += usize::from(exactly_one);
        self.same += usize::from(same);
        self.withdrawn += withdrawn;
        self.crossed += usize::from(left.dialled_first > 0 && right.dialled_first > 0);
        self.dials += left.dials + right.dials;
        if !exactly_one || !same || withdrawn > 0 {
            eprintln!("pair {pair}: {left:?} {right:?}");
        }
    }

    /// One object on one line.
    pub fn json(&self, method: &str) -> String {
        let whole = json!({
            "pairs": self.pairs,
            "exactly_one": self.exactly_one,
            "same_on_both_sides": self.same,
            "withdrawn": self.withdrawn,
            "foreign_withdrawn": self.foreign_withdrawn,
            "crossed": self.crossed,
            "dials_per_pair": self.dials as f64 / self.pairs.max(1) as f64,
            "slowest_message_ms": self.slowest_message.as_millis(),
            "method": method,
        });
        whole.to_string()
    }

    /// For people.
    pub fn text(&self, method: &str) -> String {
        format!(
            "pairs {}\nexactly one connection {}\nthe same on both sides {}\nannounced, then withdrawn {}\n\
             both sides' dials began first {}\ndials per pair {:.2}\nslowest message {} ms\n\nMethod. {method}",
            self.pairs,
            self.exactly_one,
            self.same,
            self.withdrawn,
            self.crossed,
            self.dials as f64 / self.pairs.max(1) as f64,
            self.slowest_message.as_millis(),
        )
    }
}

/// Announced and not up any more.
fn gone(look: &Look) -> usize {
    // A swarm keeps several, so what it announced and did not lose is still up.
    match look.foreign {
        true => look.lost,
        false => look.lost.max(look.announced.saturating_sub(usize::from(look.up.is_some()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(side: Side) -> Look {
        Look {
            dialled_first: 1,
            dials: 1,
            announced: 1,
            slots: 1,
            heard: 1,
            up: Some(side),
            ..Look::default()
        }
    }

    #[test]
    fn one_connection_with_both_its_ends_is_good() {
        let mut tally = Tally::default();
        tally.judge(0, &look(Side::Dialled), &look(Side::Accepted));
        assert_eq!((tally.exactly_one, tally.same, tally.withdrawn, tally.crossed), (1, 1, 0, 1));
    }

    #[test]
    fn two_different_connections_are_not_the_same() {
        let mut tally = Tally::default();
        tally.judge(0, &look(Side::Dialled), &look(Side::Dialled));
        assert_eq!((tally.exactly_one, tally.same), (1, 0));
        let deaf = Look { heard: 0, ..look(Side::Accepted) };
        tally.judge(1, &look(Side::Dialled), &deaf);
        assert_eq!((tally.exactly_one, tally.same), (2, 0));
    }

    #[test]
    fn a_swarm_with_two_connections_has_not_exactly_one_and_withdrew_nothing() {
        let mut tally = Tally::default();
        let two = Look { foreign: true, announced: 2, slots: 2, ..look(Side::Dialled) };
        tally.judge(0, &two, &look(Side::Accepted));
        assert_eq!((tally.exactly_one, tally.withdrawn, tally.foreign_withdrawn), (0, 0, 0));
    }

    #[test]
    fn a_replaced_announcement_counts_as_withdrawn() {
        let mut tally = Tally::default();
        let twice = Look { announced: 2, ..look(Side::Dialled) };
        tally.judge(0, &twice, &look(Side::Accepted));
        assert_eq!(tally.withdrawn, 1);
    }
}
