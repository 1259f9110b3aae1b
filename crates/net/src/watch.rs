//! Hears from the kernel that addresses or routes of this machine changed, and says so to the owner (faults D12, C9).
//! It only says *that*: whether there is a way to anybody shows when the core dials.

use crate::Owner;
use peerkeep_core::Change;
use std::io;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A watch that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch(JoinHandle<()>);

/// A change of the network is many messages: the first is told after this time, for all of them.
const SETTLE: Duration = Duration::from_millis(500);

/// A network that flaps is told at most this often.
const GAP: Duration = Duration::from_secs(2);

impl Watch {
    /// For a node that goes on without it where it cannot be had.
    pub fn follow(owner: &Owner) -> Option<Watch> {
        Watch::start(owner.clone())
            .inspect_err(|error| tracing::warn!(%error, "changes of the network will not be heard of"))
            .ok()
    }

    /// Starts on the current tokio runtime.
    ///
    /// # Errors
    /// When the kernel has no such socket for us; changes then show by failing dials only.
    pub fn start(owner: Owner) -> io::Result<Watch> {
        let socket = open()?;
        Ok(Watch(tokio::spawn(async move {
            let mut buffer = [0; 8 * 1024];
            loop {
                // Also an error means that something happened: messages were lost because there were too many.
                let _ = socket.recv(&mut buffer).await;
                tokio::time::sleep(SETTLE).await;
                while socket.try_recv(&mut buffer).is_ok() {}
                tracing::info!("the machine's network changed");
                owner.network_changed(Change::Moved);
                tokio::time::sleep(GAP).await;
            }
        })))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(target_os = "linux")]
fn open() -> io::Result<UdpSocket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink, socket_with};
    // From <linux/rtnetlink.h>: IPv4 and IPv6 addresses and routes.
    const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 of this family is routing.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, None)?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
    // Not UDP, but a datagram socket all the same: nothing but `recv` is ever called on it.
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}

#[cfg(not(target_os = "linux"))]
fn open() -> io::Result<UdpSocket> {
    Err(io::ErrorKind::Unsupported.into())
}
