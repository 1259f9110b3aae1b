//! A machine whose addresses and routes come and go. Needs root for a network namespace; says so loudly and passes
//! where it may not.
#![allow(missing_docs)]

mod common;

use common::{LONG, addrs, config, in_namespace, is_child, start, who};
use peerkeep_core::{Action, Addr, Change, Command, Effects, FaultKind, Stage, journal};
use peerkeep_net::{Listener, TcpOptions};
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn fault_d12_a_route_that_comes_back_is_heard_of_and_dialled() {
    in_namespace("route_child");
}

#[test]
fn fault_l6_a_listener_outlives_its_address() {
    in_namespace("address_child");
}

fn ip(arguments: &str) {
    let status = std::process::Command::new("ip").args(arguments.split(' ')).status().expect("iproute2");
    assert!(status.success(), "ip {arguments}");
}

#[tokio::test]
async fn route_child() {
    if !is_child() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let socket = tokio::net::TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let port = socket.local_addr().expect("bound").port();
    let a = start(config(1), Some(dir.path()), Vec::new()).await;
    let there = Addr::tcp(SocketAddr::from(([10, 9, 9, 9], port)));
    a.command(Command::Want { who: who(2), addrs: addrs(&[there]), named: false }).await;
    a.until("unreachable", |view| {
        view.contacts().any(|seen| seen.last_fault.is_some_and(|fault| fault.kind == FaultKind::Unreachable))
    })
    .await;
    ip("addr add 10.9.9.9/32 dev lo");
    tokio::time::timeout(LONG, socket.accept()).await.expect("it is dialled").expect("accepted");
    a.until("a dial", |view| view.conns().any(|conn| conn.stage == Stage::Dialing)).await;
    a.stop().await;
    let heard = std::fs::read_dir(dir.path()).expect("the journal").any(|entry| {
        let bytes = std::fs::read(entry.expect("listable").path()).expect("readable");
        let mut replay = journal::Replay::new(&bytes).expect("a segment");
        let mut out = Effects::new();
        std::iter::from_fn(|| replay.step(&mut out).expect("the same digests"))
            .any(|(_, action)| matches!(action, Action::Network(Change::Moved)))
    });
    assert!(heard, "the kernel's word reached the core");
}

#[tokio::test]
async fn address_child() {
    if !is_child() {
        return;
    }
    ip("addr add 10.9.9.9/32 dev lo");
    let (owner, _engine) = peerkeep_net::prepare();
    let options = TcpOptions::default();
    let listener = Listener::bind(SocketAddr::from(([10, 9, 9, 9], 0)), &options).expect("ours");
    let tickets = peerkeep_net::Tickets::new(peerkeep_core::StackId::Mesh);
    let serving = listener.serve(tickets, owner.facts(), owner.counters().clone()).expect("watched");
    options.connect(serving.local()).await.expect("it listens");
    ip("addr del 10.9.9.9/32 dev lo");
    let gone = tokio::time::timeout(Duration::from_secs(1), options.connect(serving.local())).await;
    assert!(!matches!(gone, Ok(Ok(_))), "the address is gone");
    ip("addr add 10.9.9.9/32 dev lo");
    options.connect(serving.local()).await.expect("it listens again");
}
