//! Stores elsewhere: push, pull, and what is kept.

use std::time::Duration;

use relstore_store::Store;
use relstore_store::id::ReleaseId;

use crate::common::{File, TestEnv};

const FIRST: &[File<'static>] = &[("artisan", "1", true), ("app/Same.php", "<?php\n", false)];
const SECOND: &[File<'static>] = &[("artisan", "2", true), ("app/Same.php", "<?php\n", false)];

/// A project whose remote is an empty store in a folder.
fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write(
        "relstore.toml",
        "app = \"notes\"\n[store]\nremote = \"mirror\"\n[store.remotes.mirror]\nurl = \"./mirror\"\n",
    );
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let folder = env.project().join("mirror");
    runtime
        .block_on(Store::open_or_create(&folder))
        .expect("the folder is ours");
    env
}

fn has(env: &TestEnv, release: &ReleaseId) -> bool {
    let listed = env
        .run(["list", "--store", "./mirror", "--json"])
        .ok()
        .json();
    listed.to_string().contains(&release.to_string())
}

#[test]
fn a_release_goes_to_the_remote_and_comes_back() {
    let env = env();
    let release = env.stored(FIRST, &"a".repeat(40));
    let pushed = env.run(["push"]).ok();
    assert_eq!(pushed.stdout.trim(), release.to_string());
    assert!(has(&env, &release));
    let again = env.run(["push", &"a".repeat(40), "--to", "./mirror"]).ok();
    assert!(
        again.stderr.contains("was there already"),
        "{}",
        again.stderr
    );

    std::fs::remove_dir_all(env.store()).expect("the store is ours");
    let pulled = env.run(["pull", &"a".repeat(40), "--json"]).ok().json();
    assert_eq!(pulled["releases"][0], release.to_string());
    assert_eq!(pulled["bundles"], 1);
    let shown = env.run(["list", "--json"]).ok().json();
    assert_eq!(shown["releases"][0]["commits"][0], "a".repeat(40));
    let manifest = env.run(["manifest", "latest"]).ok().stdout;
    assert_eq!(ReleaseId::of(manifest.as_bytes()), release);
}

#[test]
fn all_releases_are_sent_at_once() {
    let env = env();
    let releases = [
        env.stored(FIRST, &"a".repeat(40)),
        env.stored(SECOND, &"b".repeat(40)),
    ];
    env.run(["push", "--all", "--to", "mirror"]).ok();
    for release in &releases {
        assert!(has(&env, release));
    }
}

#[test]
fn a_release_that_is_still_being_built_is_waited_for() {
    let env = env();
    let commit = "c".repeat(40);
    let absent = env.run(["pull", &commit]).fails(3);
    assert!(
        absent.stderr.contains("--from") || absent.stderr.contains("relstore list"),
        "{}",
        absent.stderr
    );
    let waited = env.run(["pull", &commit, "--wait", "1s"]).fails(3);
    assert!(
        waited.stderr.contains("was looked at for"),
        "{}",
        waited.stderr
    );

    let release = env.stored(FIRST, &commit);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            env.run(["push"]).ok();
        });
        let pulled = env.run(["pull", &commit, "--wait", "30s"]).ok();
        assert_eq!(pulled.stdout.trim(), release.to_string());
        assert!(
            pulled.stderr.contains("waiting for a release"),
            "{}",
            pulled.stderr
        );
    });
    // A name that no build can bring is not waited for.
    let wrong = env.run(["pull", "no-such-branch", "--wait", "1h"]).fails(3);
    assert!(!wrong.stderr.contains("waiting"), "{}", wrong.stderr);
}

#[test]
fn remotes_that_cannot_be_used_are_told() {
    let env = env();
    env.stored(FIRST, &"a".repeat(40));
    let near = env.run(["push", "--to", "miror"]).fails(3);
    assert!(
        near.stderr.contains("did you mean `mirror`"),
        "{}",
        near.stderr
    );
    let none = env.run(["push", "--to", "./empty"]).fails(3);
    assert!(
        none.stderr.contains("there is no store at") && none.stderr.contains("store init"),
        "{}",
        none.stderr
    );
    let scheme = env.run(["push", "--to", "ftp://host/x"]).fails(3);
    assert!(
        scheme.stderr.contains("no kind of store"),
        "{}",
        scheme.stderr
    );
    let secret = env
        .run(["push", "--to", "https://me:hunter2@host/x"])
        .fails(3);
    assert!(!secret.stderr.contains("hunter2"), "{}", secret.stderr);
    env.write("relstore.toml", "app = \"notes\"\n");
    let unknown = env.run(["push"]).fails(3);
    assert!(
        unknown.stderr.contains("no remote store is known"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn garbage_goes_in_two_runs_and_pins_hold() {
    let env = env();
    env.write(
        "relstore.toml",
        "app = \"notes\"\n[store]\nkeep_last = 1\nkeep_for = \"1s\"\ngrace = \"1s\"\n",
    );
    let pinned = env.stored(&[("artisan", "0", true)], &"9".repeat(40));
    env.run(["pin", &pinned.to_string(), "--name", "audit 2026"])
        .ok();
    let old = env.stored(FIRST, &"a".repeat(40));
    std::thread::sleep(Duration::from_millis(1100));
    let new = env.stored(SECOND, &"b".repeat(40));

    let dry = env.run(["gc", "--dry-run"]).ok();
    assert!(
        dry.stdout.contains(&format!("goes  {}", old.short())),
        "{}",
        dry.stdout
    );
    let first = env.run(["gc", "--json"]).ok().json();
    assert_eq!(first["expired"][0], old.to_string());
    assert_eq!(first["done"]["deleted"], 0);
    env.run(["manifest", &old.to_string()]).ok();
    std::thread::sleep(Duration::from_millis(1100));
    let second = env.run(["gc"]).ok();
    assert!(
        second.stdout.starts_with("keeps 2 of 3 releases\n"),
        "{}",
        second.stdout
    );
    env.run(["manifest", &old.to_string()]).fails(3);
    for kept in [&new, &pinned] {
        env.run(["manifest", &kept.to_string()]).ok();
    }
    assert!(env.run(["pin"]).ok().stdout.contains("audit 2026"));
    env.run([
        "pin",
        &pinned.to_string(),
        "--name",
        "audit 2026",
        "--remove",
    ])
    .ok();
    assert!(env.run(["pin"]).ok().stdout.starts_with("no pin in"));
    env.run(["pin", &pinned.to_string(), "--remove"]).fails(3);
}

#[test]
fn a_remote_may_require_signatures() {
    let env = env();
    let release = env.stored(FIRST, &"a".repeat(40));
    env.run(["push"]).ok();
    std::fs::remove_dir_all(env.store()).expect("the store is ours");
    env.write(
        "relstore.toml",
        "app = \"notes\"\n[store.remotes.mirror]\nurl = \"./mirror\"\nrequire_signatures = true\n",
    );
    let refused = env.run(["pull", &release.to_string()]).fails(3);
    let told = format!("{} is not taken from mirror", release.short());
    assert!(refused.stderr.contains(&told), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("has no provenance"),
        "{}",
        refused.stderr
    );
    assert!(!env.store().join("releases").exists(), "nothing was taken");
    // By its URL it is the same remote.
    env.run(["pull", &release.to_string(), "--from", "./mirror"])
        .fails(3);
}

#[test]
fn a_commit_with_two_releases_here_is_not_looked_for_elsewhere() {
    let env = env();
    let commit = "a".repeat(40);
    env.stored(FIRST, &commit);
    env.run(["push"]).ok();
    env.stored(SECOND, &commit);
    env.write(
        "relstore.toml",
        "app = \"notes\"\n[store]\nremote = \"./mirror\"\n\
         [env.prod]\ntransport = \"local\"\nbase = \"/srv/notes\"\nurl = \"http://127.0.0.1:1\"\n",
    );
    let refused = env
        .run(["deploy", &commit, "--env", "prod", "--dry-run"])
        .fails(3);
    let told = "was built into 2 different releases";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
}
