//! The life of the daemon as a process: first start, second start, signals, reload, bad identity files and folders.
#![allow(missing_docs)]

mod common;

use common::{Daemon, Home, SOON, until};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[test]
fn the_first_start_makes_an_identity_and_prints_an_address_that_connect_takes() {
    let home = Home::new(11);
    let daemon = home.start(&[]);
    assert!(daemon.address.starts_with("/ip4/127.0.0.11/tcp/"), "{}", daemon.address);
    assert!(daemon.address.ends_with(&format!("/p2p/{}", daemon.id)), "{}", daemon.address);
    let mode = |name: &str| fs::metadata(home.data().join(name)).expect(name).permissions().mode() & 0o777;
    assert_eq!(mode("identity.key"), 0o600);
    assert_eq!(mode("peerkeep.sock"), 0o600);
    assert_eq!(mode(""), 0o700);
    assert_eq!(home.json(&["identity", "show"])["id"], daemon.id.as_str());
    let status = home.json(&["status"]);
    assert_eq!(status["addresses"][0], daemon.address.as_str());
    assert_eq!(status["admission"], "loopback");
    home.ask(&["config", "check"]).expect(0);
    assert!(home.data().join("peerkeep.toml").exists(), "the commented file is there to be edited");
    let id = daemon.id.clone();
    daemon.stop();
    assert!(!home.data().join("peerkeep.sock").exists(), "the socket goes with the daemon");
    let again = home.start(&[]);
    assert_eq!(again.id, id, "the identity stays");
    again.stop();
}

#[test]
fn fault_l5_a_second_daemon_on_the_same_folder_ends_without_touching_it() {
    let home = Home::new(12);
    let daemon = home.start(&[]);
    let said = home.try_start(0, &[]).err().expect("the folder is taken");
    assert_eq!(said.code, 8, "{said:?}");
    assert!(said.err.is_empty() || said.out.contains("already_running"), "{said:?}");
    assert_eq!(home.json(&["status"])["id"], daemon.id.as_str(), "the first one still answers");
    daemon.stop();
}

#[test]
fn fault_l4_a_taken_port_is_a_clear_error_with_its_own_code() {
    let home = Home::new(13);
    let taken = std::net::TcpListener::bind("127.0.0.13:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let said = home.try_start(port, &[]).err().expect("the port is taken");
    assert_eq!(said.code, 7, "{said:?}");
    assert!(said.out.contains(&format!("127.0.0.13:{port}")), "it names the address: {said:?}");
    drop(taken);
    home.start_on(port, &[]).stop();
}

#[test]
fn fault_i9_a_bad_identity_file_is_refused_and_never_replaced() {
    let home = Home::new(14);
    home.start(&[]).stop();
    let key = home.data().join("identity.key");
    let good = fs::read(&key).expect("there");
    let refused = |what: &str| {
        let before = fs::symlink_metadata(&key).map(|found| (found.len(), found.permissions().mode())).ok();
        let said = home.try_start(0, &[]).err().unwrap_or_else(|| panic!("started with {what}"));
        assert_eq!(said.code, 9, "{what}: {said:?}");
        let after = fs::symlink_metadata(&key).map(|found| (found.len(), found.permissions().mode())).ok();
        assert_eq!(before, after, "{what}: the file was changed");
    };
    let mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("ours");
    mode(0o644);
    refused("a key that others can read");
    mode(0o600);
    fs::write(&key, b"").expect("write");
    refused("an empty key");
    fs::write(&key, &good[..good.len() / 2]).expect("write");
    refused("half a key");
    fs::remove_file(&key).expect("ours");
    let elsewhere = home.folder.path().join("elsewhere.key");
    fs::write(&elsewhere, &good).expect("write");
    symlink(&elsewhere, &key).expect("a link");
    refused("a link to a key");
    fs::remove_file(&key).expect("ours");
    fs::write(&key, &good).expect("write");
    mode(0o600);
    home.start(&[]).stop();
}

#[test]
fn fault_k12_a_folder_that_others_can_write_or_a_link_is_refused() {
    let home = Home::new(15);
    home.start(&[]).stop();
    let real = home.folder.path().join("real");
    fs::rename(home.data(), &real).expect("ours");
    symlink(&real, home.data()).expect("a link");
    let said = home.try_start(0, &[]).err().expect("a link is refused");
    assert_eq!(said.code, 1, "{said:?}");
    fs::remove_file(home.data()).expect("ours");
    fs::rename(&real, home.data()).expect("ours");
    fs::set_permissions(home.data(), fs::Permissions::from_mode(0o777)).expect("ours");
    let said = home.try_start(0, &[]).err().expect("writable by all is refused");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("chmod"), "it says what to do: {said:?}");
}

#[test]
fn fault_k10_sigterm_drains_and_a_second_one_stops_at_once() {
    let (home, other) = (Home::new(16), Home::new(17));
    let peer = other.start(&[]);
    let mut daemon = home.start(&["--want", &peer.address]);
    until("connected", SOON, || home.connected() == 1);
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    let status = daemon.wait(Duration::from_secs(11));
    assert!(status.success(), "{status}");
    assert!(began.elapsed() < Duration::from_secs(10));
    drop(daemon);
    // The other side was told goodbye: it does not wait for a timeout.
    until("the peer knows", Duration::from_secs(2), || other.connected() == 0);

    let mut daemon = home.start(&["--want", &peer.address]);
    until("connected again", SOON, || home.connected() == 1);
    // A peer that stands still cannot answer a goodbye.
    peer.signal(Signal::STOP);
    let goodbyes = || home.log().matches("saying goodbye").count();
    daemon.signal(Signal::TERM);
    until("it says goodbye", SOON, || goodbyes() == 2);
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    let status = daemon.wait(Duration::from_secs(11));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(1), "it says that it did not finish");
    peer.signal(Signal::CONT);
    peer.stop();
}

#[test]
fn fault_k10_a_storm_of_sighup_is_a_few_reloads_and_fault_g1_a_bad_file_changes_nothing() {
    let home = Home::new(18);
    let daemon = home.start(&[]);
    let file = home.data().join("peerkeep.toml");
    let total = || home.json(&["config", "show"])["limits"]["total"].clone();
    fs::write(&file, "[limits]\ntotal = 321\n").expect("write");
    for _ in 0..200 {
        daemon.signal(Signal::HUP);
    }
    until("the new limit", SOON, || total() == 321);
    home.ask(&["config", "reload"]).expect(0);
    let reloads = home.log().matches("the configuration was reloaded").count();
    assert!((1..=60).contains(&reloads), "{reloads} reloads for 200 signals");

    fs::write(&file, "[limits]\ntotal = 5\n\noutboud = 3\n").expect("write");
    let said = home.ask(&["config", "reload"]).expect(6);
    assert!(said.err.contains("line 4") && said.err.contains("limits.outboud"), "{said:?}");
    assert_eq!(total(), 321, "the old settings stay, whole");
    daemon.signal(Signal::HUP);
    until("a warning", SOON, || home.log().contains("the configuration stays as it was"));
    assert_eq!(total(), 321);

    fs::write(&file, "[limits]\ntotal = 300\n\n[node]\nthreads = 3\n").expect("write");
    let said = home.ask(&["config", "reload"]).expect(6);
    assert!(said.err.contains("node.threads"), "fault G3: it says what a reload cannot change: {said:?}");
    assert_eq!(total(), 321, "never half");
    daemon.stop();
}

/// A dozen restarts, or a thousand with `PEERKEEP_SLOW_TESTS=1`, every second one by SIGKILL.
#[test]
fn fault_k9_many_restarts_are_quick_and_leave_nothing_behind() {
    let home = Home::new(19);
    home.start(&[]).stop();
    let rounds = if slow() { 1_000 } else { 12 };
    let ban = "203.0.113.0/24";
    let wanted = dead_ends("127.0.0.20", 3);
    let mut slowest = Duration::ZERO;
    let (mut sizes, mut dials) = (Vec::new(), 0);
    let since = Instant::now();
    for round in 0..rounds {
        let began = Instant::now();
        let daemon = home.start(&[]);
        slowest = slowest.max(began.elapsed());
        if round == 0 {
            home.ask(&["ban", ban, "--for", "24h"]).expect(0);
            for address in &wanted {
                home.ask(&["want", address]).expect(0);
            }
        }
        let bans = home.json(&["bans"]);
        assert_eq!(bans["bans"][0]["target"], ban, "round {round}: {bans}");
        let status = home.json(&["status"]);
        assert_eq!(status["counts"]["wanted"], 3, "round {round}: {status}");
        dials += status["totals"]["dials"].as_u64().expect("a number");
        if round % 2 == 1 {
            daemon.kill()
        } else {
            daemon.stop()
        }
        sizes.push(size(&home.data()));
    }
    // The delays double from two seconds on, less a third. A kill takes half a second of memory, hence two dials for one.
    let due = 1.0 + (since.elapsed().as_secs_f64() / 1.4 + 1.0).log2().ceil();
    eprintln!("{rounds} restarts: {dials} dials to three dead peers, up to {due} were due to each");
    assert!(
        f64::from(u32::try_from(dials).expect("few")) <= 3.0 * 2.0 * due,
        "{dials} dials, {due} were due"
    );
    eprintln!("{rounds} restarts: the slowest took {slowest:?}, the folder has {:?} bytes", sizes.last());
    assert!(slowest <= Duration::from_secs(1), "a start took {slowest:?}");
    let (early, late) = (sizes[3], sizes[rounds - 1]);
    assert!(late <= early + early / 2 + 256 * 1024, "the folder grows: {sizes:?}");
    let segments = fs::read_dir(home.data().join("journal")).expect("a journal").count();
    assert!(segments <= 9, "{segments} segments of the journal, 8 are kept");
}

/// The dial itself is noted, not only how it ended: a kill in the middle of it is no way to dial again at once.
#[test]
fn fault_k9_a_kill_in_the_middle_of_a_dial_does_not_begin_it_anew() {
    let home = Home::new(27);
    // Takes the connection and says nothing: an attempt that goes on until its deadline.
    let silent = std::net::TcpListener::bind("127.0.0.28:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let settings = ["--set", "backoff.first=5m", "--set", "preference.order=nobody"];
    let daemon = home.start(&settings);
    home.ask(&["want", &format!("/ip4/127.0.0.28/tcp/{port}/p2p/{id}")]).expect(0);
    let _held = silent.accept().expect("it dials");
    until("the dial is on the disk", SOON, || {
        std::thread::sleep(Duration::from_millis(600));
        home.json(&["peer", id])["standing"] == "dialing"
    });
    daemon.kill();
    let daemon = home.start(&settings);
    let peer = home.json(&["peer", id]);
    assert_eq!(peer["standing"], "waiting", "{peer}");
    assert_eq!(home.json(&["why", id])["reason"]["kind"], "backoff");
    assert_eq!(home.json(&["status"])["totals"]["dials"], 0);
    silent.set_nonblocking(true).expect("it can");
    assert!(silent.accept().is_err(), "nobody came again");
    daemon.stop();
}

/// Whether the tests that take minutes are to run in full.
fn slow() -> bool {
    std::env::var("PEERKEEP_SLOW_TESTS").is_ok_and(|value| value == "1")
}

/// Addresses of identities at a place where nobody listens.
fn dead_ends(ip: &str, count: u8) -> Vec<String> {
    let closed = std::net::TcpListener::bind((ip, 0)).expect("a port").local_addr().expect("bound");
    let make = |_| {
        let home = Home::new(20);
        let daemon = home.start(&[]);
        let address = format!("/ip4/{ip}/tcp/{}/p2p/{}", closed.port(), daemon.id);
        daemon.stop();
        address
    };
    (0..count).map(make).collect()
}

/// K10: a node that answers many questions, is knocked at by many strangers and has peers says goodbye in time.
#[test]
fn fault_k10_sigterm_under_load_drains_within_ten_seconds_and_a_second_one_stops_at_once() {
    let (home, other) = (Home::new(21), Home::new(22));
    let peer = other.start(&[]);
    for second_signal in [false, true] {
        let mut daemon = home.start(&["--want", &peer.address]);
        until("connected", SOON, || home.connected() == 1);
        let load = Load::on(&daemon);
        until("the load is heavy", SOON, || load.answers() > 500 && load.knocks() > 500);
        if second_signal {
            peer.signal(Signal::STOP);
        }
        let began = Instant::now();
        let goodbyes = home.log().matches("saying goodbye").count();
        daemon.signal(Signal::TERM);
        if second_signal {
            until("it says goodbye", SOON, || home.log().matches("saying goodbye").count() > goodbyes);
            daemon.signal(Signal::TERM);
        }
        let status = daemon.wait(Duration::from_secs(11));
        let took = began.elapsed();
        load.end();
        eprintln!("ended after {took:?}, second signal: {second_signal}");
        assert_eq!(status.success(), !second_signal, "{status}");
        assert!(took < Duration::from_secs(if second_signal { 2 } else { 10 }), "{took:?}");
    }
    peer.signal(Signal::CONT);
    peer.stop();
}

/// Threads that ask a daemon and knock at its door without a pause.
struct Load {
    ended: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    knocks: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(daemon: &Daemon<'_>) -> Load {
        let ended = Arc::new(AtomicBool::new(false));
        let (answers, knocks) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let socket = daemon.home.data().join("peerkeep.sock");
        let door = (daemon.home.ip.clone(), daemon.port());
        let ask = move || {
            let Ok(mut stream) = UnixStream::connect(&socket) else { return 0 };
            let request = b"GET /v1/peers HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            let mut answer = Vec::new();
            let _ = stream.write_all(request).and_then(|()| stream.read_to_end(&mut answer));
            usize::from(answer.starts_with(b"HTTP/1.1 200"))
        };
        let knock = move || {
            let Ok(mut stream) = TcpStream::connect((door.0.as_str(), door.1)) else { return 0 };
            usize::from(stream.write_all(b"what is this\r\n").is_ok())
        };
        let mut load = Load { ended, answers, knocks, threads: Vec::new() };
        for _ in 0..4 {
            let (answers, knocks) = (load.answers.clone(), load.knocks.clone());
            load.spawn(ask.clone(), answers);
            load.spawn(knock.clone(), knocks);
        }
        load
    }

    fn spawn(&mut self, one: impl Fn() -> usize + Send + 'static, count: Arc<AtomicUsize>) {
        let ended = self.ended.clone();
        self.threads.push(std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                count.fetch_add(one(), Ordering::Relaxed);
            }
        }));
    }

    fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    fn knocks(&self) -> usize {
        self.knocks.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    }
}

/// S0.67, from the command line to the last dial.
#[test]
fn s0_67_one_five_and_unlimited_attempts_are_what_the_setting_says() {
    for (set, used) in [("1", Some(1)), ("5", Some(5)), ("0", None)] {
        let home = Home::new(23);
        let most = format!("backoff.max_attempts={set}");
        let daemon = home.start(&[
            "--set",
            &most,
            "--set",
            "backoff.first=100ms",
            "--set",
            "backoff.max=100ms",
            "--set",
            "backoff.fast_interval=100ms",
        ]);
        let address = dead_ends("127.0.0.24", 1).remove(0);
        let id = address.rsplit('/').next().expect("an id").to_owned();
        home.ask(&["connect", &address, "--wait", "0s"]);
        let peer = || home.json(&["peer", &id]);
        let dials = || home.json(&["status"])["totals"]["dials"].as_u64().expect("a number");
        match used {
            Some(used) => {
                until("given up", SOON, || peer()["standing"] == "gave_up");
                assert_eq!((dials(), peer()["attempts"].as_u64()), (used, Some(used)), "{}", peer());
                assert_eq!(peer()["max_attempts"], used);
            }
            None => {
                until("more attempts than any default", SOON, || dials() > 12);
                assert_ne!(peer()["standing"], "gave_up");
                assert_eq!(peer()["max_attempts"], 0);
            }
        }
        daemon.stop();
    }
}

/// Bytes below a folder, the journal's ring (bounded by itself) left out.
fn size(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| fs::metadata(path).map_or(0, |found| found.len()))
        .sum()
}
