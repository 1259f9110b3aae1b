//! What can happen next. A message arrives; a driver reports; somebody notices that the other end is gone; time passes
//! at one node; or a fault out of the budget.

use super::World;
use super::parts::{Due, Wire};
use super::promises::Seen;
use super::setups::key;
use super::state::State;
use peerkeep_core::{
    Action, Command, CommandId, End as Ending, Fault, FaultKind, Stage, Standing, Step, Who,
};

/// One thing that happens. Wires are named by their place in the state, their ends by 0 for the dialler's and 1 for
/// the acceptor's; of two nodes the first acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// The head of a queue arrives.
    Deliver(usize, usize),
    /// A driver reports what it has done.
    Report(usize, usize),
    /// Keepalive, or a reset, tells an end that the other one is gone.
    Notice(usize, usize),
    /// Time passes at a node, up to its next timer.
    Wake(u8),
    /// A wire breaks, and nobody is told.
    Break(usize),
    /// A process dies and starts again.
    Crash(u8),
    /// The same, and its epoch goes back.
    CrashBack(u8),
    /// An operator abandons a dial.
    Cancel(u8, u8),
    /// Somebody wants another connection in place of a degraded one.
    Replace(u8, u8),
}

impl State {
    pub(crate) fn enabled(&self, world: &World, out: &mut Vec<Act>) {
        let probes = world.setup.probes;
        for (wire, found) in self.wires.iter().enumerate() {
            for side in 0..2 {
                if is_deliverable(found, side) {
                    out.push(Act::Deliver(wire, side));
                }
                if found.ends[side].due != Due::Nothing {
                    out.push(Act::Report(wire, side));
                }
                if can_notice(found, side, probes) {
                    out.push(Act::Notice(wire, side));
                }
            }
        }
        for (node, found) in (0..world.setup.nodes).zip(&self.nodes) {
            if found.core.next_wake().is_some() {
                out.push(Act::Wake(node));
            }
        }
        self.faults(world, out);
    }

    fn faults(&self, world: &World, out: &mut Vec<Act>) {
        let left = self.left;
        if left.breaks > 0 {
            let whole = self
                .wires
                .iter()
                .enumerate()
                .filter(|(_, wire)| !wire.broken && !wire.ends.iter().any(|e| e.is_over()));
            out.extend(whole.map(|(wire, _)| Act::Break(wire)));
        }
        for node in 0..world.setup.nodes {
            if left.crashes > 0 {
                out.push(Act::Crash(node));
            }
            if left.back > 0 {
                out.push(Act::CrashBack(node));
            }
            for peer in (0..world.setup.nodes).filter(|peer| *peer != node) {
                if left.cancels > 0 && self.has_dial(node, peer) {
                    out.push(Act::Cancel(node, peer));
                }
                if left.replaces > 0 && self.standing(node, peer) == Standing::Connected {
                    out.push(Act::Replace(node, peer));
                }
            }
        }
    }

    fn has_dial(&self, node: u8, peer: u8) -> bool {
        let dials = self.wires.iter().filter(|wire| wire.ends[0].node == node && wire.ends[1].node == peer);
        let core = &self.nodes[usize::from(node)].core;
        dials.filter_map(|wire| wire.ends[0].conn).any(|conn| {
            core.view().conn(conn).is_some_and(|conn| matches!(conn.stage, Stage::Dialing | Stage::Offered))
        })
    }

    pub(crate) fn standing(&self, node: u8, peer: u8) -> Standing {
        let view = self.nodes[usize::from(node)].core.view();
        let contact = view.find(&Who::mesh(key(peer))).and_then(|contact| view.contact(contact));
        contact.map_or(Standing::Idle, |contact| contact.standing)
    }

    /// Nothing is on its way: only time can bring anything.
    pub(crate) fn is_quiet(&self, world: &World) -> bool {
        self.wires.iter().all(|wire| {
            (0..2).all(|side| {
                !is_deliverable(wire, side)
                    && wire.ends[side].due == Due::Nothing
                    && !can_notice(wire, side, world.setup.probes)
            })
        })
    }

    pub(crate) fn after(&self, world: &World, act: Act) -> Option<State> {
        let mut state = self.clone();
        match act {
            Act::Deliver(wire, side) => state.deliver(world, wire, side),
            Act::Report(wire, side) => state.report(world, wire, side),
            Act::Notice(wire, side) => {
                let kind = if state.wires[wire].broken { FaultKind::Timeout } else { FaultKind::Reset };
                if state.wires[wire].ends[side].up {
                    world.note(Seen::HalfOpen);
                }
                state.over(world, wire, side, Ending::Fault(Fault::new(Step::Live, kind)));
            }
            // Questions on their way, answered by a node whose clock runs away, would never end.
            Act::Wake(_) if world.setup.probes && !self.is_quiet(world) => return None,
            Act::Wake(node) => {
                state.wake(world, node);
                // A deadline that passes while something is still on its way is a fault out of the budget.
                if state.closed > 0 && !self.is_quiet(world) {
                    state.left.early = state.left.early.checked_sub(1)?;
                    world.note(Seen::EarlyDeadline);
                }
            }
            Act::Break(wire) => {
                state.left.breaks -= 1;
                state.wires[wire].broken = true;
                state.wires[wire].ends.iter_mut().for_each(|end| end.queue.clear());
            }
            Act::Crash(node) => {
                let epoch = state.nodes[usize::from(node)].core.view().epoch();
                state.left.crashes -= 1;
                state.crash(world, node, epoch + 1);
            }
            Act::CrashBack(node) => {
                let epoch = state.nodes[usize::from(node)].core.view().epoch();
                state.left.back -= 1;
                state.crash(world, node, epoch - 2);
            }
            Act::Cancel(node, peer) => {
                state.left.cancels -= 1;
                state.step(world, node, Action::Do(CommandId(0), Command::Cancel(Who::mesh(key(peer)))));
            }
            Act::Replace(node, peer) => {
                state.left.replaces -= 1;
                let dials = state.wires.len();
                state.step(world, node, Action::Do(CommandId(0), Command::Replace(Who::mesh(key(peer)))));
                // A refusal changes nothing, and needs no look.
                if state.wires.len() == dials {
                    return None;
                }
            }
        }
        state.finish();
        Some(state)
    }
}

fn is_deliverable(wire: &Wire, side: usize) -> bool {
    let end = &wire.ends[side];
    end.open && end.due != Due::Ready && !end.queue.is_empty()
}

/// Where cores probe, the transport tells of nothing once a connection is up.
fn can_notice(wire: &Wire, side: usize, probes: bool) -> bool {
    wire.can_notice(side) && !(probes && wire.broken && wire.ends[side].up)
}
