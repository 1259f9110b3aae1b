//! Reads a clock, which a deciding crate may not: the probe must refuse to build with it.

/// What a deciding crate could do if std reached it.
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}
