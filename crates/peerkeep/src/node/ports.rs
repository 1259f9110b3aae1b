//! The ports a node listens on: opened all or none, and exchanged while it runs, the new ones before the old ones close.

use super::start::{bind, quic_options, tcp_options};
use crate::{ListenAddress, Settings, StartError};
use peerkeep_core::{Addr, AddrKind};
use peerkeep_net::{Listener, Owner, Quic, QuicListener, Serving, Tickets};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;

/// What listens now.
pub(super) struct Ports {
    quic: Endpoints,
    tickets: Tickets,
    owner: Owner,
    /// Where they are watched.
    home: Handle,
    open: Mutex<Vec<Port>>,
}

/// The UDP sockets; gone once the node has stopped, however long somebody holds a handle on it.
pub(super) type Endpoints = Arc<Mutex<Option<Quic>>>;

/// One address that was asked for, and where that led.
struct Port {
    asked: ListenAddress,
    locals: Vec<Addr>,
}

/// Ports that are bound and do not accept yet. Dropping them closes them.
pub(super) struct Bound(Vec<(ListenAddress, Vec<Listener>, Vec<QuicListener>)>);

impl Ports {
    pub fn new(quic: Quic, tickets: Tickets, owner: Owner, home: Handle) -> Ports {
        Ports { quic: Arc::new(Mutex::new(Some(quic))), tickets, owner, home, open: Mutex::default() }
    }

    /// What has to be let go of at the end.
    pub fn endpoints(&self) -> Endpoints {
        self.quic.clone()
    }

    fn open(&self) -> MutexGuard<'_, Vec<Port>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the node listens.
    pub fn locals(&self) -> Vec<Addr> {
        self.open().iter().flat_map(|port| port.locals.iter().copied()).collect()
    }

    /// Takes what can change for ports that are open.
    pub fn tune(&self, settings: &Settings) {
        if let Some(quic) = &*self.quic.lock().unwrap_or_else(PoisonError::into_inner) {
            quic.ask_above(quic_options(settings).retry_above);
        }
    }

    /// Binds what the settings ask for beyond what is open.
    pub fn bind(&self, settings: &Settings) -> Result<Bound, StartError> {
        let mut bound = Vec::new();
        for asked in &settings.listen.addresses {
            if self.open().iter().any(|port| port.asked == *asked) {
                continue;
            }
            let mut alone = settings.clone();
            alone.listen.addresses = vec![*asked];
            let (over_tcp, over_quic) = bind(&alone, &tcp_options(settings), &quic_options(settings))?;
            bound.push((*asked, over_tcp, over_quic));
        }
        Ok(Bound(bound))
    }

    /// Begins to accept there.
    pub fn serve(&self, bound: Bound) -> Result<Vec<Serving>, StartError> {
        let watching = |error| StartError::System { what: "watching a listener", error };
        let counters = self.owner.counters();
        let quic = self.quic.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let _at = self.home.enter();
        let mut all = Vec::new();
        for (asked, over_tcp, over_quic) in bound.0 {
            let mut locals = Vec::new();
            for listener in over_tcp {
                let local = listener.local();
                all.push(
                    listener
                        .serve(self.tickets.clone(), self.owner.facts(), counters.clone())
                        .map_err(watching)?,
                );
                tracing::info!(address = %local, "listening");
                locals.push(Addr::new(local, AddrKind::Tcp));
            }
            for (listener, quic) in over_quic.into_iter().zip(&quic) {
                let local = listener.local();
                let served = listener.serve(quic, self.tickets.clone(), self.owner.facts(), counters.clone());
                all.push(served.map_err(watching)?);
                tracing::info!(address = %local, "listening over QUIC");
                locals.push(Addr::new(local, AddrKind::Quic));
            }
            self.open().push(Port { asked, locals });
        }
        Ok(all)
    }

    /// Closes what the settings no longer ask for. Connections made there stay.
    /// So do the ports of others, at `others`.
    pub async fn close_all_but(&self, asked: &[ListenAddress], others: &[Addr]) {
        self.open().retain(|port| asked.contains(&port.asked));
        let mut stays = self.locals();
        stays.extend_from_slice(others);
        let going = self.owner.listeners().take_all_but(|local| stays.iter().any(|at| at.socket() == local));
        for serving in going {
            tracing::info!(address = %serving.local(), "listening no longer");
            serving.stop().await;
        }
    }
}
