//! From what a caller names to what the core understands: a contact, addresses, host names. Also the pins of trust on
//! first use: an address whose identity was met once stands for that identity from then on.

use super::hub::Hub;
use crate::{AddressError, CommandError, NameKind, PeerAddress, PeerId, Place, Stack};
use peerkeep_core::{Addr, Addrs, KeyKind, PeerKey, StackId, Who};
use peerkeep_net::{Family, Leads, Name, Names};

/// A contact to connect to, as the core's commands take it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Whom {
    pub who: Who,
    pub addrs: Addrs,
    pub named: bool,
}

/// The contact of a key: on the stack that was named, or the only one that has its kind of key, or the one on which it
/// has been met, or the mesh.
pub(super) fn who(key: PeerKey, stack: Option<Stack>, hub: &Hub) -> Who {
    let stack = match (stack, key.kind) {
        (Some(stack), _) => stack.into(),
        (None, KeyKind::X25519) => StackId::Lan,
        (None, KeyKind::Secp256k1Even | KeyKind::Secp256k1Odd | KeyKind::Sha256) => StackId::Libp2p,
        (None, KeyKind::Ed25519 | KeyKind::Address) => hub.stack_of(&key),
    };
    Who { stack, key }
}

/// Whom an address with an identity names: with a place that is said to be on no other wire, somebody on the mesh.
pub(super) fn named(id: &PeerId, peer: &PeerAddress, hub: &Hub) -> Who {
    let on_the_mesh = peer.place.is_some() && id.key().kind == KeyKind::Ed25519;
    who(id.key(), peer.stack.or(on_the_mesh.then_some(Stack::Mesh)), hub)
}

/// The same on every stack where it is known; at least one, the likeliest first.
pub(super) fn all(key: PeerKey, hub: &Hub) -> Vec<Who> {
    let first = who(key, None, hub);
    let other = Who { stack: StackId::Libp2p, key };
    let both = first != other && hub.knows(&other);
    std::iter::once(first).chain(both.then_some(other)).collect()
}

/// What an address means, looking up a name if nothing else says whom it is about.
pub(super) async fn find(peer: &PeerAddress, hub: &Hub, names: &Names) -> Result<Whom, CommandError> {
    let named = |id| {
        let who = named(id, peer, hub);
        hub.name(who);
        who
    };
    let stack = peer.stack.map_or(StackId::Mesh, StackId::from);
    let foreign = peer.id.map_or(stack, |id| self::named(&id, peer, hub).stack) == StackId::Libp2p;
    if foreign && !hub.libp2p {
        return Err(AddressError::NoLibp2p.into());
    }
    match (&peer.id, &peer.place) {
        (None, None) => Err(AddressError::Empty.into()),
        (Some(id), None) => Ok(plain(named(id), Addrs::new(), names)),
        (Some(id), Some(Place::Ip(addr))) => Ok(plain(named(id), one(*addr), names)),
        (Some(id), Some(place @ (Place::Name { .. } | Place::List(_)))) => {
            let who = named(id);
            add_name(who, place, names);
            Ok(Whom { who, addrs: Addrs::new(), named: true })
        }
        (None, Some(Place::Ip(addr))) => Ok(stranger(stack, one(*addr), hub, names)),
        (None, Some(place @ Place::Name { name, .. })) => {
            let asked: Vec<Name> = name_of(place, None).into_iter().collect();
            let addrs = names.look_up(&asked).await;
            if addrs.is_empty() {
                return Err(CommandError::Name(name.clone()));
            }
            let whom = stranger(stack, addrs, hub, names);
            add_name(whom.who, place, names);
            Ok(Whom { named: true, ..whom })
        }
        (None, Some(Place::List(_))) => Err(AddressError::NoId.into()),
    }
}

fn plain(who: Who, addrs: Addrs, names: &Names) -> Whom {
    Whom { who, addrs, named: !names.of(&who).is_empty() }
}

/// Somebody named by address alone: the identity pinned to it, or else the address itself.
fn stranger(stack: StackId, addrs: Addrs, hub: &Hub, names: &Names) -> Whom {
    let key = addrs
        .iter()
        .find_map(|addr| hub.pinned(stack, addr))
        .or_else(|| addrs.first().map(|addr| PeerKey::from_addr(*addr)));
    let key = key.expect("callers pass at least one address");
    plain(Who { stack, key }, addrs, names)
}

fn one(addr: Addr) -> Addrs {
    let mut addrs = Addrs::new();
    addrs.push(addr);
    addrs
}

/// A name as it is looked up; an IP address is none.
fn name_of(place: &Place, id: Option<PeerId>) -> Option<Name> {
    let (host, leads) = match place {
        Place::Ip(_) => return None,
        Place::Name { name, kind, port, over } => {
            let family = match kind {
                NameKind::Any => Family::Any,
                NameKind::V4 => Family::V4,
                NameKind::V6 => Family::V6,
            };
            (name, Leads::Ips { port: *port, kind: *over, family })
        }
        Place::List(name) => (name, Leads::List(id?.to_multihash()?.into())),
    };
    Some(Name { host: host.clone(), leads })
}

/// Adds a host name to a contact's. When the table is full the addresses found now still serve.
pub(super) fn add_name(who: Who, place: &Place, names: &Names) {
    let Some(name) = name_of(place, Some(PeerId(who.key))) else { return };
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
    let place = |name: Name| match name.leads {
        Leads::Ips { port, kind: over, family } => {
            Place::Name { name: name.host, kind: kind(family), port, over }
        }
        Leads::List(_) => Place::List(name.host),
    };
    let id = who.key.is_identity().then_some(PeerId(who.key));
    let stack = (who.stack == StackId::Libp2p).then_some(Stack::Libp2p);
    names.of(who).into_iter().map(|name| PeerAddress { id, place: Some(place(name)), stack }).collect()
}
