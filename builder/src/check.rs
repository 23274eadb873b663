//! Checks: commands of the project that judge a built tree, such as a linter or a test suite.
//!
//! ```text
//! fast    lint, static analysis     at the same time
//! medium  ...                       when every required check before passed
//! slow    tests with a database     when every required check before passed
//! ```
//! They run in a tree of their own (the source, development packages, what the steps made), so
//! what they write is in no release. What they said is recorded with it. Pure parts: [`plan`](mod@plan),
//! [`junit`], [`coverage`].

pub mod coverage;
mod event;
pub mod junit;
pub mod plan;
mod report;
pub mod result;
mod run;
pub(crate) mod tail;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::service::Service;
use crate::step::quoted;

pub use event::CheckEvent;
pub use plan::{CheckPlan, plan};
pub use result::{CheckOutcome, CheckResult, JunitSummary};
pub use run::{CheckRunner, Sandbox};

/// A command that judges a built tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// How people name it.
    pub name: String,
    /// Program and arguments, no shell between. A program with a `/` in its name lies in the tree,
    /// another one in the search path.
    pub command: Vec<String>,
    /// When it runs.
    pub group: Group,
    /// Servers that it needs.
    pub services: Vec<Service>,
    /// JUnit file that it writes, relative to the tree; a pass without that file does not count.
    pub junit: Option<String>,
    /// Clover or Cobertura file that it may write, relative to the tree.
    pub coverage: Option<String>,
    /// Variables, before all that it gets otherwise.
    pub env: BTreeMap<String, String>,
    /// Whether it may use the network.
    pub network: bool,
    /// Whether nothing is published when it fails.
    pub required: bool,
    /// Longest time it may take.
    pub time_limit: Duration,
}

impl Check {
    /// The command as people would type it into a shell.
    #[must_use]
    pub fn command_line(&self) -> String {
        let words = self.command.iter().map(|word| quoted(word));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// When a check runs: a group begins when the one before has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Seconds.
    Fast,
    /// Between the two.
    Medium,
    /// Minutes.
    Slow,
}

impl Group {
    /// All groups in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Medium, Self::Slow];

    /// The name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Medium => "medium",
            Self::Slow => "slow",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A group nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no group `{name}`, the groups are: fast, medium, slow")]
pub struct UnknownGroup {
    /// As given.
    pub name: String,
}

impl FromStr for Group {
    type Err = UnknownGroup;
    fn from_str(text: &str) -> Result<Self, UnknownGroup> {
        let found = Self::ALL.into_iter().find(|group| group.name() == text);
        found.ok_or_else(|| UnknownGroup {
            name: text.to_owned(),
        })
    }
}
