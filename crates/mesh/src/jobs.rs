//! Short work on one stream beside the link's own: hear its name, turn it away, read its messages, hand it over. Each ends
//! by itself with its stream.

use crate::channel::{Channel, OK, read_preface};
use crate::handle::{Seat, Shared};
use crate::mail;
use crate::stack::Node;
use futures::io::{AsyncRead as _, AsyncWriteExt};
use peerkeep_channels::Stream;
use peerkeep_core::Violation;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

/// What a side job came to.
pub(crate) enum Done {
    /// Nothing more to do.
    Over,
    /// A question was answered in time, or not.
    Asked(bool),
    /// A stream said its name, or failed to.
    Named(Stream, Option<Box<str>>),
    /// A stream was turned away.
    Turned,
    /// The other side has measured.
    Measured,
    /// They misbehaved.
    Violation(Violation),
}

/// Hears what a stream is for.
pub(crate) async fn name(mut stream: Stream) -> Done {
    match read_preface(&mut stream).await {
        Ok(name) => Done::Named(stream, name),
        Err(_) => Done::Named(stream, None),
    }
}

/// Says the one byte against a stream and finishes it.
pub(crate) async fn turn(mut stream: Stream, word: u8) -> Done {
    if stream.write_all(&[word]).await.is_ok() {
        let _ = stream.close().await;
    }
    Done::Turned
}

/// Takes the peer's messages until its stream ends.
pub(crate) async fn read_mail(mut stream: Stream, node: Arc<Node>, shared: Arc<Shared>) -> Done {
    if stream.write_all(&[OK]).await.is_err() {
        return Done::Over;
    }
    match mail::read(stream, &shared, &node.registry).await {
        Ok(()) => Done::Over,
        Err(what) => Done::Violation(what),
    }
}

/// Hands a channel to whoever takes that protocol, and says yes: at once to a side that waits for that. One that does not
/// has sent more than the name, and the word leaves with what is answered.
pub(crate) async fn welcome(mut stream: Stream, node: Arc<Node>, seat: Seat, name: Box<str>) -> Done {
    let mut first = [0; FIRST_BYTES];
    let ahead = poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_read(cx, &mut first))).await;
    match ahead {
        Poll::Ready(Ok(count)) if count > 0 => {
            node.registry.protocols().deliver(Channel::unanswered(
                stream,
                seat,
                name,
                first[..count].to_vec(),
            ));
        }
        _ => {
            if stream.write_all(&[OK]).await.is_ok() {
                node.registry.protocols().deliver(Channel::new(stream, seat, name));
            }
        }
    }
    Done::Over
}

/// Most bytes that are read to find out whether there are any.
const FIRST_BYTES: usize = 64;
