//! Nodes in one process over loopback: connecting, keeping, banning, letting in and keeping out.

mod common;

use common::*;
use peerkeep::{
    Answer, CloseReason, CommandError, ConnectionState, ErrorKind, EventKind, Node, Outcome, PeerAddress,
    Reason, SixState, Standing, Target, ThreeState,
};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_node_connects_by_address_and_identity_and_both_sides_say_so() {
    let (a, b) = (node(1, settings(1)).await, node(2, settings(2)).await);
    let (mut at_a, mut at_b) = (a.events(), b.events());
    let outcome = a.connect(address(&b), WAIT).await.expect("is accepted");
    let Outcome::Connected { peer, conn, already: false } = outcome else { panic!("{outcome:?}") };
    assert_eq!(peer, b.id());
    let up = |event: &EventKind| matches!(event, EventKind::Connected { .. });
    let told = until(&mut at_a, "connected at a", up).await;
    assert!(matches!(&told.what, EventKind::Connected { conn: c, .. } if *c == conn), "{told:?}");
    until(&mut at_b, "connected at b", up).await;
    let seen = a.peer(b.id()).await.expect("is known");
    assert_eq!(seen.standing, Standing::Connected);
    assert!(
        matches!(&seen.states.connection, ConnectionState::Connected { peer_id, .. } if *peer_id == b.id())
    );
    assert_eq!((seen.states.actor, seen.states.lan), (SixState::Connected, Some(ThreeState::Connected)));
    assert!(seen.agent.as_deref().is_some_and(|agent| agent.starts_with("peerkeep/")));
    assert!(!seen.trusted_on_first_use);
    let link = seen.link.expect("is connected");
    assert!(link.local.is_some_and(|local| local.starts_with("127.0.0.")));
    assert_eq!(
        link.remote,
        address(&b).place.map(|place| match place {
            peerkeep::Place::Ip(addr) => addr.socket().to_string(),
            peerkeep::Place::Name { .. } | peerkeep::Place::List(_) => panic!("an IP address"),
        })
    );
    let why = a.why(b.id()).await.expect("is known");
    assert!(why.summary.starts_with("Connected for"), "{}", why.summary);
    let again = a.connect(address(&b), WAIT).await.expect("is accepted");
    assert!(matches!(again, Outcome::Connected { already: true, .. }), "{again:?}");
    let status = a.status().await.expect("runs");
    assert_eq!(
        (status.counts.connected, status.totals.connected, status.totals.handshake_failures),
        (1, 1, 0)
    );
    a.shutdown().await;
    let lost = until(&mut at_b, "lost at b", |event| matches!(event, EventKind::Lost { .. })).await;
    assert!(matches!(lost.what, EventKind::Lost { reason: CloseReason::Shutdown, .. }), "{lost:?}");
    assert!(a.status().await.is_none());
    assert_eq!(a.connect(address(&b), WAIT).await, Err(CommandError::Stopped));
    b.shutdown().await;
}

#[tokio::test]
async fn an_address_without_identity_is_trusted_on_first_use_and_pinned() {
    let folder = tempfile::tempdir().expect("a folder");
    let a = stored(folder.path(), settings(1)).await;
    let b = node(2, settings(2)).await;
    let place = bare(&b);
    let outcome = a.connect(place.clone(), WAIT).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { peer, .. } if peer == b.id()), "{outcome:?}");
    let seen = a.peer(b.id()).await.expect("is known by its identity");
    assert!(seen.trusted_on_first_use);
    assert_eq!(a.peers().await.len(), 1, "the nameless contact is gone");
    let port = b.addresses()[0].clone();
    b.shutdown().await;
    a.shutdown().await;
    // Somebody else at the same address is not taken for b, also after a restart.
    let a = stored(folder.path(), settings(1)).await;
    let mut theirs = settings(2);
    let Some(peerkeep::Place::Ip(addr)) = port.place else { panic!("an IP address") };
    theirs.listen.addresses = vec![addr.socket().into()];
    let c = node(3, theirs).await;
    let outcome = a.connect(place, Duration::from_secs(2)).await.expect("is accepted");
    let (Outcome::GaveUp { error: Some(error), .. } | Outcome::StillTrying { error: Some(error), .. }) =
        outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(error.kind, ErrorKind::Identity);
    a.shutdown().await;
    c.shutdown().await;
}

#[tokio::test]
async fn a_dial_to_nobody_fails_in_document_000s_words_and_is_given_up() {
    let mut quick = settings(1);
    quick.backoff.max_attempts = 2;
    let a = node(1, quick).await;
    // Bound, so that nobody else takes the port meanwhile, and not listening.
    let free = tokio::net::TcpSocket::new_v4().expect("a socket");
    free.bind(([127, 0, 0, 9], 0).into()).expect("a port");
    let nobody: PeerAddress = format!(
        "{}/p2p/{}",
        multiaddr(free.local_addr().expect("bound")),
        peerkeep::Identity::from_seed(&[9; 32]).id()
    )
    .parse()
    .expect("an address");
    let outcome = a.connect(nobody.clone(), WAIT).await.expect("is accepted");
    let Outcome::GaveUp { attempts: 2, error: Some(error), peer } = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.text.contains("(connection refused)"), "{}", error.text);
    let seen = a.peer(peer).await.expect("is known");
    assert_eq!(seen.standing, Standing::GaveUp);
    let ConnectionState::ConnectionFailed { attempts, max_attempts, error, .. } = &seen.states.connection
    else {
        panic!("{:?}", seen.states)
    };
    assert_eq!((*attempts, *max_attempts), (2, 2));
    assert!(error.contains("(connection refused)"), "{error}");
    assert_eq!(seen.states.actor, SixState::Failed);
    let why = a.why(peer).await.expect("is known");
    assert_eq!(why.reason, Reason::GaveUp);
    assert_eq!(a.retry(peer).await, Err(CommandError::Refused(Reason::GaveUp)));
    assert_eq!(a.reset(peer).await, Ok(Answer::Done));
    let seen = a.peer(peer).await.expect("is known");
    assert_eq!(seen.states.connection, ConnectionState::Disconnected);
    assert_eq!(a.forget(peer).await, Ok(Answer::Done));
    assert_eq!(a.peer(peer).await, None);
    a.shutdown().await;
}

fn multiaddr(socket: std::net::SocketAddr) -> String {
    format!("/ip4/{}/tcp/{}", socket.ip(), socket.port())
}

#[tokio::test]
async fn a_wanted_peer_comes_back_after_its_restart_and_after_ours() {
    let (ours, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let a = stored(ours.path(), settings(1)).await;
    let b = stored(theirs.path(), settings(2)).await;
    let id = b.id();
    let mut fixed = settings(2);
    let Some(peerkeep::Place::Ip(addr)) = address(&b).place else { panic!("an IP address") };
    fixed.listen.addresses = vec![addr.socket().into()];
    a.want(address(&b)).await.expect("is accepted");
    connected(&a, &b).await;
    let mut events = a.events();
    b.shutdown().await;
    until(&mut events, "the loss", |event| matches!(event, EventKind::Lost { .. })).await;
    let b = stored(theirs.path(), fixed.clone()).await;
    assert_eq!(b.id(), id, "the identity is kept");
    connected(&a, &b).await;
    let epoch = a.status().await.expect("runs").boot_epoch;
    a.shutdown().await;
    let a = stored(ours.path(), settings(1)).await;
    assert!(a.status().await.expect("runs").boot_epoch > epoch, "H15: the epoch rises at every start");
    connected(&a, &b).await;
    assert!(a.peer(id).await.expect("is known").wanted, "wanting survives");
    let history = a.history(Some(id), 10).await;
    assert!(history.len() >= 4, "{history:?}");
    assert_eq!(a.unwant(id).await, Ok(Answer::Done));
    a.shutdown().await;
    let a = stored(ours.path(), settings(1)).await;
    assert!(!a.peer(id).await.expect("is remembered").wanted, "and so does not wanting");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn fault_i5_a_ban_ends_the_connection_keeps_it_out_and_survives_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let a = stored(folder.path(), settings(1)).await;
    let b = node(2, settings(2)).await;
    a.want(address(&b)).await.expect("is accepted");
    connected(&a, &b).await;
    let mut at_b = b.events();
    a.ban(Target::Key(b.id().key()), Some(Duration::from_secs(3_600))).await.expect("is accepted");
    let lost = until(&mut at_b, "the loss", |event| matches!(event, EventKind::Lost { .. })).await;
    assert!(matches!(lost.what, EventKind::Lost { reason: CloseReason::Banned, .. }), "{lost:?}");
    let why = a.why(b.id()).await.expect("is known");
    assert_eq!(why.reason, Reason::Banned);
    assert!(why.until_in_ms.is_some_and(|ms| ms > 3_590_000 && ms <= 3_600_000), "{why:?}");
    let refused = a.connect(b.id(), WAIT).await;
    assert_eq!(refused, Err(CommandError::Refused(Reason::Banned)));
    let address_of_a = address(&a);
    let outcome = b.connect(address_of_a, Duration::from_secs(2)).await.expect("is accepted");
    assert!(!matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    a.shutdown().await;
    let a = stored(folder.path(), settings(1)).await;
    let bans = a.bans().await;
    assert_eq!(bans.len(), 1);
    assert_eq!(bans[0].target.0, b.id().to_string());
    assert_eq!(bans[0].reason, peerkeep::BanReason::Operator);
    assert!(
        bans[0].remaining_seconds.is_some_and(|left| left > 3_500 && left <= 3_600),
        "I7: not longer than set"
    );
    assert_ne!(a.peer(b.id()).await.expect("is known").standing, Standing::Connected);
    a.unban(Target::Key(b.id().key())).await.expect("is banned");
    // Still wanted, so it comes back by itself.
    connected(&a, &b).await;
    assert_eq!(a.unban(Target::Key(b.id().key())).await, Err(CommandError::Refused(Reason::Unknown)));
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn fault_i4_an_allow_list_lets_in_by_identity_alone() {
    let (friend, stranger) = (node(2, settings(2)).await, node(3, settings(3)).await);
    let mut strict = settings(1);
    strict.network.allow = vec![friend.id()];
    let a = node(1, strict).await;
    let outcome = friend.connect(address(&a), WAIT).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    let outcome = stranger.connect(address(&a), Duration::from_secs(2)).await.expect("is accepted");
    assert!(!matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    assert_eq!(a.peers().await.iter().filter(|peer| peer.standing == Standing::Connected).count(), 1);
    for node in [a, friend, stranger] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn another_network_or_secret_stays_outside() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("sets the mode");
        Some(path)
    };
    let mut ours = settings(1);
    ours.network.secret_file = secret("one", "correct horse battery");
    let mut same = settings(2);
    same.network.secret_file = ours.network.secret_file.clone();
    let mut wrong = settings(3);
    wrong.network.secret_file = secret("two", "incorrect donkey cell");
    let mut other = same.clone();
    other.network.name = "elsewhere".to_owned();
    let a = node(1, ours).await;
    let member = node(2, same).await;
    assert!(matches!(member.connect(address(&a), WAIT).await, Ok(Outcome::Connected { .. })));
    for (number, settings) in [(3, wrong), (4, other), (5, settings(5))] {
        let outsider = node(number, settings).await;
        let outcome = outsider.connect(address(&a), Duration::from_secs(2)).await.expect("is accepted");
        assert!(!matches!(outcome, Outcome::Connected { .. }), "{number}: {outcome:?}");
        outsider.shutdown().await;
    }
    a.shutdown().await;
    member.shutdown().await;
}

#[tokio::test]
async fn disconnect_closes_both_sides_and_a_known_peer_stays_down() {
    let (a, b) = (node(1, settings(1)).await, node(2, settings(2)).await);
    let mut at_b = b.events();
    a.connect(address(&b), WAIT).await.expect("is accepted");
    connected(&a, &b).await;
    // So that b, which knows a listen address of a, has no wish of its own.
    assert_eq!(a.disconnect(b.id()).await, Ok(Answer::Done));
    let lost = until(&mut at_b, "the loss", |event| matches!(event, EventKind::Lost { .. })).await;
    assert!(matches!(lost.what, EventKind::Lost { reason: CloseReason::Requested, .. }), "{lost:?}");
    assert!(a.disconnect(a.id()).await.is_err());
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn two_that_dial_each_other_at_once_end_with_one_connection() {
    let (a, b) = (node(1, settings(1)).await, node(2, settings(2)).await);
    for _ in 0..5 {
        let (from_a, from_b) = (address(&a), address(&b));
        let (x, y) = tokio::join!(a.connect(from_b, WAIT), b.connect(from_a, WAIT));
        assert!(
            matches!(x, Ok(Outcome::Connected { .. })) && matches!(y, Ok(Outcome::Connected { .. })),
            "{x:?} {y:?}"
        );
        connected(&a, &b).await;
        let (mut at_a, mut at_b) = (a.events(), b.events());
        let _ = a.reset(b.id()).await;
        let over = |event: &EventKind| matches!(event, EventKind::Lost { .. });
        until(&mut at_a, "over at a", over).await;
        until(&mut at_b, "over at b", over).await;
        let _ = b.reset(a.id()).await;
    }
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn four_nodes_told_one_address_find_each_other() {
    let first = node(1, settings(1)).await;
    let mut nodes = vec![first.clone()];
    for number in 2..=4 {
        let mut settings = settings(number);
        settings.peers.wanted = vec![bare(&first)];
        nodes.push(node(number, settings).await);
    }
    for (index, one) in nodes.iter().enumerate() {
        for other in &nodes[index + 1..] {
            connected(one, other).await;
        }
    }
    for node in &nodes {
        let status = node.status().await.expect("runs");
        assert_eq!(status.counts.connected, 3);
    }
    for node in nodes {
        node.shutdown().await;
    }
}

/// Fault G3: never half.
#[tokio::test]
async fn reload_takes_all_or_nothing() {
    let (a, b) = (node(1, settings(1)).await, node(2, settings(2)).await);
    let mut bad = a.settings();
    bad.limits.total = 0;
    assert!(matches!(a.configure(bad).await, Err(CommandError::Settings(_))));
    assert_eq!(a.settings().limits.total, 500);
    let mut good = a.settings();
    good.limits.total = 20;
    good.node.threads = 7;
    good.peers.wanted = vec![address(&b)];
    let mut events = a.events();
    // Fault G3: what only a start can change is refused, and nothing of the rest is taken.
    assert_eq!(a.configure(good.clone()).await, Err(CommandError::NeedsRestart(vec!["node.threads"])));
    assert_eq!(a.settings().limits.total, 500);
    good.node.threads = a.settings().node.threads;
    assert_eq!(a.configure(good).await, Ok(vec![]));
    until(&mut events, "configured", |event| *event == EventKind::Configured).await;
    connected(&a, &b).await;
    let now = a.settings();
    assert_eq!(now.limits.total, 20);
    let mut quic = a.settings();
    (quic.quic.retry_above, quic.quic.early_data) = (5, true);
    assert_eq!(a.configure(quic).await, Ok(vec!["quic.early_data"]), "waits for a start");
    let now = a.settings().quic;
    assert_eq!((now.retry_above, now.early_data), (5, false));
    let mut strict = a.settings();
    strict.network.allow = vec![peerkeep::Identity::from_seed(&[77; 32]).id()];
    let mut at_b = b.events();
    assert_eq!(a.configure(strict).await, Ok(vec![]));
    until(&mut at_b, "shut out", |event| matches!(event, EventKind::Lost { .. })).await;
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn fault_l5_a_second_node_in_the_same_folder_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let a = stored(folder.path(), settings(1)).await;
    let second = Node::builder().config(settings(1)).data_dir(folder.path().join("data")).start().await;
    assert!(second.is_err_and(|error| error.to_string().contains("another node is running")));
    a.shutdown().await;
    let again = stored(folder.path(), settings(1)).await;
    again.shutdown().await;
}

#[tokio::test]
async fn fault_l4_a_taken_port_is_a_clear_error_or_the_next_one() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut ours = settings(1);
    ours.listen.addresses = vec![taken.local_addr().expect("bound").into()];
    let error = Node::builder().config(ours.clone()).start().await.expect_err("is refused").to_string();
    assert!(error.contains("already in use"), "{error}");
    ours.listen.next_port = true;
    let a = node(1, ours).await;
    assert_eq!(a.addresses().len(), 2, "one for each transport");
    a.shutdown().await;
}

#[tokio::test]
async fn dropping_the_last_clone_stops_the_node_and_frees_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let a = stored(folder.path(), settings(1)).await;
    let mut events = a.events();
    drop(a);
    soon("the end of the events", async { while events.next().await.is_some() {} }).await;
    soon("a free folder", async {
        loop {
            let started =
                Node::builder().config(settings(1)).data_dir(folder.path().join("data")).start().await;
            if let Ok(node) = started {
                return node.shutdown().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn fault_k3_a_node_without_a_writable_store_runs_says_so_and_recovers() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let first = stored(folder.path(), settings(1)).await;
    first.shutdown().await;
    for file in ["peerkeep.db", "peerkeep.db-wal", "peerkeep.db-shm"] {
        let _ = std::fs::remove_file(data.join(file));
    }
    std::fs::create_dir(data.join("peerkeep.db")).expect("something in the way");
    let a = stored(folder.path(), settings(1)).await;
    let b = node(2, settings(2)).await;
    let mut events = a.events();
    assert!(matches!(a.connect(address(&b), WAIT).await, Ok(Outcome::Connected { .. })));
    let health = a.status().await.expect("runs").health;
    assert_eq!(health.first().map(|ailment| ailment.part.as_str()), Some("store"), "{health:?}");
    std::fs::remove_dir(data.join("peerkeep.db")).expect("out of the way");
    until(&mut events, "the recovery", |event| matches!(event, EventKind::Recovered { .. })).await;
    assert_eq!(a.status().await.expect("runs").health, []);
    a.shutdown().await;
    let a = stored(folder.path(), settings(1)).await;
    assert!(a.peer(b.id()).await.is_some(), "what was learned meanwhile is kept");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn host_names_are_looked_up_with_and_without_an_identity() {
    let b = node(2, settings(1)).await;
    let Some(peerkeep::Place::Ip(addr)) = address(&b).place else { panic!("an IP address") };
    let named = format!("/dns4/localhost/tcp/{}", addr.port);
    let mut ours = settings(1);
    ours.peers.wanted = vec![format!("{named}/p2p/{}", b.id()).parse().expect("an address")];
    let a = node(1, ours).await;
    connected(&a, &b).await;
    let seen = a.peer(b.id()).await.expect("is known");
    assert!(seen.addresses.iter().any(|known| known.address.contains("localhost")), "{:?}", seen.addresses);
    let c = node(3, settings(1)).await;
    let outcome =
        c.connect(named.parse::<PeerAddress>().expect("an address"), WAIT).await.expect("is accepted");
    assert!(matches!(outcome, Outcome::Connected { peer, .. } if peer == b.id()), "{outcome:?}");
    assert!(c.peer(b.id()).await.expect("is known").trusted_on_first_use);
    let nowhere: PeerAddress = "nowhere.invalid:1".parse().expect("an address");
    assert_eq!(c.connect(nowhere, WAIT).await, Err(CommandError::Name("nowhere.invalid".to_owned())));
    for node in [a, b, c] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn fault_k7_without_a_journal_folder_a_node_runs_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let a = stored(folder.path(), settings(1)).await;
    assert_eq!(a.status().await.expect("runs").health, []);
    a.shutdown().await;
    let journal = folder.path().join("data/journal");
    assert!(std::fs::read_dir(&journal).expect("a journal is kept").count() > 0);
    std::fs::remove_dir_all(&journal).expect("goes");
    std::fs::write(&journal, b"in the way").expect("writes");
    let a = stored(folder.path(), settings(1)).await;
    let health = a.status().await.expect("runs").health;
    assert_eq!(health.first().map(|ailment| ailment.part.as_str()), Some("journal"), "{health:?}");
    a.shutdown().await;
}

#[tokio::test]
async fn fault_i9_a_node_does_not_start_with_a_damaged_identity() {
    let folder = tempfile::tempdir().expect("a folder");
    let a = stored(folder.path(), settings(1)).await;
    a.shutdown().await;
    let key = folder.path().join("data").join(peerkeep::IDENTITY_FILE);
    std::fs::write(&key, b"").expect("writes");
    let error = Node::builder().config(settings(1)).data_dir(folder.path().join("data")).start().await;
    let error = error.expect_err("is refused").to_string();
    assert!(error.contains("does not hold an identity") && error.contains("restore it"), "{error}");
    assert_eq!(std::fs::read(&key).expect("is still there"), b"");
}

#[test]
fn s3_54_nodes_do_the_same_with_keepalive_only_and_the_short_handshake() {
    once_more_with_keepalive_only("");
}
