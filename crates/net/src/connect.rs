//! Carries out a race: connects to the addresses of one attempt, over TCP and QUIC, as `peerkeep-paths` decides. It
//! tells of every lost leg, gives back the winner and drops the others; it does not greet.

use crate::listener::until;
use crate::tcp::io_fault;
use crate::{Clock, Io, Stack, StreamOptions, Terms};
use peerkeep_core::{Addr, AddrKind, Addrs, Fault, FaultKind, Step};
use peerkeep_paths::{MAX_LEGS, Move, Moves, Race};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

type Leg = Pin<Box<dyn Future<Output = Result<Io, Fault>>>>;

/// What every leg of a race is begun with.
pub(crate) struct Starter<S> {
    pub stack: Arc<S>,
    pub options: StreamOptions,
    /// Those of the attempt; each leg fills in its own address.
    pub terms: Terms,
}

/// Races the addresses that this node has the means for. `missed` hears of every leg that failed, not of those that
/// were merely slower.
///
/// # Errors
/// The fault of the last leg; `Unreachable` when there was none. Deadlines are the caller's: dropping the future
/// closes every socket.
pub(crate) async fn connect_any<S: Stack>(
    addrs: &[Addr],
    starter: &Starter<S>,
    clock: Clock,
    mut missed: impl FnMut(Addr, Fault),
) -> Result<(Io, Addr), Fault> {
    let addrs: Addrs = addrs.iter().copied().filter(|addr| starter.can_begin(addr)).collect();
    let mut legs: [Option<Leg>; MAX_LEGS] = Default::default();
    let mut moves = Moves::new();
    let mut race = Race::start(&addrs, starter.options.stagger, clock.now(), &mut moves);
    let mut last = Fault::new(Step::Connect, FaultKind::Unreachable);
    loop {
        for step in moves.drain(..) {
            match step {
                Move::Start { leg, addr } => legs[leg] = Some(starter.begin(addr)),
                Move::Stop { leg } => legs[leg] = None,
                Move::Lost => return Err(last),
            }
        }
        let wake = race.next_wake().map(|time| clock.instant(time));
        tokio::select! {
            (leg, result) = first_done(&mut legs) => {
                let Some(addr) = race.addr(leg) else { continue };
                match result {
                    Ok(io) => {
                        if race.handle_connected(leg, &mut moves) {
                            return Ok((io, addr));
                        }
                    }
                    Err(fault) => {
                        last = fault;
                        missed(addr, last);
                        race.handle_failed(leg, clock.now(), &mut moves);
                    }
                }
            }
            () = until(wake) => race.handle_wake(clock.now(), &mut moves),
        }
    }
}

impl<S: Stack> Starter<S> {
    fn can_begin(&self, addr: &Addr) -> bool {
        match addr.kind {
            AddrKind::Tcp => true,
            AddrKind::Quic => self.options.quic.is_some(),
            AddrKind::Udp => false,
        }
    }

    fn begin(&self, addr: Addr) -> Leg {
        let invalid = || io_fault(Step::Connect, &io::Error::from(io::ErrorKind::InvalidInput));
        if addr.check().is_err() {
            return Box::pin(async move { Err(invalid()) });
        }
        if addr.kind == AddrKind::Tcp {
            let tcp = self.options.tcp;
            return Box::pin(async move {
                tcp.connect(addr.socket()).await.map(Io::Tcp).map_err(|error| io_fault(Step::Connect, &error))
            });
        }
        let terms = Terms { remote: addr, ..self.terms.clone() };
        let (stack, quic) = (self.stack.clone(), self.options.quic.clone());
        Box::pin(async move {
            let (Some(quic), Some(dial)) = (quic, stack.quic_dial(&terms)) else { return Err(invalid()) };
            quic.connect(addr.socket(), dial, |step, error| stack.quic_fault(step, error)).await.map(Io::Quic)
        })
    }
}

async fn first_done(legs: &mut [Option<Leg>; MAX_LEGS]) -> (usize, Result<Io, Fault>) {
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
