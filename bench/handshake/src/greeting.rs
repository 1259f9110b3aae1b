//! What the rivals say after TLS: the very bytes that two nodes of ours would greet each other with, made once by the mesh's
//! own machines. It refuses to look at them: nobody's identity is decided here.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, anyhow};
use peerkeep_core::{Addr, Greeting, PeerKey};
use peerkeep_mesh::{
    Identity, MeshConfig,
    handshake::{Acceptor, Dialler, Local, NONCE_BYTES},
    wire::{Handshake, MAX_HANDSHAKE_BYTES, parse},
};

/// The three frames.
#[derive(Clone)]
pub struct Frames {
    /// Dialler to acceptor.
    pub hello: Vec<u8>,
    /// Acceptor to dialler.
    pub answer: Vec<u8>,
    /// Dialler to acceptor.
    pub confirm: Vec<u8>,
}

impl Frames {
    /// Of a dialler that listens nowhere and an acceptor with one address, as the nodes beside it are.
    pub fn new() -> Result<Frames> {
        let at: SocketAddr = ([127, 0, 0, 1], 45_678).into();
        let here = MeshConfig::default();
        here.listen.set([Addr::tcp(at)]);
        let key = |seed: u8| -> Result<PeerKey> { Ok(Identity::from_seed(&[seed; 32])?.key()) };
        let dialler = Arc::new(Local::new(key(1)?, &MeshConfig::default()));
        let acceptor = Arc::new(Local::new(key(2)?, &here));
        let greeting =
            Greeting { epoch: 1_800_000_000, dial: 1_000, accepted: (0, 0), ..Greeting::default() };
        let (mut hello, mut answer, mut confirm) = (Vec::new(), Vec::new(), Vec::new());
        Dialler::start(dialler, key(2)?, Addr::tcp(at), &greeting, [7; NONCE_BYTES], &mut hello)
            .map_err(|failure| anyhow!("{failure:?}"))?;
        let mut machine = Acceptor::new(acceptor, key(1)?, Addr::tcp(at));
        let (frame, _) = parse::<Handshake>(&hello, MAX_HANDSHAKE_BYTES)?.context("a whole hello")?;
        machine.handle(frame).map_err(|failure| anyhow!("{failure:?}"))?;
        let answering = Greeting { accepted: (1_800_000_000, 1_000), ..greeting };
        machine.answer(&answering, &mut answer);
        Dialler::confirm(&mut confirm);
        Ok(Frames { hello, answer, confirm })
    }

    /// How many bytes each has.
    pub fn lengths(&self) -> [usize; 3] {
        [self.hello.len(), self.answer.len(), self.confirm.len()]
    }
}

/// The identities that the rivals prove, and with them the mesh's own TLS configurations: the same certificates, suites
/// and checks.
pub fn identity(seed: u8) -> Result<Identity> {
    Ok(Identity::from_seed(&[seed; 32])?)
}
