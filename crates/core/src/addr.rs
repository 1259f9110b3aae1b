//! Where a peer can be reached: parsed addresses only, compared as bytes. Names are resolved outside.

use arrayvec::ArrayVec;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use serde::{Deserialize, Serialize};

/// How a connection to an [`Addr`] is opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum AddrKind {
    /// A TCP port.
    Tcp,
    /// A UDP port that speaks QUIC.
    Quic,
    /// A UDP port that speaks WireGuard.
    Udp,
}

/// An address: IPv6 bytes (IPv4 as v4-mapped, so there is one spelling), port and kind. The derived order is the
/// order of the lower-address preference (pitfall D1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Addr {
    /// IPv6 bytes, network order; IPv4 as `::ffff:a.b.c.d`.
    pub ip: [u8; 16],
    /// Port.
    pub port: u16,
    /// How to open it.
    pub kind: AddrKind,
}

/// Addresses of one contact as an action carries them: at most [`MAX_ADDRS`].
pub type Addrs = ArrayVec<Addr, MAX_ADDRS>;

/// Most addresses kept for one contact (fault D6: a longer list is cut).
pub const MAX_ADDRS: usize = 8;

/// Why an address is never dialled, whatever the policy (fault D8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadAddr {
    /// Port 0.
    NoPort,
    /// `0.0.0.0` or `::`.
    Unspecified,
    /// Multicast.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// `fe80::/10` without a scope.
    LinkLocal,
}

impl Addr {
    /// From a socket address; v4-mapped IPv6 becomes IPv4's one spelling.
    pub fn new(socket: SocketAddr, kind: AddrKind) -> Addr {
        Addr { ip: ip_bytes(socket.ip()), port: socket.port(), kind }
    }

    /// A TCP address.
    pub fn tcp(socket: SocketAddr) -> Addr {
        Addr::new(socket, AddrKind::Tcp)
    }

    /// Back to a socket address.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.ip_addr(), self.port)
    }

    /// The IP alone.
    pub fn ip_addr(&self) -> IpAddr {
        let v6 = Ipv6Addr::from(self.ip);
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    }

    /// Checks that a dial to it can make sense at all.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn check(&self) -> Result<(), BadAddr> {
        if self.port == 0 {
            return Err(BadAddr::NoPort);
        }
        match self.ip_addr() {
            ip if ip.is_unspecified() => Err(BadAddr::Unspecified),
            ip if ip.is_multicast() => Err(BadAddr::Multicast),
            IpAddr::V4(Ipv4Addr::BROADCAST) => Err(BadAddr::Broadcast),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(BadAddr::LinkLocal),
            _ => Ok(()),
        }
    }

    /// Whether it lies on this host.
    pub fn is_loopback(&self) -> bool {
        self.ip_addr().is_loopback()
    }

    /// Whether it lies inside a private network: RFC 1918, RFC 4193, RFC 6598 or link-local.
    pub fn is_private(&self) -> bool {
        match self.ip_addr() {
            IpAddr::V4(v4) => {
                let [a, b, ..] = v4.octets();
                v4.is_private() || v4.is_link_local() || (a == 100 && (b & 0xc0) == 64)
            }
            IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
        }
    }

    /// The subnet that limits count by: an IPv4 /24 or an IPv6 /64.
    pub fn subnet(&self) -> Subnet {
        match self.ip_addr() {
            IpAddr::V4(_) => Subnet::new(self.ip, 96 + 24),
            IpAddr::V6(_) => Subnet::new(self.ip, 64),
        }
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            AddrKind::Tcp => "tcp",
            AddrKind::Quic => "quic",
            AddrKind::Udp => "udp",
        };
        write!(f, "{}/{kind}", self.socket())
    }
}

/// A network prefix over the 128-bit form: an IPv4 prefix of n bits is stored as 96 + n.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Subnet {
    /// The prefix with all further bits zero.
    pub ip: [u8; 16],
    /// How many bits count, 0 to 128.
    pub bits: u8,
}

impl Hash for Subnet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [self.bits; 17];
        bytes[..16].copy_from_slice(&self.ip);
        state.write(&bytes);
    }
}

impl Subnet {
    /// Masks `ip` down to `bits` (at most 128).
    pub fn new(ip: [u8; 16], bits: u8) -> Subnet {
        let bits = bits.min(128);
        let keep = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        Subnet { ip: (u128::from_be_bytes(ip) & keep).to_be_bytes(), bits }
    }

    /// One single address.
    pub fn host(ip: [u8; 16]) -> Subnet {
        Subnet::new(ip, 128)
    }

    /// From an IP address and a prefix length in that family's own bits; `None` when it is too long.
    pub fn from_prefix(ip: IpAddr, prefix: u8) -> Option<Subnet> {
        let (most, shift) = if ip.is_ipv4() { (32, 96) } else { (128, 0) };
        (prefix <= most).then(|| Subnet::new(ip_bytes(ip), prefix + shift))
    }

    /// Whether `ip` lies in it.
    pub fn contains(&self, ip: [u8; 16]) -> bool {
        Subnet::new(ip, self.bits).ip == self.ip
    }

    /// Whether it is all of IPv4, all of IPv6, or wider than /8: never a sensible ban (fault I6).
    pub fn is_too_wide(&self) -> bool {
        let v4 = self.bits >= 96 && Ipv6Addr::from(self.ip).to_ipv4_mapped().is_some();
        self.bits < if v4 { 96 + 8 } else { 16 }
    }
}

fn ip_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn addr(text: &str) -> Addr {
        Addr::tcp(text.parse().expect("a socket address"))
    }

    #[test]
    fn one_spelling_per_address() {
        assert_eq!(addr("1.2.3.4:5"), addr("[::ffff:1.2.3.4]:5"));
        assert_eq!(addr("1.2.3.4:5").socket().to_string(), "1.2.3.4:5");
    }

    #[test]
    fn order_is_numeric_not_textual() {
        assert!(addr("50.28.104.50:1") < addr("165.84.215.117:1"));
        assert!(addr("9.0.0.1:1") < addr("10.0.0.1:1"));
        assert!(addr("10.0.0.1:1") < addr("10.0.0.1:2"));
    }

    #[test]
    fn fault_d8_senseless_addresses_are_refused() {
        for (text, why) in [
            ("1.2.3.4:0", BadAddr::NoPort),
            ("0.0.0.0:1", BadAddr::Unspecified),
            ("[::]:1", BadAddr::Unspecified),
            ("224.0.0.1:1", BadAddr::Multicast),
            ("[ff02::1]:1", BadAddr::Multicast),
            ("255.255.255.255:1", BadAddr::Broadcast),
            ("[fe80::1]:1", BadAddr::LinkLocal),
        ] {
            assert_eq!(addr(text).check(), Err(why), "{text}");
        }
        assert_eq!(addr("127.0.0.1:1").check(), Ok(()));
    }

    #[test]
    fn subnets_are_24_and_64() {
        assert_eq!(addr("1.2.3.4:5").subnet(), addr("1.2.3.250:9").subnet());
        assert_ne!(addr("1.2.3.4:5").subnet(), addr("1.2.4.4:5").subnet());
        assert_eq!(addr("[2001:db8::1]:5").subnet(), addr("[2001:db8::ffff:1]:5").subnet());
        assert_ne!(addr("[2001:db8::1]:5").subnet(), addr("[2001:db8:0:1::1]:5").subnet());
    }

    #[test]
    fn fault_i6_wide_subnets_are_recognised() {
        let all4 = Subnet::from_prefix(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).expect("fits");
        assert!(all4.is_too_wide());
        assert!(Subnet::new([0; 16], 0).is_too_wide());
        assert!(!addr("1.2.3.4:5").subnet().is_too_wide());
        assert_eq!(Subnet::from_prefix(IpAddr::V4(Ipv4Addr::LOCALHOST), 33), None);
    }
}
