//! What the library hears from the owner task. It shows; it cannot change anything.

use peerkeep_core::{BanRef, Change, ConnRef, ContactRef, End, Refusal, Ticket, Time, Told, View};

/// Supplied by the library. Called on the owner task between a step and the next, so the view shows the state right
/// after the step. It must not block and should only copy what it needs.
pub trait Observer: Send + 'static {
    /// Users may want to know this. `conn` is [`ConnRef::NONE`] when it is about none.
    fn told(&mut self, view: View<'_>, contact: ContactRef, conn: ConnRef, what: Told, now: Time);

    /// The contact's stored form changed.
    fn store(&mut self, view: View<'_>, contact: ContactRef);

    /// A ban was set, lifted or has expired.
    fn store_ban(&mut self, view: View<'_>, ban: BanRef);

    /// A conn's socket is closed: the end of what `told` called lost, if it ever was up. Default: nothing.
    fn gone(&mut self, _conn: ConnRef, _end: End, _now: Time) {}

    /// The machine's network changed. Default: nothing.
    fn network(&mut self, _change: Change) {}

    /// An accepted socket was dropped unheard, for the log and the counters. Default: nothing.
    fn refused(&mut self, _ticket: Ticket, _why: Refusal) {}
}
