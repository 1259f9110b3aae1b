//! The store against killed writers, full disks, damaged and newer files.

use super::*;
use crate::{
    AddressSource, BanReason, CloseReason, ErrorKind, ErrorStatus, EventKind, PeerId, StepName, Timestamp,
};
use peerkeep_core::{Addr, PeerKey, StackId};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn who(number: u32) -> Who {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Who { stack: StackId::Mesh, key: PeerKey::ed25519(bytes) }
}

pub(super) fn peer(number: u32) -> StoredPeer {
    let [_, b, c, d] = number.to_be_bytes();
    let addr = |port| Addr::tcp(([10, b, c, d.max(1)], port).into());
    StoredPeer {
        who: who(number),
        addresses: vec![(addr(1), AddressSource::Proven), (addr(2), AddressSource::Gossip)],
        names: vec!["/dns4/a.example.org/tcp/7330".parse().expect("a name")],
        wanted: number.is_multiple_of(7),
        held: false,
        first_use: number.is_multiple_of(2),
        seen_at: Timestamp(u64::from(number)),
        updated_at: Timestamp(5),
        last_error: number.is_multiple_of(3).then(|| ErrorStatus {
            kind: ErrorKind::Refused,
            step: StepName::Connect,
            detail: 111,
            text: "refused".to_owned(),
        }),
        failures: u16::from(number.is_multiple_of(3)) * 4,
        wait: Duration::from_secs(u64::from(number % 3)),
    }
}

pub(super) fn ban(number: u32, span: Option<Duration>) -> StoredBan {
    let target = Target::Key(who(number).key);
    StoredBan { target, set_at: Timestamp(1_000), span, reason: BanReason::Operator }
}

pub(super) fn event(number: u32, age_ms: u64) -> StoredEvent {
    let event = EventKind::Lost {
        peer: PeerId(who(number).key),
        conn: "#1.1".to_owned(),
        reason: CloseReason::Dead,
        age_ms,
        error: None,
    };
    StoredEvent { who: who(number), at: Timestamp(age_ms), event }
}

pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

pub(super) async fn open(folder: &Path) -> (Store, Loaded) {
    Store::open(folder, StoreLimits::default()).await.expect("opens")
}

pub(super) fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).expect("lists").flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn everything_put_is_there_after_a_restart() {
    let folder = folder();
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(loaded, Loaded::default());
    for number in 0..1_000 {
        store.put_peer(peer(number));
    }
    store.remove_peer(who(3));
    store.put_ban(ban(1, None));
    store.put_ban(ban(2, Some(Duration::from_secs(60))));
    store.remove_ban(ban(1, None).target);
    store.put_epoch(77);
    store.put_event(event(1, 10));
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(loaded.peers.len(), 999);
    assert!(loaded.peers[0].wanted, "wanted ones come first");
    for found in &loaded.peers {
        assert_eq!(found, &peer(u32::from_be_bytes(found.who.key.bytes[..4].try_into().expect("four"))));
    }
    assert_eq!(loaded.bans, [ban(2, Some(Duration::from_secs(60)))]);
    assert_eq!((loaded.epoch, loaded.bad_rows), (77, 0));
    assert_eq!(store.history(Some(who(1)), 10).await, [event(1, 10)]);
    assert_eq!(store.history(None, 10).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let (store, _) = open(folder.path()).await;
    store.put_peer(peer(1));
    assert!(store.flush().await);
    for name in files(folder.path()) {
        let mode = std::fs::metadata(folder.path().join(&name)).expect("is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_flush_means_it_is_on_the_disk() {
    let folder = folder();
    let (store, _) = open(folder.path()).await;
    store.put_peer(peer(1));
    assert!(store.flush().await);
    let mut other = file::open(&folder.path().join(STORE_FILE)).await.expect("opens beside it");
    assert_eq!(file::load(&mut other, 10).await.expect("loads").peers, [peer(1)]);
    store.close().await;
}

#[tokio::test]
async fn fault_k6_every_table_is_capped_when_written_and_when_read() {
    let folder = folder();
    let limits = StoreLimits { peers: 50, bans: 20, history_per_peer: 5, history: 1_000 };
    let (store, _) = Store::open(folder.path(), limits).await.expect("opens");
    for number in 0..500 {
        store.put_peer(peer(number));
        store.put_ban(ban(number, None));
        if number % 40 == 0 {
            assert!(store.flush().await);
        }
    }
    for age in 0..100 {
        store.put_event(event(1, age));
    }
    assert!(store.flush().await);
    assert_eq!(store.history(Some(who(1)), 100).await.len(), 5);
    assert_eq!(store.history(Some(who(1)), 1).await, [event(1, 99)]);
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!((loaded.peers.len(), loaded.bans.len()), (50, 20));
    assert!(loaded.peers.iter().all(|peer| peer.wanted), "the wanted ones are kept");
    store.close().await;
    let (store, loaded) =
        Store::open(folder.path(), StoreLimits { peers: 7, bans: 7, ..limits }).await.expect("opens");
    assert_eq!((loaded.peers.len(), loaded.bans.len()), (7, 7));
    store.close().await;
}

#[tokio::test]
async fn fault_k5_a_newer_file_is_refused_and_left_alone() {
    let folder = folder();
    let (store, _) = open(folder.path()).await;
    store.put_peer(peer(1));
    store.close().await;
    let path = folder.path().join(STORE_FILE);
    let mut conn = file::open(&path).await.expect("opens");
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (999, 'from the future', 1, x'00', 0)",
    )
    .execute(&mut conn)
    .await
    .expect("writes");
    sqlx::Connection::close(conn).await.expect("closes");
    let before = std::fs::read(&path).expect("reads");
    let error = Store::open(folder.path(), StoreLimits::default()).await.err().expect("is refused");
    assert!(matches!(error, StoreError::Newer { theirs: 999, .. }), "{error}");
    assert_eq!(std::fs::read(&path).expect("reads"), before, "not one byte was changed");
    assert!(!files(folder.path()).iter().any(|name| name.contains("corrupt")));
}

/// Makes a store with 2,000 peers and a ban.
async fn filled(folder: &Path) {
    let (store, _) = open(folder).await;
    for number in 0..2_000 {
        store.put_peer(peer(number));
    }
    store.put_ban(ban(1, None));
    store.put_epoch(9);
    store.close().await;
}

#[tokio::test]
async fn fault_k4_a_damaged_file_is_put_aside_and_read_for_what_is_good() {
    for (damage, least_saved) in [("garbage", 0), ("truncated", 0), ("overwritten page", 1_000)] {
        let folder = folder();
        filled(folder.path()).await;
        let path = folder.path().join(STORE_FILE);
        let mut bytes = std::fs::read(&path).expect("reads");
        let half = bytes.len() / 2;
        match damage {
            "garbage" => bytes.fill(0x5a),
            "truncated" => bytes.truncate(half + 100),
            // One page, a leaf: which rows share it differs from run to run.
            _ => bytes[half - half % 4_096..][..4_096].fill(0xff),
        }
        std::fs::write(&path, &bytes).expect("writes");
        let (store, loaded) = open(folder.path()).await;
        assert!(loaded.peers.len() >= least_saved, "{damage}: {}", loaded.peers.len());
        assert!(files(folder.path()).iter().any(|name| name.starts_with("peerkeep.db.corrupt-")), "{damage}");
        store.put_peer(peer(5_000));
        assert!(store.flush().await, "{damage}");
        store.close().await;
        let (store, again) = open(folder.path()).await;
        assert_eq!(again.peers.len(), loaded.peers.len() + 1, "{damage}");
        assert_eq!(again.bans, loaded.bans, "{damage}");
        store.close().await;
    }
}

#[tokio::test]
async fn fault_k4_a_changed_row_is_left_out_and_the_rest_kept() {
    let folder = folder();
    filled(folder.path()).await;
    let path = folder.path().join(STORE_FILE);
    let mut conn = file::open(&path).await.expect("opens");
    sqlx::query("UPDATE peers SET wanted = 1 - wanted WHERE seen_at = 1999")
        .execute(&mut conn)
        .await
        .expect("runs");
    sqlx::query("UPDATE bans SET span_ms = 1").execute(&mut conn).await.expect("runs");
    sqlx::Connection::close(conn).await.expect("closes");
    let (store, loaded) = open(folder.path()).await;
    assert_eq!((loaded.peers.len(), loaded.bans.len(), loaded.bad_rows), (1_999, 0, 2));
    store.close().await;
}

#[tokio::test]
async fn fault_k4_an_empty_file_is_a_new_store() {
    let folder = folder();
    std::fs::write(folder.path().join(STORE_FILE), b"").expect("writes");
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(loaded, Loaded::default());
    store.put_peer(peer(1));
    assert!(store.flush().await);
    store.close().await;
}

#[tokio::test]
async fn fault_k3_a_store_that_cannot_be_opened_is_no_reason_to_stop_and_is_tried_again() {
    let folder = folder();
    let path = folder.path().join(STORE_FILE);
    std::fs::create_dir(&path).expect("something in the way");
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(loaded, Loaded::default());
    assert_eq!(store.ailment().expect("is ailing").part, "store");
    store.put_peer(peer(1));
    assert!(!store.flush().await);
    std::fs::remove_dir(&path).expect("out of the way");
    while !store.flush().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.ailment(), None);
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(loaded.peers, [peer(1)]);
    store.close().await;
}

#[tokio::test]
async fn fault_k3_a_full_disk_is_no_reason_to_stop_and_nothing_is_lost_once_there_is_room() {
    let folder = folder();
    let mount = |args: &[&str]| {
        let done = Command::new(args[0]).args(&args[1..]).arg(folder.path()).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=512k", "none"]) {
        eprintln!("skipped: a full disk needs root and the right to mount a tmpfs");
        return;
    }
    let (store, _) = open(folder.path()).await;
    let mut number = 0;
    while store.ailment().is_none() {
        assert!(number < 100_000, "the disk never filled");
        for _ in 0..100 {
            number += 1;
            store.put_peer(peer(number));
        }
        store.flush().await;
    }
    assert!(mount(&["mount", "-o", "remount,size=64m", "none"]), "room again");
    while !store.flush().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(loaded.peers.len(), usize::try_from(number).expect("fits"));
    assert_eq!(loaded.bad_rows, 0);
    store.close().await;
    assert!(mount(&["umount"]));
}

#[tokio::test]
async fn fault_k3_a_read_only_disk_is_no_reason_to_stop_and_nothing_is_lost_once_it_can_be_written() {
    let folder = folder();
    let mount = |args: &[&str]| {
        let done = Command::new(args[0]).args(&args[1..]).arg(folder.path()).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "none"]) {
        eprintln!("skipped: a read-only disk needs root and the right to mount a tmpfs");
        return;
    }
    let (store, _) = open(folder.path()).await;
    store.put_peer(peer(1));
    store.close().await;
    assert!(mount(&["mount", "-o", "remount,ro", "none"]));
    let (store, _) = open(folder.path()).await;
    store.put_peer(peer(2));
    assert!(!store.flush().await);
    assert_eq!(store.ailment().expect("is ailing").part, "store");
    assert!(mount(&["mount", "-o", "remount,rw", "none"]));
    while !store.flush().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.ailment(), None);
    store.close().await;
    let (store, mut loaded) = open(folder.path()).await;
    loaded.peers.sort_by_key(|peer| peer.who);
    assert_eq!((loaded.peers, loaded.bad_rows), (vec![peer(1), peer(2)], 0));
    assert!(!files(folder.path()).iter().any(|name| name.contains("corrupt")));
    store.close().await;
    assert!(mount(&["umount"]));
}

/// The process of the next test, whose writes the system fails from some length on; by itself it does nothing.
#[test]
fn k3_child() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Ok(folder) = std::env::var("PEERKEEP_K3_FOLDER") else { return };
    let folder = Path::new(&folder);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (store, _) = open(folder).await;
        let whole = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(100_000), ..whole }).expect("is lowered");
        let mut number = 0;
        while store.ailment().is_none() {
            assert!(number < 100_000, "no write ever failed");
            for _ in 0..100 {
                number += 1;
                store.put_peer(peer(number));
            }
            store.flush().await;
        }
        println!("{:?}", store.ailment());
        setrlimit(Resource::Fsize, whole).expect("is raised");
        while !store.flush().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(store.ailment(), None);
        store.close().await;
        let (store, loaded) = open(folder).await;
        assert_eq!(loaded.peers.len(), usize::try_from(number).expect("fits"));
        assert_eq!(loaded.bad_rows, 0);
        store.close().await;
        assert!(!files(folder).iter().any(|name| name.contains("corrupt")));
    });
}

#[test]
fn fault_k3_a_disk_that_fails_writes_is_no_reason_to_stop_and_nothing_is_lost_once_it_works() {
    let folder = folder();
    // The signal is ignored, so that the write fails instead.
    let done = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact store::tests::k3_child --nocapture"])
        .arg(std::env::current_exe().expect("this program"))
        .env("PEERKEEP_K3_FOLDER", folder.path())
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("Some(Ailment"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test]
async fn fault_k4_a_file_of_another_version_is_put_aside_and_its_rows_kept() {
    let folder = folder();
    filled(folder.path()).await;
    let path = folder.path().join(STORE_FILE);
    let mut conn = file::open(&path).await.expect("opens");
    sqlx::query("UPDATE _sqlx_migrations SET checksum = x'00'").execute(&mut conn).await.expect("runs");
    sqlx::Connection::close(conn).await.expect("closes");
    let (store, loaded) = open(folder.path()).await;
    assert_eq!((loaded.peers.len(), loaded.bans.len(), loaded.bad_rows), (2_000, 1, 0));
    assert!(files(folder.path()).iter().any(|name| name.starts_with("peerkeep.db.corrupt-")));
    store.close().await;
}

#[tokio::test]
async fn fault_k9_a_restart_loop_does_not_grow_the_file() {
    let folder = folder();
    let (store, _) = open(folder.path()).await;
    for number in 0..5_000 {
        store.put_peer(peer(number));
    }
    store.close().await;
    let mut size = 0;
    for round in 0..20 {
        let (store, loaded) = open(folder.path()).await;
        assert_eq!(loaded.peers.len(), 5_000);
        store.put_epoch(round);
        store.close().await;
        let now = std::fs::metadata(folder.path().join(STORE_FILE)).expect("is there").len();
        assert!(round == 0 || now <= size, "it grew in a restart loop: {size} to {now}");
        size = now;
    }
}

/// The process that the next test kills; by itself it does nothing.
#[test]
fn k1_child() {
    let Ok(folder) = std::env::var("PEERKEEP_K1_FOLDER") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (store, loaded) = open(Path::new(&folder)).await;
        let mut number = u32::try_from(loaded.epoch).expect("fits");
        loop {
            number += 1;
            for _ in 0..20 {
                store.put_peer(peer(number % 200));
            }
            store.put_ban(ban(number % 50, None));
            store.put_event(event(number % 10, 1));
            store.put_epoch(number.into());
            assert!(store.flush().await);
            println!("{number}");
        }
    });
}

#[tokio::test]
async fn fault_k1_a_killed_writer_leaves_a_whole_store() {
    use std::io::{BufRead, BufReader};
    let folder = folder();
    let mut random = 0x9e37_79b9_u64;
    let mut last = 0;
    for round in 0..50 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "store::tests::k1_child", "--nocapture"])
            .env("PEERKEEP_K1_FOLDER", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let stop = Instant::now() + Duration::from_micros(random >> 48);
        let mut acknowledged = 0;
        for line in lines.by_ref() {
            acknowledged = line.expect("reads").parse().unwrap_or(acknowledged);
            if acknowledged > 0 && Instant::now() >= stop {
                break;
            }
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("is reaped");
        acknowledged = lines.filter_map(|line| line.ok()?.parse().ok()).last().unwrap_or(acknowledged);
        let (store, loaded) = open(folder.path()).await;
        assert_eq!(loaded.bad_rows, 0, "round {round}");
        assert!(loaded.epoch >= acknowledged, "round {round}: {} < {acknowledged}", loaded.epoch);
        assert!(loaded.epoch > last, "round {round} wrote nothing");
        last = loaded.epoch;
        store.close().await;
    }
    assert!(!files(folder.path()).iter().any(|name| name.contains("corrupt")), "0 corrupt");
}
