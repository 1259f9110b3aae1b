//! Both machines against each other and against bent frames.

use super::*;
use crate::wire::{MAX_HANDSHAKE_BYTES, parse};

const A: PeerKey = PeerKey::ed25519([1; 32]);
const B: PeerKey = PeerKey::ed25519([2; 32]);

fn remote() -> Addr {
    Addr::tcp("127.0.0.1:7330".parse().expect("an address"))
}

fn local(me: PeerKey, change: impl FnOnce(&mut MeshConfig)) -> Arc<Local> {
    let mut config = MeshConfig { network: "lab".into(), ..MeshConfig::default() };
    change(&mut config);
    Arc::new(Local::new(me, &config))
}

fn greeting() -> Greeting {
    Greeting { epoch: 100, dial: 4, accepted: (90, 2), replaces: true }
}

fn read(bytes: &[u8]) -> Handshake {
    let (frame, used) = parse(bytes, MAX_HANDSHAKE_BYTES).expect("reads").expect("whole");
    assert_eq!(used, bytes.len());
    frame
}

fn hello_from(local: Arc<Local>) -> (Dialler, Handshake) {
    let mut out = Vec::new();
    let dialler = Dialler::start(local, B, remote(), &greeting(), [5; 16], &mut out).expect("allowed");
    (dialler, read(&out))
}

/// The failure of one side, and what the other makes of being told.
type Failed = Box<(Failure, Option<Failure>)>;

/// Runs both sides; gives what each found out, or the failure and what the other side makes of the refusal.
fn greet(a: Arc<Local>, b: Arc<Local>) -> Result<(Agreed, Agreed), Failed> {
    let (mut dialler, hello) = hello_from(a);
    let mut acceptor = Acceptor::new(b, A, remote());
    let heard = match acceptor.handle(hello) {
        Ok(Some(Heard::Hello(heard))) => *heard,
        Ok(other) => panic!("{other:?}"),
        Err(failure) => {
            let told = failure.tell.clone().map(|refusal| {
                let mut out = Vec::new();
                emit_refusal(*refusal, &mut out);
                dialler.handle(read(&out)).expect_err("a refusal")
            });
            return Err(Box::new((failure, told)));
        }
    };
    let mut out = Vec::new();
    acceptor.answer(&Greeting { epoch: 55, accepted: (100, 4), ..Greeting::default() }, &mut out);
    let answered = match dialler.handle(read(&out)) {
        Ok(answered) => answered.expect("an answer"),
        Err(failure) => {
            let told = failure.tell.clone().map(|refusal| {
                let mut out = Vec::new();
                emit_refusal(*refusal, &mut out);
                acceptor.handle(read(&out)).expect_err("a refusal")
            });
            return Err(Box::new((failure, told)));
        }
    };
    out.clear();
    Dialler::confirm(&mut out);
    assert_eq!(acceptor.handle(read(&out)).expect("confirms"), Some(Heard::Confirm));
    Ok((answered, heard))
}

fn kind(failure: &Failure) -> FaultKind {
    match &failure.error {
        MeetError::Fault(fault) => fault.kind,
        other => panic!("{other:?}"),
    }
}

fn said(failure: &Option<Failure>) -> &str {
    match failure.as_ref().map(|failure| &failure.error) {
        Some(MeetError::Declined { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hello_answer_and_confirm_carry_both_sides_numbers() {
    let (answered, heard) = greet(local(A, |_| ()), local(B, |c| c.agent = "b\n/1".into())).expect("agree");
    assert_eq!(heard.greeting, greeting());
    assert_eq!(answered.greeting.epoch, 55);
    assert_eq!(answered.greeting.accepted, (100, 4));
    assert_eq!((answered.version, answered.exchange, answered.mail), (2, true, true));
    assert_eq!((answered.agent.as_str(), answered.seen), ("b?/1", Some(remote())));
}

#[test]
fn another_network_is_refused_and_told_so() {
    let (failure, told) = *greet(local(A, |c| c.network = "x".into()), local(B, |_| ())).unwrap_err();
    assert_eq!(kind(&failure), FaultKind::Network);
    assert_eq!(said(&told), Reason::Network.text());
}

#[test]
fn another_or_no_network_secret_is_refused_by_whichever_side_has_one() {
    let with = |byte| move |c: &mut MeshConfig| c.secret = Secret::new(vec![byte; 16]).ok();
    greet(local(A, with(1)), local(B, with(1))).expect("the same secret");
    for (a, b) in [
        (local(A, with(1)), local(B, with(2))),
        (local(A, |_| ()), local(B, with(2))),
        (local(A, with(1)), local(B, |_| ())),
    ] {
        let (failure, told) = *greet(a, b).unwrap_err();
        assert_eq!(kind(&failure), FaultKind::Network);
        assert_eq!(said(&told), Reason::Network.text());
    }
}

#[test]
fn s3_55_versions_meet_at_the_highest_common_one_in_both_directions() {
    let old = |c: &mut MeshConfig| c.versions = (1, 1);
    let new = |c: &mut MeshConfig| c.versions = (2, 2);
    for (a, b) in
        [(local(A, old), local(B, |_| ())), (local(A, |_| ()), local(B, old)), (local(A, old), local(B, old))]
    {
        let (answered, heard) = greet(a, b).expect("agree");
        assert_eq!((answered.version, heard.version), (1, 1));
        assert!(!answered.exchange && !heard.exchange && !answered.mail);
    }
    let (failure, told) = *greet(local(A, old), local(B, new)).unwrap_err();
    assert_eq!(kind(&failure), FaultKind::Version);
    assert_eq!(said(&told), "no common version: here 2 to 2, there 1 to 1");
}

#[test]
fn an_identity_that_is_not_on_the_list_is_refused_by_either_side() {
    let only = |key| move |c: &mut MeshConfig| c.allow = Some(BTreeSet::from([key]));
    greet(local(A, only(B)), local(B, only(A))).expect("both listed");
    let (failure, told) = *greet(local(A, |_| ()), local(B, only(B))).unwrap_err();
    assert_eq!(kind(&failure), FaultKind::Identity);
    assert_eq!(said(&told), Reason::NotAllowed.text());
    let mut out = Vec::new();
    let refused = Dialler::start(local(A, only(A)), B, remote(), &greeting(), [5; 16], &mut out).unwrap_err();
    assert_eq!(kind(&refused), FaultKind::Identity);
    assert!(out.is_empty(), "nothing about us is told");
}

#[test]
fn the_cores_refusal_reaches_the_dialler_with_its_times() {
    let (mut dialler, _) = hello_from(local(A, |_| ()));
    let mut out = Vec::new();
    emit_turn(&Refusal::Stale { newer: 123 }, Duration::from_secs(3), &mut out);
    match dialler.handle(read(&out)).unwrap_err().error {
        MeetError::Declined { key, code, retry_after, newer_epoch, reason } => {
            assert_eq!((key, newer_epoch, retry_after.as_secs()), (Some(B), 123, 3));
            assert_eq!(code, Reason::Stale.code());
            assert_eq!(reason, Reason::Stale.text());
        }
        other => panic!("{other:?}"),
    }
    out.clear();
    emit_turn(&Refusal::NotNow, Duration::MAX, &mut out);
    match dialler.handle(read(&out)).unwrap_err().error {
        MeetError::Declined { retry_after, .. } => assert_eq!(retry_after.as_secs(), 24 * 3600),
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_out_of_order_are_misbehaviour() {
    let (mut dialler, hello) = hello_from(local(A, |_| ()));
    let confirm = || Handshake { what: Some(Frame::Confirm(wire::Confirm {})) };
    let violation = |failure: Failure| match failure.error {
        MeetError::Violation(what) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(violation(dialler.handle(confirm()).unwrap_err()), Violation::OutOfOrder);
    let mut acceptor = Acceptor::new(local(B, |_| ()), A, remote());
    assert_eq!(violation(acceptor.handle(confirm()).unwrap_err()), Violation::OutOfOrder);
    acceptor.handle(hello.clone()).expect("a hello");
    assert_eq!(
        violation(acceptor.handle(confirm()).unwrap_err()),
        Violation::OutOfOrder,
        "before the answer"
    );
    assert_eq!(violation(acceptor.handle(hello).unwrap_err()), Violation::OutOfOrder, "twice");
}

#[test]
fn fault_f13_unknown_kinds_of_frame_are_skipped_a_few_times() {
    let mut acceptor = Acceptor::new(local(B, |_| ()), A, remote());
    for _ in 0..MAX_SKIPPED {
        assert_eq!(acceptor.handle(Handshake { what: None }).expect("skipped"), None);
    }
    acceptor.handle(Handshake { what: None }).expect_err("enough");
}

#[test]
fn a_hello_without_its_numbers_or_nonce_is_malformed() {
    let (_, hello) = hello_from(local(A, |_| ()));
    let Some(Frame::Hello(hello)) = hello.what else { panic!("a hello") };
    let bent: [fn(&mut wire::Hello); 4] =
        [|h| h.epoch = 0, |h| h.dial = 0, |h| h.nonce.clear(), |h| h.nonce = vec![0; 17]];
    for bend in bent {
        let mut hello = hello.clone();
        bend(&mut hello);
        let mut acceptor = Acceptor::new(local(B, |_| ()), A, remote());
        let failure = acceptor.handle(Handshake { what: Some(Frame::Hello(hello)) }).unwrap_err();
        assert!(matches!(failure.error, MeetError::Violation(Violation::Malformed)));
    }
}

#[test]
fn fault_h3_a_bent_hello_is_never_taken_for_the_true_one() {
    let with = |c: &mut MeshConfig| c.secret = Secret::new(vec![1; 16]).ok();
    let mut whole = Vec::new();
    let _ = Dialler::start(local(A, with), B, remote(), &greeting(), [5; 16], &mut whole).expect("allowed");
    let accept = |bytes: &[u8]| {
        let (frame, _) = parse::<Handshake>(bytes, MAX_HANDSHAKE_BYTES).ok()??;
        match Acceptor::new(local(B, with), A, remote()).handle(frame) {
            Ok(Some(Heard::Hello(agreed))) => Some(*agreed),
            _ => None,
        }
    };
    let truth = accept(&whole).expect("the true one");
    let (mut harmless, mut refused) = (0, 0);
    for index in 0..whole.len() {
        let mut bent = whole.clone();
        bent[index] ^= 0x41;
        match accept(&bent) {
            Some(agreed) if agreed == truth => harmless += 1,
            Some(_) => {}
            None => refused += 1,
        }
    }
    assert!(refused > 80, "network, proof and nonce: {refused}");
    assert!(harmless < whole.len() / 4, "names of capabilities we do not know, at most: {harmless}");
}

proptest::proptest! {
    #[test]
    fn no_bytes_break_a_greeting(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let Ok(frame) = <Handshake as prost::Message>::decode(&bytes[..]) else { return Ok(()) };
        let (mut dialler, _) = hello_from(local(A, |_| ()));
        let _ = dialler.handle(frame.clone());
        let _ = Acceptor::new(local(B, |_| ()), A, remote()).handle(frame);
    }
}
