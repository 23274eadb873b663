//! What checks tell while they run.

use super::result::CheckResult;

/// One piece of news.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckEvent {
    /// A check begins.
    Started {
        /// Its name.
        check: String,
    },
    /// A check wrote a line.
    Output {
        /// Its name.
        check: String,
        /// The line, without its end, secrets replaced.
        line: String,
    },
    /// A check ended, or was skipped.
    Finished {
        /// What it said.
        result: CheckResult,
        /// Whether nothing is published when it failed.
        required: bool,
    },
}
