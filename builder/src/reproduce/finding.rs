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

/// Of so many differences the cause is looked for; a fault that shows in more files shows in these.
const EXAMINED: usize = 50;
/// So many files are read at most to find them.
const READ: usize = 1000;

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

impl Examined {
    fn following(difference: Difference, stretch: &Stretch) -> Self {
        let cause = Cause {
            known: FOLLOWS,
            proof: Proof::Follows,
        };
        Self {
            finding: Finding {
                difference,
                excerpt: excerpt(stretch),
                cause: Some(cause),
            },
            suspects: Vec::new(),
            open: false,
        }
    }
}

/// Looks at the first differences between two builds. Those that only follow from others come
/// last and take no room from the others: of one changed script a hundred may follow.
pub(super) fn examine(
    first: &BuiltTree,
    second: &BuiltTree,
    differences: Vec<Difference>,
) -> Result<Vec<Examined>, BuildError> {
    let renames: Vec<(String, String)> = differences.iter().filter_map(rename).collect();
    let (mut causes, mut following) = (Vec::new(), Vec::new());
    for difference in differences.into_iter().take(READ) {
        let stretch = read(&first.tree, &second.tree, &difference)?;
        if follows(&stretch, &renames) {
            following.push(Examined::following(difference, &stretch));
            continue;
        }
        let evidence = Evidence::new(
            &difference,
            &stretch,
            &first.circumstances,
            &second.circumstances,
        );
        let suspects = rule::suspects(&evidence);
        causes.push(Examined {
            finding: Finding {
                excerpt: excerpt(&stretch),
                cause: suspects.first().map(|rule| rule.suspicion()),
                difference,
            },
            suspects,
            open: true,
        });
        if causes.len() == EXAMINED {
            break;
        }
    }
    following.truncate(EXAMINED);
    causes.append(&mut following);
    Ok(causes)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::difference::compare;
    use super::super::tree::Circumstances;
    use super::*;
    use crate::conditions::Conditions;
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    fn built(root: &Path) -> BuiltTree {
        let circumstances = Circumstances {
            conditions: Conditions::default(),
            unvaried: BTreeMap::new(),
            folder: "/build".to_owned(),
            home: "/home".to_owned(),
            env: BTreeMap::new(),
            started: SystemTime::UNIX_EPOCH,
            finished: SystemTime::UNIX_EPOCH,
        };
        BuiltTree::new(root.to_owned(), circumstances, ())
    }

    /// One script that changed, and a hundred that name it.
    fn assets(hash: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(format!("z-{hash}.js")), hash).unwrap();
        for number in 0..100 {
            let script = format!("import './z-{hash}.js'; // {number}");
            std::fs::write(root.path().join(format!("page{number}.js")), script).unwrap();
        }
        root
    }

    #[test]
    fn files_that_follow_do_not_hide_the_one_they_follow_from() {
        let (one, two) = (assets("A1b2C3d4"), assets("E5f6G7h8"));
        let differences = compare(one.path(), two.path()).unwrap();
        assert_eq!(differences.len(), 101);
        let examined = examine(&built(one.path()), &built(two.path()), differences).unwrap();
        let told = |index: usize| {
            let one: &Examined = &examined[index];
            (one.finding.difference.path().to_string(), one.open)
        };
        assert_eq!(examined.len(), 1 + EXAMINED);
        assert_eq!(told(0), ("z-A1b2C3d4.js".to_owned(), true));
        assert_eq!(told(1), ("page0.js".to_owned(), false));
        assert_eq!(examined[1].finding.cause.unwrap().known, FOLLOWS);
    }
}
