//! Noise XX as libp2p speaks it: who is at the other end, a stream that only the two can read, and the multiplexer both
//! speak, agreed in the handshake itself. Over any byte stream; deadlines are the caller's. The cryptography is `snow`'s.

mod curve;
pub(crate) mod payload;
mod stream;

pub use stream::NoiseStream;

use crate::proof::Proven;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p_identity::Keypair;
use peerkeep_core::PeerKey;
use snow::{HandshakeState, TransportState};
use std::io;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Its name in multistream-select.
pub const NOISE: &str = "/noise";

const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";
/// Longest message of a handshake: an RSA key, its signature and some names fit several times.
const MAX_HANDSHAKE_BYTES: usize = 8_192;
/// What a frame begins with: its length, big endian.
const LENGTH_BYTES: usize = 2;

/// Why there is no secure stream.
#[derive(Debug, thiserror::Error)]
pub enum NoiseError {
    /// The stream failed or ended.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// A message that is too long, cannot be decrypted, or comes out of order.
    #[error("the handshake is broken: {0}")]
    Broken(&'static str),
    /// The cryptography refused.
    #[error("the handshake is broken: {0}")]
    Crypto(#[from] snow::Error),
    /// What it carries is no payload of libp2p.
    #[error("the handshake carries no valid identity")]
    Payload,
    /// The identity did not sign the key that encrypts.
    #[error("the signature does not belong to that key")]
    Signature,
    /// It is somebody else than expected.
    #[error("it is another peer than expected")]
    OtherIdentity,
    /// Our own key cannot sign.
    #[error("our own identity cannot be used")]
    Identity,
}

/// What a node brings to every handshake: one static key, signed once.
#[derive(Clone)]
pub struct NoiseNode(Arc<Inner>);

struct Inner {
    private: Zeroizing<Vec<u8>>,
    payload: Vec<u8>,
    muxers: Vec<String>,
}

/// Which side opened the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// We did.
    Initiator,
    /// They did.
    Responder,
}

/// A handshake that is over.
pub struct Shaken {
    state: TransportState,
    /// Who is there.
    pub peer: Proven,
    /// See [`Secured::muxer`].
    pub muxer: Option<String>,
}

impl Shaken {
    /// The stream to go on with.
    pub fn over<T>(self, io: T) -> NoiseStream<T> {
        NoiseStream::new(io, self.state)
    }
}

/// A stream that was secured.
pub struct Secured<T> {
    /// The bytes, encrypted.
    pub stream: NoiseStream<T>,
    /// Who is there.
    pub peer: Proven,
    /// The multiplexer both want, by the initiator's order; `None` when it has to be negotiated.
    pub muxer: Option<String>,
}

impl NoiseNode {
    /// Makes the static key, and has the identity sign it. `muxers` are the multiplexers we speak, the best first.
    ///
    /// # Errors
    /// [`NoiseError::Identity`] when the key cannot sign, [`NoiseError::Crypto`] without randomness.
    pub fn new(pair: &Keypair, muxers: &[&str]) -> Result<NoiseNode, NoiseError> {
        let made = builder()?.generate_keypair()?;
        let payload = payload::emit(pair, &made.public, muxers)?;
        let muxers = muxers.iter().map(|&name| name.to_owned()).collect();
        Ok(NoiseNode(Arc::new(Inner { private: Zeroizing::new(made.private), payload, muxers })))
    }

    /// Runs the handshake.
    ///
    /// # Errors
    /// See [`NoiseError`]; the stream is gone then.
    pub async fn secure<T>(&self, side: Side, mut io: T) -> Result<Secured<T>, NoiseError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let Shaken { state, peer, muxer } = self.handshake(side, None, &mut io).await?;
        Ok(Secured { stream: NoiseStream::new(io, state), peer, muxer })
    }

    /// Runs the handshake over a stream that may be another than what is encrypted afterwards: nothing is read ahead. With
    /// `expect`, any other identity ends it; an initiator has not shown its own then.
    ///
    /// # Errors
    /// See [`NoiseError`].
    pub async fn handshake<T>(
        &self,
        side: Side,
        expect: Option<PeerKey>,
        io: &mut T,
    ) -> Result<Shaken, NoiseError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let builder = builder()?.local_private_key(&self.0.private)?;
        let mut state = match side {
            Side::Initiator => builder.build_initiator()?,
            Side::Responder => builder.build_responder()?,
        };
        let (peer, muxers) = match side {
            Side::Initiator => {
                send(io, &mut state, &[]).await?;
                let theirs = identified(&receive(io, &mut state).await?, &state, expect)?;
                send(io, &mut state, &self.0.payload).await?;
                theirs
            }
            Side::Responder => {
                if !receive(io, &mut state).await?.is_empty() {
                    return Err(NoiseError::Broken("its first message carries something"));
                }
                send(io, &mut state, &self.0.payload).await?;
                identified(&receive(io, &mut state).await?, &state, expect)?
            }
        };
        let muxer = match side {
            Side::Initiator => first_common(&self.0.muxers, &muxers),
            Side::Responder => first_common(&muxers, &self.0.muxers),
        };
        Ok(Shaken { state: state.into_transport_mode()?, peer, muxer })
    }
}

/// Who sent that payload, and their multiplexers.
fn identified(
    payload: &[u8],
    state: &HandshakeState,
    expect: Option<PeerKey>,
) -> Result<(Proven, Vec<String>), NoiseError> {
    let key = state.get_remote_static().ok_or(NoiseError::Broken("it showed no key"))?;
    let (peer, muxers) = payload::parse(payload, key)?;
    match expect {
        Some(expect) if expect != peer.key => Err(NoiseError::OtherIdentity),
        _ => Ok((peer, muxers)),
    }
}

fn builder() -> Result<snow::Builder<'static>, NoiseError> {
    Ok(snow::Builder::with_resolver(PATTERN.parse()?, Box::new(curve::Parts)))
}

fn first_common(first: &[String], second: &[String]) -> Option<String> {
    first.iter().find(|name| second.contains(name)).cloned()
}

async fn send<T>(io: &mut T, state: &mut HandshakeState, payload: &[u8]) -> Result<(), NoiseError>
where
    T: AsyncWrite + Unpin,
{
    let mut frame = vec![0; LENGTH_BYTES + MAX_HANDSHAKE_BYTES];
    let length = state.write_message(payload, &mut frame[LENGTH_BYTES..])?;
    frame.truncate(LENGTH_BYTES + length);
    let head = u16::try_from(length).map_err(|_| NoiseError::Broken("our message is too long"))?;
    frame[..LENGTH_BYTES].copy_from_slice(&head.to_be_bytes());
    io.write_all(&frame).await?;
    io.flush().await?;
    Ok(())
}

async fn receive<T>(io: &mut T, state: &mut HandshakeState) -> Result<Vec<u8>, NoiseError>
where
    T: AsyncRead + Unpin,
{
    let mut head = [0; LENGTH_BYTES];
    io.read_exact(&mut head).await?;
    let length = usize::from(u16::from_be_bytes(head));
    if length > MAX_HANDSHAKE_BYTES {
        return Err(NoiseError::Broken("its message is too long"));
    }
    let mut message = vec![0; length];
    io.read_exact(&mut message).await?;
    let mut payload = vec![0; length];
    let length = state.read_message(&message, &mut payload)?;
    payload.truncate(length);
    Ok(payload)
}

impl std::fmt::Debug for NoiseNode {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NoiseNode").field("muxers", &self.0.muxers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
