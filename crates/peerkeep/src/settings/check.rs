//! What must hold between settings, and what they mean to the core. The rule that matters most: without a secret and
//! without an allow-list a node listens on loopback only, unless the operator writes `open = true`.

use super::ListenAddress;
use super::read::{Places, at};
use super::{DialOrder, LivenessMode, Mistake, Settings, SettingsError, TwoDials};
use crate::{PeerAddress, Stack};
use peerkeep_core::{
    Addr, Backoff, Config, ConfigError, Duplicates, Limit, Limits, Liveness, PeerKey, Preference, Rules,
    StackId,
};
use peerkeep_libp2p::pnet::NetworkKey;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Shortest network secret in bytes: somebody who is dialled without an identity could try guesses offline.
pub const MIN_SECRET_BYTES: usize = 16;
const MAX_SECRET_BYTES: u64 = 4_096;
const MAX_NAME_BYTES: usize = 128;

impl Settings {
    /// What these settings mean to the core.
    ///
    /// # Errors
    /// What the core says against them, by key.
    pub fn core_config(&self, me: PeerKey, epoch: u64) -> Result<Config, SettingsError> {
        let config = self.to_core(me, epoch);
        config.check().map_err(|error| SettingsError {
            file: None,
            mistakes: vec![at(&Places::new(), key_of(&error), what_of(&error))],
        })?;
        Ok(config)
    }

    /// What should be said aloud at a start, though it is no mistake.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.preference.order == DialOrder::Address && self.network.local_ip.is_none() {
            warnings.push(
                "preference.order is \"address\" and network.local_ip is not set: \
                 the lower identity dials first instead"
                    .to_owned(),
            );
        }
        if let Some(ip) = self.network.local_ip
            && !is_public(ip)
        {
            warnings.push(format!("network.local_ip is {ip}, which others on the internet cannot reach"));
        }
        if self.network.open && self.admission() == crate::Admission::Open {
            warnings.push("network.open is true: anybody may connect to this node".to_owned());
        }
        if !self.tls.enabled {
            let place = if self.tls.insecure { "" } else { " on loopback" };
            warnings.push(format!(
                "tls.enabled is false: connections over TCP{place} are neither private nor safe from change"
            ));
        }
        warnings
    }

    /// Reads the network's secret, if one is named.
    ///
    /// # Errors
    /// When the file is missing, can be read by others, or holds too little.
    pub fn read_secret(&self) -> Result<Option<Zeroizing<Vec<u8>>>, SettingsError> {
        let Some(path) = &self.network.secret_file else { return Ok(None) };
        let key = "network.secret_file";
        let mut secret = read_private(path, key)?;
        let kept = secret.trim_ascii_end().len();
        if kept < MIN_SECRET_BYTES {
            let what = format!("a network secret has at least {MIN_SECRET_BYTES} bytes");
            return Err(refuse(path, key, what));
        }
        secret.truncate(kept);
        Ok(Some(secret))
    }

    /// Reads the key of the private network that the libp2p side is in, if one is named.
    ///
    /// # Errors
    /// When the file is missing, can be read by others, or holds no key.
    pub fn read_psk(&self) -> Result<Option<NetworkKey>, SettingsError> {
        let Some(path) = &self.libp2p.psk_file else { return Ok(None) };
        let key = "libp2p.psk_file";
        let file = read_private(path, key)?;
        NetworkKey::parse(&file).map(Some).map_err(|error| refuse(path, key, error.to_string()))
    }

    /// Everything that does not hold, put where its key stood.
    pub(super) fn mistakes(&self, places: &Places) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut wrong = |key: &str, what: String| mistakes.push(at(places, key, what));
        self.check_names(&mut wrong);
        self.check_addresses(&mut wrong);
        self.check_tls(&mut wrong);
        self.check_numbers(&mut wrong);
        self.check_servers(&mut wrong);
        if let Err(error) = self.to_core(PeerKey::ed25519([0; 32]), 1).check() {
            let key = key_of(&error);
            // Of the two that do not fit together, the one that stands in the file is the one to show.
            let key = if key == "backoff.max" && !places.contains_key(key) { "backoff.first" } else { key };
            wrong(key, what_of(&error));
        }
        mistakes
    }

    fn check_names(&self, wrong: &mut impl FnMut(&str, String)) {
        let name = &self.network.name;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            wrong("network.name", format!("a network's name has 1 to {MAX_NAME_BYTES} bytes of plain text"));
        }
        let agent = &self.node.agent;
        if agent.len() > MAX_NAME_BYTES || agent.chars().any(char::is_control) {
            wrong("node.agent", format!("the agent has at most {MAX_NAME_BYTES} bytes of plain text"));
        }
        if let Some(ip) = self.network.local_ip
            && (ip.is_unspecified() || ip.is_multicast())
        {
            wrong("network.local_ip", format!("{ip} is not an address of one machine"));
        }
    }

    fn check_addresses(&self, wrong: &mut impl FnMut(&str, String)) {
        let most = peerkeep_core::MAX_ADDRS;
        for (key, list) in [
            ("listen.addresses", &self.listen.addresses),
            ("listen.announce", &self.listen.announce),
            ("libp2p.listen", &self.libp2p.listen),
            ("libp2p.announce", &self.libp2p.announce),
        ] {
            if list.len() > most {
                wrong(key, format!("at most {most} addresses"));
            }
        }
        for address in &self.listen.announce {
            if Addr::tcp(address.socket).check().is_err() {
                wrong("listen.announce", format!("others cannot dial {address}"));
            }
        }
        for address in &self.libp2p.announce {
            if Addr::tcp(address.socket).check().is_err() {
                wrong("libp2p.announce", format!("others cannot dial {address}"));
            }
        }
        for (key, list) in [("peers.wanted", &self.peers.wanted), ("peers.known", &self.peers.known)] {
            let foreign = |peer: &&PeerAddress| peer.stack == Some(Stack::Libp2p);
            if let Some(peer) = list.iter().find(foreign).filter(|_| !self.libp2p.enabled) {
                wrong(key, format!("{peer} speaks libp2p, and libp2p.enabled is false"));
            }
        }
        let closed = self.libp2p.psk_file.is_some() || !self.network.allow.is_empty() || self.network.open;
        let outside = |address: &&ListenAddress| !Addr::tcp(address.socket).is_loopback();
        if self.libp2p.enabled
            && !closed
            && let Some(address) = self.libp2p.listen.iter().find(outside)
        {
            wrong(
                "libp2p.listen",
                format!(
                    "{address} can be reached from other machines, and nothing says who may connect: set \
                     libp2p.psk_file or network.allow, or network.open = true to let anybody in"
                ),
            );
        }
        if let Some(address) = self.exposed() {
            wrong(
                "listen.addresses",
                format!(
                    "{address} can be reached from other machines, and nothing says who may join: set \
                     network.secret_file or network.allow, or network.open = true to let anybody in"
                ),
            );
        }
    }

    fn check_tls(&self, wrong: &mut impl FnMut(&str, String)) {
        let open = |address: &&ListenAddress| address.has_tcp() && !Addr::tcp(address.socket).is_loopback();
        let plain = !self.tls.enabled && !self.tls.insecure;
        if let Some(address) = self.listen.addresses.iter().find(open).filter(|_| plain) {
            wrong(
                "tls.enabled",
                format!(
                    "{address} can be reached from other machines, and without TLS whoever is on the way reads and \
                     changes everything: listen on loopback, or set tls.insecure = true to do it all the same"
                ),
            );
        }
    }

    fn check_numbers(&self, wrong: &mut impl FnMut(&str, String)) {
        if self.node.threads > 64 {
            wrong("node.threads", "at most 64 threads make sense".to_owned());
        }
        if self.limits.message.0 == 0 || self.limits.message.0 > self.limits.send_budget.0 {
            wrong("limits.message", "must be above 0 and at most limits.send_budget".to_owned());
        }
        if self.limits.send_budget.0 > 1 << 30 {
            wrong("limits.send_budget", "at most 1GiB".to_owned());
        }
        if self.limits.channels == 0 || self.limits.channels > 1_024 {
            wrong("limits.channels", "must lie within 1 and 1024".to_owned());
        }
        if !(64 * 1024..=1 << 30).contains(&self.journal.segment.0) {
            wrong("journal.segment", "must lie within \"64KiB\" and \"1GiB\"".to_owned());
        }
        if self.journal.segments < 2 || self.journal.segments > 10_000 {
            wrong("journal.segments", "must lie within 2 and 10000".to_owned());
        }
        for (key, span) in [
            ("liveness.keepalive_idle", self.liveness.keepalive_idle),
            ("liveness.keepalive_interval", self.liveness.keepalive_interval),
        ] {
            if span.as_secs() == 0 || span.as_secs() > 32_767 {
                wrong(key, "must lie within \"1s\" and \"9h\"".to_owned());
            }
        }
        if self.liveness.keepalive_count == 0 || self.liveness.keepalive_count > 127 {
            wrong("liveness.keepalive_count", "must lie within 1 and 127".to_owned());
        }
    }

    fn check_servers(&self, wrong: &mut impl FnMut(&str, String)) {
        let metrics = &self.metrics;
        let is_host = |host: &str| {
            host.rsplit_once(':').is_some_and(|(name, port)| {
                !name.is_empty() && name.len() <= 253 && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        if self.dns.servers.len() > peerkeep_net::MAX_DNS_SERVERS {
            wrong("dns.servers", format!("at most {} servers", peerkeep_net::MAX_DNS_SERVERS));
        }
        if self.dns.servers.iter().any(|server| server.port() == 0 || server.ip().is_unspecified()) {
            wrong("dns.servers", "a server needs an address and a port other than 0".to_owned());
        }
        if metrics.hosts.len() > 16 {
            wrong("metrics.hosts", "at most 16 names".to_owned());
        }
        if let Some(bad) = metrics.hosts.iter().find(|host| !is_host(host)) {
            wrong(
                "metrics.hosts",
                format!("expected names such as \"node.example.org:7331\", found {bad:?}"),
            );
        }
        if metrics.enabled && !metrics.address.ip().is_loopback() && metrics.hosts.is_empty() {
            wrong(
                "metrics.address",
                format!(
                    "{} can be reached from other machines: list in metrics.hosts under which names they may ask",
                    metrics.address
                ),
            );
        }
    }

    /// The first address that would let strangers in without a word of the operator's.
    fn exposed(&self) -> Option<ListenAddress> {
        if self.admission() != crate::Admission::Loopback {
            return None;
        }
        self.listen.addresses.iter().copied().find(|address| !Addr::tcp(address.socket).is_loopback())
    }

    fn to_core(&self, me: PeerKey, epoch: u64) -> Config {
        let mut config = Config::new(me, epoch);
        let limits = &self.limits;
        config.limits = Limits {
            total: limits.total,
            inbound: limits.inbound,
            outbound: limits.outbound,
            pending: limits.pending,
            per_peer: limits.per_peer,
            per_ip: limits.per_ip,
            per_subnet: limits.per_subnet,
            dials_per_minute: limits.dials_per_minute,
            dials_per_minute_per_ip: limits.dials_per_minute_per_ip,
            courtesy: limits.courtesy,
            reserve: limits.reserve,
            contacts: limits.known_peers,
            bans: limits.bans,
        };
        config.preference = match (self.preference.order, self.network.local_ip) {
            (DialOrder::Auto | DialOrder::Address, Some(ip)) => {
                Preference::Address { local_ip: Addr::tcp(SocketAddr::new(ip, 1)).ip }
            }
            (DialOrder::Nobody, _) => Preference::Nobody,
            (DialOrder::Identity, _) | (DialOrder::Auto | DialOrder::Address, None) => Preference::Identity,
        };
        config.turn_wait = self.preference.wait;
        config.exempt.clone_from(&self.bans.exempt);
        config.dial_private_gossip = self.peers.dial_private_gossip;
        let rules = &mut config.rules[StackId::Mesh.index()];
        rules.duplicates = match self.preference.two_dials {
            TwoDials::Numbers => Duplicates::Numbers,
            TwoDials::Hold => Duplicates::HoldAndConfirm,
        };
        self.common_rules(rules);
        rules.target = self.peers.target;
        // Nobody is dialled there who was not named.
        let rules = &mut config.rules[StackId::Libp2p.index()];
        self.common_rules(rules);
        rules.target = 0;
        config
    }

    fn common_rules(&self, rules: &mut Rules) {
        let (timeouts, backoff) = (&self.timeouts, &self.backoff);
        rules.establish = timeouts.establish;
        rules.handshake = timeouts.handshake;
        rules.hold = timeouts.hold;
        rules.goodbye = timeouts.goodbye;
        rules.idle = timeouts.idle;
        rules.liveness = match self.liveness.mode {
            LivenessMode::Ping => Liveness::Probe {
                silence: self.liveness.silence,
                deadline: self.liveness.deadline,
                misses: self.liveness.misses,
            },
            LivenessMode::KeepaliveOnly => Liveness::Transport,
        };
        rules.health = self.health.interval;
        rules.cool_down = self.health.cool_down;
        rules.drain = self.health.drain;
        rules.backoff = Backoff {
            first: backoff.first,
            growth_per_mille: backoff.growth.0,
            max: backoff.max,
            // Reading lets nothing above 1,000,000 pass; the core refuses what is above 1,000.
            jitter_per_mille: u16::try_from(backoff.jitter.0).unwrap_or(u16::MAX),
            max_attempts: backoff.max_attempts,
            fast_window: backoff.fast_window,
            fast_interval: backoff.fast_interval,
            stable: backoff.stable,
        };
    }
}

/// A file that is nobody else's to read.
fn read_private(path: &Path, key: &str) -> Result<Zeroizing<Vec<u8>>, SettingsError> {
    let file = std::fs::File::open(path).map_err(|error| refuse(path, key, error.to_string()))?;
    let about = file.metadata().map_err(|error| refuse(path, key, error.to_string()))?;
    if about.mode() & 0o007 != 0 {
        let (mode, shown) = (about.mode() & 0o777, path.display());
        let what = format!("it can be read by everybody (mode {mode:03o}); run: chmod o= {shown}");
        return Err(refuse(path, key, what));
    }
    let capacity = usize::try_from(MAX_SECRET_BYTES + 1).unwrap_or(usize::MAX);
    let mut secret = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(MAX_SECRET_BYTES + 1)
        .read_to_end(&mut secret)
        .map_err(|error| refuse(path, key, error.to_string()))?;
    if u64::try_from(secret.trim_ascii_end().len()).unwrap_or(u64::MAX) > MAX_SECRET_BYTES {
        return Err(refuse(path, key, format!("a secret has at most {MAX_SECRET_BYTES} bytes")));
    }
    Ok(secret)
}

fn refuse(path: &Path, key: &str, what: String) -> SettingsError {
    let what = format!("{}: {what}", path.display());
    SettingsError { file: None, mistakes: vec![at(&Places::new(), key, what)] }
}

fn is_public(ip: IpAddr) -> bool {
    let addr = Addr::tcp(SocketAddr::new(ip, 1));
    !addr.is_loopback() && !addr.is_private()
}

fn key_of(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::Limit(limit) => match limit {
            Limit::Total => "limits.total",
            Limit::Inbound => "limits.inbound",
            Limit::Outbound => "limits.outbound",
            Limit::Pending => "limits.pending",
            Limit::PerPeer => "limits.per_peer",
            Limit::PerIp => "limits.per_ip",
            Limit::PerSubnet => "limits.per_subnet",
            Limit::DialRate => "limits.dials_per_minute",
            Limit::DestinationRate => "limits.dials_per_minute_per_ip",
            Limit::Courtesy => "limits.courtesy",
            Limit::Contacts => "limits.known_peers",
            Limit::Bans => "limits.bans",
        },
        ConfigError::Exempt => "bans.exempt",
        ConfigError::Rules(_, "establish") => "timeouts.establish",
        ConfigError::Rules(_, "handshake") => "timeouts.handshake",
        ConfigError::Rules(_, "hold") => "timeouts.hold",
        ConfigError::Rules(_, "goodbye") => "timeouts.goodbye",
        ConfigError::Rules(_, "idle") => "timeouts.idle",
        ConfigError::Rules(_, "health") => "health.interval",
        ConfigError::Rules(_, "cool down") => "health.cool_down",
        ConfigError::Rules(_, "drain") => "health.drain",
        ConfigError::Rules(_, "liveness silence") => "liveness.silence",
        ConfigError::Rules(_, "liveness deadline") => "liveness.deadline",
        ConfigError::Rules(_, "liveness misses") => "liveness.misses",
        ConfigError::Rules(_, "backoff growth") => "backoff.growth",
        ConfigError::Rules(_, "backoff jitter") => "backoff.jitter",
        ConfigError::Rules(_, "backoff first and max") => "backoff.max",
        ConfigError::Rules(..) => "backoff",
        ConfigError::Epoch | ConfigError::Identity => "node",
    }
}

fn what_of(error: &ConfigError) -> String {
    match error {
        ConfigError::Limit(Limit::PerPeer) => "must lie within 1 and 32".to_owned(),
        ConfigError::Limit(Limit::Courtesy) => "must be at most 16777216".to_owned(),
        ConfigError::Limit(_) => "must lie within 1 and 16777216".to_owned(),
        ConfigError::Exempt => "at most 1024 entries".to_owned(),
        ConfigError::Epoch => "the boot epoch is out of range: does the clock stand right?".to_owned(),
        ConfigError::Identity => "the identity cannot change while the node runs".to_owned(),
        ConfigError::Rules(_, "liveness misses") => "must be at least 1".to_owned(),
        ConfigError::Rules(_, "backoff growth") => "must lie within 1 and 100".to_owned(),
        ConfigError::Rules(_, "backoff jitter") => "must lie within 0 and 1".to_owned(),
        ConfigError::Rules(_, "backoff first and max") => {
            "backoff.first must not be above backoff.max, and that not above 30 days".to_owned()
        }
        ConfigError::Rules(_, "backoff fast window or stable time") => "at most 30 days".to_owned(),
        ConfigError::Rules(..) => "must lie within \"1ms\" and \"7days\"".to_owned(),
    }
}
