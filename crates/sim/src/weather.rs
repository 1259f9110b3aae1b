//! What the network does to everybody: latency, loss, partitions. It changes at the word of a disturbance alone.

use crate::rng::Rng;
use peerkeep_core::Time;

/// Who is on the first side of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    /// Nodes whose bit is set; numbers wrap at 64.
    Mask(u64),
    /// Nodes below that number.
    Below(u32),
    /// This node alone.
    One(u32),
}

impl Group {
    fn holds(self, node: u32) -> bool {
        match self {
            Group::Mask(mask) => mask >> (node % 64) & 1 == 1,
            Group::Below(number) => node < number,
            Group::One(only) => node == only,
        }
    }
}

/// Nothing passes from the first side to the second, and back neither unless it is one-way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Partition {
    pub group: Group,
    pub one_way: bool,
    pub until: Time,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    pub partitions: Vec<Partition>,
    pub loss_per_mille: u64,
    pub burst_per_mille: u64,
    pub extra_us: u64,
    pub jitter_us: u64,
    /// When it last was anything but calm.
    pub rough_until: Time,
}

/// A segment lost is sent again after this, doubling.
const RESEND_US: u64 = 200_000;
/// The same for the segment that opens a connection.
pub(crate) const REOPEN_US: u64 = 1_000_000;
/// A kernel gives a connection up when nothing was acknowledged for this long.
pub(crate) const USER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(50);

impl Weather {
    /// Until when nothing passes from one node to another.
    pub fn blocked_until(&self, from: u32, to: u32) -> Option<Time> {
        let stands_between = |partition: &&Partition| {
            let (a, b) = (partition.group.holds(from), partition.group.holds(to));
            a != b && (a || !partition.one_way)
        };
        self.partitions.iter().filter(stands_between).map(|partition| partition.until).max()
    }

    /// How long a segment takes, with what is sent again. `lag` is the way's own latency, microseconds.
    pub fn travel_us(&self, lag: u64, resend_us: u64, rng: &mut Rng) -> u64 {
        let mut us = lag + self.extra_us;
        if self.jitter_us > 0 {
            us += rng.below(self.jitter_us);
        }
        let loss = self.loss_per_mille.max(self.burst_per_mille);
        let mut again = resend_us;
        while loss > 0 && again < 64 * resend_us && rng.chance(loss) {
            us += again;
            again *= 2;
        }
        us
    }

    /// The same for a segment of a connection that is open.
    pub fn segment_us(&self, lag: u64, rng: &mut Rng) -> u64 {
        self.travel_us(lag, RESEND_US, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_way_partition_blocks_one_way() {
        let partition = |one_way| Partition { group: Group::Mask(0b01), one_way, until: Time(9) };
        let mut weather = Weather { partitions: vec![partition(true)], ..Weather::default() };
        assert_eq!(weather.blocked_until(0, 1), Some(Time(9)));
        assert_eq!(weather.blocked_until(1, 0), None);
        assert_eq!(weather.blocked_until(1, 2), None);
        weather.partitions = vec![partition(false)];
        assert_eq!(weather.blocked_until(1, 0), Some(Time(9)));
    }
}
