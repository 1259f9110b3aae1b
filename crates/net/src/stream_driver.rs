//! The driver of every stack over a byte stream: hands orders to the shard that runs the conn. It never blocks and
//! never decides; what happens to a conn is in `attendant`.

use crate::attendant::Attendant;
use crate::listener::Waiting;
use crate::{
    Clock, Counters, Directory, Driver, Facts, Link, Meeting, Order, Quic, Shards, Stack, TcpOptions,
    Tickets, Tuning,
};
use peerkeep_core::{ConnRef, Fault, FaultKind, StackId, Step};
use peerkeep_paths::STAGGER;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What applications hold to use a link of that stack.
pub type HandleOf<S> = <<<S as Stack>::Meeting as Meeting>::Link as Link>::Handle;

/// How a stream driver opens sockets.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Socket options.
    pub tcp: TcpOptions,
    /// Head start of one address over the next. Default 250 ms.
    pub stagger: Duration,
    /// The sockets QUIC is dialled from; `None` leaves QUIC addresses out of every race. Default: none.
    pub quic: Option<Quic>,
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions { tcp: TcpOptions::default(), stagger: STAGGER, quic: None }
    }
}

/// Serves a [`Stack`] to the owner.
#[derive(Debug)]
pub struct StreamDriver {
    stack: StackId,
    tickets: Tickets,
    facts: Facts,
    lanes: Vec<Lane>,
}

/// What belongs to a node rather than to one driver.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The node's clock.
    pub clock: Clock,
    /// Where facts go.
    pub facts: Facts,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// TCP options that replace those of the start.
    pub tuning: Tuning,
}

#[derive(Debug, Default)]
struct Lane {
    /// Collected during one `perform`, posted at its end.
    batch: Vec<Task>,
    mailbox: Arc<Mailbox>,
}

/// Orders for one shard. Bounded: a conn has at most one dial or accept, one verdict, and probes and closes that the
/// core paces by its own timers.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    tasks: Mutex<Vec<Task>>,
    ready: Notify,
}

/// An order as the shard gets it.
#[derive(Debug)]
pub(crate) enum Task {
    Do(Order),
    /// An accept, with its socket.
    Attend {
        conn: ConnRef,
        socket: Waiting,
        remote: peerkeep_core::Addr,
        deadline: peerkeep_core::Time,
    },
}

impl StreamDriver {
    /// Puts one attendant of the stack on every shard. The handles of its links are found in `directory`.
    pub fn new<S: Stack>(
        stack: S,
        options: StreamOptions,
        shards: &Shards,
        surroundings: &Surroundings,
        tickets: Tickets,
        directory: &Directory<HandleOf<S>>,
    ) -> StreamDriver {
        let stack = Arc::new(stack);
        let mut lanes = Vec::new();
        lanes.resize_with(shards.count(), Lane::default);
        for (index, lane) in lanes.iter().enumerate() {
            let (stack, directory, mailbox) = (stack.clone(), directory.clone(), lane.mailbox.clone());
            let (surroundings, options) = (surroundings.clone(), options.clone());
            shards.spawn(index, move || Attendant::new(stack, options, surroundings, directory).run(mailbox));
        }
        StreamDriver { stack: S::ID, tickets, facts: surroundings.facts.clone(), lanes }
    }

    fn lane(&mut self, conn: ConnRef) -> &mut Lane {
        let count = self.lanes.len();
        let index = usize::try_from(conn.row).unwrap_or_default() % count;
        &mut self.lanes[index]
    }

    fn accept(&mut self, order: Order) {
        let Order::Accept { ticket, conn, deadline } = order else { return };
        match self.tickets.take(ticket) {
            Some((socket, remote)) => {
                self.lane(conn).batch.push(Task::Attend { conn, socket, remote, deadline });
            }
            // The promise of one `Gone` per conn holds for a socket that is not there either.
            None => {
                let fault = Fault::new(Step::Connect, FaultKind::Closed);
                let end = peerkeep_core::End::Fault(fault);
                self.facts.saw(peerkeep_core::Fact::Gone { conn, end });
            }
        }
    }
}

impl Driver for StreamDriver {
    fn stack(&self) -> StackId {
        self.stack
    }

    fn perform(&mut self, orders: &mut Vec<Order>) {
        for order in orders.drain(..) {
            match &order {
                Order::Accept { .. } => self.accept(order),
                Order::Refuse { ticket } => drop(self.tickets.take(*ticket)),
                Order::Dial { conn, .. }
                | Order::Admit { conn, .. }
                | Order::Turn { conn, .. }
                | Order::Probe { conn }
                | Order::Close { conn, .. } => {
                    let conn = *conn;
                    self.lane(conn).batch.push(Task::Do(order));
                }
            }
        }
        for lane in &mut self.lanes {
            lane.mailbox.post(&mut lane.batch);
        }
    }
}

impl Mailbox {
    fn post(&self, batch: &mut Vec<Task>) {
        if batch.is_empty() {
            return;
        }
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).append(batch);
        self.ready.notify_one();
    }

    /// Waits for orders and takes them all; `into` must be empty and its memory is reused.
    pub(crate) async fn take(&self, into: &mut Vec<Task>) {
        self.ready.notified().await;
        std::mem::swap(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner), into);
    }
}
