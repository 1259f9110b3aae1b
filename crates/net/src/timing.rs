//! How long the stages of setting a connection up take: histograms with fixed bounds, plain atomics that cost nothing to
//! keep and that anybody may read. Nothing is decided by them.

use crate::Count;
use peerkeep_core::Step;
use std::time::Duration;

/// Upper bounds of the buckets in microseconds; one more bucket holds what took longer.
pub const BOUNDS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Timing {
    buckets: [Count; BOUNDS_US.len() + 1],
    sum_us: Count,
}

impl Timing {
    /// One more.
    pub fn record(&self, span: Duration) {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS_US.partition_point(|bound| *bound < us)].add_one();
        self.sum_us.add(us);
    }

    /// How many fell into each bucket, in the order of [`BOUNDS_US`], the rest last; and their sum in microseconds.
    pub fn read(&self) -> ([u64; BOUNDS_US.len() + 1], u64) {
        (std::array::from_fn(|at| self.buckets[at].read()), self.sum_us.read())
    }
}

/// The stages that were passed; an attempt that fails counts in those it got through.
#[derive(Debug, Default)]
pub struct Stages {
    /// Looking names up, successful or not.
    pub resolve: Timing,
    /// From the first packet of a dial to an open transport.
    pub connect: Timing,
    /// From the open transport to a proven identity: the secure channel and the greeting in it.
    pub secure: Timing,
    /// From there to the agreement of both sides.
    pub hello: Timing,
}

impl Stages {
    /// The stage of that step; none when the connection is up.
    pub fn of(&self, step: Step) -> Option<&Timing> {
        match step {
            Step::Resolve => Some(&self.resolve),
            Step::Connect => Some(&self.connect),
            Step::Secure => Some(&self.secure),
            Step::Hello => Some(&self.hello),
            Step::Live => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let timing = Timing::default();
        for us in [0, 500, 501, 10_000_000, 10_000_001, u64::MAX / 2] {
            timing.record(Duration::from_micros(us));
        }
        let (buckets, sum) = timing.read();
        assert_eq!((buckets[0], buckets[1], buckets[13], buckets[14]), (2, 1, 1, 2));
        assert_eq!(sum, 500 + 501 + 20_000_001 + u64::MAX / 2);
    }
}
