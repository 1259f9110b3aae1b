//! Nodes that know each other by host name, with a DNS server of the test's own.

mod common;
#[path = "../../net/tests/common/dns.rs"]
mod dns;

use common::*;
use dns::{Dns, Reply};
use peerkeep::{Answer, CommandError, EventKind, Node, Outcome, PeerAddress, Place, Settings};
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
