//! Arrivals that mean no good, and machines that are short of something.
#![allow(missing_docs)]

mod common;

use common::{CHILD, LONG, Node, config, is_child, loopback, node, start, who};
use peerkeep_core::{Addr, Fact, FaultKind, StackId};
use peerkeep_net::{ListenError, Listener, MAX_UNDECIDED, Outcome, TcpOptions, Tickets, prepare};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A node whose handshakes are short, so that tests are.
async fn impatient(number: u8) -> Node {
    let mut config = config(number);
    config.rules[0].handshake = Duration::from_millis(400);
    start(config, None, Vec::new()).await
}

async fn stranger(to: Addr) -> TcpStream {
    TcpStream::connect(to.socket()).await.expect("the port is open")
}

/// Connects, again and again if it must: what fault L10 grants honest peers in a crowd.
async fn get_in(from: &Node, to: Addr, number: u8) {
    for _ in 0..200 {
        if matches!(from.connect(who(number), &[to]).await, Outcome::Connected { .. }) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("an honest peer never got in");
}

#[tokio::test]
async fn fault_h1_a_byte_at_a_time_ends_at_the_absolute_deadline() {
    let a = impatient(1).await;
    let mut slow = stranger(a.addr).await;
    let mut bytes_sent = 0;
    // A frame of 200 bytes, of which none is ever late by itself.
    let mut answer = [0];
    let ended = loop {
        let byte = if bytes_sent == 0 { 200 } else { 1 };
        if slow.write_all(&[byte]).await.is_err() {
            break true;
        }
        bytes_sent += 1;
        match tokio::time::timeout(Duration::from_millis(20), slow.read(&mut answer)).await {
            Ok(_closed) => break true,
            Err(_elapsed) if bytes_sent == 200 => break false,
            Err(_elapsed) => {}
        }
    };
    assert!(ended, "it was let talk for {bytes_sent} bytes");
    a.until("no conns", |view| view.conns().next().is_none()).await;
    let timeouts = &a.owner.counters().handshake_faults[FaultKind::Timeout as usize];
    assert_eq!((timeouts.read(), a.owner.counters().gone.read()), (1, 1));
}

#[tokio::test]
async fn fault_h2_a_hello_cut_anywhere_is_no_connection() {
    let a = node(1).await;
    let hello = [58, 1].into_iter().chain([7; 57]).collect::<Vec<u8>>();
    for cut in 0..hello.len() {
        let mut socket = stranger(a.addr).await;
        socket.write_all(&hello[..cut]).await.expect("room");
        socket.shutdown().await.expect("open");
        assert_eq!(socket.read(&mut [0]).await.unwrap_or(0), 0, "closed without a word at {cut}");
    }
    a.until("no conns", |view| view.conns().next().is_none()).await;
    assert_eq!(a.owner.counters().ready.read(), 0);
    assert!(a.directory.is_empty());
}

#[tokio::test]
async fn fault_l2_silent_crowds_stay_within_the_limits_and_honest_peers_get_in() {
    let a = impatient(1).await;
    let limits = config(1).limits;
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(stranger(a.addr).await);
        assert!(a.tickets.len() <= MAX_UNDECIDED);
    }
    let most = usize::try_from(limits.pending + limits.courtesy).expect("small");
    assert!(a.conn_count().await <= most, "more than {most} conns");
    let b = node(2).await;
    get_in(&b, a.addr, 1).await;
    drop(crowd);
    a.until("only the honest one is left", |view| view.conns().count() == 1).await;
    assert_eq!(a.owner.counters().arrivals.read(), 400 + b.owner.counters().dials.read());
}

#[tokio::test]
async fn fault_l2_undecided_sockets_are_bounded_and_the_rest_counted() {
    // Nobody judges: the owner of these facts is not running.
    let (owner, _engine) = prepare();
    let tickets = Tickets::new(StackId::Bitcoin);
    let listener = Listener::bind(loopback(0), &TcpOptions::default()).expect("a port");
    let at = Addr::tcp(listener.local());
    let _serving = listener.serve(tickets.clone(), owner.facts(), owner.counters().clone()).expect("watched");
    let mut crowd = Vec::new();
    for _ in 0..MAX_UNDECIDED + 50 {
        crowd.push(stranger(at).await);
    }
    let (mut arrived, mut away, mut tells, mut batch) = (0, 0, 0, Vec::new());
    let end = tokio::time::Instant::now() + LONG;
    while arrived < MAX_UNDECIDED || away < 50 {
        let ready = tokio::time::timeout_at(end, owner.facts().ready()).await;
        assert!(ready.is_ok(), "told of {arrived} arrivals and {away} turned away, and of no more");
        owner.facts().take(&mut batch);
        for fact in batch.drain(..) {
            match fact {
                Fact::Arrived { stack: StackId::Bitcoin, .. } => arrived += 1,
                Fact::TurnedAway { count } => (away, tells) = (away + count, tells + 1),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((arrived, away, tickets.len()), (MAX_UNDECIDED, 50, MAX_UNDECIDED));
    assert!(tells <= 3, "told {tells} times for one burst");
    assert_eq!(owner.counters().turned_away.read(), 50);
}

/// The queue that is ours to count overflows while the owner is busy; the kernel's own is only longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_l10_an_overflow_is_counted_and_the_next_try_gets_in() {
    let (a, b) = (impatient(1).await, node(2).await);
    let (hold, held) = std::sync::mpsc::sync_channel::<()>(1);
    let (begun, began) = tokio::sync::oneshot::channel();
    let owner = a.owner.clone();
    let busy = tokio::spawn(async move {
        let wait = move || {
            let _ = begun.send(());
            let _ = held.recv();
        };
        owner.ask(move |_, _| tokio::task::block_in_place(wait)).await
    });
    began.await.expect("the owner is busy");
    let mut crowd = Vec::new();
    for _ in 0..MAX_UNDECIDED {
        crowd.push(stranger(a.addr).await);
    }
    let outcome = b.connect(who(1), &[a.addr]).await;
    assert!(matches!(outcome, Outcome::Failed(Some(_))), "there was room: {outcome:?}");
    assert_eq!(a.owner.counters().turned_away.read(), 1, "counted");
    hold.send(()).expect("it is held");
    busy.await.expect("no panic").expect("answered");
    drop(crowd);
    get_in(&b, a.addr, 1).await;
}

/// In a process of its own, so that every line of the log is this node's.
#[test]
fn fault_l3_resets_in_a_loop_leave_nothing_behind_and_the_log_short() {
    let myself = std::env::current_exe().expect("a path");
    let mut command = Command::new(myself);
    let status = command.args(["--exact", "reset_node", "--nocapture"]).env(CHILD, "1").status();
    assert!(status.expect("ourselves can run").success());
}

/// How many times the log was written to, which is once for each line.
#[derive(Clone, Default)]
struct Lines(Arc<AtomicU64>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::io::stderr().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Connects and resets, without a word or in the middle of a greeting.
async fn reset_often(to: Addr, times: u32) {
    for number in 0..times {
        let mut socket = stranger(to).await;
        if number % 2 == 0 {
            // The other side may have closed already.
            let _ = socket.write_all(&[58, 1, 7]).await;
        }
        socket.set_zero_linger().expect("open");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_node() {
    const LOOPS: u32 = 4;
    const TIMES: u32 = 1_000;
    if !is_child() {
        return;
    }
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(move || writer.clone()).init();
    tracing::info!("a line of the test's own, which shows that lines are counted");
    let (a, b) = (impatient(1).await, node(2).await);
    let limits = config(1).limits;
    let most = usize::try_from(limits.pending + limits.courtesy + 1).expect("small");
    let mut loops = tokio::task::JoinSet::new();
    for _ in 0..LOOPS {
        loops.spawn(reset_often(a.addr, TIMES));
    }
    get_in(&b, a.addr, 1).await;
    while !loops.is_empty() {
        let conns = a.conn_count().await;
        assert!(conns <= most && a.tickets.len() <= MAX_UNDECIDED, "{conns} conns");
        if let Ok(Some(done)) = tokio::time::timeout(Duration::from_millis(5), loops.join_next()).await {
            done.expect("no panic");
        }
    }
    a.until("only the honest one is left", |view| view.conns().count() == 1).await;
    let counters = a.owner.counters();
    assert!(counters.arrivals.read() + counters.aborted_arrivals.read() > u64::from(LOOPS * TIMES));
    assert_eq!((counters.panics.read(), a.tickets.len()), (0, 0));
    let lines = lines.0.load(Ordering::Relaxed);
    assert!((1..=10).contains(&lines), "{lines} lines");
}

#[tokio::test]
async fn fault_l4_a_taken_port_is_named() {
    let first = Listener::bind(loopback(0), &TcpOptions::default()).expect("a free port");
    let error = Listener::bind(first.local(), &TcpOptions::default()).expect_err("it is taken");
    assert!(matches!(error, ListenError::Taken(at) if at == first.local()), "{error:?}");
    assert!(error.to_string().contains(&first.local().port().to_string()));
    let elsewhere = "192.0.2.1:0".parse().expect("an address");
    let error = Listener::bind(elsewhere, &TcpOptions::default()).expect_err("it is not ours");
    assert!(matches!(error, ListenError::NotOurs(_)), "{error:?}");
}

/// A node in a process of its own, with few descriptors.
struct Poor {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Poor {
    fn start() -> (Poor, Addr) {
        let myself = std::env::current_exe().expect("a path");
        let mut child = Command::new(myself)
            .args(["--exact", "poor_node", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ourselves can run");
        let orders = child.stdin.take().expect("piped");
        let mut answers = BufReader::new(child.stdout.take().expect("piped"));
        let addr = answer(&mut answers, "addr ").parse().expect("an address");
        (Poor { child, orders, answers }, Addr::tcp(addr))
    }

    fn ask(&mut self, what: &str) -> u64 {
        writeln!(self.orders, "{what}").expect("it runs");
        answer(&mut self.answers, "value ").parse().expect("a number")
    }
}

impl Drop for Poor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line that begins so; the test harness of the child writes others.
fn answer(from: &mut impl BufRead, mark: &str) -> String {
    for line in from.lines() {
        let line = line.expect("text");
        if let Some(at) = line.find(mark) {
            return line[at + mark.len()..].to_string();
        }
    }
    panic!("it ended");
}

/// Descriptors that are left to the poor node.
const SPARE: u64 = 12;

#[test]
fn poor_node() {
    if !is_child() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let a = start(config(1), None, Vec::new()).await;
        let open = std::fs::read_dir("/proc/self/fd").expect("Linux").count();
        let limit = u64::try_from(open).expect("few") + SPARE;
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).expect("lowering is allowed");
        println!("addr {}", a.addr.socket());
        let (tell, mut lines) = tokio::sync::mpsc::channel(16);
        std::thread::spawn(move || {
            std::io::stdin().lines().map_while(Result::ok).try_for_each(|l| tell.blocking_send(l))
        });
        while let Some(line) = lines.recv().await {
            let counters = a.owner.counters();
            let value = match line.as_str() {
                "pauses" => counters.accept_pauses.read(),
                "received" => a.directory.find(&common::key(2)).map_or(0, |link| link.bytes.received()),
                _ => u64::try_from(a.directory.len()).expect("few"),
            };
            println!("value {value}");
        }
    });
}

#[tokio::test]
async fn fault_l1_no_descriptors_pause_accepting_without_spinning_and_links_live() {
    let (mut poor, addr) = Poor::start();
    let b = node(2).await;
    assert!(matches!(b.connect(who(1), &[addr]).await, Outcome::Connected { .. }));
    let mut crowd = Vec::new();
    for _ in 0..SPARE + 10 {
        crowd.push(stranger(addr).await);
    }
    while poor.ask("pauses") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = poor.ask("pauses");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pauses = poor.ask("pauses") - before;
    assert!(pauses <= 10, "{pauses} pauses in a second");
    assert_eq!(poor.ask("links"), 1, "the link lives");
    let before = poor.ask("received");
    b.directory.find(&common::key(1)).expect("up").handle.send(1);
    while poor.ask("received") == before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(crowd);
    let c = node(3).await;
    get_in(&c, addr, 1).await;
    // The acceptor counts it when it has read the confirm.
    while poor.ask("links") != 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
