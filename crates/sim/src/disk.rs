//! A node's disk: the rows that the core asked to be kept, as the library's store keeps them. What is damaged is left
//! out; what is read back enters the core as it does in production. It invents nothing.

use crate::rng::Rng;
use crate::scenario::Disk as Fate;
use peerkeep_core::{
    Action, Addrs, Ban, BanRef, Command, CommandId, ContactRef, Core, Fact, Source, Target, Time, Who,
};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug)]
struct Row {
    addrs: Addrs,
    wanted: bool,
    held: bool,
    named: bool,
}

/// When a ban was set by the wall clock, and for how long.
#[derive(Clone, Copy, Debug)]
struct BanRow {
    set_ms: u64,
    span: Option<Duration>,
}

/// What survives the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub epoch: u64,
    /// Writes vanish until then.
    pub deaf_until: Time,
    peers: BTreeMap<Who, Row>,
    bans: BTreeMap<Target, BanRow>,
}

impl Disk {
    /// `Effect::Store`.
    pub fn store(&mut self, core: &Core, contact: ContactRef, now: Time) {
        let Some(contact) = core.view().contact(contact).filter(|_| self.deaf_until <= now) else { return };
        if contact.forgotten {
            self.peers.remove(&contact.who);
            return;
        }
        let row = Row {
            addrs: contact.addrs.iter().map(|known| known.addr).collect(),
            wanted: contact.wanted,
            held: contact.held,
            named: contact.named,
        };
        self.peers.insert(contact.who, row);
    }

    /// `Effect::StoreBan`; the ban as the core shows it.
    pub fn store_ban(&mut self, core: &Core, ban: BanRef, now: Time, unix_ms: u64) -> Option<Ban> {
        let ban = core.view().ban(ban)?;
        if self.deaf_until <= now {
            if ban.over {
                self.bans.remove(&ban.target);
            } else {
                let span = (ban.until != Time::NEVER).then(|| ban.until - now);
                self.bans.insert(ban.target, BanRow { set_ms: unix_ms, span });
            }
        }
        Some(ban)
    }

    /// What a crash leaves of it.
    pub fn suffer(&mut self, fate: Fate, rng: &mut Rng) {
        match fate {
            Fate::Kept => {}
            Fate::Lost | Fate::Unreadable => *self = Disk::default(),
            Fate::Torn => {
                let row = usize::try_from(rng.below(self.peers.len() as u64)).unwrap_or(0);
                if let Some(who) = self.peers.keys().nth(row).copied() {
                    self.peers.remove(&who);
                }
            }
        }
    }

    /// What a booting node tells its core before anything else: bans before addresses, and banned peers before bans.
    pub fn first_actions(&self, unix_ms: u64) -> Vec<Action> {
        let learned =
            |who: &Who, addrs: Addrs| Action::Saw(Fact::Learned { who: *who, addrs, source: Source::Stored });
        let ask = |command| Action::Do(CommandId(0), command);
        let left: Vec<(Target, Option<Duration>)> = self
            .bans
            .iter()
            .filter_map(|(target, row)| row.remaining(unix_ms).map(|left| (*target, left)))
            .collect();
        let mut actions = Vec::new();
        for who in self.peers.keys() {
            if left.iter().any(|(target, _)| *target == Target::Key(who.key)) {
                actions.push(learned(who, Addrs::new()));
            }
        }
        actions.extend(left.into_iter().map(|(target, span)| ask(Command::Ban { target, span })));
        for (who, row) in &self.peers {
            actions.push(learned(who, row.addrs.clone()));
            if row.wanted {
                actions.push(ask(Command::Want { who: *who, addrs: Addrs::new(), named: row.named }));
            }
            if row.held {
                actions.push(ask(Command::Hold { who: *who, on: true }));
            }
        }
        actions
    }
}

impl BanRow {
    /// What is left of it, whatever the clock says; `Some(None)` is for ever, `None` is over.
    fn remaining(&self, unix_ms: u64) -> Option<Option<Duration>> {
        let Some(span) = self.span else { return Some(None) };
        let end_ms = self.set_ms.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        let left = Duration::from_millis(end_ms.saturating_sub(unix_ms)).min(span);
        (left > Duration::ZERO).then_some(Some(left))
    }
}
