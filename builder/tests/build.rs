//! Whole builds without steps: reproducibility, gates, records.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use common::Project;
use relstore_builder::secret::Secrets;
use relstore_builder::{BuildError, SourceSpec, gate};
use serde_json::Value;

fn snapshot(root: &Path) -> BTreeMap<String, Vec<u8>> {
    common::names(root)
        .into_iter()
        .map(|name| (name.clone(), std::fs::read(root.join(name)).unwrap()))
        .collect()
}

#[tokio::test]
async fn same_content_is_the_same_release_wherever_and_whenever_it_is_built() {
    let one = Project::committed();
    let store = one.store();
    let first = one.build(one.head(), &store).await.unwrap();
    assert!(!first.reused && first.new_blobs > 0 && first.others.is_empty());
    assert_eq!(first.commit.as_ref().unwrap().len(), 40);

    // Another folder, another time, another commit, a work tree, looser modes.
    let two = Project::committed();
    two.git(&["commit", "-q", "--allow-empty", "-m", "y"]);
    two.mode("app/Models/User.php", 0o666);
    let mut request = two.request(SourceSpec::WorkTree);
    request.now += Duration::from_secs(1_000_000);
    let second = two.build(request, &store).await.unwrap();
    assert_eq!(second.release, first.release);
    assert!(second.reused && second.dirty && second.new_blobs == 0);

    let store = store.make().await.unwrap();
    let listed = store
        .releases_of_commit(first.commit.as_ref().unwrap())
        .await
        .unwrap();
    assert_eq!(listed, [first.release]);
    let dirty = store
        .releases_of_commit(second.commit.as_ref().unwrap())
        .await
        .unwrap();
    assert!(
        dirty.is_empty(),
        "a dirty build says nothing about a commit"
    );
    assert!(
        !one.scratch()
            .join("builds")
            .read_dir()
            .unwrap()
            .any(|_| true)
    );
}

#[tokio::test]
async fn two_releases_of_one_commit_are_reported() {
    let project = Project::committed();
    let store = project.store();
    let first = project.build(project.head(), &store).await.unwrap();
    let mut request = project.head();
    request.exclude = vec!["composer.lock".to_owned()];
    let second = project.build(request, &store).await.unwrap();
    assert_ne!(second.release, first.release);
    assert_eq!(second.others, [first.release]);
}

#[tokio::test]
async fn records_name_source_gates_and_variables_but_no_secret() {
    let project = Project::committed();
    std::fs::remove_dir_all(project.at("public/build")).unwrap();
    project.commit();
    let store = project.store();
    let mut request = project.head();
    request.gates.off = vec!["vite-manifest".to_owned()];
    request.wanted.env = BTreeMap::from([("VITE_NAME".to_owned(), "shown".to_owned())]);
    request.secrets = Secrets::new([("HTTPS_PROXY".to_owned(), "http://u:s3ntinel@p".to_owned())]);
    let built = project.build(request, &store).await.unwrap();
    let store = store.make().await.unwrap();
    let records = store.records(&built.release).await.unwrap();
    assert_eq!(records.len(), 3);
    let text: Vec<&str> = records
        .iter()
        .map(|record| std::str::from_utf8(&record.json).unwrap())
        .collect();
    assert!(!text.concat().contains("s3ntinel"));
    let json: Vec<Value> = text
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    let of = |kind: &str| {
        let found = json.iter().find(|json| {
            json["predicateType"]
                .as_str()
                .is_some_and(|is| is.contains(kind))
        });
        found.unwrap()["predicate"].clone()
    };
    let external = &of("provenance")["buildDefinition"]["externalParameters"];
    assert_eq!(
        external["source"]["commit"].as_str(),
        built.commit.as_deref()
    );
    assert_eq!(external["env"]["VITE_NAME"], "shown");
    assert_eq!(external["gatesOff"][0], "vite-manifest");
    assert_eq!(
        of("test-result")["passedTests"].as_array().unwrap().len(),
        16
    );
}

#[tokio::test]
async fn each_missing_one_of_the_nine_stores_nothing() {
    let whole = Project::committed();
    let store = whole.store();
    whole.build(whole.head(), &store).await.unwrap();
    let before = snapshot(&whole.root.path().join("store"));
    for gate in gate::nine() {
        let project = Project::committed();
        let what = gate.requirement().unwrap();
        let path = project.at("").join(what.path.as_path());
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
        project.commit();
        let error = project.build(project.head(), &store).await.unwrap_err();
        assert_eq!(error.to_string(), "1 of 17 gates failed");
        let details = error.details();
        assert_eq!(details.len(), 1);
        assert!(
            details[0].starts_with(&format!("gate `{}`:", gate.id)),
            "{details:?}"
        );
        assert!(details[0].contains(&what.path.to_string()));
        assert_eq!(
            snapshot(&whole.root.path().join("store")),
            before,
            "{}",
            gate.id
        );
    }
}

#[tokio::test]
async fn wrong_settings_are_refused_before_anything_is_read() {
    let project = Project::new(&[]);
    for change in [
        |request: &mut relstore_builder::BuildRequest| request.gates.off = vec!["vite".into()],
        |request: &mut relstore_builder::BuildRequest| request.exclude = vec!["a//b".into()],
        |request: &mut relstore_builder::BuildRequest| {
            request.wanted.env.insert("PATH".into(), "x".into());
        },
    ] {
        let mut request = project.head();
        change(&mut request);
        let error = project.prepare(request).await.unwrap_err();
        assert!(matches!(error, BuildError::Plan(_)), "{error}");
        assert!(!project.scratch().exists());
    }
}
