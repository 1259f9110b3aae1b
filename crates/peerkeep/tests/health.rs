//! Two nodes over a link that gets worse while bytes flow: what is found out, what is done about it, and that nothing
//! is lost on the way.

mod common;

use bytes::Bytes;
use common::*;
use peerkeep::{CloseReason, EventKind, LinkStatus, Node, PeerAddress, Place, Settings};
use peerkeep_core::Addr;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A stretch of the way whose delay can be raised: TCP in, TCP out, bytes in order.
struct Stretch {
    at: SocketAddr,
    delay_ms: Arc<AtomicU64>,
}

impl Stretch {
    async fn to(target: SocketAddr) -> Stretch {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let delay_ms = Arc::new(AtomicU64::new(0));
        let delay = delay_ms.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(target).await.expect("the node listens");
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, delay.clone()));
                tokio::spawn(carry(far_in, near_out, delay.clone()));
            }
        });
        Stretch { at, delay_ms }
    }

    fn delay(&self, each_way: Duration) {
        self.delay_ms.store(u64::try_from(each_way.as_millis()).expect("short"), Ordering::Relaxed);
    }
}

async fn carry(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, delay_ms: Arc<AtomicU64>) {
    let (tx, mut rx) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    tokio::spawn(async move {
        while let Some((due, bytes)) = rx.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    let mut buf = vec![0; 16 * 1_024];
    while let Ok(count) = from.read(&mut buf).await {
        let due = Instant::now() + Duration::from_millis(delay_ms.load(Ordering::Relaxed));
        if count == 0 || tx.send((due, buf[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

/// Looks at health every second.
fn watchful(host: u8) -> Settings {
    let mut settings = settings(host);
    settings.health.interval = Duration::from_secs(1);
    settings.health.drain = Duration::from_secs(25);
    settings
}

fn socket(node: &Node) -> SocketAddr {
    match address(node).place {
        Some(Place::Ip(addr)) => addr.socket(),
        place => panic!("{place:?}"),
    }
}

const BLOCK: usize = 512;

/// Numbered blocks, one every ten milliseconds, until told to stop; how many.
async fn pour(mut channel: peerkeep::Channel, stop: Arc<AtomicBool>) -> u64 {
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let mut block = [0; BLOCK];
        block[..8].copy_from_slice(&number.to_be_bytes());
        channel.write_all(&block).await.expect("the channel takes bytes throughout");
        channel.flush().await.expect("flushes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    channel.shutdown().await.expect("ends in good order");
    number
}

/// Reads them to the end of the channel: each once, in order.
async fn collect(mut channel: peerkeep::Channel, count: Arc<AtomicU64>) -> u64 {
    let mut block = [0; BLOCK];
    loop {
        match channel.read_exact(&mut block).await {
            Ok(_) => {
                let number = u64::from_be_bytes(block[..8].try_into().expect("eight bytes"));
                assert_eq!(
                    number,
                    count.fetch_add(1, Ordering::Relaxed) + 1,
                    "in order, none twice, none lost"
                );
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                channel.shutdown().await.expect("ends in good order");
                return count.load(Ordering::Relaxed);
            }
            Err(error) => panic!("cut: {error}"),
        }
    }
}

/// S1.41, S1.53, S1.62: found degraded, replaced by a direct connection that is up before the old one goes, and a
/// stream and messages that go on throughout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_41_a_delayed_connection_is_replaced_while_bytes_flow_and_none_is_lost() {
    // The side that dialled acts first anyway; here the other one does not even look.
    let (mut patient, quick) = (watchful(2), watchful(1));
    patient.health.interval = Duration::from_secs(3_600);
    let (a, b) = (node(1, quick).await, node(2, patient).await);
    let stretch = Stretch::to(socket(&b)).await;
    let via = PeerAddress { id: Some(b.id()), place: Some(Place::Ip(Addr::tcp(stretch.at))), stack: None };
    let (mut at_a, mut at_b) = (a.events(), b.events());
    a.connect(via, PATIENCE).await.expect("connects");
    connected(&a, &b).await;
    let through = Some(stretch.at.to_string());
    let healthy = status(&a, b.id(), "a first measure", |peer| {
        peer.link.as_ref().and_then(|link| link.health).is_some_and(|health| health.score.is_some())
    })
    .await;
    assert_eq!(healthy.link.as_ref().map(|link| link.remote.clone()), Some(through.clone()));
    assert_eq!(healthy.states.link, LinkStatus::Active);

    let mut incoming = b.accept("flow").expect("a free name");
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let channel = a.open(b.id(), "flow").await.expect("opens");
    let pouring = tokio::spawn(pour(channel, stop.clone()));
    let (_, channel) = soon("the channel", incoming.next()).await.expect("arrives");
    let collecting = tokio::spawn(collect(channel, count.clone()));
    let mut ticks = b.messages("tick").expect("a name");
    let (ticker, stop_ticks) = (a.clone(), stop.clone());
    let (to, ticking) = (b.id(), Duration::from_millis(25));
    let sending = tokio::spawn(async move {
        let mut number = 0_u64;
        while !stop_ticks.load(Ordering::Relaxed) {
            ticker.send(to, "tick", Bytes::copy_from_slice(&number.to_be_bytes())).await.expect("is queued");
            number += 1;
            tokio::time::sleep(ticking).await;
        }
        number
    });

    let began = Instant::now();
    stretch.delay(Duration::from_millis(250));
    until(&mut at_a, "degraded", |event| matches!(event, EventKind::Degraded { .. })).await;
    eprintln!("found degraded after {:?}", began.elapsed());
    let flowing = count.load(Ordering::Relaxed);
    until(&mut at_a, "replacing", |event| matches!(event, EventKind::Replacing { .. })).await;
    let up = until(&mut at_a, "the new connection, before the old one is lost", |event| {
        assert!(!matches!(event, EventKind::Lost { .. }), "{event:?}");
        matches!(event, EventKind::Connected { .. })
    })
    .await;
    eprintln!("replaced after {:?}", began.elapsed());
    let EventKind::Connected { remote, .. } = up.what else { unreachable!("was matched") };
    assert_ne!(remote, through, "another way");
    status(&a, b.id(), "the new one leads", |peer| {
        peer.link.as_ref().is_some_and(|link| link.remote != through)
            && peer.states.link == LinkStatus::Active
    })
    .await;
    soon("the stream goes on over the old one", async {
        while count.load(Ordering::Relaxed) < flowing + 100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;

    stop.store(true, Ordering::Relaxed);
    let poured = pouring.await.expect("pours");
    assert_eq!(soon("the end of the stream", collecting).await.expect("collects"), poured);
    let sent = sending.await.expect("sends");
    let mut seen = BTreeSet::new();
    while u64::try_from(seen.len()).expect("few") < sent {
        let message = soon("every message", ticks.next()).await.expect("arrives");
        assert!(seen.insert(message.bytes.to_vec()), "none twice");
    }
    eprintln!("{poured} blocks and {sent} messages arrived");
    for events in [&mut at_a, &mut at_b] {
        let lost = until(events, "the old one goes", |event| matches!(event, EventKind::Lost { .. })).await;
        let EventKind::Lost { reason, .. } = lost.what else { unreachable!("was matched") };
        assert_eq!(reason, CloseReason::Replaced);
    }
    assert!(a.is_connected(b.id()) && b.is_connected(a.id()));
    a.shutdown().await;
    b.shutdown().await;
}
