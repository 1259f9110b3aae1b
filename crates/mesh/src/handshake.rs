//! The greeting in three steps: hello, answer, confirm. Two pure machines, frames in and frames out; TLS has proven
//! both keys before. They check who may talk to whom; whether it is wanted is the core's word, given in between.

use crate::proof::{Claim, Side, network_id};
use crate::reason::{Reason, turn};
use crate::wire::{self, Greeting as Frame, Handshake, emit, printable};
use crate::{MeshConfig, Secret};
use peerkeep_core::{Addr, Addrs, Fault, FaultKind, Greeting, PeerKey, Refusal, Step, Violation};
use peerkeep_net::MeetError;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What all handshakes of one node share.
#[derive(Debug)]
pub struct Local {
    me: PeerKey,
    network: [u8; 32],
    secret: Option<Secret>,
    allow: Option<BTreeSet<PeerKey>>,
    versions: (u32, u32),
    listen: crate::Listen,
    agent: String,
}

/// What two nodes have found out about each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The other's numbers.
    pub greeting: Greeting,
    /// The version both speak.
    pub version: u32,
    /// Both tell of peers.
    pub exchange: bool,
    /// Both take messages.
    pub mail: bool,
    /// The other's program, printable, at most 256 bytes.
    pub agent: String,
    /// The address the other sees us at.
    pub seen: Option<Addr>,
    /// Where the other says it listens.
    pub listen: Addrs,
}

/// How a handshake ended, and what to tell the other side about it before closing.
#[derive(Debug, Clone)]
pub struct Failure {
    /// How, for the core.
    pub error: MeetError,
    /// The frame to send first, if any.
    pub tell: Option<Box<wire::Refusal>>,
}

/// Unknown kinds of frame that are skipped before it is too much (fault F13).
const MAX_SKIPPED: u8 = 4;
/// Bytes of a hello's nonce.
pub const NONCE_BYTES: usize = 16;

impl Local {
    /// From a checked configuration.
    pub fn new(me: PeerKey, config: &MeshConfig) -> Local {
        Local {
            me,
            network: network_id(&config.network),
            secret: config.secret.clone(),
            allow: config.allow.clone(),
            versions: config.versions,
            listen: config.listen.clone(),
            agent: config.agent.clone(),
        }
    }

    fn check_allowed(&self, peer: &PeerKey) -> Result<(), Failure> {
        match &self.allow {
            Some(allow) if !allow.contains(peer) => Err(fail(FaultKind::Identity, Reason::NotAllowed)),
            _ => Ok(()),
        }
    }

    fn capabilities(&self) -> Vec<String> {
        if self.versions.1 < 2 {
            return Vec::new();
        }
        vec![wire::CAP_EXCHANGE.to_owned(), wire::CAP_MAIL.to_owned()]
    }

    fn listen(&self) -> Vec<Vec<u8>> {
        self.listen.current().iter().map(wire::emit_addr).collect()
    }

    /// The highest common version.
    fn common_version(&self, min: u32, max: u32) -> Result<u32, Failure> {
        let version = self.versions.1.min(max);
        if min <= max && version >= self.versions.0 && version >= min {
            return Ok(version);
        }
        let (version_min, version_max) = self.versions;
        let text = format!("no common version: here {version_min} to {version_max}, there {min} to {max}");
        let tell = wire::Refusal { text, version_min, version_max, ..Reason::Version.refusal() };
        Err(Failure { tell: Some(Box::new(tell)), ..fail(FaultKind::Version, Reason::Version) })
    }

    fn claim<'a>(&'a self, side: Side, peer: &'a PeerKey, nonce: &'a [u8]) -> Claim<'a> {
        let (dialler, acceptor) = match side {
            Side::Dialler => (&self.me, peer),
            Side::Acceptor => (peer, &self.me),
        };
        Claim { side, network: &self.network, dialler, acceptor, nonce }
    }

    /// Our proof as `side`.
    fn prove(&self, side: Side, peer: &PeerKey, nonce: &[u8]) -> Vec<u8> {
        self.secret.as_ref().map(|secret| self.claim(side, peer, nonce).prove(secret)).unwrap_or_default()
    }

    /// Checks the peer's proof, it being on `side`.
    fn check_proof(&self, side: Side, peer: &PeerKey, nonce: &[u8], proof: &[u8]) -> Result<(), Failure> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let ours = if side == Side::Dialler { Side::Acceptor } else { Side::Dialler };
        let claim = Claim { side, ..self.claim(ours, peer, nonce) };
        if claim.holds(secret, proof) { Ok(()) } else { Err(fail(FaultKind::Network, Reason::Network)) }
    }
}

/// The side that connected. After `start` it waits for one answer.
#[derive(Debug)]
pub struct Dialler {
    local: Arc<Local>,
    peer: PeerKey,
    nonce: [u8; NONCE_BYTES],
    skipped: u8,
}

impl Dialler {
    /// Checks the peer, who is proven, and appends the hello to `out`. `remote` is the address dialled.
    ///
    /// # Errors
    /// The peer may not join.
    pub fn start(
        local: Arc<Local>,
        peer: PeerKey,
        remote: Addr,
        greeting: &Greeting,
        nonce: [u8; NONCE_BYTES],
        out: &mut Vec<u8>,
    ) -> Result<Dialler, Failure> {
        local.check_allowed(&peer)?;
        let hello = wire::Hello {
            network: local.network.to_vec(),
            proof: local.prove(Side::Dialler, &peer, &nonce),
            nonce: nonce.to_vec(),
            version_min: local.versions.0,
            version_max: local.versions.1,
            capabilities: local.capabilities(),
            listen: local.listen(),
            seen: wire::emit_addr(&remote),
            epoch: greeting.epoch,
            dial: greeting.dial,
            accepted_epoch: greeting.accepted.0,
            accepted_dial: greeting.accepted.1,
            replaces: greeting.replaces,
            agent: local.agent.clone(),
        };
        emit(&Handshake { what: Some(Frame::Hello(hello)) }, out);
        Ok(Dialler { local, peer, nonce, skipped: 0 })
    }

    /// The dialler that sent `hello` before, which is a hello of our own.
    pub fn resume(local: Arc<Local>, peer: PeerKey, hello: &[u8]) -> Option<Dialler> {
        let (frame, _) = wire::parse::<Handshake>(hello, wire::MAX_HANDSHAKE_BYTES).ok()??;
        let Some(Frame::Hello(hello)) = frame.what else { return None };
        Some(Dialler { local, peer, nonce: hello.nonce.try_into().ok()?, skipped: 0 })
    }

    /// Takes a frame; `None` when it was skipped and another is needed.
    ///
    /// # Errors
    /// They refused us, or the answer does not hold.
    pub fn handle(&mut self, frame: Handshake) -> Result<Option<Agreed>, Failure> {
        match frame.what {
            Some(Frame::Answer(answer)) => self.on_answer(answer).map(Some),
            Some(Frame::Refusal(refusal)) => Err(declined(self.peer, refusal)),
            Some(_) => Err(misbehaved(Violation::OutOfOrder)),
            None => skip(&mut self.skipped).map(|()| None),
        }
    }

    /// Appends the confirm. Yamux may follow at once.
    pub fn confirm(out: &mut Vec<u8>) {
        emit(&Handshake { what: Some(Frame::Confirm(wire::Confirm {})) }, out);
    }

    fn on_answer(&self, answer: wire::Answer) -> Result<Agreed, Failure> {
        self.local.check_proof(Side::Acceptor, &self.peer, &self.nonce, &answer.proof)?;
        if answer.version < self.local.versions.0 || answer.version > self.local.versions.1 {
            return Err(fail(FaultKind::Version, Reason::Version));
        }
        let greeting = Greeting {
            epoch: answer.epoch,
            dial: 0,
            accepted: (answer.accepted_epoch, answer.accepted_dial),
            replaces: false,
        };
        let can = |name: &str| can(answer.version, &answer.capabilities, name);
        Ok(Agreed {
            greeting,
            version: answer.version,
            exchange: can(wire::CAP_EXCHANGE),
            mail: can(wire::CAP_MAIL),
            agent: printable(&answer.agent),
            seen: wire::parse_addr(&answer.seen),
            listen: wire::parse_addrs(&answer.listen),
        })
    }
}

/// The side that was connected to. It waits for a hello, then for the core, then for the confirm.
#[derive(Debug)]
pub struct Acceptor {
    local: Arc<Local>,
    peer: PeerKey,
    remote: Addr,
    nonce: Vec<u8>,
    version: u32,
    stage: Stage,
    skipped: u8,
}

/// How far an acceptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Hello,
    Core,
    Confirm,
}

/// What a frame meant to an acceptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A hello that holds; the core's word is next.
    Hello(Box<Agreed>),
    /// The confirm: both sides agree, Yamux follows.
    Confirm,
}

impl Acceptor {
    /// For a proven peer; `remote` is where it connected from.
    pub fn new(local: Arc<Local>, peer: PeerKey, remote: Addr) -> Acceptor {
        Acceptor { local, peer, remote, nonce: Vec::new(), version: 0, stage: Stage::Hello, skipped: 0 }
    }

    /// Takes a frame; `None` when it was skipped and another is needed.
    ///
    /// # Errors
    /// They refused us, may not join, or the frame does not hold or fit.
    pub fn handle(&mut self, frame: Handshake) -> Result<Option<Heard>, Failure> {
        match (self.stage, frame.what) {
            (Stage::Hello, Some(Frame::Hello(hello))) => {
                self.on_hello(hello).map(|agreed| Some(Heard::Hello(Box::new(agreed))))
            }
            (Stage::Confirm, Some(Frame::Confirm(_))) => Ok(Some(Heard::Confirm)),
            (_, Some(Frame::Refusal(refusal))) => Err(declined(self.peer, refusal)),
            (_, None) => skip(&mut self.skipped).map(|()| None),
            _ => Err(misbehaved(Violation::OutOfOrder)),
        }
    }

    /// The core admits: appends the answer to `out`.
    pub fn answer(&mut self, greeting: &Greeting, out: &mut Vec<u8>) {
        let local = &self.local;
        let answer = wire::Answer {
            proof: local.prove(Side::Acceptor, &self.peer, &self.nonce),
            version: self.version,
            capabilities: local.capabilities(),
            listen: local.listen(),
            seen: wire::emit_addr(&self.remote),
            epoch: greeting.epoch,
            accepted_epoch: greeting.accepted.0,
            accepted_dial: greeting.accepted.1,
            agent: local.agent.clone(),
        };
        emit(&Handshake { what: Some(Frame::Answer(answer)) }, out);
        self.stage = Stage::Confirm;
    }

    fn on_hello(&mut self, hello: wire::Hello) -> Result<Agreed, Failure> {
        let local = &self.local;
        if hello.network != local.network {
            return Err(fail(FaultKind::Network, Reason::Network));
        }
        if hello.nonce.len() != NONCE_BYTES || hello.epoch == 0 || hello.dial == 0 {
            return Err(misbehaved(Violation::Malformed));
        }
        local.check_proof(Side::Dialler, &self.peer, &hello.nonce, &hello.proof)?;
        local.check_allowed(&self.peer)?;
        let version = local.common_version(hello.version_min, hello.version_max)?;
        let greeting = Greeting {
            epoch: hello.epoch,
            dial: hello.dial,
            accepted: (hello.accepted_epoch, hello.accepted_dial),
            replaces: hello.replaces,
        };
        let can = |name: &str| can(version, &hello.capabilities, name);
        let agreed = Agreed {
            greeting,
            version,
            exchange: can(wire::CAP_EXCHANGE),
            mail: can(wire::CAP_MAIL),
            agent: printable(&hello.agent),
            seen: wire::parse_addr(&hello.seen),
            listen: wire::parse_addrs(&hello.listen),
        };
        self.nonce = hello.nonce;
        self.version = version;
        self.stage = Stage::Core;
        Ok(agreed)
    }
}

/// Appends the refusal for the core's word to `out`.
pub fn emit_turn(why: &Refusal, retry_after: Duration, out: &mut Vec<u8>) {
    emit_refusal(turn(why, retry_after), out);
}

/// Appends a refusal to `out`.
pub fn emit_refusal(refusal: wire::Refusal, out: &mut Vec<u8>) {
    emit(&Handshake { what: Some(Frame::Refusal(refusal)) }, out);
}

/// A frame that cannot be read is misbehaviour, told as such.
impl From<wire::WireError> for Failure {
    fn from(error: wire::WireError) -> Failure {
        misbehaved(match error {
            wire::WireError::TooLarge => Violation::TooLarge,
            wire::WireError::Malformed => Violation::Malformed,
        })
    }
}

fn can(version: u32, capabilities: &[String], name: &str) -> bool {
    version >= 2 && capabilities.iter().take(wire::MAX_CAPABILITIES).any(|one| one == name)
}

fn fail(kind: FaultKind, reason: Reason) -> Failure {
    let fault = Fault { step: Step::Hello, kind, detail: reason.code() };
    Failure { error: MeetError::Fault(fault), tell: Some(Box::new(reason.refusal())) }
}

fn misbehaved(what: Violation) -> Failure {
    Failure { error: MeetError::Violation(what), tell: Some(Box::new(Reason::Malformed.refusal())) }
}

fn declined(peer: PeerKey, refusal: wire::Refusal) -> Failure {
    let known = Reason::from_code(refusal.reason);
    let reason = if refusal.text.is_empty() { known.text().to_owned() } else { printable(&refusal.text) };
    let error = MeetError::Declined {
        code: refusal.reason,
        key: Some(peer),
        reason,
        retry_after: Duration::from_millis(refusal.retry_after_ms.min(MAX_RETRY_AFTER_MS)),
        newer_epoch: if known == Reason::Stale { refusal.newer_epoch } else { 0 },
    };
    Failure { error, tell: None }
}

/// Nobody keeps us away for longer than a day with one frame.
const MAX_RETRY_AFTER_MS: u64 = 24 * 3600 * 1000;

fn skip(skipped: &mut u8) -> Result<(), Failure> {
    *skipped += 1;
    if *skipped > MAX_SKIPPED { Err(misbehaved(Violation::OutOfOrder)) } else { Ok(()) }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
