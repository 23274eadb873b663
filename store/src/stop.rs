//! Work on threads that nobody waits for any more ends by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells when it is over; for the thread that works.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

/// Held by who waits for the work: dropping it ends the work.
#[derive(Debug)]
pub struct Waiting(Stop);

impl Stop {
    /// Both ends.
    #[must_use]
    pub fn new() -> (Self, Waiting) {
        let stop = Self::default();
        (stop.clone(), Waiting(stop))
    }

    /// Whether nobody waits any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
