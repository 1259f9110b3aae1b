//! Document 001's establishment, on whole daemons: doing without TLS, and a flood of connects.
#![allow(missing_docs)]

mod common;

use common::{Daemon, Home, SOON, until};
use std::collections::VecDeque;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

#[test]
fn s1_17_without_tls_takes_a_setting_is_warned_about_and_refused_off_loopback() {
    let (home, other) = (Home::new(181), Home::new(182));
    let off = ["--set", "tls.enabled=false", "--set", "quic.enabled=false"];
    let (daemon, peer) = (home.start(&off), other.start(&off));
    home.ask(&["connect", &peer.address]).expect(0);
    let warning = "are neither private nor safe from change";
    for log in [home.log(), other.log()] {
        let warned = log.lines().find(|line| line.contains(warning)).unwrap_or_default();
        assert!(warned.contains("WARN") && warned.contains("tls.enabled"), "{log}");
    }
    let shown = home.json(&["peer", &peer.id]);
    assert_eq!((&shown["secure"], &shown["transport"]), (&false.into(), &"tcp".into()), "{shown}");
    assert!(home.ask(&["peer", &peer.id]).out.contains("WITHOUT TLS"));
    // One with TLS stays apart, and says at which step it failed.
    let third = Home::new(183);
    let tls = third.start(&[]);
    assert!(!tls.home.log().contains(warning));
    let said = third.ask(&["--json", "connect", &peer.address, "--wait", "3s"]);
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(third.connected(), 0);
    daemon.stop();
    peer.stop();
    tls.stop();

    let away = Home::new(184);
    let open = ["--set", "network.open=true", "--set", "tls.enabled=false", "--listen", "0.0.0.0:0"];
    let Err(said) = away.try_start(0, &open) else { panic!("it started") };
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.out.contains("tls.insecure = true"), "{said:?}");
    let asked = [&open[..], &["--set", "tls.insecure=true"]].concat();
    let daemon = away.start(&asked);
    until("it is warned about", SOON, || away.log().contains("connections over TCP are neither private"));
    daemon.stop();
}

/// Whom a daemon's kernel account says it is.
struct Account {
    pid: i32,
}

impl Account {
    fn of(daemon: &Daemon<'_>) -> Account {
        Account { pid: daemon.pid().as_raw_nonzero().get() }
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("it runs").count()
    }

    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
        line.trim().split(' ').next().and_then(|kib| kib.parse().ok()).expect("a number")
    }
}

#[test]
fn s1_29_a_flood_of_ten_thousand_connects_leaves_descriptors_and_memory_bounded() {
    const FLOOD: usize = 10_000;
    /// As many of ours are open at a time; the daemon may not keep more than its limits.
    const OPEN: usize = 700;
    let (home, other) = (Home::new(185), Home::new(186));
    let (daemon, peer) = (home.start(&["--debuggable", "--set", "limits.per_ip=100000"]), other.start(&[]));
    home.ask(&["connect", &peer.address]).expect(0);
    let account = Account::of(&daemon);
    let (descriptors, resident) = (account.descriptors(), account.resident_kib());
    // Defaults: 64 being set up, 16 being told why not, 128 not looked at yet.
    let most = descriptors + 64 + 16 + 128 + 16;
    let at: SocketAddr = format!("{}:{}", home.ip, daemon.port()).parse().expect("an address");
    let mut open = VecDeque::new();
    let (mut peak_descriptors, mut peak_resident) = (0, 0);
    for number in 0..FLOOD {
        // The kernel's own queue may be full: that is the flood's problem.
        if let Ok(socket) = TcpStream::connect_timeout(&at, Duration::from_secs(5)) {
            open.push_back(socket);
        }
        if open.len() > OPEN {
            open.pop_front();
        }
        if number % 100 == 0 {
            peak_descriptors = peak_descriptors.max(account.descriptors());
            peak_resident = peak_resident.max(account.resident_kib());
        }
        if number == FLOOD / 2 {
            let asked = Instant::now();
            assert_eq!(home.connected(), 1, "the honest one stays");
            assert!(asked.elapsed() < Duration::from_secs(5), "orders are answered meanwhile");
        }
    }
    println!("descriptors {descriptors} to {peak_descriptors}, resident {resident} to {peak_resident} KiB");
    assert!(peak_descriptors <= most, "{peak_descriptors} descriptors, {descriptors} before");
    assert!(peak_resident <= resident + 24 * 1024, "{peak_resident} KiB, {resident} before");
    let status = home.json(&["status"]);
    let refused = status["totals"]["refused"].as_u64().expect("a number");
    assert!(refused > 5_000, "dropped and counted: {refused}");
    drop(open);
    until("only the honest one is left", SOON, || account.descriptors() <= descriptors + 2);
    let status = home.json(&["status"]);
    assert_eq!((&status["counts"]["pending"], &status["counts"]["connected"]), (&0.into(), &1.into()));
    other.ask(&["disconnect", &daemon.id]).expect(0);
    other.ask(&["connect", &daemon.address]).expect(0);
    daemon.stop();
    peer.stop();
}

#[test]
fn s1_7_pending_attempts_of_both_directions_are_listed_by_the_command() {
    let home = Home::new(187);
    let daemon = home.start(&["--set", "timeouts.handshake=\"60s\"", "--set", "timeouts.establish=\"60s\""]);
    assert_eq!(home.json(&["pending"])["pending"], serde_json::json!([]));
    let mute = std::net::TcpListener::bind("127.0.0.188:0").expect("a port");
    let id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let to = mute.local_addr().expect("bound");
    home.ask(&["connect", &format!("/ip4/{}/tcp/{}/p2p/{id}", to.ip(), to.port()), "--wait", "0s"]).expect(0);
    let at: SocketAddr = format!("{}:{}", home.ip, daemon.port()).parse().expect("an address");
    let silent = TcpStream::connect(at).expect("it listens");
    let list = || home.json(&["pending"])["pending"].as_array().cloned().unwrap_or_default();
    until("both are listed", SOON, || list().len() == 2);
    let list = list();
    let outbound = list.iter().find(|one| one["direction"] == "outbound").expect("ours");
    assert_eq!((&outbound["peer"], &outbound["remote"]), (&id.into(), &to.to_string().into()));
    let inbound = list.iter().find(|one| one["direction"] == "inbound").expect("theirs");
    let from = silent.local_addr().expect("bound").to_string();
    assert_eq!((&inbound["stage"], &inbound["remote"]), (&"arriving".into(), &from.clone().into()));
    assert!(inbound["peer"].is_null());
    let said = home.ask(&["pending"]).expect(0);
    assert!(said.out.contains("not known yet") && said.out.contains(&from), "{said:?}");
    drop(silent);
    home.ask(&["reset", id]).expect(0);
    until("none is left", SOON, || home.ask(&["pending"]).out.contains("No connection is being set up"));
    daemon.stop();
}
