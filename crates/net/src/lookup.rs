//! DNS: hosts to IP addresses, by queries of our own over UDP and TCP. Bounded in queries at a time, in what is read of
//! an answer, in time and in what is remembered. The last good answer serves on when no server answers (fault Q1). It
//! knows no peer, and which address is dialled is not its business.

use crate::Name;
use arrayvec::ArrayVec;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, RecordType};
use peerkeep_core::{Addr, Addrs, MAX_ADDRS};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

/// DNS servers that are asked.
pub const MAX_DNS_SERVERS: usize = 4;

/// Queries at a time; further ones wait within their own time.
const CONCURRENT: usize = 32;

/// Answers remembered: the two IP versions of a host are two.
const REMEMBERED: usize = 2_048;

/// What is found of one host and one IP version, at most.
type Ips = ArrayVec<IpAddr, MAX_ADDRS>;

/// Times, as fields for the tests' sake.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// One question to one server; a second one follows, then the next server.
    pub query: Duration,
    /// One query with everything it takes, its wait for a turn included.
    pub patience: Duration,
    /// When there are addresses, those that come so much later are not waited for.
    pub settle: Duration,
    /// How long an answer counts, whatever its own time to live says.
    pub fresh: (Duration, Duration),
    /// The same when the answer is that there is none.
    pub negative: (Duration, Duration),
    /// How long an answer serves on when no server answers.
    pub stale: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        let secs = Duration::from_secs;
        Bounds {
            query: Duration::from_millis(1_500),
            patience: secs(4),
            settle: Duration::from_millis(200),
            fresh: (secs(30), secs(3_600)),
            negative: (secs(5), secs(60)),
            stale: secs(24 * 3_600),
        }
    }
}

/// An IP version; IPv6 is preferred, as everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Version {
    V6,
    V4,
}

type Key = (String, Version);

#[derive(Debug, Clone)]
struct Known {
    ips: Ips,
    fresh_until: Instant,
    stale_until: Instant,
}

enum Answer {
    Found(Ips, Duration),
    /// A server says that there is nothing.
    Nothing(Duration),
    /// No server said anything of use.
    Trouble,
}

/// Asks, and remembers what it heard.
pub(crate) struct Lookups {
    /// None means those of the system.
    servers: Mutex<Vec<SocketAddr>>,
    resolver: Mutex<Option<TokioResolver>>,
    known: Mutex<HashMap<Key, Known>>,
    permits: Semaphore,
    bounds: Bounds,
}

impl std::fmt::Debug for Lookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookups").field("servers", &*lock(&self.servers)).finish_non_exhaustive()
    }
}

impl Default for Lookups {
    fn default() -> Lookups {
        Lookups::new(Bounds::default())
    }
}

impl Lookups {
    pub fn new(bounds: Bounds) -> Lookups {
        Lookups {
            servers: Mutex::default(),
            resolver: Mutex::default(),
            known: Mutex::default(),
            permits: Semaphore::new(CONCURRENT),
            bounds,
        }
    }

    /// Asks these servers from now on, at most [`MAX_DNS_SERVERS`]; none means those of the system.
    pub fn ask_servers(&self, mut servers: Vec<SocketAddr>) {
        servers.truncate(MAX_DNS_SERVERS);
        {
            let mut old = lock(&self.servers);
            if *old == servers {
                return;
            }
            *old = servers;
        }
        self.refresh();
    }

    /// The network is another one: its servers may be, too, and what could not be found may be found now.
    pub fn refresh(&self) {
        *lock(&self.resolver) = None;
        let now = Instant::now();
        let mut known = lock(&self.known);
        known.retain(|_, known| !known.ips.is_empty());
        known.values_mut().for_each(|known| known.fresh_until = now);
    }

    /// The addresses of some names, those of each in turn, so that none crowds the others out. Ends within the
    /// patience for one query, and soon after the first addresses.
    pub async fn find(self: &Arc<Self>, names: &[Name]) -> Addrs {
        let mut asked = JoinSet::new();
        for (place, name) in names.iter().enumerate() {
            for version in name.family.versions() {
                let (lookups, host) = (self.clone(), name.host.clone());
                asked.spawn(async move { ((place, *version), lookups.ips((host, *version)).await) });
            }
        }
        let mut found = BTreeMap::new();
        let mut until = Instant::now() + self.bounds.patience * 2;
        while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
            let Ok((place, ips)) = answer else { continue };
            if !ips.is_empty() {
                until = until.min(Instant::now() + self.bounds.settle);
                found.insert(place, ips);
            }
        }
        in_turn(names, &found)
    }

    async fn ips(&self, key: Key) -> Ips {
        if let Ok(ip) = key.0.parse::<IpAddr>() {
            return (ip.is_ipv4() == (key.1 == Version::V4)).then_some(ip).into_iter().collect();
        }
        if let Some(known) = lock(&self.known).get(&key)
            && known.fresh_until > Instant::now()
        {
            return known.ips.clone();
        }
        let answer = timeout(self.bounds.patience, self.query(&key)).await.unwrap_or(Answer::Trouble);
        self.learn(key, answer)
    }

    async fn query(&self, key: &Key) -> Answer {
        let Ok(_permit) = self.permits.acquire().await else { return Answer::Trouble };
        let Some(resolver) = self.resolver() else { return Answer::Trouble };
        let kind = match key.1 {
            Version::V6 => RecordType::AAAA,
            Version::V4 => RecordType::A,
        };
        match resolver.lookup(key.0.as_str(), kind).await {
            Ok(lookup) => {
                let (mut ips, mut ttl) = (Ips::new(), u32::MAX);
                for record in lookup.answers() {
                    let ip = match &record.data {
                        RData::A(ip) => IpAddr::V4(ip.0),
                        RData::AAAA(ip) => IpAddr::V6(ip.0),
                        _ => continue,
                    };
                    ttl = ttl.min(record.ttl);
                    if !ips.contains(&ip) && ips.try_push(ip).is_err() {
                        break;
                    }
                }
                let ttl = Duration::from_secs(ttl.into());
                if ips.is_empty() { Answer::Nothing(ttl) } else { Answer::Found(ips, ttl) }
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                Answer::Nothing(Duration::from_secs(none.negative_ttl.unwrap_or(0).into()))
            }
            Err(error) => {
                tracing::debug!(host = key.0, %error, "a name could not be looked up");
                Answer::Trouble
            }
        }
    }

    fn learn(&self, key: Key, answer: Answer) -> Ips {
        let now = Instant::now();
        let within = |(least, most): (Duration, Duration), ttl: Duration| ttl.clamp(least, most);
        let mut known = lock(&self.known);
        let entry = match answer {
            Answer::Found(ips, ttl) => {
                let fresh = within(self.bounds.fresh, ttl);
                Known { ips, fresh_until: now + fresh, stale_until: now + fresh + self.bounds.stale }
            }
            Answer::Nothing(ttl) => {
                let fresh_until = now + within(self.bounds.negative, ttl);
                Known { ips: Ips::new(), fresh_until, stale_until: fresh_until }
            }
            Answer::Trouble => {
                let fresh_until = now + self.bounds.negative.0;
                match known.get(&key).filter(|old| old.stale_until > now) {
                    Some(old) => Known { fresh_until, ..old.clone() },
                    None => Known { ips: Ips::new(), fresh_until, stale_until: fresh_until },
                }
            }
        };
        let ips = entry.ips.clone();
        if known.len() >= REMEMBERED && !known.contains_key(&key) {
            known.retain(|_, known| known.fresh_until > now);
        }
        // A crowd of fresh ones: what comes beyond is asked again each time, within the limit of queries.
        if known.len() < REMEMBERED || known.contains_key(&key) {
            known.insert(key, entry);
        }
        ips
    }

    fn resolver(&self) -> Option<TokioResolver> {
        let mut resolver = lock(&self.resolver);
        if resolver.is_none() {
            *resolver = build(&lock(&self.servers), &self.bounds);
        }
        resolver.clone()
    }
}

/// Reads the system's settings and its table of hosts: two small files.
fn build(servers: &[SocketAddr], bounds: &Bounds) -> Option<TokioResolver> {
    let system = || TokioResolver::builder_tokio().ok();
    let mut builder = match servers {
        // As libc does where nothing is said: somebody may listen here.
        [] => system().unwrap_or_else(|| asking(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 53))])),
        named => asking(named),
    };
    let options = builder.options_mut();
    options.timeout = bounds.query;
    options.attempts = 1;
    // Answers are remembered here, by what is used of them, and not as they came.
    options.cache_size = 0;
    match builder.build() {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            tracing::warn!(%error, "names cannot be looked up");
            None
        }
    }
}

fn asking(servers: &[SocketAddr]) -> hickory_resolver::ResolverBuilder<TokioRuntimeProvider> {
    let each = servers.iter().map(|server| {
        let mut ways = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        ways.iter_mut().for_each(|way| way.port = server.port());
        NameServerConfig::new(server.ip(), true, ways)
    });
    let config = ResolverConfig::from_name_servers(each.collect());
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
}

/// The first of each, then the second of each, and so on.
fn in_turn(names: &[Name], found: &BTreeMap<(usize, Version), Ips>) -> Addrs {
    let mut addrs = Addrs::new();
    for turn in 0..MAX_ADDRS {
        for ((place, _), ips) in found {
            let (Some(name), Some(ip)) = (names.get(*place), ips.get(turn)) else { continue };
            let addr = Addr::new(SocketAddr::new(*ip, name.port), name.kind);
            if addr.check().is_ok() && !addrs.contains(&addr) && addrs.try_push(addr).is_err() {
                return addrs;
            }
        }
    }
    addrs
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
