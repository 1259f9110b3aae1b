//! Addresses in use: the one that worked last is tried first, and a connection whose other end moves is counted and
//! judged where it is now. Through the public door only.

use crate::rig::{Rig, at, peer};
use peerkeep_core::*;

fn quic(mut addr: Addr) -> Addr {
    addr.kind = AddrKind::Quic;
    addr
}

fn met(conn: ConnRef, at: Addr) -> Fact {
    Fact::Met { conn, key: peer(1).key, at, greeting: None }
}

#[test]
fn s1_16_the_transport_that_worked_last_is_dialled_first() {
    let mut rig = Rig::new(|_| ());
    let (tcp, quic) = (at(1), quic(at(1)));
    for (works, fails) in [(tcp, quic), (quic, tcp), (tcp, quic)] {
        let addrs = [tcp, quic].into_iter().collect();
        rig.ask(Command::Connect { who: peer(1), addrs, named: false });
        let conn = rig.dialled().expect("a dial");
        let greeting = Some(Greeting { epoch: 500, ..Greeting::default() });
        rig.saw(Fact::Met { conn, key: peer(1).key, at: works, greeting });
        rig.saw(Fact::Ready { conn });
        let view = rig.core.view();
        let contact = view.contact(view.find(&peer(1)).expect("known")).expect("known");
        let order: Vec<Addr> = contact.addrs.iter().map(|known| known.addr).collect();
        assert_eq!(order, [works, fails]);
        rig.ask(Command::Disconnect(peer(1)));
        rig.gone(conn, End::Asked);
    }
}

#[test]
fn a_connection_whose_other_end_moved_is_counted_and_judged_where_it_is() {
    let mut rig = Rig::new(|_| ());
    let conn = rig.inbound(1, 1).expect("room");
    let told = rig.saw(met(conn, quic(at(9))));
    assert!(matches!(told[..], [Effect::Tell { .. }]), "{told:?}");
    assert_eq!(rig.core.view().conn(conn).expect("it stays").remote, quic(at(9)));
    assert_eq!(rig.saw(met(conn, quic(at(9)))), [], "nothing is new");
    let late = Fact::Met { conn, key: peer(2).key, at: at(3), greeting: None };
    assert_eq!(rig.saw(late), [], "somebody else is no reason");
    rig.ask(Command::Ban { target: Target::Subnet(Subnet::host(at(7).ip)), span: None });
    assert_eq!(rig.core.view().conn(conn).expect("it stays").stage, Stage::Up);
    rig.saw(met(conn, quic(at(7))));
    assert_eq!(rig.core.view().conn(conn).expect("until it is gone").stage, Stage::Closing, "banned there");
    rig.gone(conn, End::Asked);
    assert_eq!(rig.slots(), 0, "every count went back");
}
