//! The store and the identity against a power failure at every step (fault K2): a real process writes while `strace`
//! records what it asks of the disk, and [`disk`] rebuilds what could be left after each of those calls.

mod disk;

use super::tests::{ban, event, files, folder, open, peer};
use super::*;
use crate::{Identity, IdentityError};
use disk::{Call, Disk};
use std::io::Write;
use std::process::{Command, Stdio};

const FOLDER: &str = "PEERKEEP_K2_FOLDER";
const IDENTITY: &str = "node.key";
/// How often the writer opens the store, and how often it writes and asks whether it is on the disk each time.
const STARTS: u32 = 3;
const ROUNDS: u32 = 4;
/// What is rebuilt after each call, beside "all of it arrived" and "nothing that was not synced did".
const CHANCES: u64 = 2;

/// Says what is now promised to outlive the power, in one call that `strace` sees between the others.
fn tell(what: &str) {
    let mut out = io::stdout().lock();
    out.write_all(format!("\ntold {what}\n").as_bytes())
        .and_then(|()| out.flush())
        .expect("a pipe that is read");
}

/// The process that is recorded; by itself it does nothing.
#[test]
fn k2_child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    Identity::load_or_create(&folder.join(IDENTITY)).expect("an identity");
    tell("0");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for start in 0..STARTS {
            let (store, _) = open(folder).await;
            for round in 1..=ROUNDS {
                let number = start * ROUNDS + round;
                store.put_ban(ban(number, None));
                store.put_epoch(number.into());
                assert!(store.flush().await);
                tell(&number.to_string());
                // Not synced by itself, but never half there.
                store.put_peer(peer(number));
                store.put_event(event(number, 1));
                assert!(store.flush().await);
            }
            store.close().await;
        }
    });
}

/// Runs the writer in `folder` under `strace`; `None` where that may not be.
fn record(folder: &Path) -> Option<Vec<Call>> {
    let trace = tempfile::NamedTempFile::new().expect("a temporary file");
    let calls = "trace=open,openat,write,pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,\
                 linkat,unlink,unlinkat";
    let ran = Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "1048576", "-e", calls, "-o"])
        .arg(trace.path())
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "store::power::k2_child", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !ran.is_ok_and(|status| status.success()) {
        return None;
    }
    let text = std::fs::read_to_string(trace.path()).expect("strace writes text");
    Some(disk::parse(&text, folder))
}

/// Starts on what the failure left, as a node would.
async fn check(left: &disk::Image, told: Option<u32>, identity: &Identity, step: &str) {
    let folder = folder();
    left.write(folder.path());
    match Identity::load(&folder.path().join(IDENTITY)) {
        Ok(found) => assert_eq!(found.id(), identity.id(), "{step}"),
        Err(IdentityError::Missing { .. }) => assert_eq!(told, None, "{step}: the identity was promised"),
        Err(error) => panic!("{step}: {error}"),
    }
    let (store, loaded) = open(folder.path()).await;
    store.close().await;
    let found = files(folder.path());
    assert!(!found.iter().any(|name| name.contains("corrupt")), "{step}: put aside: {found:?}");
    assert_eq!(loaded.bad_rows, 0, "{step}");
    let told = told.unwrap_or(0);
    let epoch = u32::try_from(loaded.epoch).expect("fits");
    assert!((told..=told + 1).contains(&epoch), "{step}: {told} was promised, {epoch} found");
    for number in 1..=told {
        assert!(loaded.bans.contains(&ban(number, None)), "{step}: ban {number} of {told} is gone");
    }
    for found in &loaded.peers {
        let whole = (1..=STARTS * ROUNDS).any(|number| peer(number) == *found);
        assert!(whole, "{step}: half a peer: {found:?}");
    }
}

#[tokio::test]
async fn fault_k2_power_that_fails_at_any_step_leaves_the_older_version_or_the_newer() {
    let written = folder();
    let Some(calls) = record(written.path()) else {
        eprintln!("SKIPPED fault_k2: strace is missing or may not trace here");
        return;
    };
    let identity = Identity::load(&written.path().join(IDENTITY)).expect("was written");
    let (mut disk, mut told, mut tried) = (Disk::default(), None, 0);
    for (number, call) in calls.iter().enumerate() {
        if let Call::Told(what) = call {
            told = Some(*what);
            continue;
        }
        disk.apply(call);
        let step = format!("call {number} of {}, {call}", calls.len());
        check(&disk.all(), told, &identity, &step).await;
        check(&disk.none(), told, &identity, &step).await;
        for chance in 0..CHANCES {
            let seed = number as u64 * CHANCES + chance;
            check(&disk.some(seed), told, &identity, &format!("{step}, chance {seed}")).await;
        }
        tried += 1;
    }
    assert_eq!(told, Some(STARTS * ROUNDS), "the writer came to its end");
    assert!(tried > 100, "only {tried} calls were seen");
}
