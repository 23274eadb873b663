//! One difference with its cause and the place in the file. Reads the two trees.

use std::path::Path;

use relstore_store::manifest::Entry;

use super::cause::{Cause, FOLLOWS, Proof};
use super::difference::{Difference, DifferenceKind};
use super::evidence::Evidence;
use super::excerpt::{Excerpt, excerpt};
use super::rule::{self, Rule};
use super::stretch::Stretch;
use super::tree::BuiltTree;
use crate::conditions::Condition;
use crate::error::BuildError;

/// What is known about one difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What differs.
    pub difference: Difference,
    /// The first place in which the two files differ.
    pub excerpt: Option<Excerpt>,
    /// Why, when that is known.
    pub cause: Option<Cause>,
}

/// A finding, and what to try in order to prove its cause.
pub(super) struct Examined {
    pub(super) finding: Finding,
    pub(super) suspects: Vec<&'static Rule>,
    /// Whether another build could tell more about it.
    pub(super) open: bool,
}

/// Looks at differences between two builds; those that only follow from others come last.
pub(super) fn examine(
    first: &BuiltTree,
    second: &BuiltTree,
    differences: Vec<Difference>,
) -> Result<Vec<Examined>, BuildError> {
    let renames: Vec<(String, String)> = differences.iter().filter_map(rename).collect();
    let mut examined = Vec::new();
    for difference in differences {
        let stretch = read(&first.tree, &second.tree, &difference)?;
        let evidence = Evidence::new(
            &difference,
            &stretch,
            &first.circumstances,
            &second.circumstances,
        );
        let suspects = rule::suspects(&evidence);
        let cause = if follows(&stretch, &renames) {
            Some(Cause {
                known: FOLLOWS,
                proof: Proof::Follows,
            })
        } else {
            suspects.first().map(|rule| rule.suspicion())
        };
        let excerpt = excerpt(&stretch);
        let finding = Finding {
            difference,
            excerpt,
            cause,
        };
        examined.push(Examined {
            open: cause.is_none_or(|cause| cause.proof == Proof::Looks),
            finding,
            suspects,
        });
    }
    examined.sort_by_key(|one| {
        one.finding
            .cause
            .is_some_and(|cause| cause.proof == Proof::Follows)
    });
    Ok(examined)
}

/// Returns the cause of a difference that shows when only `condition` is varied, or nothing.
pub(super) fn prove(
    first: &BuiltTree,
    second: &BuiltTree,
    difference: &Difference,
    condition: Option<Condition>,
) -> Result<Cause, BuildError> {
    let stretch = read(&first.tree, &second.tree, difference)?;
    let evidence = Evidence::new(
        difference,
        &stretch,
        &first.circumstances,
        &second.circumstances,
    );
    Ok(match condition {
        Some(condition) => rule::proven(&evidence, condition),
        None => rule::unsteady(&evidence),
    })
}

fn read(first: &Path, second: &Path, difference: &Difference) -> Result<Stretch, BuildError> {
    let file = |root: &Path, entry: &Option<Entry>| {
        let entry = entry
            .as_ref()
            .filter(|entry| entry.kind.content().is_some())?;
        Some(root.join(entry.path.as_path()))
    };
    let target = |entry: &Option<Entry>| match entry.as_ref().map(|entry| &entry.kind) {
        Some(relstore_store::manifest::Kind::Link { target }) => target.as_bytes().to_vec(),
        _ => Vec::new(),
    };
    match difference.kind {
        DifferenceKind::Content | DifferenceKind::Name => Stretch::read(
            file(first, &difference.first).as_deref(),
            file(second, &difference.second).as_deref(),
        ),
        DifferenceKind::Link => Ok(Stretch {
            first: target(&difference.first),
            second: target(&difference.second),
            ..Stretch::default()
        }),
        _ => Ok(Stretch::default()),
    }
}

/// The file's name before and after, when that differs.
fn rename(difference: &Difference) -> Option<(String, String)> {
    let name =
        |path: &relstore_store::name::EntryPath| String::from_utf8(path.file_name().to_vec()).ok();
    Some((name(difference.path())?, name(difference.other_path()?)?))
}

/// Whether nothing differs but names of files that differ themselves.
fn follows(stretch: &Stretch, renames: &[(String, String)]) -> bool {
    let Some((old, new)) = stretch.texts() else {
        return false;
    };
    let renamed = renames
        .iter()
        .fold(old.to_owned(), |text, (from, to)| text.replace(from, to));
    old != new && renamed == new
}
