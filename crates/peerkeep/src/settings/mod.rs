//! Every setting of a node: one commented TOML file, read whole or refused whole, by line and key (fault G1).
//!
//! What wins over what (fault G5): a command line option over an environment variable over the file over the default.
//! A secret is in none of them: it is in a file of its own, named by `network.secret_file`.

mod check;
mod error;
mod listen;
mod read;
mod value;

pub use error::{Mistake, SettingsError};
pub use listen::{ListenAddress, ListenAddressError, Over};
pub use read::Override;
pub use value::{PerMille, Size};

use crate::{Admission, PeerAddress, PeerId, Target};
use read::{Visitor, Written};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The commented file with every key at its default.
pub const TEMPLATE: &str = include_str!("../../settings.toml");

/// Every setting of a node. `Default` is what production runs with; each key is explained in [`TEMPLATE`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Settings {
    /// `[node]`
    pub node: NodeSettings,
    /// `[network]`
    pub network: NetworkSettings,
    /// `[listen]`
    pub listen: ListenSettings,
    /// `[tls]`
    pub tls: TlsSettings,
    /// `[quic]`
    pub quic: QuicSettings,
    /// `[libp2p]`
    pub libp2p: Libp2pSettings,
    /// `[dns]`
    pub dns: DnsSettings,
    /// `[peers]`
    pub peers: PeersSettings,
    /// `[limits]`
    pub limits: LimitSettings,
    /// `[timeouts]`
    pub timeouts: TimeoutSettings,
    /// `[liveness]`
    pub liveness: LivenessSettings,
    /// `[health]`
    pub health: HealthSettings,
    /// `[backoff]`
    pub backoff: BackoffSettings,
    /// `[preference]`
    pub preference: PreferenceSettings,
    /// `[bans]`
    pub bans: BanSettings,
    /// `[journal]`
    pub journal: JournalSettings,
    /// `[api]`
    pub api: ApiSettings,
    /// `[metrics]`
    pub metrics: MetricsSettings,
    /// `[log]`
    pub log: LogSettings,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident[$section:literal] {
        $($(#[$of:meta])* $field:ident: $kind:ty = $default:expr,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name {
            $($(#[$of])* pub $field: $kind,)*
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: $default,)* }
            }
        }

        impl $name {
            pub(in crate::settings) fn visit(&mut self, visitor: &mut impl Visitor) {
                $(visitor.field($section, stringify!($field), &mut self.$field);)*
            }
        }
    };
}

mod wires;

pub use wires::{DnsSettings, Libp2pSecurity, Libp2pSettings, QuicSettings, TlsSettings};

section! {
    /// What the node is.
    NodeSettings["node"] {
        /// What it calls its program to others; at most 128 bytes.
        agent: String = concat!("peerkeep/", env!("CARGO_PKG_VERSION")).to_owned(),
        /// Threads that serve connections; 0 means one per processor, at most 8.
        threads: u16 = 0,
    }
}

section! {
    /// Who belongs together.
    NetworkSettings["network"] {
        /// Nodes of different names do not talk.
        name: String = "default".to_owned(),
        /// The file that holds the network's secret; relative to the settings file.
        secret_file: Option<PathBuf> = None,
        /// Only these identities may connect, when the list is not empty.
        allow: Vec<PeerId> = Vec::new(),
        /// Let anybody connect: no secret, no list, not only loopback.
        open: bool = false,
        /// Our public IP address, without a port, for the lower-address preference.
        local_ip: Option<IpAddr> = None,
    }
}

section! {
    /// Where others reach the node.
    ListenSettings["listen"] {
        /// Addresses to listen on; an empty list means none.
        addresses: Vec<ListenAddress> = vec![([127, 0, 0, 1], crate::DEFAULT_PORT).into()],
        /// Addresses told to others in place of those listened on.
        announce: Vec<ListenAddress> = Vec::new(),
        /// Take the next free port of the following 16 when one is taken.
        next_port: bool = false,
    }
}

section! {
    /// Whom to keep.
    PeersSettings["peers"] {
        /// Peers to keep connected.
        wanted: Vec<PeerAddress> = Vec::new(),
        /// Peers to know of, dialled to reach the target.
        known: Vec<PeerAddress> = Vec::new(),
        /// Connections to keep by dialling known peers.
        target: u16 = 8,
        /// Tell peers about others, and learn from them.
        exchange: bool = true,
        /// Dial private and loopback addresses that a third peer named.
        dial_private_gossip: bool = false,
    }
}

section! {
    /// How many of what at most.
    LimitSettings["limits"] {
        /// All connections.
        total: u32 = 500,
        /// Inbound.
        inbound: u32 = 250,
        /// Outbound.
        outbound: u32 = 250,
        /// Being set up.
        pending: u32 = 64,
        /// With one peer.
        per_peer: u32 = 4,
        /// With one IP address.
        per_ip: u32 = 16,
        /// With one IPv4 /24 or IPv6 /64.
        per_subnet: u32 = 64,
        /// Dials a minute.
        dials_per_minute: u32 = 240,
        /// Dials a minute to one IP address.
        dials_per_minute_per_ip: u32 = 60,
        /// Inbound connections above the limits that are told why.
        courtesy: u32 = 16,
        /// Of all, inbound and outbound each: kept for those who are wanted or asked for; at most an eighth.
        reserve: u32 = 32,
        /// Known peers.
        known_peers: u32 = 100_000,
        /// Bans.
        bans: u32 = 10_000,
        /// Open channels per connection.
        channels: u16 = 32,
        /// Longest message.
        message: Size = Size(256 * 1024),
        /// Bytes that may wait to be sent per connection.
        send_budget: Size = Size(1024 * 1024),
    }
}

section! {
    /// How long things may take.
    TimeoutSettings["timeouts"] {
        /// A whole outbound attempt.
        establish: Duration = Duration::from_secs(10),
        /// A whole inbound handshake.
        handshake: Duration = Duration::from_secs(5),
        /// How long an inbound connection is held for our own dial.
        hold: Duration = Duration::from_secs(1),
        /// A goodbye.
        goodbye: Duration = Duration::from_secs(2),
        /// Close unused connections that nobody wants after this.
        idle: Option<Duration> = None,
    }
}

value::words! {
    /// How a connection is known to be alive.
    LivenessMode {
        /// Ask after a silence.
        Ping = "ping",
        /// Leave it to TCP.
        KeepaliveOnly = "keepalive-only",
    }
}

section! {
    /// How connections are known to be alive.
    LivenessSettings["liveness"] {
        /// Ask, or leave it to TCP.
        mode: LivenessMode = LivenessMode::Ping,
        /// Receive silence before a ping.
        silence: Duration = Duration::from_secs(15),
        /// Time for an answer.
        deadline: Duration = Duration::from_secs(5),
        /// Unanswered pings that make a connection dead.
        misses: u8 = 2,
        /// TCP keepalive: idle time before the first probe.
        keepalive_idle: Duration = Duration::from_secs(30),
        /// TCP keepalive: time between probes.
        keepalive_interval: Duration = Duration::from_secs(10),
        /// TCP keepalive: unanswered probes that end the connection.
        keepalive_count: u8 = 3,
    }
}

section! {
    /// How good connections are, and what follows.
    HealthSettings["health"] {
        /// How often it is looked at.
        interval: Duration = Duration::from_secs(30),
        /// Least time between two replacements of one connection.
        cool_down: Duration = Duration::from_secs(600),
        /// How long a replaced connection goes on for what is open on it.
        drain: Duration = Duration::from_secs(60),
    }
}

section! {
    /// When to try again.
    BackoffSettings["backoff"] {
        /// Delay after the first failure.
        first: Duration = Duration::from_secs(2),
        /// Growth per failure.
        growth: PerMille = PerMille(2_000),
        /// Longest delay.
        max: Duration = Duration::from_secs(300),
        /// Random part of a delay.
        jitter: PerMille = PerMille(300),
        /// Attempts before a peer that is not wanted is given up; 0 never.
        max_attempts: u16 = 8,
        /// After a loss, retries come quickly for this long.
        fast_window: Duration = Duration::from_secs(60),
        /// Longest delay within that window.
        fast_interval: Duration = Duration::from_millis(1_500),
        /// A connection this old makes failures forgotten.
        stable: Duration = Duration::from_secs(10),
    }
}

value::words! {
    /// Which side of a pair dials first.
    DialOrder {
        /// `address` when `network.local_ip` is set, else `identity`.
        Auto = "auto",
        /// The lower identity.
        Identity = "identity",
        /// The lower IP address.
        Address = "address",
        /// Whoever wants to.
        Nobody = "nobody",
    }
}

value::words! {
    /// How two connections to one peer become one.
    TwoDials {
        /// By the numbers of the dials, in one exchange of hellos.
        Numbers = "numbers",
        /// By holding the second until the first is settled: slower, and needs no numbers.
        Hold = "hold",
    }
}

section! {
    /// Which side of a pair dials first.
    PreferenceSettings["preference"] {
        /// Whose turn it is.
        order: DialOrder = DialOrder::Auto,
        /// How long the other side waits before it dials anyway.
        wait: Duration = Duration::from_secs(2),
        /// What decides when both have dialled. Nodes that differ in it still end with one connection.
        two_dials: TwoDials = TwoDials::Numbers,
    }
}

section! {
    /// Bans.
    BanSettings["bans"] {
        /// No ban applies to these.
        exempt: Vec<Target> = Vec::new(),
    }
}

section! {
    /// The recording of everything the core was told.
    JournalSettings["journal"] {
        /// Whether to keep one.
        enabled: bool = true,
        /// Size of one segment.
        segment: Size = Size(8 * 1024 * 1024),
        /// How many segments are kept.
        segments: u16 = 8,
    }
}

section! {
    /// The daemon's interface for its command line.
    ApiSettings["api"] {
        /// The unix socket; empty means `peerkeep.sock` in the data folder.
        socket: Option<PathBuf> = None,
        /// The group that may use it; empty means nobody but the owner and the owner's group.
        group: String = String::new(),
    }
}

section! {
    /// The endpoint that monitoring reads.
    MetricsSettings["metrics"] {
        /// Whether there is one.
        enabled: bool = false,
        /// Where it listens; other machines than this one need `hosts`.
        address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7331)),
        /// Further names under which it may be asked, each as `host:port`.
        hosts: Vec<String> = Vec::new(),
    }
}

value::words! {
    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// For programs.
        Json = "json",
    }
}

section! {
    /// What is logged.
    LogSettings["log"] {
        /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,peerkeep_net=debug`.
        level: String = "info".to_owned(),
        /// Text or JSON.
        format: LogFormat = LogFormat::Text,
    }
}

impl Settings {
    /// Keys that only a start can change: a reload that changes one is refused. The identity and the data folder are no
    /// settings and cannot change either.
    pub const FIXED: &[&str] = &["node.threads"];

    /// Reads a settings file, with overrides that win over it.
    ///
    /// # Errors
    /// Every mistake with its line and key; nothing is taken then.
    pub fn load(path: &Path, overrides: &[Override]) -> Result<Settings, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|error| SettingsError {
            file: Some(path.into()),
            mistakes: vec![Mistake { key: String::new(), line: 0, origin: None, what: error.to_string() }],
        })?;
        Settings::read(&text, Some(path), overrides)
    }

    /// Reads a settings text. A relative path of a secret in it is taken as beside `path`.
    ///
    /// # Errors
    /// Every mistake with its line and key; nothing is taken then.
    pub fn read(text: &str, path: Option<&Path>, overrides: &[Override]) -> Result<Settings, SettingsError> {
        let (mut settings, places, mut mistakes) = read::read(text, overrides);
        for (key, file) in [
            ("network.secret_file", &mut settings.network.secret_file),
            ("libp2p.psk_file", &mut settings.libp2p.psk_file),
        ] {
            let from_file = places.get(key).is_some_and(|(_, origin)| origin.is_none());
            if let (true, Some(secret), Some(folder)) = (from_file, &mut *file, path.and_then(Path::parent)) {
                *file = Some(folder.join(secret));
            }
        }
        if mistakes.is_empty() {
            mistakes = settings.mistakes(&places);
        }
        read::refuse(mistakes, path)?;
        Ok(settings)
    }

    /// Whether settings made in code hold together.
    ///
    /// # Errors
    /// Every mistake with its key.
    pub fn check(&self) -> Result<(), SettingsError> {
        read::refuse(self.mistakes(&read::Places::new()), None)
    }

    /// All settings in force as a TOML text, one line each.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut last = "";
        for (section, key, value) in self.written() {
            if section != last {
                let gap = if last.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{section}]");
                last = section;
            }
            let _ = writeln!(text, "{key} = {value}");
        }
        text
    }

    /// The keys whose values differ, as `section.key`.
    pub fn changes(&self, other: &Settings) -> Vec<String> {
        let pairs = self.written().into_iter().zip(other.written());
        pairs
            .filter(|((.., old), (.., new))| old != new)
            .map(|((section, key, _), _)| format!("{section}.{key}"))
            .collect()
    }

    /// How it is decided who may join.
    pub fn admission(&self) -> Admission {
        match (self.network.secret_file.is_some(), !self.network.allow.is_empty()) {
            (true, true) => Admission::SecretAndAllowList,
            (true, false) => Admission::Secret,
            (false, true) => Admission::AllowList,
            (false, false) if self.network.open => Admission::Open,
            (false, false) => Admission::Loopback,
        }
    }

    fn written(&self) -> Vec<(&'static str, &'static str, String)> {
        let mut written = Written::default();
        self.clone().visit(&mut written);
        written.0
    }

    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.node.visit(visitor);
        self.network.visit(visitor);
        self.listen.visit(visitor);
        self.tls.visit(visitor);
        self.quic.visit(visitor);
        self.libp2p.visit(visitor);
        self.dns.visit(visitor);
        self.peers.visit(visitor);
        self.limits.visit(visitor);
        self.timeouts.visit(visitor);
        self.liveness.visit(visitor);
        self.health.visit(visitor);
        self.backoff.visit(visitor);
        self.preference.visit(visitor);
        self.bans.visit(visitor);
        self.journal.visit(visitor);
        self.api.visit(visitor);
        self.metrics.visit(visitor);
        self.log.visit(visitor);
    }
}

#[cfg(test)]
mod tests;
