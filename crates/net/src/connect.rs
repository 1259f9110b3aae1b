//! Carries out a race: TCP connects to the addresses of one attempt, as `peerkeep-paths` decides. It tells of every
//! lost leg, gives back the winner and drops the others; it does not greet.

use crate::listener::until;
use crate::tcp::io_fault;
use crate::{Clock, TcpOptions};
use peerkeep_core::{Addr, AddrKind, Fault, FaultKind, Step};
use peerkeep_paths::{MAX_LEGS, Move, Moves, Race};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;

type Leg = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

/// Races the addresses. `missed` hears of every leg that failed, not of those that were merely slower.
///
/// # Errors
/// The fault of the last leg; `Unreachable` when there was none. Deadlines are the caller's: dropping the future
/// closes every socket.
pub(crate) async fn connect_any(
    addrs: &[Addr],
    tcp: &TcpOptions,
    stagger: Duration,
    clock: Clock,
    mut missed: impl FnMut(Addr, Fault),
) -> Result<(TcpStream, Addr), Fault> {
    let mut legs: [Option<Leg>; MAX_LEGS] = Default::default();
    let mut moves = Moves::new();
    let mut race = Race::start(addrs, stagger, clock.now(), &mut moves);
    let mut last = Fault::new(Step::Connect, FaultKind::Unreachable);
    loop {
        for step in moves.drain(..) {
            match step {
                Move::Start { leg, addr } => legs[leg] = Some(begin(addr, *tcp)),
                Move::Stop { leg } => legs[leg] = None,
                Move::Lost => return Err(last),
            }
        }
        let wake = race.next_wake().map(|time| clock.instant(time));
        tokio::select! {
            (leg, result) = first_done(&mut legs) => {
                let Some(addr) = race.addr(leg) else { continue };
                match result {
                    Ok(stream) => {
                        if race.handle_connected(leg, &mut moves) {
                            return Ok((stream, addr));
                        }
                    }
                    Err(error) => {
                        last = io_fault(Step::Connect, &error);
                        missed(addr, last);
                        race.handle_failed(leg, clock.now(), &mut moves);
                    }
                }
            }
            () = until(wake) => race.handle_wake(clock.now(), &mut moves),
        }
    }
}

fn begin(addr: Addr, tcp: TcpOptions) -> Leg {
    Box::pin(async move {
        if addr.kind != AddrKind::Tcp || addr.check().is_err() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        tcp.connect(addr.socket()).await
    })
}

async fn first_done(legs: &mut [Option<Leg>; MAX_LEGS]) -> (usize, io::Result<TcpStream>) {
    poll_fn(|cx| {
        for (index, slot) in legs.iter_mut().enumerate() {
            let Some(leg) = slot else { continue };
            if let Poll::Ready(result) = leg.as_mut().poll(cx) {
                *slot = None;
                return Poll::Ready((index, result));
            }
        }
        Poll::Pending
    })
    .await
}
