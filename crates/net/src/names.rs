//! Names of contacts: the core knows addresses only, so hosts to look up are kept and resolved here. Bounded in
//! contacts and names. It does not choose between what it finds; the core does.

use crate::lookup::{Lookups, Version};
use crate::{Counters, Facts};
use peerkeep_core::{AddrKind, Addrs, ConnRef, End, Fact, Who};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;

/// A host name, and what is looked for under it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// The host, at most 253 bytes.
    pub host: String,
    /// What it leads to.
    pub leads: Leads,
}

/// What is looked for under a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Leads {
    /// IP addresses.
    Ips {
        /// The port there.
        port: u16,
        /// What listens there.
        kind: AddrKind,
        /// Which IP versions are looked for.
        family: Family,
    },
    /// A list of addresses (`/dnsaddr`), of which those count that end with this identity, a libp2p multihash. An entry may
    /// lead on to a host, or to one more list whose entries may lead on to hosts.
    List(Arc<[u8]>),
}

/// Which IP versions a name may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Both.
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

impl Family {
    pub(crate) fn versions(self) -> &'static [Version] {
        match self {
            Family::Any => &[Version::V6, Version::V4],
            Family::V4 => &[Version::V4],
            Family::V6 => &[Version::V6],
        }
    }
}

/// Contacts that may have names; further ones are refused.
pub const MAX_NAMED: usize = 10_000;

/// Names kept for one contact.
pub const MAX_NAMES: usize = 4;

/// Which contact has which names, and what they lead to. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Names {
    table: Arc<Mutex<HashMap<Who, Vec<Name>>>>,
    lookups: Arc<Lookups>,
}

/// The names were not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// A host is empty or longer than 253 bytes.
    #[error("a host name has 1 to 253 bytes")]
    Host,
    /// [`MAX_NAMED`] contacts have names already.
    #[error("too many contacts with host names")]
    Full,
}

impl Names {
    /// Sets a contact's names, the first [`MAX_NAMES`] of them; none forgets the contact.
    ///
    /// # Errors
    /// See [`BadName`]; nothing changed then.
    pub fn set(&self, who: Who, mut names: Vec<Name>) -> Result<(), BadName> {
        if names.iter().any(|name| name.host.is_empty() || name.host.len() > 253) {
            return Err(BadName::Host);
        }
        names.truncate(MAX_NAMES);
        let mut table = self.lock();
        if names.is_empty() {
            table.remove(&who);
        } else if table.len() >= MAX_NAMED && !table.contains_key(&who) {
            return Err(BadName::Full);
        } else {
            table.insert(who, names);
        }
        Ok(())
    }

    /// A contact's names.
    pub fn of(&self, who: &Who) -> Vec<Name> {
        self.lock().get(who).cloned().unwrap_or_default()
    }

    /// Looks names up, the first [`MAX_NAMES`] of them, within seconds: their addresses, in the order in which they
    /// should be tried, or none.
    pub async fn look_up(&self, names: &[Name]) -> Addrs {
        self.lookups.find(names.get(..MAX_NAMES).unwrap_or(names)).await
    }

    /// Asks these DNS servers from now on, at most [`MAX_DNS_SERVERS`](crate::MAX_DNS_SERVERS); none means those of
    /// the system.
    pub fn ask_servers(&self, servers: Vec<SocketAddr>) {
        self.lookups.ask_servers(servers);
    }

    /// The network has changed: whatever was found is looked up again.
    pub(crate) fn refresh(&self) {
        self.lookups.refresh();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Who, Vec<Name>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks names up for the owner, and answers for conns that end before they are dialled.
pub(crate) struct Resolver {
    names: Names,
    facts: Facts,
    counters: Arc<Counters>,
    /// Conns between `Resolve` and `Dial` or `Close`.
    running: HashMap<ConnRef, AbortHandle>,
}

impl Resolver {
    pub fn new(names: Names, facts: Facts, counters: Arc<Counters>) -> Resolver {
        Resolver { names, facts, counters, running: HashMap::new() }
    }

    /// Looks up a contact's names and answers `Resolved`.
    pub fn begin(&mut self, conn: ConnRef, who: Who) {
        let (names, facts, counters) = (self.names.clone(), self.facts.clone(), self.counters.clone());
        let task = tokio::spawn(async move {
            let began = std::time::Instant::now();
            let addrs = names.look_up(&names.of(&who)).await;
            counters.stages.resolve.record(began.elapsed());
            facts.saw(Fact::Resolved { conn, addrs });
        });
        self.running.insert(conn, task.abort_handle());
    }

    /// The conn is dialled: a driver answers for it from now on.
    pub fn dialled(&mut self, conn: ConnRef) {
        self.running.remove(&conn);
    }

    /// Ends a conn that no driver knows yet. `false` if a driver does.
    pub fn close(&mut self, conn: ConnRef) -> bool {
        let Some(task) = self.running.remove(&conn) else { return false };
        task.abort();
        self.facts.saw(Fact::Gone { conn, end: End::Asked });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerkeep_core::PeerKey;

    fn who(number: u8) -> Who {
        Who::mesh(PeerKey::ed25519([number; 32]))
    }

    fn name(host: &str) -> Name {
        let leads = Leads::Ips { port: 7330, kind: AddrKind::Tcp, family: Family::Any };
        Name { host: host.into(), leads }
    }

    #[test]
    fn names_are_bounded_and_replaced_whole() {
        let names = Names::default();
        names.set(who(1), vec![name("a"); 9]).expect("fine");
        assert_eq!(names.of(&who(1)).len(), MAX_NAMES);
        assert_eq!(names.set(who(1), vec![name(&"x".repeat(254))]), Err(BadName::Host));
        assert_eq!(names.set(who(1), vec![name("")]), Err(BadName::Host));
        names.set(who(1), Vec::new()).expect("fine");
        assert_eq!(names.of(&who(1)), []);
    }

    #[tokio::test]
    async fn a_lookup_is_answered_once_and_a_close_before_the_dial_is_gone() {
        let ready = Arc::new(tokio::sync::Notify::new());
        let facts = Facts::waking(ready.clone());
        let names = Names::default();
        names.set(who(1), vec![name("localhost")]).expect("fine");
        let mut resolver = Resolver::new(names, facts.clone(), Arc::default());
        let conn = |row| ConnRef { row, generation: 0 };
        resolver.begin(conn(1), who(1));
        ready.notified().await;
        let mut seen = Vec::new();
        facts.take(&mut seen);
        let [Fact::Resolved { conn: of, addrs }] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!(*of, conn(1));
        assert!(addrs.iter().all(|addr| addr.is_loopback() && addr.port == 7330) && !addrs.is_empty());
        resolver.dialled(conn(1));
        assert!(!resolver.close(conn(1)), "the driver answers for it");
        resolver.begin(conn(2), who(2));
        assert!(resolver.close(conn(2)));
        assert!(!resolver.close(conn(2)), "one Gone");
        tokio::task::yield_now().await;
        seen.clear();
        facts.take(&mut seen);
        assert_eq!(seen, [Fact::Gone { conn: conn(2), end: End::Asked }]);
    }
}
