//! Which condition does a difference depend on? Builds again with nothing varied, then with one
//! condition at a time, the suspected ones first, until every difference is explained.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Attempt;
use super::difference::{Difference, DifferenceKind};
use super::finding::Examined;
use super::rebuild::Rebuilder;
use super::tree::BuiltTree;
use crate::conditions::{Condition, Conditions};
use crate::error::BuildError;

/// A clock of whole seconds has moved on after so long.
const SECOND: Duration = Duration::from_millis(1100);

/// Proves causes, as far as other builds can, and returns what was tried.
pub(super) async fn isolate<B: AsyncFn(&Conditions) -> Result<BuiltTree, BuildError>>(
    rebuilder: &Rebuilder<'_, B>,
    variation: usize,
    unvaried: &BTreeMap<Condition, String>,
    examined: &mut [Examined],
) -> Result<Vec<Attempt>, BuildError> {
    let mut left: Vec<Condition> = Condition::ALL.to_vec();
    left.retain(|condition| !unvaried.contains_key(condition));
    tokio::time::sleep(SECOND).await;
    // What differs without a reason would seem to depend on whatever is tried first.
    let mut attempts = vec![attempt(rebuilder, None, variation, examined).await?];
    while let Some(condition) = next(examined, &left) {
        left.retain(|other| *other != condition);
        attempts.push(attempt(rebuilder, Some(condition), variation, examined).await?);
    }
    Ok(attempts)
}

/// The condition that most likely explains what is still open; `None` when nothing is.
fn next(examined: &[Examined], left: &[Condition]) -> Option<Condition> {
    let mut open = examined.iter().filter(|one| one.open).peekable();
    open.peek()?;
    let mut suspected = open
        .flat_map(|one| &one.suspects)
        .flat_map(|rule| rule.conditions());
    suspected
        .find(|condition| left.contains(condition))
        .or(left.first())
        .copied()
}

async fn attempt<B: AsyncFn(&Conditions) -> Result<BuiltTree, BuildError>>(
    rebuilder: &Rebuilder<'_, B>,
    varied: Option<Condition>,
    variation: usize,
    examined: &mut [Examined],
) -> Result<Attempt, BuildError> {
    let conditions = match varied {
        Some(condition) => Conditions::only(condition, variation),
        None => Conditions::default(),
    };
    let rebuilt = match rebuilder.rebuild(varied.as_slice(), &conditions).await {
        Ok(rebuilt) => rebuilt,
        Err(BuildError::Interrupted) => return Err(BuildError::Interrupted),
        // The differences that were found must not be lost for it.
        Err(error) => {
            let outcome = Err(error.to_string());
            return Ok(Attempt { varied, outcome });
        }
    };
    for one in examined.iter_mut().filter(|one| one.open) {
        if let Some(again) = same(&one.finding.difference, &rebuilt.differences) {
            let cause = rebuilder.prove(&rebuilt.tree, again, varied).await?;
            one.finding.cause = Some(cause);
            one.open = false;
        }
    }
    let outcome = Ok(rebuilt.differences.len() as u64);
    Ok(Attempt { varied, outcome })
}

/// The difference of another build that is about the same file. A file that only the other builds
/// have may have another hash in its name there.
fn same<'a>(one: &Difference, others: &'a [Difference]) -> Option<&'a Difference> {
    others.iter().find(|other| {
        other.path() == one.path()
            || one.kind == DifferenceKind::Added
                && other.kind == DifferenceKind::Added
                && other.family() == one.family()
    })
}
