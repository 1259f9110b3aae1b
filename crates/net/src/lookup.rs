//! DNS: hosts to IP addresses and to lists of addresses, by queries of our own over UDP and TCP. Bounded in queries at a time, in what is read of
//! an answer, in time and in what is remembered. The last good answer serves on when no server answers (fault Q1). It
//! knows no peer, and which address is dialled is not its business.

use crate::listed::Listed;
use crate::{Leads, Name};
use arrayvec::ArrayVec;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
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

/// Queries for one search, at most: lists lead on to further names.
const QUERIES: usize = 24;

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

/// What is asked about a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Question {
    Ips(Version),
    /// Its list, for an identity.
    List(Arc<[u8]>),
}

type Key = (String, Question);

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Ips(Ips),
    List(Arc<Listed>),
}

impl Found {
    const NOTHING: Found = Found::Ips(Ips::new_const());

    fn is_empty(&self) -> bool {
        match self {
            Found::Ips(ips) => ips.is_empty(),
            Found::List(list) => list.addrs.is_empty() && list.names.is_empty(),
        }
    }
}

#[derive(Debug, Clone)]
struct Known {
    found: Found,
    fresh_until: Instant,
    stale_until: Instant,
}

enum Answer {
    Found(Found, Duration),
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
        known.retain(|_, known| !known.found.is_empty());
        known.values_mut().for_each(|known| known.fresh_until = now);
    }

    /// The addresses of some names, those of each in turn, so that none crowds the others out. Ends within twice the
    /// patience for one query, and soon after the first addresses.
    pub async fn find(self: &Arc<Self>, names: &[Name]) -> Addrs {
        let mut search = Search { lookups: self.clone(), asked: JoinSet::new(), turn: 0 };
        names.iter().for_each(|name| search.begin(name, false));
        let mut found = BTreeMap::new();
        let mut until = Instant::now() + self.bounds.patience * 2;
        while let Ok(Some(answer)) = timeout_at(until, search.asked.join_next()).await {
            let Ok(answer) = answer else { continue };
            let turn = answer.turn;
            let addrs = search.read(answer);
            if !addrs.is_empty() {
                until = until.min(Instant::now() + self.bounds.settle);
                found.insert(turn, addrs);
            }
        }
        in_turn(&found)
    }

    async fn ask(&self, key: Key) -> Found {
        if let (Question::Ips(version), Ok(ip)) = (&key.1, key.0.parse::<IpAddr>()) {
            let ips = (ip.is_ipv4() == (*version == Version::V4)).then_some(ip);
            return Found::Ips(ips.into_iter().collect());
        }
        if let Some(known) = lock(&self.known).get(&key)
            && known.fresh_until > Instant::now()
        {
            return known.found.clone();
        }
        let answer = timeout(self.bounds.patience, self.query(&key)).await.unwrap_or(Answer::Trouble);
        self.learn(key, answer)
    }

    async fn query(&self, (host, question): &Key) -> Answer {
        let Ok(_permit) = self.permits.acquire().await else { return Answer::Trouble };
        let Some(resolver) = self.resolver() else { return Answer::Trouble };
        let asked = match question {
            Question::Ips(Version::V6) => resolver.lookup(host.as_str(), RecordType::AAAA).await,
            Question::Ips(Version::V4) => resolver.lookup(host.as_str(), RecordType::A).await,
            Question::List(_) => resolver.lookup(format!("_dnsaddr.{host}"), RecordType::TXT).await,
        };
        match asked {
            Ok(lookup) => read(lookup.answers(), question),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                Answer::Nothing(Duration::from_secs(none.negative_ttl.unwrap_or(0).into()))
            }
            Err(error) => {
                tracing::debug!(host, %error, "a name could not be looked up");
                Answer::Trouble
            }
        }
    }

    fn learn(&self, key: Key, answer: Answer) -> Found {
        let now = Instant::now();
        let within = |(least, most): (Duration, Duration), ttl: Duration| ttl.clamp(least, most);
        let mut known = lock(&self.known);
        let entry = match answer {
            Answer::Found(found, ttl) => {
                let fresh = within(self.bounds.fresh, ttl);
                Known { found, fresh_until: now + fresh, stale_until: now + fresh + self.bounds.stale }
            }
            Answer::Nothing(ttl) => {
                let fresh_until = now + within(self.bounds.negative, ttl);
                Known { found: Found::NOTHING, fresh_until, stale_until: fresh_until }
            }
            Answer::Trouble => {
                let fresh_until = now + self.bounds.negative.0;
                match known.get(&key).filter(|old| old.stale_until > now) {
                    Some(old) => Known { fresh_until, ..old.clone() },
                    None => Known { found: Found::NOTHING, fresh_until, stale_until: fresh_until },
                }
            }
        };
        let found = entry.found.clone();
        if known.len() >= REMEMBERED && !known.contains_key(&key) {
            known.retain(|_, known| known.fresh_until > now);
        }
        // A crowd of fresh ones: what comes beyond is asked again each time, within the limit of queries.
        if known.len() < REMEMBERED || known.contains_key(&key) {
            known.insert(key, entry);
        }
        found
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

/// What an answer says to a question.
fn read(records: &[Record], question: &Question) -> Answer {
    let (mut ips, mut list, mut ttl) = (Ips::new(), Listed::default(), u32::MAX);
    for record in records {
        match (&record.data, question) {
            (RData::A(ip), Question::Ips(_)) => add(&mut ips, ip.0.into()),
            (RData::AAAA(ip), Question::Ips(_)) => add(&mut ips, ip.0.into()),
            (RData::TXT(text), Question::List(identity)) => list.add(&text.txt_data.concat(), identity),
            _ => continue,
        }
        ttl = ttl.min(record.ttl);
    }
    let found = match question {
        Question::Ips(_) => Found::Ips(ips),
        Question::List(_) => Found::List(Arc::new(list)),
    };
    let ttl = Duration::from_secs(ttl.into());
    if found.is_empty() { Answer::Nothing(ttl) } else { Answer::Found(found, ttl) }
}

fn add(ips: &mut Ips, ip: IpAddr) {
    if !ips.is_full() && !ips.contains(&ip) {
        ips.push(ip);
    }
}

/// The queries for some names and for what they lead on to.
struct Search {
    lookups: Arc<Lookups>,
    asked: JoinSet<Heard>,
    /// How many were begun, which is their order as well.
    turn: usize,
}

/// What came of a query.
struct Heard {
    turn: usize,
    name: Name,
    /// Whether a list led to it.
    onward: bool,
    found: Found,
}

impl Search {
    fn begin(&mut self, name: &Name, onward: bool) {
        let questions: Vec<Question> = match &name.leads {
            Leads::Ips { family, .. } => family.versions().iter().copied().map(Question::Ips).collect(),
            Leads::List(identity) => vec![Question::List(identity.clone())],
        };
        for question in questions {
            if self.turn == QUERIES {
                return;
            }
            let (lookups, name, turn) = (self.lookups.clone(), name.clone(), self.turn);
            self.turn += 1;
            self.asked.spawn(async move {
                let found = lookups.ask((name.host.clone(), question)).await;
                Heard { turn, name, onward, found }
            });
        }
    }

    /// The addresses, and asks for what a list leads on to. A list that another one led to leads to no further list.
    fn read(&mut self, heard: Heard) -> Addrs {
        match (heard.found, heard.name.leads) {
            (Found::Ips(ips), Leads::Ips { port, kind, .. }) => {
                ips.into_iter().map(|ip| Addr::new(SocketAddr::new(ip, port), kind)).collect()
            }
            (Found::List(list), _) => {
                let next = |name: &&Name| !heard.onward || matches!(name.leads, Leads::Ips { .. });
                list.names.iter().filter(next).for_each(|name| self.begin(name, true));
                list.addrs.clone()
            }
            _ => Addrs::new(),
        }
    }
}

/// The first of each, then the second of each, and so on.
fn in_turn(found: &BTreeMap<usize, Addrs>) -> Addrs {
    let mut addrs = Addrs::new();
    for turn in 0..MAX_ADDRS {
        for addr in found.values().filter_map(|of| of.get(turn)) {
            if addr.check().is_ok() && !addrs.contains(addr) && addrs.try_push(*addr).is_err() {
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
