//! What applications hold of a running link: open a channel, send a message, from any thread. One small allocation per
//! link, shared with its task; no tokio channel per connection, no lock held while waiting.

use crate::{Channel, PREFACE_MAX_BYTES};
use bytes::Bytes;
use futures::task::AtomicWaker;
use peerkeep_channels::Stream;
use peerkeep_core::{Addr, PeerKey};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long [`Handle::open`] waits for the peer's word.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known about the peer at the other end, fixed for the life of the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Who it is.
    pub peer: PeerKey,
    /// Where it is: the address dialled, or where it connected from.
    pub remote: Addr,
    /// The version both speak.
    pub version: u32,
    /// Its program, printable.
    pub agent: Box<str>,
    /// The address it sees us at.
    pub seen: Option<Addr>,
    /// Both tell of peers.
    pub exchange: bool,
    /// Both take messages.
    pub mail: bool,
    /// Whether nobody on the way can read or change what it carries.
    pub secure: bool,
}

impl Info {
    /// What both sides can do, in the words of their hellos.
    pub fn capabilities(&self) -> impl Iterator<Item = &'static str> {
        let both = [(self.exchange, crate::wire::CAP_EXCHANGE), (self.mail, crate::wire::CAP_MAIL)];
        both.into_iter().filter_map(|(has, name)| has.then_some(name))
    }
}

/// Why a channel could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The name is empty or longer than 128 bytes.
    #[error("a protocol name must have 1 to {PREFACE_MAX_BYTES} bytes")]
    Name,
    /// As many channels are open on this link as it may have.
    #[error("too many channels on this link")]
    TooMany,
    /// The peer does not speak that protocol.
    #[error("the peer does not speak this protocol")]
    Unknown,
    /// The peer has no room for another channel of that protocol now.
    #[error("the peer has no room for another channel now")]
    Busy,
    /// The link ended.
    #[error("the link ended")]
    Closed,
    /// The peer said nothing within [`OPEN_TIMEOUT`].
    #[error("the peer did not answer")]
    Timeout,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer takes messages slower than they come: so many bytes wait already.
    #[error("{queued} bytes wait for this peer already")]
    Full {
        /// Bytes waiting.
        queued: u32,
    },
    /// Longer than a message may be, or a topic that is empty or longer than 128 bytes.
    #[error("the message or its topic is too long")]
    TooLarge,
    /// The peer takes no messages.
    #[error("the peer takes no messages")]
    Unsupported,
    /// The link ended.
    #[error("the link ended")]
    Closed,
}

/// A running link, from any thread. Cheap to clone; does not keep the link alive.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Shared>);

impl Handle {
    /// What is known about the peer.
    pub fn info(&self) -> &Info {
        &self.0.info
    }

    /// Whether the link has ended.
    pub fn is_ended(&self) -> bool {
        self.0.is_ended()
    }

    /// Opens a channel for `protocol`, waiting at most [`OPEN_TIMEOUT`] for the peer's word.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub async fn open(&self, protocol: &str) -> Result<Channel, ChannelError> {
        if protocol.is_empty() || protocol.len() > PREFACE_MAX_BYTES {
            return Err(ChannelError::Name);
        }
        let seat = self.0.seat().ok_or(ChannelError::TooMany)?;
        let (reply, answer) = oneshot::channel();
        {
            let mut desk = self.0.desk();
            if self.0.is_ended() {
                return Err(ChannelError::Closed);
            }
            desk.opens.push_back(Open { protocol: protocol.into(), seat, reply, at_once: false });
        }
        self.0.waker.wake();
        match tokio::time::timeout(OPEN_TIMEOUT, answer).await {
            Ok(answer) => answer.unwrap_or(Err(ChannelError::Closed)),
            Err(_) => Err(ChannelError::Timeout),
        }
    }

    /// A channel for `protocol` that can be written to at once: its name leaves with the first bytes, and no round trip
    /// passes before them. The peer's word comes before the first byte that is read. If it is against the channel,
    /// reading fails as `ConnectionRefused` with [`ChannelError::Unknown`] or [`ChannelError::Busy`] inside, and what was
    /// written is lost. Nobody waits for the word, so there is no time limit on it.
    ///
    /// # Errors
    /// See [`ChannelError`]; of the peer's words none.
    pub async fn open_at_once(&self, protocol: &str) -> Result<Channel, ChannelError> {
        if protocol.is_empty() || protocol.len() > PREFACE_MAX_BYTES {
            return Err(ChannelError::Name);
        }
        let seat = self.0.seat().ok_or(ChannelError::TooMany)?;
        let answer = {
            let mut desk = self.0.desk();
            if self.0.is_ended() {
                return Err(ChannelError::Closed);
            }
            desk.in_demand = true;
            if let Some(stream) = desk.spare.take() {
                // The link lays out the next one when this one's first bytes wake it.
                return Ok(Channel::unasked(*stream, seat, protocol.into()));
            }
            let (reply, answer) = oneshot::channel();
            desk.opens.push_back(Open { protocol: protocol.into(), seat, reply, at_once: true });
            answer
        };
        self.0.waker.wake();
        answer.await.unwrap_or(Err(ChannelError::Closed))
    }

    /// Queues a message; returns at once. Messages to one peer arrive in order or not at all.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was queued then.
    pub fn send(&self, topic: &str, payload: Bytes) -> Result<(), SendError> {
        let shared = &self.0;
        let limits = shared.limits();
        let too_long = payload.len() > usize::try_from(limits.message_bytes).unwrap_or(usize::MAX);
        if topic.is_empty() || topic.len() > PREFACE_MAX_BYTES || too_long {
            return Err(SendError::TooLarge);
        }
        if !shared.info.mail || shared.mail_refused.load(Ordering::Relaxed) {
            return Err(SendError::Unsupported);
        }
        let letter = Letter { topic: topic.into(), payload };
        {
            let mut desk = shared.desk();
            if shared.is_ended() {
                return Err(SendError::Closed);
            }
            let queued = desk.queued_bytes;
            let more = queued.saturating_add(letter.cost_bytes());
            if more > limits.budget_bytes && queued > 0 {
                return Err(SendError::Full { queued });
            }
            desk.queued_bytes = more;
            desk.letters.push_back(letter);
        }
        shared.touch();
        shared.waker.wake();
        shared.mail_waker.wake();
        Ok(())
    }

    /// Bytes of messages that wait for the peer.
    pub fn queued_bytes(&self) -> u32 {
        self.0.desk().queued_bytes
    }

    /// We know new peers: the link tells of them if the peer wants to know.
    pub fn announce(&self) {
        self.0.announce.store(true, Ordering::Release);
        self.0.waker.wake();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.0.info.peer).finish()
    }
}

/// What the link's task and its handles share.
pub(crate) struct Shared {
    pub info: Info,
    limits: AtomicLimits,
    pub waker: AtomicWaker,
    pub mail_waker: AtomicWaker,
    pub announce: AtomicBool,
    pub mail_refused: AtomicBool,
    used: AtomicBool,
    ended: AtomicBool,
    channels: AtomicU16,
    /// A rate that somebody asked to be measured, until it is reported; 0 when none was.
    measured_kbps: AtomicU32,
    desk: Mutex<Desk>,
}

/// The link's share of [`crate::MeshConfig`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub channels: u16,
    pub budget_bytes: u32,
    pub message_bytes: u32,
}

/// The same while it may change under a running link. Each number holds by itself.
struct AtomicLimits {
    channels: AtomicU16,
    budget_bytes: AtomicU32,
    message_bytes: AtomicU32,
}

/// What handles ask of the task. Bounded by the channel limit and the byte budget.
#[derive(Default)]
pub(crate) struct Desk {
    opens: VecDeque<Open>,
    /// A fresh stream for whoever does not want to wait; only once somebody did not.
    spare: Option<Box<Stream>>,
    in_demand: bool,
    letters: VecDeque<Letter>,
    queued_bytes: u32,
}

/// A channel that somebody wants.
pub(crate) struct Open {
    pub protocol: Box<str>,
    pub seat: Seat,
    pub reply: oneshot::Sender<Result<Channel, ChannelError>>,
    /// Without waiting for the peer's word.
    pub at_once: bool,
}

/// A message on its way out.
pub(crate) struct Letter {
    pub topic: Box<str>,
    pub payload: Bytes,
}

impl Letter {
    /// What it costs of the budget; a little more than its bytes, so that empty ones are bounded too.
    pub fn cost_bytes(&self) -> u32 {
        u32::try_from(self.topic.len() + self.payload.len() + 64).unwrap_or(u32::MAX)
    }
}

/// One of the link's channels; counted until dropped.
pub(crate) struct Seat(Arc<Shared>);

impl Seat {
    pub fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.channels.fetch_sub(1, Ordering::Relaxed);
        self.0.waker.wake();
    }
}

impl Shared {
    pub fn new(info: Info, limits: Limits) -> Shared {
        Shared {
            info,
            limits: AtomicLimits {
                channels: AtomicU16::new(limits.channels),
                budget_bytes: AtomicU32::new(limits.budget_bytes),
                message_bytes: AtomicU32::new(limits.message_bytes),
            },
            waker: AtomicWaker::new(),
            mail_waker: AtomicWaker::new(),
            announce: AtomicBool::new(false),
            mail_refused: AtomicBool::new(false),
            used: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            channels: AtomicU16::new(0),
            measured_kbps: AtomicU32::new(0),
            desk: Mutex::default(),
        }
    }

    pub fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn limits(&self) -> Limits {
        let AtomicLimits { channels, budget_bytes, message_bytes } = &self.limits;
        Limits {
            channels: channels.load(Ordering::Relaxed),
            budget_bytes: budget_bytes.load(Ordering::Relaxed),
            message_bytes: message_bytes.load(Ordering::Relaxed),
        }
    }

    /// Other limits hold from now on. What is open or queued above them stays.
    pub fn limit(&self, limits: Limits) {
        self.limits.channels.store(limits.channels, Ordering::Relaxed);
        self.limits.budget_bytes.store(limits.budget_bytes, Ordering::Relaxed);
        self.limits.message_bytes.store(limits.message_bytes, Ordering::Relaxed);
    }

    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A place for one more channel, if there is one.
    pub fn seat(self: &Arc<Shared>) -> Option<Seat> {
        let most = self.limits().channels;
        let more = |count: u16| (count < most).then_some(count + 1);
        let taken = self.channels.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Seat(self.clone()))
    }

    pub fn channels(&self) -> u16 {
        self.channels.load(Ordering::Relaxed)
    }

    /// An application used the link; the task reports it.
    pub fn touch(&self) {
        if !self.used.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Whether it was used since this was last asked.
    pub fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::AcqRel)
    }

    /// A rate was measured because somebody asked; the task reports it.
    pub fn note_rate(&self, kbps: u32) {
        self.measured_kbps.store(kbps, Ordering::Relaxed);
        self.waker.wake();
    }

    /// A rate that was measured since this was last asked.
    pub fn take_rate(&self) -> Option<u32> {
        let kbps = self.measured_kbps.swap(0, Ordering::Relaxed);
        (kbps > 0).then_some(kbps)
    }

    /// Whether nothing is open or on its way.
    pub fn is_idle(&self) -> bool {
        let desk = self.desk();
        self.channels() == 0 && desk.opens.is_empty() && desk.queued_bytes == 0
    }

    /// Whether messages wait to be written.
    pub fn is_queued(&self) -> bool {
        self.desk().queued_bytes > 0
    }

    /// Whether somebody waits for a fresh stream, or one is to be laid out.
    pub fn wants_stream(&self) -> bool {
        let desk = self.desk();
        !desk.opens.is_empty() || (desk.in_demand && desk.spare.is_none())
    }

    /// Gives a fresh stream to whoever waits for one, else lays it out; back when the peer is to be asked first.
    pub fn give(&self, stream: Stream) -> Option<(Stream, Open)> {
        let mut desk = self.desk();
        let Some(want) = desk.opens.pop_front() else {
            desk.spare = Some(Box::new(stream));
            return None;
        };
        drop(desk);
        if !want.at_once {
            return Some((stream, want));
        }
        let Open { protocol, seat, reply, .. } = want;
        // Who asked may have left.
        let _ = reply.send(Ok(Channel::unasked(stream, seat, protocol)));
        None
    }

    pub fn has_letters(&self) -> bool {
        !self.desk().letters.is_empty()
    }

    /// The next message to write. Its cost stays in the budget until [`Shared::sent`].
    pub fn poll_letter(&self, cx: &mut Context<'_>) -> Poll<Letter> {
        self.mail_waker.register(cx.waker());
        self.desk().letters.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    pub fn sent(&self, cost_bytes: u32) {
        let mut desk = self.desk();
        desk.queued_bytes = desk.queued_bytes.saturating_sub(cost_bytes);
    }

    /// The peer takes no messages: those that wait are dropped.
    pub fn refuse_mail(&self) {
        self.mail_refused.store(true, Ordering::Relaxed);
        let mut desk = self.desk();
        desk.letters.clear();
        desk.queued_bytes = 0;
    }

    /// The link is over: whoever waits is told.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let mut desk = self.desk();
        let opens = std::mem::take(&mut desk.opens);
        desk.letters = VecDeque::new();
        desk.queued_bytes = 0;
        let spare = desk.spare.take();
        drop(desk);
        drop((opens, spare));
    }
}
