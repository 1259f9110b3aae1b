//! A UDP relay in user space that holds every packet for a time, in order: a link with delay where the kernel offers
//! none. It loses, copies and looks at nothing.

use anyhow::Result;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Packets that may be on their way at once.
const ON_THE_WAY: usize = 4_096;

type Packet = (Instant, Vec<u8>, SocketAddr);

/// Opens a way to `to` with that delay in each direction, and gives its address.
pub async fn open(to: SocketAddr, delay: Duration) -> Result<SocketAddr> {
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
    let at = front.local_addr()?;
    tokio::spawn(async move {
        let mut ways: HashMap<SocketAddr, mpsc::Sender<Packet>> = HashMap::new();
        let mut bytes = [0; 2_048];
        loop {
            let Ok((length, from)) = front.recv_from(&mut bytes).await else { continue };
            let packet = (Instant::now() + delay, bytes[..length].to_vec(), to);
            if let Some(way) = ways.get(&from) {
                // A full queue loses, as a link does.
                let _lost = way.try_send(packet);
                continue;
            }
            let Ok(back) = UdpSocket::bind("127.0.0.1:0").await.map(Arc::new) else { continue };
            let out = hold(back.clone());
            let home = hold(front.clone());
            let _lost = out.try_send(packet);
            ways.insert(from, out);
            tokio::spawn(async move {
                let mut bytes = [0; 2_048];
                loop {
                    let Ok((length, _)) = back.recv_from(&mut bytes).await else { continue };
                    let _lost = home.try_send((Instant::now() + delay, bytes[..length].to_vec(), from));
                }
            });
        }
    });
    Ok(at)
}

/// Sends what it is given when its time has come.
fn hold(socket: Arc<UdpSocket>) -> mpsc::Sender<Packet> {
    let (sender, mut packets) = mpsc::channel::<Packet>(ON_THE_WAY);
    tokio::spawn(async move {
        while let Some((due, bytes, to)) = packets.recv().await {
            sleep_until(due).await;
            let _lost = socket.send_to(&bytes, to).await;
        }
    });
    sender
}
