//! Messages: one stream per direction that carries them one after the other. The sender's queue has a byte budget, the
//! receiver's limit is checked before anything is allocated.

use crate::channel::{MAIL, OK, PREFACE_MAX_BYTES, preface};
use crate::handle::Shared;
use crate::registry::{Message, Registry};
use bytes::Bytes;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use peerkeep_channels::Stream;
use peerkeep_core::Violation;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;

/// Writes the link's messages until the stream or the link ends.
pub(crate) async fn write(mut stream: Stream, shared: Arc<Shared>) {
    if write_all(&mut stream, &shared).await.is_err() {
        shared.refuse_mail();
    }
}

async fn write_all(stream: &mut Stream, shared: &Arc<Shared>) -> io::Result<()> {
    stream.write_all(&preface(MAIL)).await?;
    let mut first = true;
    loop {
        let letter = poll_fn(|cx| shared.poll_letter(cx)).await;
        let length = u32::try_from(letter.payload.len()).map_err(io::Error::other)?;
        let mut head = preface(&letter.topic);
        head.extend_from_slice(&length.to_be_bytes());
        stream.write_all(&head).await?;
        stream.write_all(&letter.payload).await?;
        shared.sent(letter.cost_bytes());
        // The first goes without their word, which takes a round trip; if they take none, it is as lost as the rest.
        if std::mem::take(&mut first) {
            let mut word = [0; 1];
            stream.read_exact(&mut word).await?;
            if word[0] != OK {
                return Err(io::ErrorKind::Unsupported.into());
            }
        }
    }
}

/// Reads messages and hands them to their topics; ends with the stream, or with what was wrong.
pub(crate) async fn read(mut stream: Stream, shared: &Shared, registry: &Registry) -> Result<(), Violation> {
    loop {
        let (topic, length) = match read_head(&mut stream).await {
            Ok(Some(head)) => head,
            Ok(None) => return Err(Violation::Malformed),
            Err(_) => return Ok(()),
        };
        if length > shared.limits().message_bytes {
            return Err(Violation::TooLarge);
        }
        let Ok(payload) = read_payload(&mut stream, length).await else { return Ok(()) };
        shared.touch();
        registry.publish(&topic, Message { from: shared.info.peer, payload });
    }
}

async fn read_head(stream: &mut Stream) -> io::Result<Option<(Box<str>, u32)>> {
    let mut length = [0; 1];
    stream.read_exact(&mut length).await?;
    let length = usize::from(length[0]);
    if length == 0 || length > PREFACE_MAX_BYTES {
        return Ok(None);
    }
    let mut topic = vec![0; length];
    stream.read_exact(&mut topic).await?;
    let mut size = [0; 4];
    stream.read_exact(&mut size).await?;
    let topic = String::from_utf8(topic).ok().map(String::into_boxed_str);
    Ok(topic.map(|topic| (topic, u32::from_be_bytes(size))))
}

/// The buffer grows with what arrives, so a length alone costs nothing (fault R3).
async fn read_payload(stream: &mut Stream, length: u32) -> io::Result<Bytes> {
    let mut payload = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut payload).await?;
    if u32::try_from(payload.len()) != Ok(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(payload.into())
}
