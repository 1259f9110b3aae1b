//! A node with the smallest stack there can be: plaintext frames of a length byte, a tag and a body. It proves nothing
//! about who anybody is and exists to exercise net's own behaviour.
#![allow(dead_code, unused_imports, missing_docs)]

mod plain;

pub use plain::{Handle, Plain, PlainMeeting, PlainPeer};

use peerkeep_core::{
    Action, Addr, Addrs, BanRef, Command, Config, ConnRef, ContactRef, PeerKey, StackId, Time, Told, View,
    Who,
};
use peerkeep_net::{
    Directory, JournalOptions, Listener, Observer, Outcome, Owner, Running, Setup, Shards, Stopped,
    StreamDriver, StreamOptions, TcpOptions, Tickets, Until, prepare,
};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// Nothing in these tests takes this long unless it hangs.
pub const LONG: Duration = Duration::from_secs(20);

pub struct Node {
    pub key: PeerKey,
    pub owner: Owner,
    pub running: Running,
    pub addr: Addr,
    pub directory: Directory<Handle>,
    pub tickets: Tickets,
    pub events: mpsc::Receiver<Event>,
    pub shards: Shards,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub who: Who,
    pub conn: ConnRef,
    pub what: Told,
}

struct Teller(mpsc::Sender<Event>);

impl Observer for Teller {
    fn told(&mut self, view: View<'_>, contact: ContactRef, conn: ConnRef, what: Told, _now: Time) {
        if let Some(seen) = view.contact(contact) {
            let _ = self.0.try_send(Event { who: seen.who, conn, what });
        }
    }
    fn store(&mut self, _view: View<'_>, _contact: ContactRef) {}
    fn store_ban(&mut self, _view: View<'_>, _ban: BanRef) {}
}

pub fn key(number: u8) -> PeerKey {
    PeerKey::ed25519([number; 32])
}

pub fn who(number: u8) -> Who {
    Who::mesh(key(number))
}

/// A configuration that does not wait for turns and does not come back by itself within a test.
pub fn config(number: u8) -> Config {
    let mut config = Config::new(key(number), 1);
    config.preference = peerkeep_core::Preference::Nobody;
    config.limits.per_ip = 1_000;
    config.limits.per_subnet = 1_000;
    config.limits.dials_per_minute = 10_000;
    config.limits.dials_per_minute_per_ip = 10_000;
    config.rules.iter_mut().for_each(|rules| rules.target = 0);
    config
}

pub async fn node(number: u8) -> Node {
    start(config(number), None, Vec::new()).await
}

pub async fn start(config: Config, journal: Option<&Path>, first: Vec<Action>) -> Node {
    let key = config.me;
    let (owner, engine) = prepare();
    let shards = Shards::start(2).expect("threads");
    let tickets = Tickets::new(StackId::Mesh);
    let directory = Directory::default();
    let listener = Listener::bind(loopback(0), &TcpOptions::default()).expect("a free port");
    let addr = Addr::tcp(listener.local());
    let around = owner.surroundings();
    let driver = StreamDriver::new(
        Plain { key },
        StreamOptions::default(),
        &shards,
        &around,
        tickets.clone(),
        &directory,
    );
    let serving =
        listener.serve(tickets.clone(), owner.facts(), owner.counters().clone()).expect("it can be watched");
    let (tell, events) = mpsc::channel(16_384);
    let running = engine
        .start(Setup {
            config,
            seed: [7; 32],
            journal: journal.map(|dir| JournalOptions::new(dir.to_path_buf())),
            first: Box::new(first.into_iter()),
            drivers: vec![Box::new(driver)],
            listeners: vec![serving],
            observer: Box::new(Teller(tell)),
        })
        .expect("a sound configuration");
    Node { key, owner, running, addr, directory, tickets, events, shards }
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub fn addrs(list: &[Addr]) -> Addrs {
    list.iter().copied().collect()
}

impl Node {
    pub fn who(&self) -> Who {
        Who::mesh(self.key)
    }

    pub async fn connect(&self, who: Who, to: &[Addr]) -> Outcome {
        let connect = self.owner.connect(who, addrs(to), Until::FirstAttempt, LONG);
        connect.await.expect("the owner runs")
    }

    /// The next event of that kind, skipping others.
    pub async fn event(&mut self, fits: impl Fn(&Event) -> bool) -> Event {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the owner runs");
                if fits(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(LONG, search).await.expect("the event comes")
    }

    pub async fn conn_count(&self) -> usize {
        self.owner.ask(|view, _| view.conns().count()).await.expect("the owner runs")
    }

    /// Waits for a state of the core, asking after each change of anything.
    pub async fn until(&self, what: &str, fits: impl Fn(View<'_>) -> bool + Send + Clone + 'static) {
        let search = async {
            loop {
                let fits = fits.clone();
                if self.owner.ask(move |view, _| fits(view)).await.expect("the owner runs") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, search).await.unwrap_or_else(|_| panic!("never came: {what}"));
    }

    pub async fn stop(self) -> Stopped {
        self.owner.shutdown(Duration::from_secs(5)).await.expect("the owner runs");
        tokio::time::timeout(LONG, self.running.stopped()).await.expect("it stops")
    }

    pub async fn command(&self, command: Command) -> peerkeep_core::Answer {
        self.owner.command(command).await.expect("the owner runs")
    }
}

/// A port that answers no SYN: bound and listening, its queue full, nobody accepting.
pub struct Blackhole {
    _socket: socket2::Socket,
    _fill: Vec<socket2::Socket>,
    pub addr: Addr,
}

pub fn blackhole() -> Blackhole {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&loopback(0).into()).expect("a free port");
    socket.listen(0).expect("listening");
    let to = socket.local_addr().expect("bound").as_socket().expect("an IP socket");
    // The kernel lets a few more in than the backlog says.
    let fill = (0..8)
        .map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).expect("a socket");
            let _ = client.connect(&to.into());
            client
        })
        .collect();
    Blackhole { _socket: socket, _fill: fill, addr: Addr::tcp(to) }
}

/// A port where nobody listens: bound, so that nobody else takes it meanwhile.
pub fn refusing() -> (socket2::Socket, Addr) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&loopback(0).into()).expect("a free port");
    let at = socket.local_addr().expect("bound").as_socket().expect("an IP socket");
    (socket, Addr::tcp(at))
}

/// Set for test children, which are tests of the same binary: without it they do nothing.
pub const CHILD: &str = "PEERKEEP_TEST_CHILD";

pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs a child test of the same binary in a network namespace with a packet filter that lets everything in. Says
/// loudly when it may not.
pub fn in_namespace(child: &str) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {child}: network namespaces need root");
        return;
    }
    let myself = std::env::current_exe().expect("a path");
    let filter = "add table ip t; add chain ip t i { type filter hook input priority 0; policy accept; }";
    let script = format!("ip link set lo up && nft '{filter}' && exec \"$0\" --exact {child} --nocapture");
    let mut command = std::process::Command::new("unshare");
    command.args(["--net", "sh", "-c", &script]).arg(myself).env(CHILD, "1");
    match command.status() {
        Ok(status) => assert!(status.success(), "{child}: {status}"),
        Err(error) => eprintln!("SKIPPED {child}: no unshare: {error}"),
    }
}
