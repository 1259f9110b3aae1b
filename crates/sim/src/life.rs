//! A node's life in the world: how it boots, how it ends, and that its record tells all of it.

use crate::node::Socket;
use crate::scenario::{self, Naming};
use crate::weather::USER_TIMEOUT;
use crate::wire::Msg;
use crate::world::{Event, World};
use peerkeep_core::{Action, Command, Fact, Source, Time, journal};
use std::time::Duration;

impl World {
    /// Starts a node's life, with what its disk and its settings say.
    pub fn boot(&mut self, number: u32) {
        let (now, unix_ms, journal) = (self.now, self.unix_ms(number), self.options.journal);
        if self.nodes[number as usize].plan.is_absent {
            return;
        }
        let node = self.node(number);
        node.boot(now, unix_ms, journal);
        let (boot, epoch) = (node.boot, node.core.view().epoch());
        let mut actions = vec![Action::Clock { unix_ms }];
        actions.extend(node.disk.first_actions(unix_ms));
        self.story.add(now, [number; 2], || format!("node {number} boots with epoch {epoch}"));
        for action in actions {
            self.step(number, action);
        }
        for other in self.nodes[number as usize].plan.knows.clone() {
            let Some(nat) = self.nodes.get(other as usize).map(|node| node.plan.nat) else { continue };
            let (who, addrs, _) = scenario::who(other, nat, Naming::Full);
            self.step(number, Action::Saw(Fact::Learned { who, addrs, source: Source::Named }));
        }
        for (other, naming) in self.nodes[number as usize].plan.wants.clone() {
            let Some(nat) = self.nodes.get(other as usize).map(|node| node.plan.nat) else { continue };
            let (who, addrs, named) = scenario::who(other, nat, naming);
            self.command(number, Command::Want { who, addrs, named });
        }
        if self.options.journal {
            self.queue.push(now + Duration::from_secs(60), Event::Minute { node: number, boot });
        }
    }

    /// Replays a node's journal and compares every decision, and every byte of the state.
    pub fn replay(&mut self, number: u32) {
        if !self.options.journal || self.promises.violation.is_some() {
            return;
        }
        let node = self.node(number);
        journal::end(node.core.digest(), &mut node.journal);
        let outcome = crate::promises::replay(&node.journal, &node.core);
        match outcome {
            Ok(actions) => self.tally.replayed += actions,
            Err(why) => self.fail("a journal replays to the same state", [number; 2], why),
        }
    }

    /// The process ends with everything it knew. Its peers hear of it, or (power loss) do not.
    pub fn crash(&mut self, number: u32, silently: bool) {
        self.replay(number);
        let now = self.now;
        let node = self.node(number);
        (node.is_alive, node.is_powered) = (false, !silently);
        if silently {
            node.dark_since = now;
        }
        node.wake_at = Time::NEVER;
        node.suspended_until = Time::ZERO;
        for slot in std::mem::take(&mut node.slots) {
            let wires = match slot.socket {
                Socket::Linked { wire, side } => vec![(wire, usize::from(side))],
                Socket::Racing(racing) => racing.wires.into_iter().map(|wire| (wire, 0)).collect(),
                _ => continue,
            };
            for (wire, side) in wires {
                if silently {
                    let other = u8::from(side == 0);
                    self.queue.push(now + USER_TIMEOUT, Event::GiveUp { wire, side: other });
                    self.shut(wire, side);
                } else {
                    self.drop_end(wire, side, Msg::Reset);
                }
            }
        }
    }
}
