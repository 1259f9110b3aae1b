//! Nodes that know each other by host name, with a DNS server of the test's own.

mod common;
#[path = "../../net/tests/common/dns.rs"]
mod dns;

use common::*;
use dns::{Dns, Reply};
use peerkeep::{
    Answer, CommandError, ErrorKind, EventKind, Node, Outcome, PeerAddress, Place, Settings, StepName,
};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Whatever is asked for is on this machine.
async fn here() -> Dns {
    Dns::start(|_, _| Reply::Ips(vec![HERE], 60)).await
}

/// The port, the same for both transports.
fn port(of: &Node) -> u16 {
    let Some(Place::Ip(addr)) = address(of).place else { panic!("an IP address") };
    addr.port
}

fn asking(dns: &Dns) -> Settings {
    let mut settings = settings(1);
    settings.dns.servers = vec![dns.at];
    settings
}

async fn over(a: &Node, b: &Node) -> Option<String> {
    let seen = a.peer(b.id()).await.expect("is known");
    seen.link.and_then(|link| link.transport)
}

/// Both transports by name, and what is remembered of a name: its transport and its IP version.
#[tokio::test]
async fn a_peer_is_reached_by_name_over_tcp_and_quic_also_after_a_restart() {
    let b = node(2, settings(1)).await;
    let dns = here().await;
    let folder = tempfile::tempdir().expect("a folder");
    let a = stored(folder.path(), asking(&dns)).await;
    let port = port(&b);
    let by_quic: PeerAddress =
        format!("/dns4/b.example/udp/{port}/quic-v1/p2p/{}", b.id()).parse().expect("an address");
    a.want(by_quic.clone()).await.expect("is taken");
    connected(&a, &b).await;
    assert_eq!(over(&a, &b).await.as_deref(), Some("quic"));
    a.shutdown().await;

    let a = stored(folder.path(), asking(&dns)).await;
    connected(&a, &b).await;
    let shown: Vec<String> =
        a.peer(b.id()).await.expect("is known").addresses.into_iter().map(|known| known.address).collect();
    assert!(shown.contains(&format!("/dns4/b.example/udp/{port}/quic-v1")), "{shown:?}");
    a.shutdown().await;

    let c = node(3, asking(&dns)).await;
    let by_tcp: PeerAddress = format!("/dns/b.example/tcp/{port}").parse().expect("an address");
    let outcome = c.connect(by_tcp, WAIT).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { peer, .. } if peer == b.id()), "{outcome:?}");
    assert_eq!(over(&c, &b).await.as_deref(), Some("tcp"));
    c.shutdown().await;
    b.shutdown().await;
}

/// Fault Q5: a DNS server that never answers costs one attempt its own deadline, and nobody else anything.
#[tokio::test]
async fn fault_q5_a_silent_dns_server_is_within_the_one_deadline_of_an_attempt() {
    let (b, dns) = (node(2, settings(1)).await, Dns::start(|_, _| Reply::Silence).await);
    let mut impatient = asking(&dns);
    impatient.timeouts.establish = Duration::from_secs(1);
    let a = node(1, impatient).await;
    let mut events = a.events();
    let named = format!("/dns4/b.example/tcp/{}/p2p/{}", port(&b), b.id());
    let began = Instant::now();
    let answer = a.connect_nowait(named.parse::<PeerAddress>().expect("an address")).await;
    assert!(matches!(answer, Ok(Answer::Begun)), "{answer:?}");
    let other = node(3, settings(1)).await;
    a.connect(address(&other), WAIT).await.expect("is accepted");
    connected(&a, &other).await;
    let failed = until(&mut events, "a failure", |event| matches!(event, EventKind::Failed { .. })).await;
    let EventKind::Failed { peer, .. } = &failed.what else { panic!("{failed:?}") };
    assert_eq!(*peer, b.id());
    // One second, less than the patience of a lookup, and a machine that is busy.
    assert!(began.elapsed() < Duration::from_millis(3_500), "{:?}", began.elapsed());
    for node in [a, b, other] {
        node.shutdown().await;
    }
}

/// Other servers are asked from a reload on, and what could not be found before is not remembered as lost.
#[tokio::test]
async fn a_reload_of_the_dns_servers_holds_from_the_next_lookup_on() {
    let b = node(2, settings(1)).await;
    let nobody = Dns::start(|_, _| Reply::Ips(Vec::new(), 60)).await;
    let a = node(1, asking(&nobody)).await;
    let named: PeerAddress = format!("b.example:{}", port(&b)).parse().expect("an address");
    let refused = a.connect(named.clone(), WAIT).await;
    assert_eq!(refused, Err(CommandError::Name("b.example".to_owned())));
    let dns = here().await;
    assert_eq!(a.configure(asking(&dns)).await.expect("is taken"), [] as [&str; 0]);
    let outcome = a.connect(named, WAIT).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { peer, .. } if peer == b.id()), "{outcome:?}");
    let mut many = asking(&dns);
    many.dns.servers = vec![dns.at; 5];
    assert!(a.configure(many).await.is_err(), "at most four");
    a.shutdown().await;
    b.shutdown().await;
}

fn libp2p_asking(dns: &Dns) -> Settings {
    let mut settings = libp2p_settings(1);
    settings.dns.servers = vec![dns.at];
    settings
}

fn libp2p_port(of: &Node) -> u16 {
    let Some(Place::Ip(addr)) = libp2p_address(of).place else { panic!("an IP address") };
    addr.port
}

/// S0.60 and S0.16: names of libp2p peers, over both transports, with and without an identity, and a name that is nowhere.
#[tokio::test]
async fn s0_60_a_libp2p_peer_is_reached_by_name_and_a_failure_says_what_failed() {
    let (b, dns) = (node(2, libp2p_settings(1)).await, here().await);
    let port = libp2p_port(&b);
    let id = format!("/p2p/{}", b.id());
    for (number, place, id) in [
        (3, format!("/dns4/b.example/tcp/{port}"), &*id),
        (4, format!("/dns/b.example/udp/{port}/quic-v1"), &*id),
        (5, format!("/dns4/b.example/tcp/{port}"), ""),
    ] {
        let named: PeerAddress = format!("libp2p:{place}{id}").parse().expect("an address");
        let a = node(number, libp2p_asking(&dns)).await;
        let outcome = a.connect(named, WAIT).await.expect("is accepted");
        assert!(matches!(outcome, Outcome::Connected { peer, .. } if peer == b.id()), "{outcome:?}");
        a.shutdown().await;
    }
    dns.now(|_, _| Reply::Code(hickory_resolver::proto::op::ResponseCode::NXDomain));
    for place in ["/dns4/b.example/tcp/1", "/dns6/b.example/udp/1/quic-v1", "/dnsaddr/b.example"] {
        let a = node(1, libp2p_asking(&dns)).await;
        let mut events = a.events();
        let named: PeerAddress = format!("libp2p:{place}/p2p/{}", b.id()).parse().expect("an address");
        a.connect_nowait(named).await.expect("is accepted");
        let failed = until(&mut events, "a failure", |event| matches!(event, EventKind::Failed { .. })).await;
        let EventKind::Failed { address, error: Some(error), .. } = &failed.what else {
            panic!("{failed:?}")
        };
        assert_eq!((error.step, error.kind), (StepName::Resolve, ErrorKind::Name), "{place}: {error:?}");
        assert!(address.contains(place), "{address}");
        a.shutdown().await;
    }
    b.shutdown().await;
}

/// S0.60: a list of addresses, one list further, and nobody else's entries; a start later the list is still known.
#[tokio::test]
async fn s0_60_a_libp2p_peer_is_reached_by_a_list_of_addresses_which_is_remembered() {
    let (b, c) = (node(2, libp2p_settings(1)).await, node(3, libp2p_settings(1)).await);
    let (b_entry, c_entry) = (libp2p_address(&b), libp2p_address(&c));
    let text = |address: &PeerAddress| format!("dnsaddr={}", address.to_multiaddr().expect("has one"));
    let (b_entry, c_entry) = (text(&b_entry), text(&c_entry));
    let (onward, c_id) = (format!("dnsaddr=/dnsaddr/b.seeds.example/p2p/{}", b.id()), c.id());
    let dns = Dns::start(move |host, _| match host {
        "_dnsaddr.seeds.example" => Reply::Texts(vec![c_entry.clone(), onward.clone()]),
        "_dnsaddr.b.seeds.example" => Reply::Texts(vec![b_entry.clone()]),
        _ => Reply::Ips(Vec::new(), 60),
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let named: PeerAddress =
        format!("libp2p:/dnsaddr/seeds.example/p2p/{}", b.id()).parse().expect("an address");
    let mut ours = libp2p_asking(&dns);
    ours.peers.wanted = vec![named.clone()];
    let a = stored(folder.path(), ours).await;
    connected(&a, &b).await;
    assert!(!a.is_connected(c_id), "its entry is nobody's whom we asked for");
    assert!(a.saved(WAIT).await);
    a.shutdown().await;

    let a = stored(folder.path(), libp2p_asking(&dns)).await;
    connected(&a, &b).await;
    let shown: Vec<String> =
        a.peer(b.id()).await.expect("is known").addresses.into_iter().map(|known| known.address).collect();
    assert!(shown.iter().any(|address| address.contains("/dnsaddr/seeds.example")), "{shown:?}");
    for node in [a, b, c] {
        node.shutdown().await;
    }
}
