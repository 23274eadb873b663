//! Builds that are never the same twice are found, and why is named; each fixture really runs.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/varied.rs"]
mod varied;

use std::path::Path;
use std::sync::Mutex;

use futures::future::join_all;
use relstore_builder::BuildError;
use relstore_builder::conditions::{Condition, Conditions};
use relstore_builder::reproduce::{BuiltTree, Event, Finding, Form, Proof, Verdict, check};

async fn check_folder(source: &Path, times: usize) -> Result<Verdict, BuildError> {
    let build = async |conditions: &Conditions| -> Result<BuiltTree, BuildError> {
        let (source, conditions) = (source.to_owned(), conditions.clone());
        tokio::task::spawn_blocking(move || varied::build(&source, &conditions))
            .await
            .unwrap()
    };
    let first = build(&Conditions::default()).await?;
    check(first, times, build, &|_| {}).await
}

/// A project with this `make.sh`.
fn project(script: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("make.sh"), script).unwrap();
    root
}

/// A row of the table in the fixtures' README.
struct Row {
    folder: String,
    file: String,
    cause: String,
    alone: String,
}

fn table() -> Vec<Row> {
    let text = std::fs::read_to_string(varied::fixture("README.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let mut cells = line
            .split('|')
            .skip(1)
            .map(|cell| cell.trim().replace('`', ""));
        let mut cell = || cells.next().unwrap();
        Row {
            folder: cell(),
            file: cell(),
            cause: cell(),
            alone: cell(),
        }
    })
    .collect()
}

fn alone(finding: &Finding) -> String {
    match finding.cause.map(|cause| cause.proof) {
        Some(Proof::Alone(condition)) => condition.name().to_owned(),
        Some(Proof::Unsteady) => "nothing".to_owned(),
        Some(Proof::Follows) => String::new(),
        Some(Proof::Looks) => "not proven".to_owned(),
        None => "no cause".to_owned(),
    }
}

/// Whether a path is meant by a row: `*` stands for any text.
fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => path.starts_with(start) && path.ends_with(end),
        None => pattern == path,
    }
}

/// What contradicts the row, if anything.
async fn contradiction(row: &Row) -> Option<String> {
    let verdict = check_folder(&varied::fixture(&row.folder), 1)
        .await
        .unwrap();
    let found = verdict
        .findings
        .iter()
        .find(|found| fits(&row.file, &found.difference.path().to_string()));
    let told = found.map(|found| (found.cause.map_or("", |cause| cause.known.id), alone(found)));
    let expected = Some((row.cause.as_str(), row.alone.clone()));
    (told != expected).then(|| {
        format!(
            "{} {}: {told:?}, not {expected:?}: {verdict:#?}",
            row.folder, row.file
        )
    })
}

#[tokio::test]
async fn every_irreproducible_fixture_is_found_and_its_cause_named() {
    let rows = table();
    assert!(rows.len() > 20);
    let mut wrong = Vec::new();
    for rows in rows.chunks(4) {
        wrong.extend(
            join_all(rows.iter().map(contradiction))
                .await
                .into_iter()
                .flatten(),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_fixture_is_in_the_table() {
    let mut listed: Vec<String> = table().into_iter().map(|row| row.folder).collect();
    listed.dedup();
    let entries = std::fs::read_dir(varied::fixture(""))
        .unwrap()
        .map(Result::unwrap);
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut there: Vec<String> = folders
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    there.sort();
    listed.sort();
    assert_eq!(listed, there);
}

#[tokio::test]
async fn reproducible_build_stays_so_under_all_variations() {
    let script = "mkdir out; date -u -d @0 > out/a; ls | LC_ALL=C sort > out/b; install -m 755 make.sh out/c";
    let verdict = check_folder(project(script).path(), 3).await.unwrap();
    assert!(verdict.is_reproducible());
    assert_eq!((verdict.rebuilds, verdict.entries), (3, 3));
    assert!(verdict.findings.is_empty() && verdict.attempts.is_empty());
}

#[tokio::test]
async fn two_files_with_two_causes_are_told_apart() {
    let script = "mkdir out; echo $TZ > out/zone; pwd > out/place; echo x > out/same";
    let verdict = check_folder(project(script).path(), 1).await.unwrap();
    let told: Vec<_> = verdict
        .findings
        .iter()
        .map(|found| (found.difference.path().to_string(), alone(found)))
        .collect();
    let expected = [("place", "path"), ("zone", "time zone")];
    assert_eq!(
        told,
        expected.map(|(path, alone)| (path.to_owned(), alone.to_owned()))
    );
    let tried: Vec<Option<Condition>> = verdict
        .attempts
        .iter()
        .map(|attempt| attempt.varied)
        .collect();
    // The suspected ones are tried first, so no other one is.
    assert_eq!(
        tried,
        [None, Some(Condition::Place), Some(Condition::TimeZone)]
    );
}

#[tokio::test]
async fn cause_that_no_rule_sees_is_found_by_trying() {
    let script = "mkdir out; echo \"$HOME\" | sha1sum | cut -c 1-5 > out/a";
    let verdict = check_folder(project(script).path(), 1).await.unwrap();
    let found = &verdict.findings[0];
    assert_eq!(
        (found.cause.unwrap().known.id, alone(found).as_str()),
        ("home-folder", "home folder")
    );
}

#[tokio::test]
async fn binary_files_are_shown_as_hex() {
    let script = "mkdir out; printf '\\0%s' \"$TZ\" > out/a";
    let verdict = check_folder(project(script).path(), 1).await.unwrap();
    let excerpt = verdict.findings[0].excerpt.clone().unwrap();
    assert_eq!(excerpt.form, Form::Hex);
    assert!(excerpt.lines[0].contains("|.UTC|"), "{:?}", excerpt.lines);
}

#[tokio::test]
async fn build_that_fails_under_other_conditions_says_which() {
    let project = project("mkdir out; [ $(umask) = 0022 ] || { echo 'no access'; exit 3; }");
    let error = check_folder(project.path(), 1).await.unwrap_err();
    assert!(matches!(error, BuildError::Rebuild { .. }));
    assert!(error.to_string().contains("umask 077"), "{error}");
    assert_eq!(error.details(), ["no access\n"]);
}

#[tokio::test]
async fn conditions_that_cannot_be_varied_are_told_and_not_tried() {
    let source = project("mkdir out; od -An -N8 -tx1 /dev/urandom > out/a; pwd > out/b");
    let events = Mutex::new(Vec::new());
    let build = async |conditions: &Conditions| {
        let mut built = varied::build(source.path(), conditions)?;
        for condition in Condition::ALL
            .into_iter()
            .filter(|other| *other != Condition::Umask)
        {
            built
                .circumstances
                .unvaried
                .insert(condition, "no sandbox".to_owned());
        }
        Ok(built)
    };
    let first = build(&Conditions::default()).await.unwrap();
    let verdict = check(first, 2, build, &|event| events.lock().unwrap().push(event))
        .await
        .unwrap();
    assert_eq!(verdict.unvaried.len(), 9);
    assert_eq!(verdict.rebuilds, 1, "the first difference ends it");
    let tried: Vec<_> = verdict
        .attempts
        .iter()
        .map(|attempt| attempt.varied)
        .collect();
    assert_eq!(tried, [None, Some(Condition::Umask)]);
    let events = events.into_inner().unwrap();
    assert_eq!(events.len(), 6);
    assert!(matches!(&events[0], Event::Rebuilding { varied } if varied.len() == 10));
    assert!(
        matches!(&events[3], Event::Compared { varied, differences: 1, .. } if varied.is_empty())
    );
}
