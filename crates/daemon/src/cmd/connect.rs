//! `peerkeep connect`.

use crate::api::{Connected, PeerRequest};
use crate::cli::Shared;
use crate::exit::{Code, Ended, Failure};
use crate::out;
use peerkeep::{ErrorStatus, Outcome};
use std::time::Duration;

/// Connect to a peer once and wait for the outcome. To keep it connected, use `want`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep connect /ip4/192.0.2.7/tcp/7330/p2p/12D3KooW...
  peerkeep connect /dns4/node.example.org/tcp/7330/p2p/12D3KooW...
  peerkeep connect 192.0.2.7:7330     (whoever answers first is trusted from then on)
  peerkeep connect 12D3KooW...        (a peer that is known already)
  peerkeep connect libp2p:/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...      (where libp2p.enabled is set)

Ends with 0 when connected, 1 when it failed, 5 when the outcome is still open; 10 to 13 when it was refused for a
limit, a ban, a connection that exists or the want of an address.")]
pub struct Args {
    /// Its address as its daemon prints it, or its id when it is known already.
    #[arg(value_name = "ADDR")]
    peer: String,
    /// How long to wait for the outcome; 0s does not wait.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Be refused where it would have to wait for a free slot, or is connected already.
    #[arg(long)]
    no_queue: bool,
}

/// Asks the daemon, and waits.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    let mut client = super::daemon(shared).await?;
    let wait_ms = u64::try_from(args.wait.as_millis()).unwrap_or(u64::MAX);
    let queue = args.no_queue.then_some(false);
    let request = PeerRequest { peer: args.peer.clone(), wait_ms: Some(wait_ms), queue };
    let spinner = super::spinner(shared, format!("connecting to {}", out::clean(&args.peer)));
    let asked = client.post_within("/v1/connect", &request, args.wait + Duration::from_secs(5)).await;
    spinner.finish_and_clear();
    let connected: Connected = asked?;
    out::either(shared.json, &connected, || people(&connected, &args.peer));
    match connected {
        Connected::Outcome(Outcome::Connected { .. }) | Connected::Answer(_) => Ok(()),
        Connected::Outcome(Outcome::StillTrying { .. }) => Err(Failure::shown(Code::Timeout)),
        Connected::Outcome(Outcome::GaveUp { .. } | Outcome::Cancelled { .. }) => {
            Err(Failure::shown(Code::Failed))
        }
    }
}

fn people(connected: &Connected, asked: &str) -> String {
    let because = |error: &Option<ErrorStatus>| {
        error.as_ref().map_or_else(String::new, |error| format!(": {}", out::clean(&error.text)))
    };
    match connected {
        Connected::Answer(answer) => super::sentence(answer, asked, "connecting"),
        Connected::Outcome(Outcome::Connected { peer, already: true, .. }) => {
            format!("{peer} was connected already")
        }
        Connected::Outcome(Outcome::Connected { peer, .. }) => format!("{peer} is connected"),
        Connected::Outcome(Outcome::GaveUp { peer, attempts, error }) => {
            format!(
                "{peer} could not be connected after {attempts} attempts{}\n  `peerkeep why {peer}` says more",
                because(error)
            )
        }
        Connected::Outcome(Outcome::Cancelled { peer }) => {
            format!("the attempt to connect {peer} was called off")
        }
        Connected::Outcome(Outcome::StillTrying { peer, error }) => {
            format!(
                "{peer} is not connected yet{}; the daemon goes on trying\n  `peerkeep why {peer}` says more",
                because(error)
            )
        }
    }
}
