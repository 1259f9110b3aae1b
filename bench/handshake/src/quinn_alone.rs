//! quinn with nobody managing it: connect, hello, answer and confirm on the first stream, and a close in good order. It refuses
//! to have limits, retries, deadlines or an opinion on who may connect.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc};

use anyhow::{Context, Result, ensure};
use peerkeep_mesh::tls::{QUIC_ALPN, Tls};
use quinn::{
    Connection, Endpoint, Incoming,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

use crate::greeting::{Frames, identity};

/// Accepts until its runtime ends; `met` counts what was confirmed and closed.
pub fn listen(met: Rc<Cell<u64>>) -> Result<String> {
    let mut tls = (*Tls::new(&identity(2)?)?.server()).clone();
    tls.alpn_protocols = vec![QUIC_ALPN.to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let (endpoint, frames) = (Endpoint::server(config, ([127, 0, 0, 1], 0).into())?, Frames::new()?);
    let address = endpoint.local_addr()?.to_string();
    tokio::task::spawn_local(async move {
        while let Some(incoming) = endpoint.accept().await {
            let (frames, met) = (frames.clone(), met.clone());
            tokio::task::spawn_local(async move {
                match serve(incoming, &frames).await {
                    Ok(()) => met.set(met.get() + 1),
                    Err(error) => eprintln!("quinn alone: {error:#}"),
                }
            });
        }
    });
    Ok(address)
}

async fn serve(incoming: Incoming, frames: &Frames) -> Result<()> {
    let conn = incoming.await?;
    let (mut send, mut recv) = conn.accept_bi().await?;
    let mut heard = vec![0; frames.hello.len()];
    recv.read_exact(&mut heard).await?;
    send.write_all(&frames.answer).await?;
    heard.truncate(frames.confirm.len());
    recv.read_exact(&mut heard).await?;
    ensure!(heard == frames.confirm, "not a confirm");
    conn.close(0_u32.into(), b"");
    conn.closed().await;
    Ok(())
}

/// Dials one address with one identity.
pub struct Dialler {
    address: SocketAddr,
    endpoint: Endpoint,
    config: quinn::ClientConfig,
    frames: Frames,
}

impl Dialler {
    /// For that address.
    pub fn new(address: &str) -> Result<Dialler> {
        // As a node of ours does, it pins whom it dials.
        let mut tls = (*Tls::new(&identity(1)?)?.client(Some(identity(2)?.key()))).clone();
        tls.alpn_protocols = vec![QUIC_ALPN.to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        Ok(Dialler {
            address: address.parse().context("an address")?,
            endpoint: Endpoint::client(([0, 0, 0, 0], 0).into())?,
            config,
            frames: Frames::new()?,
        })
    }

    /// One connection from beginning to end.
    pub async fn cycle(&self) -> Result<()> {
        let conn = self.endpoint.connect_with(self.config.clone(), self.address, "peerkeep")?.await?;
        self.greet(&conn).await?;
        // The other side closes when it has the confirm, so that nothing said is lost.
        conn.closed().await;
        Ok(())
    }

    async fn greet(&self, conn: &Connection) -> Result<()> {
        let (mut send, mut recv) = conn.open_bi().await?;
        send.write_all(&self.frames.hello).await?;
        let mut heard = vec![0; self.frames.answer.len()];
        recv.read_exact(&mut heard).await?;
        ensure!(heard == self.frames.answer, "not an answer");
        send.write_all(&self.frames.confirm).await?;
        Ok(())
    }
}
