//! Nodes over real sockets on loopback: connecting, refusing, losing, shutting down.
#![allow(missing_docs)]

mod common;

use common::{LONG, Node, addrs, blackhole, config, key, node, refusing, start, who};
use peerkeep_core::{
    Action, Addr, Addrs, Answer, Close, Command, Effects, Fact, FaultKind, PeerKey, Refusal, Source,
    Standing, Target, Told, journal,
};
use peerkeep_net::{Outcome, OwnerError, Stopped, Until};
use std::time::Duration;

#[tokio::test]
async fn two_nodes_connect_use_and_close_and_the_journal_replays() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut a = start(config(1), Some(dir.path()), Vec::new()).await;
    let mut b = node(2).await;
    let outcome = a.connect(b.who(), &[b.addr]).await;
    assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    let (at_a, at_b) =
        tokio::join!(a.event(|e| e.what == Told::Connected), b.event(|e| e.what == Told::Connected));
    assert_eq!((at_a.who, at_b.who), (who(2), who(1)));
    let link = a.directory.find(&key(2)).expect("listed before it is told");
    link.handle.send(9);
    b.until("the report of use", |view| {
        view.conns().any(|conn| conn.report.used_at > conn.up_at.unwrap_or_default())
    })
    .await;
    assert!(b.directory.find(&key(1)).expect("up").bytes.received() > 0);
    assert_eq!(a.command(Command::Disconnect(who(2))).await, Answer::Done);
    a.event(|e| e.what == Told::Lost(Close::Requested)).await;
    b.event(|e| e.what == Told::Lost(Close::Requested)).await;
    a.until("no conns", |view| view.conns().next().is_none()).await;
    b.until("no conns", |view| view.conns().next().is_none()).await;
    assert!(a.directory.is_empty() && b.directory.is_empty());
    assert_eq!(a.stop().await, Stopped::Asked { cut: 0 });
    assert_eq!(b.stop().await, Stopped::Asked { cut: 0 });
    assert_replays(dir.path());
}

fn assert_replays(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).expect("the journal") {
        let bytes = std::fs::read(entry.expect("listable").path()).expect("readable");
        let mut replay = journal::Replay::new(&bytes).expect("a segment");
        let mut out = Effects::new();
        while replay.step(&mut out).expect("the same digests").is_some() {}
        assert!(replay.ended && replay.actions > 5, "{} actions", replay.actions);
    }
}

#[tokio::test]
async fn connecting_twice_says_connected_twice() {
    let (a, b) = (node(1).await, node(2).await);
    let first = a.connect(b.who(), &[b.addr]).await;
    let Outcome::Connected { contact, who, conn, already: false } = first else { panic!("{first:?}") };
    let again = Outcome::Connected { contact, who, conn, already: true };
    assert_eq!(a.connect(b.who(), &[b.addr]).await, again);
    assert_eq!(a.conn_count().await, 1);
}

#[tokio::test]
async fn fault_d1_refused_dial_fails_at_once_and_backs_off() {
    let (_kept, addr) = refusing();
    let a = node(1).await;
    let Outcome::Failed(Some(fault)) = a.connect(who(2), &[addr]).await else { panic!("nobody listens") };
    assert_eq!(fault.kind, FaultKind::Refused);
    assert_eq!(a.owner.counters().missed.read(), 1);
    a.until("backing off", |view| {
        view.contacts().any(|contact| contact.standing == Standing::Waiting && contact.retry_at.is_some())
    })
    .await;
    assert_eq!(a.conn_count().await, 0, "the slot is free");
}

#[tokio::test]
async fn fault_d1_the_next_address_is_tried_after_a_refusal() {
    let (_kept, refusing) = refusing();
    let (a, b) = (node(1).await, node(2).await);
    let outcome = a.connect(b.who(), &[refusing, b.addr]).await;
    assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    assert_eq!(a.owner.counters().missed.read(), 1);
}

#[tokio::test]
async fn fault_d2_blackhole_ends_by_our_own_deadline_and_frees_slot_and_socket() {
    let hole = blackhole();
    let mut config = config(1);
    config.rules[0].establish = Duration::from_millis(400);
    let a = start(config, None, Vec::new()).await;
    let Outcome::Failed(Some(fault)) = a.connect(who(2), &[hole.addr]).await else { panic!("it is deaf") };
    assert_eq!(fault.kind, FaultKind::Timeout);
    assert_eq!(a.conn_count().await, 0);
    a.owner.command(Command::Reset(who(2))).await.expect("the owner runs");
    a.until("idle", |view| view.conns().next().is_none()).await;
    let gone = a.owner.counters().gone.read();
    assert_eq!(gone, a.owner.counters().dials.read(), "one Gone per dial");
}

#[tokio::test]
async fn fault_d5_cancel_during_the_dial_leaves_nothing_behind() {
    let hole = blackhole();
    let mut a = node(1).await;
    let owner = a.owner.clone();
    let to = addrs(&[hole.addr]);
    let waiting =
        tokio::spawn(async move { owner.connect(who(2), to, Until::Settled, LONG).await.expect("runs") });
    a.event(|e| matches!(e.what, Told::Dialing { .. })).await;
    assert_eq!(a.command(Command::Cancel(who(2))).await, Answer::Done);
    assert_eq!(waiting.await.expect("no panic"), Outcome::Cancelled);
    a.until("no conns", |view| view.conns().next().is_none()).await;
    assert_eq!(a.owner.counters().gone.read(), 1);
    assert_eq!(a.owner.counters().ready.read(), 0);
}

#[tokio::test]
async fn fault_d15_a_deaf_first_address_costs_one_head_start() {
    let hole = blackhole();
    let (a, b) = (node(1).await, node(2).await);
    let outcome = a.connect(b.who(), &[hole.addr, b.addr]).await;
    let Outcome::Connected { conn, .. } = outcome else { panic!("{outcome:?}") };
    let good = b.addr;
    let (remote, took) = a
        .owner
        .ask(move |view, _| view.conn(conn).map(|conn| (conn.remote, conn.up_at.map(|up| up - conn.began))))
        .await
        .expect("the owner runs")
        .expect("it is up");
    assert_eq!(remote, good);
    let took = took.expect("it is up");
    assert!(took >= Duration::from_millis(250), "the first address had its head start: {took:?}");
    // Not a timing test: far above the expected 300 ms, far below the deadline that the deaf address would reach.
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn fault_d16_another_identity_is_not_connected() {
    let (a, b) = (node(1).await, node(2).await);
    let Outcome::Failed(Some(fault)) = a.connect(who(3), &[b.addr]).await else {
        panic!("it is somebody else")
    };
    assert_eq!(fault.kind, FaultKind::Identity);
    assert!(a.directory.is_empty());
}

#[tokio::test]
async fn fault_i5_a_ban_from_the_store_holds_for_the_first_arrival() {
    let ban = Command::Ban { target: Target::Key(key(1)), span: None };
    let first = vec![Action::Do(peerkeep_core::CommandId(0), ban)];
    let a = node(1).await;
    let b = start(config(2), None, first).await;
    let outcome = a.connect(b.who(), &[b.addr]).await;
    assert!(
        matches!(outcome, Outcome::Failed(Some(fault)) if fault.kind == FaultKind::Declined),
        "{outcome:?}"
    );
    assert!(b.directory.is_empty());
    assert_eq!(b.owner.counters().ready.read(), 0);
}

/// More than the owner steps in one go, the ban last: what came in before has to wait for all of it.
#[tokio::test]
async fn fault_i5_everything_stored_is_loaded_before_anybody_is_served() {
    const STORED: u16 = 700;
    let stranger = |number: u16| {
        let mut bytes = [9; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        peerkeep_core::Who::mesh(PeerKey::ed25519(bytes))
    };
    let learn = |who| Action::Saw(Fact::Learned { who, addrs: Addrs::new(), source: Source::Stored });
    let mut first: Vec<Action> = (0..STORED).map(|number| learn(stranger(number))).collect();
    let ban = Command::Ban { target: Target::Key(key(1)), span: None };
    first.push(Action::Do(peerkeep_core::CommandId(0), ban));
    let b = start(config(2), None, first).await;
    // The owner's task has not had its first turn yet: this fact and this question wait for it.
    b.owner.facts().saw(Fact::Learned { who: who(1), addrs: Addrs::new(), source: Source::Gossip });
    let seen = b
        .owner
        .ask(|view, _| (view.contacts().count(), view.bans().count(), view.find(&who(1)).is_some()))
        .await
        .expect("the owner runs");
    assert_eq!(seen, (usize::from(STORED), 1, false), "all are known, and the banned one is not");
    let a = node(1).await;
    let outcome = a.connect(b.who(), &[b.addr]).await;
    assert!(
        matches!(outcome, Outcome::Failed(Some(fault)) if fault.kind == FaultKind::Declined),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn an_address_that_is_somebody_answers_who_waits() {
    let (a, b) = (node(1).await, node(2).await);
    let nobody = peerkeep_core::Who::mesh(PeerKey::from_addr(b.addr));
    let Outcome::Connected { contact, .. } = a.connect(nobody, &[b.addr]).await else { panic!("b listens") };
    let met = a.owner.ask(move |view, _| view.contact(contact).map(|seen| seen.who)).await.expect("runs");
    assert_eq!(met, Some(who(2)));
}

fn name(host: &str, port: u16) -> peerkeep_net::Name {
    let (kind, family) = (peerkeep_core::AddrKind::Tcp, peerkeep_net::Family::Any);
    peerkeep_net::Name { host: host.into(), leads: peerkeep_net::Leads::Ips { port, kind, family } }
}

#[tokio::test]
async fn names_are_resolved_for_a_dial() {
    let (a, b) = (node(1).await, node(2).await);
    let name = name("127.0.0.1", b.addr.port);
    a.owner.names().set(who(2), vec![name]).expect("a good name");
    let outcome = a.connect(who(2), &[]).await;
    assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_ends_the_attempt() {
    let a = node(1).await;
    let name = name("no such host.invalid", 1);
    a.owner.names().set(who(2), vec![name]).expect("kept");
    let outcome = a.connect(who(2), &[]).await;
    assert!(!matches!(outcome, Outcome::Connected { .. } | Outcome::TimedOut), "{outcome:?}");
    a.until("no conns", |view| view.conns().next().is_none()).await;
}

/// Whether that attempt failed so, and the contact waits for its next one.
async fn fails_with(a: &mut Node, peer: u8, to: &[Addr], kind: FaultKind) {
    let Outcome::Failed(Some(fault)) = a.connect(who(peer), to).await else { panic!("{kind:?}: it came up") };
    assert_eq!(fault.kind, kind);
    a.event(|e| e.who == who(peer) && e.what == Told::Dialing { attempt: 1 }).await;
    a.event(|e| e.who == who(peer) && e.what == Told::Failed).await;
    let standing = a.owner.ask(move |view, _| {
        let found = view.find(&who(peer)).and_then(|contact| view.contact(contact));
        found.map(|seen| (seen.standing, seen.last_fault.map(|fault| fault.kind)))
    });
    assert_eq!(standing.await.expect("runs"), Some((Standing::Waiting, Some(kind))));
}

#[tokio::test]
async fn s0_5_closed_ports_dropped_packets_and_unknown_names_each_fail_the_attempt_by_their_name() {
    let mut config = config(1);
    config.rules[0].establish = Duration::from_millis(400);
    // Long enough that the next attempt does not begin while we look.
    config.rules[0].backoff.first = Duration::from_secs(60);
    let mut a = start(config, None, Vec::new()).await;
    let (_kept, closed) = refusing();
    fails_with(&mut a, 2, &[closed], FaultKind::Refused).await;
    let hole = blackhole();
    fails_with(&mut a, 3, &[hole.addr], FaultKind::Timeout).await;
    let name = name("no such host.invalid", 1);
    a.owner.names().set(who(4), vec![name]).expect("kept");
    fails_with(&mut a, 4, &[], FaultKind::Name).await;
    assert_eq!(a.conn_count().await, 0, "every slot is free");
}

#[tokio::test]
async fn s0_8_s0_58_a_server_that_refuses_once_is_reached_by_the_retry() {
    let (socket, flaky) = refusing();
    let mut config = config(1);
    // Only the command can bring the second attempt within this test.
    config.rules[0].backoff.first = Duration::from_secs(60);
    let mut a = start(config, None, Vec::new()).await;
    let b = node(2).await;
    assert!(matches!(a.connect(b.who(), &[flaky]).await, Outcome::Failed(Some(_))));
    socket.listen(1).expect("it is bound");
    socket.set_nonblocking(true).expect("a socket");
    let server = tokio::net::TcpListener::from_std(socket.into()).expect("a listener");
    let to = b.addr.socket();
    let serving = tokio::spawn(async move {
        let (mut near, _) = server.accept().await.expect("a connection");
        let mut far = tokio::net::TcpStream::connect(to).await.expect("b listens");
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    assert!(matches!(a.command(Command::Retry(who(2))).await, Answer::Begun(_)));
    let mut trace = Vec::new();
    while trace.last() != Some(&Told::Connected) {
        trace.push(a.event(|e| e.who == who(2) && e.what != Told::Discovered).await.what);
    }
    let steps = [Told::Dialing { attempt: 1 }, Told::Failed, Told::Dialing { attempt: 2 }, Told::Connected];
    assert_eq!(trace, steps);
    serving.abort();
}

/// Fault R9.
#[tokio::test]
async fn a_panicking_link_is_gone_once_and_the_others_live() {
    let mut a = node(1).await;
    let (b, c) = (node(2).await, node(3).await);
    for other in [&b, &c] {
        let outcome = a.connect(other.who(), &[other.addr]).await;
        assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    }
    a.directory.find(&key(2)).expect("up").handle.panic();
    a.event(|e| e.who == who(2) && matches!(e.what, Told::Lost(_))).await;
    a.until("one conn", |view| view.conns().filter(|conn| conn.contact.is_some()).count() >= 1).await;
    assert_eq!(a.owner.counters().panics.read(), 1);
    a.until("only c is left, or b is back", |view| {
        view.contacts().any(|contact| contact.who == who(3) && contact.standing == Standing::Connected)
    })
    .await;
    // The slot is free: the same peer can come again.
    let outcome = a.connect(who(2), &[b.addr]).await;
    assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    assert_eq!(a.conn_count().await, 2);
}

#[tokio::test]
async fn fault_c4_a_killed_peer_is_lost_once() {
    let mut a = node(1).await;
    let b = node(2).await;
    a.connect(b.who(), &[b.addr]).await;
    // Its sockets close without a goodbye.
    drop(b.shards);
    let lost = a.event(|e| matches!(e.what, Told::Lost(_))).await;
    assert_eq!(lost.who, who(2));
    while let Ok(event) = a.events.try_recv() {
        assert!(!matches!(event.what, Told::Lost(_)), "lost twice");
    }
}

#[tokio::test]
async fn a_link_that_ignores_the_close_is_cut_at_the_deadline() {
    let mut config = config(1);
    config.rules[0].goodbye = Duration::from_millis(200);
    let a = start(config, None, Vec::new()).await;
    let b = node(2).await;
    a.connect(b.who(), &[b.addr]).await;
    a.directory.find(&key(2)).expect("up").handle.ignore_close();
    a.command(Command::Disconnect(who(2))).await;
    a.until("no conns", |view| view.conns().next().is_none()).await;
    assert!(a.directory.is_empty());
}

#[tokio::test]
async fn a_node_dialling_itself_does_not_connect() {
    let a = node(1).await;
    let nobody = peerkeep_core::Who::mesh(PeerKey::from_addr(a.addr));
    let outcome = a.connect(nobody, &[a.addr]).await;
    assert!(!matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    a.until("no conns", |view| view.conns().next().is_none()).await;
}

#[tokio::test]
async fn a_refusal_and_unknown_peers_are_answered() {
    let a = node(1).await;
    assert_eq!(a.connect(who(2), &[]).await, Outcome::Refused(Refusal::NoAddress));
    assert!(matches!(a.command(Command::Cancel(who(9))).await, Answer::No(_)));
    assert_eq!(a.connect(who(1), &[a.addr]).await, Outcome::Refused(Refusal::Myself));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_questions_are_refused_and_the_others_answered_once() {
    let a = node(1).await;
    let (hold, held) = std::sync::mpsc::sync_channel::<()>(1);
    let owner = a.owner.clone();
    let (begun, began) = tokio::sync::oneshot::channel();
    let blocking = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(owner.ask(move |_, _| {
            let _ = begun.send(());
            let _ = held.recv();
        }))
    });
    began.await.expect("the owner took it");
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..peerkeep_net::MAX_ASKS + 100 {
        let owner = a.owner.clone();
        waiting.spawn(async move { owner.ask(|_, _| ()).await });
    }
    // All of them are queued or refused once each task has run.
    while a.owner.counters().busy.read() < 100 {
        tokio::task::yield_now().await;
    }
    hold.send(()).expect("it is held");
    let results = waiting.join_all().await;
    let busy = results.iter().filter(|result| **result == Err(OwnerError::Busy)).count();
    assert_eq!((busy, results.len() - busy), (100, peerkeep_net::MAX_ASKS));
    blocking.await.expect("no panic").expect("answered");
}

/// Fault I8.
#[tokio::test]
async fn fault_l12_shutdown_closes_the_port_says_goodbye_and_answers_everybody() {
    let hole = blackhole();
    let a = node(1).await;
    let mut b = node(2).await;
    a.connect(b.who(), &[b.addr]).await;
    let owner = a.owner.clone();
    let to = addrs(&[hole.addr]);
    let waiting =
        tokio::spawn(async move { owner.connect(who(3), to, Until::Settled, LONG).await.expect("runs") });
    a.until("a dial under way", |view| view.conns().count() == 2).await;
    let (port, owner) = (a.addr.socket(), a.owner.clone());
    assert_eq!(a.stop().await, Stopped::Asked { cut: 0 });
    assert_eq!(waiting.await.expect("no panic"), Outcome::Shutdown);
    b.event(|e| e.what == Told::Lost(Close::Shutdown)).await;
    assert_eq!(owner.ask(|_, _| ()).await, Err(OwnerError::Stopped));
    let error = tokio::net::TcpStream::connect(port).await.expect_err("the port is closed");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn fault_l12_nobody_comes_in_and_nobody_waits_while_the_node_drains() {
    let hole = blackhole();
    let (a, b) = (node(1).await, node(2).await);
    a.connect(b.who(), &[b.addr]).await;
    // Keeps the node draining for as long as a goodbye may take.
    a.directory.find(&key(2)).expect("up").handle.ignore_close();
    let owner = a.owner.clone();
    let to = addrs(&[hole.addr]);
    let waiting = tokio::spawn(async move { owner.connect(who(3), to, Until::Settled, LONG).await });
    a.until("a dial under way", |view| view.conns().count() == 2).await;
    assert_eq!(a.owner.shutdown(LONG).await, Ok(Answer::Done));
    assert_eq!(waiting.await.expect("no panic"), Ok(Outcome::Shutdown));
    while tokio::net::TcpStream::connect(a.addr.socket()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!a.directory.is_empty(), "it still drains");
    assert!(matches!(a.connect(who(4), &[hole.addr]).await, Outcome::Refused(Refusal::Draining)));
    assert_eq!(tokio::time::timeout(LONG, a.running.stopped()).await, Ok(Stopped::Asked { cut: 0 }));
}

/// Fault R9.
#[tokio::test]
async fn a_panic_on_the_owner_stops_the_node_and_leaves_a_journal() {
    let dir = tempfile::tempdir().expect("a folder");
    let a = start(config(1), Some(dir.path()), Vec::new()).await;
    let learn = Command::Want { who: who(2), addrs: Addrs::new(), named: false };
    a.command(learn).await;
    let answer = a.owner.ask(|_, _| panic!("a test asked for it")).await;
    assert_eq!(answer, Err(OwnerError::Stopped));
    assert_eq!(tokio::time::timeout(LONG, a.running.stopped()).await.expect("it stops"), Stopped::Panicked);
    let file = std::fs::read_dir(dir.path()).expect("listable").next().expect("a segment").expect("listable");
    let bytes = std::fs::read(file.path()).expect("readable");
    let mut replay = journal::Replay::new(&bytes).expect("a segment");
    let mut out = Effects::new();
    while replay.step(&mut out).expect("the same digests").is_some() {}
    assert!(!replay.ended && replay.actions >= 2, "flushed up to the panic");
}
