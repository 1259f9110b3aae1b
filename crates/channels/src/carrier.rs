//! The byte stream under the multiplexer, as a stack brings it: secured, connected, and able to say what its errors are
//! called in the core's words.

use peerkeep_core::{Fault, Step};
use quinn::ConnectionError;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A secured byte stream over TCP. One error type of its own hides in `io::Error`; the stack that made it knows which.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin {
    /// The socket below, for its options.
    fn socket(&self) -> &TcpStream;

    /// Takes bytes that leave with the next that are written, or with the end; how many it took. One that keeps no
    /// buffer takes none.
    ///
    /// # Errors
    /// The stream's.
    fn gather(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = bytes;
        Ok(0)
    }

    /// What an error of the stream is called.
    fn fault(step: Step, error: &io::Error) -> Fault;

    /// What the end of a QUIC connection of the same stack is called.
    fn quic_fault(step: Step, error: &ConnectionError) -> Fault {
        peerkeep_net::quic_fault(step, error)
    }
}
