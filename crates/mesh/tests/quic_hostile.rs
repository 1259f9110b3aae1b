//! What strangers can send to a QUIC port: first packets without end, garbage, unknown versions, used address proofs.
//! Nothing of it may leave state behind that is not bounded and counted.

mod common;

use common::*;
use peerkeep_core::{Fact, StackId};
use peerkeep_net::{
    Counters, Facts, MAX_UNDECIDED, Quic, QuicListener, QuicOptions, Serving, Stack, Tickets, quic_fault,
};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// A port of a node whose core says nothing.
struct Door {
    at: SocketAddr,
    quic: Quic,
    tickets: Tickets,
    facts: Facts,
    counters: Arc<Counters>,
    _serving: Serving,
}

fn door(node: &Node, retry_above: usize) -> Door {
    let options = QuicOptions { retry_above, ..QuicOptions::default() };
    let quic = Quic::new(node.stack.quic_server(), options);
    let listener = QuicListener::bind(([127, 0, 0, 1], 0).into(), &options).expect("binds");
    let (tickets, facts, counters) =
        (Tickets::new(StackId::Mesh), Facts::default(), Arc::<Counters>::default());
    let at = listener.local();
    let serving = listener.serve(&quic, tickets.clone(), facts.clone(), counters.clone()).expect("watched");
    Door { at, quic, tickets, facts, counters, _serving: serving }
}

/// First packets of so many connections, as diallers send them.
async fn first_packets(node: &Node, count: usize) -> Vec<Vec<u8>> {
    let sink = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("binds");
    let to = sink.local_addr().expect("bound");
    let dial = node.stack.quic_dial(&dial_terms(None, to)).expect("QUIC");
    let mut packets = Vec::new();
    let mut bytes = [0; 2048];
    for _ in 0..count {
        // One endpoint each: what it says at its end comes from a port that is not looked at any more.
        let endpoint =
            quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("an endpoint");
        let mine = endpoint.local_addr().expect("bound");
        let _connecting = endpoint.connect_with(dial.config.clone(), to, "peerkeep").expect("begun");
        packets.push(loop {
            let (length, from) = soon(sink.recv_from(&mut bytes)).await.expect("a packet");
            if from == mine {
                break bytes[..length].to_vec();
            }
        });
    }
    packets
}

/// Bytes that came back, until nothing does for a while.
fn answers(socket: &UdpSocket) -> Vec<usize> {
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
    let mut bytes = [0; 2048];
    std::iter::from_fn(|| socket.recv(&mut bytes).ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_h11_first_packets_above_the_threshold_have_to_prove_their_address() {
    let (a, b) = (Node::new(1), Node::new(2));
    let door = door(&b, 4);
    let packets = first_packets(&a, 100).await;
    let attacker = UdpSocket::bind("127.0.0.1:0").expect("binds");
    for packet in &packets {
        attacker.send_to(packet, door.at).expect("sent");
        tokio::task::yield_now().await;
    }
    until(|| door.counters.arrivals.read() == 100).await;
    assert_eq!((door.tickets.len(), door.quic.pending()), (4, 4), "what is kept");
    assert_eq!(door.counters.quic_retries.read(), 96);
    let asked = attacker.try_clone().expect("it can");
    let sizes = tokio::task::spawn_blocking(move || answers(&asked)).await.expect("no panic");
    assert_eq!(sizes.len(), 96, "each is asked once");
    assert!(sizes.iter().all(|size| *size < 200), "much less than it sent: {sizes:?}");

    // Somebody real is let in all the same, one round trip later: the address is proven by the answer.
    let quic = Quic::new(a.stack.quic_server(), QuicOptions::default());
    let terms = dial_terms(Some(b.key()), door.at);
    let dial = a.stack.quic_dial(&terms).expect("QUIC");
    let honest = tokio::spawn(async move { quic.connect(terms.remote.socket(), dial, quic_fault).await });
    until(|| door.tickets.len() == 5).await;
    assert_eq!(door.counters.quic_retries.read(), 97);
    honest.abort();

    // Another threshold holds for whoever comes next.
    door.quic.ask_above(usize::MAX);
    attacker.send_to(&first_packets(&a, 1).await[0], door.at).expect("sent");
    until(|| door.tickets.len() == 6).await;
    assert_eq!(door.counters.quic_retries.read(), 97, "nobody is asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_h11_beyond_the_table_first_packets_are_dropped_and_counted() {
    let (a, b) = (Node::new(1), Node::new(2));
    let door = door(&b, usize::MAX);
    let packets = first_packets(&a, MAX_UNDECIDED + 40).await;
    let attacker = UdpSocket::bind("127.0.0.1:0").expect("binds");
    for packet in &packets {
        attacker.send_to(packet, door.at).expect("sent");
        tokio::task::yield_now().await;
    }
    until(|| door.counters.turned_away.read() == 40).await;
    assert_eq!(door.tickets.len(), MAX_UNDECIDED);
    let sizes = tokio::task::spawn_blocking(move || answers(&attacker)).await.expect("no panic");
    assert!(sizes.is_empty(), "nothing is sent to an address that may be somebody else's");
    let mut facts = Vec::new();
    until(|| {
        door.facts.take(&mut facts);
        let told = |fact: &Fact| if let Fact::TurnedAway { count } = fact { *count } else { 0 };
        facts.iter().map(told).sum::<u32>() == 40
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_h12_garbage_and_unknown_versions_leave_no_state() {
    let (a, b) = (Node::new(1), Node::new(2));
    let door = door(&b, 32);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let mut sent = 0;
    for n in 0..600_usize {
        // Lengths and first bytes of every kind; a long header with a version of its own every third time.
        let mut packet: Vec<u8> =
            (0..(n * 7) % 1_300).map(|i| u8::try_from((i * 31 + n) % 256).expect("a byte")).collect();
        if n % 3 == 0 && packet.len() > 8 {
            packet[..5].copy_from_slice(&[0xc0, 0x0a, 0x1a, 0x2a, 0x3a]);
            packet.resize(1_200, 1);
            sent += 1;
        }
        stranger.send_to(&packet, door.at).expect("sent");
        tokio::task::yield_now().await;
    }
    let sizes = tokio::task::spawn_blocking(move || answers(&stranger)).await.expect("no panic");
    assert!(sizes.len() <= sent + 100 && sizes.iter().all(|size| *size < 200), "{} answers", sizes.len());
    assert_eq!((door.tickets.len(), door.quic.pending(), door.counters.arrivals.read()), (0, 0, 0));
    // And the port works.
    let quic = Quic::new(a.stack.quic_server(), QuicOptions::default());
    let terms = dial_terms(Some(b.key()), door.at);
    let dial = a.stack.quic_dial(&terms).expect("QUIC");
    let honest = tokio::spawn(async move { quic.connect(terms.remote.socket(), dial, quic_fault).await });
    until(|| door.tickets.len() == 1).await;
    honest.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_h12_an_address_proof_of_somebody_else_is_worth_nothing() {
    let (a, b) = (Node::new(1), Node::new(2));
    let door = door(&b, 0);
    // Between the dialler and the port, so that its second first packet, the one with the proof, can be copied.
    let middle = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("binds"));
    let front = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("binds");
    let quic = Quic::new(a.stack.quic_server(), QuicOptions::default());
    let terms = dial_terms(Some(b.key()), front.local_addr().expect("bound"));
    let dial = a.stack.quic_dial(&terms).expect("QUIC");
    let honest = tokio::spawn(async move { quic.connect(terms.remote.socket(), dial, quic_fault).await });
    let mut bytes = [0; 2048];
    // The knock is no packet of QUIC's.
    let (length, from) = loop {
        let (length, from) = soon(front.recv_from(&mut bytes)).await.expect("a packet");
        if length > 1 {
            break (length, from);
        }
    };
    middle.send_to(&bytes[..length], door.at).await.expect("sent");
    let length = soon(middle.recv(&mut bytes)).await.expect("asked to prove it");
    front.send_to(&bytes[..length], from).await.expect("passed on");
    let length = loop {
        let (length, again) = soon(front.recv_from(&mut bytes)).await.expect("a packet");
        if length > 1 && again == from {
            break length;
        }
    };
    let proof = bytes[..length].to_vec();
    let thief = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let before = door.tickets.len();
    for _ in 0..20 {
        thief.send_to(&proof, door.at).expect("sent");
    }
    let sizes = tokio::task::spawn_blocking(move || answers(&thief)).await.expect("no panic");
    assert!(sizes.iter().all(|size| *size < 200), "{sizes:?}");
    assert_eq!((before, door.tickets.len(), door.quic.pending()), (0, 0, 0));
    middle.send_to(&proof, door.at).await.expect("sent");
    until(|| door.tickets.len() == 1).await;
    honest.abort();
}
