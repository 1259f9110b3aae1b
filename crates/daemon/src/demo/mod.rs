//! The demonstration: real processes of this same program, found by each other from one address, with faults made on
//! purpose, and judged by the success metrics of the four-node document. It never touches a node that it did not start.

mod faults;
mod figures;
mod fleet;
mod load;
mod table;
mod watch;

use crate::exit::{Code, Ended, Failure};
use crate::out;
use figures::Figures;
use fleet::Fleet;
use std::time::Duration;
use table::Screen;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use watch::Watch;

/// Most time for all to be connected at first, and after each fault.
const SETTLE: Duration = Duration::from_secs(20);

/// What to play.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// How long to hold them once connected.
    pub hold: Duration,
    /// Whether to make faults.
    pub faults: bool,
    /// Whether to leave one node dead at the end and count dials.
    pub one_dead: bool,
    /// Whether to keep folders and logs.
    pub keep: bool,
    /// Whether to print for programs only.
    pub json: bool,
}

/// Plays it to the end, or until interrupted. Children and folders are gone afterwards either way.
///
/// # Errors
/// A figure was missed, a node did not start, or somebody interrupted.
pub async fn play(plan: Plan) -> Ended {
    let mut fleet = Fleet::new(&plan)?;
    let stopped = |error: std::io::Error| Failure::failed(format!("signals cannot be caught: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(stopped)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(stopped)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(stopped)?;
    let played = tokio::select! {
        played = perform(&plan, &mut fleet) => played,
        _ = terminate.recv() => Err(Failure::failed("the demo was interrupted")),
        _ = interrupt.recv() => Err(Failure::failed("the demo was interrupted")),
        _ = hangup.recv() => Err(Failure::failed("the demo was interrupted")),
    };
    if plan.keep {
        let kept = fleet.keep();
        eprintln!("folders and logs are kept in {}", kept.display());
    }
    drop(fleet);
    let figures = played?;
    out::either(plan.json, &figures, || figures.summary());
    match figures.missed.first() {
        None => Ok(()),
        // The summary, and the JSON, say which already.
        Some(_) => Err(Failure::shown(Code::Failed)),
    }
}

async fn perform(plan: &Plan, fleet: &mut Fleet) -> Result<Figures, Failure> {
    let mut screen = Screen::new(plan);
    let mut watch = Watch::new(plan.nodes);
    screen.say(&format!("starting {} nodes at once; each is told one address", plan.nodes));
    let began = Instant::now();
    fleet.start_all().await?;
    for index in 0..plan.nodes {
        watch.follow(fleet, index);
    }
    screen.phase("waiting until everybody is connected to everybody");
    if !watch.settle(fleet, &mut screen, SETTLE).await {
        let mut figures = Figures::of(plan, &watch);
        figures.miss(format!("not all connected within {}", out::span(SETTLE)));
        figures.logs_of(fleet);
        return Ok(figures);
    }
    let connected_ms = began.elapsed().as_millis();
    screen.say(&format!("all connected after {connected_ms} ms"));
    watch.steady_from_now(fleet);
    let end = Instant::now() + plan.hold;
    let mut notes = faults::Notes::default();
    if plan.faults {
        faults::make(plan, fleet, &mut watch, &mut screen, &mut notes).await?;
    }
    screen.phase("holding");
    watch.hold_until(fleet, &mut screen, end).await;
    watch.end_steady(fleet);
    let all_connected = watch.all_connected(fleet).await;
    let mut figures = Figures::of(plan, &watch);
    figures.first_connected_ms = u64::try_from(connected_ms).unwrap_or(u64::MAX);
    if !all_connected {
        figures.miss("not everybody is connected at the end");
    }
    figures.take(notes);
    if plan.one_dead {
        figures.take_dead(faults::leave_dead(fleet, &mut watch, &mut screen).await);
    }
    screen.phase("stopping");
    watch.stop();
    fleet.stop_all(&mut figures).await;
    figures.journals_of(fleet);
    figures.logs_of(fleet);
    screen.finish();
    Ok(figures)
}
