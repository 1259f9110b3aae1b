//! The mesh's bytes: frames, the handshake in any split, the control channel, peer exchange, the multiplexer's frames,
//! certificates and TLS records.

use super::input::Input;
use peerkeep_core::{Addr, Addrs, Greeting, MAX_ADDRS, PeerKey};
use peerkeep_mesh::handshake::{Acceptor, Agreed, Dialler, Heard, Local};
use peerkeep_mesh::tls::Tls;
use peerkeep_mesh::wire::{self, Control, Handshake, MAX_CONTROL_BYTES, MAX_HANDSHAKE_BYTES, PREFIX_BYTES};
use peerkeep_mesh::{Identity, MeshConfig, Secret, fuzzing};
use std::sync::{Arc, LazyLock};

pub const A: PeerKey = PeerKey::ed25519([1; 32]);
pub const B: PeerKey = PeerKey::ed25519([2; 32]);

/// Memory that reading one frame may hold at a time: the input's length twice and some, and for each entry of a list,
/// which may have two bytes on the wire, its place in the list while that grows.
fn frame_budget(length: usize) -> u64 {
    const ENTRY: usize = 48;
    let budget = 2 * length + 4_096 + length / 2 * ENTRY * 2;
    u64::try_from(budget).unwrap_or(u64::MAX)
}

/// Length-prefixed frames of both kinds.
pub fn frames(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    if kind & 1 == 0 {
        frame::<Handshake>(bytes, MAX_HANDSHAKE_BYTES);
    } else {
        frame::<Control>(bytes, MAX_CONTROL_BYTES);
    }
}

fn frame<M: Frame>(bytes: &[u8], max: usize) {
    let mut parsed = Ok(None);
    let spent = allocation_counter::measure(|| parsed = M::parse(bytes, max));
    assert!(spent.bytes_max <= frame_budget(bytes.len()), "{spent:?} for {} bytes", bytes.len());
    let announced = bytes.first_chunk().map(|prefix| usize::from(u16::from_be_bytes(*prefix)));
    match parsed {
        Ok(Some((frame, used))) => {
            assert!(used <= bytes.len() && used <= PREFIX_BYTES + max);
            assert!(M::parse(&bytes[..used - 1], max) == Ok(None), "a frame is not read before it is whole");
            let mut written = Vec::new();
            frame.emit(&mut written);
            // What we would write back may be longer than what was read: a default value costs nothing there.
            if written.len() <= PREFIX_BYTES + max {
                let again = M::parse(&written, max);
                assert!(again == Ok(Some((frame, written.len()))), "written and read back");
            }
        }
        Ok(None) => assert!(announced.is_none_or(|length| length > bytes.len() - PREFIX_BYTES)),
        Err(wire::WireError::TooLarge) => assert!(announced.is_some_and(|length| length > max)),
        Err(wire::WireError::Malformed) => assert!(announced.is_some_and(|length| length <= max)),
    }
}

/// The two kinds of frame, without naming the protobuf library.
trait Frame: Sized + PartialEq {
    fn parse(bytes: &[u8], max: usize) -> Result<Option<(Self, usize)>, wire::WireError>;
    fn emit(&self, out: &mut Vec<u8>);
}

impl Frame for Handshake {
    fn parse(bytes: &[u8], max: usize) -> Result<Option<(Self, usize)>, wire::WireError> {
        wire::parse(bytes, max)
    }
    fn emit(&self, out: &mut Vec<u8>) {
        wire::emit(self, out);
    }
}

impl Frame for Control {
    fn parse(bytes: &[u8], max: usize) -> Result<Option<(Self, usize)>, wire::WireError> {
        wire::parse(bytes, max)
    }
    fn emit(&self, out: &mut Vec<u8>) {
        wire::emit(self, out);
    }
}

fn remote() -> Addr {
    Addr::tcp(([127, 0, 0, 1], 7330).into())
}

/// Both sides' settings, without and with a secret and a list.
pub static LOCALS: LazyLock<[[Arc<Local>; 2]; 3]> = LazyLock::new(|| {
    [0_u8, 1, 2].map(|kind| {
        [A, B].map(|me| {
            let secret = (kind == 1).then(|| Secret::new(vec![9; 16]).expect("long enough"));
            let allow = (kind == 2).then(|| [A].into());
            let config = MeshConfig { network: "lab".into(), secret, allow, ..MeshConfig::default() };
            Arc::new(Local::new(me, &config))
        })
    })
});

pub const GREETING: Greeting = Greeting { epoch: 100, dial: 4, accepted: (90, 2), replaces: false };

/// Either side of a handshake against anything, cut anywhere: the outcome does not depend on the cuts, and nobody is
/// taken for agreed out of order. A bit of the first byte says that the true frames come first.
pub fn handshake(data: &[u8]) {
    let mut input = Input(data);
    let how = input.byte();
    let locals = &LOCALS[usize::from(how >> 2 & 3) % 3];
    let cuts = input.array::<4>();
    let mut bytes = Vec::new();
    let dials = how & 1 == 1;
    if how & 2 == 2 {
        bytes = the_truth(locals, dials);
        // The true bytes, bent where the input says.
        let bends = input.below(4);
        for _ in 0..bends {
            let at = usize::from(u16::from_le_bytes(input.array())) % bytes.len();
            bytes[at] ^= input.byte();
        }
    }
    bytes.extend_from_slice(input.0);
    let run = |cuts: &[u8]| {
        if dials { as_dialler(locals, &bytes, cuts) } else { as_acceptor(locals, &bytes, cuts) }
    };
    let whole = run(&[]);
    assert_eq!(whole, run(&cuts), "the pieces do not matter");
}

fn the_truth(locals: &[Arc<Local>; 2], dials: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let other = if dials { 1 } else { 0 };
    if dials {
        let mut hello = Vec::new();
        let started = Dialler::start(locals[0].clone(), B, remote(), &GREETING, [5; 16], &mut hello);
        let mut acceptor = Acceptor::new(locals[other].clone(), A, remote());
        if started.is_ok()
            && let Ok(Some((frame, _))) = wire::parse(&hello, MAX_HANDSHAKE_BYTES)
            && let Ok(Some(Heard::Hello(_))) = acceptor.handle(frame)
        {
            acceptor.answer(&GREETING, &mut out);
        }
    } else {
        let _ = Dialler::start(locals[other].clone(), B, remote(), &GREETING, [5; 16], &mut out);
        Dialler::confirm(&mut out);
    }
    if out.is_empty() {
        Dialler::confirm(&mut out);
    }
    out
}

/// What came of it, as text that can be compared: what was agreed, and the end.
type Story = (Vec<Agreed>, bool, Option<String>);

fn as_acceptor(locals: &[Arc<Local>; 2], bytes: &[u8], cuts: &[u8]) -> Story {
    let mut acceptor = Acceptor::new(locals[1].clone(), A, remote());
    let (mut agreed, mut confirmed, mut sent) = (Vec::new(), false, Vec::new());
    let end = feed(bytes, cuts, |frame| match acceptor.handle(frame) {
        Ok(Some(Heard::Hello(heard))) => {
            check_agreed(&heard);
            assert!(agreed.is_empty(), "one hello");
            assert!(heard.greeting.epoch > 0 && heard.greeting.dial > 0);
            agreed.push(*heard);
            acceptor.answer(&GREETING, &mut sent);
            assert!(sent.len() <= PREFIX_BYTES + MAX_HANDSHAKE_BYTES);
            Ok(false)
        }
        Ok(Some(Heard::Confirm)) => {
            assert_eq!(agreed.len(), 1, "no confirm without a hello");
            confirmed = true;
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(failure) => Err(failure),
    });
    (agreed, confirmed, end)
}

fn as_dialler(locals: &[Arc<Local>; 2], bytes: &[u8], cuts: &[u8]) -> Story {
    let mut out = Vec::new();
    let dialler = Dialler::start(locals[0].clone(), B, remote(), &GREETING, [5; 16], &mut out);
    let Ok(mut dialler) = dialler else { return (Vec::new(), false, None) };
    let mut agreed = Vec::new();
    let end = feed(bytes, cuts, |frame| {
        let answered = dialler.handle(frame)?;
        let Some(answer) = answered else { return Ok(false) };
        check_agreed(&answer);
        agreed.push(answer);
        Ok(true)
    });
    let confirmed = !agreed.is_empty();
    (agreed, confirmed, end)
}

/// Gives the frames one by one, as pieces arrive, until `take` has enough or fails.
fn feed(
    bytes: &[u8],
    cuts: &[u8],
    mut take: impl FnMut(Handshake) -> Result<bool, peerkeep_mesh::handshake::Failure>,
) -> Option<String> {
    let (mut used, mut have, mut turn) = (0, 0, 0);
    while have < bytes.len() {
        let step = cuts.get(turn % cuts.len().max(1)).map_or(bytes.len(), |cut| usize::from(*cut).max(1));
        turn += 1;
        have = bytes.len().min(have + step);
        loop {
            let failure = match wire::parse::<Handshake>(&bytes[used..have], MAX_HANDSHAKE_BYTES) {
                Ok(None) => break,
                Ok(Some((frame, length))) => {
                    used += length;
                    match take(frame) {
                        Ok(true) => return None,
                        Ok(false) => continue,
                        Err(failure) => failure,
                    }
                }
                Err(error) => error.into(),
            };
            if let Some(refusal) = failure.tell.clone() {
                let mut out = Vec::new();
                peerkeep_mesh::handshake::emit_refusal(*refusal, &mut out);
                assert!(out.len() <= PREFIX_BYTES + MAX_HANDSHAKE_BYTES, "a refusal fits its frame");
            }
            return Some(format!("{:?}", failure.error));
        }
    }
    None
}

fn check_agreed(agreed: &Agreed) {
    assert!(agreed.agent.len() <= wire::MAX_TEXT_BYTES);
    assert!(agreed.agent.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
    assert!(agreed.listen.len() <= MAX_ADDRS && agreed.listen.iter().all(|addr| addr.check().is_ok()));
    assert!(agreed.version >= wire::VERSIONS.0 && agreed.version <= wire::VERSIONS.1);
}

/// The control channel: pings, pongs, goodbyes, peer exchange, cut anywhere.
pub fn control(data: &[u8]) {
    let mut input = Input(data);
    let cuts = input.array::<4>();
    fuzzing::control(input.0, &cuts);
}

/// Whom we would tell of, told to anybody anywhere.
pub fn exchange(data: &[u8]) {
    let mut input = Input(data);
    let there = addr(&mut input);
    let mut known = Vec::new();
    while !input.is_empty() && known.len() < 20 {
        let key = PeerKey::ed25519([input.byte() % 8; 32]);
        let count = input.below(MAX_ADDRS + 1);
        known.push((key, (0..count).map(|_| addr(&mut input)).collect::<Addrs>()));
    }
    fuzzing::exchange(known, &A, &there);
}

fn addr(input: &mut Input<'_>) -> Addr {
    let kind = input.byte();
    let port = u16::from(input.byte());
    let ip: std::net::IpAddr = match kind % 6 {
        0 => [127, 0, 0, kind].into(),
        1 => [10, kind, 0, 1].into(),
        2 => [9, 9, 9, kind].into(),
        3 => input.array::<16>().into(),
        4 => [0xfe80, 0, 0, 0, 0, 0, 0, u16::from(kind)].into(),
        _ => input.array::<4>().into(),
    };
    Addr::tcp((ip, port).into())
}

/// The multiplexer's frames.
pub fn mux(data: &[u8]) {
    let mut input = Input(data);
    let cuts = input.array::<4>();
    peerkeep_channels::fuzzing::mux_frames(input.0, &cuts);
}

/// A certificate from the wire, alone or as a bent copy of a true one.
pub fn certificate(data: &[u8]) {
    let key = fuzzing::certificate(data);
    if let Some(key) = key {
        assert!(data.windows(32).any(|window| window == key.bytes), "the key stands in the certificate");
        assert!(data.len() <= peerkeep_mesh::tls::MAX_CERTIFICATE_BYTES);
    }
}

static TLS: LazyLock<Tls> = LazyLock::new(|| {
    let identity = Identity::from_seed(&[7; 32]).expect("a key");
    Tls::new(&identity).expect("our own key")
});

/// The acceptor's TLS against anything, whole and in pieces: it ends, keeps little, and proves nobody.
pub fn tls(data: &[u8]) {
    let mut input = Input(data);
    let cut = usize::from(input.byte()).max(1);
    let whole = accept(input.0, usize::MAX);
    assert_eq!(whole, accept(input.0, cut), "the pieces do not matter");
}

fn accept(bytes: &[u8], cut: usize) -> Result<(), String> {
    let mut server = rustls::ServerConnection::new(TLS.server()).map_err(|error| error.to_string())?;
    let mut end = Ok(());
    for mut piece in bytes.chunks(cut) {
        while end.is_ok() && !piece.is_empty() {
            match server.read_tls(&mut piece) {
                Ok(0) => break,
                Ok(_) => {
                    if let Err(error) = server.process_new_packets() {
                        end = Err(error.to_string());
                    }
                }
                Err(error) => end = Err(error.to_string()),
            }
        }
    }
    assert!(server.is_handshaking(), "nobody finishes without a proof");
    assert!(peerkeep_mesh::tls::proven(&server).is_err());
    let mut out = Vec::new();
    while server.wants_write() && server.write_tls(&mut out).is_ok_and(|count| count > 0) {}
    assert!(out.len() <= 4_096 + bytes.len(), "{} bytes of answer", out.len());
    end
}
