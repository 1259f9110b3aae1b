//! Where and whom: the one place that reads and prints what people type for a peer, an address or a ban. It resolves no
//! name and opens nothing; what cannot be dialled by this program is refused with a reason, never guessed at.

use crate::{PeerId, Stack};
use multiaddr::{Multiaddr, Protocol};
use peerkeep_core::{Addr, AddrKind, BadAddr, PeerKey, Subnet, Target};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The port of the mesh when none is given.
pub const DEFAULT_PORT: u16 = 7330;

/// In front of an address or identity: it speaks libp2p.
const LIBP2P: &str = "libp2p:";
/// Longest text that is looked at.
const MAX_TEXT: usize = 1_024;
/// Longest DNS name.
const MAX_NAME: usize = 253;

/// Why a text names no peer or address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// Nothing was given.
    #[error("the address is empty")]
    Empty,
    /// Too long to be one.
    #[error("the address is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// The peer id is not one.
    #[error("the peer id is not valid: {0}")]
    Id(&'static str),
    /// Not a multiaddress.
    #[error("this is not a multiaddress such as /ip4/192.0.2.1/tcp/7330/p2p/12D3KooW…")]
    Multiaddr,
    /// A multiaddress of a kind this program does not dial.
    #[error(
        "this program does not dial addresses with {0}; it takes /ip4, /ip6, /dns, /dns4 or /dns6, then /tcp or \
         /udp/…/quic-v1, and /dnsaddr"
    )]
    Unsupported(&'static str),
    /// A list of addresses without an identity: there may be entries of many.
    #[error(
        "an address with /dnsaddr ends with the identity that is looked for: /dnsaddr/NAME/p2p/12D3KooW…"
    )]
    NoId,
    /// Neither of the forms.
    #[error("this is neither a multiaddress, nor host:port, nor a peer id")]
    Form,
    /// It speaks a wire that is switched off here.
    #[error("this node does not speak libp2p: set libp2p.enabled = true and restart it")]
    NoLibp2p,
    /// The port is missing, 0 or above 65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// The host name is not one.
    #[error("the host name is not valid")]
    Name,
    /// No dial to this address makes sense.
    #[error("this address cannot be dialled: {}", bad(.0))]
    Senseless(BadAddr),
    /// A ban or exemption names neither a peer id, an IP address nor a subnet.
    #[error("this is neither a peer id, nor an IP address, nor a subnet such as 192.0.2.0/24")]
    Target,
    /// A subnet's prefix length does not fit its address.
    #[error("the prefix length does not fit the address")]
    Prefix,
    /// A subnet wider than /8 (IPv4) or /16 (IPv6).
    #[error("the subnet is too wide: at widest /8 for IPv4 and /16 for IPv6")]
    TooWide,
}

fn bad(why: &BadAddr) -> &'static str {
    match why {
        BadAddr::NoPort => "the port is 0",
        BadAddr::Unspecified => "the IP address is unspecified",
        BadAddr::Multicast => "the IP address is a multicast group",
        BadAddr::Broadcast => "the IP address is the broadcast address",
        BadAddr::LinkLocal => "the IP address is link-local without a scope",
    }
}

/// Which IP versions a name may resolve to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NameKind {
    /// Either.
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

/// A place: an IP address or a name, with a TCP or QUIC port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// An IP address and port.
    Ip(Addr),
    /// A name, to be looked up at every dial.
    Name {
        /// The name, lower case, without a final dot.
        name: String,
        /// What it may resolve to.
        kind: NameKind,
        /// The port.
        port: u16,
        /// What listens there: [`AddrKind::Tcp`] or [`AddrKind::Quic`].
        over: AddrKind,
    },
    /// A name with a list of addresses (`/dnsaddr`), to be looked up at every dial; those of the peer's identity count.
    List(String),
}

/// What `connect` and `want` take: a place, an identity, or both. With a place alone the identity that answers first is
/// trusted from then on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PeerAddress {
    /// Who must answer there.
    pub id: Option<PeerId>,
    /// Where; nothing for a peer that is known already.
    pub place: Option<Place>,
    /// Which wire it speaks, when that was said: `libp2p:` in front of either. Else it is the only one that has its kind of
    /// identity, or the mesh; for an identity alone, the wire on which the peer is known.
    pub stack: Option<Stack>,
}

impl PeerAddress {
    /// A known peer by identity alone.
    pub fn known(id: impl Into<PeerId>) -> PeerAddress {
        PeerAddress { id: Some(id.into()), place: None, stack: None }
    }

    /// A peer at a socket address.
    pub fn at(id: Option<PeerId>, addr: Addr) -> PeerAddress {
        PeerAddress { id, place: Some(Place::Ip(addr)), stack: None }
    }

    /// As a multiaddress; `None` for an id that has no such form.
    pub fn to_multiaddr(&self) -> Option<Multiaddr> {
        let mut address = match &self.place {
            Some(Place::Ip(addr)) => multiaddr_of(addr),
            Some(Place::Name { name, kind, port, over }) => {
                let name = match kind {
                    NameKind::Any => Protocol::Dns(name.into()),
                    NameKind::V4 => Protocol::Dns4(name.into()),
                    NameKind::V6 => Protocol::Dns6(name.into()),
                };
                with_port(Multiaddr::empty().with(name), *over, *port)
            }
            Some(Place::List(name)) => Multiaddr::empty().with(Protocol::Dnsaddr(name.into())),
            None => Multiaddr::empty(),
        };
        if let Some(id) = &self.id {
            address.push(Protocol::P2p(id.to_libp2p()?));
        }
        Some(address)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stack == Some(Stack::Libp2p) {
            f.write_str(LIBP2P)?;
        }
        match (&self.place, &self.id) {
            (None, Some(id)) => fmt::Display::fmt(id, f),
            _ => match self.to_multiaddr() {
                Some(address) => fmt::Display::fmt(&address, f),
                None => f.write_str("?"),
            },
        }
    }
}

impl From<PeerId> for PeerAddress {
    fn from(id: PeerId) -> PeerAddress {
        PeerAddress::known(id)
    }
}

impl From<PeerKey> for PeerAddress {
    fn from(key: PeerKey) -> PeerAddress {
        PeerAddress::known(key)
    }
}

impl TryFrom<&Multiaddr> for PeerAddress {
    type Error = AddressError;
    fn try_from(address: &Multiaddr) -> Result<PeerAddress, AddressError> {
        let mut parts = address.iter();
        let first = parts.next().ok_or(AddressError::Empty)?;
        if let Protocol::P2p(id) = first {
            return match parts.next() {
                None => Ok(PeerAddress::known(PeerId::try_from(id)?)),
                Some(more) => Err(AddressError::Unsupported(more.tag())),
            };
        }
        if let Protocol::Dnsaddr(name) = first {
            return match (parts.next(), parts.next()) {
                (Some(Protocol::P2p(id)), None) => Ok(PeerAddress {
                    id: Some(PeerId::try_from(id)?),
                    place: Some(Place::List(host(&name)?)),
                    stack: None,
                }),
                (None, _) => Err(AddressError::NoId),
                (Some(Protocol::P2p(_)), Some(more)) | (Some(more), _) => {
                    Err(AddressError::Unsupported(more.tag()))
                }
            };
        }
        let (port, kind) = match parts.next() {
            Some(Protocol::Tcp(port)) => (port, AddrKind::Tcp),
            Some(Protocol::Udp(port)) => match parts.next() {
                Some(Protocol::QuicV1) => (port, AddrKind::Quic),
                _ => return Err(AddressError::Unsupported("udp")),
            },
            Some(other) => return Err(AddressError::Unsupported(other.tag())),
            None => return Err(AddressError::Port),
        };
        let place = match first {
            Protocol::Ip4(ip) => ip_place(ip.into(), port, kind)?,
            Protocol::Ip6(ip) => ip_place(ip.into(), port, kind)?,
            Protocol::Dns(name) => name_place(&name, NameKind::Any, port, kind)?,
            Protocol::Dns4(name) => name_place(&name, NameKind::V4, port, kind)?,
            Protocol::Dns6(name) => name_place(&name, NameKind::V6, port, kind)?,
            other => return Err(AddressError::Unsupported(other.tag())),
        };
        let id = match parts.next() {
            None => None,
            Some(Protocol::P2p(id)) => Some(PeerId::try_from(id)?),
            Some(other) => return Err(AddressError::Unsupported(other.tag())),
        };
        match parts.next() {
            None => Ok(PeerAddress { id, place: Some(place), stack: None }),
            Some(more) => Err(AddressError::Unsupported(more.tag())),
        }
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<PeerAddress, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.len() > MAX_TEXT {
            return Err(AddressError::TooLong);
        }
        if let Some(rest) = text.strip_prefix(LIBP2P) {
            if rest.starts_with(LIBP2P) {
                return Err(AddressError::Form);
            }
            return Ok(PeerAddress { stack: Some(Stack::Libp2p), ..rest.parse()? });
        }
        if text.starts_with('/') {
            let address: Multiaddr = text.parse().map_err(|_| AddressError::Multiaddr)?;
            return PeerAddress::try_from(&address);
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(PeerAddress {
                id: None,
                place: Some(ip_place(socket.ip(), socket.port(), AddrKind::Tcp)?),
                stack: None,
            });
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !text.starts_with("x25519:") => {
                if host.contains(':') {
                    return Err(AddressError::Form);
                }
                let port = port.parse().map_err(|_| AddressError::Port)?;
                Ok(PeerAddress {
                    id: None,
                    place: Some(name_place(host, NameKind::Any, port, AddrKind::Tcp)?),
                    stack: None,
                })
            }
            _ => Ok(PeerAddress::known(text.parse::<PeerId>().map_err(|_| AddressError::Form)?)),
        }
    }
}

/// An address as a multiaddress, without an identity.
pub fn multiaddr_of(addr: &Addr) -> Multiaddr {
    let address = Multiaddr::empty().with(match addr.ip_addr() {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    });
    with_port(address, addr.kind, addr.port)
}

fn with_port(address: Multiaddr, kind: AddrKind, port: u16) -> Multiaddr {
    match kind {
        AddrKind::Tcp => address.with(Protocol::Tcp(port)),
        AddrKind::Quic => address.with(Protocol::Udp(port)).with(Protocol::QuicV1),
        AddrKind::Udp => address.with(Protocol::Udp(port)),
    }
}

/// Reads a ban's or exemption's target: a peer id, an IP address, or a subnet in CIDR form.
///
/// # Errors
/// When it is none of them, or too wide to be sensible (fault I6).
pub fn parse_target(text: &str) -> Result<Target, AddressError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return narrow(Subnet::host(Addr::tcp(SocketAddr::new(ip, 1)).ip));
    }
    if let Some((ip, prefix)) = text.split_once('/') {
        let ip: IpAddr = ip.parse().map_err(|_| AddressError::Target)?;
        let prefix: u8 = prefix.parse().map_err(|_| AddressError::Prefix)?;
        return narrow(Subnet::from_prefix(ip, prefix).ok_or(AddressError::Prefix)?);
    }
    match text.parse::<PeerId>() {
        Ok(id) => Ok(Target::Key(id.0)),
        Err(AddressError::TooLong) => Err(AddressError::TooLong),
        Err(_) => Err(AddressError::Target),
    }
}

/// Prints a ban's target in the form [`parse_target`] takes.
pub fn print_target(target: &Target) -> String {
    match target {
        Target::Key(key) => PeerId(*key).to_string(),
        Target::Subnet(subnet) => {
            let ip = Addr { ip: subnet.ip, port: 0, kind: AddrKind::Tcp }.ip_addr();
            let (most, bits) = match ip {
                IpAddr::V4(_) if subnet.bits >= 96 => (32, subnet.bits - 96),
                _ => (128, subnet.bits),
            };
            if bits == most { ip.to_string() } else { format!("{ip}/{bits}") }
        }
    }
}

fn narrow(subnet: Subnet) -> Result<Target, AddressError> {
    if subnet.is_too_wide() { Err(AddressError::TooWide) } else { Ok(Target::Subnet(subnet)) }
}

fn ip_place(ip: IpAddr, port: u16, kind: AddrKind) -> Result<Place, AddressError> {
    let addr = Addr::new(SocketAddr::new(ip, port), kind);
    addr.check().map_err(AddressError::Senseless)?;
    Ok(Place::Ip(addr))
}

fn name_place(name: &str, kind: NameKind, port: u16, over: AddrKind) -> Result<Place, AddressError> {
    let name = host(name)?;
    if port == 0 {
        return Err(AddressError::Port);
    }
    Ok(Place::Name { name, kind, port, over })
}

/// A host name in its one form.
fn host(name: &str) -> Result<String, AddressError> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let numeric = name.rsplit('.').next().is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit()));
    if name.len() > MAX_NAME || numeric || !name.split('.').all(label) {
        return Err(AddressError::Name);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn parse(text: &str) -> Result<PeerAddress, AddressError> {
        text.parse()
    }

    #[test]
    fn every_form_is_read_and_printed_back() {
        for (text, printed) in [
            ("/ip4/192.0.2.1/tcp/7330", "/ip4/192.0.2.1/tcp/7330"),
            ("/ip6/2001:db8::1/tcp/7330", "/ip6/2001:db8::1/tcp/7330"),
            ("192.0.2.1:7330", "/ip4/192.0.2.1/tcp/7330"),
            ("[2001:db8::1]:7330", "/ip6/2001:db8::1/tcp/7330"),
            ("[::ffff:192.0.2.1]:7330", "/ip4/192.0.2.1/tcp/7330"),
            ("Node-1.Example.org:7330", "/dns/node-1.example.org/tcp/7330"),
            ("/dns4/example.org/tcp/1", "/dns4/example.org/tcp/1"),
            ("/dns6/example.org./tcp/1", "/dns6/example.org/tcp/1"),
            ("localhost:9", "/dns/localhost/tcp/9"),
            ("/dns/example.org/udp/443/quic-v1", "/dns/example.org/udp/443/quic-v1"),
            ("/dns4/example.org/udp/443/quic-v1", "/dns4/example.org/udp/443/quic-v1"),
            ("/dns6/Example.org./udp/443/quic-v1", "/dns6/example.org/udp/443/quic-v1"),
            ("/ip4/192.0.2.1/udp/7330/quic-v1", "/ip4/192.0.2.1/udp/7330/quic-v1"),
            ("/ip6/2001:db8::1/udp/7330/quic-v1", "/ip6/2001:db8::1/udp/7330/quic-v1"),
        ] {
            assert_eq!(parse(text).expect(text).to_string(), printed);
            assert_eq!(parse(printed), parse(text));
            let with_id = format!("{printed}/p2p/{ID}");
            assert_eq!(parse(&with_id).expect(&with_id).to_string(), with_id);
        }
        let listed = format!("libp2p:/dnsaddr/Seeds.Example.org./p2p/{ID}");
        let printed = format!("libp2p:/dnsaddr/seeds.example.org/p2p/{ID}");
        assert_eq!(parse(&listed).expect("a list").to_string(), printed);
        assert_eq!(parse(&printed), parse(&listed));
        assert_eq!(parse(ID).expect("an id").to_string(), ID);
        assert_eq!(parse(&format!("/p2p/{ID}")), parse(ID));
    }

    #[test]
    fn what_cannot_be_dialled_says_why() {
        use AddressError::*;
        for (text, why) in [
            ("", Empty),
            ("   ", Empty),
            ("/", Multiaddr),
            ("/ip4/1.2.3/tcp/1", Multiaddr),
            ("/ip4/1.2.3.4/tcp/70000", Multiaddr),
            ("/ip4/1.2.3.4", Port),
            ("/ip4/1.2.3.4/udp/1", Unsupported("udp")),
            ("/ip4/1.2.3.4/udp/1/quic", Unsupported("udp")),
            ("/dns4/example.org/udp/1", Unsupported("udp")),
            ("/dns4/example.org/udp/0/quic-v1", Port),
            ("/ip4/1.2.3.4/udp/0/quic-v1", Senseless(BadAddr::NoPort)),
            ("/ip4/1.2.3.4/tcp/1/ws", Unsupported("ws")),
            ("/unix/tmp", Port),
            ("/dnsaddr/example.org", NoId),
            ("/dnsaddr/example.org/tcp/1", Unsupported("tcp")),
            ("/dnsaddr/exa mple.org", NoId),
            ("/memory/1/tcp/1", Unsupported("memory")),
            ("/ip4/1.2.3.4/tcp/0", Senseless(BadAddr::NoPort)),
            ("0.0.0.0:1", Senseless(BadAddr::Unspecified)),
            ("[ff02::1]:1", Senseless(BadAddr::Multicast)),
            ("[fe80::1]:1", Senseless(BadAddr::LinkLocal)),
            ("example.org", Form),
            ("example.org:", Port),
            ("example.org:0", Port),
            ("example.org:65536", Port),
            ("exa mple.org:1", Name),
            ("-a.org:1", Name),
            ("a..org:1", Name),
            ("1.2.3.256:1", Name),
            ("1::2::3:1", Form),
            ("hello", Form),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
        assert_eq!(parse(&"a".repeat(5_000)), Err(TooLong));
        assert_eq!(parse(&format!("{}.org:1", "a".repeat(64))), Err(Name));
    }

    #[test]
    fn fault_q6_names_are_normalised_or_refused() {
        let printed = |text: &str| parse(text).map(|address| address.to_string());
        assert_eq!(printed("Example.ORG.:1"), Ok("/dns/example.org/tcp/1".to_owned()));
        let label = "a".repeat(63);
        let most = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!((most.len(), printed(&format!("{most}:1"))), (253, Ok(format!("/dns/{most}/tcp/1"))));
        for bad in
            ["exаmple.org", "пример.рф", "a\0.org", "a\n.org", "..", ".", "a b.org", &format!("{most}aaa")]
        {
            assert_eq!(parse(&format!("{bad}:1")), Err(AddressError::Name), "{bad:?}");
        }
    }

    #[test]
    fn fault_i2_bad_ids_inside_addresses_are_refused() {
        for id in ["", "12D3KooW", "QmZZZ", "0"] {
            assert!(parse(&format!("/ip4/1.2.3.4/tcp/1/p2p/{id}")).is_err(), "{id}");
        }
        let onward = format!("/dnsaddr/example.org/p2p/{ID}/p2p-circuit");
        assert_eq!(parse(&onward), Err(AddressError::Unsupported("p2p-circuit")));
        assert_eq!(parse(&format!("/dnsaddr/exa mple.org/p2p/{ID}")), Err(AddressError::Name));
        let twice = format!("/ip4/1.2.3.4/tcp/1/p2p/{ID}/p2p/{ID}");
        assert_eq!(parse(&twice), Err(AddressError::Unsupported("p2p")));
        let relayed = format!("/p2p/{ID}/p2p-circuit");
        assert_eq!(parse(&relayed), Err(AddressError::Unsupported("p2p-circuit")));
    }

    #[test]
    fn fault_i6_targets_are_normalised_and_wide_ones_refused() {
        for (text, printed) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.9/120", "192.0.2.0/24"),
            ("2001:db8::5/64", "2001:db8::/64"),
            (ID, ID),
        ] {
            let target = parse_target(text).expect(text);
            assert_eq!(print_target(&target), printed);
            assert_eq!(parse_target(printed), Ok(target));
        }
        for (text, why) in [
            ("", AddressError::Empty),
            ("0.0.0.0/0", AddressError::TooWide),
            ("10.0.0.0/7", AddressError::TooWide),
            ("::/0", AddressError::TooWide),
            ("1.2.3.4/33", AddressError::Prefix),
            ("1.2.3.4/x", AddressError::Prefix),
            ("1.2.3/24", AddressError::Target),
            ("someone", AddressError::Target),
        ] {
            assert_eq!(parse_target(text), Err(why), "{text}");
        }
    }
}
