//! Lookups against a real DNS server on loopback that answers as it should not.

#[path = "../tests/common/dns.rs"]
mod dns;

use super::*;
use crate::Family;
use dns::{Dns, Reply};
use hickory_resolver::proto::op::ResponseCode;
use peerkeep_core::AddrKind;
use std::net::Ipv6Addr;

const HOUR: Duration = Duration::from_secs(3_600);

/// Short times for what does not come; what is learned counts for nothing unless a test says otherwise.
fn quick() -> Bounds {
    let ms = Duration::from_millis;
    Bounds {
        query: ms(300),
        patience: ms(1_500),
        settle: ms(200),
        fresh: (Duration::ZERO, Duration::ZERO),
        negative: (Duration::ZERO, Duration::ZERO),
        stale: HOUR,
    }
}

fn lookups(dns: &Dns, bounds: Bounds) -> Arc<Lookups> {
    let lookups = Lookups::new(bounds);
    lookups.ask_servers(vec![dns.at]);
    Arc::new(lookups)
}

fn name(host: &str, family: Family) -> Name {
    Name { host: host.to_owned(), leads: Leads::Ips { port: 443, kind: AddrKind::Quic, family } }
}

fn v4(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(192, 0, high, low).into()
}

fn v6(number: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number).into()
}

fn ips(addrs: &Addrs) -> Vec<IpAddr> {
    addrs.iter().map(Addr::ip_addr).collect()
}

async fn find(lookups: &Arc<Lookups>, host: &str) -> Vec<IpAddr> {
    ips(&lookups.find(&[name(host, Family::V4)]).await)
}

/// S0.60.
#[tokio::test]
async fn both_ip_versions_of_all_names_come_in_turn_with_port_and_transport() {
    let many = |from: u16| (from..from + 10).flat_map(|number| [v4(number), v6(number)]).collect();
    let dns =
        Dns::start(move |host, _| Reply::Ips(many(if host == "a.example" { 1 } else { 100 }), 60)).await;
    let lookups = lookups(&dns, quick());
    let found = lookups.find(&[name("a.example", Family::Any)]).await;
    assert_eq!(ips(&found), [v6(1), v4(1), v6(2), v4(2), v6(3), v4(3), v6(4), v4(4)]);
    assert!(found.iter().all(|addr| addr.port == 443 && addr.kind == AddrKind::Quic));
    let found = lookups.find(&[name("a.example", Family::V6), name("b.example", Family::V4)]).await;
    assert_eq!(ips(&found), [v6(1), v4(100), v6(2), v4(101), v6(3), v4(102), v6(4), v4(103)]);
    let leads = Leads::Ips { port: 443, kind: AddrKind::Tcp, family: Family::V4 };
    let (tcp, again) = (Name { host: "a.example".into(), leads }, name("a.example", Family::V4));
    let found = lookups.find(&[tcp, again]).await;
    assert_eq!(found.iter().filter(|addr| addr.kind == AddrKind::Tcp).count(), 4, "{found:?}");
    assert_eq!(find(&lookups, "localhost").await, [IpAddr::from(Ipv4Addr::LOCALHOST)], "nobody is asked");
}

#[tokio::test]
async fn one_silent_version_does_not_hold_the_other_up() {
    let dns = Dns::start(|_, kind| match kind {
        RecordType::A => Reply::Ips(vec![v4(1)], 60),
        _ => Reply::Silence,
    })
    .await;
    let lookups = lookups(&dns, Bounds { query: HOUR, patience: HOUR, ..quick() });
    let found = timeout(Duration::from_secs(20), lookups.find(&[name("a.example", Family::Any)])).await;
    assert_eq!(ips(&found.expect("in time")), [v4(1)]);
}

/// Fault Q1.
#[tokio::test]
async fn fault_q1_trouble_of_any_kind_ends_in_time_and_the_last_good_answer_serves_on() {
    let good = || Reply::Ips(vec![v4(7)], 60);
    let dns = Dns::start(move |_, _| good()).await;
    let lookups = lookups(&dns, quick());
    assert_eq!(find(&lookups, "known.example").await, [v4(7)]);
    let loops = |host: &str| {
        Reply::Alias(if host == "new.example" { "b.example." } else { "new.example." }.to_owned())
    };
    let troubles = [
        ("silence", Reply::Silence),
        ("SERVFAIL", Reply::Code(ResponseCode::ServFail)),
        ("REFUSED", Reply::Code(ResponseCode::Refused)),
        ("garbage", Reply::Garbage(vec![0xc0; 40])),
    ];
    for (what, reply) in troubles {
        dns.now(move |_, _| reply.clone());
        let began = Instant::now();
        assert_eq!(find(&lookups, "known.example").await, [v4(7)], "{what}");
        assert_eq!(find(&lookups, "new.example").await, [] as [IpAddr; 0], "{what}");
        assert!(began.elapsed() < Duration::from_secs(10), "{what} took {:?}", began.elapsed());
    }
    dns.now(move |host, _| loops(host));
    let before = dns.asked();
    assert_eq!(find(&lookups, "new.example").await, [] as [IpAddr; 0], "names that lead to each other");
    assert!(dns.asked() - before < 64, "{} questions", dns.asked() - before);
    // That there is nothing is an answer, and a better one than an old one.
    for nothing in [Reply::Code(ResponseCode::NXDomain), Reply::Ips(Vec::new(), 60)] {
        dns.now(move |_, _| good());
        assert_eq!(find(&lookups, "known.example").await, [v4(7)]);
        dns.now(move |_, _| nothing.clone());
        assert_eq!(find(&lookups, "known.example").await, [] as [IpAddr; 0]);
    }
}

/// Fault Q1: a name that is not there is not asked for at every dial.
#[tokio::test]
async fn fault_q1_that_there_is_nothing_or_nobody_is_remembered_for_a_while() {
    let dns = Dns::start(|_, _| Reply::Code(ResponseCode::NXDomain)).await;
    let lookups = lookups(&dns, Bounds { negative: (HOUR, HOUR), ..quick() });
    assert_eq!(find(&lookups, "a.example").await, [] as [IpAddr; 0]);
    let asked = dns.asked();
    dns.now(|_, _| Reply::Ips(vec![v4(1)], 60));
    assert_eq!(find(&lookups, "a.example").await, [] as [IpAddr; 0]);
    assert_eq!(dns.asked(), asked);
    lookups.refresh();
    assert_eq!(find(&lookups, "a.example").await, [v4(1)], "another network may know it");
}

/// Fault Q2.
#[tokio::test]
async fn fault_q2_answers_without_end_cost_eight_addresses_and_loops_of_compression_nothing() {
    let many: Vec<IpAddr> = (0..2_000).map(v4).collect();
    let dns = Dns::start(move |_, _| Reply::Again(many.clone(), 500)).await;
    // Only the first of 500 messages has to be read in time, and all of them by a busy machine.
    let seconds = Duration::from_secs;
    let lookups = lookups(&dns, Bounds { query: seconds(8), patience: seconds(8), ..quick() });
    let found = timeout(seconds(20), find(&lookups, "million.example")).await.expect("in time");
    assert_eq!(found.len(), MAX_ADDRS, "a million of them were on offer");
    lookups.refresh();
    // A name that points at itself, and two that point at each other.
    for bytes in [vec![0xc0, 29], vec![0xc0, 31, 0xc0, 29]] {
        let mut rest = bytes.clone();
        rest.extend([0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        dns.now(move |_, _| Reply::Garbage(rest.clone()));
        assert_eq!(find(&lookups, "loop.example").await, [] as [IpAddr; 0], "{bytes:?}");
    }
}

/// Fault Q4.
#[tokio::test]
async fn fault_q4_answers_that_change_each_time_are_asked_for_within_bounds() {
    let dns = Dns::start(|_, _| Reply::Ips(vec![v4(1)], 0)).await;
    let often = lookups(&dns, Bounds { fresh: (HOUR, HOUR), ..quick() });
    let seldom = lookups(&dns, quick());
    assert_eq!(find(&often, "a.example").await, [v4(1)]);
    let asked = dns.asked();
    dns.now(|_, _| Reply::Ips(vec![v4(2)], u32::MAX));
    assert_eq!(find(&often, "a.example").await, [v4(1)], "a life of 0 s is made longer");
    assert_eq!(dns.asked(), asked);
    assert_eq!(find(&seldom, "a.example").await, [v4(2)]);
    dns.now(|_, _| Reply::Ips(vec![v4(3)], 60));
    assert_eq!(find(&seldom, "a.example").await, [v4(3)], "a life of 136 years is made shorter");
    often.refresh();
    assert_eq!(find(&often, "a.example").await, [v4(3)], "another network, another answer");
}

/// Fault Q5: more lookups than queries at a time, all of them at a server that never answers.
#[tokio::test]
async fn fault_q5_a_silent_server_ends_a_crowd_of_lookups_in_time_and_stops_nothing_else() {
    let dns = Dns::start(|_, _| Reply::Ips(vec![v4(1)], 60)).await;
    let lookups = lookups(&dns, Bounds { fresh: (HOUR, HOUR), ..quick() });
    assert_eq!(find(&lookups, "known.example").await, [v4(1)]);
    dns.now(|_, _| Reply::Silence);
    let before = dns.asked();
    let began = Instant::now();
    let crowd: Vec<_> = (0..CONCURRENT * 4)
        .map(|number| {
            let lookups = lookups.clone();
            tokio::spawn(async move { find(&lookups, &format!("n{number}.example")).await })
        })
        .collect();
    assert_eq!(find(&lookups, "known.example").await, [v4(1)]);
    assert!(crowd.iter().all(|one| !one.is_finished()), "what is known waits for nobody");
    for one in crowd {
        assert_eq!(one.await.expect("no panic"), [] as [IpAddr; 0]);
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(dns.asked() - before <= CONCURRENT * 4 * 4, "{} questions", dns.asked());
    assert_eq!(lookups.permits.available_permits(), CONCURRENT, "each turn was given back");
}

#[tokio::test]
async fn what_is_remembered_is_bounded_and_the_fresh_stay() {
    let lookups = Lookups::new(Bounds { fresh: (HOUR, HOUR), ..Bounds::default() });
    let mut one = Ips::new();
    one.push(v4(1));
    for number in 0..REMEMBERED + 10 {
        let answer = Answer::Found(Found::Ips(one.clone()), HOUR);
        let key = (number.to_string(), Question::Ips(Version::V4));
        assert_eq!(lookups.learn(key, answer), Found::Ips(one.clone()));
    }
    let known = lock(&lookups.known);
    assert_eq!(known.len(), REMEMBERED);
    assert!(known.contains_key(&("0".to_owned(), Question::Ips(Version::V4))));
}

fn list(host: &str) -> Name {
    let identity = ID.parse::<multiaddr::PeerId>().expect("an id").to_bytes();
    Name { host: host.to_owned(), leads: Leads::List(identity.into()) }
}

const ID: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

fn texts(places: &[&str]) -> Reply {
    Reply::Texts(places.iter().map(|place| format!("dnsaddr={place}/p2p/{ID}")).collect())
}

async fn listed(lookups: &Arc<Lookups>, host: &str) -> Vec<String> {
    lookups.find(&[list(host)]).await.iter().map(ToString::to_string).collect()
}

/// S0.60: the entries of the identity, those that are hosts, and those of one further list, and no deeper.
#[tokio::test]
async fn s0_60_a_list_of_addresses_leads_to_those_of_the_identity_and_one_list_further() {
    let other = "dnsaddr=/ip4/192.0.2.9/tcp/1/p2p/12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq";
    let dns = Dns::start(move |host, _| match host {
        "_dnsaddr.a.example" => {
            let Reply::Texts(mut all) =
                texts(&["/ip4/192.0.2.1/tcp/4001", "/dns4/h.example/tcp/4002", "/dnsaddr/b.example"])
            else {
                unreachable!("texts")
            };
            all.push(other.to_owned());
            Reply::Texts(all)
        }
        "_dnsaddr.b.example" => texts(&["/ip6/2001:db8::2/udp/4003/quic-v1", "/dnsaddr/c.example"]),
        "_dnsaddr.c.example" => texts(&["/ip4/192.0.2.3/tcp/1"]),
        "h.example" => Reply::Ips(vec![v4(7)], 60),
        _ => Reply::Code(ResponseCode::NXDomain),
    })
    .await;
    let lookups = lookups(&dns, Bounds { settle: HOUR, fresh: (HOUR, HOUR), ..quick() });
    let mut found = listed(&lookups, "a.example").await;
    found.sort();
    assert_eq!(found, ["192.0.0.7:4002/tcp", "192.0.2.1:4001/tcp", "[2001:db8::2]:4003/quic"]);
    let asked = dns.asked();
    assert_eq!(listed(&lookups, "a.example").await.len(), 3);
    assert_eq!(dns.asked(), asked, "it is remembered as any answer");
    assert_eq!(listed(&lookups, "nobody.example").await, [] as [&str; 0]);
}

/// Fault Q2 for lists: they are cut, also when they lead to each other.
#[tokio::test]
async fn fault_q2_lists_without_end_cost_eight_addresses_and_a_few_questions() {
    let dns = Dns::start(|_, _| {
        let many: Vec<String> =
            (0..300).map(|number| format!("/ip4/192.0.2.{}/tcp/1", number % 250)).collect();
        texts(&many.iter().map(String::as_str).collect::<Vec<_>>())
    })
    .await;
    let lookups = lookups(&dns, Bounds { settle: HOUR, ..quick() });
    assert_eq!(listed(&lookups, "a.example").await.len(), MAX_ADDRS);
    dns.now(|_, _| texts(&["/dnsaddr/a.example", "/dnsaddr/b.example", "/dnsaddr/c.example"]));
    let before = dns.asked();
    assert_eq!(listed(&lookups, "a.example").await, [] as [&str; 0]);
    assert_eq!(dns.asked() - before, 4, "the list, and three that it leads to");
    // Four lists of four lists of four hosts: many questions, were they all asked.
    dns.now(|host, _| {
        let names: Vec<String> =
            (0..4).map(|number| format!("n{number}-{}", host.replace('_', "x"))).collect();
        let deep = host.starts_with("_dnsaddr.n");
        let each = names
            .iter()
            .map(|name| if deep { format!("/dns/{name}/tcp/1") } else { format!("/dnsaddr/{name}") });
        texts(&each.collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>())
    });
    let before = dns.asked();
    let all: Vec<Name> = (0..4).map(|number| list(&format!("{number}.example"))).collect();
    assert_eq!(ips(&lookups.find(&all).await), [] as [IpAddr; 0]);
    assert!(dns.asked() - before <= QUERIES * 2, "{} questions", dns.asked() - before);
}
