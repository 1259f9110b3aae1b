//! How good a connection is: three measures, each on a curve from 0 to 1,000, their mean, and the grade of that. Whole
//! numbers only, so there is nothing that is not a number; what was not measured is `None`. What follows from a grade
//! is decided in `upkeep.rs`.

use crate::{Report, Time};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// Document 001's five words for a connection's health, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Grade {
    /// Below 200.
    Critical,
    /// From 200.
    Poor,
    /// From 400.
    Fair,
    /// From 600.
    Good,
    /// From 800.
    Excellent,
}

impl Grade {
    /// The grade of a score from 0 to 1,000.
    pub const fn of(score: u16) -> Grade {
        match score {
            800.. => Grade::Excellent,
            600.. => Grade::Good,
            400.. => Grade::Fair,
            200.. => Grade::Poor,
            _ => Grade::Critical,
        }
    }
}

/// The three measures of a connection as scores from 0 to 1,000; `None` while there are no samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Scores {
    /// Of the smoothed round trip.
    pub latency: Option<u16>,
    /// Of the share of questions that were answered in time.
    pub reliability: Option<u16>,
    /// Of the rate at which bytes left while the link was the bottleneck.
    pub bandwidth: Option<u16>,
}

/// A part below this makes a connection poor at best, however good the other parts are.
pub(crate) const BAD_PART: u16 = 250;

impl Scores {
    fn parts(&self) -> impl Iterator<Item = u16> {
        [self.latency, self.reliability, self.bandwidth].into_iter().flatten()
    }

    /// The mean of what is known; `None` when nothing is.
    pub fn mean(&self) -> Option<u16> {
        let (sum, count) = self.parts().fold((0_u32, 0_u32), |(sum, n), part| (sum + u32::from(part), n + 1));
        u16::try_from(sum.checked_div(count)?).ok()
    }

    /// The grade of the mean.
    pub fn grade(&self) -> Option<Grade> {
        self.mean().map(Grade::of)
    }

    /// The lowest part.
    pub fn worst(&self) -> Option<u16> {
        self.parts().min()
    }

    /// The grade to act by. Three parts share the mean, so one that is useless would hide behind two that are
    /// perfect: a part below 250 counts as poor by itself.
    pub fn concern(&self) -> Option<Grade> {
        let grade = self.grade()?;
        // One measure alone condemns nobody.
        let grade = if self.parts().count() == 1 { grade.max(Grade::Poor) } else { grade };
        Some(if self.worst()? < BAD_PART { grade.min(Grade::Poor) } else { grade })
    }
}

/// Scores a round trip in microseconds: lower is better.
///
/// 20 ms is what a town apart costs, and nobody feels it; 100 ms is felt as "at once"; 200 ms is document 004's line
/// for degraded; 300 ms is twice the one-way delay up to which a conversation works (ITU-T G.114); nobody uses a
/// second willingly.
pub const fn score_latency(rtt_us: u32) -> u16 {
    falling(rtt_us, &[(20_000, 1_000), (100_000, 800), (200_000, 400), (300_000, 200), (1_000_000, 0)])
}

/// Scores the share of questions answered in time, per mille: higher is better.
///
/// Every transport here repeats what is lost, so an answer that is late means seconds of silence: one in a hundred is
/// noticed, one in twenty is a nuisance, one in five makes work impossible, every second one is no connection.
pub const fn score_reliability(success_per_mille: u16) -> u16 {
    let points = [(500, 0), (800, 200), (900, 400), (950, 600), (990, 900), (1_000, 1_000)];
    rising(success_per_mille as u32, &points)
}

/// Scores a rate in kbit/s: higher is better.
///
/// Measured by our longest message (256 KiB by default): at 64 kbit/s it takes half a minute, longer than a peer is
/// given to answer; at 1 Mbit/s two seconds, at 10 Mbit/s a fifth of one; from 100 Mbit/s on the link is not what
/// applications wait for.
pub const fn score_bandwidth(kbps: u32) -> u16 {
    rising(kbps, &[(64, 0), (256, 200), (1_000, 400), (3_000, 600), (10_000, 800), (100_000, 1_000)])
}

/// A line through points of rising `x` and falling score.
const fn falling(x: u32, points: &[(u32, u16)]) -> u16 {
    let mut at = 0;
    while at < points.len() {
        let (right, low) = points[at];
        if x <= right {
            if at == 0 {
                return low;
            }
            let (left, high) = points[at - 1];
            return high - share(x - left, right - left, high - low);
        }
        at += 1;
    }
    points[points.len() - 1].1
}

/// The same for rising scores.
const fn rising(x: u32, points: &[(u32, u16)]) -> u16 {
    let mut at = 0;
    while at < points.len() {
        let (right, high) = points[at];
        if x <= right {
            if at == 0 {
                return high;
            }
            let (left, low) = points[at - 1];
            return low + share(x - left, right - left, high - low);
        }
        at += 1;
    }
    points[points.len() - 1].1
}

/// `part / whole` of `span`, rounded down: at most `span`, which is at most 1,000.
const fn share(part: u32, whole: u32, span: u16) -> u16 {
    (part as u64 * span as u64 / whole as u64) as u16
}

/// A rate measured longer ago than this says nothing about today.
const RATE_FRESH: Duration = Duration::from_secs(600);

/// What a conn remembers to judge its health by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Health {
    /// When it is next looked at; never, before the first sample.
    pub due: Time,
    /// Smoothed share of answered questions, per mille.
    pub success: Option<u16>,
    /// The link's counters when they were last looked at.
    asked: u16,
    failed: u16,
    rate_at: Time,
    /// The round trip at the last look.
    pub rtt_seen: u32,
    /// Looks in a row that found it bad, and good.
    pub low: u8,
    pub high: u8,
    /// Looks so far.
    pub looks: u8,
    pub degraded: bool,
    /// The score of the connection whose place it took, until it is compared.
    pub took_over: Option<u16>,
    /// No replacement before this.
    pub calm_until: Time,
    /// Replacements in a row that were no better.
    pub vain: u8,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            due: Time::NEVER,
            success: None,
            asked: 0,
            failed: 0,
            rate_at: Time::ZERO,
            rtt_seen: 0,
            low: 0,
            high: 0,
            looks: 0,
            degraded: false,
            took_over: None,
            calm_until: Time::ZERO,
            vain: 0,
        }
    }
}

impl Health {
    /// One question of ours was answered, or not, within its time. The first counts whole, later ones a sixteenth.
    pub fn note(&mut self, answered: bool) {
        let fresh = if answered { 1_000 } else { 0 };
        self.success = Some(self.success.map_or(fresh, |old| (old * 15 + fresh).div_ceil(16)));
    }

    /// Takes in what the link counted since the last report; a burst counts as at most 16.
    pub fn absorb(&mut self, report: &Report, before: &Report, now: Time) {
        let failed = report.failed.wrapping_sub(self.failed).min(16);
        let asked = report.asked.wrapping_sub(self.asked).min(16);
        (self.asked, self.failed) = (report.asked, report.failed);
        (0..asked.saturating_sub(failed)).for_each(|_| self.note(true));
        (0..failed).for_each(|_| self.note(false));
        if report.rate_kbps != before.rate_kbps {
            self.rate_at = now;
        }
    }

    /// As others see it.
    pub fn view(&self, report: &Report, now: Time) -> HealthView {
        let Health { success, degraded, calm_until, due, .. } = *self;
        HealthView { scores: self.scores(report, now), success, degraded, calm_until, due }
    }

    /// The scores now.
    pub fn scores(&self, report: &Report, now: Time) -> Scores {
        let fresh = report.rate_kbps > 0 && now - self.rate_at <= RATE_FRESH;
        Scores {
            latency: (report.rtt_us > 0).then(|| score_latency(report.rtt_us)),
            reliability: self.success.map(score_reliability),
            bandwidth: fresh.then(|| score_bandwidth(report.rate_kbps)),
        }
    }
}

/// A connection's health as others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HealthView {
    /// The parts.
    pub scores: Scores,
    /// Share of answered questions, per mille.
    pub success: Option<u16>,
    /// Whether it is worse than it should be: entered and left with hysteresis.
    pub degraded: bool,
    /// Not replaced before this.
    pub calm_until: Time,
    /// When it is next looked at.
    pub due: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S1.50, S1.51, S1.52: over the whole range, in steps and around every bend.
    #[test]
    fn s1_50_to_s1_52_curves_are_monotone_and_within_a_thousand() {
        let mut last = (1_000, 0, 0);
        for x in (0..2_000_000_u32).chain([u32::MAX]) {
            let success = u16::try_from(x.min(1_000)).expect("small");
            let now = (score_latency(x), score_reliability(success), score_bandwidth(x));
            assert!(now.0 <= last.0 && now.1 >= last.1 && now.2 >= last.2, "{x}: {last:?} {now:?}");
            assert!(now.0 <= 1_000 && now.1 <= 1_000 && now.2 <= 1_000);
            last = now;
        }
        assert_eq!((score_latency(0), score_latency(u32::MAX)), (1_000, 0));
        assert_eq!(
            (score_reliability(0), score_reliability(1_000), score_reliability(u16::MAX)),
            (0, 1_000, 1_000)
        );
        assert_eq!((score_bandwidth(0), score_bandwidth(u32::MAX)), (0, 1_000));
        assert_eq!([50_000, 200_000, 275_000].map(score_latency), [925, 400, 250]);
    }

    #[test]
    fn s1_45_to_s1_49_the_boundaries_of_the_grades() {
        use Grade::*;
        let grades = [(1_000, Excellent), (800, Excellent), (799, Good), (600, Good), (599, Fair)];
        let more = [(400, Fair), (399, Poor), (200, Poor), (199, Critical), (0, Critical)];
        for (score, grade) in grades.into_iter().chain(more) {
            assert_eq!(Grade::of(score), grade, "{score}");
        }
        assert_eq!(Scores::default().grade(), None, "without samples it is unknown");
    }

    #[test]
    fn s1_43_health_is_the_mean_of_what_is_known() {
        let scores = |l, r, b| Scores { latency: l, reliability: r, bandwidth: b };
        assert_eq!(scores(Some(900), Some(600), Some(300)).mean(), Some(600));
        assert_eq!(scores(Some(900), None, Some(300)).mean(), Some(600));
        assert_eq!(scores(None, Some(1), None).mean(), Some(1));
        assert_eq!(scores(Some(1_000), Some(1_000), Some(1_000)).mean(), Some(1_000));
    }

    /// S1.54: in the mean, and as a reason to act.
    #[test]
    fn s1_54_each_part_alone_lowers_health_and_is_a_concern() {
        for bad in 0..3 {
            let part = |at| Some(if at == bad { 0 } else { 1_000 });
            let scores = Scores { latency: part(0), reliability: part(1), bandwidth: part(2) };
            assert_eq!((scores.mean(), scores.concern()), (Some(666), Some(Grade::Poor)));
        }
    }

    #[test]
    fn the_share_of_answers_is_smoothed_and_recovers_fully() {
        let mut health = Health::default();
        assert_eq!(health.success, None);
        health.note(true);
        assert_eq!(health.success, Some(1_000));
        health.note(false);
        assert_eq!(health.success, Some(938));
        (0..200).for_each(|_| health.note(true));
        assert_eq!(health.success, Some(1_000));
        (0..200).for_each(|_| health.note(false));
        assert!(health.success.is_some_and(|success| success <= 15), "{:?}", health.success);
    }

    #[test]
    fn a_rate_grows_old() {
        let (mut health, before) = (Health::default(), Report::default());
        let report = Report { rate_kbps: 10_000, ..before };
        health.absorb(&report, &before, Time::from_millis(1_000));
        assert_eq!(health.scores(&report, Time::from_millis(2_000)).bandwidth, Some(800));
        health.absorb(&report, &report, Time::from_millis(900_000));
        assert_eq!(health.scores(&report, Time::from_millis(900_000)).bandwidth, None);
    }
}
