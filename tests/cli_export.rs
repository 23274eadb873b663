//! `relstore export`, and `relstore import` of archives: ours and those of other programs.

use std::fs;
use std::process::Stdio;

use crate::common::{Ran, TestEnv};

const COMMIT: &str = "5555555555555555555555555555555555555555";

/// A project whose store has a release.
fn env() -> (TestEnv, String) {
    let env = TestEnv::new();
    env.write("relstore.toml", "app = \"notes\"\n");
    let release = env.stored(
        &[
            ("artisan", "#!/usr/bin/env php\n", true),
            ("app/a.php", "<?php\n", false),
            ("public/index.php", "<?php\n", false),
            ("storage/logs/.gitignore", "*\n", false),
        ],
        COMMIT,
    );
    (env, release.to_string())
}

/// Runs a line of shell in the project to success.
fn sh(env: &TestEnv, line: &str) -> String {
    env.script(&format!("set -e; {line}"), &[]).ok().stdout
}

fn release(ran: Ran) -> String {
    ran.ok().stdout.trim_end().to_owned()
}

/// What is left of private folders.
fn left_over(env: &TestEnv) -> usize {
    let builds = env.root().join("home/.cache/relstore/builds");
    fs::read_dir(builds).map_or(0, Iterator::count)
}

#[test]
fn export_writes_an_archive_and_its_sum() {
    let (env, id) = env();
    for (arguments, ending) in [
        (vec!["export", "latest"], "tar.zst"),
        (vec!["export", COMMIT, "--format", "tar.gz"], "tar.gz"),
    ] {
        let name = format!("deployment-bundle-{id}.{ending}");
        let ran = env.run(&arguments).ok();
        assert_eq!(ran.stdout, format!("$ROOT/project/{name}\n"));
        let first = fs::read(env.project().join(&name)).unwrap();
        assert_eq!(
            sh(&env, &format!("sha256sum -c {name}.sha256")),
            format!("{name}: OK\n")
        );
        let listed = sh(&env, &format!("tar -tf {name} | head -3"));
        assert_eq!(listed, "app/\napp/a.php\nartisan\n");
        // Again: the same bytes, which is fine.
        env.run(&arguments).ok();
        assert_eq!(fs::read(env.project().join(&name)).unwrap(), first);
    }
    // No temporary file stays.
    assert_eq!(fs::read_dir(env.project()).unwrap().count(), 5);
}

#[test]
fn output_is_a_file_a_folder_or_stdout() {
    let (env, id) = env();
    let json = env
        .run(["export", "latest", "--output", "dist/", "--json"])
        .ok()
        .json();
    assert_eq!(json["release"], id);
    assert_eq!(json["format"], "tar.zst");
    let name = format!("$ROOT/project/dist/deployment-bundle-{id}.tar.zst");
    assert_eq!(json["file"], name);
    assert_eq!(json["sums"], format!("{name}.sha256"));
    env.run(["export", "latest", "--output", "x.tgz"]).ok();
    assert_eq!(
        sh(
            &env,
            "sha256sum -c x.tgz.sha256; gzip -t x.tgz; tar -tzf x.tgz | tail -1"
        ),
        "x.tgz: OK\nstorage/logs/.gitignore\n"
    );
    sh(&env, "\"$1\" export latest --output - > piped");
    assert_eq!(
        fs::read(env.project().join("piped")).unwrap(),
        fs::read(
            env.project()
                .join(format!("dist/deployment-bundle-{id}.tar.zst"))
        )
        .unwrap()
    );
    assert!(!env.project().join("-.sha256").exists());
    env.run(["export", "latest", "--output", "-", "--json"])
        .fails(2);
}

#[test]
fn other_files_are_never_replaced() {
    let (env, id) = env();
    let name = format!("deployment-bundle-{id}.tar.zst");
    env.write(&name, "mine");
    let ran = env.run(["export", "latest"]).fails(3);
    assert!(
        ran.stderr.contains("is there already, with other content"),
        "{}",
        ran.stderr
    );
    assert_eq!(fs::read(env.project().join(&name)).unwrap(), b"mine");
    assert_eq!(fs::read_dir(env.project()).unwrap().count(), 2);
    env.remove(&name);
    env.write(&format!("{name}.sha256"), "mine");
    env.run(["export", "latest"]).fails(3);
    assert_eq!(
        fs::read(env.project().join(format!("{name}.sha256"))).unwrap(),
        b"mine"
    );
}

#[test]
fn exported_archive_is_imported_as_the_same_release() {
    let (env, id) = env();
    for format in ["tar.zst", "tar.gz"] {
        env.run(["export", "latest", "--format", format, "--output", "out"])
            .ok();
        let other = format!("other-{format}");
        let ran = env.run(["import", "out", "--store", &other]);
        assert_eq!(release(ran), id);
        let text = env
            .run(["show", &id, "--provenance", "--store", &other])
            .ok()
            .stdout;
        let provenance: serde_json::Value = serde_json::from_str(&text).unwrap();
        let definition = &provenance["predicate"]["buildDefinition"];
        assert_eq!(definition["buildType"], "urn:relstore:archive-import:1");
        let sum = sh(&env, "sha256sum < out");
        assert_eq!(
            definition["resolvedDependencies"][0]["digest"]["sha256"],
            sum[..64]
        );
        // Without the label, the layout is that of relstore.toml.
        sh(&env, "mkdir tree; tar -xf out -C tree");
        assert_eq!(release(env.run(["import", "tree", "--store", &other])), id);
        sh(&env, "rm -r tree out out.sha256");
    }
    assert_eq!(left_over(&env), 0);
}

#[test]
fn layout_of_an_exported_archive_cannot_be_changed() {
    let (env, id) = env();
    env.run(["export", "latest", "--output", "out"]).ok();
    for arguments in [
        ["--layout", "plain"],
        ["--shared", "public"],
        ["--writable", "tmp"],
    ] {
        let ran = env
            .run([&["import", "out"], &arguments[..]].concat())
            .fails(3);
        assert!(ran.stderr.contains(&id), "{}", ran.stderr);
    }
}

#[test]
fn archive_that_lies_about_its_release_is_refused() {
    let (env, id) = env();
    env.run(["export", "latest", "--output", "out.tar.gz"]).ok();
    sh(
        &env,
        "rm out.tar.gz.sha256; gzip -dc out.tar.gz | sed 's/<?php/<?PHP/' > lie.tar",
    );
    let ran = env.run(["import", "lie.tar", "--store", "other"]).fails(3);
    assert!(
        ran.stderr
            .contains(&format!("says that it is release {id}")),
        "{}",
        ran.stderr
    );
    assert!(!env.project().join("other/releases").exists());
}

#[test]
fn tarball_of_another_pipeline_is_imported() {
    let env = TestEnv::new();
    env.write("relstore.toml", "app = \"notes\"\n");
    for (path, text) in [
        ("artisan", "#!/usr/bin/env php\n"),
        ("public/index.php", "<?php\n"),
        ("storage/logs/laravel.log", "a visitor\n"),
        (".env", "APP_KEY=s3ntinel\n"),
    ] {
        env.write(&format!("dist/{path}"), text);
    }
    sh(&env, "chmod +x dist/artisan; ln dist/artisan dist/again");
    let folder = release(env.run(["import", "dist"]));
    for line in [
        "tar czf deployment-bundle-abc.tar.gz -C dist .",
        "tar czf deployment-bundle-abc.tar.gz dist",
        "bsdtar --format pax -czf deployment-bundle-abc.tar.gz -C dist .",
        "tar --format=posix -czf deployment-bundle-abc.tar.gz -C dist .",
    ] {
        sh(
            &env,
            &format!(
                "{line}; sha256sum deployment-bundle-abc.tar.gz > deployment-bundle-abc.tar.gz.sha256"
            ),
        );
        let ran = env.run(["import", "deployment-bundle-abc.tar.gz"]);
        assert!(ran.stderr.contains("left out: .env"), "{}", ran.stderr);
        assert_eq!(release(ran), folder, "{line}");
    }
    assert_eq!(left_over(&env), 0);
}

#[test]
fn archive_with_another_sum_is_refused() {
    let (env, _) = env();
    env.run(["export", "latest", "--output", "out"]).ok();
    let zeros = "0".repeat(64);
    fs::write(env.project().join("out.sha256"), format!("{zeros}  out\n")).unwrap();
    let ran = env.run(["import", "out", "--store", "other"]).fails(3);
    assert!(
        ran.stderr.contains(&format!("announced {zeros}")),
        "{}",
        ran.stderr
    );
    fs::write(
        env.project().join("out.sha256"),
        format!("{zeros}  elsewhere\n"),
    )
    .unwrap();
    env.run(["import", "out", "--store", "other"]).fails(3);
    assert!(!env.project().join("other").exists());
}

#[test]
fn what_is_no_archive_leaves_nothing() {
    let (env, _) = env();
    env.write("text", "hello\n");
    env.run(["export", "latest", "--output", "whole"]).ok();
    let whole = fs::read(env.project().join("whole")).unwrap();
    fs::write(env.project().join("cut"), &whole[..whole.len() / 2]).unwrap();
    sh(
        &env,
        "mkdir t; ln -s / t/l; echo > t/f; tar -cf leaves t; tar -cf pipe /dev/null 2>/dev/null",
    );
    for (name, what) in [
        ("text", "no tar archive"),
        ("cut", "cut off"),
        ("leaves", "leaves the release"),
        ("pipe", "a device"),
        ("nowhere", "neither a folder nor a file"),
    ] {
        let ran = env.run(["import", name, "--store", "other"]).fails(3);
        assert!(ran.stderr.contains(what), "{name}: {}", ran.stderr);
        assert!(!env.project().join("other").exists(), "{name}");
    }
    assert_eq!(left_over(&env), 0);
}

#[test]
fn private_folder_goes_when_an_import_is_interrupted() {
    let (env, _) = env();
    // More than can be unpacked before the signal.
    sh(
        &env,
        "mkdir big; head -c 120000000 /dev/urandom > big/a; tar -cf big.tar -C big .",
    );
    let mut command = env.command(env!("CARGO_BIN_EXE_relstore"));
    command
        .args(["import", "big.tar", "--store", "other"])
        .current_dir(env.project());
    let mut child = command
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let builds = env.root().join("home/.cache/relstore/builds");
    let begun = || fs::read_dir(&builds).is_ok_and(|mut entries| entries.next().is_some());
    for _ in 0..500 {
        if begun() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let pid = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .arg(&pid)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(10));
    assert_eq!(left_over(&env), 0);
}
