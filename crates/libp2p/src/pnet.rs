//! A private network: a secret that all its nodes share, in the file that others keep it in, and a stream under which
//! nobody without it can say anything that is understood. It hides and proves nothing more: what goes over it is secured
//! again above. (libp2p specification `pnet/Private-Networks-PSK-V1.md`.)
//!
//! `libp2p-pnet` copies its key freely, wipes none, and waits a round trip for the other side's nonce; the cipher is the
//! one it uses.

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use futures::io::{AsyncRead, AsyncWrite};
use ring::rand::{SecureRandom, SystemRandom};
use salsa20::cipher::{KeyIvInit, StreamCipher};
use salsa20::{Salsa20, XSalsa20};
use shake::digest::{ExtendableOutput, Update, XofReader};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use zeroize::Zeroizing;

/// Longest file that is read as a key.
pub const MAX_FILE_BYTES: usize = 1_024;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Most that is encrypted ahead of the stream below.
const MAX_OUT_BYTES: usize = 16 * 1024;

/// What stands in the first line of a key file.
const FILE: &str = "/key/swarm/psk/1.0.0/";

/// The secret of a private network.
///
/// # Security
/// Whoever has it can be in the network, and may read what is sent in it but for what is encrypted again above.
#[derive(Clone)]
pub struct NetworkKey(pub(crate) Zeroizing<[u8; KEY_BYTES]>);

/// Why a file is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// More bytes than [`MAX_FILE_BYTES`].
    #[error("longer than {MAX_FILE_BYTES} bytes")]
    TooLong,
    /// It does not begin as such files do.
    #[error("its first line is not {FILE}")]
    Kind,
    /// The key is written in a way that is not known.
    #[error("its second line is none of /base16/, /base64/ and /bin/")]
    Encoding,
    /// The third line is not what the second says.
    #[error("its key is not written as its second line says")]
    Spelling,
    /// A key of another length.
    #[error("its key does not have {KEY_BYTES} bytes")]
    Length,
}

impl NetworkKey {
    /// From a key file: three lines, in which the second says how the key in the third is written.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn parse(file: &[u8]) -> Result<NetworkKey, KeyFileError> {
        if file.len() > MAX_FILE_BYTES {
            return Err(KeyFileError::TooLong);
        }
        let (kind, rest) = line(file).ok_or(KeyFileError::Kind)?;
        if kind != FILE.as_bytes() {
            return Err(KeyFileError::Kind);
        }
        let (encoding, rest) = line(rest).ok_or(KeyFileError::Encoding)?;
        let decode = |how: &data_encoding::Encoding| {
            let text = rest.trim_ascii_end();
            how.decode(text).map(Zeroizing::new).map_err(|_| KeyFileError::Spelling)
        };
        let key = match encoding {
            b"/base16/" => decode(&HEXLOWER_PERMISSIVE)?,
            b"/base64/" => decode(&BASE64)?,
            b"/bin/" => Zeroizing::new(rest.to_vec()),
            _ => return Err(KeyFileError::Encoding),
        };
        let key = <&[u8; KEY_BYTES]>::try_from(&key[..]).map_err(|_| KeyFileError::Length)?;
        Ok(NetworkKey(Zeroizing::new(*key)))
    }

    /// A name for the key that gives nothing of it away, as others print it: who has the same one has the same key.
    pub fn fingerprint(&self) -> String {
        let mut stream = Zeroizing::new([0; 64]);
        Salsa20::new((&*self.0).into(), b"finprint".into()).apply_keystream(&mut stream[..]);
        let mut hash = shake::Shake128::default();
        hash.update(&stream[..]);
        let mut name = [0; 16];
        hash.finalize_xof().read(&mut name);
        HEXLOWER.encode(&name)
    }

    /// Puts the network's cipher around a stream. Our nonce goes out with the first bytes, or when nothing comes.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn secure<T>(&self, io: T) -> io::Result<PrivateStream<T>> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).map_err(|_| io::Error::other("no randomness"))?;
        let writes = Box::new(XSalsa20::new((&*self.0).into(), &nonce.into()));
        let reads = Inbound::Nonce(self.clone(), [0; NONCE_BYTES], 0);
        Ok(PrivateStream { io, writes, reads, out: nonce.to_vec(), at: 0 })
    }
}

/// What stands before the end of a line, and what after it.
fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = (&text[..end], &text[end + 1..]);
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest))
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkKey(..)")
    }
}

/// A stream of a private network over `T`.
pub struct PrivateStream<T> {
    io: T,
    writes: Box<XSalsa20>,
    reads: Inbound,
    /// Our nonce, then what is encrypted and not yet taken by the stream below.
    out: Vec<u8>,
    /// How much of `out` the stream below has taken.
    at: usize,
}

enum Inbound {
    /// So many bytes of their nonce are here.
    Nonce(NetworkKey, [u8; NONCE_BYTES], usize),
    /// Nonces are exchanged.
    Open(Box<XSalsa20>),
}

impl<T> PrivateStream<T> {
    /// The stream below.
    pub fn get_ref(&self) -> &T {
        &self.io
    }
}

impl<T: AsyncWrite + Unpin> PrivateStream<T> {
    /// Hands what is encrypted to the stream below.
    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.at < self.out.len() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.at..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.at += count;
        }
        (self.out, self.at) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> PrivateStream<T> {
    fn poll_plain(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match &mut self.reads {
                Inbound::Open(cipher) => {
                    let count = ready!(Pin::new(&mut self.io).poll_read(cx, bytes))?;
                    cipher.try_apply_keystream(&mut bytes[..count]).map_err(io::Error::other)?;
                    return Poll::Ready(Ok(count));
                }
                Inbound::Nonce(key, nonce, NONCE_BYTES) => {
                    let cipher = XSalsa20::new((&*key.0).into(), &(*nonce).into());
                    self.reads = Inbound::Open(Box::new(cipher));
                }
                Inbound::Nonce(_, nonce, have) => {
                    let count = ready!(Pin::new(&mut self.io).poll_read(cx, &mut nonce[*have..]))?;
                    *have += count;
                    match (count, *have) {
                        (0, 0) => return Poll::Ready(Ok(0)),
                        (0, _) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                        _ => {}
                    }
                }
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for PrivateStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = self.poll_plain(cx, bytes);
        // They may say nothing before they have our nonce, and nobody here has written.
        if read.is_pending()
            && !self.out.is_empty()
            && let Poll::Ready(Err(error)) = self.poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for PrivateStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        // Our nonce goes out with the first bytes.
        if this.at > 0 || this.out.len() > NONCE_BYTES {
            ready!(this.poll_push(cx))?;
        }
        let count = bytes.len().min(MAX_OUT_BYTES);
        let from = this.out.len();
        this.out.extend_from_slice(&bytes[..count]);
        this.writes.try_apply_keystream(&mut this.out[from..]).map_err(io::Error::other)?;
        // As much as goes at once; the rest with the next write or flush.
        match this.poll_push(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(cx))?;
        Pin::new(&mut self.io).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
