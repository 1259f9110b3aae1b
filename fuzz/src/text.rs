//! What people and programs write: addresses, identities, ban targets, settings, API bodies, and the numbers behind
//! subnets and backoff.

use super::input::Input;
use peerkeep::{
    Multiaddr, Override, PeerAddress, PeerId, Settings, multiaddr_of, parse_target, print_target,
};
use peerkeep_core::{Addr, AddrKind, Backoff, PeerKey, Subnet, Target};
use peerkeep_daemon::fuzzing;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Addresses, identities and targets, as text and as libp2p's bytes: what is read is printed in one spelling.
pub fn addresses(data: &[u8]) {
    if let Ok(address) = Multiaddr::try_from(data.to_vec())
        && let Ok(address) = PeerAddress::try_from(&address)
    {
        check_address(&address);
    }
    if let Ok(id) = PeerId::from_multihash(data) {
        assert_eq!(id.to_multihash().as_deref(), Some(data), "one key, one spelling");
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<PeerAddress>() {
        check_address(&address);
    }
    if let Ok(id) = text.parse::<PeerId>() {
        assert_eq!(id.to_string(), text, "one key, one spelling (fault I2)");
    }
    if let Ok(target) = parse_target(text) {
        assert_eq!(parse_target(&print_target(&target)), Ok(target));
        assert!(!matches!(target, Target::Subnet(subnet) if subnet.is_too_wide()), "fault I6");
    }
}

fn check_address(address: &PeerAddress) {
    if let Some(peerkeep::Place::Ip(addr)) = &address.place {
        assert!(addr.check().is_ok(), "fault D8");
    }
    if address.to_multiaddr().is_some() || address.place.is_none() {
        assert_eq!(address.to_string().parse().as_ref(), Ok(address));
    }
}

/// Settings: never a panic; each mistake says what and where; what is taken is written and read back the same, and
/// what is written has no mistake.
pub fn settings(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    // A first line `#key=value` is an override, as from the environment.
    let (overrides, text) = match text.strip_prefix('#').and_then(|rest| rest.split_once('\n')) {
        Some((first, rest)) => (first.split_once('='), rest),
        None => (None, text),
    };
    let overrides: Vec<Override> = overrides
        .map(|(key, value)| Override { key: key.into(), value: value.into(), origin: "--set".into() })
        .into_iter()
        .collect();
    match Settings::read(text, None, &overrides) {
        Ok(settings) => {
            let written = settings.to_toml();
            assert_eq!(Settings::read(&written, None, &[]).as_ref(), Ok(&settings), "{written}");
        }
        Err(error) => {
            assert!(!error.mistakes.is_empty());
            let lines = text.split('\n').count();
            for mistake in &error.mistakes {
                assert!(!mistake.what.is_empty() && mistake.line <= lines, "{mistake:?}");
                assert!(
                    mistake.line > 0 || mistake.origin.is_some() || !mistake.key.is_empty(),
                    "{mistake:?}"
                );
            }
        }
    }
}

/// A request's body.
pub fn api_request(data: &[u8]) {
    fuzzing::request(data);
}

/// A daemon's answer, and any text on its way to a terminal.
pub fn api_answer(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        fuzzing::terminal(text);
    }
    fuzzing::answer(data);
}

/// Subnets, addresses and backoff: arithmetic over anything.
pub fn numbers(data: &[u8]) {
    let mut input = Input(data);
    if input.flag() {
        return backoff(&mut input);
    }
    let ip: [u8; 16] = match input.below(3) {
        0 => input.array(),
        1 => SocketAddr::from((input.array::<4>(), 1)).ip().to_canonical().into_v6(),
        _ => [0; 16],
    };
    let kind = [AddrKind::Tcp, AddrKind::Quic, AddrKind::Udp][input.below(3)];
    let addr = Addr { ip, port: u16::from_le_bytes(input.array()), kind };
    assert_eq!(Addr::new(addr.socket(), kind), addr, "one spelling per address");
    assert_eq!(PeerKey::from_addr(addr).host(), Some(ip));
    assert!(addr.subnet().contains(ip));
    let _ = (addr.check(), addr.is_private(), addr.is_loopback(), multiaddr_of(&addr));
    let bits = input.byte();
    let subnet = Subnet::new(ip, bits);
    assert!(subnet.bits <= 128 && subnet.contains(ip) && subnet.contains(subnet.ip));
    assert_eq!(Subnet::new(subnet.ip, subnet.bits), subnet);
    if let Some(subnet) = Subnet::from_prefix(addr.ip_addr(), bits) {
        assert!(subnet.contains(ip));
        let target = Target::Subnet(subnet);
        let read = parse_target(&print_target(&target));
        assert!(subnet.is_too_wide() || read == Ok(target), "{subnet:?} {read:?}");
    }
}

trait IntoV6 {
    fn into_v6(self) -> [u8; 16];
}

impl IntoV6 for IpAddr {
    fn into_v6(self) -> [u8; 16] {
        match self {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        }
    }
}

fn backoff(input: &mut Input<'_>) {
    let mut span = || match input.byte() {
        byte @ 0..=199 => Duration::from_millis(u64::from(byte) * 100),
        200..=219 => Duration::MAX,
        220..=239 => Duration::from_secs(3_600),
        _ => Duration::new(u64::from_le_bytes(input.array()), 0),
    };
    let (first, max, fast_interval) = (span(), span(), span());
    let backoff = Backoff {
        first,
        max,
        fast_interval,
        growth_per_mille: input.u32(),
        jitter_per_mille: u16::from_le_bytes(input.array()),
        ..Backoff::default()
    };
    let (failures, random) = (u16::from_le_bytes(input.array()), input.u64());
    assert!(backoff.delay(failures, random) <= backoff.max, "{backoff:?}");
    assert!(backoff.fast_delay(failures, random) <= backoff.fast_interval, "{backoff:?}");
    let sensible = backoff.growth_per_mille >= 1_000 && max <= Duration::from_secs(30 * 24 * 3_600);
    if backoff.jitter_per_mille == 0 && sensible {
        let later = backoff.delay(failures.saturating_add(1), random);
        assert!(failures == 0 || later >= backoff.delay(failures, random), "it never shrinks");
    }
}
