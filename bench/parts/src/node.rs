//! A whole node as a measuring program needs it: production settings, except for the limits, which must let a crowd from
//! one address in. It refuses to reach below the library's face.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};
use peerkeep::{ListenAddress, Node, Settings};

/// Production settings with room for a crowd from one address.
pub fn roomy(listen: impl IntoIterator<Item = ListenAddress>) -> Settings {
    let mut settings = Settings::default();
    settings.listen.addresses = listen.into_iter().collect();
    let limits = &mut settings.limits;
    for limit in [
        &mut limits.total,
        &mut limits.inbound,
        &mut limits.outbound,
        &mut limits.pending,
        &mut limits.per_ip,
        &mut limits.per_subnet,
    ] {
        *limit = 32_768;
    }
    limits.dials_per_minute = 1 << 20;
    limits.dials_per_minute_per_ip = 1 << 20;
    settings
}

/// Starts a node with these settings; with a folder as the daemon does, without one it keeps nothing on disk.
pub async fn start(settings: Settings, folder: Option<&Path>) -> Result<Node> {
    let mut builder = Node::builder().config(settings);
    if let Some(folder) = folder {
        builder = builder.data_dir(folder);
    }
    Ok(builder.start().await?)
}

/// Starts a node without a folder whose work is done on this thread, inside the current `LocalSet`.
pub async fn start_here(settings: Settings) -> Result<Node> {
    let (node, here) = Node::builder().config(settings).start_here().await?;
    tokio::task::spawn_local(here);
    Ok(node)
}

/// Any free TCP port of 127.0.0.1.
pub fn tcp() -> ListenAddress {
    ListenAddress::tcp(([127, 0, 0, 1], 0).into())
}

/// Any free UDP port of 127.0.0.1, for QUIC.
pub fn quic() -> ListenAddress {
    ListenAddress::quic(([127, 0, 0, 1], 0).into())
}

/// Where a node listens, in the form that `connect` takes.
pub fn address(node: &Node) -> Result<String> {
    let address = node.addresses().into_iter().next().context("the node does not listen")?;
    Ok(address.to_multiaddr().context("an address without a place")?.to_string())
}

/// All of them, TCP before QUIC, with a space between.
pub fn all_addresses(node: &Node) -> Result<String> {
    let mut all = Vec::new();
    for address in node.addresses() {
        all.push(address.to_multiaddr().context("an address without a place")?.to_string());
    }
    Ok(all.join(" "))
}

/// A folder that goes when this is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one among the system's temporary folders.
    pub fn new() -> Result<Folder> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("peerkeep-bench-{}-{number}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Folder(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: what is left is in the system's folder for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}
