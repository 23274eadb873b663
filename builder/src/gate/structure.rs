//! The structure gates: nine paths that every Laravel release has. Hosts ask for the same paths.

use std::path::Path;

use relstore_store::name::EntryPath;
use relstore_store::structure::{Requirement, Shape};

use super::answer::{Answer, Finding};
use super::{Gate, Question, State};

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
            id: row.id.to_owned(),
            purpose: row.purpose.to_owned(),
            cause: row.cause.to_owned(),
            state: State::On,
            question: Question::Path(Requirement {
                path: EntryPath::new(row.path).expect("the paths of the table are valid"),
                shape: row.shape,
            }),
        })
        .collect()
}

/// The ids of the nine, in order.
pub(crate) fn ids() -> impl Iterator<Item = &'static str> {
    NINE.iter().map(|row| row.id)
}

/// What hosts have to ask of a release: the nine without those that are off.
#[must_use]
pub fn requirements(off: &[String]) -> Vec<Requirement> {
    nine()
        .iter()
        .filter(|gate| !off.contains(&gate.id))
        .filter_map(Gate::requirement)
        .cloned()
        .collect()
}

/// Looks below `root`.
pub(crate) fn ask(root: &Path, gate: &Gate) -> Answer {
    let failure = gate.requirement().and_then(|what| what.failure(root));
    Answer::of(failure.map(Finding::general).into_iter().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{GateResult, Verdict, run_structure};
    use super::*;

    fn complete() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for what in requirements(&[]) {
            let path = root.path().join(what.path.as_path());
            match what.shape {
                Shape::Dir => std::fs::create_dir_all(path).unwrap(),
                Shape::File => {
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, "x").unwrap();
                }
            }
        }
        root
    }

    fn failed(root: &Path) -> Vec<GateResult> {
        let mut results = run_structure(root, &[]);
        results.retain(GateResult::has_failed);
        results
    }

    #[test]
    fn each_of_the_nine_is_named_when_it_is_missing() {
        for gate in nine() {
            let root = complete();
            assert_eq!(failed(root.path()), []);
            let what = gate.requirement().unwrap();
            let path = root.path().join(what.path.as_path());
            match what.shape {
                Shape::Dir => std::fs::remove_dir_all(path).unwrap(),
                Shape::File => std::fs::remove_file(path).unwrap(),
            }
            let failed = failed(root.path());
            assert_eq!(failed.len(), 1, "{}", gate.id);
            assert_eq!(failed[0].id, gate.id);
            assert!(failed[0].evidence[0].contains(&what.path.to_string()));
            assert_eq!(failed[0].cause.as_ref(), Some(&gate.cause));
        }
    }

    #[test]
    fn all_failures_are_reported_at_once_in_order() {
        let root = tempfile::tempdir().unwrap();
        let off = ["vite-manifest".to_owned()];
        let results = run_structure(root.path(), &off);
        let asked: Vec<&str> = results.iter().map(|result| result.id.as_str()).collect();
        assert_eq!(asked, ids().collect::<Vec<_>>());
        assert_eq!(
            results.iter().filter(|result| result.has_failed()).count(),
            8
        );
        assert_eq!(results[3].verdict, Verdict::Off);
        assert_eq!(requirements(&off).len(), 8);
    }
}
