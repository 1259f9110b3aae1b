//! Where to listen and over what: one address as it stands in the settings. `host:port` means both transports on one
//! port number; a multiaddress names one of them. Nothing is opened here.

use super::value::Value;
use crate::multiaddr_of;
use multiaddr::{Multiaddr, Protocol};
use peerkeep_core::{Addr, AddrKind};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use toml::de::DeValue;

/// An address to listen on or to announce.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListenAddress {
    /// IP address and port, the same for both transports.
    pub socket: SocketAddr,
    /// Over what.
    pub over: Over,
}

/// Which transports an address is meant for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Over {
    /// TCP and QUIC.
    Both,
    /// TCP alone.
    Tcp,
    /// QUIC alone.
    Quic,
}

/// Why a text is no address to listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{WANTED}")]
pub struct ListenAddressError;

const WANTED: &str = "an address with a port, such as \"0.0.0.0:7330\" or \"[::]:7330\", or a multiaddress such as \
                      \"/ip4/0.0.0.0/udp/7330/quic-v1\"";

impl ListenAddress {
    /// TCP alone.
    pub fn tcp(socket: SocketAddr) -> ListenAddress {
        ListenAddress { socket, over: Over::Tcp }
    }

    /// QUIC alone.
    pub fn quic(socket: SocketAddr) -> ListenAddress {
        ListenAddress { socket, over: Over::Quic }
    }

    /// Whether TCP is meant.
    pub fn has_tcp(&self) -> bool {
        self.over != Over::Quic
    }

    /// Whether QUIC is meant.
    pub fn has_quic(&self) -> bool {
        self.over != Over::Tcp
    }

    /// One address for each transport, TCP first.
    pub(crate) fn addrs(&self) -> impl Iterator<Item = Addr> {
        let tcp = self.has_tcp().then(|| Addr::new(self.socket, AddrKind::Tcp));
        let quic = self.has_quic().then(|| Addr::new(self.socket, AddrKind::Quic));
        tcp.into_iter().chain(quic)
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(socket: SocketAddr) -> ListenAddress {
        ListenAddress { socket, over: Over::Both }
    }
}

impl From<([u8; 4], u16)> for ListenAddress {
    fn from(socket: ([u8; 4], u16)) -> ListenAddress {
        SocketAddr::from(socket).into()
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;
    fn from_str(text: &str) -> Result<ListenAddress, ListenAddressError> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(socket.into());
        }
        let address: Multiaddr = text.parse().map_err(|_| ListenAddressError)?;
        let mut parts = address.iter();
        let ip: IpAddr = match parts.next() {
            Some(Protocol::Ip4(ip)) => ip.into(),
            Some(Protocol::Ip6(ip)) => ip.into(),
            _ => return Err(ListenAddressError),
        };
        let found = match (parts.next(), parts.next()) {
            (Some(Protocol::Tcp(port)), None) => ListenAddress::tcp(SocketAddr::new(ip, port)),
            (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) => {
                ListenAddress::quic(SocketAddr::new(ip, port))
            }
            _ => return Err(ListenAddressError),
        };
        if parts.next().is_none() { Ok(found) } else { Err(ListenAddressError) }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.over {
            Over::Both => fmt::Display::fmt(&self.socket, f),
            Over::Tcp => fmt::Display::fmt(&multiaddr_of(&Addr::new(self.socket, AddrKind::Tcp)), f),
            Over::Quic => fmt::Display::fmt(&multiaddr_of(&Addr::new(self.socket, AddrKind::Quic)), f),
        }
    }
}

impl Value for ListenAddress {
    fn read(value: &DeValue<'_>) -> Result<ListenAddress, String> {
        let wrong = || format!("expected {WANTED}");
        value.as_str().ok_or_else(wrong)?.parse().map_err(|_| wrong())
    }
    fn write(&self) -> String {
        toml::Value::String(self.to_string()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_printed_back() {
        for (text, tcp, quic) in [
            ("0.0.0.0:7330", true, true),
            ("[::]:7330", true, true),
            ("/ip4/127.0.0.1/tcp/0", true, false),
            ("/ip6/::1/udp/7330/quic-v1", false, true),
        ] {
            let address: ListenAddress = text.parse().expect(text);
            assert_eq!((address.has_tcp(), address.has_quic()), (tcp, quic));
            assert_eq!(address.to_string(), text);
        }
        for text in
            ["", "7330", "/ip4/1.2.3.4", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/tcp/1/ws", "/dns/a/tcp/1"]
        {
            assert_eq!(text.parse::<ListenAddress>(), Err(ListenAddressError), "{text}");
        }
    }
}
