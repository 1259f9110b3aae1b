//! Connections as the network has them: two ends, what travels between them, and what is broken. A wire keeps order
//! in each direction and promises nothing between wires. It decides nothing for a core.

use peerkeep_core::{Close, ConnRef, Greeting, Ticket, Time};
use std::time::Duration;

/// What travels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Msg {
    Hello(Greeting),
    Answer(Greeting),
    Refusal {
        newer: u64,
        retry_after: Duration,
    },
    Confirm,
    Ping,
    Pong,
    /// Bytes of an application.
    Data,
    /// Peers told of: numbers of nodes.
    Peers([u32; PEERS]),
    Bye(Close),
    /// The transport's own end: the process or the socket over there is gone.
    Reset,
}

/// Most peers told at once.
pub(crate) const PEERS: usize = 8;
/// Not a node.
pub(crate) const NOBODY: u32 = u32::MAX;

impl Msg {
    /// Its size on a cable, roughly, bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Msg::Hello(_) | Msg::Answer(_) => 900,
            Msg::Refusal { .. } => 300,
            Msg::Peers(peers) => 60 + 60 * peers.iter().filter(|peer| **peer != NOBODY).count() as u64,
            Msg::Data => 500,
            Msg::Confirm | Msg::Ping | Msg::Pong | Msg::Bye(_) => 90,
            Msg::Reset => 40,
        }
    }
}

/// One end of a wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub node: u32,
    /// Which life of the node it belongs to.
    pub boot: u32,
    pub conn: ConnRef,
    /// The socket exists.
    pub is_open: bool,
    /// The node was told `Connected` and not `Lost`.
    pub is_up: bool,
    /// What is sent to this end vanishes.
    pub is_cut: bool,
    /// Nothing that was sent earlier arrives later: the time of the last arrival here.
    pub arrival: Time,
    pub used_at: Time,
}

/// A connection: end 0 dialled, end 1 accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub generation: u32,
    pub ends: [End; 2],
    /// Which leg of the race it is.
    pub leg: u8,
    pub ticket: Ticket,
    /// Until then, what it carries may have been late for reasons of the network.
    pub troubled_until: Time,
    /// Both ends were told `Connected` at the same time.
    pub is_shared: bool,
}

/// A wire and which of the uses of its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WireRef {
    pub row: u32,
    pub generation: u32,
}

impl WireRef {
    pub const NONE: WireRef = WireRef { row: u32::MAX, generation: 0 };
}

/// All wires. Rows are used again.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    rows: Vec<Wire>,
    free: Vec<u32>,
}

impl Wires {
    pub fn add(&mut self, dialler: End, acceptor: End, leg: u8) -> WireRef {
        let wire = Wire {
            generation: 0,
            ends: [dialler, acceptor],
            leg,
            ticket: Ticket(0),
            troubled_until: Time::ZERO,
            is_shared: false,
        };
        match self.free.pop() {
            Some(row) => {
                let generation = self.rows[row as usize].generation;
                self.rows[row as usize] = Wire { generation, ..wire };
                WireRef { row, generation }
            }
            None => {
                self.rows.push(wire);
                let row = u32::try_from(self.rows.len() - 1).expect("memory ends before");
                WireRef { row, generation: 0 }
            }
        }
    }

    pub fn get(&self, wire: WireRef) -> Option<&Wire> {
        self.rows.get(wire.row as usize).filter(|row| row.generation == wire.generation)
    }

    pub fn get_mut(&mut self, wire: WireRef) -> Option<&mut Wire> {
        self.rows.get_mut(wire.row as usize).filter(|row| row.generation == wire.generation)
    }

    /// Gives the row back when nobody holds an end any more.
    pub fn release(&mut self, wire: WireRef) {
        let Some(row) = self.get_mut(wire) else { return };
        if row.ends.iter().all(|end| !end.is_open) {
            row.generation = row.generation.wrapping_add(1);
            self.free.push(wire.row);
        }
    }

    /// How many exist now.
    pub fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }
}

impl End {
    pub fn new(node: u32, boot: u32, conn: ConnRef) -> End {
        End {
            node,
            boot,
            conn,
            is_open: true,
            is_up: false,
            is_cut: false,
            arrival: Time::ZERO,
            used_at: Time::ZERO,
        }
    }
}
