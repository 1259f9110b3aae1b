//! How often the log says that something goes on going wrong (S3.83, fault R5). Pure: the time is an argument. It
//! decides about log lines only; events and totals miss nothing.

use peerkeep_core::{Time, Who};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

/// Between the first and the second line about one trouble of one peer; doubled from line to line.
const FIRST_GAP: Duration = Duration::from_secs(60);
/// A trouble that lasts is said at least this often, if it still happens.
const LONGEST_GAP: Duration = Duration::from_secs(16 * 60);
/// All peers share this many lines in each [`WINDOW`].
const LINES: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);
/// Rows that are remembered. Without a row a trouble counts as new, and only the shared limit holds.
const MAX_ROWS: usize = 16_384;

/// What is wrong with a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Trouble {
    /// An attempt began. No trouble, unless it is one of many.
    Dialing,
    /// An attempt failed.
    Failed,
    /// All attempts failed.
    GaveUp,
    /// It did what nobody may.
    Misbehaved,
    /// Two machines seem to be it.
    Clone,
}

/// Remembers what was said.
#[derive(Default)]
pub(super) struct Quiet {
    rows: HashMap<(Who, Trouble), Row>,
    window: Time,
    lines: u32,
    left_out: u32,
}

struct Row {
    next: Time,
    gap: Duration,
    times: u32,
}

impl Quiet {
    /// The trouble happened: `Some` when it may be said now, with how often it happened since it was last said, this
    /// time included.
    pub fn may_say(&mut self, who: Who, what: Trouble, now: Time) -> Option<u32> {
        self.turn_window(now);
        let has_room = self.rows.len() < MAX_ROWS;
        let row = match self.rows.entry((who, what)) {
            Entry::Occupied(row) => Some(row.into_mut()),
            Entry::Vacant(free) if has_room => Some(free.insert(Row { next: now, gap: FIRST_GAP, times: 0 })),
            Entry::Vacant(_) => None,
        };
        let mut row = row;
        if let Some(row) = &mut row {
            row.times = row.times.saturating_add(1);
            if now < row.next {
                return None;
            }
        }
        if self.lines >= LINES {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.lines += 1;
        let Some(row) = row else { return Some(1) };
        row.next = now.after(row.gap);
        row.gap = (row.gap * 2).min(LONGEST_GAP);
        Some(std::mem::take(&mut row.times))
    }

    /// How many lines the shared limit kept back, once their minute is over: worth one line.
    pub fn left_out(&mut self, now: Time) -> Option<u32> {
        if self.left_out == 0 || now.since(self.window) < WINDOW {
            return None;
        }
        Some(std::mem::take(&mut self.left_out))
    }

    /// It connected: its next failure is news.
    pub fn connected(&mut self, who: Who) {
        self.rows.remove(&(who, Trouble::Dialing));
        self.rows.remove(&(who, Trouble::Failed));
        self.rows.remove(&(who, Trouble::GaveUp));
    }

    /// The core has forgotten it.
    pub fn forget(&mut self, who: Who) {
        self.connected(who);
        self.rows.remove(&(who, Trouble::Misbehaved));
        self.rows.remove(&(who, Trouble::Clone));
    }

    fn turn_window(&mut self, now: Time) {
        if now.since(self.window) >= WINDOW {
            self.window = now;
            self.lines = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerkeep_core::{
        Action, Addr, Command, CommandId, Config, ConnRef, Core, Effect, Effects, End, Fact, Fault,
        FaultKind, Greeting, PeerKey, Step, Told,
    };

    fn who(number: u32) -> Who {
        let mut bytes = [3; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Who::mesh(PeerKey::ed25519(bytes))
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO.after(Duration::from_secs(seconds))
    }

    /// A core with one wanted peer that answered once, was lost, and refuses from then on.
    struct Dead {
        core: Core,
        now: Time,
        failed_at: Vec<Time>,
    }

    impl Dead {
        fn new() -> Dead {
            let core =
                Core::new(Config::new(PeerKey::ed25519([1; 32]), 1), [7; 32], at(0)).expect("a config");
            Dead { core, now: at(1), failed_at: Vec::new() }
        }

        /// Steps, notes failures, and returns the dial that began, if one did.
        fn step(&mut self, action: Action) -> Option<ConnRef> {
            let mut out = Effects::new();
            self.core.step(self.now, &action, &mut out);
            let mut dialled = None;
            for effect in out.drain() {
                match effect {
                    Effect::Dial { conn, .. } => dialled = Some(conn),
                    Effect::Tell { what: Told::Failed, .. } => self.failed_at.push(self.now),
                    _ => {}
                }
            }
            dialled
        }

        fn refuse(&mut self, conn: ConnRef, step: Step, kind: FaultKind) -> Option<ConnRef> {
            self.step(Action::Saw(Fact::Gone { conn, end: End::Fault(Fault::new(step, kind)) }))
        }

        fn run(&mut self, span: Duration) {
            let addr = Addr::tcp(([192, 0, 2, 1], 7330).into());
            let want = Command::Want { who: who(1), addrs: [addr].into_iter().collect(), named: false };
            let mut conn = self.step(Action::Do(CommandId(1), want));
            for _ in 0..10 {
                self.now = self.core.next_wake().map_or(self.now, |wake| wake.max(self.now));
                conn = conn.or_else(|| self.step(Action::Wake));
            }
            let conn = conn.expect("a wanted peer is dialled");
            let greeting = Some(Greeting { epoch: 5, ..Greeting::default() });
            self.step(Action::Saw(Fact::Met { conn, key: who(1).key, at: addr, greeting }));
            self.step(Action::Saw(Fact::Ready { conn }));
            let end = self.now.after(span);
            let mut conn = self.refuse(conn, Step::Live, FaultKind::Reset);
            loop {
                conn = match conn {
                    Some(dialled) => self.refuse(dialled, Step::Connect, FaultKind::Refused),
                    None => match self.core.next_wake() {
                        Some(wake) if wake <= end => {
                            self.now = self.now.max(wake);
                            self.step(Action::Wake)
                        }
                        _ => return,
                    },
                };
            }
        }
    }

    /// S3.83: ten simulated minutes of the real schedule against one line for every failed attempt.
    #[test]
    fn s3_83_a_dead_peer_costs_less_than_a_tenth_of_the_lines() {
        let mut dead = Dead::new();
        dead.run(Duration::from_secs(600));
        let before = dead.failed_at.len();
        let mut quiet = Quiet::default();
        let said: Vec<u32> =
            dead.failed_at.iter().filter_map(|now| quiet.may_say(who(1), Trouble::Failed, *now)).collect();
        eprintln!("ten minutes with one dead peer: {before} failures, {} lines: {said:?}", said.len());
        assert!(before >= 40, "it is dialled often at first: {before}");
        assert!(said.len() * 10 < before, "{} lines of {before}", said.len());
        assert_eq!(said[0], 1, "the first failure is said at once");
    }

    #[test]
    fn nobody_is_heard_twice_a_minute_and_the_count_adds_up() {
        let mut quiet = Quiet::default();
        let mut said = Vec::new();
        for second in 0..3_600 {
            if let Some(times) = quiet.may_say(who(1), Trouble::Failed, at(second)) {
                said.push((second, times));
            }
        }
        let seconds: Vec<u64> = said.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds, [0, 60, 180, 420, 900, 1_860, 2_820]);
        assert_eq!(said.iter().map(|(_, times)| times).sum::<u32>(), 2_821, "none is lost");
        quiet.connected(who(1));
        assert_eq!(quiet.may_say(who(1), Trouble::Failed, at(3_601)), Some(1), "a new trouble is news");
    }

    #[test]
    fn fault_r5_many_dead_peers_share_the_lines_and_the_rest_is_one_line() {
        let mut quiet = Quiet::default();
        let say = |quiet: &mut Quiet, now| {
            (0..1_000).filter(|peer| quiet.may_say(who(*peer), Trouble::Failed, now).is_some()).count()
        };
        assert_eq!(say(&mut quiet, at(100)), 60);
        assert_eq!(quiet.left_out(at(130)), None, "its minute is not over");
        assert_eq!(quiet.left_out(at(160)), Some(940));
        assert_eq!(quiet.left_out(at(160)), None);
        assert_eq!(say(&mut quiet, at(161)), 60, "those not heard yet come first");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_goes_with_the_peer() {
        let mut quiet = Quiet::default();
        let most = u32::try_from(MAX_ROWS).expect("fits");
        for peer in 0..most + 100 {
            quiet.may_say(who(peer), Trouble::Misbehaved, at(0));
        }
        assert_eq!(quiet.rows.len(), MAX_ROWS);
        (0..most).for_each(|peer| quiet.forget(who(peer)));
        assert!(quiet.rows.is_empty());
    }
}
