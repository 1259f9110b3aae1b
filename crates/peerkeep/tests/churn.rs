//! What is left of connections that are over: nothing. Whole nodes in this process, over TCP and QUIC, and what the kernel says
//! this process holds. The long run of the same code is `cargo xtask bench churn`.

mod common;
#[path = "../../../bench/crowd/src/cycle.rs"]
mod cycle;

use common::settings;
use cycle::{Cycler, rest};
use peerkeep::{Identity, ListenAddress, Node, Settings};
use std::fs;

/// Cycles before the first look: tables, pools and the allocator have their size by then.
const FIRST: usize = 150;
/// Cycles between the looks. A connection that is kept costs more than 10 KiB, one descriptor, or both.
const MORE: usize = 300;
/// What the allocator may keep; connections that are kept would be 7 MiB over TCP alone.
const SLACK_KIB: u64 = 3_000;

/// Resident memory and open descriptors of this process.
fn held() -> (u64, usize) {
    let text = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
    let rss = text.lines().find_map(|line| line.strip_prefix("Rss:")).expect("a line");
    let kib = rss.trim().trim_end_matches("kB").trim().parse().expect("a number");
    (kib, fs::read_dir("/proc/self/fd").expect("Linux").count())
}

async fn node(number: u8, listen: Option<ListenAddress>) -> Node {
    let mut settings: Settings = settings(1);
    settings.listen.addresses = listen.into_iter().collect();
    settings.limits.dials_per_minute = 1 << 20;
    settings.limits.dials_per_minute_per_ip = 1 << 20;
    let identity = Identity::from_seed(&[number; 32]);
    Node::builder().identity(identity).config(settings).start().await.expect("the node starts")
}

/// S1.81: the same code made a hundred thousand cycles, see docs/performance.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_81_connects_and_disconnects_leave_memory_and_descriptors_flat() {
    let any = ([127, 0, 0, 1], 0).into();
    let listeners =
        [node(1, Some(ListenAddress::tcp(any))).await, node(2, Some(ListenAddress::quic(any))).await];
    let mut cyclers = Vec::new();
    for (number, listener) in (3..).zip(&listeners) {
        cyclers.push(Cycler::new(node(number, None).await, common::address(listener)).expect("an identity"));
    }
    let mut looks = Vec::new();
    for cycles in [FIRST, MORE] {
        for cycler in &mut cyclers {
            cycler.run(cycles).await.expect("a cycle");
        }
        rest(&[&listeners[0], &listeners[1]]).await.expect("all are over");
        looks.push(held());
    }
    let [(kib_before, fds_before), (kib, fds)] = looks[..] else { panic!("two looks") };
    println!("{kib_before} KiB and {fds_before} descriptors, then {kib} and {fds}");
    assert_eq!(fds, fds_before, "descriptors are left over");
    assert!(kib <= kib_before + SLACK_KIB, "{kib} KiB after {MORE} cycles each, {kib_before} before");
}
