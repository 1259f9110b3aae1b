//! What the partner does with streams: it serves echo, mute and reset, and asks for an echo or a ping. It refuses to hold more
//! of a stream than one buffer.

use std::{io, time::Instant};

use anyhow::{Result, anyhow, ensure};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, future::pending};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::Control;
use serde_json::{Value, json};

const ECHO: StreamProtocol = StreamProtocol::new("/echo/1.0.0");
const MUTE: StreamProtocol = StreamProtocol::new("/mute/1.0.0");
const RESET: StreamProtocol = StreamProtocol::new("/reset/1.0.0");
const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");
const PING_BYTES: usize = 32;

/// Serves the three protocols for as long as the runtime lives.
///
/// # Errors
/// When one of them is served already.
pub fn serve(control: &mut Control) -> Result<()> {
    let mut echoes = control.accept(ECHO)?;
    tokio::spawn(async move {
        while let Some((_, stream)) = echoes.next().await {
            tokio::spawn(echo(stream));
        }
    });
    let mut mutes = control.accept(MUTE)?;
    tokio::spawn(async move {
        while let Some((_, stream)) = mutes.next().await {
            tokio::spawn(async move {
                let _kept = stream;
                pending::<()>().await;
            });
        }
    });
    let mut resets = control.accept(RESET)?;
    tokio::spawn(async move {
        while let Some((_, mut stream)) = resets.next().await {
            tokio::spawn(async move {
                // Dropped with its writing half open, which resets it.
                let _ = stream.read(&mut [0; 1]).await;
            });
        }
    });
    Ok(())
}

async fn echo(stream: Stream) -> io::Result<()> {
    let (read, mut write) = stream.split();
    futures::io::copy(read, &mut write).await?;
    write.close().await
}

/// Sends `text`, ends its half, and gives what came back.
///
/// # Errors
/// When the other side does not echo.
pub async fn ask_echo(mut control: Control, peer: PeerId, text: String) -> Result<Value> {
    let mut stream = control.open_stream(peer, ECHO).await.map_err(|error| anyhow!("{error}"))?;
    stream.write_all(text.as_bytes()).await?;
    stream.close().await?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await?;
    Ok(json!({ "peer": peer.to_string(), "text": String::from_utf8_lossy(&heard) }))
}

/// One ping on a stream of its own: the stock behaviour pings when it likes.
///
/// # Errors
/// When the other side does not answer with the same bytes.
pub async fn ask_ping(mut control: Control, peer: PeerId) -> Result<Value> {
    let mut stream = control.open_stream(peer, PING).await.map_err(|error| anyhow!("{error}"))?;
    let begun = Instant::now();
    let (sent, mut heard) = ([7; PING_BYTES], [0; PING_BYTES]);
    stream.write_all(&sent).await?;
    stream.flush().await?;
    stream.read_exact(&mut heard).await?;
    ensure!(sent == heard, "the answer differs");
    let micros = u64::try_from(begun.elapsed().as_micros())?;
    stream.close().await?;
    Ok(json!({ "peer": peer.to_string(), "us": micros }))
}
