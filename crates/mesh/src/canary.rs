//! Deliberately wrong variants of the mesh, which its tests must find. With the feature `canaries` the environment
//! variable `PEERKEEP_CANARY` names the one that is on; without it nothing of this is built in. Never in the product.

/// A wrong variant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Canary {
    /// The length a frame announces is believed.
    UncheckedLength,
    /// The acceptor announces a connection on its answer, without waiting for the confirm.
    PhantomAnnouncement,
}

#[cfg(feature = "canaries")]
pub(crate) fn on(canary: Canary) -> bool {
    use std::sync::OnceLock;
    static SET: OnceLock<Option<Canary>> = OnceLock::new();
    let set = SET.get_or_init(|| match std::env::var("PEERKEEP_CANARY").as_deref() {
        Ok("unchecked-length") => Some(Canary::UncheckedLength),
        Ok("phantom-announcement") => Some(Canary::PhantomAnnouncement),
        _ => None,
    });
    *set == Some(canary)
}

#[cfg(not(feature = "canaries"))]
pub(crate) const fn on(_: Canary) -> bool {
    false
}
