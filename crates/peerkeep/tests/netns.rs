//! Whole nodes on networks that lose, cut, reset and delay, in network namespaces of their own. Needs root and the
//! packet filter's tools; says so loudly and passes where it may not. The namespaces end with their processes, so
//! nothing is left behind, whatever happens.

mod common;

use common::*;
use peerkeep::{Direction, EventKind, Identity, Node, Outcome, PeerAddress, Settings, Standing};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Set for the child tests of this binary: without it they do nothing.
const CHILD: &str = "PEERKEEP_NETNS_CHILD";

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs a child test of this binary in a namespace that `prepare` has furnished.
fn in_namespace(child: &str, prepare: &str) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {child}: network namespaces need root");
        return;
    }
    let myself = std::env::current_exe().expect("a path");
    let script = format!("set -e; ip link set lo up; {prepare}\nexec \"$0\" --exact {child} --nocapture");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", &script]).arg(myself).env(CHILD, "1");
    match command.status() {
        Ok(status) => assert!(status.success(), "{child}: {status}"),
        Err(error) => eprintln!("SKIPPED {child}: no unshare: {error}"),
    }
}

/// A packet filter on what comes in, which lets everything in.
const FILTER: &str =
    "nft 'add table ip t; add chain ip t i { type filter hook input priority 0; policy accept; }'";

fn nft(rule: &str) {
    assert!(Command::new("nft").arg(rule).status().expect("nft").success(), "{rule}");
}

/// Settings without limits that a crowd on one machine would meet, and without dials of their own accord.
fn roomy(host: u8) -> Settings {
    let mut settings = settings(host);
    settings.limits.per_ip = 500;
    settings.limits.per_subnet = 500;
    settings.limits.dials_per_minute = 60_000;
    settings.limits.dials_per_minute_per_ip = 60_000;
    settings.peers.target = 0;
    settings.peers.exchange = false;
    settings
}

#[test]
fn s3_56_a_link_that_loses_two_packets_in_a_hundred_costs_less_than_five_handshakes_in_a_hundred() {
    in_namespace("lossy_child", FILTER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lossy_child() {
    const PEERS: u8 = 25;
    const ROUNDS: u32 = 40;
    if !is_child() {
        return;
    }
    nft("add rule ip t i meta l4proto tcp numgen random mod 100 < 2 counter drop");
    let a = node(1, roomy(1)).await;
    let mut dialling = tokio::task::JoinSet::new();
    for number in 2..2 + PEERS {
        let (a, b) = (a.clone(), node(number, roomy(number)).await);
        dialling.spawn(async move {
            for _ in 0..ROUNDS {
                let outcome = a.connect(address(&b), PATIENCE).await.expect("is accepted");
                assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
                // Refused when it is lost already; the next round comes all the same.
                let _ = a.disconnect(b.id()).await;
                status(&a, b.id(), "the end", |peer| peer.link.is_none()).await;
            }
        });
    }
    while let Some(done) = dialling.join_next().await {
        done.expect("every round ends");
    }
    let totals = a.status().await.expect("runs").totals;
    println!("{} attempts, {} failed", totals.dials, totals.failed);
    let dropped = Command::new("nft").args(["list", "table", "ip", "t"]).output().expect("nft").stdout;
    let dropped = counted(&String::from_utf8_lossy(&dropped));
    assert!(dropped[0] > 100, "the link loses: {dropped:?}");
    assert!(totals.dials >= u64::from(PEERS) * u64::from(ROUNDS));
    assert!(totals.failed * 20 <= totals.dials, "{} of {} failed", totals.failed, totals.dials);
}

/// How many packets each counting rule has seen, in the rules' order.
fn counted(table: &str) -> Vec<u64> {
    let after = table.split("counter packets ").skip(1);
    after.map(|rest| rest.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")).collect()
}

#[test]
fn s0_79_loss_partition_resets_and_half_open_ends_and_then_everybody_is_back() {
    in_namespace("storm_child", FILTER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storm_child() {
    if !is_child() {
        return;
    }
    let mut nodes = Vec::new();
    for number in 1..=4 {
        let mut settings = roomy(number);
        settings.liveness.silence = Duration::from_secs(1);
        settings.liveness.deadline = Duration::from_secs(1);
        // For the profile that asks nobody.
        settings.liveness.keepalive_idle = Duration::from_secs(2);
        settings.liveness.keepalive_interval = Duration::from_secs(1);
        settings.timeouts.establish = Duration::from_secs(2);
        nodes.push(node(number, settings).await);
    }
    for a in &nodes {
        for b in nodes.iter().filter(|b| b.id() != a.id()) {
            a.want(address(b)).await.expect("is accepted");
        }
    }
    everybody_is_back(&nodes, "the start").await;
    // Every rule is for both transports: who is cut off over TCP comes back over QUIC, and stays there.
    for (what, rules, must_lose) in [
        ("loss", "meta l4proto { tcp, udp } numgen random mod 100 < 20 drop", false),
        ("a partition", "meta l4proto { tcp, udp } drop", true),
        ("resets", "meta l4proto udp reject; add rule ip t i meta l4proto tcp reject with tcp reset", true),
        ("half-open ends", "ct direction reply drop", true),
    ] {
        let mut events: Vec<_> = nodes.iter().map(Node::events).collect();
        nft(&format!("add rule ip t i {rules}"));
        if must_lose {
            until(&mut events[1], what, |event| matches!(event, EventKind::Lost { .. })).await;
        } else {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        sound(&nodes, what).await;
        nft("flush chain ip t i");
        everybody_is_back(&nodes, what).await;
        sound(&nodes, what).await;
    }
    for node in nodes {
        node.shutdown().await;
    }
}

/// S1.56: with three packets of ten gone, echoes go on coming, and afterwards everybody is back.
#[test]
fn s1_56_at_thirty_per_cent_loss_service_goes_on() {
    in_namespace("heavy_loss_child", FILTER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_loss_child() {
    if !is_child() {
        return;
    }
    let nodes = [node(1, roomy(1)).await, node(2, roomy(2)).await, node(3, roomy(3)).await];
    for a in &nodes {
        for b in nodes.iter().filter(|b| b.id() != a.id()) {
            a.want(address(b)).await.expect("is accepted");
        }
    }
    everybody_is_back(&nodes, "the start").await;
    let mut incoming = nodes[1].accept("echo").expect("a free name");
    tokio::spawn(async move {
        while let Some((_, mut channel)) = incoming.next().await {
            tokio::spawn(async move {
                let (mut from, mut to) = tokio::io::split(&mut channel);
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    nft("add rule ip t i meta l4proto { tcp, udp } numgen random mod 100 < 30 counter drop");
    let (since, mut echoes, mut tries) = (Instant::now(), 0, 0);
    while echoes < 15 && since.elapsed() < Duration::from_secs(150) {
        tries += 1;
        let one = echo(&nodes[0], &nodes[1]);
        echoes += u32::from(tokio::time::timeout(Duration::from_secs(10), one).await.is_ok_and(|came| came));
    }
    println!("{echoes} echoes of {tries} at 30 % loss in {:?}", since.elapsed());
    assert!(echoes == 15, "service went on: {echoes} echoes of {tries}");
    sound(&nodes, "30 % loss").await;
    nft("flush chain ip t i");
    everybody_is_back(&nodes, "30 % loss").await;
    sound(&nodes, "afterwards").await;
    for node in nodes {
        node.shutdown().await;
    }
}

/// A few bytes there and back on a channel of their own; false when the way did not let them.
async fn echo(a: &Node, b: &Node) -> bool {
    let Ok(mut channel) = a.open(b.id(), "echo").await else {
        status(a, b.id(), "it comes back", |peer| peer.standing == Standing::Connected).await;
        return false;
    };
    let mut back = Vec::new();
    let there = async {
        channel.write_all(&[7; 4_000]).await?;
        channel.shutdown().await?;
        channel.read_to_end(&mut back).await
    };
    there.await.is_ok() && back == [7; 4_000]
}

async fn everybody_is_back(nodes: &[Node], after: &str) {
    let since = Instant::now();
    for a in nodes {
        for b in nodes.iter().filter(|b| b.id() != a.id()) {
            status(a, b.id(), after, |peer| peer.standing == Standing::Connected).await;
        }
    }
    println!("all are connected {} ms after {after}", since.elapsed().as_millis());
}

/// What holds at any time: no node is ill, and nobody is connected to anybody twice.
async fn sound(nodes: &[Node], when: &str) {
    let others = u32::try_from(nodes.len()).expect("few") - 1;
    for node in nodes {
        let status = node.status().await.expect("runs");
        assert!(status.health.is_empty(), "{when}: {:?}", status.health);
        assert!(status.counts.connected <= others, "{when}: {:?}", status.counts);
        assert_eq!((status.counts.known, status.counts.wanted), (others, others), "{when}");
        assert_eq!((status.totals.violations, status.totals.gave_up), (0, 0), "{when}");
    }
}

const LOWER: &str = "50.28.104.50";
const HIGHER: &str = "69.167.168.176";

/// A second namespace, `b`, which ends with this one.
const SECOND: &str = "mount -t tmpfs none /run; ip netns add b; ip -n b link set lo up";

/// Two namespaces with a cable between them: this one has the lower address, `b` the higher.
fn cable() -> String {
    format!("{SECOND}; ip link add va type veth peer name vb netns b; {}", addressed("va", "vb"))
}

/// Gives the two ends of a cable their addresses and ways to each other.
fn addressed(here: &str, there: &str) -> String {
    format!(
        "ip addr add {LOWER}/32 dev {here}; ip link set {here} up; ip route add {HIGHER}/32 dev {here}; \
         ip -n b addr add {HIGHER}/32 dev {there}; ip -n b link set {there} up; \
         ip -n b route add {LOWER}/32 dev {there}"
    )
}

#[test]
fn s3_15_s3_66_the_lower_address_of_the_two_sends_the_first_packet_of_every_link() {
    in_namespace("direction_child", &cable());
}

#[test]
fn direction_child() {
    if !is_child() {
        return;
    }
    nft("add table ip t; add chain ip t i { type filter hook input priority 0; }; \
         add chain ip t o { type filter hook output priority 0; }; \
         add rule ip t i tcp flags & (syn | ack) == syn counter; \
         add rule ip t o tcp flags & (syn | ack) == syn counter");
    for _ in 0..3 {
        let mut lower = Lone::start(false, "keep");
        let mut higher = Lone::start(true, "keep");
        assert_eq!(lower.line("connected "), "outbound");
        assert_eq!(higher.line("connected "), "inbound");
    }
    let table = Command::new("nft").args(["list", "table", "ip", "t"]).output().expect("nft").stdout;
    let [from_higher, from_lower] = counted(&String::from_utf8_lossy(&table))[..] else {
        panic!("two rules")
    };
    println!("{from_lower} first packets from {LOWER}, {from_higher} from {HIGHER}");
    assert!(from_lower >= 3 && from_higher == 0, "{from_lower} and {from_higher}");
}

#[test]
fn s3_78_on_a_lan_links_are_up_within_a_second() {
    in_namespace("lan_child", &cable());
}

#[test]
fn lan_child() {
    if is_child() {
        let round_trip = round_trip();
        assert!(round_trip < Duration::from_millis(20), "{round_trip:?}");
        up_within_a_second(200, 1);
    }
}

#[test]
fn s3_78_at_a_hundred_milliseconds_round_trip_links_are_up_within_a_second() {
    if !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("SKIPPED: a slow cable needs TUN devices");
        return;
    }
    in_namespace("slow_child", SECOND);
}

#[test]
fn slow_child() {
    if !is_child() {
        return;
    }
    let Some(_cable) = SlowCable::lay() else { return };
    let round_trip = round_trip();
    assert!((100..150).contains(&round_trip.as_millis()), "{round_trip:?}");
    // Nobody meets anybody, proofs and all, in one round trip: so the cable is what the links go through.
    up_within_a_second(60, 200);
}

/// The quickest of a few refusals from the other namespace.
fn round_trip() -> Duration {
    let refusal = |_| {
        let since = Instant::now();
        let error = std::net::TcpStream::connect((HIGHER, 9)).expect_err("nobody listens there");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        since.elapsed()
    };
    (0..5).map(refusal).min().expect("five")
}

/// One node dials the other so many times. What it says and what its caller sees must both be below a second at the
/// 99th percentile, and not below what the cable allows.
fn up_within_a_second(dials: usize, least_ms: u64) {
    let mut higher = Lone::start(true, "serve");
    higher.line("serving");
    let mut lower = Lone::start(false, "dial");
    let (mut told, mut seen) = (Vec::new(), Vec::new());
    for _ in 0..dials {
        let line = lower.line("took ");
        let (event, caller) = line.split_once(' ').expect("two numbers");
        told.push(event.parse::<u64>().expect("a number"));
        seen.push(caller.parse::<u64>().expect("a number"));
    }
    for (what, took) in [("the event", &mut told), ("the caller", &mut seen)] {
        took.sort_unstable();
        let p99 = took[(dials * 99).div_ceil(100) - 1];
        println!("{what}: {} to {} ms, p99 {p99} ms, {dials} dials", took[0], took[dials - 1]);
        assert!(p99 < 1_000, "{what}: {took:?}");
        assert!(what == "the event" || took[0] >= least_ms, "{what}: {took:?}");
    }
}

/// The forwarder of a cable with a round trip of 100 ms. It ends with this value, or with its standard input.
struct SlowCable(Child);

impl SlowCable {
    fn lay() -> Option<SlowCable> {
        let mut command = Command::new("python3");
        command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/delay.py"), "50", "b"]);
        let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => {
                eprintln!("SKIPPED: no python3 for the slow cable: {error}");
                return None;
            }
        };
        let said = child.stdout.take().expect("piped");
        let cable = SlowCable(child);
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).expect("text");
        assert_eq!(line.trim(), "ready");
        let script = format!("set -e; {}", addressed("da", "db"));
        assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success());
        Some(cable)
    }
}

impl Drop for SlowCable {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node in a process of its own, in one of the two namespaces; ends with this value.
struct Lone {
    child: Child,
    _stdin: ChildStdin,
    lines: BufReader<ChildStdout>,
}

impl Lone {
    fn start(is_higher: bool, what: &str) -> Lone {
        let myself = std::env::current_exe().expect("a path");
        let mut command = Command::new("ip");
        if is_higher {
            command.args(["netns", "exec", "b"]).arg(myself);
        } else {
            command = Command::new(myself);
        }
        command.args(["--exact", "lone_child", "--nocapture"]).env("PEERKEEP_LONE", what);
        command.env("PEERKEEP_LONE_HIGHER", if is_higher { "1" } else { "0" });
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ourselves can run");
        let stdin = child.stdin.take().expect("piped");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Lone { child, _stdin: stdin, lines }
    }

    /// What follows that mark on the next line that has it.
    fn line(&mut self, mark: &str) -> String {
        for line in self.lines.by_ref().lines() {
            let line = line.expect("text");
            if let Some((_, rest)) = line.split_once(mark) {
                return rest.to_owned();
            }
        }
        panic!("it ended without saying {mark}");
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn lone_child() {
    let Ok(what) = std::env::var("PEERKEEP_LONE") else { return };
    let is_higher = std::env::var("PEERKEEP_LONE_HIGHER").is_ok_and(|value| value == "1");
    let (mine, theirs) = if is_higher { (HIGHER, LOWER) } else { (LOWER, HIGHER) };
    // The identities are ordered the other way round, so that they cannot be what decides.
    let (a, b) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
    let (low, high) = if a.id().key() < b.id().key() { (a, b) } else { (b, a) };
    let (me, other) = if is_higher { (low, high) } else { (high, low) };
    let mut settings = roomy(1);
    settings.listen.addresses = vec![format!("{mine}:7330").parse().expect("an address")];
    settings.network.open = true;
    settings.network.local_ip = Some(mine.parse().expect("an address"));
    settings.preference = Settings::default().preference;
    let peer: PeerAddress = format!("/ip4/{theirs}/tcp/7330/p2p/{}", other.id()).parse().expect("an address");
    let node = Node::builder().identity(me).config(settings).start().await.expect("the node starts");
    let mut events = node.events();
    match what.as_str() {
        "keep" => {
            node.want(peer).await.expect("is accepted");
            let up = until(&mut events, "it", |event| matches!(event, EventKind::Connected { .. })).await;
            let EventKind::Connected { direction, .. } = up.what else { unreachable!("looked for") };
            println!("connected {}", if direction == Direction::Outbound { "outbound" } else { "inbound" });
        }
        "serve" => println!("serving"),
        "dial" => loop {
            let since = Instant::now();
            let outcome = node.connect(peer.clone(), PATIENCE).await.expect("is accepted");
            let seen = since.elapsed().as_millis();
            assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
            let up = until(&mut events, "it", |event| matches!(event, EventKind::Connected { .. })).await;
            let EventKind::Connected { took_ms, .. } = up.what else { unreachable!("looked for") };
            println!("took {took_ms} {seen}");
            node.disconnect(other.id()).await.expect("is accepted");
            status(&node, other.id(), "the end", |peer| peer.link.is_none()).await;
        },
        other => panic!("{other}"),
    }
    // Until we are killed, or whoever started us is gone.
    let _ = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await;
}

#[test]
fn fault_l6_an_address_that_goes_and_returns_is_listened_on_listed_and_told() {
    in_namespace("address_child", "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_child() {
    if !is_child() {
        return;
    }
    let ip = |arguments: &str| {
        let arguments = arguments.split(' ');
        assert!(Command::new("ip").args(arguments).status().expect("iproute2").success());
    };
    ip("addr add 10.9.9.9/32 dev lo");
    let mut settings = roomy(1);
    settings.network.open = true;
    settings.listen.addresses = vec![([10, 9, 9, 9], 7_330).into(), ([127, 0, 0, 1], 7_330).into()];
    let (a, b) = (node(1, settings).await, node(2, roomy(2)).await);
    let there = address(&a);
    assert!(there.to_string().starts_with("/ip4/10.9.9.9/tcp/7330/"), "{there}");
    let mut events = a.events();
    let mut changed = async |what: &str, is_there: bool| {
        let listed = |all: &[String]| all.contains(&there.to_string()) == is_there;
        let fits =
            |event: &EventKind| matches!(event, EventKind::NetworkChanged { addresses } if listed(addresses));
        until(&mut events, what, fits).await;
        let all: Vec<String> = a.addresses().iter().map(ToString::to_string).collect();
        assert!(listed(&all), "{what}: {all:?}");
        assert!(all.iter().any(|address| address.contains("127.0.0.1")), "the other one stays: {all:?}");
    };
    ip("addr del 10.9.9.9/32 dev lo");
    changed("the address is gone", false).await;
    let outcome = b.connect(there.clone(), Duration::from_millis(200)).await.expect("is accepted");
    assert!(!matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    b.reset(a.id()).await.expect("is accepted");
    ip("addr add 10.9.9.9/32 dev lo");
    changed("the address is back", true).await;
    let outcome = b.connect(there.clone(), PATIENCE).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    let seen = b.peer(a.id()).await.and_then(|peer| peer.link?.remote).unwrap_or_default();
    assert!(seen.starts_with("10.9.9.9:"), "{seen}");
}

#[test]
fn s3_54_a_storm_ends_the_same_with_keepalive_only_and_the_short_handshake() {
    once_more_with_keepalive_only("s0_79");
}

/// Over TCP it is the kernel that finds the length that passes, where it is told to: see the operations page.
#[test]
fn fault_c8_over_tcp_everything_arrives_where_the_kernel_probes() {
    // One packet is one packet here: neither the sender's parts of it nor the receiver's heap of them.
    let lo = "ip link set lo mtu 1500 gso_max_segs 1";
    in_namespace("narrow_child", &format!("{FILTER}; {lo}; echo 1 > /proc/sys/net/ipv4/tcp_mtu_probing"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn narrow_child() {
    if !is_child() {
        return;
    }
    let tcp_alone = |host| {
        let mut settings = roomy(host);
        settings.quic.enabled = false;
        settings
    };
    let (a, b) = (node(1, tcp_alone(1)).await, node(2, tcp_alone(2)).await);
    a.connect(address(&b), PATIENCE).await.expect("is accepted");
    connected(&a, &b).await;
    send_over(&a, &b, 300_000).await;
    // The way gets narrower under a running connection, and says nothing about it.
    nft("add rule ip t i meta l4proto tcp meta length > 1250 counter drop");
    let before = a.peer(b.id()).await.expect("known").link.expect("connected").conn;
    send_over(&a, &b, 300_000).await;
    let after = a.peer(b.id()).await.expect("known").link.expect("connected").conn;
    assert_eq!(after, before, "the same connection");
    let dropped = Command::new("nft").args(["list", "table", "ip", "t"]).output().expect("nft").stdout;
    let dropped = counted(&String::from_utf8_lossy(&dropped));
    assert!(dropped[0] > 0, "long packets were lost: {dropped:?}");
    a.shutdown().await;
    b.shutdown().await;
}

/// What the kernel refuses to send is a lost packet. It seldom runs out of buffers where a test can make it; its filter
/// refuses a datagram in the same call, by another number, and quinn asks for neither.
#[test]
fn fault_r11_a_datagram_that_the_kernel_refuses_is_a_lost_packet() {
    let refuse = "nft 'add chain ip t o { type filter hook output priority 0; policy accept; }'";
    in_namespace("refused_child", &format!("{FILTER}; {refuse}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_child() {
    if !is_child() {
        return;
    }
    let quic_alone = |host: u8| {
        let mut settings = roomy(host);
        settings.listen.addresses = vec![peerkeep::ListenAddress::quic(([127, 0, 0, host], 0).into())];
        settings
    };
    let (a, b) = (node(1, quic_alone(1)).await, node(2, quic_alone(2)).await);
    nft("add rule ip t o meta l4proto udp numgen random mod 100 < 10 counter drop");
    a.connect(address(&b), PATIENCE).await.expect("is accepted");
    connected(&a, &b).await;
    let before = a.peer(b.id()).await.expect("known").link.expect("connected").conn;
    send_over(&a, &b, 1_000_000).await;
    let after = a.peer(b.id()).await.expect("known").link.expect("connected").conn;
    assert_eq!(after, before, "the same connection");
    let refused = Command::new("nft").args(["list", "table", "ip", "t"]).output().expect("nft").stdout;
    let refused = counted(&String::from_utf8_lossy(&refused));
    assert!(refused[0] > 10, "datagrams were refused: {refused:?}");
    a.shutdown().await;
    b.shutdown().await;
}
