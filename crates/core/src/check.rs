//! Every invariant, recounted from scratch. O(n): tests, the simulator, and whatever comes from outside.

use crate::conn::Conn;
use crate::list::Line;
use crate::slab::NONE;
use crate::state::Counts;
use crate::{Core, Direction, STACKS, Stage, Standing, Subnet};
use alloc::vec::Vec;

/// Which invariant does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken(pub &'static str);

const NAMED: &str = "every contact is found by its name";
const RECOUNTED: &str = "address counters equal a recount";

impl Core {
    /// Checks that counters, lists, links and indexes agree with the rows, and that the promises hold.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        self.check_names()?;
        self.check_links()?;
        self.check_queues(true)?;
        self.check_counts()?;
        self.check_addresses()?;
        self.check_standings()?;
        self.check_promises()
    }

    /// The same for a simulated world, which asks after every action: all that can be recounted without hashing or
    /// sorting is, and of the rest one contact and one conn, in turn with the actions.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check_in_turn(&self) -> Result<(), Broken> {
        let turn = |end: u32| u32::try_from(self.stats.actions % u64::from(end.max(1))).unwrap_or(0);
        ensure(self.index.len() == self.contacts.len(), NAMED)?;
        let row = turn(self.contacts.end());
        if let Some(contact) = self.contacts.live(row) {
            ensure(self.find_row(&contact.who) == Some(row), NAMED)?;
        }
        self.check_links()?;
        self.check_queues(false)?;
        self.check_counts()?;
        self.check_address_sums()?;
        if let Some(conn) = self.conns.live(turn(self.conns.end())) {
            self.check_addresses_of(conn)?;
        }
        self.check_standings()?;
        self.check_promises()
    }

    fn check_names(&self) -> Result<(), Broken> {
        for (row, contact) in self.contacts.iter() {
            ensure(self.find_row(&contact.who) == Some(row), NAMED)?;
        }
        Ok(())
    }

    fn check_links(&self) -> Result<(), Broken> {
        let mut attached = 0;
        for (row, contact) in self.contacts.iter() {
            ensure(self.is_row(contact.ring), "ring")?;
            let mut steps = 0;
            let mut at = contact.ring;
            while at != row {
                steps += 1;
                ensure(steps < 8 && self.is_row(at), "a ring comes back to where it began")?;
                at = self.contacts.row(at).ring;
            }
            let (mut at, mut prev, mut count) = (contact.head, NONE, 0_u32);
            while at != NONE {
                let conn = self.conns.live(at).ok_or(Broken("a contact's conn exists"))?;
                ensure(conn.contact == row && conn.prev == prev, "conns are linked both ways")?;
                ensure(conn.stack == contact.who.stack, "a conn is on its contact's stack")?;
                count += 1;
                ensure(count <= 255, "a contact's conns are few")?;
                (prev, at) = (at, conn.next);
            }
            ensure(count == u32::from(contact.conn_count), "conn_count counts")?;
            attached += count;
            ensure(
                contact.overflow == NONE || self.overflow.live(contact.overflow).is_some(),
                "an overflow row exists",
            )?;
        }
        let owned = self.conns.iter().filter(|(_, conn)| conn.contact != NONE).count();
        ensure(owned == attached as usize, "every attached conn is linked")
    }

    fn check_queues(&self, thorough: bool) -> Result<(), Broken> {
        let queues = self.candidates.iter().chain([&self.queue, &self.spent]);
        let mut members = 0;
        for queue in queues {
            let is_sound =
                if thorough { queue.is_sound(&self.contacts) } else { queue.adds_up(&self.contacts) };
            ensure(is_sound, "a queue's entries account for its members")?;
            members += queue.len() as usize;
        }
        let waiting = self.contacts.iter().filter(|(_, contact)| contact.member != 0).count();
        ensure(waiting == members, "who waits is in a queue")
    }

    fn check_counts(&self) -> Result<(), Broken> {
        let mut counts = Counts::default();
        for (_, contact) in self.contacts.iter() {
            counts.standing[contact.who.stack.index()][contact.standing.index()] += 1;
            counts.gossip += u32::from(contact.flags.gossip);
        }
        for (_, conn) in self.conns.iter() {
            counts.stage[conn.stage.index()] += 1;
            match (conn.courtesy, conn.direction) {
                (Some(_), _) => counts.courtesy += 1,
                (None, Direction::Inbound) => counts.inbound += 1,
                (None, Direction::Outbound) => counts.outbound += 1,
            }
            counts.pending += u32::from(conn.courtesy.is_none() && conn.is_pending());
        }
        ensure(counts == self.counts, "counters equal a recount")
    }

    /// What the address counters say in sum.
    fn check_address_sums(&self) -> Result<(), Broken> {
        let (mut conns, mut subnets) = (0, 0);
        for (_, conn) in self.conns.iter().filter(|(_, conn)| conn.courtesy.is_none()) {
            conns += conn.counted_ips().len();
            subnets += conn.counted_subnets().len();
        }
        let per_ip = self
            .per_ip
            .values()
            .fold((0, 0), |sum, count| (sum.0 + count.conns as usize, sum.1 + count.dials as usize));
        let per_subnet: usize = self.per_subnet.values().map(|count| *count as usize).sum();
        ensure(per_ip == (conns, self.dials.len()) && per_subnet == subnets, RECOUNTED)
    }

    /// The address counters of one conn's addresses.
    fn check_addresses_of(&self, conn: &Conn) -> Result<(), Broken> {
        let counted = || self.conns.iter().map(|(_, conn)| conn).filter(|conn| conn.courtesy.is_none());
        for ip in conn.counted_ips().into_iter().filter(|_| conn.courtesy.is_none()) {
            let conns = counted().filter(|other| other.counted_ips().contains(&ip)).count();
            let dials = self.dials.iter().filter(|mark| mark.ip == ip).count();
            let count = self.per_ip.get(&ip).map(|count| (count.conns as usize, count.dials as usize));
            ensure(count == Some((conns, dials)), RECOUNTED)?;
        }
        Ok(())
    }

    /// Sorted instead of hashed: this runs after every action of a test.
    fn check_addresses(&self) -> Result<(), Broken> {
        let mut ips: Vec<([u8; 16], bool)> = self.dials.iter().map(|mark| (mark.ip, true)).collect();
        let mut subnets: Vec<Subnet> = Vec::new();
        for (_, conn) in self.conns.iter().filter(|(_, conn)| conn.courtesy.is_none()) {
            ips.extend(conn.counted_ips().into_iter().map(|ip| (ip, false)));
            subnets.extend(conn.counted_subnets());
        }
        ips.sort_unstable();
        subnets.sort_unstable();
        let mut different = 0;
        for group in ips.chunk_by(|a, b| a.0 == b.0) {
            different += 1;
            let (all, dials) = (group.len(), group.iter().filter(|(_, is_dial)| *is_dial).count());
            let counted =
                self.per_ip.get(&group[0].0).map(|count| (count.conns as usize, count.dials as usize));
            ensure(counted == Some((all - dials, dials)), RECOUNTED)?;
        }
        ensure(different == self.per_ip.len(), RECOUNTED)?;
        different = 0;
        for group in subnets.chunk_by(|a, b| a == b) {
            different += 1;
            ensure(
                self.per_subnet.get(&group[0]).is_some_and(|count| *count as usize == group.len()),
                RECOUNTED,
            )?;
        }
        ensure(different == self.per_subnet.len(), RECOUNTED)
    }

    fn check_standings(&self) -> Result<(), Broken> {
        for (row, contact) in self.contacts.iter() {
            let (mut up, mut pending) = (0, 0);
            let mut at = contact.head;
            while at != NONE {
                let conn = self.conns.row(at);
                up += u32::from(conn.stage == Stage::Up);
                pending += u32::from(conn.is_pending_dial());
                at = conn.next;
            }
            match contact.standing {
                Standing::Connected => ensure(up > 0, "connected means that a conn is up")?,
                _ => ensure(up == 0, "a conn that is up means connected")?,
            }
            ensure(pending <= 1, "one dial at a time to one contact")?;
            if pending > 0 && contact.standing != Standing::Connected {
                ensure(contact.standing == Standing::Dialing, "a pending dial means dialing")?;
            }
            let queued = contact.member == Line::Slots as u8;
            ensure(
                !queued || matches!(contact.standing, Standing::Queued(_) | Standing::Waiting),
                "the queue holds who waits",
            )?;
            let idle = contact.standing == Standing::Waiting && contact.conn_count == 0 && !queued;
            let armed = self.wheel.due(crate::wheel::Owner::Contact(row)).is_some();
            let forgotten = matches!(contact.standing, Standing::Queued(_)) && !queued && !armed;
            ensure(!forgotten, "who is queued is in the queue or has a timer")?;
            ensure(!idle || armed, "who waits alone has a timer")?;
        }
        for (row, conn) in self.conns.iter() {
            let armed = self.wheel.due(crate::wheel::Owner::Conn(row)).is_some();
            let open_ended = matches!(conn.stage, Stage::Up | Stage::Closing);
            ensure(open_ended || armed, "every conn that is not up has a deadline")?;
        }
        Ok(())
    }

    fn check_promises(&self) -> Result<(), Broken> {
        let mut ups = [0_u32; STACKS];
        for (row, contact) in self.contacts.iter() {
            let mut at = contact.head;
            let (mut up, mut replacing) = (0_u32, false);
            while at != NONE {
                let conn = self.conns.row(at);
                up += u32::from(conn.stage == Stage::Up);
                replacing |= conn.replaces;
                if conn.stage == Stage::Up && !self.sweep.active && self.bans.len() > 0 {
                    ensure(self.banned_until(row).is_none(), "a banned peer is never connected")?;
                }
                at = conn.next;
            }
            let rules = self.cfg.rules(contact.who.stack);
            let single = rules.duplicates != crate::Duplicates::Allowed;
            ensure(!single || up <= 1 || replacing, "one connection per contact")?;
            ups[contact.who.stack.index()] += up;
        }
        ensure(ups.iter().sum::<u32>() == self.counts.up(), "connections that are up belong to contacts")
    }
}

fn ensure(holds: bool, what: &'static str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(what)) }
}
