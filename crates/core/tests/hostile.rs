//! Checkpoints from outside: whatever the bytes say, loading refuses them or gives a core that goes on without a panic.

use crate::rig::{Rig, addrs, at, fault, peer};
use peerkeep_core::*;
use std::time::Duration;

fn busy() -> Rig {
    let mut rig = Rig::new(|c| {
        c.rules[0].target = 2;
        c.limits.outbound = 3;
        c.limits.contacts = 20;
    });
    rig.want(1);
    let conn = rig.dialled().expect("a dial");
    rig.answer(conn, 1);
    rig.want(2);
    rig.connect(3);
    rig.want(4);
    rig.inbound(5, 1).expect("room");
    rig.arrive(at(6)).expect("room");
    for n in 7..9 {
        rig.saw(Fact::Learned { who: peer(n), addrs: addrs(&[at(n)]), source: Source::Told });
    }
    rig.ask(Command::Ban { target: Target::Key(peer(9).key), span: Some(Duration::from_secs(9)) });
    rig.saw(Fact::Bound { a: peer(7), b: peer(8) });
    rig
}

/// Goes on with it for a while; nothing may panic.
fn live_on(mut core: Core) {
    let mut out = Effects::new();
    let mut now = core.view().now();
    for round in 0..40_u32 {
        out.clear();
        let action = match round % 4 {
            0 => {
                let who = peer((round % 10) as u8);
                let addrs = addrs(&[at(1)]);
                Action::Do(CommandId(round), Command::Connect { who, addrs, named: false })
            }
            1 => match core.view().conns().next() {
                Some(conn) => {
                    Action::Saw(Fact::Gone { conn: conn.conn, end: End::Fault(fault(FaultKind::Reset)) })
                }
                None => Action::Wake,
            },
            2 => Action::Saw(Fact::Learned { who: peer(40), addrs: addrs(&[at(3)]), source: Source::Gossip }),
            _ => Action::Wake,
        };
        core.step(now, &action, &mut out);
        now = now + Duration::from_secs(7);
    }
}

#[test]
fn fault_k8_a_checkpoint_with_any_number_bent_is_refused_or_harmless() {
    let rig = busy();
    let mut good = Vec::new();
    rig.core.save(&mut good);
    let bent: [&[u8]; 2] = [&[0xff, 0xff, 0xff, 0xff, 0x0f], &[1]];
    let (mut loaded, mut bad) = (0, Vec::new());
    // Configuration, contacts, conns and bans lie at the front; most of the rest is an empty wheel.
    let body = good.len().min(2_000);
    for at in 4..body {
        for piece in bent {
            let mut bytes = good[..at].to_vec();
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(&good[at + 1..]);
            let outcome = std::panic::catch_unwind(|| match Core::load(&bytes) {
                Ok(core) => {
                    live_on(core);
                    1
                }
                Err(_) => 0,
            });
            match outcome {
                Ok(n) => loaded += n,
                Err(_) => bad.push((at, piece)),
            }
        }
    }
    assert!(loaded > 100, "{loaded} of {body}");
    assert!(bad.is_empty(), "{} panics: {:?}", bad.len(), &bad[..bad.len().min(20)]);
}

/// Each kind of contradiction has a check of its own, so a damaged checkpoint is refused for what is wrong with it.
#[test]
fn fault_k8_every_kind_of_contradiction_in_a_checkpoint_is_found() {
    let mut good = Vec::new();
    busy().core.save(&mut good);
    let mut reasons = std::collections::BTreeSet::new();
    for at in 4..good.len().min(4_000) {
        for bend in [1, 2, 3] {
            let mut bytes = good.clone();
            bytes[at] ^= bend;
            if let Err(LoadError::Broken(why)) = Core::load(&bytes) {
                reasons.insert(why);
            }
        }
    }
    for why in [
        "a conn is on its contact's stack",
        "a contact's conn exists",
        "a queue's entries account for its members",
        "a ring comes back to where it began",
        "an overflow row exists",
        "configuration",
        "conn_count counts",
        "conns are linked both ways",
        "counters equal a recount",
        "every attached conn is linked",
        "ring",
        "tables",
        "who waits is in a queue",
    ] {
        assert!(reasons.contains(why), "{why} is not among {reasons:?}");
    }
}
