//! `/v1/events`: the node's events as server-sent events. The queue of each client is the node's own bounded one: a
//! client that does not read is told how much it missed, and holds nothing up.

use axum::response::IntoResponse;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures::stream;
use peerkeep::{Event, EventKind, EventStream};
use std::convert::Infallible;
use std::time::Duration;

/// A comment goes out when nothing happened for so long, so that a dead client is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The response that follows these events until the node stops or the client goes.
pub fn respond(events: EventStream) -> impl IntoResponse {
    let stream = stream::unfold(events, async |mut events| {
        let event = events.next().await?;
        Some((Ok::<Sent, Infallible>(frame(&event)), events))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

fn frame(event: &Event) -> Sent {
    let name = match &event.what {
        EventKind::Lagged { .. } => "lagged",
        _ => "event",
    };
    let sent = Sent::default().event(name).id(event.seq.to_string());
    match sent.json_data(event) {
        Ok(sent) => sent,
        Err(_) => Sent::default().comment("an event could not be written"),
    }
}
