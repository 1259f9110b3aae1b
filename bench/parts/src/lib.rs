//! What several measuring programs share: child processes that are told what to do by lines, what a process costs, a whole
//! node with wide limits, and bare mesh links for crowds. It measures nothing by itself.

pub mod cost;
pub mod lean;
pub mod node;
pub mod tally;
pub mod worker;

/// The middle one; not a number when there is none.
pub fn median(figures: Vec<f64>) -> f64 {
    quantile(figures, 0.5)
}

/// The figure that `share` of them do not exceed; not a number when there is none.
pub fn quantile(mut figures: Vec<f64>, share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1) as f64;
    let index = (share.clamp(0.0, 1.0) * last).round();
    figures.get(index as usize).copied().unwrap_or(f64::NAN)
}
