//! rustls over TCP with nobody managing it: connect, TLS, hello, answer, confirm, and TLS's own closing on both sides. It
//! refuses to have limits, retries, deadlines, a multiplexer or an opinion on who may connect.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc};

use anyhow::{Context, Result, ensure};
use peerkeep_mesh::tls::Tls;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::greeting::{Frames, identity};

/// Accepts until its runtime ends; `met` counts what was confirmed and closed.
pub async fn listen(met: Rc<Cell<u64>>) -> Result<String> {
    let acceptor = TlsAcceptor::from(Tls::new(&identity(2)?)?.server());
    let (listener, frames) = (TcpListener::bind("127.0.0.1:0").await?, Frames::new()?);
    let address = listener.local_addr()?.to_string();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, frames, met) = (acceptor.clone(), frames.clone(), met.clone());
            tokio::task::spawn_local(async move {
                match serve(stream, acceptor, &frames).await {
                    Ok(()) => met.set(met.get() + 1),
                    Err(error) => eprintln!("rustls alone: {error:#}"),
                }
            });
        }
    });
    Ok(address)
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, frames: &Frames) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut tls = acceptor.accept(stream).await?;
    let mut heard = vec![0; frames.hello.len()];
    tls.read_exact(&mut heard).await?;
    tls.write_all(&frames.answer).await?;
    tls.flush().await?;
    heard.truncate(frames.confirm.len());
    tls.read_exact(&mut heard).await?;
    ensure!(heard == frames.confirm, "not a confirm");
    ensure!(tls.read(&mut heard).await? == 0, "more than a confirm");
    tls.shutdown().await?;
    Ok(())
}

/// Dials one address with one identity.
pub struct Dialler {
    address: SocketAddr,
    connector: TlsConnector,
    frames: Frames,
}

impl Dialler {
    /// For that address.
    pub fn new(address: &str) -> Result<Dialler> {
        // As a node of ours does, it pins whom it dials.
        let config = Tls::new(&identity(1)?)?.client(Some(identity(2)?.key()));
        let address = address.parse().context("an address")?;
        Ok(Dialler { address, connector: TlsConnector::from(Arc::clone(&config)), frames: Frames::new()? })
    }

    /// One connection from beginning to end.
    pub async fn cycle(&self) -> Result<()> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let mut tls = self.connector.connect(Tls::no_name(), stream).await?;
        tls.write_all(&self.frames.hello).await?;
        tls.flush().await?;
        let mut heard = vec![0; self.frames.answer.len()];
        tls.read_exact(&mut heard).await?;
        ensure!(heard == self.frames.answer, "not an answer");
        tls.write_all(&self.frames.confirm).await?;
        tls.flush().await?;
        tls.shutdown().await?;
        ensure!(tls.read(&mut heard).await? == 0, "more than an answer");
        Ok(())
    }
}
