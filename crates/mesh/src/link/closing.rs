//! How a link ends: what its last bytes say, the goodbye of either side, and the way out from the first word to the
//! closed socket. The stages are in `parting`.

use super::{Port, Task};
use crate::parting::{Parting, Stage, is_gentle};
use futures::io::{AsyncRead as _, AsyncWrite as _};
use peerkeep_core::Close;
use peerkeep_net::Ended;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

impl Task {
    /// The last bytes of the control channel may hold the reason for an end.
    pub(super) fn end_of(&mut self, end: Ended) -> Ended {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            match self.read_control(&mut cx) {
                Err(Ended::Goodbye(why)) => return Ended::Goodbye(why),
                Ok(true) => {}
                Ok(false) | Err(_) => {
                    let said = self.parting.as_ref().filter(|parting| parting.is_said() || parting.heard);
                    return said.map_or(end, |parting| parting.end());
                }
            }
        }
    }

    /// A link that another one replaces ends when nothing is open on it any more, here as there.
    /// Otherwise what was sent before the goodbye is read first, where somebody reads.
    pub(super) fn on_goodbye(&mut self, why: Close) -> Result<(), Ended> {
        let unread = !self.shared.is_idle() || self.reads_mail;
        if why != Close::Replaced && is_gentle(why) && unread && self.parting.is_none() {
            self.parting = Some(Parting::hear_out(why));
            return Ok(());
        }
        let waits = self.parting.as_ref().is_some_and(|parting| parting.is_finishing());
        if why != Close::Replaced || (!waits && self.shared.is_idle()) {
            return Err(Ended::Goodbye(why));
        }
        let deadline = tokio::time::Instant::now() + Parting::LONGEST;
        self.parting.get_or_insert_with(|| Parting::new(why, deadline, false)).heard = true;
        Ok(())
    }

    pub(super) fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.parting.as_ref().is_some_and(|parting| parting.is_hearing_out()) {
            return self.poll_hearing_out(cx);
        }
        let Some(parting) = &mut self.parting else { return Poll::Pending };
        let end = parting.end();
        if parting.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(end);
        }
        loop {
            match parting.stage {
                Stage::Finishing => {
                    let is_through = match parting.why {
                        Close::Replaced => self.shared.is_idle(),
                        _ => !self.shared.is_queued(),
                    };
                    if !is_through && !parting.poll_impatient(cx) {
                        return Poll::Pending;
                    }
                    parting.stage = Stage::Greeting;
                }
                Stage::HearingOut => return Poll::Pending,
                Stage::Greeting => {
                    parting.stage = Stage::Saying;
                    self.control.goodbye(parting.why);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Stage::Saying => {
                    if !self.control.outbox().is_empty() {
                        return Poll::Pending;
                    }
                    parting.stage = Stage::Hearing;
                }
                Stage::Hearing => {
                    if parting.why == Close::Replaced && !parting.heard {
                        return Poll::Pending;
                    }
                    parting.stage = Stage::Shutting;
                }
                Stage::Shutting => {
                    // Over QUIC the end of the control stream is what says that no more comes.
                    if let (true, Port::Open { stream, .. }) = (self.mux.is_quic(), &mut self.port) {
                        let _ = Pin::new(stream).poll_close(cx);
                    }
                    match self.mux.poll_close(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(())) => parting.stage = Stage::Draining,
                        Poll::Ready(Err(())) => return Poll::Ready(end),
                    }
                }
                Stage::Draining => return self.poll_drain(cx).map(|_| end),
            }
        }
    }

    /// They have said goodbye: until those who read have what was sent before, and no longer than that takes.
    fn poll_hearing_out(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let (is_held, is_quic) = (self.mux.is_held(), self.mux.is_quic());
        let number = self.mux.heard() + u64::from(self.uses) + u64::from(is_held) + 1;
        let is_read = self.shared.is_idle() && (is_held || (is_quic && !self.reads_mail));
        let Some(parting) = &mut self.parting else { return Poll::Pending };
        parting.note(number, is_held || is_quic, self.mux.patience());
        if !is_read && parting.deadline.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let end = parting.end();
        self.mux.close(cx);
        Poll::Ready(end)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if let (true, Port::Open { stream, .. }) = (self.mux.is_quic(), &mut self.port) {
            let mut waste = [0; 512];
            // Their end of it, or of everything: both have said what they had to say.
            while let Poll::Ready(read) = Pin::new(&mut *stream).poll_read(cx, &mut waste) {
                if !matches!(read, Ok(count) if count > 0) {
                    self.mux.close(cx);
                    return Poll::Ready(self.answered());
                }
            }
        }
        self.mux.poll_drain(cx).map(|()| self.answered())
    }

    /// Both sides have closed.
    fn answered(&mut self) -> Ended {
        if let Some(parting) = &mut self.parting {
            parting.heard = true;
        }
        Ended::Asked
    }
}
