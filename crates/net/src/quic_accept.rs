//! Accepting over QUIC: attempts get tickets like accepted sockets, before any cryptography of theirs is looked at. Under
//! load a newcomer first has to prove its address; when the table is full its packets are dropped without an answer.

use crate::listener::{Away, Serving, Waiting, until};
use crate::quic::{Quic, QuicListener};
use crate::{Counters, Facts, Tickets};
use peerkeep_core::{Addr, AddrKind, Fact};
use quinn::{Endpoint, Incoming};
use std::io;
use std::sync::Arc;

impl QuicListener {
    /// Starts accepting, on the runtime of `quic`.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub fn serve(
        self,
        quic: &Quic,
        tickets: Tickets,
        facts: Facts,
        counters: Arc<Counters>,
    ) -> io::Result<Serving> {
        let local = self.local();
        let endpoint = Answering(quic.endpoint(self.socket, true)?);
        let acceptor =
            Acceptor { endpoint, quic: quic.clone(), tickets, facts, counters, away: Away::default() };
        Ok(Serving::new(local, tokio::spawn(acceptor.run())))
    }
}

/// An endpoint that answers newcomers until this is dropped. Its connections go on.
struct Answering(Endpoint);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set_server_config(None);
    }
}

struct Acceptor {
    endpoint: Answering,
    quic: Quic,
    tickets: Tickets,
    facts: Facts,
    counters: Arc<Counters>,
    away: Away,
}

impl Acceptor {
    async fn run(mut self) {
        loop {
            let due = self.away.due();
            tokio::select! {
                incoming = self.endpoint.0.accept() => match incoming {
                    Some(incoming) => self.arrived(incoming),
                    None => return,
                },
                () = until(due) => self.away.tell(&self.facts),
            }
            // A flood must not keep this thread from other tasks.
            tokio::task::coop::consume_budget().await;
        }
    }

    fn arrived(&mut self, incoming: Incoming) {
        self.counters.arrivals.add_one();
        if !incoming.remote_address_validated() && self.quic.pending() >= self.quic.retry_above() {
            self.counters.quic_retries.add_one();
            // It may retry: that is what not being validated means.
            let _ = incoming.retry();
            return;
        }
        let remote = Addr::new(incoming.remote_address(), AddrKind::Quic);
        let waiting = Waiting::Quic(Box::new(incoming), self.quic.note_pending());
        match self.tickets.put(waiting, remote) {
            Ok(ticket) => {
                self.facts.saw(Fact::Arrived { ticket, stack: self.tickets.stack(), remote });
            }
            Err(waiting) => {
                if let Waiting::Quic(incoming, _) = waiting {
                    incoming.ignore();
                }
                self.counters.turned_away.add_one();
                self.away.add_one();
            }
        }
    }
}
