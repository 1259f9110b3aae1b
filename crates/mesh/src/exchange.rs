//! Peer exchange: what may be told to whom, and how much may be learned from one peer. It knows no peers itself: the
//! library does, behind a small trait.

use crate::control::Known;
use peerkeep_channels::Rate;
use peerkeep_core::{Addr, Addrs, PeerKey};
use std::time::Duration;

/// Where the mesh finds peers worth telling of. Called on link tasks: answer quickly from memory.
pub trait Exchange: Send + Sync + 'static {
    /// At most `max` peers, best first, that `to` may like to know. Addresses that are not fit for `to` are left out
    /// afterwards.
    fn sample(&self, to: &PeerKey, max: usize) -> Vec<Known>;

    /// `by`, a proven peer, sees us at this address. Others may lie: use it only as a hint.
    fn seen_at(&self, by: &PeerKey, at: Addr) {
        let _ = (by, at);
    }
}

/// Tells nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoExchange;

impl Exchange for NoExchange {
    fn sample(&self, _to: &PeerKey, _max: usize) -> Vec<Known> {
        Vec::new()
    }
}

/// Peers that are taken from one source: 64 at once, one a second (fault F14).
pub(crate) const LEARN: Rate = Rate { burst: 64, each: Duration::from_secs(1) };

/// The part of `known` that somebody at `there` can use: a loopback address only on this host, a private one only
/// inside a private network (fault D9 at its source), and never somebody's own entry.
pub(crate) fn fit(known: Vec<Known>, to: &PeerKey, there: &Addr) -> Vec<Known> {
    let fits = |addr: &Addr| {
        if addr.is_loopback() {
            there.is_loopback()
        } else {
            !addr.is_private() || there.is_private() || there.is_loopback()
        }
    };
    let trim = |(key, addrs): Known| {
        let addrs: Addrs = addrs.into_iter().filter(fits).collect();
        (key != *to && !addrs.is_empty()).then_some((key, addrs))
    };
    known.into_iter().filter_map(trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Addr {
        Addr::tcp(text.parse().expect("an address"))
    }

    #[test]
    fn fault_d9_private_addresses_are_told_only_where_they_mean_something() {
        let (me, other) = (PeerKey::ed25519([1; 32]), PeerKey::ed25519([2; 32]));
        let all = ["127.0.0.1:1", "10.1.2.3:1", "9.9.9.9:1", "[fd00::1]:1", "[2001:db8::1]:1"];
        let known = vec![(other, all.iter().map(|text| addr(text)).collect::<Addrs>())];
        let told = |there: &str| {
            let fit = fit(known.clone(), &me, &addr(there));
            fit.first().map(|(_, addrs)| addrs.len()).unwrap_or(0)
        };
        assert_eq!(told("127.0.0.2:5"), 5);
        assert_eq!(told("192.168.1.1:5"), 4);
        assert_eq!(told("8.8.8.8:5"), 2);
        assert!(fit(known.clone(), &other, &addr("127.0.0.1:5")).is_empty(), "not about themselves");
    }
}
