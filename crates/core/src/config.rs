//! Every number the core decides by. Plain data; `Default` is what production runs with; recorded in the journal.
//! How people write it (TOML, durations as text) is the library's business.

use crate::{Backoff, Limit, PeerKey, STACKS, StackId, Target};
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// The core's configuration.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Our own identity.
    pub me: PeerKey,
    /// Our boot epoch: the larger of the stored one + 1 and the seconds since 1970.
    pub epoch: u64,
    /// The slots.
    pub limits: Limits,
    /// What differs between the stacks, by [`StackId::index`].
    pub rules: [Rules; STACKS],
    /// Who should dial whom.
    pub preference: Preference,
    /// How long the side that should not dial waits before it does so anyway. Default 2 s.
    pub turn_wait: Duration,
    /// Keys and subnets that no ban applies to, at most 1,024.
    pub exempt: Vec<Target>,
    /// Dial private and loopback addresses that a third peer named (fault D9). Default: false.
    pub dial_private_gossip: bool,
}

/// The boot epoch may not lie beyond this; a peer that claims a later one lies (fault H15).
pub const MAX_EPOCH: u64 = 1 << 62;

impl Config {
    /// The default configuration of a node with that identity and boot epoch.
    pub fn new(me: PeerKey, epoch: u64) -> Config {
        let mut rules = [Rules::default(); STACKS];
        rules[StackId::Libp2p.index()].duplicates = Duplicates::HoldAndConfirm;
        // Nobody is dialled there who was not named.
        rules[StackId::Libp2p.index()].target = 0;
        rules[StackId::Bitcoin.index()].duplicates = Duplicates::Allowed;
        rules[StackId::Lan.index()].duplicates = Duplicates::HoldAndConfirm;
        Config {
            me,
            epoch,
            limits: Limits::default(),
            rules,
            preference: Preference::Identity,
            turn_wait: Duration::from_secs(2),
            exempt: Vec::new(),
            dial_private_gossip: false,
        }
    }

    /// What that stack does differently.
    pub fn rules(&self, stack: StackId) -> &Rules {
        &self.rules[stack.index()]
    }

    /// Whether it holds together.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        for (limit, value) in [
            (Limit::Total, limits.total),
            (Limit::Inbound, limits.inbound),
            (Limit::Outbound, limits.outbound),
            (Limit::Pending, limits.pending),
            (Limit::PerPeer, limits.per_peer),
            (Limit::PerIp, limits.per_ip),
            (Limit::PerSubnet, limits.per_subnet),
            (Limit::DialRate, limits.dials_per_minute),
            (Limit::DestinationRate, limits.dials_per_minute_per_ip),
            (Limit::Contacts, limits.contacts),
            (Limit::Bans, limits.bans),
        ] {
            if value == 0 || value > MAX_LIMIT {
                return Err(ConfigError::Limit(limit));
            }
        }
        if limits.per_peer > MAX_PER_PEER {
            return Err(ConfigError::Limit(Limit::PerPeer));
        }
        if limits.courtesy > MAX_LIMIT {
            return Err(ConfigError::Limit(Limit::Courtesy));
        }
        if limits.reserve > MAX_LIMIT {
            return Err(ConfigError::Limit(Limit::Total));
        }
        if self.epoch == 0 || self.epoch > MAX_EPOCH {
            return Err(ConfigError::Epoch);
        }
        let senseless = |target: &Target| matches!(target, Target::Subnet(subnet) if subnet.bits > 128);
        if self.exempt.len() > 1_024 || self.exempt.iter().any(senseless) {
            return Err(ConfigError::Exempt);
        }
        for (rules, stack) in
            self.rules.iter().zip([StackId::Mesh, StackId::Libp2p, StackId::Bitcoin, StackId::Lan])
        {
            rules.check().map_err(|what| ConfigError::Rules(stack, what))?;
        }
        Ok(())
    }
}

const MAX_LIMIT: u32 = (1 << 24) - 2;
/// Conns with one contact are walked in every decision about it.
pub(crate) const MAX_PER_PEER: u32 = 32;

/// Why a configuration is refused, whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// A limit is 0, or above 16,777,214 (per peer: 32).
    Limit(Limit),
    /// The epoch is 0 or beyond [`MAX_EPOCH`].
    Epoch,
    /// More than 1,024 exemptions, or one that is no subnet.
    Exempt,
    /// The identity may not change while running.
    Identity,
    /// A stack's rules; which duration or number.
    Rules(StackId, &'static str),
}

/// How many of what at most. All count conns from their first effect to their `Gone`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// All conns. Default 500.
    pub total: u32,
    /// Inbound. Default 250.
    pub inbound: u32,
    /// Outbound. Default 250.
    pub outbound: u32,
    /// Not up yet, both directions. A quarter is never given to inbound ones. Default 64.
    pub pending: u32,
    /// With one contact, handshakes included. Default 4.
    pub per_peer: u32,
    /// With one IP address. Default 16.
    pub per_ip: u32,
    /// With one IPv4 /24 or IPv6 /64. Default 64.
    pub per_subnet: u32,
    /// Dials a minute over all peers. Default 240.
    pub dials_per_minute: u32,
    /// Dials a minute to one IP address. Default 60.
    pub dials_per_minute_per_ip: u32,
    /// Inbound conns above the limits that are told why. Default 16; 0 turns the courtesy off.
    pub courtesy: u32,
    /// Of all, inbound and outbound each: so many are kept for those who are wanted or asked for, but never more than
    /// an eighth. Default 32; 0 keeps none.
    pub reserve: u32,
    /// Known contacts. Default 100,000.
    pub contacts: u32,
    /// Bans. Default 10,000.
    pub bans: u32,
}

impl Limits {
    /// What of a limit is there for whom: all of it for those who are wanted or asked for.
    pub fn share(&self, limit: u32, is_desired: bool) -> u32 {
        if is_desired { limit } else { limit - self.reserve.min(limit / 8) }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            total: 500,
            inbound: 250,
            outbound: 250,
            pending: 64,
            per_peer: 4,
            per_ip: 16,
            per_subnet: 64,
            dials_per_minute: 240,
            dials_per_minute_per_ip: 60,
            courtesy: 16,
            reserve: 32,
            contacts: 100_000,
            bans: 10_000,
        }
    }
}

/// Who dials whom: a preference with a waiting time ([`Config::turn_wait`]), never a prohibition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Preference {
    /// The lower identity dials at once.
    Identity,
    /// The lower address dials at once: document 003's rule. Ties and unknown addresses fall back to identity.
    Address {
        /// Our own public address, as [`crate::Addr::ip`].
        local_ip: [u8; 16],
    },
    /// Whoever wants to.
    Nobody,
}

/// What a stack does about two connections to one contact.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Duplicates {
    /// The whole two-dials rule: its hello carries the numbers.
    Numbers,
    /// Hold and confirm alone: its hello cannot carry numbers.
    HoldAndConfirm,
    /// Contacts have no identity: duplicates are left to the limits.
    Allowed,
}

/// How a stack's links are known to be alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Liveness {
    /// A probe after `silence` without a received byte; dead after `misses` probes unanswered for `deadline` each.
    Probe {
        /// Receive silence before a probe. Default 15 s.
        silence: Duration,
        /// Time for an answer. Default 5 s.
        deadline: Duration,
        /// Unanswered probes in a row that make it dead. Default 2.
        misses: u8,
    },
    /// Only the transport tells (TCP keepalive and user timeout): document 003's profile.
    Transport,
}

/// The differences between stacks, as data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rules {
    /// What identity can do for duplicates.
    pub duplicates: Duplicates,
    /// Whether a dial needs addresses from us (the LAN's path agent finds its own).
    pub dials_addresses: bool,
    /// How links are known to be alive.
    pub liveness: Liveness,
    /// When to come back.
    pub backoff: Backoff,
    /// One deadline over resolving, connecting, securing and greeting, outbound. Default 10 s.
    pub establish: Duration,
    /// The same for inbound. Default 5 s.
    pub handshake: Duration,
    /// How long a lower identity holds an inbound conn for its own dial. Default 1 s.
    pub hold: Duration,
    /// Time for a goodbye. Default 2 s.
    pub goodbye: Duration,
    /// Close a connection that nobody wants or holds when unused for this long; `None` never. Default `None`.
    pub idle: Option<Duration>,
    /// Keep this many connections by dialling known contacts. Default 8.
    pub target: u16,
    /// How often a connection's health is looked at; four times as often while it is fair or worse. Default 30 s.
    pub health: Duration,
    /// A connection that replaced a degraded one is not replaced itself before this; doubles each time it helped
    /// nothing, up to 64 times. Default 10 min.
    pub cool_down: Duration,
    /// How long a replaced connection may go on for the channels that are open on it. Default 60 s.
    pub drain: Duration,
    /// How long an outgoing attempt may take to tell a courtesy conn why it is refused. Default 2 s.
    pub courtesy: Duration,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            duplicates: Duplicates::Numbers,
            dials_addresses: true,
            liveness: Liveness::Probe {
                silence: Duration::from_secs(15),
                deadline: Duration::from_secs(5),
                misses: 2,
            },
            backoff: Backoff::default(),
            establish: Duration::from_secs(10),
            handshake: Duration::from_secs(5),
            hold: Duration::from_secs(1),
            goodbye: Duration::from_secs(2),
            idle: None,
            target: 8,
            health: Duration::from_secs(30),
            cool_down: Duration::from_secs(600),
            drain: Duration::from_secs(60),
            courtesy: Duration::from_secs(2),
        }
    }
}

impl Rules {
    fn check(&self) -> Result<(), &'static str> {
        const MOST: Duration = Duration::from_secs(7 * 24 * 3600);
        let sensible = |span: Duration, name| {
            if span >= Duration::from_millis(1) && span <= MOST { Ok(()) } else { Err(name) }
        };
        sensible(self.establish, "establish")?;
        sensible(self.handshake, "handshake")?;
        sensible(self.hold, "hold")?;
        sensible(self.goodbye, "goodbye")?;
        sensible(self.courtesy, "courtesy")?;
        sensible(self.health, "health")?;
        sensible(self.cool_down, "cool down")?;
        sensible(self.drain, "drain")?;
        if let Some(idle) = self.idle {
            sensible(idle, "idle")?;
        }
        if let Liveness::Probe { silence, deadline, misses } = self.liveness {
            sensible(silence, "liveness silence")?;
            sensible(deadline, "liveness deadline")?;
            if misses == 0 {
                return Err("liveness misses");
            }
        }
        self.backoff.check()
    }
}
