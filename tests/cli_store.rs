//! Commands that only read the store: list, show, manifest, diff, and the names of releases.

use std::io::Write;
use std::process::Stdio;

use crate::common::{File, TestEnv};

const OLD: &[File<'static>] = &[
    ("artisan", "#!/usr/bin/env php\n", true),
    ("app/Rate.php", "<?php\nreturn 19;\n", false),
    ("app/Old.php", "<?php // moves\n", false),
    ("storage/app/.gitignore", "*\n", false),
];
const NEW: &[File<'static>] = &[
    ("artisan", "#!/usr/bin/env php\n", false),
    ("app/Rate.php", "<?php\nreturn 7;\n", false),
    ("app/New.php", "<?php // moves\n", false),
    ("app/More.php", "<?php\n", false),
    ("storage/app/.gitignore", "*\n", false),
];

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("relstore.toml", "app = \"notes\"\n");
    env
}

#[test]
fn manifest_text_hashes_to_the_release() {
    let env = env();
    let release = env.stored(OLD, &"a".repeat(40));
    let text = env.run(["manifest", "latest"]).ok().stdout;
    assert_eq!(relstore_store::id::ReleaseId::of(text.as_bytes()), release);
    assert_eq!(
        env.run(["manifest", &release.to_string(), "--json"])
            .ok()
            .json()["release"],
        release.to_string()
    );
}

#[test]
fn sums_are_accepted_by_sha256sum_and_find_every_changed_file() {
    let env = env();
    let release = env.stored(OLD, &"a".repeat(40)).to_string();
    let sums = env
        .run(["manifest", &release, "--format", "sha256sum"])
        .ok()
        .stdout;
    assert!(
        !sums.contains("storage"),
        "initial content may change on a host: {sums}"
    );
    let check = |folder: &std::path::Path| {
        let mut child = env
            .command("sha256sum")
            .args(["--check", "--quiet"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(sums.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    };
    for (path, text, _) in OLD {
        env.write(path, text);
    }
    assert!(check(&env.project()).status.success());
    env.write("app/Rate.php", "<?php\nreturn 20;\n");
    let failed = check(&env.project());
    assert!(!failed.status.success());
    assert!(String::from_utf8_lossy(&failed.stdout).contains("app/Rate.php: FAILED"));
}

#[test]
fn diff_tells_every_kind_of_change() {
    let env = env();
    let (old, new) = (
        env.stored(OLD, &"a".repeat(40)),
        env.stored(NEW, &"b".repeat(40)),
    );
    let (old, new) = (old.to_string(), new.to_string());
    assert_eq!(
        env.run(["diff", &old, &new]).ok().stdout,
        "added    app/More.php  6 B\n\
         renamed  app/New.php   from app/Old.php\n\
         changed  app/Rate.php  17 B -> 16 B\n\
         mode     artisan       no longer executable\n\
         4 differences: 1 added, 1 changed, 1 renamed, 1 with another mode; 53 B -> 58 B\n"
    );
    assert_eq!(
        env.run(["diff", &old, &new, "--name-only"]).ok().stdout,
        "app/More.php\napp/New.php\napp/Rate.php\nartisan\n"
    );
    let json = env
        .run(["diff", &old, &new, "--json", "--patch"])
        .ok()
        .json();
    assert_eq!(json["summary"]["renamed"], 1);
    assert_eq!(json["changes"][2]["from"]["size"], 17);
    assert!(
        json["changes"][2]["patch"]
            .as_str()
            .unwrap()
            .contains("-return 19;\n+return 7;\n")
    );
    assert!(
        env.run(["diff", &old, &old])
            .ok()
            .stdout
            .contains("are the same release")
    );
}

#[test]
fn patch_applied_to_the_old_tree_gives_the_new_one() {
    let env = env();
    let (old, new) = (
        env.stored(OLD, &"a".repeat(40)),
        env.stored(NEW, &"b".repeat(40)),
    );
    let patch = env
        .run(["diff", &old.to_string(), &new.to_string(), "--patch"])
        .ok()
        .stdout;
    for (path, text, executable) in OLD {
        env.write(path, text);
        if *executable {
            env.command("chmod")
                .arg("755")
                .arg(env.project().join(path))
                .status()
                .unwrap();
        }
    }
    env.commit("old");
    env.write("the.patch", &patch);
    env.git(&["apply", "--index", "the.patch"]);
    env.remove("the.patch");
    env.remove("relstore.toml");
    for (path, text, _) in NEW {
        assert_eq!(
            std::fs::read_to_string(env.project().join(path)).unwrap(),
            *text,
            "{path}"
        );
    }
    assert!(!env.project().join("app/Old.php").exists());
    assert!(
        env.git(&["diff", "--cached", "--summary"])
            .contains("mode change 100755 => 100644 artisan")
    );
}

#[test]
fn release_is_found_by_every_kind_of_name() {
    let env = env();
    let commit = env.commit("Fix the rate");
    env.git(&["tag", "v1.0"]);
    let release = env.stored(OLD, &commit).to_string();
    for name in [
        release.as_str(),
        &release[..8],
        "HEAD",
        "main",
        "v1.0",
        &commit,
        &commit[..10],
        "latest",
    ] {
        let shown = env.run(["show", name, "--json"]).ok().json();
        assert_eq!(shown["release"], release, "{name}");
    }
    let text = env.run(["show", "HEAD"]).ok().stdout;
    assert!(
        text.contains(&format!("commit {} \"Fix the rate\"", &commit[..12])),
        "{text}"
    );
    let list = env.run(["list"]).ok().stdout;
    assert!(
        list.contains(&release[..12])
            && list.contains("2026-01-02 03:04")
            && list.contains("Fix the rate"),
        "{list}"
    );
}

#[test]
fn names_that_lead_nowhere_say_what_to_do() {
    let env = env();
    let ran = env.run(["show", "latest"]).fails(3);
    assert!(
        ran.stderr.contains("there is no store at"),
        "{}",
        ran.stderr
    );
    let commit = env.commit("one");
    env.stored(OLD, &"a".repeat(40));
    let ran = env.run(["show", "main"]).fails(3);
    assert!(
        ran.stderr.contains(&commit[..12]) && ran.stderr.contains("relstore build --ref main"),
        "{}",
        ran.stderr
    );
    let ran = env.run(["show", "abc"]).fails(3);
    assert!(ran.stderr.contains("at least 8 digits"), "{}", ran.stderr);
    let ran = env.run(["show", &"0".repeat(64)]).fails(3);
    assert!(ran.stderr.contains("is not in the store"), "{}", ran.stderr);
    env.stored(NEW, &commit);
    env.stored(OLD, &commit);
    let ran = env.run(["show", "HEAD"]).fails(3);
    assert!(
        ran.stderr.contains("2 different releases") && ran.stderr.contains("relstore diff"),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_keeps_git_from_answering_is_told() {
    let mut env = env();
    env.stored(OLD, &"a".repeat(40));
    let ran = env.run(["show", "HEAD"]).fails(3);
    assert!(
        ran.stderr
            .contains("neither a release in the store nor a commit")
            && ran
                .stderr
                .contains("$ROOT/project is not in a git repository")
            && ran.stderr.contains("hint: `relstore list`"),
        "{}",
        ran.all()
    );
    env.git(&["init", "--quiet"]);
    env.set("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1");
    for arguments in [
        &["show", "HEAD"][..],
        &["check", "main"],
        &["diff", "v1", "v2"],
    ] {
        let ran = env.run(arguments).fails(3);
        assert!(
            ran.stderr.contains("belongs to another user")
                && ran.stderr.contains("hint: if you trust its owner")
                && ran.stderr.contains("safe.directory $ROOT/project"),
            "{}",
            ran.all()
        );
    }
    // The hash of a commit needs no git.
    env.run(["show", &"a".repeat(40)]).ok();
    env.set("PATH", "/nowhere");
    let ran = env.run(["show", "HEAD"]).fails(3);
    assert!(
        ran.stderr.contains("`git` is not installed"),
        "{}",
        ran.all()
    );
}

#[test]
fn limit_of_nothing_is_a_mistake_and_not_an_empty_store() {
    let env = env();
    env.stored(OLD, &"a".repeat(40));
    env.run(["list", "--limit", "0"]).fails(2);
    let one = env.run(["list", "--limit", "1"]).ok();
    assert_eq!(one.stdout.lines().count(), 2, "{}", one.all());
}

#[test]
fn reader_that_stops_early_is_no_failure() {
    let env = env();
    env.stored(OLD, &"a".repeat(40));
    let mut child = env
        .command(env!("CARGO_BIN_EXE_relstore"))
        .args(["manifest", "latest"])
        .current_dir(env.project())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn list_remembers_what_a_hash_names_and_nothing_else() {
    let env = env();
    env.stored(OLD, &"a".repeat(40));
    let one = env.run(["list", "--json"]).ok().stdout;
    assert_eq!(env.run(["list", "--json"]).ok().stdout, one);
    let facts: Vec<_> = std::fs::read_dir(env.project().join("../home/.cache/relstore/facts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(facts.len(), 1);
    std::fs::write(&facts[0], "relstore-facts 1\nrubbish").unwrap();
    assert_eq!(env.run(["list", "--json"]).ok().stdout, one);
    let new = env.stored(NEW, &"b".repeat(40));
    let two = env.run(["list", "--json"]).ok().json();
    assert_eq!(two["releases"][0]["release"], new.to_string());
    assert_eq!(two["releases"][0]["files"], 5);
    std::fs::remove_dir_all(env.store()).unwrap();
    let again = env.stored(OLD, &"c".repeat(40));
    let listed = env.run(["list", "--json"]).ok().json();
    assert_eq!(listed["releases"].as_array().unwrap().len(), 1);
    assert_eq!(listed["releases"][0]["release"], again.to_string());
    assert_eq!(
        listed["releases"][0]["commits"],
        serde_json::json!(["c".repeat(40)])
    );
}

#[test]
fn stats_tell_what_is_saved_and_what_each_release_added() {
    let env = env();
    let old = env.stored(OLD, &"a".repeat(40)).to_string();
    let new = env.stored(NEW, &"b".repeat(40)).to_string();
    let stats = env.run(["store", "stats", "--json"]).ok().json();
    let length = |files: &[File<'_>]| files.iter().map(|(_, text, _)| text.len()).sum::<usize>();
    assert_eq!(stats["releases"], 2);
    assert_eq!(stats["logical_bytes"], length(OLD) + length(NEW));
    // `artisan`, what moved and what storage has are the same in both.
    assert_eq!(stats["blobs"], 6);
    assert_eq!(
        (&stats["garbage_bytes"], &stats["bundles"]),
        (&0.into(), &2.into())
    );
    let growth = stats["growth"].as_array().unwrap();
    for (at, release, new_blobs) in [(0, &new, 2), (1, &old, 4)] {
        assert_eq!(growth[at]["release"], *release);
        assert_eq!(growth[at]["new_blobs"], new_blobs);
    }
    let text = env.run(["store", "stats", "-n", "1"]).ok().stdout;
    assert!(text.contains("in 2 bundles"), "{text}");
    assert!(
        text.contains(&new[..8]) && !text.contains(&old[..8]),
        "{text}"
    );
}
