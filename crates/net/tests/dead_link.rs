//! A link whose packets are dropped: TCP itself must notice, idle or with data in flight. Needs root for a network
//! namespace with a packet filter; says so loudly and passes where it may not.
#![allow(missing_docs)]

mod common;

use common::{in_namespace, is_child};
use peerkeep_net::TcpOptions;
use std::io::ErrorKind;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The defaults, ten times as fast.
fn quick() -> TcpOptions {
    TcpOptions {
        keepalive_idle: Duration::from_secs(3),
        keepalive_interval: Duration::from_secs(1),
        user_timeout: Duration::from_secs(5),
        ..TcpOptions::default()
    }
}

#[test]
fn faults_c1_c6_a_dead_link_is_noticed_idle_and_in_flight() {
    in_namespace("quick_child");
}

#[test]
fn faults_c1_c6_the_defaults_notice_a_dead_link_within_a_minute() {
    if std::env::var_os("PEERKEEP_SLOW_TESTS").is_none() {
        eprintln!("SKIPPED: takes a minute; set PEERKEEP_SLOW_TESTS=1 to run it");
        return;
    }
    in_namespace("default_child");
}

#[test]
fn fault_c6_both_sides_notice_a_loss_in_one_direction() {
    in_namespace("deaf_child");
}

#[test]
fn deaf_child() {
    if !is_child() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (mut idle, mut far_idle) = pair(&quick()).await;
        let (mut busy, mut far_busy) = pair(&quick()).await;
        let (mut ours, mut theirs) = pair(&quick()).await;
        // What the acceptors say is lost; what the diallers say still arrives.
        for far in [&far_idle, &far_busy, &theirs] {
            let port = far.local_addr().expect("connected").port();
            let rule = format!("add rule ip t i tcp sport {port} drop");
            assert!(Command::new("nft").arg(rule).status().expect("nft").success());
        }
        let since = Instant::now();
        far_busy.write_all(b"lost").await.expect("the buffer has room");
        ours.write_all(b"arrives, and nobody hears of it").await.expect("the buffer has room");
        theirs.read_exact(&mut [0; 31]).await.expect("this direction works");
        let ends = async {
            tokio::join!(
                end(&mut idle, since),
                end(&mut far_idle, since),
                end(&mut busy, since),
                end(&mut far_busy, since),
                end(&mut ours, since),
                end(&mut theirs, since),
            )
        };
        let ends = tokio::time::timeout(Duration::from_secs(30), ends).await.expect("all of them end");
        println!("noticed after {ends:?}");
        let ends = [ends.0, ends.1, ends.2, ends.3, ends.4, ends.5];
        // Whoever still hears the other one may have to wait for it to give up first.
        assert!(ends.iter().all(|end| *end <= Duration::from_secs(14)), "{ends:?}");
    });
}

/// When it ends in any way but an orderly one.
async fn end(stream: &mut TcpStream, since: Instant) -> Duration {
    stream.read(&mut [0]).await.expect_err("nothing can arrive");
    since.elapsed()
}

#[test]
fn quick_child() {
    // One probe's interval and the coarse timers of the kernel come on top.
    notice_within(quick(), Duration::from_secs(7));
}

#[test]
fn default_child() {
    notice_within(TcpOptions::default(), Duration::from_secs(60));
}

fn notice_within(options: TcpOptions, most: Duration) {
    if !is_child() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (mut idle, _kept) = pair(&options).await;
        let (mut busy, _kept_too) = pair(&options).await;
        let status = Command::new("nft").args(["chain ip t i { policy drop; }"]).status().expect("nft");
        assert!(status.success());
        let since = Instant::now();
        busy.write_all(b"data in flight").await.expect("the buffer has room");
        let (idle, busy) = tokio::join!(death(&mut idle, since), death(&mut busy, since));
        println!("noticed after {idle:?} idle, {busy:?} with data in flight");
        assert!(idle <= most && busy <= most, "idle {idle:?}, busy {busy:?}, allowed {most:?}");
    });
}

async fn pair(options: &TcpOptions) -> (TcpStream, TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let dialled = options.connect(listener.local_addr().expect("bound")).await.expect("it listens");
    (dialled, options.adopt(listener.accept().expect("a connection").0).expect("adopted"))
}

async fn death(stream: &mut TcpStream, since: Instant) -> Duration {
    let error = stream.read(&mut [0]).await.expect_err("nothing can arrive");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    since.elapsed()
}
