//! Deliberately wrong variants of the core, which the suites that guard it must find. With the feature `canaries` one
//! of them can be switched on for the whole process; without it the switch is a constant and nothing of this is built
//! in. Never part of the product.

/// A wrong variant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Canary {
    /// Of two connections the first one seen is kept, whoever dialled it.
    KeepFirst = 1,
    /// The boot epoch is left out of hello and answer: all boots look alike.
    NoBootEpoch = 2,
    /// The acceptor announces on its answer, without waiting for the confirm.
    NoConfirm = 3,
    /// The slot of a conn that ends with an error is not freed.
    SlotLeak = 4,
    /// Bans are asked at accept only, not again once the other side is identified.
    BanNotRechecked = 5,
}

impl Canary {
    /// All of them.
    pub const ALL: [Canary; 5] = [
        Canary::KeepFirst,
        Canary::NoBootEpoch,
        Canary::NoConfirm,
        Canary::SlotLeak,
        Canary::BanNotRechecked,
    ];

    /// Its name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Canary::KeepFirst => "keep-first",
            Canary::NoBootEpoch => "no-boot-epoch",
            Canary::NoConfirm => "no-confirm",
            Canary::SlotLeak => "slot-leak",
            Canary::BanNotRechecked => "ban-not-rechecked",
        }
    }

    /// The one with that name.
    pub fn named(name: &str) -> Option<Canary> {
        Canary::ALL.into_iter().find(|canary| canary.name() == name)
    }
}

#[cfg(feature = "canaries")]
mod switch {
    use super::Canary;
    use core::sync::atomic::{AtomicU8, Ordering};

    static SET: AtomicU8 = AtomicU8::new(0);

    /// Switches one on for the whole process, or all off.
    pub fn set(canary: Option<Canary>) {
        SET.store(canary.map_or(0, |canary| canary as u8), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn on(canary: Canary) -> bool {
        SET.load(Ordering::Relaxed) == canary as u8
    }
}

#[cfg(not(feature = "canaries"))]
mod switch {
    use super::Canary;

    #[inline]
    pub(crate) const fn on(_: Canary) -> bool {
        false
    }
}

pub(crate) use switch::on;
#[cfg(feature = "canaries")]
pub use switch::set;
