//! Slots: the one admission function for both directions, with every limit, and the courtesy class for those who are
//! only told why not. The core alone counts; a conn holds its slot until its `Gone`.

use crate::conn::{Conn, MAX_LEGS};
use crate::wheel::Owner;
use crate::{
    Addr, AddrKind, Close, Core, Direction, Effect, Effects, Limit, PeerKey, Refusal, StackId, Stage, Ticket,
    Told, Who,
};
use arrayvec::ArrayVec;

impl Core {
    /// Whether one more conn in that direction, over those addresses, stays within every limit.
    pub(crate) fn can_hold(
        &self,
        direction: Direction,
        addrs: &[Addr],
        is_desired: bool,
    ) -> Result<(), Limit> {
        let (limits, counts) = (&self.cfg.limits, &self.counts);
        let share = |limit| limits.share(limit, is_desired);
        if counts.total() >= share(limits.total) {
            return Err(Limit::Total);
        }
        match direction {
            Direction::Inbound if counts.inbound >= share(limits.inbound) => return Err(Limit::Inbound),
            Direction::Outbound if counts.outbound >= share(limits.outbound) => return Err(Limit::Outbound),
            _ => {}
        }
        // Whoever arrives has cost us nothing yet: a quarter is kept for those we chose ourselves.
        let pending = match direction {
            Direction::Inbound => limits.pending - limits.pending / 4,
            Direction::Outbound => limits.pending,
        };
        if counts.pending >= pending {
            return Err(Limit::Pending);
        }
        self.can_hold_legs(addrs)
    }

    /// The limits around addresses alone.
    pub(crate) fn can_hold_legs(&self, addrs: &[Addr]) -> Result<(), Limit> {
        let limits = &self.cfg.limits;
        for addr in addrs {
            if self.per_ip.get(&addr.ip).is_some_and(|count| count.conns >= limits.per_ip) {
                return Err(Limit::PerIp);
            }
            let subnet = Addr { ip: addr.ip, port: 0, kind: AddrKind::Tcp }.subnet();
            if self.per_subnet.get(&subnet).is_some_and(|count| *count >= limits.per_subnet) {
                return Err(Limit::PerSubnet);
            }
        }
        Ok(())
    }

    /// The same for a dial, with the dial rates.
    pub(crate) fn can_hold_outbound(&self, contact_row: u32, legs: &[Addr]) -> Result<(), Limit> {
        let limits = &self.cfg.limits;
        if u32::from(self.contacts.row(contact_row).conn_count) >= limits.per_peer {
            return Err(Limit::PerPeer);
        }
        self.can_hold(Direction::Outbound, legs, self.contacts.row(contact_row).is_desired())?;
        self.can_dial(legs)
    }

    /// The dial rates alone.
    pub(crate) fn can_dial(&self, legs: &[Addr]) -> Result<(), Limit> {
        if self.dials.len() >= self.cfg.limits.dials_per_minute as usize {
            return Err(Limit::DialRate);
        }
        if legs.iter().any(|addr| self.is_dialled_enough(addr)) {
            return Err(Limit::DestinationRate);
        }
        Ok(())
    }

    fn is_dialled_enough(&self, addr: &Addr) -> bool {
        let most = self.cfg.limits.dials_per_minute_per_ip;
        self.per_ip.get(&addr.ip).is_some_and(|count| count.dials >= most)
    }

    /// The legs of an attempt: the first few without a limit around them. When there is none, the first few: the
    /// limit is then what keeps the dial.
    pub(crate) fn choose_legs(&self, allowed: &[Addr]) -> ArrayVec<Addr, MAX_LEGS> {
        let free = |addr: &&Addr| {
            self.can_hold_legs(core::slice::from_ref(*addr)).is_ok() && !self.is_dialled_enough(addr)
        };
        let legs: ArrayVec<Addr, MAX_LEGS> = allowed.iter().filter(free).take(MAX_LEGS).copied().collect();
        if legs.is_empty() { allowed.iter().take(MAX_LEGS).copied().collect() } else { legs }
    }

    /// A socket was accepted: bans, then limits, then courtesy.
    pub(crate) fn handle_arrived(&mut self, ticket: Ticket, stack: StackId, remote: Addr, out: &mut Effects) {
        self.stats.arrivals += 1;
        let refusal = if self.draining {
            Some(Refusal::Draining)
        } else {
            self.bans.ip(remote.ip).map(|until| Refusal::Banned { until })
        };
        if let Some(why) = refusal {
            self.stats.refused += 1;
            self.emit(out, Effect::Refuse { ticket, why });
            return;
        }
        let full = self.can_hold(Direction::Inbound, &[remote], false).err();
        if let Some(limit) = full {
            self.stats.refused += 1;
            let courtesy = self.cfg.limits.courtesy;
            if self.counts.courtesy >= courtesy {
                let limit = if courtesy == 0 { limit } else { Limit::Courtesy };
                self.emit(out, Effect::Refuse { ticket, why: Refusal::Full(limit) });
                return;
            }
        }
        let rules = self.cfg.rules(stack);
        let (stage, span) = match full {
            None => (Stage::Arriving, rules.handshake),
            Some(_) => (Stage::Refusing, rules.courtesy),
        };
        let mut conn = Conn::new(stack, Direction::Inbound, stage, remote, self.now);
        conn.courtesy = full;
        conn.deadline = self.now + span;
        let deadline = conn.deadline;
        let row = self.insert_conn(conn);
        self.wheel.arm(Owner::Conn(row), deadline);
        let conn = self.conn_ref(row);
        self.emit(out, Effect::Accept { ticket, conn, deadline });
    }

    /// The other end of a conn that is up answers from another address now: it is counted there, and bans of the new
    /// address hold. Limits were passed when it was admitted and are not asked again.
    pub(crate) fn handle_moved(&mut self, row: u32, key: PeerKey, at: Addr, out: &mut Effects) {
        let conn = self.conns.row(row);
        let (contact, was) = (conn.contact, conn.remote);
        if self.contacts.row(contact).who.key != key || was == at {
            self.stats.late_facts += 1;
            return;
        }
        self.count_conn(row, false);
        self.conns.row_mut(row).remote = at;
        self.count_conn(row, true);
        if self.bans.ip(at.ip).is_some() {
            self.close(row, Close::Banned, out);
            self.settle(contact, out);
        } else {
            self.tell(contact, row, Told::Routed, out);
        }
    }

    /// Somebody above the limits turned out to be wanted, and a slot is kept for such: from here on it is an arrival
    /// like any other.
    pub(crate) fn can_use_reserve(&self, row: u32, key: PeerKey) -> bool {
        let conn = self.conns.row(row);
        let wanted = self.find_row(&Who { stack: conn.stack, key }).map(|row| self.contacts.row(row));
        let about_slots = matches!(conn.courtesy, Some(Limit::Total | Limit::Inbound));
        about_slots
            && wanted.is_some_and(|contact| contact.is_desired())
            && self.can_hold(Direction::Inbound, &[conn.remote], true).is_ok()
    }

    pub(crate) fn use_reserve(&mut self, row: u32) {
        self.count_conn(row, false);
        self.conns.row_mut(row).courtesy = None;
        self.set_stage(row, Stage::Arriving);
        self.count_conn(row, true);
    }

    /// Room for one more contact, made if need be by forgetting one that is of no use; gossip may only displace
    /// spent ones and fill half the table (fault F14).
    pub(crate) fn make_room(&mut self, stack: StackId, gossip: bool) -> Result<(), Limit> {
        let limit = self.cfg.limits.contacts;
        if gossip && self.counts.gossip >= limit / 2 {
            self.stats.contacts_dropped += 1;
            return Err(Limit::Contacts);
        }
        if self.contacts.len() < limit as usize {
            return Ok(());
        }
        let mut victim = self.spent.front(&mut self.contacts);
        if victim.is_none() && !gossip {
            victim = self.candidates[stack.index()].front(&mut self.contacts);
        }
        let Some(victim) = victim else {
            self.stats.contacts_dropped += 1;
            return Err(Limit::Contacts);
        };
        self.remove_contact(victim);
        Ok(())
    }
}
