//! Which causes are seen in which differences; the fixtures under `fixtures/irreproducible` show
//! the same with builds that really run.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use relstore_store::id::BlobId;
use relstore_store::manifest::{Entry, Kind};
use relstore_store::name::EntryPath;

use super::super::difference::{Difference, DifferenceKind};
use super::super::stretch::Stretch;
use super::super::tree::Circumstances;
use super::*;
use crate::conditions::Conditions;

/// 2023-11-14 22:13:20 UTC.
const BUILT: u64 = 1_700_000_000;

fn circumstances(conditions: Conditions) -> Circumstances {
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(BUILT);
    Circumstances {
        folder: format!("/relstore/{}", conditions.place),
        home: format!("/relstore/{}", conditions.home),
        conditions,
        unvaried: BTreeMap::new(),
        env: BTreeMap::new(),
        started,
        finished: started + Duration::from_secs(9),
    }
}

fn content(path: &str, content: &[u8]) -> Option<Entry> {
    let size = content.len() as u64;
    let (path, blob) = (EntryPath::new(path).unwrap(), BlobId::of(content));
    Some(Entry {
        path,
        kind: Kind::File { size, blob },
    })
}

/// A difference between two builds under given circumstances.
struct Case {
    path: &'static str,
    old: Vec<u8>,
    new: Vec<u8>,
    first: Circumstances,
    second: Circumstances,
}

impl Case {
    /// Everything varied.
    fn new(path: &'static str, old: impl Into<Vec<u8>>, new: impl Into<Vec<u8>>) -> Self {
        Self {
            path,
            old: old.into(),
            new: new.into(),
            first: circumstances(Conditions::default()),
            second: circumstances(Conditions::variation(1)),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&Evidence<'_>) -> T) -> T {
        let (first, second) = (content(self.path, &self.old), content(self.path, &self.new));
        let difference =
            Difference::new(DifferenceKind::Content, first.as_ref(), second.as_ref()).unwrap();
        let differs_at = self
            .old
            .iter()
            .zip(&self.new)
            .take_while(|(one, two)| one == two)
            .count();
        let stretch = Stretch {
            start: 0,
            differs_at: differs_at as u64,
            first: self.old.clone(),
            second: self.new.clone(),
        };
        look(&Evidence::new(
            &difference,
            &stretch,
            &self.first,
            &self.second,
        ))
    }

    fn suspects(&self) -> Vec<&'static str> {
        self.with(|evidence| {
            suspects(evidence)
                .iter()
                .map(|rule| rule.known.id)
                .collect()
        })
    }

    fn first_suspect(&self) -> &'static str {
        self.suspects().first().copied().unwrap_or("none")
    }
}

#[test]
fn cause_is_seen_in_what_differs() {
    let later = "2024-12-20";
    for (id, path, old, new) in [
        (
            "autoloader-suffix",
            "vendor/autoload.php",
            "return ComposerAutoloaderInit0a::getLoader();",
            "return ComposerAutoloaderInit1b::getLoader();",
        ),
        (
            "autoloader-suffix",
            "vendor/composer/autoload_static.php",
            "class ComposerStaticInit0a",
            "class ComposerStaticInit1b",
        ),
        (
            "apcu-prefix",
            "vendor/composer/autoload_real.php",
            "$loader->setApcuPrefix('0a');",
            "$loader->setApcuPrefix('1b');",
        ),
        (
            "root-package",
            "vendor/composer/installed.php",
            "'reference' => '0a'",
            "'reference' => '1b'",
        ),
        (
            "root-package",
            "vendor/composer/installed.php",
            "'pretty_version' => 'dev-main'",
            "'pretty_version' => 'dev-fix'",
        ),
        (
            "ambiguous-class",
            "vendor/composer/autoload_classmap.php",
            "'A' => $baseDir . '/one.php',",
            "'A' => $baseDir . '/two.php',",
        ),
        ("compiled-view", "storage/framework/views/a.php", "x", "y"),
        (
            "compiled-view",
            "views/a.php",
            "<?php /**PATH /a/home.blade.php ENDPATH**/ ?>",
            "<?php /**PATH /b/home.blade.php ENDPATH**/ ?>",
        ),
        (
            "install-script",
            "tools/node_modules/x/build/x.node",
            "x",
            "y",
        ),
        (
            "tailwind",
            "public/build/app.css",
            ".a{x:y}.b{x:y}",
            ".a{x:y}",
        ),
        (
            "path",
            "a.json",
            r#"{"at": "\/relstore\/build\/app"}"#,
            r#"{"at": "\/relstore\/a\/rather\/longer\/place\/app"}"#,
        ),
        (
            "home-folder",
            "a",
            "/relstore/home/.npm",
            "/relstore/another/home/.npm",
        ),
        ("host-name", "a", "by relstore", "by another-machine"),
        ("uniqid", "a", "v=6553f10000000", "v=6765000700000"),
        (
            "time",
            "a",
            "1700000001",
            &(BUILT as i64 + Conditions::variation(1).clock_offset).to_string(),
        ),
        ("time", "a", "on 2023-11-14", &format!("on {later}")),
        ("time", "a", "(c) 2023", "(c) 2024"),
        ("umask", "a", "-rw-r--r-- app.css", "-rw------- app.css"),
        ("umask", "a", "0644", "0600"),
        ("user", "a", "1000 x", "1042 x"),
        ("processors", "a", "workers: 8", "workers: 1"),
        ("locale", "a", "1,234.5", "1.234,5"),
        ("locale", "a", "TITLE", "title"),
        (
            "random",
            "a",
            "0f8fad5b-d9cb-469f-a165-70867728950e",
            "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        ),
        ("none", "a", "cat", "dog"),
    ] {
        assert_eq!(
            Case::new(path, old, new).first_suspect(),
            id,
            "{old} -> {new}"
        );
    }
}

#[test]
fn same_lines_or_words_in_another_order_have_three_suspects() {
    for (old, new) in [("a\nb\n", "b\na\n"), ("[1,2,3]", "[3,1,2]")] {
        assert_eq!(
            Case::new("a", old, new).suspects(),
            ["locale", "folder-order", "parallel"]
        );
    }
}

#[test]
fn values_that_were_declared_differently_are_named() {
    let mut case = Case::new(
        "public/build/app.js",
        "u=\"https://one.example/\"",
        "u=\"https://two.example/\"",
    );
    assert_eq!(case.first_suspect(), "none");
    for (name, id) in [("ASSET_URL", "asset-url"), ("VITE_API", "vite-variable")] {
        case.first.env = BTreeMap::from([(name.to_owned(), "https://one.example".to_owned())]);
        case.second.env = BTreeMap::from([(name.to_owned(), "https://two.example".to_owned())]);
        assert_eq!(case.first_suspect(), id);
        case.second.env = case.first.env.clone();
        assert_eq!(
            case.first_suspect(),
            "none",
            "declared alike, so it is something else"
        );
    }
}

#[test]
fn condition_that_was_the_same_is_no_suspect() {
    let mut case = Case::new("a", "0644", "0600");
    case.second
        .unvaried
        .insert(Condition::Umask, "no".to_owned());
    assert_eq!(case.first_suspect(), "none");
    let same = case.first.clone();
    case.second = same;
    assert_eq!(case.first_suspect(), "none");
}

#[test]
fn clock_that_could_not_be_moved_is_the_real_one() {
    let mut case = Case::new("a", "1700000001", "1700000008");
    assert_eq!(
        case.first_suspect(),
        "random",
        "no time: the clock of the second was far ahead"
    );
    case.second
        .unvaried
        .insert(Condition::Clock, "no".to_owned());
    assert_eq!(case.first_suspect(), "time");
}

#[test]
fn times_in_archives_are_found_in_their_headers() {
    let at = |offset: usize, head: &[(usize, &[u8])], value: u8| {
        let mut bytes = vec![0; 600];
        for (start, part) in head {
            bytes[*start..*start + part.len()].copy_from_slice(part);
        }
        bytes[offset] = value;
        bytes
    };
    let gzip: &[(usize, &[u8])] = &[(0, &[0x1f, 0x8b, 8, 0])];
    let zip: &[(usize, &[u8])] = &[(50, b"PK\x03\x04")];
    let list: &[(usize, &[u8])] = &[(50, b"PK\x01\x02")];
    let tar: &[(usize, &[u8])] = &[(257, b"ustar")];
    for (offset, head, expected) in [
        (5, gzip, true),
        (61, zip, true),
        (63, list, true),
        (140, tar, true),
        (9, gzip, false),
        (80, zip, false),
        (300, tar, false),
        (5, &[], false),
    ] {
        let case = Case::new("a.bin", at(offset, head, 1), at(offset, head, 0xff));
        assert_eq!(case.first_suspect() == "archive-time", expected, "{offset}");
    }
}

#[test]
fn proof_by_another_build_is_stronger_than_looks() {
    let hash = Case::new("a", "9f86d081884c7d65", "2c26b46b68ffc68f");
    let named = hash.with(|evidence| proven(evidence, Condition::Locale));
    assert_eq!(
        (named.known.id, named.proof),
        ("locale", Proof::Alone(Condition::Locale))
    );
    assert_eq!(hash.with(unsteady).known.id, "random");
    let other = Case::new("a", "cat", "dog");
    assert_eq!(other.with(unsteady).known.id, "unsteady");
}

#[test]
fn without_a_sandbox_the_place_differs_unasked() {
    let mut case = Case::new("a", "/tmp/one/build", "/tmp/two/build");
    case.second = case.first.clone();
    assert_eq!(case.with(unsteady).known.id, "unsteady");
    (case.first.folder, case.second.folder) =
        ("/tmp/one/build".to_owned(), "/tmp/two/build".to_owned());
    let told = case.with(unsteady);
    assert_eq!((told.known.id, told.proof), ("path", Proof::Looks));
}

#[test]
fn every_cause_has_one_name() {
    let mut ids: Vec<&str> = RULES.iter().map(|rule| rule.known.id).collect();
    ids.extend([cause::UNSTEADY.id, cause::FOLLOWS.id]);
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    for condition in Condition::ALL {
        assert!(ids.contains(&cause::of_condition(condition).id));
    }
}

#[test]
fn documentation_lists_every_cause() {
    let text = include_str!("../../../../docs/reproducible.md");
    let documented: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let rules = RULES.iter().map(|rule| rule.known.id);
    let expected: Vec<&str> = rules
        .chain([cause::FOLLOWS.id, cause::UNSTEADY.id])
        .collect();
    assert_eq!(documented, expected);
}
