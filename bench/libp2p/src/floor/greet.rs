//! What the floor says on a stream once there is one: the name of a protocol by multistream-select, then identify or a duty.
//! It refuses to know what carries the stream.

use anyhow::{Context, Result, ensure};
use bench_channels::duty;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::{Multiaddr, PeerId};
use multistream_select::{Negotiated, Version, dialer_select_proto, listener_select_proto};
use peerkeep_libp2p::identify::{IDENTIFY, Identity, MAX_MESSAGE_BYTES};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

const PING: &str = "/ipfs/ping/1.0.0";
const PING_BYTES: usize = 32;

/// What a floor's node says of itself.
pub struct Own {
    /// Its key in protobuf form.
    pub public: Vec<u8>,
    /// Where it listens.
    pub listen: Vec<Multiaddr>,
}

impl Own {
    /// The message with its length before it.
    fn message(&self, observed: &Multiaddr) -> Vec<u8> {
        let identity = Identity {
            listen: self.listen.clone(),
            protocols: vec![IDENTIFY.to_owned(), duty::PROTOCOL.to_owned()],
            observed: Some(observed.clone()),
            version: "/bench/1".to_owned(),
            agent: "floor/1".to_owned(),
        };
        let message = identity.emit(&self.public);
        let mut framed = Vec::with_capacity(message.len() + 3);
        let mut left = message.len();
        while left >= 0x80 {
            framed.push((left % 0x80) as u8 | 0x80);
            left /= 0x80;
        }
        framed.push(left as u8);
        framed.extend(message);
        framed
    }
}

/// Asks who is there and checks that it is `peer`.
pub async fn ask_identify<S>(stream: S, peer: PeerId) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (_, mut stream) = dialer_select_proto(stream, [IDENTIFY], Version::V1Lazy).await?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] < 0x80 {
            break;
        }
        ensure!(shift < 21, "a length without an end");
    }
    ensure!(length <= MAX_MESSAGE_BYTES, "too long");
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    let digest = peer.to_bytes();
    // An Ed25519 peer id is the key itself behind two bytes.
    Identity::parse(&message, digest.get(2..).context("a short peer id")?)?;
    stream.close().await?;
    Ok(())
}

/// A stream for a duty. Its name leaves with the first bytes.
pub async fn ask_duty<S>(stream: S) -> Result<Compat<Negotiated<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Ok(dialer_select_proto(stream, [duty::PROTOCOL], Version::V1Lazy).await?.1.compat())
}

/// Serves a stream that the other side opened.
pub async fn serve<S>(stream: S, own: &Own, observed: &Multiaddr) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (name, mut stream) = listener_select_proto(stream, [IDENTIFY, duty::PROTOCOL, PING]).await?;
    if name == IDENTIFY {
        stream.write_all(&own.message(observed)).await?;
        stream.close().await?;
        return Ok(());
    }
    if name == PING {
        let mut bytes = [0; PING_BYTES];
        while stream.read_exact(&mut bytes).await.is_ok() {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
        }
        return Ok(());
    }
    duty::serve(stream.compat()).await
}
