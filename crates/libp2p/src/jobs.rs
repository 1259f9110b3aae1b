//! Short work on one stream beside the link's own: agree what it is for, identify, ping. Each ends by itself with its
//! stream, and each is bounded in bytes and time.

use crate::capped::Capped;
use crate::channel::{self, Channel};
use crate::handle::{Open, Seat};
use crate::identify::{IDENTIFY, IDENTIFY_PUSH, Identity, MAX_MESSAGE_BYTES};
use crate::stack::Node;
use futures::future::Either;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use multistream_select::{NegotiationError, Version, dialer_select_proto, listener_select_proto};
use peerkeep_channels::{Bucket, Rate, Stream};
use peerkeep_core::Violation;
use peerkeep_net::Clock;
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Asks for a sign of life.
pub(crate) const PING: &str = "/ipfs/ping/1.0.0";
const PING_BYTES: usize = 32;
/// Pings that are answered: twenty at once, five a second (fault F12).
const PINGS: Rate = Rate { burst: 20, each: Duration::from_millis(200) };
/// A stream has said what it is for by then (fault H4).
const NAME_TIME: Duration = Duration::from_secs(10);
/// Identify has been said and heard by then.
const IDENTIFY_TIME: Duration = Duration::from_secs(10);
/// Longest length in front of a message: what fits into two bytes is [`MAX_MESSAGE_BYTES`] and no more.
const LENGTH_BYTES: usize = 3;

/// What a side job came to.
pub(crate) enum Done {
    /// Nothing more to do.
    Over,
    /// A question was answered in time, or not.
    Asked(bool),
    /// A stream said what it is for, or failed to.
    Named(Option<(Box<str>, Stream)>),
    /// The peer said who it is, and whether because we asked.
    Heard(Box<Identity>, Asked),
    /// It did not say, and is there all the same.
    Silent,
    /// A ping came back.
    Rtt(Duration),
    /// The other side's pings are over.
    Pinged,
    /// They misbehaved.
    Violation(Violation),
}

/// Who began.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// We asked.
    Yes,
    /// They told of their own accord.
    No,
}

/// Agrees what a stream of theirs is for.
pub(crate) async fn name(mut stream: Stream, protocols: Vec<Box<str>>) -> Done {
    let named = timeout(NAME_TIME, named(&mut stream, protocols)).await;
    Done::Named(named.ok().flatten().map(|name| (name, stream)))
}

/// Which of our protocols they name; nothing of what follows is read.
pub(crate) async fn named<S>(stream: &mut S, protocols: Vec<Box<str>>) -> Option<Box<str>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let named = listener_select_proto(Capped::new(stream), protocols).await;
    named.ok().map(|(name, _)| name)
}

/// Asks who they are.
pub(crate) async fn ask(stream: Stream, proven: Arc<[u8]>) -> Done {
    let asked = async {
        let (_, mut stream) = dialer_select_proto(stream, [IDENTIFY], Version::V1Lazy).await?;
        stream.flush().await?;
        hear(&mut stream).await.map_err(NegotiationError::from)
    };
    match timeout(IDENTIFY_TIME, asked).await {
        Ok(Ok(bytes)) => heard(&bytes, &proven, Asked::Yes),
        // A word against it is a word.
        Ok(Err(NegotiationError::Failed)) => Done::Silent,
        Ok(Err(error)) if is_refusal(&error) => Done::Silent,
        _ => Done::Over,
    }
}

/// A lazy negotiation that failed comes wrapped, from the first read.
fn is_refusal(error: &NegotiationError) -> bool {
    let NegotiationError::ProtocolError(error) = error else { return true };
    let source = std::error::Error::source(error).and_then(|inner| inner.downcast_ref::<io::Error>());
    source.and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<NegotiationError>())
}

fn heard(bytes: &[u8], proven: &[u8], asked: Asked) -> Done {
    match Identity::parse(bytes, proven) {
        Ok(identity) => Done::Heard(Box::new(identity), asked),
        Err(_) => Done::Violation(Violation::Malformed),
    }
}

/// Says who we are.
pub(crate) async fn tell<S: AsyncWrite + Unpin>(mut stream: S, message: Vec<u8>) -> Done {
    let said = async {
        stream.write_all(&message).await?;
        stream.close().await
    };
    let _ = timeout(IDENTIFY_TIME, said).await;
    Done::Over
}

/// Says what has changed, without being asked.
pub(crate) async fn push(stream: Stream, message: Vec<u8>) -> Done {
    let pushed = timeout(IDENTIFY_TIME, dialer_select_proto(stream, [IDENTIFY_PUSH], Version::V1Lazy)).await;
    match pushed {
        Ok(Ok((_, stream))) => tell(stream, message).await,
        _ => Done::Over,
    }
}

/// Hears what has changed.
pub(crate) async fn pushed(mut stream: Stream, proven: Arc<[u8]>) -> Done {
    match timeout(IDENTIFY_TIME, hear(&mut stream)).await {
        Ok(Ok(bytes)) => heard(&bytes, &proven, Asked::No),
        _ => Done::Over,
    }
}

/// One message and its length, or several, up to the end of the stream; without the lengths. Nothing is allocated for what
/// has not arrived (fault R3).
async fn hear<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let Some(length) = read_length(stream).await? else { return Ok(bytes) };
        let whole = bytes.len() + length;
        if whole > MAX_MESSAGE_BYTES {
            // Too long for whoever reads it next, and recognised there.
            bytes.resize(MAX_MESSAGE_BYTES + 1, 0);
            return Ok(bytes);
        }
        stream.take(u64::try_from(length).map_err(io::Error::other)?).read_to_end(&mut bytes).await?;
        if bytes.len() < whole {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The length in front of a message (an unsigned varint); `None` at the end of the stream.
async fn read_length<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<Option<usize>> {
    let mut length = 0;
    for index in 0..LENGTH_BYTES {
        let mut byte = [0; 1];
        if stream.read(&mut byte).await? == 0 {
            return if index == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        length |= usize::from(byte[0] & 0x7f) << (7 * index);
        if byte[0] & 0x80 == 0 {
            return Ok(Some(length));
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// A message with its length in front.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH_BYTES + message.len());
    let mut length = message.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap_or(0));
    bytes.extend_from_slice(message);
    bytes
}

/// Asks for a sign of life.
pub(crate) async fn ping(stream: Stream, random: SystemRandom) -> Done {
    let mut question = [0; PING_BYTES];
    if random.fill(&mut question).is_err() {
        return Done::Over;
    }
    let began = Instant::now();
    let asked = async {
        let (_, mut stream) = dialer_select_proto(stream, [PING], Version::V1Lazy).await?;
        stream.write_all(&question).await?;
        stream.flush().await?;
        let mut answer = [0; PING_BYTES];
        stream.read_exact(&mut answer).await?;
        let took = began.elapsed();
        let _ = stream.close().await;
        Result::<_, NegotiationError>::Ok((answer == question, took))
    };
    // Whether silence is death is the core's to say, and any answer at all was counted as one.
    match asked.await {
        Ok((true, took)) => Done::Rtt(took),
        Ok((false, _)) => Done::Violation(Violation::Malformed),
        Err(_) => Done::Over,
    }
}

/// Answers pings until the other side has enough, or asks too fast.
pub(crate) async fn answer_pings(mut stream: Stream, clock: Option<Clock>) -> Done {
    let now = || clock.map_or(peerkeep_core::Time::ZERO, |clock| clock.now());
    let mut bucket = Bucket::full(&PINGS, now());
    let mut question = [0; PING_BYTES];
    while stream.read_exact(&mut question).await.is_ok() {
        if bucket.take(&PINGS, now(), 1) == 0 {
            return Done::Pinged;
        }
        let answered = async {
            stream.write_all(&question).await?;
            stream.flush().await
        };
        if answered.await.is_err() {
            break;
        }
    }
    let _ = stream.close().await;
    Done::Pinged
}

/// Hands a channel to whoever takes that protocol.
pub(crate) fn welcome(stream: Stream, node: &Node, seat: Seat, name: Box<str>) {
    // Nobody takes it after all: dropped, so reset.
    let _ = node.protocols.deliver(Channel::new(Either::Left(stream), seat, name));
}

/// Asks the peer for a channel that somebody here wants.
pub(crate) async fn open(stream: Stream, want: Open) -> Done {
    channel::open(stream, want).await.map_or(Done::Over, Done::Asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capped::MAX_SELECT_BYTES;
    use futures::FutureExt as _;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        hear(&mut &*bytes).now_or_never().expect("all is there")
    }

    #[test]
    fn a_message_is_read_with_its_length_and_several_are_one() {
        let long = vec![7; 300];
        assert_eq!(framed(&long)[..2], [0xac, 0x02]);
        let both = [framed(&long), framed(b"x")].concat();
        assert_eq!(read(&both).expect("whole"), [&long[..], b"x"].concat());
        assert!(read(&both[..200]).is_err(), "cut off");
    }

    #[test]
    fn fault_r3_a_length_alone_costs_nothing() {
        assert_eq!(read(&[0xff, 0xff, 0x7f]).expect("recognised later").len(), MAX_MESSAGE_BYTES + 1);
        assert!(read(&[0xff, 0xff, 0xff, 0x7f]).is_err(), "a length of four bytes");
    }

    #[test]
    fn fault_h4_a_proven_peer_is_heard_for_a_kilobyte_of_names_and_not_beyond_the_one_that_is_taken() {
        const HEAD: &[u8] = b"\x13/multistream/1.0.0\n";
        let heard = |names: &[u8], cut| crate::fuzzing::name(&[HEAD, names].concat(), cut);
        for cut in [1, 7, 9_999] {
            assert_eq!(heard(b"\x05/c/1\n\x05/b/1\nand what follows", cut), (Some("/b/1".into()), 32));
            let endless = [&b"\x02/\n".repeat(1_000)[..], b"\x05/a/1\n"].concat();
            assert_eq!(heard(&endless, cut), (None, MAX_SELECT_BYTES));
            assert_eq!(heard(&[&[0xff, 0x7f][..], &[b'/'; 16_383]].concat(), cut), (None, MAX_SELECT_BYTES));
            assert_eq!(heard(&[0xff; 64], cut).0, None);
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..1_000)) {
            if let Ok(heard) = read(&bytes) {
                prop_assert!(heard.len() <= MAX_MESSAGE_BYTES + 1);
            }
        }
    }
}
