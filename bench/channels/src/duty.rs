//! What the serving side does with a stream, and the asking side's half of it: echo, sink, or nothing at all.

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Stream;

/// The protocol's name where a contender wants one.
pub const PROTOCOL: &str = "/bench/duty/1";
/// Bytes of one echo.
pub const ECHO: usize = 32;
const CHUNK: usize = 64 * 1_024;

/// Serves one stream until it ends: an echo, or a sink that says when it has everything.
pub async fn serve(mut stream: impl Stream) -> Result<()> {
    match stream.read_u8().await? {
        b'e' => {
            let mut bytes = [0; ECHO];
            while stream.read_exact(&mut bytes).await.is_ok() {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
        }
        b's' => {
            let mut left = stream.read_u64().await?;
            let mut bytes = vec![0; CHUNK];
            while left > 0 {
                let read = stream.read(&mut bytes).await?;
                if read == 0 {
                    bail!("the sender stopped early");
                }
                left -= u64::try_from(read)?;
            }
            stream.write_u8(1).await?;
            stream.flush().await?;
        }
        // Accepted and never read: for what a stuck stream does to its neighbours.
        b'm' => std::future::pending::<()>().await,
        other => bail!("no duty {other}"),
    }
    stream.shutdown().await?;
    Ok(())
}

/// One echo on a fresh stream.
pub async fn echo(stream: &mut dyn Stream) -> Result<()> {
    let mut bytes = [7; ECHO + 1];
    bytes[0] = b'e';
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    stream.read_exact(&mut bytes[..ECHO]).await?;
    Ok(())
}

/// Sends so many bytes and waits until the other side has them all.
pub async fn fill(stream: &mut dyn Stream, total: u64) -> Result<()> {
    stream.write_u8(b's').await?;
    stream.write_u64(total).await?;
    let bytes = vec![7; CHUNK];
    let mut left = total;
    while left > 0 {
        let part = usize::try_from(left.min(CHUNK as u64))?;
        stream.write_all(&bytes[..part]).await?;
        left -= part as u64;
    }
    stream.flush().await?;
    stream.read_u8().await?;
    Ok(())
}
