//! `relstore build` and `relstore check`, with an application that needs no Composer and no Node.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use relstore_store::id::{BlobId, ReleaseId};

use crate::common::{Ran, TestEnv};

/// The nine paths that every release must have: path, whether it is a folder, the gate's id.
const NINE: [(&str, bool, &str); 9] = [
    ("artisan", false, "artisan"),
    ("composer.json", false, "composer-json"),
    ("public/index.php", false, "public-index"),
    ("public/build/manifest.json", false, "vite-manifest"),
    ("vendor/autoload.php", false, "autoload"),
    ("bootstrap", true, "bootstrap"),
    ("config", true, "config"),
    ("routes", true, "routes"),
    ("app", true, "app"),
];

/// A committed application that passes all gates without any step.
fn application() -> TestEnv {
    let env = TestEnv::new();
    for (path, folder, _) in NINE {
        let file = if folder {
            format!("{path}/x.php")
        } else {
            path.to_owned()
        };
        env.write(&file, &format!("<?php // {path}\n"));
    }
    env.write("public/build/manifest.json", "{}\n");
    env.write("relstore.toml", "app = \"notes\"\n[build]\nsteps = []\n");
    env.commit("First");
    env
}

fn release(ran: &Ran) -> ReleaseId {
    ran.stdout
        .strip_suffix('\n')
        .and_then(|line| line.parse().ok())
        .unwrap_or_else(|| panic!("{}", ran.all()))
}

#[test]
fn stdout_is_the_release_and_all_ids_are_plain_blake3() {
    let env = application();
    let release = release(&env.run(["build"]).ok());
    let text = env.run(["manifest", &release.to_string()]).ok().stdout;
    assert_eq!(ReleaseId::of(text.as_bytes()), release);
    let document = env.run(["manifest", "latest", "--json"]).ok().json();
    let entries = document["entries"].as_array().unwrap();
    let artisan = entries
        .iter()
        .find(|entry| entry["path"] == "artisan")
        .unwrap();
    assert_eq!(
        artisan["blob"],
        BlobId::of(b"<?php // artisan\n").to_string()
    );
    let kinds = |kind: &str| -> Vec<&str> {
        let of_kind = entries.iter().filter(|entry| entry["kind"] == kind);
        of_kind
            .map(|entry| entry["path"].as_str().unwrap())
            .collect()
    };
    assert_eq!(
        (kinds("s"), kinds("S"), kinds("w")),
        (vec![".env"], vec!["storage"], vec!["bootstrap/cache"])
    );
}

#[test]
fn same_commit_gives_the_same_release_wherever_and_however_it_is_built() {
    let env = application();
    let first = release(&env.run(["build"]).ok());
    let clone = env.root().join("other place/clone");
    env.git(&[
        "clone",
        "--quiet",
        env.project().to_str().unwrap(),
        clone.to_str().unwrap(),
    ]);
    let output = env
        .command("sh")
        .args([
            "-c",
            "umask 077; exec \"$0\" build",
            env!("CARGO_BIN_EXE_relstore"),
        ])
        .env("LC_ALL", "tr_TR.UTF-8")
        .env("TZ", "Asia/Kathmandu")
        .env("HOME", env.root().join("other home"))
        .current_dir(&clone)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{first}\n")
    );
}

#[test]
fn each_of_the_nine_is_named_when_it_is_missing_and_the_store_stays_as_it_was() {
    let env = application();
    for (path, _, gate) in NINE {
        env.remove(path);
        env.commit("break it");
        let ran = env.run(["build"]).fails(4);
        assert!(
            ran.stderr.contains(&format!("gate `{gate}`")) && ran.stderr.contains(path),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stdout, "");
        assert!(
            !env.store().exists(),
            "{path}: a failed gate makes no store"
        );
        env.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    }
    env.run(["build"]).ok();
    let before = env.contents(&env.store());
    for (path, _, _) in NINE {
        env.remove(path);
        env.commit("break it");
        env.run(["build"]).fails(4);
        assert_eq!(env.contents(&env.store()), before, "{path}");
        env.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    }
}

#[test]
fn all_failed_gates_are_in_the_json_error_and_one_that_is_off_is_recorded() {
    let env = application();
    env.remove("public/build/manifest.json");
    env.remove("config");
    env.commit("break it twice");
    let error = env.run(["build", "--json"]).fails(4).json();
    assert_eq!(error["error"]["kind"], "gate-failed");
    assert_eq!(error["error"]["details"].as_array().unwrap().len(), 2);
    env.write("config/x.php", "");
    env.write(
        "relstore.toml",
        "app = \"notes\"\n[build]\nsteps = []\n[gates]\noff = [\"vite-manifest\"]\n",
    );
    env.commit("no Vite here");
    env.run(["build"]).ok();
    let shown = env.run(["show", "latest", "--json"]).ok().json();
    assert_eq!(shown["gates"]["off"], serde_json::json!(["vite-manifest"]));
    assert_eq!(shown["gates"]["passed"].as_array().unwrap().len(), 16);
}

#[test]
fn work_tree_is_built_only_when_asked_and_recorded_as_dirty() {
    let env = application();
    let clean = release(&env.run(["build"]).ok());
    env.write("app/x.php", "<?php // changed\n");
    assert_eq!(
        release(&env.run(["build"]).ok()),
        clean,
        "the commit is what it was"
    );
    let dirty = release(&env.run(["build", "--dirty"]).ok());
    assert_ne!(dirty, clean);
    assert_eq!(
        env.run(["show", "HEAD", "--json"]).ok().json()["release"],
        clean.to_string()
    );
    let shown = env.run(["show", "latest", "--json"]).ok().json();
    assert_eq!(
        (&shown["release"], &shown["builds"][0]["dirty"]),
        (&dirty.to_string().into(), &true.into())
    );
}

#[test]
fn commit_that_gave_two_releases_is_reported_and_not_guessed_at() {
    let env = application();
    let first = release(&env.run(["build"]).ok());
    env.write(
        "relstore.toml",
        "app = \"notes\"\n[build]\nsteps = []\nexclude = [\"routes/x.php\"]\n",
    );
    env.run(["build"]).fails(4);
    env.write("relstore.toml", "app = \"notes\"\n[build]\nsteps = []\nexclude = [\"app/x.php\"]\n[gates]\noff = [\"app\"]\n");
    let ran = env.run(["build"]).ok();
    let second = release(&ran);
    assert!(
        ran.stderr.contains(&format!(
            "relstore diff {} {}",
            first.short(),
            second.short()
        )),
        "{}",
        ran.stderr
    );
    let ran = env.run(["show", "HEAD"]).fails(3);
    assert!(
        ran.stderr.contains(&first.to_string()) && ran.stderr.contains(&second.to_string()),
        "{}",
        ran.stderr
    );
}

#[test]
fn sources_that_cannot_be_built_say_what_to_do() {
    let env = application();
    let ran = env.run(["build", "--ref", "nowhere"]).fails(3);
    assert!(
        ran.stderr.contains("`nowhere` is no commit"),
        "{}",
        ran.stderr
    );
    env.remove(".git");
    let ran = env.run(["build"]).fails(3);
    assert!(ran.stderr.contains("--dirty"), "{}", ran.stderr);
    env.git(&["init", "--quiet"]);
    let ran = env.run(["build"]).fails(3);
    assert!(
        ran.stderr.contains("nothing was committed here yet") && ran.stderr.contains("--dirty"),
        "{}",
        ran.stderr
    );
    env.run(["build", "--dirty"]).ok();
}

#[test]
fn work_tree_without_a_difference_leaves_the_release_that_of_its_commit() {
    let env = application();
    let clean = release(&env.run(["build"]).ok());
    assert_eq!(release(&env.run(["build", "--dirty"]).ok()), clean);
    let listed = env.run(["list", "--json"]).ok().json();
    assert_eq!(listed["releases"][0]["dirty"], false);
    let listed = env.run(["list"]).ok().stdout;
    assert!(
        !listed.contains('+') && listed.contains("First"),
        "{listed}"
    );
}

#[test]
fn place_that_cannot_be_a_store_is_told_before_the_work_and_left_alone() {
    let env = application();
    env.write("taken/notes.txt", "mine");
    env.write("file", "mine");
    for (place, code, why) in [
        (
            "taken",
            3,
            "$ROOT/project/taken holds other files and no store",
        ),
        ("file", 1, "cannot create a file in $ROOT/project/file"),
        ("/proc/relstore/store", 1, "cannot create a file in /proc"),
    ] {
        let ran = env.run(["build", "--store", place]).fails(code);
        assert!(ran.stderr.contains(why), "{}", ran.all());
        assert!(!ran.stderr.contains("source"), "no work yet: {}", ran.all());
    }
    let taken = env.contents(&env.project().join("taken"));
    assert_eq!(taken.len(), 1, "{taken:?}");
    env.run(["build", "--store", "new/store"]).ok();
    env.run(["build", "--store", "new/store"]).ok();
}

#[test]
fn failed_step_shows_its_last_output_and_where_all_of_it_is() {
    let mut env = application();
    env.write("composer.json", "{}");
    env.write("composer.lock", "{}");
    env.write(
        "relstore.toml",
        "app = \"notes\"\n[build]\nsteps = [\"composer\"]\n",
    );
    env.commit("with a step");
    env.program("php", "echo 8.2.0");
    env.program(
        "composer",
        "case $1 in install) echo the reason >&2; exit 7;; esac",
    );
    let ran = env.run(["build"]).fails(1);
    assert!(
        ran.stderr.contains("step `composer` failed") && ran.stderr.contains("the reason"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("$ROOT/home/.cache/relstore/logs/"),
        "{}",
        ran.stderr
    );
}

#[test]
fn interrupted_build_ends_its_step_and_stores_nothing() {
    let mut env = application();
    env.write("composer.json", "{}");
    env.write("composer.lock", "{}");
    env.write(
        "relstore.toml",
        // Inside a sandbox the step's number would be another one.
        "app = \"notes\"\n[build]\nsteps = [\"composer\"]\nsandbox = \"off\"\n",
    );
    env.commit("with a step");
    let pid_file = env.root().join("pid");
    env.program("php", "echo 8.2.0");
    env.program(
        "composer",
        &format!(
            "case $1 in --version) exit;; esac\necho $$ > '{}'\nexec sleep 600",
            pid_file.display()
        ),
    );
    let mut child = env
        .command(env!("CARGO_BIN_EXE_relstore"))
        .args(["build", "--json"])
        .current_dir(env.project())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let step = loop {
        match fs::read_to_string(&pid_file) {
            Ok(text) if text.ends_with('\n') => break text.trim().to_owned(),
            _ => assert!(Instant::now() < deadline, "the step never began"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let signal = |name: &str, pid: &str| {
        env.command("kill")
            .args([name, pid])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    assert!(signal("-INT", &child.id().to_string()));
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the program does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(10));
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["kind"], "interrupted");
    assert_eq!(
        error["error"]["state"],
        serde_json::json!(["nothing was stored"])
    );
    while signal("-0", &step) {
        assert!(Instant::now() < deadline, "the step is still running");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!env.store().exists());
}

#[test]
fn check_asks_the_gates_of_a_folder_and_of_a_release() {
    let env = application();
    env.run(["check"]).ok();
    env.run(["build"]).ok();
    let ran = env.run(["check", "latest"]).ok();
    assert_eq!(
        ran.stdout
            .lines()
            .filter(|line| line.starts_with("ok  "))
            .count(),
        17,
        "{}",
        ran.all()
    );
    env.remove("artisan");
    env.remove("routes");
    let ran = env.run(["check", "."]).fails(4);
    assert!(
        ran.stdout.contains("no  artisan") && ran.stdout.contains("no  routes"),
        "{}",
        ran.all()
    );
    assert!(ran.stderr.contains("2 of 17 gates failed"), "{}", ran.all());
    let document = env.run(["check", "--json"]).fails(4).json();
    assert_eq!(
        (&document["ok"], &document["gates"][0]["verdict"]),
        (&false.into(), &"failed".into())
    );
    env.run(["check", "./nowhere"]).fails(3);
}

#[test]
fn check_builds_again_and_stores_what_is_always_the_same() {
    let env = application();
    let ran = env.run(["build", "--check", "--times", "1", "--json"]).ok();
    let document = ran.json();
    assert_eq!(document["reproducible"], true);
    assert_eq!(document["check"]["rebuilds"], 1);
    assert_eq!(document["check"]["findings"], serde_json::json!([]));
    assert!(ran.stderr.contains("all varied"), "{}", ran.stderr);
    let release = document["release"].as_str().unwrap();
    env.run(["show", release]).ok();
    assert_eq!(env.run(["build", "--times", "3"]).code, 2);
}

#[test]
fn check_that_finds_a_difference_stores_nothing_and_names_the_cause() {
    let env = application();
    let make = "[build.step.make]\nrun = \"sh -c 'mkdir made; echo $TZ > made/zone.txt'\"\noutputs = [\"made\"]\n";
    env.write(
        "relstore.toml",
        &format!("app = \"notes\"\n[build]\nsteps = []\n{make}"),
    );
    env.commit("Own step");
    let ran = env.run(["build", "--check"]);
    assert_eq!(ran.code, 11, "{}", ran.all());
    for line in [
        "the release is not reproducible: 1 difference in 11 entries",
        "time-zone: it depends on the time zone",
        "  proved: it differs when only the time zone is varied",
        "  content  made/zone.txt",
        "    -UTC",
        "    +Pacific/Kiritimati",
    ] {
        assert!(
            ran.stdout.lines().any(|told| told == line),
            "{line}: {}",
            ran.all()
        );
    }
    assert_eq!(
        env.run(["build", "--check", "--json"]).json()["check"]["findings"][0]["cause"]["condition"],
        "time zone"
    );
    let listed = env.run(["list", "--json"]).ok().json();
    assert_eq!(listed["releases"], serde_json::json!([]));
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let env = application();
    let noise = env.project().join("public/noise.bin");
    fs::write(&noise, vec![7; 6_000_000]).unwrap();
    env.commit("too large for the disk");
    fs::create_dir(env.root().join("small")).unwrap();
    // A file system of its own for the private folder, that vanishes with the program.
    let script = "rights=--mount; [ $(id -u) = 0 ] || rights='--mount --map-root-user'
        exec unshare $rights sh -c '
            mount -t tmpfs -o size=3m none ../small
            export XDG_CACHE_HOME=\"$PWD/../small\"
            \"$@\"; code=$?
            ls ../small/relstore/builds | sed s/^/left:/
            exit $code' sh \"$@\"";
    let ran = env.script(script, &["build"]).fails(1);
    assert!(
        ran.stderr.contains("No space left on device") && ran.stderr.contains("hint: make room"),
        "{}",
        ran.all()
    );
    assert_eq!(ran.stdout, "");
    assert!(!env.store().exists());
}
