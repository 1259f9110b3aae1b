//! From what a caller names to what the core understands: a contact, addresses, host names. Also the pins of trust on
//! first use: an address whose identity was met once stands for that identity from then on.

use super::hub::Hub;
use crate::{AddressError, CommandError, NameKind, PeerAddress, PeerId, Place};
use peerkeep_core::{Addr, Addrs, KeyKind, PeerKey, StackId, Who};
use peerkeep_net::{Family, Name, Names};

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
        (Some(id), Some(place @ Place::Name { .. })) => {
            let who = who(id.key());
            add_name(who, place, names);
            Ok(Whom { who, addrs: Addrs::new(), named: true })
        }
        (None, Some(Place::Ip(addr))) => Ok(stranger(one(*addr), hub, names)),
        (None, Some(place @ Place::Name { name, .. })) => {
            let asked: Vec<Name> = name_of(place).into_iter().collect();
            let addrs = names.look_up(&asked).await;
            if addrs.is_empty() {
                return Err(CommandError::Name(name.clone()));
            }
            let whom = stranger(addrs, hub, names);
            add_name(whom.who, place, names);
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

/// A name as it is looked up; an IP address is none.
fn name_of(place: &Place) -> Option<Name> {
    let Place::Name { name, kind, port, over } = place else { return None };
    let family = match kind {
        NameKind::Any => Family::Any,
        NameKind::V4 => Family::V4,
        NameKind::V6 => Family::V6,
    };
    Some(Name { host: name.clone(), port: *port, kind: *over, family })
}

/// Adds a host name to a contact's. When the table is full the addresses found now still serve.
pub(super) fn add_name(who: Who, place: &Place, names: &Names) {
    let Some(name) = name_of(place) else { return };
    let mut all = names.of(&who);
    if !all.contains(&name) {
        let host = name.host.clone();
        all.insert(0, name);
        if let Err(error) = names.set(who, all) {
            tracing::warn!(host, %error, "a host name was not kept");
        }
    }
}

/// A contact's host names in the form that is stored and shown.
pub(super) fn shown_names(who: &Who, names: &Names) -> Vec<PeerAddress> {
    let kind = |family| match family {
        Family::Any => NameKind::Any,
        Family::V4 => NameKind::V4,
        Family::V6 => NameKind::V6,
    };
    let place = |name: Name| Place::Name {
        kind: kind(name.family),
        name: name.host,
        port: name.port,
        over: name.kind,
    };
    let id = who.key.is_identity().then_some(PeerId(who.key));
    names.of(who).into_iter().map(|name| PeerAddress { id, place: Some(place(name)) }).collect()
}
