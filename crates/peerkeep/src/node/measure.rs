//! The node's figures for monitoring, gathered when somebody asks: the core's counts and stats, net's counters and
//! timings. Nothing is kept here, and a question costs one look at the core.

use super::Node;
use crate::{Metric, MetricKind, MetricValue, Sample};
use peerkeep_core::{Counts, Limits, STACKS, Stats, View};
use peerkeep_net::{BOUNDS_US, Count, Counters, Timing};

/// In the core's order; tests hold them against the words of the status.
const STANDINGS: [&str; 6] = ["idle", "queued", "waiting", "dialing", "connected", "gave_up"];
const STAGES: [&str; 8] =
    ["resolving", "dialing", "arriving", "held", "offered", "up", "refusing", "closing"];
const FAULTS: [&str; 15] = [
    "refused",
    "timeout",
    "reset",
    "closed",
    "unreachable",
    "resources",
    "name",
    "secure",
    "protocol",
    "network",
    "version",
    "identity",
    "declined",
    "panic",
    "os",
];
const VIOLATIONS: [&str; 9] = [
    "malformed",
    "too_large",
    "too_much",
    "out_of_order",
    "bad_proof",
    "lie",
    "wrong_network",
    "banned_agent",
    "stream_abuse",
];
/// What can be ill.
const PARTS: [&str; 4] = ["store", "journal", "listener", "network"];

/// What one look at the core gives.
struct Looked {
    counts: Counts,
    stats: Stats,
    bans: u64,
    dials_last_minute: u64,
    is_draining: bool,
    is_online: bool,
}

impl Node {
    /// Every figure of this node; `None` when it has stopped.
    pub async fn metrics(&self) -> Option<Vec<Metric>> {
        let look = |view: View<'_>, _| Looked {
            counts: view.counts().clone(),
            stats: view.stats(),
            bans: number(view.bans().count()),
            dials_last_minute: number(view.dials_last_minute()),
            is_draining: view.draining().is_some(),
            is_online: view.online(),
        };
        let shared = &self.shared;
        let looked = shared.owner.ask(look).await.ok()?;
        let config = self.settings().core_config(shared.id.key(), 1).ok()?;
        let counters = shared.owner.counters();
        let mut all = now(&looked, &config.limits);
        all.extend(since_start(&looked.stats, counters));
        all.extend(of_net(counters));
        let ill = shared.ailments(looked.is_online);
        let is_ill = |part: &'static str| (part, u64::from(ill.iter().any(|ailment| ailment.part == part)));
        all.extend([
            stages(counters),
            Metric::one(
                "peerkeep_wanted_peers",
                MetricKind::Gauge,
                "Peers to keep connected.",
                number(shared.hub.wanted_count()),
            ),
            Metric::one(
                "peerkeep_events_missed_total",
                MetricKind::Counter,
                "Events that slow readers missed.",
                shared.hub.bell.missed(),
            ),
            Metric::by(
                "peerkeep_ailing",
                MetricKind::Gauge,
                "1 while a part works less than fully.",
                "part",
                PARTS.map(is_ill),
            ),
            Metric::one(
                "peerkeep_start_time_seconds",
                MetricKind::Gauge,
                "When the node started, in seconds since 1970.",
                shared.started_at.unix_seconds(),
            ),
        ]);
        Some(all)
    }
}

fn now(looked: &Looked, limits: &Limits) -> Vec<Metric> {
    use MetricKind::Gauge;
    let counts = &looked.counts;
    let standing = |at: usize| (0..STACKS).map(|stack| u64::from(counts.standing[stack][at])).sum::<u64>();
    let limits = [
        ("total", limits.total),
        ("inbound", limits.inbound),
        ("outbound", limits.outbound),
        ("pending", limits.pending),
        ("per_peer", limits.per_peer),
        ("per_ip", limits.per_ip),
        ("per_subnet", limits.per_subnet),
        ("dial_rate", limits.dials_per_minute),
        ("destination_rate", limits.dials_per_minute_per_ip),
        ("courtesy", limits.courtesy),
        ("contacts", limits.contacts),
        ("bans", limits.bans),
    ];
    let used = [
        ("total", u64::from(counts.total())),
        ("inbound", counts.inbound.into()),
        ("outbound", counts.outbound.into()),
        ("pending", counts.pending.into()),
        ("dial_rate", looked.dials_last_minute),
        ("courtesy", counts.courtesy.into()),
        ("contacts", (0..STANDINGS.len()).map(standing).sum()),
        ("bans", looked.bans),
    ];
    vec![
        Metric::by(
            "peerkeep_peers",
            Gauge,
            "Known peers by where they stand.",
            "standing",
            (0..).zip(STANDINGS).map(|(at, word)| (word, standing(at))),
        ),
        Metric::by(
            "peerkeep_connections",
            Gauge,
            "Connections by how far they are.",
            "stage",
            STAGES.into_iter().zip(counts.stage.map(u64::from)),
        ),
        Metric::by(
            "peerkeep_limit",
            Gauge,
            "The limits in force.",
            "limit",
            limits.map(|(word, limit)| (word, limit.into())),
        ),
        Metric::by("peerkeep_limit_used", Gauge, "How much of a limit is used.", "limit", used),
        Metric::one("peerkeep_draining", Gauge, "1 while the node is going down.", looked.is_draining.into()),
    ]
}

fn since_start(stats: &Stats, counters: &Counters) -> Vec<Metric> {
    let counter = |name, help, value| Metric::one(name, MetricKind::Counter, help, value);
    vec![
        counter("peerkeep_actions_total", "Actions the core took in.", stats.actions),
        counter("peerkeep_dials_total", "Attempts to connect begun.", stats.dials),
        counter("peerkeep_dial_failures_total", "Attempts to connect that failed.", stats.failures),
        counter("peerkeep_connected_total", "Connections agreed.", stats.connected),
        counter("peerkeep_lost_total", "Connections lost or closed.", stats.lost),
        counter("peerkeep_arrivals_total", "Inbound connections judged.", stats.arrivals),
        counter("peerkeep_refused_total", "Inbound connections refused.", stats.refused),
        counter(
            "peerkeep_turned_away_total",
            "Inbound connections dropped unjudged in a flood.",
            counters.turned_away.read(),
        ),
        counter(
            "peerkeep_late_facts_total",
            "News about connections that were over already.",
            stats.late_facts,
        ),
        counter("peerkeep_clock_back_total", "Times the clock was seen to go back.", stats.clock_back),
        counter(
            "peerkeep_contacts_dropped_total",
            "Peers not taken in because too many are known.",
            stats.contacts_dropped,
        ),
    ]
}

/// What net counts.
fn of_net(counters: &Counters) -> Vec<Metric> {
    let counter = |name, help, value| Metric::one(name, MetricKind::Counter, help, value);
    let read = |name, help, count: &Count| counter(name, help, count.read());
    let by = |name, help, label, words: &[&'static str], counts: &[Count]| {
        let rows = words.iter().copied().zip(counts.iter().map(Count::read));
        Metric::by(name, MetricKind::Counter, help, label, rows)
    };
    vec![
        read(
            "peerkeep_addresses_missed_total",
            "Connects that failed, one for each address.",
            &counters.missed,
        ),
        read(
            "peerkeep_aborted_arrivals_total",
            "Inbound connections that ended before they were accepted.",
            &counters.aborted_arrivals,
        ),
        read(
            "peerkeep_accept_pauses_total",
            "Times accepting paused for want of descriptors or memory.",
            &counters.accept_pauses,
        ),
        by(
            "peerkeep_handshake_faults_total",
            "Handshakes that the world ended.",
            "kind",
            &FAULTS,
            &counters.handshake_faults,
        ),
        by(
            "peerkeep_handshake_violations_total",
            "Handshakes that misbehaviour ended.",
            "kind",
            &VIOLATIONS,
            &counters.handshake_violations,
        ),
        read(
            "peerkeep_unclean_closes_total",
            "Connections that failed while they were closed.",
            &counters.unclean_closes,
        ),
        read("peerkeep_panics_total", "Tasks of this program that panicked.", &counters.panics),
        read("peerkeep_journal_gaps_total", "Gaps in the journal.", &counters.journal_gaps),
        read("peerkeep_journal_written_bytes_total", "Bytes handed to the journal.", &counters.journal_bytes),
        read("peerkeep_busy_total", "Requests refused because too many waited.", &counters.busy),
    ]
}

fn stages(counters: &Counters) -> Metric {
    let stages = &counters.stages;
    let sample = |(word, timing): (&'static str, &Timing)| {
        let (counts, sum_us) = timing.read();
        let mut count = 0;
        let cumulated = counts.map(|bucket| {
            count += bucket;
            count
        });
        let buckets = BOUNDS_US.iter().map(|bound| seconds(*bound)).zip(cumulated).collect();
        let value = MetricValue::Spans { buckets, count, sum: seconds(sum_us) };
        Sample { label: Some(("stage", word)), value }
    };
    let all = [
        ("resolve", &stages.resolve),
        ("connect", &stages.connect),
        ("secure", &stages.secure),
        ("hello", &stages.hello),
    ];
    Metric {
        name: "peerkeep_stage_seconds",
        help: "How long the stages of setting a connection up took.",
        kind: MetricKind::Histogram,
        samples: all.into_iter().map(sample).collect(),
    }
}

fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Misbehaviour, Node, Settings};

    #[test]
    fn fault_r6_labels_are_the_words_of_the_status_and_no_others() {
        let word = |value: &dyn erased::Word| value.word();
        assert_eq!(ErrorKind::ALL.iter().map(|kind| word(kind)).collect::<Vec<_>>(), FAULTS);
        assert_eq!(Misbehaviour::ALL.iter().map(|kind| word(kind)).collect::<Vec<_>>(), VIOLATIONS);
        assert_eq!(FAULTS.len(), peerkeep_net::FAULT_KINDS);
        assert_eq!(VIOLATIONS.len(), peerkeep_net::VIOLATIONS);
    }

    #[tokio::test]
    async fn a_node_tells_its_figures_with_a_sample_for_every_word() {
        let mut settings = Settings::default();
        settings.listen.addresses.clear();
        let node = Node::builder().config(settings).start().await.expect("the node starts");
        let all = node.metrics().await.expect("it runs");
        let find = |name| all.iter().find(|metric| metric.name == name).expect("it is there");
        assert_eq!(find("peerkeep_stage_seconds").samples.len(), 4);
        assert_eq!(find("peerkeep_peers").samples.len(), 6);
        assert_eq!(find("peerkeep_connections").samples.len(), 8);
        let total = &find("peerkeep_limit").samples[0];
        assert_eq!((total.label, &total.value), (Some(("limit", "total")), &MetricValue::Number(500)));
        for metric in &all {
            assert_eq!(
                metric.kind == MetricKind::Counter,
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
        }
        node.shutdown().await;
        assert!(node.metrics().await.is_none());
    }

    mod erased {
        pub trait Word {
            fn word(&self) -> String;
        }
        impl<T: serde::Serialize> Word for T {
            fn word(&self) -> String {
                serde_json::to_string(self).expect("a word").trim_matches('"').to_owned()
            }
        }
    }
}
