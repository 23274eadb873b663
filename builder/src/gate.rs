//! Gates: what every Laravel release must have. The same requirements are asked here, by `check`
//! on any folder, and on every host before the switch.

use std::path::Path;

use rayon::prelude::*;
use relstore_store::name::EntryPath;
use relstore_store::structure::{Requirement, Shape};
use serde::Serialize;

/// One thing a release must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// How people name it.
    pub id: &'static str,
    /// Why a release without it cannot work.
    pub purpose: &'static str,
    /// What usually led there when it is missing.
    pub cause: &'static str,
    /// What has to lie where.
    pub requirement: Requirement,
}

/// What a gate said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed {
        /// What is missing.
        what: String,
        /// The usual cause.
        cause: String,
    },
    /// It was not asked.
    Off,
}

/// A gate's verdict on one tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GateResult {
    /// The gate.
    pub id: &'static str,
    /// What it said.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl GateResult {
    /// Whether the gate was asked and refused.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed { .. })
    }

    /// What is missing and why, in one line; `None` unless the gate refused.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match &self.verdict {
            Verdict::Failed { what, cause } => {
                Some(format!("gate `{}`: {what}; usual cause: {cause}", self.id))
            }
            Verdict::Passed | Verdict::Off => None,
        }
    }
}

/// A line of the table: a gate before its path is checked.
struct Row {
    id: &'static str,
    path: &'static str,
    shape: Shape,
    purpose: &'static str,
    cause: &'static str,
}

const fn row(
    id: &'static str,
    path: &'static str,
    shape: Shape,
    purpose: &'static str,
    cause: &'static str,
) -> Row {
    Row {
        id,
        path,
        shape,
        purpose,
        cause,
    }
}

const NINE: [Row; 9] = [
    row(
        "artisan",
        "artisan",
        Shape::File,
        "migrations, caches and queue workers are run by it",
        "the project's folder is not the one that holds the Laravel application, or artisan was never committed",
    ),
    row(
        "composer-json",
        "composer.json",
        Shape::File,
        "Laravel reads the application's namespace from it",
        "the project's folder is not the one that holds the Laravel application, or composer.json is excluded",
    ),
    row(
        "public-index",
        "public/index.php",
        Shape::File,
        "the web server passes every request to it",
        "the web root has another name, or public/ is ignored by git",
    ),
    row(
        "vite-manifest",
        "public/build/manifest.json",
        Shape::File,
        "pages find their scripts and styles by it",
        "the step `vite` was not run, or vite.config sets another build folder; an application without Vite turns this gate off",
    ),
    row(
        "autoload",
        "vendor/autoload.php",
        Shape::File,
        "no class can be loaded without it",
        "the step `composer` was not run, or composer.json sets another vendor-dir",
    ),
    row(
        "bootstrap",
        "bootstrap",
        Shape::Dir,
        "the application is put together there",
        "bootstrap/ is ignored by git or excluded as a whole; only bootstrap/cache/* should be ignored",
    ),
    row(
        "config",
        "config",
        Shape::Dir,
        "all settings are read from there",
        "config/ is ignored by git or excluded",
    ),
    row(
        "routes",
        "routes",
        Shape::Dir,
        "no address is answered without routes",
        "routes/ is ignored by git or excluded",
    ),
    row(
        "app",
        "app",
        Shape::Dir,
        "the application's own classes lie there",
        "app/ is ignored by git or excluded",
    ),
];

/// The nine structure gates.
#[must_use]
pub fn nine() -> Vec<Gate> {
    NINE.iter()
        .map(|row| Gate {
            id: row.id,
            purpose: row.purpose,
            cause: row.cause,
            requirement: Requirement {
                path: EntryPath::new(row.path).expect("the paths of the table are valid"),
                shape: row.shape,
            },
        })
        .collect()
}

/// The ids of the nine, in order.
#[must_use]
pub fn ids() -> Vec<&'static str> {
    NINE.iter().map(|row| row.id).collect()
}

/// What hosts have to ask of a release: the nine without those that are off.
#[must_use]
pub fn requirements(off: &[String]) -> Vec<Requirement> {
    nine()
        .into_iter()
        .filter(|gate| !is_off(gate, off))
        .map(|gate| gate.requirement)
        .collect()
}

/// Asks all gates at the same time and returns every verdict, in the order of `gates`.
#[must_use]
pub fn run(root: &Path, gates: &[Gate], off: &[String]) -> Vec<GateResult> {
    gates
        .par_iter()
        .map(|gate| {
            let verdict = if is_off(gate, off) {
                Verdict::Off
            } else {
                match gate.requirement.failure(root) {
                    None => Verdict::Passed,
                    Some(what) => Verdict::Failed {
                        what,
                        cause: gate.cause.to_owned(),
                    },
                }
            };
            GateResult {
                id: gate.id,
                verdict,
            }
        })
        .collect()
}

fn is_off(gate: &Gate, off: &[String]) -> bool {
    off.iter().any(|id| id == gate.id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn complete() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for gate in nine() {
            let path = root.path().join(gate.requirement.path.as_path());
            match gate.requirement.shape {
                Shape::Dir => std::fs::create_dir_all(path).unwrap(),
                Shape::File => {
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, "x").unwrap();
                }
            }
        }
        root
    }

    #[test]
    fn each_of_the_nine_is_named_when_it_is_missing() {
        for gate in nine() {
            let root = complete();
            assert!(
                !run(root.path(), &nine(), &[])
                    .iter()
                    .any(GateResult::has_failed)
            );
            let path = root.path().join(gate.requirement.path.as_path());
            match gate.requirement.shape {
                Shape::Dir => std::fs::remove_dir_all(path).unwrap(),
                Shape::File => std::fs::remove_file(path).unwrap(),
            }
            let failed: Vec<_> = run(root.path(), &nine(), &[])
                .into_iter()
                .filter(GateResult::has_failed)
                .collect();
            assert_eq!(failed.len(), 1, "{}", gate.id);
            assert_eq!(failed[0].id, gate.id);
            let Verdict::Failed { what, cause } = &failed[0].verdict else {
                panic!("filtered above")
            };
            assert!(what.contains(&gate.requirement.path.to_string()) && !cause.is_empty());
        }
    }

    #[test]
    fn all_failures_are_reported_at_once_in_order() {
        let root = tempfile::tempdir().unwrap();
        let off = ["vite-manifest".to_owned()];
        let results = run(root.path(), &nine(), &off);
        assert_eq!(
            results.iter().map(|result| result.id).collect::<Vec<_>>(),
            ids()
        );
        assert_eq!(
            results.iter().filter(|result| result.has_failed()).count(),
            8
        );
        assert_eq!(results[3].verdict, Verdict::Off);
        assert_eq!(requirements(&off).len(), 8);
    }

    #[test]
    fn verdict_reads_well_as_json() {
        let result = GateResult {
            id: "app",
            verdict: Verdict::Off,
        };
        assert_eq!(
            serde_json::to_string(&result).unwrap(),
            r#"{"id":"app","verdict":"off"}"#
        );
    }
}
