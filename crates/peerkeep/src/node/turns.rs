//! Whose turn it is to dial, in words for the log (S3.35): said once for each need, not for each attempt. It reads what
//! the core has decided and compares no address and no identity itself.

use peerkeep_core::{ContactView, KeyKind, Preference, Refusal, View, Who, Why};
use std::collections::HashMap;

/// Needs that are remembered. One that is not is only said without its place, or twice.
const MAX_NEEDS: usize = 16_384;

/// Peers that are to be connected and are not yet.
#[derive(Default)]
pub(super) struct Turns(HashMap<Who, Need>);

#[derive(Default)]
struct Need {
    waited: bool,
    /// Of the attempt under way, or the last one.
    place: String,
    attempt: u32,
}

impl Turns {
    /// Looks at a contact that something has changed about, and says it when the other side is to dial first.
    pub fn look(&mut self, view: View<'_>, seen: &ContactView) {
        let Why::Refused(Refusal::TheirTurn { until }) = view.why(seen.contact) else { return };
        if !(seen.wanted || seen.asked) {
            return;
        }
        let Some(need) = self.need(seen.who) else { return };
        if !std::mem::replace(&mut need.waited, true) {
            let most = super::look::rounded(until.since(view.now()));
            tracing::info!(peer = %crate::PeerId(seen.who.key), most = %most, "waiting for them to dial first");
        }
    }

    /// Why we dial and do not wait.
    pub fn why_we_dial(&self, seen: &ContactView, preference: Preference) -> &'static str {
        if self.0.get(&seen.who).is_some_and(|need| need.waited) {
            return "they did not dial";
        }
        let same_address = |local_ip| seen.addrs.iter().next().is_none_or(|known| known.addr.ip == local_ip);
        match preference {
            Preference::Nobody => "whoever wants to dials",
            Preference::Identity if seen.asked && !seen.wanted => "somebody asked",
            Preference::Address { local_ip } if !same_address(local_ip) => "ours is the lower address",
            _ if seen.who.key.kind == KeyKind::Address => "its identity is not known yet",
            Preference::Identity | Preference::Address { .. } => "ours is the lower identity",
        }
    }

    /// An attempt begins.
    pub fn dialled(&mut self, who: Who, place: String, attempt: u32) {
        if let Some(need) = self.need(who) {
            need.place = place;
            need.attempt = attempt;
        }
    }

    /// It failed: where it went, and its number.
    pub fn failed(&self, who: &Who) -> (String, u32) {
        self.0.get(who).map_or_else(Default::default, |need| (need.place.clone(), need.attempt))
    }

    /// It is connected, or forgotten: what comes is another need.
    pub fn forget(&mut self, who: &Who) {
        self.0.remove(who);
    }

    fn need(&mut self, who: Who) -> Option<&mut Need> {
        if self.0.len() >= MAX_NEEDS && !self.0.contains_key(&who) {
            return None;
        }
        Some(self.0.entry(who).or_default())
    }
}
