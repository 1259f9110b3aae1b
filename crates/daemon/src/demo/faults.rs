//! The faults the demo makes, one after the other: a crash, a pause, a ban. Each opens a window in which failures are
//! expected, and closes it when everybody is connected again.

use super::figures::Figures;
use super::fleet::Fleet;
use super::table::Screen;
use super::watch::Watch;
use super::{Plan, SETTLE};
use crate::api::{BanRequest, Banned};
use crate::exit::Failure;
use crate::out;
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::Instant;

/// The default of `backoff.fast_window`, and a little more.
const FAST_WINDOW: Duration = Duration::from_secs(62);
/// Over how long dials to a dead node are counted.
const COUNTED: Duration = Duration::from_secs(60);

/// What the faults showed.
#[derive(Debug, Default)]
pub struct Notes {
    /// From the restarted node's first listening until all its connections were back.
    pub heal_after_kill: Option<Duration>,
    /// What went wrong.
    pub missed: Vec<String>,
}

impl Figures {
    /// Adds what the faults showed.
    pub fn take(&mut self, notes: Notes) {
        self.heal_after_kill_ms =
            notes.heal_after_kill.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        for missed in notes.missed {
            self.miss(missed);
        }
    }
}

/// Makes them, spread over the holding time.
pub async fn make(
    plan: &Plan,
    fleet: &mut Fleet,
    watch: &mut Watch,
    screen: &mut Screen,
    notes: &mut Notes,
) -> Result<(), Failure> {
    let began = Instant::now();
    screen.phase("holding");
    watch.hold_until(fleet, screen, began + plan.hold.mul_f64(0.2)).await;
    crash(fleet, watch, screen, notes).await?;
    screen.phase("holding");
    watch.hold_until(fleet, screen, began + plan.hold.mul_f64(0.45)).await;
    pause(plan, fleet, watch, screen, notes).await;
    screen.phase("holding");
    watch.hold_until(fleet, screen, began + plan.hold.mul_f64(0.7)).await;
    ban(plan, fleet, watch, screen, notes).await
}

/// The node that all were told about dies without a word, and comes back.
async fn crash(
    fleet: &mut Fleet,
    watch: &mut Watch,
    screen: &mut Screen,
    notes: &mut Notes,
) -> Result<(), Failure> {
    let victim = 0;
    watch.open_window(fleet).await;
    screen.phase("node 1 is killed");
    fleet.signal(victim, Signal::KILL, "killed");
    fleet.reap(victim).await;
    watch.hold_until(fleet, screen, Instant::now() + Duration::from_secs(1)).await;
    screen.phase("node 1 starts again");
    fleet.start(victim).await?;
    let listens = Instant::now();
    watch.follow(fleet, victim);
    if watch.settle(fleet, screen, SETTLE).await {
        notes.heal_after_kill = Some(listens.elapsed());
        screen.say(&format!(
            "node 1 was killed; all connected again {} ms after it listened",
            listens.elapsed().as_millis()
        ));
    } else {
        notes.missed.push("the killed node was not connected again".into());
    }
    watch.close_window(fleet).await;
    Ok(())
}

/// The first node dies for good. After the fast window of the others, their dials a minute.
pub async fn leave_dead(fleet: &mut Fleet, watch: &mut Watch, screen: &mut Screen) -> f64 {
    watch.open_window(fleet).await;
    screen.phase("node 1 is killed for good");
    fleet.signal(0, Signal::KILL, "killed");
    fleet.reap(0).await;
    screen.phase("waiting until the fast window is over");
    watch.hold_until(fleet, screen, Instant::now() + FAST_WINDOW).await;
    screen.phase("counting the dials to a dead node");
    let before = watch.total_dials();
    watch.hold_until(fleet, screen, Instant::now() + COUNTED).await;
    let dials = watch.total_dials().saturating_sub(before);
    dials as f64 * 60.0 / COUNTED.as_secs_f64()
}

/// A node stands still and goes on, as a laptop that sleeps.
async fn pause(plan: &Plan, fleet: &mut Fleet, watch: &mut Watch, screen: &mut Screen, notes: &mut Notes) {
    let victim = 1 % plan.nodes;
    let span = plan.hold.mul_f64(0.12).clamp(Duration::from_millis(300), Duration::from_secs(60));
    watch.open_window(fleet).await;
    screen.phase("node 2 is paused");
    fleet.signal(victim, Signal::STOP, "paused");
    watch.hold_until(fleet, screen, Instant::now() + span).await;
    fleet.signal(victim, Signal::CONT, "running");
    screen.phase("node 2 goes on");
    if watch.settle(fleet, screen, SETTLE).await {
        screen.say(&format!("node 2 was paused for {}; all connected", out::span(span)));
    } else {
        notes.missed.push("the paused node was not connected again".into());
    }
    watch.close_window(fleet).await;
}

/// The last node bans the one before it, and lifts the ban.
async fn ban(
    plan: &Plan,
    fleet: &mut Fleet,
    watch: &mut Watch,
    screen: &mut Screen,
    notes: &mut Notes,
) -> Result<(), Failure> {
    let (judge, banned) = (plan.nodes - 1, plan.nodes - 2);
    let span = plan.hold.mul_f64(0.08).clamp(Duration::from_millis(300), Duration::from_secs(60));
    watch.open_window(fleet).await;
    let phase = format!("node {} bans node {}", judge + 1, banned + 1);
    screen.phase(&phase);
    let request = BanRequest { target: fleet.members[banned].id().to_owned(), for_ms: None };
    let _: Banned = fleet.client(judge).await?.post("/v1/bans", &request).await?;
    watch.hold_until(fleet, screen, Instant::now() + span).await;
    let others = u32::try_from(plan.nodes - 2).unwrap_or(0);
    let connected = watch.connected();
    if connected[judge] != others || connected[banned] != others {
        notes.missed.push("the banned node was still connected".into());
    }
    let _: Banned = fleet.client(judge).await?.post("/v1/unban", &request).await?;
    screen.phase("the ban is lifted");
    if watch.settle(fleet, screen, SETTLE).await {
        screen.say(&format!(
            "node {} was banned for {} and unbanned; all connected",
            banned + 1,
            out::span(span)
        ));
    } else {
        notes.missed.push("the unbanned node was not connected again".into());
    }
    watch.close_window(fleet).await;
    Ok(())
}
