//! How the other side's end of a connection is taken, and connections that fail to close.
#![allow(missing_docs)]

mod common;

use common::{Node, PlainPeer, config, node, start, who};
use peerkeep_core::{Addr, Close, Command, ConnRef, End, Fact, Fault, FaultKind, Step, Told};
use peerkeep_net::Outcome;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One test at a time: the log belongs to the process, and must not be set up while another test logs.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How the raw peer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    ResetInAMessage,
    HalfCloseInAMessage,
    HalfCloseBothWays,
    DataAfterGoodbye,
}

/// Takes every event up to the next connection's, and gives how often that peer was lost.
async fn losses(a: &mut Node, next: u8) -> Vec<Told> {
    let mut lost = Vec::new();
    loop {
        let event = a.event(|_| true).await;
        match event.what {
            Told::Connected if event.who == who(next) => return lost,
            what @ Told::Lost(_) => lost.push(what),
            _ => {}
        }
    }
}

#[tokio::test]
async fn fault_c4_however_it_ends_the_loss_is_told_once_and_half_a_message_is_none() {
    let _turn = TURN.lock().await;
    let mut a = node(1).await;
    let endings = [
        Ending::ResetInAMessage,
        Ending::HalfCloseInAMessage,
        Ending::HalfCloseBothWays,
        Ending::DataAfterGoodbye,
    ];
    for (number, ending) in (2..).zip(endings) {
        let mut peer = PlainPeer::connect(a.addr, number).await;
        a.event(|e| e.who == who(number) && e.what == Told::Connected).await;
        let bytes = a.directory.find(&common::key(number)).expect("up").bytes;
        let mut whole = 0;
        match ending {
            Ending::ResetInAMessage => {
                peer.half_a_message().await;
                peer.stream.set_zero_linger().expect("open");
                drop(peer);
            }
            Ending::HalfCloseInAMessage => {
                peer.half_a_message().await;
                peer.stream.shutdown().await.expect("open");
                // Told: our side closes too, although theirs could still read.
                assert_eq!(peer.stream.read(&mut [0]).await.unwrap_or(0), 0);
            }
            Ending::HalfCloseBothWays => {
                a.command(Command::Disconnect(who(number))).await;
                let mut said = PlainPeer::goodbye(Close::Idle);
                peer.stream.read_exact(&mut said).await.expect("a goodbye comes before the end");
                assert_eq!(said, PlainPeer::goodbye(Close::Requested), "told why");
                peer.stream.shutdown().await.expect("open");
                let _ = peer.stream.read_to_end(&mut Vec::new()).await;
            }
            Ending::DataAfterGoodbye => {
                let goodbye = PlainPeer::goodbye(Close::Idle);
                whole = u64::try_from(goodbye.len()).expect("short");
                peer.stream.write_all(&goodbye).await.expect("room");
                let _ = peer.stream.write_all(&PlainPeer::message(7)).await;
                let _ = peer.stream.read_to_end(&mut Vec::new()).await;
            }
        }
        // The next connection comes after whatever there is to say about this one.
        a.until("no conns", |view| view.conns().next().is_none()).await;
        let marker = 100 + number;
        let _next = PlainPeer::connect(a.addr, marker).await;
        let lost = losses(&mut a, marker).await;
        let [Told::Lost(why)] = lost[..] else { panic!("{ending:?}: {lost:?}") };
        match ending {
            Ending::DataAfterGoodbye => assert_eq!(why, Close::Idle),
            Ending::HalfCloseBothWays => assert_eq!(why, Close::Requested),
            Ending::ResetInAMessage | Ending::HalfCloseInAMessage => assert_ne!(why, Close::Requested),
        }
        if ending != Ending::DataAfterGoodbye {
            assert_eq!(bytes.received(), whole, "{ending:?}: no part of a message counts");
        }
        a.command(Command::Disconnect(who(marker))).await;
        a.event(|e| e.who == who(marker) && matches!(e.what, Told::Lost(_))).await;
        assert!(a.directory.find(&common::key(number)).is_none());
    }
    assert_eq!(a.owner.counters().panics.read(), 0);
}

/// Where the log goes from the first call on. It belongs to the process, so all tests of this file share it.
static LOG: LazyLock<tempfile::NamedTempFile> = LazyLock::new(|| {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false);
    lines.with_writer(log.reopen().expect("a file")).init();
    log
});

fn lines_with(text: &str) -> Vec<String> {
    let log = std::fs::read_to_string(LOG.path()).expect("is text");
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[tokio::test]
async fn s0_55_a_close_that_fails_is_logged_and_everything_is_released_all_the_same() {
    let _turn = TURN.lock().await;
    LazyLock::force(&LOG);
    let mut config = config(1);
    config.rules[0].goodbye = Duration::from_millis(200);
    let mut a = start(config, None, Vec::new()).await;
    let b = node(2).await;
    let counters = a.owner.counters().clone();
    for (round, wish) in [common::Handle::fail_close, common::Handle::ignore_close].into_iter().enumerate() {
        let outcome = a.connect(b.who(), &[b.addr]).await;
        assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
        wish(&a.directory.find(&common::key(2)).expect("up").handle);
        a.command(Command::Disconnect(who(2))).await;
        a.event(|e| e.what == Told::Lost(Close::Requested)).await;
        a.until("the slot is free", |view| view.conns().next().is_none()).await;
        assert!(a.directory.is_empty());
        // Their end of the socket ends too, so ours is closed.
        b.until("the socket is closed", |view| view.conns().next().is_none()).await;
        let done = u64::try_from(round).expect("few") + 1;
        assert_eq!((counters.gone.read(), counters.unclean_closes.read()), (done, done));
    }
    let lines = lines_with("did not close in good order");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains(" WARN ")), "{lines:?}");
    for (line, kind) in lines.iter().zip([FaultKind::Closed, FaultKind::Timeout]) {
        assert!(line.contains(&format!("kind={kind:?}")), "{line}");
    }
}

#[tokio::test]
async fn s0_37_a_failure_that_belongs_to_no_attempt_is_an_error_in_the_log_and_a_late_one_is_not() {
    let _turn = TURN.lock().await;
    LazyLock::force(&LOG);
    let (mut a, b) = (node(1).await, node(2).await);
    let fault = Fault::new(Step::Connect, FaultKind::Refused);
    let missed = |conn| Fact::Missed { conn, addr: Addr::tcp(common::loopback(1)), fault };
    let gone = |conn| Fact::Gone { conn, end: End::Fault(fault) };
    let strays = |a: &Node| a.owner.counters().stray_facts.read();
    let Outcome::Connected { conn, .. } = a.connect(b.who(), &[b.addr]).await else { panic!("they connect") };
    // Of a conn that is there, and of one that is over, such news may come late.
    a.owner.facts().saw(missed(conn));
    a.command(Command::Disconnect(who(2))).await;
    a.until("the end", |view| view.conns().next().is_none()).await;
    a.owner.facts().saw(missed(conn));
    a.owner.facts().saw(Fact::Resolved { conn, addrs: common::addrs(&[]) });
    a.conn_count().await;
    assert_eq!((strays(&a), lines_with(" ERROR ").len()), (0, 0), "late is no bug");
    // None of these can be true: gone twice, not there yet, never there.
    let next = ConnRef { generation: conn.generation + 1, ..conn };
    let never = ConnRef { row: 77, generation: 3 };
    for fact in [gone(conn), missed(next), gone(next), missed(never), gone(never)] {
        a.owner.facts().saw(fact);
    }
    a.conn_count().await;
    assert_eq!(strays(&a), 5);
    let lines = lines_with(" ERROR ");
    assert_eq!(lines.len(), 3, "the first, the second and the fourth: {lines:?}");
    assert!(lines[0].contains(&format!("conn={conn}")) && lines[2].contains("conn=#77.3"), "{lines:?}");
    // An inbound conn has not dialled, so no address of it can fail.
    let c = node(3).await;
    c.connect(a.who(), &[a.addr]).await;
    a.event(|event| event.what == Told::Connected && event.conn != conn).await;
    let inbound = a.owner.ask(|view, _| view.conns().next().expect("one").conn).await.expect("it runs");
    a.owner.facts().saw(missed(inbound));
    a.conn_count().await;
    assert_eq!(strays(&a), 6);
    let fault =
        a.owner.ask(move |view, _| view.conn(inbound).expect("who is connected stays so").fault).await;
    let failures = a.owner.ask(|view, _| view.contacts().map(|seen| seen.failures).sum::<u16>()).await;
    assert_eq!((fault, failures), (Ok(None), Ok(0)), "nobody's counters or causes were touched");
}
