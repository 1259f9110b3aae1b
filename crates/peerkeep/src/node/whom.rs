//! From what a caller names to what the core understands: a contact, addresses, host names. Also the pins of trust on
//! first use: an address whose identity was met once stands for that identity from then on.

use super::hub::Hub;
use crate::{AddressError, CommandError, NameKind, PeerAddress, PeerId, Place};
use peerkeep_core::{Addr, Addrs, KeyKind, PeerKey, StackId, Who};
use peerkeep_net::{Name, Names};
use std::net::SocketAddr;
use std::time::Duration;

/// Longest lookup of a name that is to stand for a peer.
const LOOKUP: Duration = Duration::from_secs(10);

/// A contact to connect to, as the core's commands take it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Whom {
    pub who: Who,
    pub addrs: Addrs,
    pub named: bool,
}

/// The contact of a key: keys of this program's own kinds live on the mesh.
pub(super) fn who(key: PeerKey) -> Who {
    match key.kind {
        KeyKind::X25519 => Who { stack: StackId::Lan, key },
        _ => Who::mesh(key),
    }
}

/// What an address means, looking up a name if nothing else says whom it is about.
pub(super) async fn find(peer: &PeerAddress, hub: &Hub, names: &Names) -> Result<Whom, CommandError> {
    match (&peer.id, &peer.place) {
        (None, None) => Err(AddressError::Empty.into()),
        (Some(id), None) => Ok(plain(id.key(), Addrs::new(), names)),
        (Some(id), Some(Place::Ip(addr))) => Ok(plain(id.key(), one(*addr), names)),
        (Some(id), Some(Place::Name { name, port, .. })) => {
            let who = who(id.key());
            add_name(who, name, *port, names);
            Ok(Whom { who, addrs: Addrs::new(), named: true })
        }
        (None, Some(Place::Ip(addr))) => Ok(stranger(one(*addr), hub, names)),
        (None, Some(Place::Name { name, kind, port })) => {
            let addrs = look_up(name, *kind, *port).await?;
            let whom = stranger(addrs, hub, names);
            add_name(whom.who, name, *port, names);
            Ok(Whom { named: true, ..whom })
        }
    }
}

fn plain(key: PeerKey, addrs: Addrs, names: &Names) -> Whom {
    let who = who(key);
    Whom { who, addrs, named: !names.of(&who).is_empty() }
}

/// Somebody named by address alone: the identity pinned to it, or else the address itself.
fn stranger(addrs: Addrs, hub: &Hub, names: &Names) -> Whom {
    let key = addrs
        .iter()
        .find_map(|addr| hub.pinned(addr))
        .or_else(|| addrs.first().map(|addr| PeerKey::from_addr(*addr)));
    let key = key.expect("callers pass at least one address");
    plain(key, addrs, names)
}

fn one(addr: Addr) -> Addrs {
    let mut addrs = Addrs::new();
    addrs.push(addr);
    addrs
}

/// Adds a host name to a contact's. When the table is full the addresses found now still serve.
pub(super) fn add_name(who: Who, host: &str, port: u16, names: &Names) {
    let mut all = names.of(&who);
    let name = Name { host: host.to_owned(), port };
    if !all.contains(&name) {
        all.insert(0, name);
        if let Err(error) = names.set(who, all) {
            tracing::warn!(host, %error, "a host name was not kept");
        }
    }
}

async fn look_up(host: &str, kind: NameKind, port: u16) -> Result<Addrs, CommandError> {
    let failed = || CommandError::Name(host.to_owned());
    let lookup = tokio::net::lookup_host((host, port));
    let found = tokio::time::timeout(LOOKUP, lookup).await.map_err(|_| failed())?.map_err(|_| failed())?;
    let fits = |socket: &SocketAddr| match kind {
        NameKind::Any => true,
        NameKind::V4 => socket.is_ipv4(),
        NameKind::V6 => socket.is_ipv6(),
    };
    let mut addrs = Addrs::new();
    for socket in found.filter(fits) {
        let addr = Addr::tcp(socket);
        if addr.check().is_ok() && !addrs.contains(&addr) && addrs.try_push(addr).is_err() {
            break;
        }
    }
    if addrs.is_empty() { Err(failed()) } else { Ok(addrs) }
}

/// A contact's host names in the form that is stored and shown.
pub(super) fn shown_names(who: &Who, names: &Names) -> Vec<PeerAddress> {
    let place = |name: Name| Place::Name { name: name.host, kind: NameKind::Any, port: name.port };
    let id = who.key.is_identity().then_some(PeerId(who.key));
    names.of(who).into_iter().map(|name| PeerAddress { id, place: Some(place(name)) }).collect()
}
