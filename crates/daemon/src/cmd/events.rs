//! `peerkeep events`.

use crate::cli::Shared;
use crate::exit::{Code, Ended, Failure};
use crate::out;
use peerkeep::{Event, EventKind};
use std::time::Duration;

/// Show what happens, one line each, until interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep events --follow
  peerkeep events --count 1 --within 30s      (wait for one event; 5 when none came)
  peerkeep events --follow --json | jq 'select(.event == \"lost\")'

With --json every event is one object on one line. A reader that is too slow is told how many it missed.")]
pub struct Args {
    /// Go on until interrupted (also the default).
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
    let mut feed = super::daemon(shared).await?.events().await?;
    let deadline = args.within.map(|span| tokio::time::Instant::now() + span);
    let mut shown = 0_u64;
    while args.count.is_none_or(|count| shown < count) {
        let next = feed.next::<Event>();
        let event = match deadline {
            None => next.await?,
            Some(deadline) => match tokio::time::timeout_at(deadline, next).await {
                Ok(event) => event?,
                Err(_) if args.count.is_some() => {
                    return Err(Failure::new(Code::Timeout, format!("{shown} events came in that time")));
                }
                Err(_) => return Ok(()),
            },
        };
        let Some(event) = event else {
            return Err(Failure::new(Code::NotRunning, "the daemon has stopped"));
        };
        out::either(shared.json, &event, || format!("{}  {}", event.at, sentence(&event.what)));
        shown += 1;
    }
    Ok(())
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
