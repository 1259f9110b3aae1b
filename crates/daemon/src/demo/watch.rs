//! What the demo sees of its nodes: their totals over the API, their events, and the kernel's own table of sockets as
//! a witness that does not depend on our counting. Times in which the demo itself makes a fault are left out.

use super::fleet::Fleet;
use super::load::Load;
use super::table::Screen;
use crate::client::{Client, Feed};
use peerkeep::{Direction, Event, EventKind, NodeStatus, PeerStatus, Totals};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often the nodes are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How often while a time is being measured.
const LOOK_CLOSELY: Duration = Duration::from_millis(20);
/// A node that does not answer within this is shown without numbers.
const ANSWER: Duration = Duration::from_millis(500);
/// A surplus socket counts when it was seen in so many looks in a row: one that is being closed is none.
const SURPLUS_LOOKS: u32 = 4;

/// Everything seen so far.
#[derive(Debug)]
pub struct Watch {
    sender: mpsc::Sender<(usize, Event)>,
    inbox: mpsc::Receiver<(usize, Event)>,
    followers: Vec<Option<JoinHandle<()>>>,
    latest: Vec<Option<NodeStatus>>,
    /// The last thing that happened, for the table.
    pub last_event: Option<(usize, EventKind)>,
    /// Live connections by node and peer, as announced.
    announced: BTreeMap<(usize, String), BTreeSet<String>>,
    announced_twice: u32,
    base: Vec<Totals>,
    /// Sums outside the windows of faults.
    pub handshake_failures: u64,
    /// Links lost, in the same times.
    pub losses: u64,
    /// Fewest connections that a node had in any look, in the same times.
    pub lowest: Option<u32>,
    load: Load,
    steady_dials: u64,
    steady_since: Option<Instant>,
    steady: Duration,
    window: bool,
    seen: BTreeSet<(usize, u64, String)>,
    /// How long each outbound connection took to be agreed, in milliseconds.
    pub established_ms: Vec<u64>,
    /// Events that a follower was too slow for.
    pub missed_events: u64,
    surplus_looks: u32,
    surplus: u32,
}

impl Watch {
    /// Nothing seen yet.
    pub fn new(nodes: usize) -> Watch {
        let (sender, inbox) = mpsc::channel(1_024);
        Watch {
            sender,
            inbox,
            followers: (0..nodes).map(|_| None).collect(),
            latest: vec![None; nodes],
            last_event: None,
            announced: BTreeMap::new(),
            announced_twice: 0,
            base: vec![Totals::default(); nodes],
            handshake_failures: 0,
            losses: 0,
            lowest: None,
            load: Load::new(nodes),
            steady_dials: 0,
            steady_since: None,
            steady: Duration::ZERO,
            window: false,
            seen: BTreeSet::new(),
            established_ms: Vec::new(),
            missed_events: 0,
            surplus_looks: 0,
            surplus: 0,
        }
    }

    /// Follows a node that has just started.
    pub fn follow(&mut self, fleet: &Fleet, index: usize) {
        self.announced.retain(|(node, _), _| *node != index);
        let socket = fleet.socket(index);
        let sender = self.sender.clone();
        let follower = tokio::spawn(pass_on(socket, index, sender));
        if let Some(old) = self.followers[index].replace(follower) {
            old.abort();
        }
    }

    /// Follows nobody any more.
    pub fn stop(&mut self) {
        for follower in self.followers.iter_mut().filter_map(Option::take) {
            follower.abort();
        }
    }

    /// Waits until everybody is connected to everybody, for `limit` at most.
    pub async fn settle(&mut self, fleet: &Fleet, screen: &mut Screen, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut next_draw = Instant::now();
        loop {
            if self.all_connected(fleet).await {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            if Instant::now() >= next_draw {
                screen.draw(fleet, self);
                next_draw = Instant::now() + LOOK;
            }
            tokio::time::sleep(LOOK_CLOSELY).await;
        }
    }

    /// Looks on until then.
    pub async fn hold_until(&mut self, fleet: &Fleet, screen: &mut Screen, end: Instant) {
        while Instant::now() < end {
            self.look(fleet).await;
            if !self.window {
                self.count_sockets(fleet);
            }
            screen.draw(fleet, self);
            tokio::time::sleep_until((Instant::now() + LOOK).min(end)).await;
        }
    }

    /// Whether everybody is connected to everybody now.
    pub async fn all_connected(&mut self, fleet: &Fleet) -> bool {
        self.look(fleet).await;
        let others = fleet.members.len().saturating_sub(1);
        self.latest.iter().all(|status| {
            status.as_ref().is_some_and(|status| usize::try_from(status.counts.connected) == Ok(others))
        })
    }

    /// Connected peers of each node, as last seen.
    pub fn connected(&self) -> Vec<u32> {
        self.latest.iter().map(|status| status.as_ref().map_or(0, |status| status.counts.connected)).collect()
    }

    /// A node's status, as last seen.
    pub fn status(&self, index: usize) -> Option<&NodeStatus> {
        self.latest[index].as_ref()
    }

    /// Connections too many: announced twice, or beyond one per pair in the kernel's table.
    pub fn duplicates(&self) -> u32 {
        self.announced_twice + self.surplus
    }

    /// Dials of all running nodes since they started.
    pub fn total_dials(&self) -> u64 {
        self.latest.iter().flatten().map(|status| status.totals.dials).sum()
    }

    /// Dials a minute over all nodes, in the time without faults; nothing when there was none.
    pub fn dials_per_minute(&self) -> Option<f64> {
        let seconds = self.steady.as_secs_f64();
        (seconds > 0.0).then(|| self.steady_dials as f64 * 60.0 / seconds)
    }

    /// Processor time of each node in the time without faults, in per cent of a core.
    pub fn cpu_percent(&self) -> Vec<f64> {
        self.load.cpu_percent(self.steady)
    }

    /// Lines of log a minute over all nodes, in the same time.
    pub fn log_lines_per_minute(&self) -> f64 {
        self.load.log_lines_per_minute(self.steady)
    }

    /// How long nothing was wrong.
    pub fn steady(&self) -> Duration {
        self.steady
    }

    /// From now on dials count as steady ones.
    pub fn steady_from_now(&mut self, fleet: &Fleet) {
        self.take_totals();
        self.load.begin(fleet);
        self.steady_since = Some(Instant::now());
    }

    /// Takes what was counted since `steady_from_now`; what follows does not count until then.
    pub fn end_steady(&mut self, fleet: &Fleet) {
        let Some(since) = self.steady_since.take() else { return };
        self.steady += since.elapsed();
        self.load.end(fleet);
        self.steady_dials += self.take_totals();
    }

    /// Adds what happened since the last time; how many dials that were.
    fn take_totals(&mut self) -> u64 {
        let mut dials = 0;
        for (base, status) in self.base.iter_mut().zip(&self.latest) {
            let Some(status) = status else { continue };
            let now = status.totals;
            self.handshake_failures += now.handshake_failures.saturating_sub(base.handshake_failures);
            self.losses += now.lost.saturating_sub(base.lost);
            dials += now.dials.saturating_sub(base.dials);
            *base = now;
        }
        dials
    }

    /// A fault is about to be made.
    pub async fn open_window(&mut self, fleet: &Fleet) {
        self.look(fleet).await;
        self.end_steady(fleet);
        self.window = true;
    }

    /// The fault is over and healed.
    pub async fn close_window(&mut self, fleet: &Fleet) {
        self.look(fleet).await;
        for (base, status) in self.base.iter_mut().zip(&self.latest) {
            *base = status.as_ref().map_or_else(Totals::default, |status| status.totals);
        }
        self.window = false;
        self.surplus_looks = 0;
        self.load.begin(fleet);
        self.steady_since = Some(Instant::now());
    }

    async fn look(&mut self, fleet: &Fleet) {
        for index in 0..fleet.members.len() {
            let seen = if fleet.members[index].state == "running" {
                tokio::time::timeout(ANSWER, ask(fleet, index)).await.ok().flatten()
            } else {
                None
            };
            if let Some((status, peers)) = &seen {
                self.take_times(index, status, peers);
            }
            self.latest[index] = seen.map(|(status, _)| status);
        }
        if self.steady_since.is_some() {
            let counts = self.latest.iter().flatten().map(|status| status.counts.connected);
            self.lowest = counts.chain(self.lowest).min();
        }
        while let Ok((index, event)) = self.inbox.try_recv() {
            self.take_event(index, event);
        }
    }

    fn take_times(&mut self, index: usize, status: &NodeStatus, peers: &[PeerStatus]) {
        for link in peers.iter().filter_map(|peer| peer.link.as_ref()) {
            let (Direction::Outbound, Some(connected_at)) = (link.direction, link.connected_at) else {
                continue;
            };
            if self.seen.insert((index, status.boot_epoch, link.conn.clone())) {
                let took = connected_at.since(link.began_at).as_millis();
                self.established_ms.push(u64::try_from(took).unwrap_or(u64::MAX));
            }
        }
    }

    fn take_event(&mut self, index: usize, event: Event) {
        match &event.what {
            EventKind::Connected { peer, conn, .. } => {
                let live = self.announced.entry((index, peer.to_string())).or_default();
                live.insert(conn.clone());
                if live.len() > 1 {
                    self.announced_twice += 1;
                }
            }
            EventKind::Lost { peer, conn, .. } => {
                if let Some(live) = self.announced.get_mut(&(index, peer.to_string())) {
                    live.remove(conn);
                }
            }
            EventKind::Lagged { missed } => self.missed_events += missed,
            _ => {}
        }
        self.last_event = Some((index, event.what));
    }

    fn count_sockets(&mut self, fleet: &Fleet) {
        let nodes = fleet.members.len();
        let expected = nodes * (nodes - 1) / 2;
        let found = std::fs::read_to_string("/proc/net/tcp").map_or(0, |table| accepted(&table, fleet.port));
        let surplus = found.saturating_sub(expected);
        self.surplus_looks = if surplus == 0 { 0 } else { self.surplus_looks + 1 };
        if self.surplus_looks >= SURPLUS_LOOKS {
            self.surplus = self.surplus.max(u32::try_from(surplus).unwrap_or(u32::MAX));
        }
    }
}

async fn ask(fleet: &Fleet, index: usize) -> Option<(NodeStatus, Vec<PeerStatus>)> {
    let mut client = fleet.client(index).await.ok()?;
    let status = client.get("/v1/status").await.ok()?;
    let peers = client.get("/v1/peers").await.ok()?;
    Some((status, peers))
}

async fn pass_on(socket: PathBuf, index: usize, sender: mpsc::Sender<(usize, Event)>) {
    let Ok(client) = Client::open_socket(&socket, "").await else { return };
    let Ok(mut feed) = client.events(None).await else { return };
    while let Ok(Some(event)) = Feed::next::<Event>(&mut feed).await {
        if sender.send((index, event)).await.is_err() {
            return;
        }
    }
}

/// Established sockets of the kernel's table whose local port is this one: one per connection.
fn accepted(table: &str, port: u16) -> usize {
    let port = format!(":{port:04X}");
    let established = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some("01")
    };
    table.lines().filter(established).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_counted_once_per_connection() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 0100007F:5000 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:5000 0200007F:A001 01 00000000:00000000\n\
            2: 0200007F:A001 0100007F:5000 01 00000000:00000000\n\
            3: 0100007F:5000 0300007F:A002 06 00000000:00000000\n";
        assert_eq!(accepted(table, 0x5000), 1);
    }
}
