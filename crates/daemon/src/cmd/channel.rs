//! `peerkeep channel`.

use super::visit::Visit;
use crate::cli::Shared;
use crate::exit::{Code, Ended, Failure};
use peerkeep::{Channel, ChannelError, Node, PeerId};
use std::io::{self, Read as _, Write as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Bytes that are carried at once.
const PIECE_BYTES: usize = 16 * 1024;

/// Speak a protocol with a libp2p node by hand. Needs no daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep channel open /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW... /echo/1.0.0
  printf hello | peerkeep channel open /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooW... /echo/1.0.0")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Open a channel: standard input goes there, what comes back goes to standard output.
    Open(Open),
}

/// Ends with 0 when the other side has finished its direction, 1 when the channel broke, 4 when it does not take the
/// protocol.
#[derive(Debug, clap::Args)]
struct Open {
    #[command(flatten)]
    visit: Visit,
    /// What to speak: a name that begins with /
    #[arg(value_name = "PROTOCOL")]
    protocol: String,
}

/// Visits, and carries bytes both ways.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    let Command::Open(open) = args.command;
    let (node, peer) = open.visit.begin(shared).await?;
    let carried = carry(&node, peer, &open.protocol).await;
    node.shutdown().await;
    carried
}

async fn carry(node: &Node, peer: PeerId, protocol: &str) -> Ended {
    let opened = node.open(peer, protocol).await;
    let channel = opened.map_err(|error| match error {
        ChannelError::Unsupported => {
            Failure::new(Code::NotFound, format!("{peer} does not speak {protocol}"))
        }
        ChannelError::Name => Failure::new(Code::Usage, error.to_string()),
        _ => Failure::failed(error.to_string()),
    })?;
    both_ways(channel).await.map_err(|error| Failure::failed(format!("the channel broke: {error}")))
}

/// Until the other side has finished; our end of input finishes our direction and no more.
async fn both_ways(channel: Channel) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(channel);
    let mut input = input();
    let there = async {
        while let Some(piece) = input.recv().await {
            to.write_all(&piece?).await?;
            to.flush().await?;
        }
        to.shutdown().await?;
        std::future::pending::<io::Result<()>>().await
    };
    let back = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = from.read(&mut piece).await?;
            if count == 0 {
                return Ok(());
            }
            // Nothing else is to be done while whoever reads is slow.
            let mut out = io::stdout().lock();
            out.write_all(&piece[..count])?;
            out.flush()?;
        }
    };
    tokio::select! {
        there = there => there,
        back = back => back,
    }
}

/// Standard input, read by a thread of its own: nobody can wait for a terminal without being stuck there, and the program
/// must end when the other side does.
fn input() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (send, receive) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = match io::stdin().lock().read(&mut piece) {
                Ok(0) => return,
                Ok(count) => Ok(piece[..count].to_vec()),
                Err(error) => Err(error),
            };
            if send.blocking_send(read).is_err() {
                return;
            }
        }
    });
    receive
}
