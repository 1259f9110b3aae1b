//! What applications hold of a running link: open a channel, ask for a sign of life, from any thread. One small
//! allocation per link, shared with its task; no lock is held while waiting.

use crate::Channel;
use crate::identify::MAX_PROTOCOL_BYTES;
use futures::task::AtomicWaker;
use peerkeep_channels::Stream;
use peerkeep_core::{Addr, PeerKey};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Its program, printable.
    pub agent: Box<str>,
    /// The address it sees us at.
    pub seen: Option<Addr>,
}

/// Why a channel could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The name does not begin with `/` or is longer than 140 bytes.
    #[error("a libp2p protocol begins with / and has at most {MAX_PROTOCOL_BYTES} bytes")]
    Name,
    /// As many channels are open on this link as it may have.
    #[error("too many channels on this link")]
    TooMany,
    /// The peer does not speak that protocol.
    #[error("the peer does not speak this protocol")]
    Unknown,
    /// The link ended.
    #[error("the link ended")]
    Closed,
    /// The peer said nothing within [`OPEN_TIMEOUT`].
    #[error("the peer did not answer")]
    Timeout,
}

/// Whether multistream-select can carry a protocol of that name.
pub(crate) fn is_name(protocol: &str) -> bool {
    protocol.starts_with('/') && protocol.len() <= MAX_PROTOCOL_BYTES && !protocol.contains('\n')
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
        match tokio::time::timeout(OPEN_TIMEOUT, self.ask(protocol, false)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(ChannelError::Timeout),
        }
    }

    /// A channel that can be written to at once: what names it leaves with the first bytes, and no round trip passes
    /// before them. The peer's word comes before the first byte that is read; if it is against the channel, reading fails
    /// as `ConnectionRefused` with [`ChannelError::Unknown`] inside, and what was written is lost.
    ///
    /// # Errors
    /// See [`ChannelError`]; of the peer's words none.
    pub async fn open_at_once(&self, protocol: &str) -> Result<Channel, ChannelError> {
        self.ask(protocol, true).await
    }

    async fn ask(&self, protocol: &str, at_once: bool) -> Result<Channel, ChannelError> {
        if !is_name(protocol) {
            return Err(ChannelError::Name);
        }
        let seat = self.0.seat().ok_or(ChannelError::TooMany)?;
        let answer = {
            let mut desk = self.0.desk();
            if self.0.is_ended() {
                return Err(ChannelError::Closed);
            }
            desk.in_demand |= at_once;
            if let Some(stream) = desk.spare.take_if(|_| at_once) {
                drop(desk);
                return Channel::unasked(*stream, seat, protocol.into()).ok_or(ChannelError::Closed);
            }
            let (reply, answer) = oneshot::channel();
            desk.opens.push_back(Open { protocol: protocol.into(), seat, reply, at_once });
            answer
        };
        self.0.waker.wake();
        answer.await.unwrap_or(Err(ChannelError::Closed))
    }

    /// Our addresses have changed: the link tells the peer.
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
    pub waker: AtomicWaker,
    pub announce: AtomicBool,
    used: AtomicBool,
    ended: AtomicBool,
    channels: AtomicU16,
    most: AtomicU16,
    desk: Mutex<Desk>,
}

/// What handles ask of the task. Bounded by the channel limit.
#[derive(Default)]
pub(crate) struct Desk {
    opens: VecDeque<Open>,
    /// A fresh stream for whoever does not want to wait; only once somebody did not.
    spare: Option<Box<Stream>>,
    in_demand: bool,
}

/// A channel that somebody wants.
pub(crate) struct Open {
    pub protocol: Box<str>,
    pub seat: Seat,
    pub reply: oneshot::Sender<Result<Channel, ChannelError>>,
    /// Without waiting for the peer's word.
    pub at_once: bool,
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
    pub fn new(info: Info, most: u16) -> Shared {
        Shared {
            info,
            waker: AtomicWaker::new(),
            announce: AtomicBool::new(false),
            used: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            channels: AtomicU16::new(0),
            most: AtomicU16::new(most),
            desk: Mutex::default(),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another limit holds from now on. What is open above it stays.
    pub fn limit(&self, most: u16) {
        self.most.store(most, Ordering::Relaxed);
    }

    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A place for one more channel, if there is one.
    pub fn seat(self: &Arc<Shared>) -> Option<Seat> {
        let most = self.most.load(Ordering::Relaxed);
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

    /// Whether nothing is open or on its way.
    pub fn is_idle(&self) -> bool {
        self.channels() == 0 && self.desk().opens.is_empty()
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
        let _ = reply.send(Channel::unasked(stream, seat, protocol).ok_or(ChannelError::Closed));
        None
    }

    /// The link is over: whoever waits is told.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let mut desk = self.desk();
        let left = (std::mem::take(&mut desk.opens), desk.spare.take());
        drop(desk);
        drop(left);
    }
}
