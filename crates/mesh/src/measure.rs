//! The probe of a connection's rate, sent only when somebody asks: rounds of filling, each larger than the one before,
//! and the other side's word on how long each took to arrive. Bounded in bytes and time on both sides; it measures, and
//! draws no conclusions.

use crate::channel::OK;
use crate::jobs::Done;
use crate::{Channel, ChannelError, Handle};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use peerkeep_channels::Stream;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

/// The name of the stream.
pub(crate) const MEASURE: &str = "peerkeep/measure";
/// A measurement takes no longer, whatever the other side does.
pub const MEASURE_TIME: Duration = Duration::from_secs(20);
/// Bytes of the rounds. The first fits what any link has in flight, the last takes a second at 128 Mbit/s.
const ROUNDS: [u32; 6] = [16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];
/// A round that lasts so long tells the rate: what one piece more or less arrives at once does not matter by then.
const ENOUGH: Duration = Duration::from_millis(600);
/// The same in round trips: the sender's window opens during the first ones.
const ENOUGH_TRIPS: u32 = 8;
/// Round trips measured before the rounds; the quickest counts.
const PINGS: usize = 3;
/// Bytes that are written or read at once.
const PIECE_BYTES: usize = 16 << 10;
/// What a round costs of the answerer's budget beside its bytes.
const ROUND_COST: u32 = 1 << 10;
/// All that one measurement may send: the rounds, and a little for questions without filling.
const BUDGET: u32 = 24 << 20;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// The quickest of three round trips through both programs.
    pub rtt: Duration,
    /// The rate at which bytes arrived there, in kbit/s; `None` when only round trips were asked for.
    pub kbps: Option<u32>,
    /// Filling sent.
    pub bytes: u64,
}

impl Handle {
    /// Measures round trip and rate to the peer. Costs at most 22 MiB, less on slow links, and [`MEASURE_TIME`]. What
    /// was measured is reported as the link's rate.
    ///
    /// # Errors
    /// See [`ChannelError`]; `Busy` while another measurement is under way.
    pub async fn measure(&self) -> Result<Measured, ChannelError> {
        let measured = self.ask(true).await?;
        if let Some(kbps) = measured.kbps {
            self.0.note_rate(kbps);
        }
        Ok(measured)
    }

    /// Measures a round trip through the peer's program.
    ///
    /// # Errors
    /// As [`Handle::measure`].
    pub async fn ping(&self) -> Result<Duration, ChannelError> {
        self.ask(false).await.map(|measured| measured.rtt)
    }

    async fn ask(&self, fill: bool) -> Result<Measured, ChannelError> {
        let channel = self.open(MEASURE).await?;
        match timeout(MEASURE_TIME, rounds(channel, fill)).await {
            Ok(Ok(measured)) => Ok(measured),
            Ok(Err(_)) => Err(ChannelError::Closed),
            Err(_elapsed) => Err(ChannelError::Timeout),
        }
    }
}

async fn rounds(mut channel: Channel, fill: bool) -> io::Result<Measured> {
    let began = Instant::now();
    let mut rtt = Duration::MAX;
    for _ in 0..PINGS {
        rtt = rtt.min(round(&mut channel, 0).await?.1);
    }
    let mut measured = Measured { rtt, kbps: None, bytes: 0 };
    for bytes in ROUNDS.into_iter().filter(|_| fill) {
        let (kbps, took) = round(&mut channel, bytes).await?;
        measured.bytes += u64::from(bytes);
        measured.kbps = Some(kbps);
        let tells = took >= ENOUGH.max(rtt * ENOUGH_TRIPS);
        // The next one is four times as long.
        if tells || began.elapsed() + took * 5 > MEASURE_TIME {
            break;
        }
    }
    channel.shutdown().await?;
    Ok(measured)
}

/// Sends so many bytes; the rate at which they arrived, and how long it took from here to their word.
async fn round(channel: &mut Channel, bytes: u32) -> io::Result<(u32, Duration)> {
    let began = Instant::now();
    channel.write_all(&bytes.to_be_bytes()).await?;
    let filling = [0; PIECE_BYTES];
    let mut left = usize::try_from(bytes).map_err(io::Error::other)?;
    while left > 0 {
        let count = left.min(PIECE_BYTES);
        channel.write_all(&filling[..count]).await?;
        left -= count;
    }
    channel.flush().await?;
    let (counted, micros) = (channel.read_u32().await?, channel.read_u32().await?);
    let took = began.elapsed();
    Ok((rate(bytes, counted, micros, took), took))
}

/// In kbit/s. They say how many bytes followed the first ones and how long after; where they say more than can be, our
/// own clock counts.
fn rate(sent: u32, counted: u32, micros: u32, took: Duration) -> u32 {
    let own = took.as_micros().max(1);
    let theirs = u128::from(micros);
    let (bytes, micros) = if counted == 0 || counted > sent || theirs == 0 || theirs > own {
        (sent, own)
    } else {
        (counted, theirs)
    };
    u32::try_from(u128::from(bytes) * 8_000 / micros).unwrap_or(u32::MAX)
}

/// The other side of it.
pub(crate) async fn answer(mut stream: Stream) -> Done {
    // However it ends, the stream ends with it, and the asker sees that.
    let _ = timeout(MEASURE_TIME, answer_rounds(&mut stream)).await;
    Done::Measured
}

async fn answer_rounds(stream: &mut Stream) -> io::Result<()> {
    stream.write_all(&[OK]).await?;
    let (mut budget, mut piece) = (BUDGET, vec![0; PIECE_BYTES]);
    loop {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let bytes = u32::from_be_bytes(head);
        let left = budget.checked_sub(bytes.saturating_add(ROUND_COST));
        budget = left.ok_or(io::ErrorKind::QuotaExceeded)?;
        let mut left = usize::try_from(bytes).unwrap_or(0);
        let mut burst = Burst::default();
        while left > 0 {
            let most = left.min(PIECE_BYTES);
            let count = stream.read(&mut piece[..most]).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= count;
            burst.handle(Instant::now(), count);
        }
        let (counted, micros) = burst.end();
        let mut word = [0; 8];
        word[..4].copy_from_slice(&u32::try_from(counted).unwrap_or(u32::MAX).to_be_bytes());
        word[4..].copy_from_slice(&micros.to_be_bytes());
        stream.write_all(&word).await?;
    }
}

/// When the bytes of a round arrived. TLS and the multiplexer let go of several pieces at once, so what arrives in one
/// breath at the beginning only starts the clock.
#[derive(Default)]
struct Burst {
    began: Option<Instant>,
    last: Option<Instant>,
    bytes: usize,
    counted: usize,
}

/// A pause this long ends the first breath,
const PAUSE: Duration = Duration::from_millis(5);
/// and so does this much: faster than that, one breath is no error.
const BREATH_BYTES: usize = 128 << 10;

impl Burst {
    fn handle(&mut self, now: Instant, count: usize) {
        self.bytes += count;
        let pause = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        if self.counted == 0 && pause < PAUSE && self.bytes <= BREATH_BYTES {
            self.began = Some(now);
        } else {
            self.counted += count;
        }
    }

    /// How many bytes followed the first breath, and in how many microseconds.
    fn end(&self) -> (usize, u32) {
        let span = self.began.zip(self.last).map_or(Duration::ZERO, |(began, last)| last - began);
        (self.counted, u32::try_from(span.as_micros()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_one_breath_only_starts_the_clock() {
        let began = Instant::now();
        let mut burst = Burst::default();
        for (at_ms, count) in [(0, 16_000), (1, 16_000), (263, 16_000), (264, 16_000), (525, 9_000)] {
            burst.handle(began + Duration::from_millis(at_ms), count);
        }
        assert_eq!(burst.end(), (41_000, 524_000));
        let mut fast = Burst::default();
        (0..20).for_each(|piece| fast.handle(began + Duration::from_millis(piece), 16 << 10));
        assert_eq!(fast.end(), (12 * (16 << 10), 12_000));
    }

    #[test]
    fn a_rate_is_theirs_unless_it_cannot_be() {
        let second = Duration::from_secs(1);
        assert_eq!(rate(125_000, 112_500, 900_000, second), 1_000);
        assert_eq!(rate(125_000, 0, 0, second), 1_000, "one piece: our own clock");
        assert_eq!(rate(125_000, 125_001, 1, second), 1_000, "more than was sent");
        assert_eq!(rate(125_000, 125_000, 1_000_001, second), 1_000, "longer than it took");
        assert_eq!(rate(u32::MAX, u32::MAX, 1, second), u32::MAX);
    }

    #[test]
    fn the_answerers_budget_holds_every_round_and_little_more() {
        let all: u32 = ROUNDS.iter().map(|bytes| bytes + ROUND_COST).sum();
        assert!(all <= BUDGET && BUDGET < all + ROUNDS[5]);
    }
}
