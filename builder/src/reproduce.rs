//! Is a build reproducible? It runs again with everything around it varied; when that gives other
//! files, it runs again with nothing varied and then with one condition at a time, until it is known
//! what each file depends on.
//!
//! ```text
//! everything varied, `times` times -> the same: done
//!   -> differs: nothing varied       -> a file that differs now is unsteady (random, time, order)
//!      one condition, suspected first -> a file that differs now depends on it
//! ```
//! [`check_prepared`] does that with the builder of this crate, [`check`] with any.

mod again;
mod cause;
mod change;
mod difference;
mod evidence;
mod excerpt;
mod finding;
mod isolate;
mod machine;
mod moment;
mod rebuild;
mod rule;
mod stretch;
mod tree;

use std::collections::BTreeMap;
use std::time::Duration;

pub use again::check_prepared;
pub use cause::{Cause, Known, Proof};
pub use difference::{Difference, DifferenceKind, compare};
pub use excerpt::{Excerpt, Form};
pub use finding::Finding;
pub use machine::Machine;
pub(crate) use machine::fake_clock;
pub use tree::{BuiltTree, Circumstances};

use crate::conditions::{Condition, Conditions};
use crate::error::BuildError;
use isolate::isolate;
use rebuild::Rebuilder;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How often the build ran again with everything varied.
    pub rebuilds: usize,
    /// Conditions that could not be varied, and why.
    pub unvaried: BTreeMap<Condition, String>,
    /// Number of files, links and empty folders of the first build.
    pub entries: u64,
    /// Number of differences; 0 when the build is reproducible.
    pub differences: u64,
    /// The first of them; those that follow from others come last.
    pub findings: Vec<Finding>,
    /// What was tried to find the causes.
    pub attempts: Vec<Attempt>,
}

/// One more build, to find causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was varied; `None` for nothing.
    pub varied: Option<Condition>,
    /// Number of differences from the first build, or why it failed.
    pub outcome: Result<u64, String>,
}

impl Verdict {
    /// Whether every build gave the same tree.
    #[must_use]
    pub const fn is_reproducible(&self) -> bool {
        self.differences == 0
    }
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The build begins again.
    Rebuilding {
        /// What is varied: all conditions, one, or none.
        varied: Vec<Condition>,
    },
    /// It was built again and compared.
    Compared {
        /// What was varied.
        varied: Vec<Condition>,
        /// Number of differences from the first build.
        differences: u64,
        /// How long both took.
        took: Duration,
    },
}

/// Who listens.
pub type Listener<'a> = &'a (dyn Fn(Event) + Send + Sync);

/// Builds again, up to `times` times with everything varied, and compares with the first tree. At
/// the first difference the cause is looked for, by at most 11 more builds.
///
/// `build` builds the same source under the conditions it gets, takes no step from a cache, and says
/// in the tree's circumstances what it could not vary.
///
/// # Errors
/// [`BuildError::Rebuild`] when a build fails under other conditions, [`BuildError::Store`] when a
/// tree cannot be a release, [`BuildError::Interrupted`].
pub async fn check(
    first: BuiltTree,
    times: usize,
    build: impl AsyncFn(&Conditions) -> Result<BuiltTree, BuildError>,
    events: Listener<'_>,
) -> Result<Verdict, BuildError> {
    let rebuilder = Rebuilder::new(first, build, events).await?;
    let mut verdict = Verdict {
        rebuilds: 0,
        unvaried: BTreeMap::new(),
        entries: rebuilder.entries(),
        differences: 0,
        findings: Vec::new(),
        attempts: Vec::new(),
    };
    for number in 1..=times {
        let rebuilt = rebuilder
            .rebuild(&Condition::ALL, &Conditions::variation(number))
            .await?;
        verdict.rebuilds = number;
        let unvaried = &rebuilt.tree.circumstances.unvaried;
        verdict.unvaried.extend(unvaried.clone());
        if !rebuilt.differences.is_empty() {
            verdict.differences = rebuilt.differences.len() as u64;
            let mut examined = rebuilder.examine(rebuilt).await?;
            verdict.attempts =
                isolate(&rebuilder, number, &verdict.unvaried, &mut examined).await?;
            verdict.findings = examined.into_iter().map(|one| one.finding).collect();
            break;
        }
    }
    Ok(verdict)
}
