//! Anchors: the few best connections that we opened ourselves, remembered so that a node that starts again dials them
//! first. Whoever fills its table while it is down has to displace peers that served it well (an eclipse is harder).

use super::hub::Hub;
use crate::store::MAX_ANCHORS;
use peerkeep_core::{Direction, Grade, Stage, Time, View, Who};
use peerkeep_net::Owner;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A node that is killed knows its anchors as of this long ago at most.
const EVERY: Duration = Duration::from_secs(60);

/// Notes them now and then until the node stops.
pub(super) async fn keep(owner: Owner, hub: Arc<Hub>, mut stopped: watch::Receiver<bool>) {
    loop {
        let over = tokio::time::timeout(EVERY, async {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        });
        if over.await.is_ok() {
            return;
        }
        note(&owner, &hub).await;
    }
}

/// Notes them now. Without any the last ones stay: a node that is offline forgets nobody.
pub(super) async fn note(owner: &Owner, hub: &Hub) {
    let Some(store) = &hub.store else { return };
    if let Ok(best) = owner.ask(|view, _| best(view)).await
        && !best.is_empty()
    {
        store.put_anchors(best);
    }
}

/// Outbound, not known to be bad, the longest up first.
fn best(view: View<'_>) -> Vec<Who> {
    let mut best: Vec<(Time, Who)> = Vec::with_capacity(MAX_ANCHORS + 1);
    let fit = view.conns().filter(|conn| {
        let bad = conn.health.scores.concern().is_some_and(|grade| grade < Grade::Fair);
        conn.stage == Stage::Up && conn.direction == Direction::Outbound && !bad
    });
    for conn in fit {
        let Some(contact) = conn.contact.and_then(|contact| view.contact(contact)) else { continue };
        let up_at = conn.up_at.unwrap_or(Time::NEVER);
        let at = best.partition_point(|(have, _)| *have <= up_at);
        if at < MAX_ANCHORS {
            best.insert(at, (up_at, contact.who));
            best.truncate(MAX_ANCHORS);
        }
    }
    best.into_iter().map(|(_, who)| who).collect()
}
