//! The stream driver without a core: which facts follow which orders, and that `Gone` comes exactly once.
#![allow(missing_docs)]

mod common;

use common::{Handle, LONG, Plain, PlainMeeting, addrs, blackhole, config, key, loopback, refusing, who};
use peerkeep_core::{
    Addr, Answer, BanRef, Close, Command, ConnRef, ContactRef, End, Fact, FaultKind, Greeting, StackId,
    Ticket, Time, Told, View,
};
use peerkeep_net::{
    Directory, Driver, Facts, Io, Listener, MeetError, Met, Observer, Order, Outcome, Owner, Setup, Shards,
    Stack, Stopped, StreamDriver, StreamOptions, TcpOptions, Terms, Tickets, Until, prepare,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Side {
    owner: Owner,
    facts: Facts,
    driver: StreamDriver,
    directory: Directory<Handle>,
    shards: Option<Shards>,
    seen: Vec<Fact>,
}

impl Side {
    fn new<S>(stack: S, tickets: Tickets) -> Side
    where
        S: Stack<Meeting = PlainMeeting>,
    {
        let (owner, _engine) = prepare();
        let shards = Shards::start(1).expect("a thread");
        let directory = Directory::default();
        let options = StreamOptions::default();
        let driver = StreamDriver::new(stack, options, &shards, &owner.surroundings(), tickets, &directory);
        Side { facts: owner.facts(), owner, driver, directory, shards: Some(shards), seen: Vec::new() }
    }

    fn order(&mut self, orders: impl IntoIterator<Item = Order>) {
        self.driver.perform(&mut orders.into_iter().collect());
    }

    /// The next fact of that kind; others are kept in `seen`.
    async fn fact(&mut self, fits: impl Fn(&Fact) -> bool) -> Fact {
        let search = async {
            let mut batch = Vec::new();
            loop {
                if let Some(at) = self.seen.iter().position(&fits) {
                    return self.seen.remove(at);
                }
                self.facts.ready().await;
                self.facts.take(&mut batch);
                self.seen.append(&mut batch);
            }
        };
        tokio::time::timeout(LONG, search).await.expect("the fact comes")
    }

    async fn gone(&mut self, conn: ConnRef) -> End {
        let fact = self.fact(|fact| matches!(fact, Fact::Gone { conn: of, .. } if *of == conn)).await;
        let Fact::Gone { end, .. } = fact else { unreachable!("searched for") };
        end
    }

    fn soon(&self) -> Time {
        self.owner.clock().now().after(LONG)
    }

    fn dial(&self, row: u32, to: Addr) -> Order {
        let addrs = addrs(&[to]);
        let greeting = Greeting { epoch: 1, dial: 1, ..Greeting::default() };
        Order::Dial { conn: conn(row), expect: None, addrs, greeting, deadline: self.soon() }
    }

    fn close(&self, row: u32, unless_used_since: Time) -> Order {
        let deadline = self.soon();
        Order::Close { conn: conn(row), why: Close::Requested, unless_used_since, deadline }
    }
}

fn conn(row: u32) -> ConnRef {
    ConnRef { row, generation: 0 }
}

fn admit(row: u32) -> Order {
    Order::Admit { conn: conn(row), greeting: Greeting { epoch: 1, ..Greeting::default() } }
}

/// Two sides with a link between them: row 0 at the dialler, row 1 at the acceptor.
async fn linked() -> (Side, Side, peerkeep_net::Serving) {
    let tickets = Tickets::new(StackId::Mesh);
    let mut a = Side::new(Plain { key: key(1) }, Tickets::new(StackId::Mesh));
    let mut b = Side::new(Plain { key: key(2) }, tickets.clone());
    let listener = Listener::bind(loopback(0), &TcpOptions::default()).expect("a port");
    let at = Addr::tcp(listener.local());
    let serving = listener.serve(tickets, b.facts.clone(), b.owner.counters().clone()).expect("watched");
    let dial = a.dial(0, at);
    a.order([dial]);
    let arrived = b.fact(|fact| matches!(fact, Fact::Arrived { .. })).await;
    let Fact::Arrived { ticket, .. } = arrived else { unreachable!("searched for") };
    let deadline = b.soon();
    b.order([Order::Accept { ticket, conn: conn(1), deadline }]);
    b.fact(|fact| matches!(fact, Fact::Met { .. })).await;
    b.order([admit(1)]);
    a.fact(|fact| matches!(fact, Fact::Met { .. })).await;
    a.order([admit(0)]);
    a.fact(|fact| matches!(fact, Fact::Ready { .. })).await;
    b.fact(|fact| matches!(fact, Fact::Ready { .. })).await;
    (a, b, serving)
}

#[tokio::test]
async fn a_close_is_declined_by_use_and_obeyed_otherwise() {
    let (mut a, mut b, _serving) = linked().await;
    let before = a.owner.clock().now();
    a.directory.find(&key(2)).expect("up").handle.send(1);
    a.fact(|fact| matches!(fact, Fact::Reported { report, .. } if report.used_at > before)).await;
    let close = a.close(0, before);
    a.order([close]);
    let declined = a.fact(|fact| matches!(fact, Fact::Reported { .. } | Fact::Gone { .. })).await;
    assert!(matches!(declined, Fact::Reported { report, .. } if report.used_at > before), "{declined:?}");
    let close = a.close(0, a.owner.clock().now());
    a.order([close]);
    assert_eq!(a.gone(conn(0)).await, End::Asked);
    assert_eq!(b.gone(conn(1)).await, End::Goodbye(Close::Requested));
}

#[tokio::test]
async fn a_probe_is_answered_and_reported() {
    let (mut a, _b, _serving) = linked().await;
    let before = a.owner.clock().now();
    a.order([Order::Probe { conn: conn(0) }]);
    a.fact(|fact| matches!(fact, Fact::Reported { report, .. } if report.received_at > before)).await;
}

#[tokio::test]
async fn a_violation_is_told_and_the_link_goes_on() {
    let (mut a, _b, _serving) = linked().await;
    a.directory.find(&key(2)).expect("up").handle.violate();
    a.fact(|fact| matches!(fact, Fact::Violated { .. })).await;
    a.order([Order::Probe { conn: conn(0) }]);
    a.fact(|fact| matches!(fact, Fact::Reported { .. })).await;
}

#[tokio::test]
async fn fault_d5_a_close_right_behind_the_dial_is_one_gone() {
    let hole = blackhole();
    let mut a = Side::new(Plain { key: key(1) }, Tickets::new(StackId::Mesh));
    let orders = [a.dial(0, hole.addr), a.close(0, Time::NEVER), a.close(0, Time::NEVER)];
    a.order(orders);
    assert_eq!(a.gone(conn(0)).await, End::Asked);
    assert_no_more_gone(a);
}

#[tokio::test]
async fn orders_for_another_generation_do_nothing() {
    let (mut a, mut b, _serving) = linked().await;
    let stale = ConnRef { row: 0, generation: 7 };
    let deadline = a.soon();
    let bytes = b.directory.find(&key(1)).expect("up").bytes;
    let close = Order::Close { conn: stale, why: Close::Dead, unless_used_since: Time::NEVER, deadline };
    let (_kept, refusing) = refusing();
    let marker = a.dial(9, refusing);
    a.order([close, Order::Probe { conn: stale }, marker]);
    // The stale orders are behind us, and whatever they woke has run.
    a.gone(conn(9)).await;
    let ours = a.close(0, Time::NEVER);
    a.order([ours]);
    assert_eq!(b.gone(conn(1)).await, End::Goodbye(Close::Requested), "not the stale order's reason");
    assert_eq!(bytes.received(), 3, "a goodbye, and no ping before it");
}

#[tokio::test]
async fn accepting_a_socket_that_is_not_there_is_gone() {
    let mut a = Side::new(Plain { key: key(1) }, Tickets::new(StackId::Mesh));
    let deadline = a.soon();
    a.order([
        Order::Accept { ticket: Ticket(5), conn: conn(4), deadline },
        Order::Refuse { ticket: Ticket(6) },
    ]);
    assert!(matches!(a.gone(conn(4)).await, End::Fault(_)));
}

#[tokio::test]
async fn stopping_the_shards_ends_every_conn_once() {
    let (mut a, mut b, _serving) = linked().await;
    let hole = blackhole();
    let dial = a.dial(5, hole.addr);
    a.order([dial]);
    // The shard has the order once it has answered something behind it.
    a.order([Order::Probe { conn: conn(0) }]);
    a.fact(|fact| matches!(fact, Fact::Reported { .. })).await;
    drop(a.shards.take());
    assert_eq!(a.gone(conn(0)).await, End::Asked);
    assert_eq!(a.gone(conn(5)).await, End::Asked);
    assert!(matches!(b.gone(conn(1)).await, End::Fault(fault) if fault.kind == FaultKind::Closed));
    assert!(a.directory.is_empty());
    assert_no_more_gone(a);
}

/// A stack that panics while it greets.
struct Rude;

impl Stack for Rude {
    type Meeting = PlainMeeting;
    const ID: StackId = StackId::Mesh;
    async fn meet(&self, _io: Io, _terms: Terms) -> Result<(Met, PlainMeeting), MeetError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        panic!("a test asked for it")
    }
}

/// Fault R9.
#[tokio::test]
async fn a_panic_in_a_handshake_is_one_gone_and_the_shard_lives() {
    let listener = std::net::TcpListener::bind(loopback(0)).expect("a port");
    let at = Addr::tcp(listener.local_addr().expect("bound"));
    let mut a = Side::new(Rude, Tickets::new(StackId::Mesh));
    for row in [0, 1] {
        let dial = a.dial(row, at);
        a.order([dial]);
        assert!(matches!(a.gone(conn(row)).await, End::Fault(fault) if fault.kind == FaultKind::Panic));
    }
    assert_eq!(a.owner.counters().panics.read(), 2);
    assert_no_more_gone(a);
}

fn assert_no_more_gone(mut side: Side) {
    // Joins the threads: whatever they had to say is said.
    drop(side.shards.take());
    let mut rest = Vec::new();
    side.facts.take(&mut rest);
    side.seen.append(&mut rest);
    assert!(!side.seen.iter().any(|fact| matches!(fact, Fact::Gone { .. })), "{:?}", side.seen);
}

/// A driver without sockets: it notes what it is told, and says at once that all went well.
struct Fake {
    orders: Arc<Mutex<Vec<&'static str>>>,
    facts: Facts,
}

impl Driver for Fake {
    fn stack(&self) -> StackId {
        StackId::Mesh
    }

    fn perform(&mut self, orders: &mut Vec<Order>) {
        for order in orders.drain(..) {
            let (name, fact) = match order {
                Order::Dial { conn, expect, addrs, .. } => {
                    let key = expect.expect("a known peer");
                    let greeting = Some(Greeting { epoch: 5, accepted: (1, 1), ..Greeting::default() });
                    ("dial", Fact::Met { conn, key, at: addrs[0], greeting })
                }
                Order::Admit { conn, .. } => ("admit", Fact::Ready { conn }),
                Order::Close { conn, .. } => ("close", Fact::Gone { conn, end: End::Asked }),
                other => panic!("{other:?}"),
            };
            self.orders.lock().expect("no panic inside").push(name);
            // Said from within the order, and heard only when the owner takes its next facts.
            self.facts.saw(fact);
        }
    }
}

#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Vec<Told>>>);

impl Observer for Noted {
    fn told(&mut self, _view: View<'_>, _contact: ContactRef, _conn: ConnRef, what: Told, _now: Time) {
        self.0.lock().expect("no panic inside").push(what);
    }
    fn store(&mut self, _view: View<'_>, _contact: ContactRef) {}
    fn store_ban(&mut self, _view: View<'_>, _ban: BanRef) {}
}

#[tokio::test]
async fn s0_49_s0_53_s0_56_the_same_core_connects_and_disconnects_through_a_fake_driver() {
    let (owner, engine) = prepare();
    let (orders, noted) = (Arc::default(), Noted::default());
    let fake = Fake { orders: Arc::clone(&orders), facts: owner.facts() };
    let running = engine
        .start(Setup {
            config: config(1),
            seed: [7; 32],
            journal: None,
            first: Box::new(std::iter::empty()),
            drivers: vec![Box::new(fake)],
            listeners: Vec::new(),
            observer: Box::new(noted.clone()),
        })
        .expect("a sound configuration");
    let nowhere = Addr::tcp(loopback(1));
    let outcome = owner.connect(who(2), addrs(&[nowhere]), Until::FirstAttempt, LONG).await.expect("it runs");
    assert!(matches!(outcome, Outcome::Connected { .. }), "{outcome:?}");
    assert_eq!(owner.command(Command::Disconnect(who(2))).await, Ok(Answer::Done));
    while owner.ask(|view, _| view.conns().count()).await.expect("it runs") > 0 {
        tokio::task::yield_now().await;
    }
    owner.shutdown(LONG).await.expect("it runs");
    assert_eq!(tokio::time::timeout(LONG, running.stopped()).await, Ok(Stopped::Asked { cut: 0 }));
    assert_eq!(*orders.lock().expect("no panic inside"), ["dial", "admit", "close"]);
    let told = noted.0.lock().expect("no panic inside").clone();
    let told: Vec<Told> = told.into_iter().filter(|what| *what != Told::Discovered).collect();
    assert_eq!(told, [Told::Dialing { attempt: 1 }, Told::Connected, Told::Lost(Close::Requested)]);
}
