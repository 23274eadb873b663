//! The real application is built the same everywhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::site::{TOKEN, git, path, release_id, relstore, told, variable};
use super::{Fixture, Site};

fn copy_tree(from: &Path, to: &Path) {
    let ran = Command::new("cp")
        .args(["-a", path(from), path(to)])
        .output()
        .expect("cp runs");
    assert!(ran.status.success(), "{}", told(&ran));
}

#[test]
fn one_commit_gives_one_id_in_other_folders_umasks_locales_and_as_another_user() {
    let fixture = Fixture::get();
    let folder = tempfile::Builder::new()
        .prefix("relstore-repro-")
        .tempdir()
        .unwrap();
    let root = folder.path();
    Command::new("chmod")
        .args(["755", path(root)])
        .status()
        .unwrap();

    // Another folder, deeper; another umask, locale and time zone; a clone, shallow.
    let deep = root.join("a/quite/different/place");
    fs::create_dir_all(&deep).unwrap();
    let source = format!("file://{}", fixture.repository.display());
    git(
        &deep,
        &["clone", "--quiet", "--depth", "3", &source, "checkout"],
    );
    let first_commit = "HEAD~2";
    let program = env!("CARGO_BIN_EXE_relstore");
    let script = "umask 077; exec \"$0\" build --no-checks --ref HEAD~2 --store \"$1\"";
    let ran = Command::new("sh")
        .args(["-c", script, program, path(&root.join("store-one"))])
        .current_dir(deep.join("checkout"))
        .env_clear()
        .env("PATH", variable("PATH"))
        .env("HOME", root.join("home-one"))
        .env("LC_ALL", "C")
        .env("TZ", "Pacific/Auckland")
        .env("NOTES_BASE", "/x")
        .env("NOTES_URL", "http://127.0.0.1")
        .env("HEALTH_TOKEN", TOKEN)
        .output()
        .unwrap();
    assert_eq!(release_id(&ran), fixture.first);

    // Another user, who owns a copy of the repository; with no locale at all.
    let theirs = root.join("theirs");
    fs::create_dir(&theirs).unwrap();
    copy_tree(&deep.join("checkout"), &theirs);
    copy_tree(Path::new(program), &theirs);
    Command::new("chown")
        .args(["-R", "deploy", path(&theirs)])
        .status()
        .unwrap();
    let ran = Command::new("setpriv")
        .args([
            "--reuid",
            "deploy",
            "--regid",
            "deploy",
            "--init-groups",
            path(&theirs.join("relstore")),
        ])
        .args([
            "build",
            "--no-checks",
            "--ref",
            first_commit,
            "--store",
            path(&theirs.join("store")),
        ])
        .current_dir(theirs.join("checkout"))
        .env_clear()
        .env("PATH", variable("PATH"))
        .env("HOME", &theirs)
        .env("NOTES_BASE", "/x")
        .env("NOTES_URL", "http://127.0.0.1")
        .output()
        .unwrap();
    assert_eq!(release_id(&ran), fixture.first);

    // Built again into the same store: the same id, and no new blob.
    let ran = relstore(&deep.join("checkout"), &root.join("home-one"))
        .args([
            "build",
            "--no-checks",
            "--ref",
            first_commit,
            "--store",
            path(&root.join("store-one")),
        ])
        .output()
        .unwrap();
    assert_eq!(release_id(&ran), fixture.first);
}

#[test]
fn checks_of_the_application_are_recorded_and_refuse_what_breaks_it() {
    let fixture = Fixture::get();
    let folder = tempfile::tempdir().unwrap();
    let (project, home) = (folder.path().join("checkout"), folder.path().join("home"));
    let source = format!("file://{}", fixture.repository.display());
    git(
        folder.path(),
        &["clone", "--quiet", &source, path(&project)],
    );
    let store = folder.path().join("store");
    let build = |revision: &str| {
        let args = [
            "build",
            "--json",
            "--ref",
            revision,
            "--store",
            path(&store),
        ];
        relstore(&project, &home).args(args).output().unwrap()
    };
    let ran = build("HEAD~2");
    assert!(ran.status.success(), "{}", told(&ran));
    let show = ["show", &fixture.first, "--store", path(&store)];
    let shown = relstore(&project, &home).args(show).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("check     tests passed, 8 tests"), "{shown}");
    assert!(shown.contains("check     style passed"), "{shown}");

    // The last commit breaks the health check.
    let ran = build("HEAD");
    assert_eq!(ran.status.code(), Some(12), "{}", told(&ran));
    let listed = relstore(&project, &home)
        .args(["list", "--json", "--store", path(&store)])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(listed.matches("\"release\"").count(), 1, "{listed}");
}

#[test]
fn ids_can_be_checked_with_b3sum() {
    let site = Site::new("b3sum", 18110);
    let release = site.fixture.first.clone();
    let manifest = site.expect(0, &["manifest", &release]).stdout;
    let sum = |bytes: &[u8]| {
        use std::io::Write;
        let mut child = Command::new("b3sum")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("b3sum runs");
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        let out = child.wait_with_output().unwrap().stdout;
        String::from_utf8(out)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(sum(&manifest), release);

    // Every file of the deployed release by b3sum alone.
    site.deploy(&release);
    let list = site
        .expect(0, &["manifest", &release, "--format", "b3sum"])
        .stdout;
    let list_file = site.base.join("list");
    fs::write(&list_file, &list).unwrap();
    let ran = Command::new("b3sum")
        .args(["--check", path(&list_file)])
        .current_dir(site.base.join("current/"))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", told(&ran));
    assert!(list.iter().filter(|&&byte| byte == b'\n').count() > 4000);
}
