//! Events on their way to whoever listens.

use crate::Event;

/// Events from the moment it was asked for.
#[derive(Default)]
pub struct EventStream {}

impl EventStream {
    /// The next event; `None` when the node has stopped and all were read. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        None
    }
}
