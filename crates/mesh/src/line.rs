//! The line a greeting is spoken on: TCP, in TLS or plain, or the first stream of a QUIC connection. It carries frames and says
//! how it failed; what the frames mean is `handshake`'s.

use crate::carrier::Carrier;
use crate::handshake::{Failure, emit_refusal};
use crate::quic;
use crate::tls::fault_of;
use crate::wire::{Handshake, MAX_HANDSHAKE_BYTES, PREFIX_BYTES, body_length, parse};
use peerkeep_channels::NO_CODE;
use peerkeep_core::{Fault, FaultKind, Step};
use peerkeep_net::MeetError;
use quinn::{Connection, ReadExactError, RecvStream, SendStream, WriteError};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Where the greeting goes and comes from.
pub(crate) enum Line {
    /// TCP, with TLS or without.
    Tcp(Carrier),
    /// QUIC.
    Quic(Box<QuicLine>),
}

/// A QUIC connection and its first stream.
pub(crate) struct QuicLine {
    pub connection: Connection,
    pub send: SendStream,
    pub recv: RecvStream,
}

impl Line {
    /// Whether nobody on the way can read or change what it carries.
    pub fn is_secure(&self) -> bool {
        match self {
            Line::Tcp(tcp) => tcp.is_secure(),
            Line::Quic(_) => true,
        }
    }

    /// Sends frames.
    pub async fn say(&mut self, bytes: &[u8]) -> Result<(), MeetError> {
        match self {
            Line::Tcp(tcp) => {
                let said = async {
                    tcp.write_all(bytes).await?;
                    tcp.flush().await
                };
                said.await.map_err(|e| fault_of(Step::Hello, &e).into())
            }
            Line::Quic(line) => match line.send.write_all(bytes).await {
                Ok(()) => Ok(()),
                Err(WriteError::ConnectionLost(error)) => Err(quic::fault(Step::Hello, &error).into()),
                Err(_) => Err(closed().into()),
            },
        }
    }

    /// The next handshake frame, and not one byte more.
    pub async fn hear(&mut self) -> Result<Handshake, Failure> {
        let mut frame = vec![0; PREFIX_BYTES];
        self.read_exact(&mut frame).await?;
        let length = body_length([frame[0], frame[1]], MAX_HANDSHAKE_BYTES)?;
        frame.resize(PREFIX_BYTES + length, 0);
        self.read_exact(&mut frame[PREFIX_BYTES..]).await?;
        match parse(&frame, MAX_HANDSHAKE_BYTES)? {
            Some((frame, _)) => Ok(frame),
            None => Err(silent(Fault::new(Step::Hello, FaultKind::Protocol))),
        }
    }

    async fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), Failure> {
        let read: io::Result<usize> = match self {
            Line::Tcp(tcp) => tcp.read_exact(bytes).await,
            Line::Quic(line) => {
                return line.recv.read_exact(bytes).await.map_err(|error| silent(read_fault(&error)));
            }
        };
        read.map(drop).map_err(|error| silent(fault_of(Step::Hello, &error)))
    }

    /// Tells why, when there is something to tell, and closes.
    pub async fn part(mut self, failure: Failure) -> MeetError {
        if let Some(refusal) = failure.tell {
            let mut out = Vec::new();
            emit_refusal(*refusal, &mut out);
            if self.say(&out).await.is_ok() {
                self.linger().await;
            }
        }
        failure.error
    }

    /// A connection closed at once takes with it what was just said. TCP: a socket closed with bytes unread is reset, and
    /// the reset overtakes them, so read for a moment. QUIC: closing drops what was not acknowledged, so wait for that.
    pub async fn linger(self) {
        match self {
            Line::Tcp(mut tcp) => {
                let last = async {
                    let _ = tcp.shutdown().await;
                    let mut waste = [0; 512];
                    for _ in 0..LINGER_READS {
                        if !matches!(tcp.read(&mut waste).await, Ok(count) if count > 0) {
                            break;
                        }
                    }
                };
                let _ = tokio::time::timeout(LINGER, last).await;
            }
            Line::Quic(mut line) => {
                let _ = line.send.finish();
                let _ = tokio::time::timeout(LINGER, line.send.stopped()).await;
                line.connection.close(NO_CODE, b"");
            }
        }
    }
}

const LINGER: Duration = Duration::from_secs(1);
const LINGER_READS: usize = 64;

fn read_fault(error: &ReadExactError) -> Fault {
    match error {
        ReadExactError::ReadError(quinn::ReadError::ConnectionLost(error)) => quic::fault(Step::Hello, error),
        ReadExactError::ReadError(_) | ReadExactError::FinishedEarly(_) => closed(),
    }
}

fn closed() -> Fault {
    Fault::new(Step::Hello, FaultKind::Closed)
}

fn silent(fault: Fault) -> Failure {
    Failure { error: fault.into(), tell: None }
}
