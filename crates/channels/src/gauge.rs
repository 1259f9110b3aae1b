//! What a link measures of itself while it works: the round trip of pings that fly anyway, and the rate at which the
//! socket takes bytes while there are more than it can take. Pure; it sends nothing and waits for nothing.

use peerkeep_core::Time;
use std::time::Duration;

/// Round trip and rate of one link.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Half of the newest sample and half of all before: samples are ten seconds apart, so a longer memory would be
    /// minutes long.
    rtt: Option<Duration>,
    /// The multiplexer's ping in flight: when it left and what the link had carried then.
    ping: Option<(Time, u64)>,
    busy: Option<Busy>,
    kbps: u32,
}

/// Since when the socket has had more to take than it could.
#[derive(Debug, Clone, Copy)]
struct Busy {
    since: Time,
    bytes: u64,
    /// When it was last full, and the bytes up to there: between two such moments, what it took has left.
    full_at: Time,
    full_bytes: u64,
    idle_since: Option<Time>,
}

/// A sample from a link that carried so many bytes meanwhile says more about the queue than about the way: it may
/// correct the round trip down, not up. What we send ourselves is no fault of the other end.
const CARRIED_BYTES: u64 = 64 * 1024;
/// The socket runs dry when nothing follows for this long: the rate is then the application's.
const DRY: Duration = Duration::from_millis(5);
/// A rate is told after this long,
const WINDOW: Duration = Duration::from_millis(500);
/// and so many bytes, because the socket takes tens of kilobytes at a time,
const WINDOW_BYTES: u64 = 192 * 1024;
/// or after this long in any case.
const LONGEST_WINDOW: Duration = Duration::from_secs(3);

impl Gauge {
    /// A round trip was measured while the link carried `carried` bytes both ways; the smoothed one.
    pub fn sample(&mut self, fresh: Duration, carried: u64) -> Duration {
        let fresh = fresh.max(Duration::from_micros(1));
        let fresh = match self.rtt {
            Some(rtt) if carried >= CARRIED_BYTES => fresh.min(rtt),
            _ => fresh,
        };
        let rtt = self.rtt.map_or(fresh, |rtt| (rtt + fresh) / 2);
        self.rtt = Some(rtt);
        rtt
    }

    /// The multiplexer pings.
    pub fn ping(&mut self, now: Time, carried: u64) {
        self.ping.get_or_insert((now, carried));
    }

    /// Its answer is here; the smoothed round trip.
    pub fn pong(&mut self, now: Time, carried: u64) -> Option<Duration> {
        let (sent, before) = self.ping.take()?;
        Some(self.sample(now.since(sent), carried.saturating_sub(before)))
    }

    /// The socket took bytes.
    pub fn wrote(&mut self, now: Time, count: usize) {
        if let Some(busy) = &mut self.busy {
            if busy.idle_since.take().is_some_and(|since| now.since(since) > DRY) {
                self.busy = None;
                return;
            }
            busy.bytes += u64::try_from(count).unwrap_or(u64::MAX);
        }
    }

    /// Nothing is left to write.
    pub fn emptied(&mut self, now: Time) {
        if let Some(busy) = &mut self.busy {
            busy.idle_since.get_or_insert(now);
        }
    }

    /// The socket takes no more now; the smoothed rate in kbit/s, when there is news.
    pub fn full(&mut self, now: Time) -> Option<u32> {
        let fresh = Busy { since: now, bytes: 0, full_at: now, full_bytes: 0, idle_since: None };
        let busy = self.busy.get_or_insert(fresh);
        (busy.full_at, busy.full_bytes) = (now, busy.bytes);
        let span = busy.full_at.since(busy.since);
        if span < WINDOW || (busy.full_bytes < WINDOW_BYTES && span < LONGEST_WINDOW) {
            return None;
        }
        let bits = u128::from(busy.full_bytes) * 8_000;
        let kbps = u32::try_from(bits / span.as_micros().max(1)).unwrap_or(u32::MAX);
        *busy = fresh;
        self.kbps = if self.kbps == 0 { kbps } else { self.kbps / 4 * 3 + kbps / 4 };
        Some(self.kbps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn the_round_trip_follows_in_a_few_samples_and_our_own_load_does_not_raise_it() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.sample(MS(2), 0), MS(2));
        assert_eq!(gauge.sample(MS(800), 1 << 20), MS(2), "its own queue");
        for _ in 0..4 {
            gauge.sample(MS(300), 5_000);
        }
        assert!(gauge.rtt > Some(MS(275)), "{:?}", gauge.rtt);
        let before = gauge.rtt;
        gauge.sample(MS(2), 1 << 20);
        assert!(gauge.rtt < before, "a quick answer on a busy link is a quick answer");
    }

    #[test]
    fn a_ping_in_flight_is_measured_once() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.pong(Time::from_millis(5), 0), None);
        gauge.ping(Time::from_millis(10), 0);
        assert_eq!(gauge.pong(Time::from_millis(40), 100), Some(MS(30)));
        assert_eq!(gauge.pong(Time::from_millis(50), 100), None);
    }

    /// A socket with a buffer that drains at a rate, and an application that always, or only now and then, has more.
    fn run(bytes_per_ms: usize, pause_every: u64, pause: u64) -> Option<u32> {
        let (mut gauge, mut room, mut rate) = (Gauge::default(), 100_000_usize, None);
        for ms in 0..3_000_u64 {
            let now = Time::from_millis(ms);
            room = (room + bytes_per_ms).min(100_000);
            if pause_every > 0 && ms % pause_every < pause {
                gauge.emptied(now);
                continue;
            }
            if room > 30_000 {
                gauge.wrote(now, room);
                room = 0;
                rate = gauge.full(now).or(rate);
            }
        }
        rate
    }

    /// S1.40, in simulated time.
    #[test]
    fn the_rate_is_that_of_the_socket_while_it_is_full() {
        for bytes_per_ms in [125, 1_250, 12_500] {
            let kbps = run(bytes_per_ms, 0, 0).expect("a rate");
            let truth = u32::try_from(bytes_per_ms * 8).expect("small");
            assert!(kbps.abs_diff(truth) * 20 <= truth, "{kbps} kbit/s of {truth}");
        }
    }

    #[test]
    fn an_application_that_has_nothing_to_send_is_no_slow_link() {
        assert_eq!(run(1_250, 200, 150), None);
    }
}
