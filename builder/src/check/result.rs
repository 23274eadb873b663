//! What a check said: the value that is shown, recorded with the release, and demanded by policies.

use serde::{Deserialize, Serialize};

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckResult {
    /// Its name.
    pub name: String,
    /// The group it belongs to, such as `fast`.
    pub group: String,
    /// The command line.
    pub command: String,
    /// How it ended.
    pub outcome: CheckOutcome,
    /// The exit status; `None` when it did not run, took too long or was ended by a signal.
    pub exit_code: Option<i32>,
    /// Wall time.
    pub milliseconds: u64,
    /// The last lines of its output.
    pub last_output: Vec<String>,
    /// Sums of the JUnit file it wrote, when it names one.
    pub junit: Option<JunitSummary>,
    /// Covered lines in percent, when it says so.
    pub coverage_percent: Option<f64>,
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// It ended with success.
    Passed,
    /// It ended with another status.
    Failed,
    /// It did not end in time.
    TimedOut,
    /// It did not run.
    Skipped {
        /// Why.
        why: String,
    },
}

/// Sums over all test suites of a JUnit file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JunitSummary {
    /// Tests that were counted.
    pub tests: u64,
    /// Tests whose assertion failed.
    pub failures: u64,
    /// Tests that could not be carried out.
    pub errors: u64,
    /// Tests that were skipped.
    pub skipped: u64,
}

impl CheckResult {
    /// Whether it ran and did not pass.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self.outcome, CheckOutcome::Failed | CheckOutcome::TimedOut)
    }
}
