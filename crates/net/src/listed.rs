//! What a name's list says (`/dnsaddr`): texts, each one address with an identity at its end. Bounded in what is read and
//! kept. It asks nobody; what a list leads on to is looked up by the lookup.

use crate::{Family, Leads, Name};
use multiaddr::{Multiaddr, Protocol};
use peerkeep_core::{Addr, AddrKind, Addrs, MAX_ADDRS};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Longest text that is looked at.
const MAX_TEXT_BYTES: usize = 512;

/// Names that one list may lead on to.
pub(crate) const MAX_ONWARD: usize = 4;

/// What counts of a list: its entries for one identity.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub addrs: Addrs,
    pub names: Vec<Name>,
}

impl Listed {
    /// One more text; what is for another identity, too much, or nothing that we dial is passed over.
    pub fn add(&mut self, text: &[u8], identity: &Arc<[u8]>) {
        match entry(text, identity) {
            Some(Entry::Addr(addr)) if self.addrs.len() < MAX_ADDRS && !self.addrs.contains(&addr) => {
                self.addrs.push(addr);
            }
            Some(Entry::Name(name)) if self.names.len() < MAX_ONWARD && !self.names.contains(&name) => {
                self.names.push(name);
            }
            _ => {}
        }
    }
}

enum Entry {
    Addr(Addr),
    Name(Name),
}

fn entry(text: &[u8], identity: &Arc<[u8]>) -> Option<Entry> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_TEXT_BYTES)?;
    let mut address: Multiaddr = text.strip_prefix("dnsaddr=")?.parse().ok()?;
    let Some(Protocol::P2p(id)) = address.pop() else { return None };
    if *id.to_bytes() != **identity {
        return None;
    }
    let mut parts = address.iter();
    let first = parts.next()?;
    if let Protocol::Dnsaddr(host) = &first {
        let name = Name { host: host.to_string(), leads: Leads::List(identity.clone()) };
        return parts.next().is_none().then_some(Entry::Name(name));
    }
    let (port, kind) = match parts.next()? {
        Protocol::Tcp(port) => (port, AddrKind::Tcp),
        Protocol::Udp(port) if parts.next() == Some(Protocol::QuicV1) => (port, AddrKind::Quic),
        _ => return None,
    };
    if port == 0 || parts.next().is_some() {
        return None;
    }
    let at = |ip: IpAddr| {
        let addr = Addr::new(SocketAddr::new(ip, port), kind);
        addr.check().is_ok().then_some(Entry::Addr(addr))
    };
    let named = |host: &str, family| {
        Some(Entry::Name(Name { host: host.to_owned(), leads: Leads::Ips { port, kind, family } }))
    };
    match first {
        Protocol::Ip4(ip) => at(ip.into()),
        Protocol::Ip6(ip) => at(ip.into()),
        Protocol::Dns(host) => named(&host, Family::Any),
        Protocol::Dns4(host) => named(&host, Family::V4),
        Protocol::Dns6(host) => named(&host, Family::V6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn identity(id: &str) -> Arc<[u8]> {
        id.parse::<multiaddr::PeerId>().expect("an id").to_bytes().into()
    }

    fn read(text: &str) -> Listed {
        let mut listed = Listed::default();
        listed.add(text.as_bytes(), &identity(ID));
        listed
    }

    /// S0.60.
    #[test]
    fn entries_for_the_identity_count_when_they_can_be_dialled() {
        for (place, addr) in [
            ("/ip4/192.0.2.1/tcp/4001", "192.0.2.1:4001/tcp"),
            ("/ip6/2001:db8::1/udp/4001/quic-v1", "[2001:db8::1]:4001/quic"),
        ] {
            let listed = read(&format!("dnsaddr={place}/p2p/{ID}"));
            assert_eq!(listed.addrs.iter().map(ToString::to_string).collect::<Vec<_>>(), [addr]);
        }
        let family = |listed: &Listed| match &listed.names[0].leads {
            Leads::Ips { family, port: 443, kind: AddrKind::Tcp } => Some(*family),
            _ => None,
        };
        for (dns, is) in [("dns", Family::Any), ("dns4", Family::V4), ("dns6", Family::V6)] {
            let listed = read(&format!("dnsaddr=/{dns}/a.example/tcp/443/p2p/{ID}"));
            assert_eq!(family(&listed), Some(is));
        }
        let onward = read(&format!("dnsaddr=/dnsaddr/b.example/p2p/{ID}"));
        assert_eq!(onward.names, [Name { host: "b.example".into(), leads: Leads::List(identity(ID)) }]);
    }

    #[test]
    fn what_is_for_others_or_cannot_be_dialled_is_passed_over() {
        let other = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq";
        for text in [
            String::new(),
            "v=spf1 -all".to_owned(),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{ID}"),
            "dnsaddr=/ip4/192.0.2.1/tcp/1".to_owned(),
            format!("dnsaddr=/ip4/192.0.2.1/tcp/1/p2p/{other}"),
            format!("dnsaddr=/ip4/192.0.2.1/tcp/0/p2p/{ID}"),
            format!("dnsaddr=/ip4/192.0.2.1/udp/1/p2p/{ID}"),
            format!("dnsaddr=/ip4/192.0.2.1/udp/1/quic/p2p/{ID}"),
            format!("dnsaddr=/ip4/192.0.2.1/tcp/1/ws/p2p/{ID}"),
            format!("dnsaddr=/ip4/224.0.0.1/tcp/1/p2p/{ID}"),
            format!("dnsaddr=/dns4/a.example/tcp/0/p2p/{ID}"),
            format!("dnsaddr=/dnsaddr/a.example/tcp/1/p2p/{ID}"),
            format!("dnsaddr=/ip4/192.0.2.1/tcp/1/p2p/{other}/p2p-circuit/p2p/{ID}"),
            format!("dnsaddr=/dns4/{}/tcp/1/p2p/{ID}", "a".repeat(500)),
        ] {
            assert_eq!(read(&text), Listed::default(), "{text}");
        }
    }

    #[test]
    fn a_list_is_cut_to_eight_addresses_and_four_names() {
        let mut listed = Listed::default();
        for number in 1..100 {
            let addr = format!("dnsaddr=/ip4/192.0.2.{number}/tcp/1/p2p/{ID}");
            let name = format!("dnsaddr=/dns4/n{number}.example/tcp/1/p2p/{ID}");
            for text in [&addr, &addr, &name, &name] {
                listed.add(text.as_bytes(), &identity(ID));
            }
        }
        assert_eq!((listed.addrs.len(), listed.names.len()), (MAX_ADDRS, MAX_ONWARD));
    }
}
