//! A node that is driven by lines on its input and answers each with one line. It decides and measures nothing.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use peerkeep::{EventKind, EventStream, LivenessMode, Node, PeerAddress, PeerId, Settings};
use std::io::{BufRead as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Runs until the input ends. `what` is `ADDRESS=LIVENESS`.
pub fn run(what: &str) -> Result<()> {
    let (ip, mode) = what.split_once('=').context("ADDRESS=LIVENESS")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut settings = Settings::default();
    settings.network.open = true;
    settings.listen.addresses = vec![SocketAddr::new(ip.parse::<IpAddr>()?, 0).into()];
    settings.liveness.mode = match mode {
        "ping" => LivenessMode::Ping,
        "keepalive-only" => LivenessMode::KeepaliveOnly,
        other => bail!("no such liveness: {other}"),
    };
    let node = runtime.block_on(Node::builder().config(settings).start())?;
    let mut events = node.events();
    let mut other = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = runtime.block_on(obey(&node, &mut events, &mut other, &line))?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).context("the parent went away")?;
    }
    Ok(())
}

async fn obey(
    node: &Node,
    events: &mut EventStream,
    other: &mut Option<PeerId>,
    line: &str,
) -> Result<String> {
    match line.split_once(' ') {
        None if line == "address" => {
            let address = node.addresses().into_iter().next().context("the node does not listen")?;
            Ok(address.to_multiaddr().context("an address without a place")?.to_string())
        }
        Some(("dial", address)) => {
            node.want(address.parse::<PeerAddress>()?).await?;
            connected(events, other).await
        }
        None if line == "connected" => connected(events, other).await,
        None if line == "talk" => {
            let (node, peer) = (node.clone(), other.context("not connected")?);
            tokio::spawn(async move {
                let bytes = Bytes::from_static(&[7; 1_024]);
                // A full queue is the point of it once the link is dead.
                while !matches!(
                    node.send(peer, "bench", bytes.clone()).await,
                    Err(peerkeep::ChannelError::NotConnected)
                ) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            Ok("ok".to_owned())
        }
        None if line == "lost" => loop {
            let event = events.next().await.context("the node stopped")?;
            if let EventKind::Lost { reason, .. } = event.what {
                break Ok(format!("{reason:?}"));
            }
        },
        _ => bail!("what is {line:?}?"),
    }
}

async fn connected(events: &mut EventStream, other: &mut Option<PeerId>) -> Result<String> {
    loop {
        let event = events.next().await.context("the node stopped")?;
        if let EventKind::Connected { peer, .. } = event.what {
            *other = Some(peer);
            return Ok("ok".to_owned());
        }
    }
}
