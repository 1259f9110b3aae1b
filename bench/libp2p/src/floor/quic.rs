//! The floor over QUIC: quinn with libp2p's TLS and the limits that libp2p's own transport sets.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bench_parts::tally::Tally;
use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol, tls};
use quinn::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{Join, join},
    task::JoinHandle,
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::{
    greet::{self, Own},
    own,
};
use crate::contender::Until;

type Pair = Compat<Join<RecvStream, SendStream>>;

/// One socket, and an identity for each slot.
pub struct Dialler {
    endpoint: Endpoint,
    slots: Vec<(ClientConfig, Arc<Own>)>,
}

impl Dialler {
    pub fn new(keys: impl Iterator<Item = Keypair>, peer: PeerId) -> Result<Dialler> {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let mut slots = Vec::new();
        for key in keys {
            let crypto = QuicClientConfig::try_from(tls::make_client_config(&key, Some(peer))?)?;
            let mut config = ClientConfig::new(Arc::new(crypto));
            config.transport_config(transport()?);
            slots.push((config, own(&key, Vec::new())));
        }
        Ok(Dialler { endpoint, slots })
    }

    pub async fn dial(&self, slot: usize, to: SocketAddr, peer: PeerId, until: Until) -> Result<Link> {
        let (config, own) = self.slots.get(slot).context("no such slot")?.clone();
        let conn = self.endpoint.connect_with(config, to, "l")?.await?;
        ensure!(proven(&conn)? == peer, "somebody else is there");
        tokio::spawn(serve(conn.clone(), own));
        let link = Link { conn };
        let identify = link.open().await?;
        match until {
            Until::Identified => greet::ask_identify(identify, peer).await?,
            // The connection may be closed before it is done.
            Until::Up => drop(tokio::spawn(greet::ask_identify(identify, peer))),
        }
        Ok(link)
    }
}

/// An open connection.
pub struct Link {
    conn: Connection,
}

impl Link {
    pub async fn open(&self) -> Result<Pair> {
        open(&self.conn).await
    }

    pub fn close(self) {
        self.conn.close(0_u8.into(), b"");
    }
}

async fn open(conn: &Connection) -> Result<Pair> {
    let (send, receive) = conn.open_bi().await?;
    Ok(join(receive, send).compat())
}

/// Listens and accepts for ever.
pub fn listen(key: &Keypair, tally: Tally) -> Result<(Multiaddr, JoinHandle<()>)> {
    let crypto = QuicServerConfig::try_from(tls::make_server_config(key)?)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport = transport()?;
    config.migration(false);
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?;
    let address = multiaddr(endpoint.local_addr()?);
    let own = own(key, vec![address.clone()]);
    let accepting = tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let (own, tally) = (own.clone(), tally.clone());
            tokio::spawn(async move {
                let Ok(conn) = incoming.await else { return };
                let Ok(peer) = proven(&conn) else { return };
                tally.rise();
                let kept = conn.clone();
                tokio::spawn(async move {
                    serve(kept, own).await;
                    tally.fall();
                });
                // The dialler may have closed by now.
                if let Ok(stream) = open(&conn).await {
                    let _ = greet::ask_identify(stream, peer).await;
                }
            });
        }
    });
    Ok((address, accepting))
}

/// Serves what the other side opens until the connection ends.
async fn serve(conn: Connection, own: Arc<Own>) {
    while let Ok((send, receive)) = conn.accept_bi().await {
        let (own, seen) = (own.clone(), multiaddr(conn.remote_address()));
        tokio::spawn(async move { greet::serve(join(receive, send).compat(), &own, &seen).await });
    }
}

fn proven(conn: &Connection) -> Result<PeerId> {
    let identity = conn.peer_identity().context("no certificate")?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok().context("no certificate")?;
    let own = chain.first().context("no certificate")?;
    Ok(tls::certificate::parse(own)?.peer_id())
}

fn transport() -> Result<Arc<TransportConfig>> {
    let mut transport = TransportConfig::default();
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    transport.max_concurrent_bidi_streams(VarInt::from_u32(256));
    transport.datagram_receive_buffer_size(None);
    transport.keep_alive_interval(Some(Duration::from_secs(5)));
    transport.max_idle_timeout(Some(Duration::from_secs(10).try_into()?));
    transport.allow_spin(false);
    transport.stream_receive_window(VarInt::from_u32(10_000_000));
    transport.receive_window(VarInt::from_u32(15_000_000));
    Ok(Arc::new(transport))
}

fn multiaddr(at: SocketAddr) -> Multiaddr {
    Multiaddr::from(at.ip()).with(Protocol::Udp(at.port())).with(Protocol::QuicV1)
}
