//! Every invariant, recounted from scratch. O(n): tests, the simulator, and whatever comes from outside.

use crate::Counts;
use crate::conn::Conn;
use crate::contact::Contact;
use crate::list::{Line, Queue};
use crate::slab::NONE;
use crate::wheel::Owner;
use crate::{Core, Direction, Stage, Standing, Subnet};
use alloc::vec::Vec;

/// Which invariant does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken(pub &'static str);

const NAMED: &str = "every contact is found by its name";
const RECOUNTED: &str = "address counters equal a recount";

/// What the rows add up to.
#[derive(Default)]
struct Sums {
    counts: Counts,
    /// Conns in contacts' lists, and conns that name a contact.
    attached: u32,
    owned: u32,
    /// Contacts that wait in a queue.
    waiting: u32,
    ups: u32,
    /// Addresses and subnets that conns are counted under.
    ips: u32,
    subnets: u32,
}

impl Core {
    /// Checks that counters, lists, links and indexes agree with the rows, and that the promises hold.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        for (row, contact) in self.contacts.iter() {
            ensure(self.find_row(&contact.who) == Some(row), NAMED)?;
        }
        self.check_rows(|queue| queue.is_sound(&self.contacts))?;
        self.check_addresses()
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
        self.check_rows(|queue| queue.adds_up(&self.contacts))?;
        match self.conns.live(turn(self.conns.end())) {
            Some(conn) => self.check_addresses_of(conn),
            None => Ok(()),
        }
    }

    /// One walk over contacts with their conns, one over conns, and what both add up to.
    fn check_rows(&self, is_sound: impl Fn(&Queue) -> bool) -> Result<(), Broken> {
        let mut sums = Sums::default();
        self.contacts.iter().try_for_each(|(row, contact)| self.check_contact(row, contact, &mut sums))?;
        self.conns.iter().try_for_each(|(row, conn)| self.check_conn(row, conn, &mut sums))?;
        ensure(sums.owned == sums.attached, "every attached conn is linked")?;
        ensure(sums.counts == self.counts, "counters equal a recount")?;
        ensure(sums.ups == self.counts.up(), "connections that are up belong to contacts")?;
        let mut members = 0;
        for queue in self.candidates.iter().chain([&self.queue, &self.spent]) {
            ensure(is_sound(queue), "a queue's entries account for its members")?;
            members += queue.len();
        }
        ensure(sums.waiting == members, "who waits is in a queue")?;
        let per_ip = self
            .per_ip
            .values()
            .fold((0, 0), |sum, count| (sum.0 + count.conns, sum.1 + count.dials as usize));
        let per_subnet: u32 = self.per_subnet.values().sum();
        ensure(per_ip == (sums.ips, self.dials.len()) && per_subnet == sums.subnets, RECOUNTED)
    }

    fn check_contact(&self, row: u32, contact: &Contact, sums: &mut Sums) -> Result<(), Broken> {
        sums.counts.standing[contact.who.stack.index()][contact.standing.index()] += 1;
        sums.counts.gossip += u32::from(contact.flags.gossip);
        sums.waiting += u32::from(contact.member != 0);
        ensure(self.is_row(contact.ring), "ring")?;
        let mut steps = 0;
        let mut at = contact.ring;
        while at != row {
            steps += 1;
            ensure(steps < 8 && self.is_row(at), "a ring comes back to where it began")?;
            at = self.contacts.row(at).ring;
        }
        ensure(
            contact.overflow == NONE || self.overflow.live(contact.overflow).is_some(),
            "an overflow row exists",
        )?;
        let (mut at, mut prev, mut count) = (contact.head, NONE, 0_u32);
        let (mut up, mut pending, mut replacing) = (0_u32, 0_u32, false);
        while at != NONE {
            let conn = self.conns.live(at).ok_or(Broken("a contact's conn exists"))?;
            ensure(conn.contact == row && conn.prev == prev, "conns are linked both ways")?;
            ensure(conn.stack == contact.who.stack, "a conn is on its contact's stack")?;
            count += 1;
            ensure(count <= 255, "a contact's conns are few")?;
            up += u32::from(conn.stage == Stage::Up);
            pending += u32::from(conn.is_pending_dial());
            replacing |= conn.replaces;
            (prev, at) = (at, conn.next);
        }
        ensure(count == u32::from(contact.conn_count), "conn_count counts")?;
        sums.attached += count;
        sums.ups += up;
        if up > 0 && !self.sweep.active && self.bans.len() > 0 {
            ensure(self.banned_until(row).is_none(), "a banned peer is never connected")?;
        }
        let single = self.cfg.rules(contact.who.stack).duplicates != crate::Duplicates::Allowed;
        ensure(!single || up <= 1 || replacing, "one connection per contact")?;
        self.check_standing(row, contact, up, pending)
    }

    fn check_standing(&self, row: u32, contact: &Contact, up: u32, pending: u32) -> Result<(), Broken> {
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
        let armed = self.wheel.due(Owner::Contact(row)).is_some();
        let forgotten = matches!(contact.standing, Standing::Queued(_)) && !queued && !armed;
        ensure(!forgotten, "who is queued is in the queue or has a timer")?;
        ensure(!idle || armed, "who waits alone has a timer")
    }

    fn check_conn(&self, row: u32, conn: &Conn, sums: &mut Sums) -> Result<(), Broken> {
        sums.counts.stage[conn.stage.index()] += 1;
        sums.owned += u32::from(conn.contact != NONE);
        match (conn.courtesy, conn.direction) {
            (Some(_), _) => sums.counts.courtesy += 1,
            (None, Direction::Inbound) => sums.counts.inbound += 1,
            (None, Direction::Outbound) => sums.counts.outbound += 1,
        }
        if conn.courtesy.is_none() {
            sums.counts.pending += u32::from(conn.is_pending());
            if conn.met || !conn.is_outbound() {
                // Counted under its one remote address.
                sums.ips += 1;
                sums.subnets += 1;
            } else {
                sums.ips += u32::try_from(conn.counted_ips().len()).unwrap_or(u32::MAX);
                sums.subnets += u32::try_from(conn.counted_subnets().len()).unwrap_or(u32::MAX);
            }
        }
        let open_ended = matches!(conn.stage, Stage::Up | Stage::Closing);
        let armed = open_ended || self.wheel.due(Owner::Conn(row)).is_some();
        ensure(armed, "every conn that is not up has a deadline")
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
}

fn ensure(holds: bool, what: &'static str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(what)) }
}
