//! `relstore fsck`: what is damaged is found, told, and mended.

use std::path::PathBuf;

use crate::common::{File, TestEnv};

const FILES: &[File<'static>] = &[("artisan", "1", true), ("app/Rate.php", "<?php\n", false)];

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("relstore.toml", "app = \"notes\"\n");
    env.stored(FILES, &"a".repeat(40));
    env
}

/// The only file in a folder of the store.
fn object(env: &TestEnv, folder: &str) -> PathBuf {
    let mut files = std::fs::read_dir(env.store().join(folder)).unwrap();
    files.next().unwrap().unwrap().path()
}

fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn copy(env: &TestEnv) {
    let copied = env
        .command("cp")
        .arg("-a")
        .arg(env.store())
        .arg(env.project().join("copy"))
        .status()
        .unwrap();
    assert!(copied.success());
}

#[test]
fn a_sound_store_is_clean_whatever_is_read() {
    let env = env();
    for arguments in [
        &["fsck"][..],
        &["fsck", "--full"],
        &["fsck", "--sample", "50%"],
        &["fsck", "--repair"],
    ] {
        let ran = env.run(arguments).ok();
        assert!(ran.stdout.contains("nothing is damaged"), "{}", ran.all());
    }
    let sample = env.run(["fsck", "--sample", "1", "--seed", "7", "--json"]);
    assert_eq!(sample.ok().json()["seed"], 7);
    std::fs::write(env.store().join("bundles/.tmp-left"), "half").unwrap();
    let ran = env.run(["fsck"]).ok();
    assert!(ran.stdout.contains("never finished"), "{}", ran.all());
    env.run(["fsck", "--sample", "101%"]).fails(2);
    env.run(["fsck", "--from", "./copy"]).fails(2);
}

#[test]
fn damage_inside_of_a_bundle_is_found_and_mended_from_a_copy() {
    let env = env();
    copy(&env);
    flip(&object(&env, "bundles"), 20);
    env.run(["fsck"]).ok();
    let found = env.run(["fsck", "--full"]).fails(13);
    for told in [
        "bundles/",
        "affects release",
        "hint: `relstore fsck --repair --from",
    ] {
        assert!(found.stdout.contains(told), "{}", found.all());
    }
    let alone = env.run(["fsck", "--repair"]).fails(13);
    assert!(
        alone.stdout.contains("relstore build --ref aaaaaaaa"),
        "{}",
        alone.all()
    );
    let mended = env
        .run(["fsck", "--repair", "--from", "./copy", "--json"])
        .ok()
        .json();
    assert_eq!(mended["ok"], true);
    assert_eq!(mended["repair"]["blobs"], 2);
    env.run(["fsck", "--full"]).ok();
    env.run(["check", "latest"]);
}

#[test]
fn errors_of_damaged_objects_name_the_repair() {
    let env = env();
    flip(&object(&env, "manifests"), 10);
    let refused = env.run(["show", "latest"]).fails(1);
    assert!(
        refused.stderr.contains("relstore fsck --repair"),
        "{}",
        refused.all()
    );
    let found = env.run(["fsck", "--json"]).fails(13).json();
    assert_eq!(found["problems"][0]["kind"], "unreadable");
}

#[test]
fn a_store_without_its_format_is_mended_and_another_folder_is_none() {
    let env = env();
    std::fs::remove_file(env.store().join("format.json")).unwrap();
    env.run(["list"]).fails(3);
    env.run(["fsck"]).fails(13);
    env.run(["fsck", "--repair"]).ok();
    env.run(["list"]).ok();
    env.run(["fsck", "--store", "."]).fails(3);
}
