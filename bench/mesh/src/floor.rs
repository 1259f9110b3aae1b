//! The floor: what the same cryptography costs with nobody managing it. Mutual TLS 1.3 (rustls with ring) over TCP, Ed25519
//! keys in self-signed certificates, as many hello bytes as the mesh sends, then a Yamux connection that is only kept.
//! It refuses to have limits, retries, deadlines, pings or an opinion on who may connect.

use std::{future::poll_fn, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, bail};
use bench_parts::tally::Tally;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::contender::{Contender, Dialler, Listener};

/// Bytes of the mesh's hello, answer and confirm between nodes with one listen address each and no network secret.
pub const HELLO_BYTES: [usize; 3] = [124, 68, 4];

/// See the head of this file.
pub struct Floor;

/// Accepts until dropped.
pub struct FloorListener {
    address: SocketAddr,
    tally: Tally,
    accepting: JoinHandle<()>,
}

/// Dials one address with one identity.
pub struct FloorDialler {
    address: SocketAddr,
    connector: TlsConnector,
}

/// Dropping `stop` closes the connection; `task` ends when it is closed.
pub struct FloorConn {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Contender for Floor {
    type Listener = FloorListener;
    type Dialler = FloorDialler;

    async fn listen() -> Result<FloorListener> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config()?));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let tally = Tally::new();
        let accepting = tokio::spawn(accept(listener, acceptor, tally.clone()));
        Ok(FloorListener { address, tally, accepting })
    }

    async fn dialler(address: &str, _slots: usize) -> Result<FloorDialler> {
        let address = address.parse().context("an address")?;
        Ok(FloorDialler { address, connector: TlsConnector::from(Arc::new(client_config()?)) })
    }
}

impl Listener for FloorListener {
    fn address(&self) -> String {
        self.address.to_string()
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for FloorListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Dialler for FloorDialler {
    type Conn = FloorConn;

    async fn open(&self, _slot: usize) -> Result<FloorConn> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let mut io = TlsStream::from(self.connector.connect(name, stream).await?).compat();
        let mut heard = [0; HELLO_BYTES[1]];
        io.write_all(&[1; HELLO_BYTES[0]]).await?;
        io.flush().await?;
        io.read_exact(&mut heard).await?;
        io.write_all(&[3; HELLO_BYTES[2]]).await?;
        io.flush().await?;
        let (stop, stopped) = oneshot::channel();
        let conn = yamux::Connection::new(io, yamux::Config::default(), yamux::Mode::Client);
        Ok(FloorConn { stop, task: tokio::spawn(keep_until(conn, stopped)) })
    }

    async fn close(&self, _slot: usize, conn: FloorConn) -> Result<()> {
        drop(conn.stop);
        conn.task.await.context("closing")
    }
}

type Conn = yamux::Connection<Compat<TlsStream<TcpStream>>>;

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, tally: Tally) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, tally) = (acceptor.clone(), tally.clone());
        // A task of its own, so that what is held afterwards is no larger than it must be.
        tokio::spawn(async move {
            if let Ok(conn) = greet(stream, acceptor).await {
                tally.rise();
                tokio::spawn(keep(conn, tally));
            }
        });
    }
}

async fn greet(stream: TcpStream, acceptor: TlsAcceptor) -> Result<Conn> {
    stream.set_nodelay(true)?;
    let mut io = TlsStream::from(acceptor.accept(stream).await?).compat();
    let (mut hello, mut confirm) = ([0; HELLO_BYTES[0]], [0; HELLO_BYTES[2]]);
    io.read_exact(&mut hello).await?;
    io.write_all(&[2; HELLO_BYTES[1]]).await?;
    io.flush().await?;
    io.read_exact(&mut confirm).await?;
    if hello[0] != 1 || confirm[0] != 3 {
        bail!("not the floor's hello");
    }
    Ok(yamux::Connection::new(io, yamux::Config::default(), yamux::Mode::Server))
}

async fn keep(mut conn: Conn, tally: Tally) {
    while let Some(Ok(stream)) = poll_fn(|cx| conn.poll_next_inbound(cx)).await {
        drop(stream);
    }
    tally.fall();
}

async fn keep_until(mut conn: Conn, stopped: oneshot::Receiver<()>) {
    tokio::select! {
        _ = poll_fn(|cx| conn.poll_next_inbound(cx)) => {}
        _ = stopped => {}
    }
    // The other side may have gone first: either way it is closed.
    let _ = poll_fn(|cx| conn.poll_close(cx)).await;
}

fn identity() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let cert = rcgen::CertificateParams::new(Vec::new())?.self_signed(&key)?;
    let der = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok((cert.der().clone(), der))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn client_config() -> Result<rustls::ClientConfig> {
    let (cert, key) = identity()?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(KeyOnly::new()))
        .with_client_auth_cert(vec![cert], key)?;
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

fn server_config() -> Result<rustls::ServerConfig> {
    let (cert, key) = identity()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(KeyOnly::new()))
        .with_single_cert(vec![cert], key)?;
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Takes any certificate whose key signed this handshake: the proof of the key is the cost that counts here.
#[derive(Debug)]
struct KeyOnly {
    algorithms: WebPkiSupportedAlgorithms,
}

impl KeyOnly {
    fn new() -> KeyOnly {
        KeyOnly { algorithms: provider().signature_verification_algorithms }
    }

    fn proven(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }
}

const NO_TLS12: rustls::Error =
    rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled);

impl ServerCertVerifier for KeyOnly {
    fn verify_server_cert(
        &self,
        _cert: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proven(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for KeyOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _cert: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proven(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
