//! What a deploy tells while it works; the program turns it into bars or lines.

use std::time::Duration;

/// One piece of news. `host` is `None` for what concerns all hosts together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step begins.
    Begin {
        /// The host it runs on.
        host: Option<String>,
        /// The step's name, as in the plan.
        step: String,
        /// Raw bytes there are to do, for steps that count them.
        total_bytes: Option<u64>,
    },
    /// So much of a step that counts bytes is done.
    Advance {
        /// The host.
        host: Option<String>,
        /// The step.
        step: String,
        /// Raw bytes done so far.
        done_bytes: u64,
    },
    /// A line that a command on the host printed.
    Output {
        /// The host.
        host: String,
        /// The step it belongs to.
        step: String,
        /// The line as the command printed it, at most 4096 bytes.
        line: String,
    },
    /// A step succeeded.
    Done {
        /// The host.
        host: Option<String>,
        /// The step.
        step: String,
        /// What came of it, for people.
        detail: String,
        /// How long it took.
        took: Duration,
    },
    /// A step failed; the error that the deploy returns says why in full.
    Failed {
        /// The host.
        host: Option<String>,
        /// The step.
        step: String,
        /// The failure in one line.
        detail: String,
        /// How long it took.
        took: Duration,
    },
    /// Something the user should know, though it stops nothing.
    Warning {
        /// The host.
        host: Option<String>,
        /// What it is about.
        text: String,
    },
}

/// Who listens; called from any thread.
pub type Listener<'a> = &'a (dyn Fn(Event) + Send + Sync);
