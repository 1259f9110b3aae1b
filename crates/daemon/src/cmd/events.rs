//! `peerkeep events`.

use crate::cli::Shared;
use crate::client::Feed;
use crate::exit::{Code, Ended, Failure};
use crate::out;
use peerkeep::{Event, EventKind};
use std::cell::Cell;
use std::time::Duration;

/// Between two looks whether the daemon is back, at first.
const FIRST_LOOK: Duration = Duration::from_millis(100);
/// The same later on.
const LATER_LOOK: Duration = Duration::from_secs(2);

/// Show what happens, one line each, until interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep events --follow                    (goes on when the daemon restarts)
  peerkeep events --count 1 --within 30s      (wait for one event; 5 when none came)
  peerkeep events --follow --json | jq 'select(.event == \"lost\")'

With --json every event is one object on one line. A reader that is too slow is told how many it missed. That the
daemon went away or is back is said on standard error.")]
pub struct Args {
    /// Go on until interrupted, and wait for the daemon when it restarts. Without it the end of the daemon is the end.
    #[arg(long, short)]
    follow: bool,
    /// End after so many.
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    count: Option<u64>,
    /// End after that time.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    within: Option<Duration>,
}

/// Follows the daemon.
pub async fn run(shared: &Shared, args: Args) -> Ended {
    let shown = Cell::new(0_u64);
    let showing = show(shared, &args, &shown);
    let Some(within) = args.within else { return showing.await };
    match tokio::time::timeout(within, showing).await {
        Ok(ended) => ended,
        Err(_) if args.count.is_some() => {
            Err(Failure::new(Code::Timeout, format!("{} events came in that time", shown.get())))
        }
        Err(_) => Ok(()),
    }
}

async fn show(shared: &Shared, args: &Args, shown: &Cell<u64>) -> Ended {
    let mut feed = super::daemon(shared).await?.events(None).await?;
    while args.count.is_none_or(|count| shown.get() < count) {
        match feed.next::<Event>().await? {
            Some(event) => {
                out::either(shared.json, &event, || format!("{}  {}", event.at, sentence(&event.what)));
                shown.set(shown.get() + 1);
            }
            None if args.follow => feed = back(shared, feed.last()).await?,
            None => return Err(Failure::new(Code::NotRunning, "the daemon has stopped")),
        }
    }
    Ok(())
}

/// Waits until the daemon runs again, and goes on where the last event was; after a restart, with all that the new one
/// remembers.
async fn back(shared: &Shared, last: Option<&str>) -> Result<Feed, Failure> {
    out::aside("(the daemon has stopped; waiting until it is back)");
    // An id of nobody's, where there was none yet: what happens at a start is not missed.
    let last = last.unwrap_or("0-0");
    let mut pause = FIRST_LOOK;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LATER_LOOK);
        let asked = async { super::daemon(shared).await?.events(Some(last)).await };
        match asked.await {
            Ok(feed) => {
                out::aside("(the daemon is back)");
                return Ok(feed);
            }
            Err(failure) if failure.code == Code::NotRunning => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// An event as a sentence without a full stop.
pub fn sentence(event: &EventKind) -> String {
    use EventKind::*;
    let of = |most: u32| if most == 0 { String::new() } else { format!(" of {most}") };
    match event {
        Discovered { peer } => format!("{peer} became known"),
        Dialing { peer, attempt, max_attempts, .. } => {
            format!("{peer} is being dialled, attempt {attempt}{}", of(*max_attempts))
        }
        Connected { peer, direction, remote, took_ms, .. } => format!(
            "{peer} is connected, dialled by {}{}, after {}",
            super::peers::direction(*direction),
            remote.as_ref().map(|remote| format!(", at {}", out::clean(remote))).unwrap_or_default(),
            out::span_ms(*took_ms)
        ),
        Lost { peer, reason, age_ms, error, .. } => format!(
            "{peer} is lost after {}: {reason}{}",
            out::span_ms(*age_ms),
            error.as_ref().map(|error| format!(" ({})", out::clean(&error.text))).unwrap_or_default()
        ),
        Failed { peer, error, attempts, max_attempts, next_retry_in_ms, .. } => format!(
            "{peer} could not be connected: {}; attempt {attempts}{}, {}",
            error.as_ref().map_or_else(|| "no reason known".into(), |error| out::clean(&error.text)),
            of(*max_attempts),
            next_retry_in_ms
                .map_or_else(|| "no next one".into(), |ms| format!("next in {}", out::span_ms(ms)))
        ),
        GaveUp { peer, .. } => {
            format!("{peer} is given up; `peerkeep retry` or `peerkeep connect` tries again")
        }
        Violated { peer, what } => format!("{peer} misbehaved: {what}"),
        Banned { target } => format!("{} is banned", out::clean(&target.0)),
        Unbanned { target } => format!("{} is no longer banned", out::clean(&target.0)),
        Routed { peer } => format!("{peer} is reached another way"),
        CloneSuspected { peer } => format!("two machines seem to use the identity of {peer}"),
        Degraded { peer, conn, health } => {
            format!("the connection to {peer} ({}) is {health}", out::clean(conn))
        }
        Restored { peer, conn } => format!("the connection to {peer} ({}) is good again", out::clean(conn)),
        Replacing { peer, conn } => {
            format!("the connection to {peer} ({}) is being replaced", out::clean(conn))
        }
        Ailing { ailment } => format!("{}: {}", out::clean(&ailment.part), out::clean(&ailment.text)),
        Recovered { part } => format!("{} works again", out::clean(part)),
        NetworkChanged { addresses } => format!(
            "the network changed; others reach us at {}",
            if addresses.is_empty() { "no address".into() } else { out::clean(&addresses.join(", ")) }
        ),
        Configured => "the configuration was taken".into(),
        ShuttingDown => "the node is going down".into(),
        Lagged { missed } => format!("({missed} events were missed: this reader is too slow)"),
    }
}
