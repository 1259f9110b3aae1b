//! A stretch of the way between two nodes that tests can shape: TCP in, TCP out, bytes in order, as late and as slow as
//! they say, held up when they say so. It sees what passes: how much, when, how many TLS records, and how it ended.

use peerkeep::{Node, PeerAddress, Place};
use peerkeep_core::Addr;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, tcp};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Small, so that what waits, waits where it came from, as before a slow cable.
const BUFFER_BYTES: u32 = 32 * 1024;
/// What passes at once: a fifth of a second at 160 kbit/s.
const PIECE_BYTES: usize = 4 * 1024;

/// The stretch. It ends with the process; its connections with either side.
pub struct Way {
    pub at: SocketAddr,
    plan: Arc<Plan>,
    frozen: watch::Sender<bool>,
}

#[derive(Default)]
struct Plan {
    delay_ms: AtomicU64,
    /// 0: as fast as it can.
    kbps: AtomicU64,
    was_reset: AtomicBool,
    there: Mutex<Passed>,
    back: Mutex<Passed>,
}

/// What passed in one direction.
#[derive(Default, Clone)]
pub struct Passed {
    pub bytes: u64,
    /// When TLS records of data began to arrive here; at most the last thousand.
    pub records: Vec<Instant>,
    /// Bytes of the current record's header and body that are still to come.
    header: Vec<u8>,
    body: usize,
}

impl Way {
    /// To a node's first address.
    pub async fn to(node: &Node) -> Way {
        let Some(Place::Ip(to)) = super::address(node).place else { panic!("an IP address") };
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(BUFFER_BYTES).expect("a buffer");
        socket.set_send_buffer_size(BUFFER_BYTES).expect("a buffer");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let listener = socket.listen(64).expect("listens");
        let at = listener.local_addr().expect("an address");
        let (plan, (frozen, thaw)) = (Arc::new(Plan::default()), watch::channel(false));
        let shared = plan.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpSocket::new_v4().expect("a socket");
                far.set_recv_buffer_size(BUFFER_BYTES).expect("a buffer");
                far.set_send_buffer_size(BUFFER_BYTES).expect("a buffer");
                // Nobody there: the near end is dropped, too.
                let Ok(far) = far.connect(to.socket()).await else { continue };
                tokio::spawn(join(near, far, shared.clone(), thaw.clone()));
            }
        });
        Way { at, plan, frozen }
    }

    /// The node's address over this stretch.
    pub fn address(&self, of: &Node) -> PeerAddress {
        PeerAddress { id: Some(of.id()), place: Some(Place::Ip(Addr::tcp(self.at))), stack: None }
    }

    /// From now on everything is so late, each way.
    pub fn delay(&self, each_way: Duration) {
        self.plan.delay_ms.store(u64::try_from(each_way.as_millis()).expect("short"), Ordering::Relaxed);
    }

    /// From now on so much passes, each way; 0 is no limit.
    pub fn shape(&self, kbps: u64) {
        self.plan.kbps.store(kbps, Ordering::Relaxed);
    }

    /// Holds everything up, or lets it go on.
    pub fn freeze(&self, on: bool) {
        self.frozen.send_replace(on);
    }

    /// What passed towards the node.
    pub fn there(&self) -> Passed {
        lock(&self.plan.there).clone()
    }

    /// What passed from it.
    pub fn back(&self) -> Passed {
        lock(&self.plan.back).clone()
    }

    /// Whether some connection was reset instead of closed in good order.
    pub fn was_reset(&self) -> bool {
        self.plan.was_reset.load(Ordering::Relaxed)
    }
}

fn lock(passed: &Mutex<Passed>) -> MutexGuard<'_, Passed> {
    passed.lock().expect("nobody panicked")
}

async fn join(near: TcpStream, far: TcpStream, plan: Arc<Plan>, thaw: watch::Receiver<bool>) {
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let there = tokio::spawn(carry(near_in, far_out, plan.clone(), thaw.clone(), true));
    carry(far_in, near_out, plan, thaw, false).await;
    let _ = there.await;
}

async fn carry(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    plan: Arc<Plan>,
    mut frozen: watch::Receiver<bool>,
    is_there: bool,
) {
    let (tx, mut rx) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    tokio::spawn(async move {
        while let Some((due, bytes)) = rx.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    let (mut piece, mut free) = (vec![0; PIECE_BYTES], Instant::now());
    loop {
        let count = match from.read(&mut piece).await {
            Ok(count) => count,
            Err(_) => return plan.was_reset.store(true, Ordering::Relaxed),
        };
        if count == 0 || frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        lock(if is_there { &plan.there } else { &plan.back }).note(&piece[..count]);
        let bits = u64::try_from(count).expect("a piece") * 8;
        if let Some(micros) = (bits * 1_000).checked_div(plan.kbps.load(Ordering::Relaxed)) {
            // What the timer came late is made up for, as long as there was something to carry.
            let earliest = Instant::now().checked_sub(Duration::from_millis(100)).expect("after the boot");
            free = free.max(earliest) + Duration::from_micros(micros);
            if free > Instant::now() + Duration::from_millis(1) {
                tokio::time::sleep_until(free).await;
            }
        }
        let due = Instant::now() + Duration::from_millis(plan.delay_ms.load(Ordering::Relaxed));
        if tx.send((due, piece[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

impl Passed {
    fn note(&mut self, mut bytes: &[u8]) {
        self.bytes += u64::try_from(bytes.len()).expect("a piece");
        while !bytes.is_empty() {
            if self.body > 0 {
                let count = self.body.min(bytes.len());
                self.body -= count;
                bytes = &bytes[count..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if let [kind, _, _, high, low] = self.header[..] {
                self.body = usize::from(high) << 8 | usize::from(low);
                self.header.clear();
                if kind == 23 {
                    self.records.push(Instant::now());
                }
                if self.records.len() > 1_000 {
                    self.records.remove(0);
                }
            }
        }
    }
}
