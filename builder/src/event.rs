//! What a build tells while it works; the program turns it into bars or lines.

use std::time::Duration;

use crate::gate::GateResult;

/// One piece of news.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The source is in the private folder.
    SourceRead {
        /// Full commit; `None` for a work tree without git.
        commit: Option<String>,
        /// Number of files.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A step begins.
    StepStarted {
        /// Its name.
        step: &'static str,
    },
    /// A step wrote a line.
    StepOutput {
        /// Its name.
        step: &'static str,
        /// The line, without its end, secrets replaced.
        line: String,
    },
    /// A step ended well.
    StepFinished {
        /// Its name.
        step: &'static str,
        /// How long it took.
        took: Duration,
    },
    /// The release's tree is complete.
    Assembled {
        /// Number of files.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// The gates were asked.
    Gates {
        /// One result per gate.
        results: Vec<GateResult>,
        /// How long it took.
        took: Duration,
    },
    /// The store imports the tree.
    Import(relstore_store::event::Event),
}

/// Who listens.
pub type Listener<'a> = &'a (dyn Fn(Event) + Send + Sync);
