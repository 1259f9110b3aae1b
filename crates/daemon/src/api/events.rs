//! `/v1/events`: the node's events as server-sent events. The queue of each client is the node's own bounded one: a
//! client that does not read is told how much it missed, and holds nothing up. An event's id names the start of the
//! node and the event, so that a client that comes back goes on where it was.

use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use peerkeep::{Event, EventKind, EventStream, Node};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// A comment goes out when nothing happened for so long, so that a dead client is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The response that follows the events from now on, or from after the one with the id `last`, until the node stops
/// or the client goes. `place` is given back then.
pub async fn respond(node: &Node, last: Option<&str>, place: OwnedSemaphorePermit) -> Response {
    let epoch = node.boot_epoch().await.unwrap_or_default();
    let events = match last.and_then(|id| id.split_once('-')) {
        None => node.events(),
        Some((start, seq)) => match (start.parse::<u64>(), seq.parse::<u64>()) {
            (Ok(start), Ok(seq)) if start == epoch => node.events_after(Some(seq)),
            // Of an earlier start, or of nobody's: all that is remembered of this one.
            _ => node.events_after(None),
        },
    };
    let stream = stream::unfold((events, place), move |(mut events, place)| async move {
        let event = EventStream::next(&mut events).await?;
        Some((Ok::<Sent, Infallible>(frame(epoch, &event)), (events, place)))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn frame(epoch: u64, event: &Event) -> Sent {
    let name = match &event.what {
        EventKind::Lagged { .. } => "lagged",
        _ => "event",
    };
    let sent = Sent::default().event(name).id(format!("{epoch}-{}", event.seq));
    match sent.json_data(event) {
        Ok(sent) => sent,
        Err(_) => Sent::default().comment("an event could not be written"),
    }
}
