//! What a build tells while it works; the program turns it into bars or lines.

use std::time::Duration;

use crate::check::CheckEvent;
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
        step: String,
        /// What changed since the last build, in words.
        reasons: Vec<String>,
    },
    /// Another build is making what a step would make.
    StepWaiting {
        /// Its name.
        step: String,
    },
    /// What a step would make is known.
    StepCached {
        /// Its name.
        step: String,
        /// What changed since the last build, in words: an earlier one had it like this.
        reasons: Vec<String>,
    },
    /// The application could not be asked about itself.
    NoFacts {
        /// Why.
        why: String,
    },
    /// Steps run without a sandbox although one is wanted.
    NoSandbox {
        /// Why.
        why: String,
        /// What to do about it.
        remedy: String,
    },
    /// A step wrote a line.
    StepOutput {
        /// Its name.
        step: String,
        /// The line, without its end, secrets replaced.
        line: String,
    },
    /// A step ended well.
    StepFinished {
        /// Its name.
        step: String,
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
    /// A check runs.
    Check(CheckEvent),
    /// The store imports the tree.
    Import(relstore_store::event::Event),
}

/// Who listens.
pub type Listener<'a> = &'a (dyn Fn(Event) + Send + Sync);
