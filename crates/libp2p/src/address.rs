//! Multiaddrs and the core's addresses. What we cannot dial (relays, other transports, names) has no address here; names
//! are the library's, which resolves them.

use multiaddr::{Multiaddr, Protocol};
use peerkeep_core::{Addr, AddrKind, Addrs, MAX_ADDRS};
use std::net::{IpAddr, SocketAddr};

/// The address that a multiaddr names: `/ip4` or `/ip6` with `/tcp`, or with `/udp` and `/quic-v1`; a `/p2p` at its end
/// is passed over. `None` for everything else.
pub fn from_multiaddr(multiaddr: &Multiaddr) -> Option<Addr> {
    let mut parts = multiaddr.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let addr = match parts.next()? {
        Protocol::Tcp(port) => Addr::tcp(SocketAddr::new(ip, port)),
        Protocol::Udp(port) if parts.next() == Some(Protocol::QuicV1) => {
            Addr::new(SocketAddr::new(ip, port), AddrKind::Quic)
        }
        _ => return None,
    };
    match parts.next() {
        None | Some(Protocol::P2p(_)) if parts.next().is_none() => addr.check().is_ok().then_some(addr),
        _ => None,
    }
}

/// The multiaddr of an address. A bare UDP address has none.
pub fn to_multiaddr(addr: &Addr) -> Option<Multiaddr> {
    let socket = addr.socket();
    let place = Multiaddr::empty().with(Protocol::from(socket.ip()));
    match addr.kind {
        AddrKind::Tcp => Some(place.with(Protocol::Tcp(socket.port()))),
        AddrKind::Quic => Some(place.with(Protocol::Udp(socket.port())).with(Protocol::QuicV1)),
        AddrKind::Udp => None,
    }
}

/// Those of them that we can dial, the first few.
pub(crate) fn dialable(listen: &[Multiaddr]) -> Addrs {
    let mut addrs = Addrs::new();
    for addr in listen.iter().filter_map(from_multiaddr) {
        if addrs.len() < MAX_ADDRS && !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    addrs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_dialled_goes_there_and_back() {
        for text in ["/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/udp/4001/quic-v1"] {
            let addr = from_multiaddr(&text.parse().expect("a multiaddr")).expect("an address");
            assert_eq!(to_multiaddr(&addr).expect("a multiaddr").to_string(), text);
        }
        let named = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq";
        assert!(from_multiaddr(&named.parse().expect("a multiaddr")).is_some());
    }

    #[test]
    fn what_cannot_be_dialled_has_no_address() {
        for text in [
            "/ip4/192.0.2.1",
            "/ip4/192.0.2.1/udp/1",
            "/ip4/192.0.2.1/tcp/1/ws",
            "/ip4/192.0.2.1/udp/1/quic",
            "/dns4/example.org/tcp/1",
            "/ip4/192.0.2.1/tcp/0",
            "/ip4/192.0.2.1/tcp/1/p2p/12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq/p2p-circuit",
        ] {
            assert_eq!(from_multiaddr(&text.parse().expect("a multiaddr")), None, "{text}");
        }
    }
}
