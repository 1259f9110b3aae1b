//! What an address is, and what a subnet holds, at the edges of every range.

use crate::rig::{addr, at};
use peerkeep_core::*;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

#[test]
fn fault_d9_private_is_every_reserved_range_and_nothing_beside_it() {
    let private = [
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.1.1",
        "100.64.0.0",
        "100.127.255.255",
        "[fc00::1]",
        "[fdff::1]",
        "[fe80::1]",
    ];
    let public = [
        "9.255.255.255",
        "11.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.1.1",
        "192.169.1.1",
        "169.253.1.1",
        "100.63.255.255",
        "100.128.0.0",
        "100.0.0.1",
        "100.192.0.1",
        "99.64.0.1",
        "101.64.0.1",
        "[2001:db8::1]",
        "[fbff::1]",
        "[fec0::1]",
    ];
    for text in private {
        assert!(addr(&format!("{text}:1")).is_private(), "{text}");
    }
    for text in public {
        assert!(!addr(&format!("{text}:1")).is_private(), "{text}");
    }
}

#[test]
fn fault_d8_ipv6_is_dialled_unless_it_is_link_local() {
    assert_eq!(addr("[fe80::1]:1").check(), Err(BadAddr::LinkLocal));
    assert_eq!(addr("[2001:db8::1]:1").check(), Ok(()));
    assert_eq!(addr("[fc00::1]:1").check(), Ok(()), "private, and no policy of this function's");
}

#[test]
fn a_prefix_is_in_its_own_familys_bits() {
    let prefix = |text: &str, bits| Subnet::from_prefix(text.parse().expect("an address"), bits);
    let bits = |subnet: Option<Subnet>| subnet.map(|subnet| subnet.bits);
    assert_eq!(bits(prefix("10.1.2.3", 0)), Some(96));
    assert_eq!(bits(prefix("10.1.2.3", 24)), Some(120));
    assert_eq!(bits(prefix("10.1.2.3", 32)), Some(128));
    assert_eq!(bits(prefix("10.1.2.3", 33)), None);
    assert_eq!(bits(prefix("2001:db8::1", 0)), Some(0));
    assert_eq!(bits(prefix("2001:db8::1", 64)), Some(64));
    assert_eq!(bits(prefix("2001:db8::1", 128)), Some(128));
    assert_eq!(bits(prefix("2001:db8::1", 129)), None);
}

#[test]
fn a_subnet_contains_its_own_and_nobody_elses() {
    let net = Subnet::from_prefix("10.1.2.0".parse().expect("an address"), 23).expect("a prefix");
    for (text, inside) in
        [("10.1.2.0", true), ("10.1.3.255", true), ("10.1.1.255", false), ("10.1.4.0", false)]
    {
        assert_eq!(net.contains(addr(&format!("{text}:1")).ip), inside, "{text}");
    }
    assert!(!net.contains(addr("[2001:db8::1]:1").ip));
}

#[test]
fn fault_i6_too_wide_is_wider_than_a_slash_eight_of_ipv4_or_a_slash_sixteen_of_ipv6() {
    let wide = |text: &str, bits| {
        Subnet::from_prefix(text.parse().expect("an address"), bits).expect("a prefix").is_too_wide()
    };
    assert!(wide("10.0.0.0", 7) && !wide("10.0.0.0", 8) && !wide("10.0.0.0", 32));
    assert!(wide("2001:db8::", 15) && !wide("2001:db8::", 16));
    assert!(!wide("2001:db8::", 96) && !wide("2001:db8::1", 100), "a narrow one of IPv6 is no IPv4");
}

/// Fault R4: what is looked up by hash is told apart by hash.
#[test]
fn fault_r4_names_and_subnets_spread_over_a_table() {
    let hasher = RandomState::new();
    let mut seen = BTreeSet::new();
    for n in 0..100 {
        let key = PeerKey::ed25519([n; 32]);
        seen.insert(hasher.hash_one(key));
        for stack in [StackId::Mesh, StackId::Libp2p] {
            seen.insert(hasher.hash_one(Who { stack, key }));
        }
        seen.insert(hasher.hash_one(at(n).subnet()));
    }
    assert_eq!(seen.len(), 400);
}
