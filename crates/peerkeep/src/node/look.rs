//! From the core's views to what users read. Pure: views, a moment and what the library knows go in, status values come
//! out. Decides nothing.

use super::hub::Extra;
use crate::why::{clause, remedy};
use crate::{
    AddressStatus, BanReason, BanStatus, BanTarget, ConnStatus, ConnectionState, Direction, ErrorStatus,
    Facets, FourState, HealthStatus, PeerAddress, PeerId, PeerStatus, PendingStatus, Reason, Stage, Standing,
    States, Timestamp, Why, multiaddr_of, print_target,
};
use multiaddr::Multiaddr;
use peerkeep_core as core;
use peerkeep_core::{Ban, ConnView, ContactView, Fault, FaultKind, Refusal, Time};
use peerkeep_mesh::tls::Detail;
use std::time::Duration;

impl From<core::Standing> for Standing {
    fn from(standing: core::Standing) -> Standing {
        match standing {
            core::Standing::Idle => Standing::Idle,
            core::Standing::Queued(_) => Standing::Queued,
            core::Standing::Waiting => Standing::Waiting,
            core::Standing::Dialing => Standing::Dialing,
            core::Standing::Connected => Standing::Connected,
            core::Standing::GaveUp => Standing::GaveUp,
        }
    }
}

impl From<core::Stage> for Stage {
    fn from(stage: core::Stage) -> Stage {
        match stage {
            core::Stage::Resolving => Stage::Resolving,
            core::Stage::Dialing => Stage::Dialing,
            core::Stage::Arriving => Stage::Arriving,
            core::Stage::Held => Stage::Held,
            core::Stage::Offered => Stage::Offered,
            core::Stage::Up => Stage::Up,
            core::Stage::Refusing => Stage::Refusing,
            core::Stage::Closing => Stage::Closing,
        }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Reason {
        match refusal {
            Refusal::Myself => Reason::Myself,
            Refusal::Unknown => Reason::Unknown,
            Refusal::Banned { .. } => Reason::Banned,
            Refusal::Draining => Reason::Draining,
            Refusal::GaveUp => Reason::GaveUp,
            Refusal::NoAddress => Reason::NoAddress,
            Refusal::Unwanted => Reason::Unwanted,
            Refusal::NotNow => Reason::NotNow,
            Refusal::AlreadyConnected => Reason::AlreadyConnected,
            Refusal::TheirTurn { .. } => Reason::TheirTurn,
            Refusal::Backoff { .. } => Reason::Backoff,
            Refusal::Offline => Reason::Offline,
            Refusal::Full(limit) => Reason::Full { limit: limit.into() },
            Refusal::BadTarget => Reason::BadTarget,
            Refusal::BadConfig => Reason::BadConfig,
            Refusal::Stale { .. } => Reason::Stale,
        }
    }
}

/// The wall clock beside the core's, taken at one moment.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub now: Time,
    pub wall: Timestamp,
}

impl Moment {
    pub fn new(now: Time) -> Moment {
        Moment { now, wall: Timestamp::now() }
    }

    /// The wall clock's reading at a time of the core's.
    pub fn wall_of(&self, time: Time) -> Timestamp {
        if time >= self.now {
            self.wall.after(time.since(self.now))
        } else {
            self.wall.before(self.now.since(time))
        }
    }
}

/// One peer, as it was copied out of the core.
#[derive(Clone)]
pub(super) struct Seen {
    pub contact: ContactView,
    pub conn: Option<ConnView>,
}

impl Seen {
    pub fn new(view: core::View<'_>, contact: ContactView) -> Seen {
        Seen { conn: contact.conn.and_then(|conn| view.conn(conn)), contact }
    }
}

/// What the library adds.
pub(super) struct Beside {
    pub extra: Extra,
    pub names: Vec<PeerAddress>,
    /// What was agreed on the connection, while it is up.
    pub agreed: Option<Agreed>,
}

/// What both sides of a connection agreed on, or learnt of each other, whichever wire it is on.
pub(super) struct Agreed {
    pub secure: bool,
    pub version: Option<u32>,
    pub capabilities: Vec<String>,
    pub seen: Option<core::Addr>,
    pub agent: String,
}

impl From<&peerkeep_mesh::Info> for Agreed {
    fn from(info: &peerkeep_mesh::Info) -> Agreed {
        Agreed {
            secure: info.secure,
            version: Some(info.version),
            capabilities: info.capabilities().map(str::to_owned).collect(),
            seen: info.seen,
            agent: info.agent.to_string(),
        }
    }
}

impl From<&peerkeep_libp2p::Info> for Agreed {
    fn from(info: &peerkeep_libp2p::Info) -> Agreed {
        let agent = info.agent.to_string();
        Agreed { secure: true, version: None, capabilities: Vec::new(), seen: info.seen, agent }
    }
}

/// All about one peer.
pub(super) fn peer(seen: &Seen, beside: Beside, at: Moment) -> PeerStatus {
    let Seen { contact, conn } = seen;
    let mut addresses: Vec<AddressStatus> = contact
        .addrs
        .iter()
        .map(|known| AddressStatus {
            address: multiaddr_of(&known.addr).to_string(),
            source: known.source.into(),
        })
        .collect();
    for name in beside.names {
        let bare = PeerAddress { id: None, stack: None, ..name };
        addresses.push(AddressStatus { address: bare.to_string(), source: crate::AddressSource::Named });
    }
    let up_at = conn.as_ref().filter(|conn| conn.stage == core::Stage::Up).and_then(|conn| conn.up_at);
    let states = states(seen, at, addresses.first().map(|first| first.address.as_str()));
    PeerStatus {
        id: PeerId(contact.who.key),
        stacks: vec![contact.who.stack.into()],
        standing: contact.standing.into(),
        since: Some(at.wall_of(contact.since)),
        wanted: contact.wanted,
        held: contact.held,
        banned: contact.banned_until.is_some_and(|until| until > at.now),
        trusted_on_first_use: beside.extra.first_use,
        addresses,
        link: conn.as_ref().map(|conn| link(conn, beside.agreed.as_ref(), at)),
        age_seconds: up_at.map(|up| at.now.since(up).as_secs()),
        attempts: attempts(contact),
        max_attempts: max_attempts(contact),
        next_retry_in_ms: contact.retry_at.map(|due| millis(due.since(at.now))),
        last_error: contact.last_fault.map(error),
        last_close: contact.last_close.map(Into::into),
        agent: beside.agreed.map(|agreed| agreed.agent),
        states,
    }
}

fn link(conn: &ConnView, agreed: Option<&Agreed>, at: Moment) -> ConnStatus {
    let up = conn.stage == core::Stage::Up;
    let ago = |time: Time| up.then(|| millis(at.now.since(time)));
    ConnStatus {
        conn: conn.conn.to_string(),
        stage: conn.stage.into(),
        direction: direction(Some(conn)),
        began_at: at.wall_of(conn.began),
        connected_at: conn.up_at.map(|up| at.wall_of(up)),
        remote: Some(conn.remote.socket().to_string()),
        transport: Some(transport(&conn.remote).to_owned()),
        secure: agreed.map(|agreed| agreed.secure),
        version: agreed.and_then(|agreed| agreed.version),
        capabilities: agreed.map(|agreed| agreed.capabilities.clone()).unwrap_or_default(),
        local: agreed.and_then(|agreed| agreed.seen).map(|local| local.socket().to_string()),
        rtt_ms: rtt_ms(conn),
        channels: conn.report.channels.into(),
        last_received_ms_ago: ago(conn.report.received_at),
        last_used_ms_ago: ago(conn.report.used_at),
        last_sent_ms_ago: ago(conn.report.sent_at),
        health: up.then(|| health(conn, at)),
    }
}

/// A connection that is not up yet; `key` is what is known of the other end.
pub(super) fn pending(conn: &ConnView, key: Option<core::PeerKey>, at: Moment) -> PendingStatus {
    PendingStatus { peer: key.filter(core::PeerKey::is_identity).map(PeerId), conn: link(conn, None, at) }
}

fn health(conn: &ConnView, at: Moment) -> HealthStatus {
    let core::HealthView { scores, success, degraded, calm_until, .. } = conn.health;
    let calm = calm_until.since(at.now);
    HealthStatus {
        grade: scores.grade().map(Into::into),
        score: scores.mean(),
        latency: scores.latency,
        reliability: scores.reliability,
        bandwidth: scores.bandwidth,
        success_per_mille: success,
        bandwidth_kbps: scores.bandwidth.map(|_| conn.report.rate_kbps),
        degraded,
        calm_for_ms: (!calm.is_zero()).then(|| millis(calm)),
    }
}

/// What a connection's health is made of, as a line of the log.
pub(super) fn measures(conn: Option<&ConnView>) -> String {
    let Some(conn) = conn else { return String::new() };
    let (report, mut parts) = (&conn.report, Vec::new());
    if report.rtt_us > 0 {
        parts.push(format!("round trip {} ms", report.rtt_us / 1_000));
    }
    if let Some(success) = conn.health.success {
        parts.push(format!("{} % answered", success / 10));
    }
    if conn.health.scores.bandwidth.is_some() {
        parts.push(format!("{} kbit/s", report.rate_kbps));
    }
    parts.join(", ")
}

fn transport(remote: &core::Addr) -> &'static str {
    match remote.kind {
        core::AddrKind::Tcp => "tcp",
        core::AddrKind::Quic => "quic",
        core::AddrKind::Udp => "udp",
    }
}

fn rtt_ms(conn: &ConnView) -> Option<f64> {
    (conn.report.rtt_us > 0).then(|| f64::from(conn.report.rtt_us) / 1_000.0)
}

/// Attempts used, the one under way included.
fn attempts(contact: &ContactView) -> u32 {
    u32::from(contact.failures) + u32::from(contact.standing == core::Standing::Dialing)
}

/// A wanted peer is never given up.
pub(super) fn max_attempts(contact: &ContactView) -> u32 {
    if contact.wanted { 0 } else { contact.max_attempts.into() }
}

pub(super) fn direction(conn: Option<&ConnView>) -> Direction {
    match conn.map(|conn| conn.direction) {
        Some(core::Direction::Inbound) => Direction::Inbound,
        Some(core::Direction::Outbound) | None => Direction::Outbound,
    }
}

/// The same in the documents' words.
fn states(seen: &Seen, at: Moment, first: Option<&str>) -> States {
    let Seen { contact, conn } = seen;
    let facets = Facets {
        standing: contact.standing.into(),
        stage: conn.as_ref().map(|conn| conn.stage.into()),
        failed: contact.last_fault.is_some() && contact.failures > 0,
        degraded: conn.as_ref().is_some_and(|conn| conn.health.degraded),
        closing: conn.as_ref().and_then(|conn| conn.why).map(Into::into),
        rtt_ms: conn.as_ref().and_then(rtt_ms),
    };
    let address = || -> Multiaddr {
        let met = conn.as_ref().map(|conn| multiaddr_of(&conn.remote));
        met.or_else(|| first?.parse().ok()).unwrap_or_else(Multiaddr::empty)
    };
    let peer_id = PeerId(contact.who.key);
    let connection = match facets.four() {
        FourState::Disconnected => ConnectionState::Disconnected,
        FourState::Connecting => ConnectionState::Connecting {
            time: at.wall_of(conn.as_ref().map_or(contact.since, |conn| conn.began)),
            peer_id,
            address: address(),
            attempts: u32::from(contact.failures) + 1,
            max_attempts: max_attempts(contact),
        },
        FourState::Connected => ConnectionState::Connected {
            time: at.wall_of(conn.as_ref().and_then(|conn| conn.up_at).unwrap_or(contact.since)),
            peer_id,
            address: address(),
        },
        FourState::ConnectionFailed => ConnectionState::ConnectionFailed {
            time: at.wall_of(contact.since),
            peer_id,
            address: address(),
            error: error_text(contact).unwrap_or_default(),
            attempts: contact.failures.into(),
            max_attempts: max_attempts(contact),
        },
    };
    States { connection, link: facets.link(), actor: facets.six(), lan: facets.three() }
}

/// A fault as it is shown. The number says more only where the kind has no words of its own: the operating system's
/// rarer errors, and why the other side refused us.
pub(super) fn error(fault: Fault) -> ErrorStatus {
    let kind = crate::ErrorKind::from(fault.kind);
    let step = crate::StepName::from(fault.step);
    let what = match (fault.kind, i32::try_from(fault.detail)) {
        (FaultKind::Os, Ok(number)) if number > 0 => std::io::Error::from_raw_os_error(number).to_string(),
        (FaultKind::Declined, _) => match peerkeep_mesh::Reason::from_code(fault.detail) {
            peerkeep_mesh::Reason::Unsaid => format!("{} and did not say why", kind.text()),
            reason => format!("{}: {}", kind.text(), reason.text()),
        },
        (FaultKind::Secure, Ok(detail)) if detail == Detail::Exposed as i32 => {
            "TLS is switched off here, for loopback alone".to_owned()
        }
        (FaultKind::Protocol, Ok(detail)) if detail == Detail::NotPlain as i32 => {
            "TLS is switched off here, and they speak something else".to_owned()
        }
        _ => kind.text().to_owned(),
    };
    ErrorStatus { kind, step, detail: fault.detail, text: format!("{}: {what}", step.text()) }
}

/// What failed when a connection was lost, if something did. Its row may be gone by then.
pub(super) fn loss(
    conn: Option<&ConnView>,
    contact: &ContactView,
    reason: crate::CloseReason,
) -> Option<Fault> {
    let failed = matches!(reason, crate::CloseReason::Dead);
    let noted = contact.last_fault.filter(|fault| failed && fault.step == core::Step::Live);
    conn.and_then(|conn| conn.fault).or(noted)
}

/// How long nothing came over a connection that was lost for its silence. Where the transport gave it up, its row is
/// gone by then.
pub(super) fn silence(
    conn: Option<&ConnView>,
    contact: &ContactView,
    reason: crate::CloseReason,
    now: Time,
) -> Option<String> {
    if reason != crate::CloseReason::Dead {
        return None;
    }
    let timeout = |fault: &Fault| fault.kind == FaultKind::Timeout;
    match conn {
        Some(conn) => Some(rounded(now.since(conn.report.received_at))),
        None => loss(None, contact, reason).filter(timeout).map(|_| "as long as the transport waits".into()),
    }
}

pub(super) fn error_text(contact: &ContactView) -> Option<String> {
    contact.last_fault.map(|fault| error(fault).text)
}

/// Why a peer is, or is not, connected.
pub(super) fn why(seen: &Seen, why: core::Why, at: Moment) -> Why {
    let contact = &seen.contact;
    let (reason, until) = match why {
        core::Why::Connected { .. } => (Reason::Connected, None),
        core::Why::OnItsWay { .. } => (Reason::InProgress, None),
        core::Why::Due => (Reason::Due, None),
        core::Why::Refused(refusal) => (Reason::from(refusal), until(refusal)),
    };
    let until = until.filter(|until| *until != Time::NEVER);
    let left = until.map(|until| until.since(at.now));
    Why {
        id: PeerId(contact.who.key),
        standing: contact.standing.into(),
        summary: summary(seen, why, &reason, left, at),
        reason,
        until: until.map(|until| at.wall_of(until)),
        until_in_ms: left.map(millis),
        remedy: remedy(&reason).to_owned(),
        last_error: contact.last_fault.map(error),
    }
}

fn until(refusal: Refusal) -> Option<Time> {
    match refusal {
        Refusal::Banned { until } | Refusal::TheirTurn { until } | Refusal::Backoff { until } => Some(until),
        _ => None,
    }
}

fn summary(seen: &Seen, why: core::Why, reason: &Reason, left: Option<Duration>, at: Moment) -> String {
    let contact = &seen.contact;
    match (why, &seen.conn) {
        (core::Why::Connected { .. }, Some(conn)) => {
            let age = conn.up_at.map_or(Duration::ZERO, |up| at.now.since(up));
            let who = match conn.direction {
                core::Direction::Inbound => "they connected from",
                core::Direction::Outbound => "we connected to",
            };
            let over = if conn.remote.kind == core::AddrKind::Quic { " over QUIC" } else { "" };
            let mut text = format!("Connected for {}: {who} {}{over}", rounded(age), conn.remote.socket());
            if conn.health.degraded {
                let grade = conn.health.scores.grade().map(crate::ConnectionHealth::from);
                let word = grade.map_or("unknown", crate::ConnectionHealth::text);
                text.push_str(&format!("; the connection is degraded ({word}: {})", measures(Some(conn))));
            }
            text.push('.');
            text
        }
        (core::Why::OnItsWay { stage, .. }, _) => {
            let doing = match stage {
                core::Stage::Resolving => "its name is being looked up",
                core::Stage::Dialing => "we are connecting",
                core::Stage::Arriving => "it is connecting to us",
                core::Stage::Held => "its connection is held while our own dial is pending",
                core::Stage::Offered => "the last step of the greeting is awaited",
                core::Stage::Up => "it is connected",
                core::Stage::Refusing => "it is being told why it is refused",
                core::Stage::Closing => "the connection is being closed",
            };
            format!("Not connected yet: {doing}.")
        }
        _ => {
            let mut text = format!("Not connected: {}", clause(reason));
            if let Some(left) = left {
                text.push_str(&format!(", for another {}", rounded(left)));
            }
            if let (Reason::Backoff | Reason::GaveUp, Some(error)) = (reason, error_text(contact)) {
                // During the first minute after a loss attempts are not counted.
                let which = match contact.failures {
                    0 => "the last attempt".to_owned(),
                    number => format!("attempt {number}"),
                };
                text.push_str(&format!("; {which} failed while {error}"));
            }
            text.push('.');
            text
        }
    }
}

/// A duration for people: whole seconds, or milliseconds below one.
pub(super) fn rounded(span: Duration) -> String {
    let exact = if span >= Duration::from_secs(1) {
        Duration::from_secs(span.as_secs())
    } else {
        Duration::from_millis(millis(span))
    };
    humantime::format_duration(exact).to_string()
}

/// For how long a ban was set.
pub(super) fn ban_span(span: Option<Duration>) -> String {
    span.map_or_else(|| "until lifted".to_owned(), rounded)
}

/// A ban in force.
pub(super) fn ban(ban: &Ban, reason: Option<BanReason>, at: Moment) -> BanStatus {
    let left = (ban.until != Time::NEVER).then(|| ban.until.since(at.now));
    BanStatus {
        target: BanTarget(print_target(&ban.target)),
        until: left.map(|left| at.wall.after(left)),
        remaining_seconds: left
            .map(|left| left.as_millis().div_ceil(1_000))
            .map(|s| u64::try_from(s).unwrap_or(u64::MAX)),
        reason: reason.unwrap_or(BanReason::Misbehaviour),
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerkeep_core::Step;

    fn text(step: Step, kind: FaultKind, detail: u32) -> String {
        error(Fault { step, kind, detail }).text
    }

    #[test]
    fn an_error_is_said_once() {
        assert_eq!(
            text(Step::Connect, FaultKind::Refused, 111),
            "opening the connection: nobody listens there (connection refused)"
        );
        let odd = text(Step::Connect, FaultKind::Os, 71);
        assert_eq!(odd, "opening the connection: Protocol error (os error 71)");
    }

    #[test]
    fn a_refusal_says_their_reason() {
        let code = peerkeep_mesh::Reason::Full.code();
        assert_eq!(
            text(Step::Hello, FaultKind::Declined, code),
            "greeting: the other side refused us: no room for another connection"
        );
        for unsaid in [0, 4_000_000_000] {
            let text = text(Step::Hello, FaultKind::Declined, unsaid);
            assert_eq!(text, "greeting: the other side refused us and did not say why");
        }
    }

    #[test]
    fn spans_are_written_for_people() {
        assert_eq!(ban_span(Some(Duration::from_millis(3_600_400))), "1h");
        assert_eq!(ban_span(None), "until lifted");
        assert_eq!(rounded(Duration::from_micros(1_900)), "1ms");
    }
}
