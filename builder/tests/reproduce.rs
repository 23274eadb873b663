//! Builds that are never the same twice are found, and why is named; each fixture really runs.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use common::{Project, path};
use futures::future::join_all;
use relstore_builder::conditions::{Condition, Conditions, copy_in_order};
use relstore_builder::reproduce::{
    BuiltTree, Circumstances, Event, Finding, Form, Proof, Verdict, check, check_prepared,
};
use relstore_builder::step::CommandLine;
use relstore_builder::{BuildError, BuildRequest, SandboxMode, SourceSpec, StepSettings, gate};
use relstore_store::import::Layout;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/irreproducible")
        .join(name)
}

/// A build of the project whose only step is its `make.sh`.
fn request(project: &Project) -> BuildRequest {
    let mut request = project.request(SourceSpec::WorkTree);
    let make = StepSettings {
        run: vec![CommandLine::new(["sh", "-e", "make.sh"])],
        outputs: vec![path("out")],
        ..StepSettings::default()
    };
    request.wanted.settings = BTreeMap::from([("make".to_owned(), make)]);
    request.sandbox = SandboxMode::Required;
    request.layout = Layout::default();
    request.gates.off = gate::nine().iter().map(|gate| gate.id.to_owned()).collect();
    request.now = SystemTime::now();
    request
}

async fn check_project(
    project: &Project,
    request: BuildRequest,
    times: usize,
) -> Result<Verdict, BuildError> {
    let prepared = project.prepare(request.clone()).await?;
    check_prepared(&prepared, &request, times, &|_| {}, &|_| {}).await
}

async fn check_fixture(name: &str) -> Verdict {
    let project = Project::new(&[]);
    copy_in_order(&fixture(name), &project.at(""), None).unwrap();
    let request = request(&project);
    check_project(&project, request, 1).await.unwrap()
}

async fn check_script(script: &str, times: usize) -> Result<Verdict, BuildError> {
    let project = Project::new(&[("make.sh", script)]);
    let request = request(&project);
    check_project(&project, request, times).await
}

/// A row of the table in the fixtures' README.
struct Row {
    folder: String,
    file: String,
    cause: String,
    alone: String,
}

fn table() -> Vec<Row> {
    let text = std::fs::read_to_string(fixture("README.md")).unwrap();
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
    let verdict = check_fixture(&row.folder).await;
    let found = verdict.findings.iter().find(|found| {
        fits(
            &format!("out/{}", row.file),
            &found.difference.path().to_string(),
        )
    });
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
    let entries = std::fs::read_dir(fixture("")).unwrap().map(Result::unwrap);
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
    let verdict = check_script(script, 3).await.unwrap();
    assert!(verdict.is_reproducible());
    assert_eq!((verdict.rebuilds, verdict.entries), (3, 4));
    assert!(verdict.findings.is_empty() && verdict.attempts.is_empty());
}

#[tokio::test]
async fn two_files_with_two_causes_are_told_apart() {
    let script = "mkdir out; echo $TZ > out/zone; pwd > out/place; echo x > out/same";
    let verdict = check_script(script, 1).await.unwrap();
    let told: Vec<_> = verdict
        .findings
        .iter()
        .map(|found| (found.difference.path().to_string(), alone(found)))
        .collect();
    let expected = [("out/place", "path"), ("out/zone", "time zone")];
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
    let verdict = check_script(script, 1).await.unwrap();
    let found = &verdict.findings[0];
    assert_eq!(
        (found.cause.unwrap().known.id, alone(found).as_str()),
        ("home-folder", "home folder")
    );
}

#[tokio::test]
async fn binary_files_are_shown_as_hex() {
    let script = "mkdir out; printf '\\0%s' \"$TZ\" > out/a";
    let verdict = check_script(script, 1).await.unwrap();
    let excerpt = verdict.findings[0].excerpt.clone().unwrap();
    assert_eq!(excerpt.form, Form::Hex);
    assert!(excerpt.lines[0].contains("|.UTC|"), "{:?}", excerpt.lines);
}

#[tokio::test]
async fn build_that_fails_under_other_conditions_says_which() {
    let error = check_script(
        "mkdir out; umask > out/a; [ $(umask) = 0022 ] || { echo 'no access'; exit 3; }",
        1,
    )
    .await
    .unwrap_err();
    assert!(matches!(error, BuildError::Rebuild { .. }));
    assert!(error.to_string().contains("umask 077"), "{error}");
    assert_eq!(error.details(), ["no access"]);
}

/// Another tree each time.
fn random_tree(conditions: &Conditions) -> BuiltTree {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a"), root.path().display().to_string()).unwrap();
    let others = Condition::ALL
        .into_iter()
        .filter(|other| *other != Condition::Umask);
    let circumstances = Circumstances {
        conditions: conditions.clone(),
        unvaried: others
            .map(|other| (other, "no sandbox".to_owned()))
            .collect(),
        folder: String::new(),
        home: String::new(),
        env: BTreeMap::new(),
        started: SystemTime::now(),
        finished: SystemTime::now(),
    };
    BuiltTree::new(root.path().to_owned(), circumstances, root)
}

#[tokio::test]
async fn conditions_that_cannot_be_varied_are_told_and_not_tried() {
    let events = Mutex::new(Vec::new());
    let failing = async |conditions: &Conditions| match conditions.order {
        Some(_) => Ok(random_tree(conditions)),
        None => Err(BuildError::Git {
            what: "read",
            said: vec![],
        }),
    };
    let listen = |event| events.lock().unwrap().push(event);
    let first = random_tree(&Conditions::default());
    let verdict = check(first, 2, failing, &listen).await.unwrap();
    assert_eq!(verdict.unvaried.len(), 9);
    assert_eq!(verdict.rebuilds, 1, "the first difference ends it");
    let tried: Vec<_> = verdict
        .attempts
        .iter()
        .map(|attempt| attempt.varied)
        .collect();
    assert_eq!(tried, [None, Some(Condition::Umask)]);
    // What was found is not lost when the builds after it fail.
    assert!(
        verdict
            .attempts
            .iter()
            .all(|attempt| attempt.outcome.is_err())
    );
    assert_eq!(verdict.findings.len(), 1);
    let events = events.into_inner().unwrap();
    assert_eq!(events.len(), 4);
    assert!(matches!(&events[0], Event::Rebuilding { varied } if varied.len() == 10));
    assert!(
        matches!(&events[1], Event::Compared { varied, differences: 1, .. } if varied.len() == 10)
    );
}

#[tokio::test]
async fn without_a_sandbox_the_place_is_named_all_the_same() {
    let project = Project::new(&[("make.sh", "mkdir out; pwd > out/place")]);
    let mut request = request(&project);
    request.sandbox = SandboxMode::Off;
    let verdict = check_project(&project, request, 1).await.unwrap();
    let cause = verdict.findings[0].cause.unwrap();
    assert_eq!((cause.known.id, cause.proof), ("path", Proof::Looks));
    assert!(verdict.unvaried.contains_key(&Condition::HostName));
}

#[tokio::test]
async fn commit_is_built_again_although_its_branch_has_moved_on() {
    let project = Project::new(&[("make.sh", "mkdir out; cp word out/"), ("word", "one")]);
    project.git(&["init", "-q", "-b", "main"]);
    project.commit();
    let mut request = request(&project);
    request.source = SourceSpec::Commit("main".to_owned());
    let prepared = project.prepare(request.clone()).await.unwrap();
    project.write("word", "two");
    project.commit();
    let verdict = check_prepared(&prepared, &request, 1, &|_| {}, &|_| {})
        .await
        .unwrap();
    assert!(verdict.is_reproducible());
}

#[tokio::test]
async fn what_came_from_a_store_is_built_again() {
    let script = "mkdir out; date -u +%s > out/time";
    let project = Project::new(&[("make.sh", script)]);
    let (request, store) = (request(&project), project.store());
    project.build(request.clone(), &store).await.unwrap();
    let prepared = relstore_builder::prepare(request.clone(), Some(&store), &|_| {})
        .await
        .unwrap();
    let verdict = check_prepared(&prepared, &request, 1, &|_| {}, &|_| {})
        .await
        .unwrap();
    let found = &verdict.findings[0];
    assert_eq!(
        (found.cause.unwrap().known.id, alone(found).as_str()),
        ("time", "nothing")
    );
}
