//! Where others can reach this node: from the addresses listened on, as far as this machine has them now, to those
//! worth telling. No packet is sent.

use crate::{ListenAddress, Settings};
use peerkeep_core::Addr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// What hellos carry: what the settings announce, or else where we listen, with "any address" made concrete. Most
/// public first, at most eight.
pub(super) fn announced(announce: &[ListenAddress], settings: &Settings, locals: &[Addr]) -> Vec<Addr> {
    let mut addrs: Vec<Addr> = Vec::new();
    let chosen: Vec<Addr> = if announce.is_empty() {
        let concrete = |local: &Addr| {
            let kind = local.kind;
            let sockets = concrete(local.socket(), settings.network.local_ip);
            sockets.into_iter().map(move |socket| Addr::new(socket, kind))
        };
        locals.iter().flat_map(concrete).collect()
    } else {
        let listens = |addr: &Addr| locals.iter().any(|local| local.kind == addr.kind);
        announce.iter().flat_map(ListenAddress::addrs).filter(listens).collect()
    };
    for addr in chosen {
        if addr.check().is_ok() && !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    // Whoever knows nothing better tries them in this order: TCP costs both sides less memory.
    addrs.sort_by_key(|addr| (addr.is_loopback(), addr.is_private(), addr.kind));
    addrs.truncate(peerkeep_core::MAX_ADDRS);
    addrs
}

/// The addresses that a listener on "any address" has towards the world.
fn concrete(local: SocketAddr, local_ip: Option<IpAddr>) -> Vec<SocketAddr> {
    if !local.ip().is_unspecified() {
        return if is_ours(local.ip()) { vec![local] } else { Vec::new() };
    }
    let told = local_ip.filter(|ip| ip.is_ipv4() == local.is_ipv4());
    let found = outward(local.is_ipv4());
    let ips = told.into_iter().chain(found);
    let mut sockets: Vec<SocketAddr> = ips.map(|ip| SocketAddr::new(ip, local.port())).collect();
    if sockets.is_empty() {
        // Without any route this host alone can reach us.
        let ip: IpAddr =
            if local.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        sockets.push(SocketAddr::new(ip, local.port()));
    }
    sockets
}

/// Whether this machine has that address now. A listener outlives its address, and serves again when it is back.
fn is_ours(ip: IpAddr) -> bool {
    !matches!(UdpSocket::bind((ip, 0)), Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Which address of ours the kernel would use towards the internet. Connecting a UDP socket sends nothing.
fn outward(v4: bool) -> Option<IpAddr> {
    let (from, to): (SocketAddr, SocketAddr) = if v4 {
        ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into())
    } else {
        ((Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into())
    };
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerkeep_core::AddrKind;

    #[test]
    fn what_is_announced_wins_and_any_address_is_made_concrete() {
        let socket = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let mut settings = Settings::default();
        let quic = |text| Addr::new(socket(text), AddrKind::Quic);
        let locals = [Addr::tcp(socket("127.0.0.5:7330")), Addr::tcp(socket("0.0.0.0:7331"))];
        settings.network.local_ip = Some([203, 0, 113, 9].into());
        let told = announced(&settings.listen.announce, &settings, &locals);
        assert_eq!(told[0].socket(), socket("203.0.113.9:7331"), "{told:?}");
        assert_eq!(told.last().map(Addr::socket), Some(socket("127.0.0.5:7330")), "{told:?}");
        assert!(told.iter().all(|addr| addr.check().is_ok()));
        settings.listen.announce = vec![socket("198.51.100.1:80").into()];
        assert_eq!(
            announced(&settings.listen.announce, &settings, &locals),
            [Addr::tcp(socket("198.51.100.1:80"))]
        );
        let both = [locals[0], quic("127.0.0.5:7330")];
        let told = [Addr::tcp(socket("198.51.100.1:80")), quic("198.51.100.1:80")];
        assert_eq!(
            announced(&settings.listen.announce, &settings, &both),
            told,
            "what is not listened on is not announced"
        );
    }
}
