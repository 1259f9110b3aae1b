//! Bare mesh links for the dialling side of the idle figures: the mesh's own stack with an identity for each link and no node
//! around it, so that thousands fit in one process. It refuses to be measured.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, anyhow};
use peerkeep::{PeerAddress, PeerKey};
use peerkeep_core::{Addr, AddrKind, Close, ConnRef, Greeting, Time};
use peerkeep_mesh::{Identity, MeshConfig, MeshStack, NoExchange, Registry};
use peerkeep_net::{
    Facts, Io, Link as _, Meeting as _, Post, Quic, QuicOptions, Role, Stack as _, Terms, Verdict,
};
use tokio::{
    net::TcpStream,
    runtime::Builder,
    sync::{mpsc, oneshot},
    task::LocalSet,
};

/// Opens links on a thread of its own: they cannot move between threads.
pub struct Lean {
    asks: mpsc::Sender<oneshot::Sender<Result<LeanLink>>>,
}

/// An open link.
pub struct LeanLink {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl LeanLink {
    /// Says goodbye and waits for the end.
    pub async fn close(self) -> Result<()> {
        drop(self.stop);
        self.ended.await.context("the link's task is gone")
    }
}

impl Lean {
    /// Will open links to `address`, over TCP or QUIC as that says.
    pub fn start(address: &PeerAddress) -> Result<Lean> {
        let peer = address.id.context("an address without an identity")?.key();
        let place = match address.place {
            Some(peerkeep::Place::Ip(addr)) => addr,
            _ => return Err(anyhow!("an address without a socket")),
        };
        let (asks, mut asked) = mpsc::channel::<oneshot::Sender<Result<LeanLink>>>(64);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            LocalSet::new().block_on(&runtime, async move {
                // One socket for all: what it would answer with does not matter, nobody is told of it.
                let ports = stack().map(|any| Quic::new(any.quic_server(), QuicOptions::default()));
                while let (Some(answer), Ok(ports)) = (asked.recv().await, &ports) {
                    let ports = ports.clone();
                    tokio::task::spawn_local(async move {
                        // Whoever asked may have gone.
                        let _ = answer.send(open(ports, place, peer).await);
                    });
                }
            });
        });
        Ok(Lean { asks })
    }

    /// Another link, with another identity.
    pub async fn open(&self) -> Result<LeanLink> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(answer).await.map_err(|_| anyhow!("the thread ended"))?;
        answered.await.context("the thread ended")?
    }
}

fn stack() -> Result<MeshStack> {
    let config = MeshConfig::default();
    Ok(MeshStack::new(&Identity::generate()?, &config, Registry::default(), Arc::new(NoExchange))?)
}

async fn connect(stack: &MeshStack, ports: Quic, terms: &Terms) -> Result<Io> {
    let at: SocketAddr = terms.remote.socket();
    if terms.remote.kind == AddrKind::Quic {
        let dial = stack.quic_dial(terms).context("no QUIC")?;
        let io = ports.connect(at, dial, |step, error| stack.quic_fault(step, error)).await;
        return Ok(Io::Quic(io.map_err(|fault| anyhow!("{fault:?}"))?));
    }
    let tcp = TcpStream::connect(at).await?;
    tcp.set_nodelay(true)?;
    Ok(Io::Tcp(tcp))
}

async fn open(ports: Quic, remote: Addr, peer: PeerKey) -> Result<LeanLink> {
    static DIALS: AtomicU32 = AtomicU32::new(0);
    let number = DIALS.fetch_add(1, Ordering::Relaxed) + 1;
    let stack = stack()?;
    let greeting = Greeting { epoch: 1, dial: 1, ..Greeting::default() };
    let terms = Terms { role: Role::Dialler, expect: Some(peer), greeting, remote };
    let io = connect(&stack, ports, &terms).await?;
    let met = stack.meet(io, terms).await;
    let (_, meeting) = met.map_err(|error| anyhow!("meeting: {error:?}"))?;
    let settled = meeting.settle(Verdict::Admit { greeting }).await;
    let link = settled.map_err(|error| anyhow!("settling: {error:?}"))?;
    let conn = ConnRef { row: number, generation: 0 };
    let (post, mail, meter) = Post::loose(conn, Facts::default());
    let ((stop, stopped), (end, ended)) = (oneshot::channel::<()>(), oneshot::channel());
    tokio::task::spawn_local(async move {
        let mut run = std::pin::pin!(link.run(mail, meter));
        let ran = tokio::select! {
            _ = &mut run => true,
            _ = stopped => false,
        };
        if !ran {
            post.close(Close::Requested, Time::NEVER);
            run.await;
        }
        let _ = end.send(());
    });
    Ok(LeanLink { stop, ended })
}
