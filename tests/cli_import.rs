//! `relstore import`: any folder becomes a release; what cannot be one leaves no trace.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use crate::common::{Ran, TestEnv};

/// A project with its configuration, and beside it the folder `dist`.
fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write(
        "relstore.toml",
        "app = \"notes\"\n[build]\nexclude = [\"docs\"]\n",
    );
    for (path, text) in [
        ("artisan", "#!/usr/bin/env php\n"),
        ("app/a.php", "<?php\n"),
        ("docs/guide.md", "#\n"),
        ("tests/a.php", "<?php\n"),
        (".env", "APP_KEY=s3ntinel\n"),
        (".env.example", "APP_KEY=\n"),
        (".git/config", "[core]\n"),
        ("vendor/a/.git/config", "[core]\n"),
        ("vendor/a/tests/t.php", "<?php\n"),
        ("storage/logs/laravel.log", "a visitor\n"),
        ("storage/logs/.gitignore", "*\n"),
        ("bootstrap/cache/services.php", "<?php\n"),
        ("bootstrap/cache/.gitignore", "*\n"),
        ("public/index.php", "<?php\n"),
    ] {
        env.write(&format!("dist/{path}"), text);
    }
    env
}

fn release(ran: &Ran) -> String {
    ran.stdout.trim_end().to_owned()
}

/// Kind and path of every entry of the latest release.
fn entries(env: &TestEnv) -> Vec<String> {
    let document = env.run(["manifest", "latest", "--json"]).ok().json();
    let entries = document["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap().to_owned();
            format!("{} {}", text("kind"), text("path"))
        })
        .collect()
}

/// The objects of the store.
fn objects(env: &TestEnv) -> Vec<(String, Vec<u8>)> {
    let at = env.store();
    let name = |path: std::path::PathBuf| path.strip_prefix(&at).unwrap().display().to_string();
    let contents = env.contents(&at).into_iter();
    contents.map(|(path, bytes)| (name(path), bytes)).collect()
}

/// Panics when something of a failed import is left.
fn nothing_is_stored(env: &TestEnv) {
    if env.store().exists() {
        for (name, _) in objects(env) {
            assert!(
                !name.contains(".tmp-") && !name.starts_with("releases"),
                "{name}"
            );
        }
    }
}

#[test]
fn laravel_folder_is_taken_like_a_build_takes_it() {
    let env = env();
    let dist = env.project().join("dist");
    fs::set_permissions(dist.join("artisan"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink(
        "/home/me/app/storage/app/public",
        dist.join("public/storage"),
    )
    .unwrap();
    symlink("./a.php", dist.join("app/link.php")).unwrap();
    let ran = env.run(["import", "dist"]).ok();
    assert_eq!(
        entries(&env),
        [
            "s .env",
            "f .env.example",
            "f app/a.php",
            "l app/link.php",
            "x artisan",
            "w bootstrap/cache",
            "f public/index.php",
            "l public/storage",
            "S storage",
            "f storage/logs/.gitignore",
            "f vendor/a/tests/t.php",
        ]
    );
    assert!(
        ran.stderr
            .contains("left out: .env, .git, bootstrap/cache/.gitignore")
            && ran.stderr.contains(" more"),
        "{}",
        ran.all()
    );
    let text = env.run(["manifest", "latest"]).ok().stdout;
    assert!(
        text.contains("\t../storage/app/public\tpublic/storage\n"),
        "{text}"
    );
    assert!(text.contains("\ta.php\tapp/link.php\n"), "{text}");
    // The same folder again is the same release, and all of it is there.
    let again = env.run(["import", "dist", "--json"]).ok().json();
    assert_eq!(again["release"], release(&ran));
    assert_eq!(
        (&again["reused"], &again["new_blobs"]),
        (&true.into(), &0.into())
    );
    let left_out = again["left_out"].as_array().unwrap();
    assert!(
        left_out.contains(&"docs".into()) && left_out.contains(&"storage/logs/laravel.log".into())
    );
}

#[test]
fn plain_folder_is_taken_whole_but_for_secrets_and_git() {
    let env = env();
    let dist = env.project().join("dist");
    fs::create_dir(dist.join("none")).unwrap();
    fs::write(dist.join(std::ffi::OsStr::from_bytes(b"caf\xe9 \x01")), "x").unwrap();
    let arguments = [
        "import",
        "dist",
        "--layout",
        "plain",
        "--writable",
        "bootstrap/cache",
        "--shared",
    ];
    env.run(
        arguments
            .iter()
            .chain(&["storage", "--shared", "data.sqlite"]),
    )
    .ok();
    assert_eq!(
        entries(&env),
        [
            "f .env.example",
            "f app/a.php",
            "f artisan",
            "w bootstrap/cache",
            "f caf\\xe9 \\x01",
            "s data.sqlite",
            "f docs/guide.md",
            "d none",
            "f public/index.php",
            "S storage",
            "f storage/logs/.gitignore",
            "f tests/a.php",
            "f vendor/a/tests/t.php",
        ]
    );
}

#[test]
fn folder_that_a_deploy_laid_out_gives_the_release_it_holds() {
    let env = env();
    let first = release(&env.run(["import", "dist"]).ok());
    let dist = env.project().join("dist");
    for (path, target) in [
        ("storage", "../../shared/storage"),
        (".env", "../../shared/.env"),
    ] {
        env.remove(&format!("dist/{path}"));
        symlink(target, dist.join(path)).unwrap();
    }
    // Initial content is not on a host, the rest is the same.
    let second = release(&env.run(["import", "dist"]).ok());
    let diff = env
        .run(["diff", &first, &second, "--name-only"])
        .ok()
        .stdout;
    assert_eq!(diff, "storage/logs/.gitignore\n");
}

#[test]
fn record_says_what_was_imported_and_when_and_holds_no_secret() {
    let env = env();
    let id = release(&env.run(["import", "dist"]).ok());
    let contents = objects(&env);
    let mut records = contents
        .iter()
        .filter(|(name, _)| name.starts_with("records"));
    let (_, text) = records.next().unwrap();
    assert!(records.next().is_none());
    let json: serde_json::Value = serde_json::from_slice(text).unwrap();
    assert_eq!(json["subject"][0]["name"], id);
    assert_eq!(json["predicateType"], "https://slsa.dev/provenance/v1");
    let definition = &json["predicate"]["buildDefinition"];
    assert_eq!(definition["buildType"], "urn:relstore:folder-import:1");
    let external = &definition["externalParameters"];
    assert_eq!(
        external["folder"],
        env.project().join("dist").display().to_string()
    );
    assert_eq!(
        (&external["layout"], &external["exclude"][0]),
        (&"laravel".into(), &"docs".into())
    );
    assert_eq!(definition["internalParameters"]["leftOut"][0], ".env");
    let run = &json["predicate"]["runDetails"];
    assert_eq!(
        run["builder"]["version"]["relstore"],
        env!("CARGO_PKG_VERSION")
    );
    assert!(
        run["metadata"]["finishedOn"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    for (name, bytes) in &contents {
        let found = bytes.windows(8).any(|window| window == b"s3ntinel");
        assert!(!found, "{name}");
    }
    assert!(env.run(["list"]).ok().stdout.contains(&id[..12]));
}

#[test]
fn record_is_signed_when_the_configuration_names_a_key() {
    let env = env();
    let key = env.root().join("home/key");
    let settings = format!(
        "app = \"notes\"\n[signing]\nkey = \"{}\"\nallowed_signers = \"allowed\"\n",
        key.display()
    );
    env.write("relstore.toml", &settings);
    env.write("allowed", "");
    env.run(["import", "dist"]).fails(3);
    assert!(
        !env.store().exists(),
        "a missing key is told before the work"
    );
    let made = env
        .command("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    env.write("allowed", &format!("ci@example.com {public}"));
    env.run(["import", "dist"]).ok();
    let text = env.run(["show", "latest"]).ok().stdout;
    assert!(
        text.contains("signed") && text.contains("ci@example.com"),
        "{text}"
    );
}

#[test]
fn all_that_no_release_may_have_is_refused_at_once_and_nothing_is_made() {
    let env = env();
    let dist = env.project().join("dist");
    let _socket = std::os::unix::net::UnixListener::bind(dist.join("app/socket")).unwrap();
    let pipe = env.command("mkfifo").arg(dist.join("app/pipe")).status();
    assert!(pipe.unwrap().success());
    symlink("/etc/passwd", dist.join("app/out")).unwrap();
    env.write("dist/vendor/a/.env", "KEY=1\n");
    env.write(
        "dist/public/logo.png",
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    );
    env.remove("dist/bootstrap/cache");
    env.write("dist/bootstrap/cache", "a file");
    let ran = env.run(["import", "dist"]).fails(3);
    for line in [
        "`app/socket` is a socket",
        "`app/pipe` is a named pipe",
        "`app/out` is a link that no release may have",
        "`vendor/a/.env` holds the secrets",
        "`public/logo.png` is a pointer of Git LFS",
        "`bootstrap/cache` is a folder on the hosts, but no folder here",
    ] {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.all());
    }
    assert!(!env.store().exists());
}

#[test]
fn folders_that_are_none_or_empty_or_hold_the_store_are_refused() {
    let env = env();
    fs::create_dir(env.project().join("nothing")).unwrap();
    for (arguments, told) in [
        (&["import", "nowhere"][..], "neither a folder nor a file"),
        (&["import", "relstore.toml"], "no tar archive"),
        (&["import", "nothing"], "holds no file"),
        (
            &["import", ".", "--store", "dist/store"],
            "the store would lie in the folder",
        ),
    ] {
        let ran = env.run(arguments).fails(3);
        assert!(ran.stderr.contains(told), "{}", ran.all());
    }
    env.run(["import", "dist", "--shared", "../x"]).fails(2);
    assert!(!env.store().exists());
    // Without a project, the store has to be said.
    let elsewhere = env.root().join("home");
    let dist = env.project().join("dist");
    env.run_in(&elsewhere, [Path::new("import"), &dist])
        .fails(3);
    let store = env.root().join("store");
    let arguments = [Path::new("import"), &dist, Path::new("--store"), &store];
    env.run_in(&elsewhere, arguments).ok();
}

#[test]
fn link_loop_is_refused_with_its_path() {
    let env = env();
    symlink("b", env.project().join("dist/app/a")).unwrap();
    symlink("a", env.project().join("dist/app/b")).unwrap();
    let ran = env.run(["import", "dist"]).fails(3);
    assert!(
        ran.stderr
            .contains("`app/a` is a link that leads back to itself")
            && ran.stderr.contains("hint:"),
        "{}",
        ran.all()
    );
    nothing_is_stored(&env);
}

/// Runs the program without root's right to read everything.
fn without_rights(env: &TestEnv, arguments: &[&str]) -> Ran {
    let drop = "-dac_override,-dac_read_search";
    let script = format!(
        "[ $(id -u) = 0 ] || exec \"$@\"; exec setpriv --inh-caps={drop} --bounding-set={drop} -- \"$@\""
    );
    env.script(&script, arguments)
}

#[test]
fn unreadable_file_and_folder_are_named_with_the_remedy() {
    let env = env();
    for (path, what) in [("app/a.php", "read"), ("app", "list")] {
        let place = env.project().join("dist").join(path);
        fs::set_permissions(&place, fs::Permissions::from_mode(0o000)).unwrap();
        let ran = without_rights(&env, &["import", "dist"]);
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        let ran = ran.fails(3);
        assert!(
            ran.stderr.contains(&format!("cannot {what} `{path}`"))
                && ran.stderr.contains("Permission denied")
                && ran.stderr.contains("hint: make it readable"),
            "{}",
            ran.all()
        );
        nothing_is_stored(&env);
    }
}

#[test]
fn full_disk_is_told_and_leaves_no_part_of_a_release() {
    let env = env();
    let noise = env.project().join("dist/noise.bin");
    let made = env
        .command("sh")
        .args(["-c", "head -c 6000000 /dev/urandom > \"$0\""])
        .arg(&noise)
        .status();
    assert!(made.unwrap().success());
    fs::create_dir(env.root().join("small")).unwrap();
    // A file system of its own that vanishes with the program.
    let script = "rights=--mount; [ $(id -u) = 0 ] || rights='--mount --map-root-user'
        exec unshare $rights sh -c '
            mount -t tmpfs -o size=3m none ../small
            \"$@\"; code=$?
            find ../small -name \".tmp-*\" -o -path \"*/releases/*\" | sed s/^/left:/
            exit $code' sh \"$@\"";
    let ran = env
        .script(script, &["import", "dist", "--store", "../small/store"])
        .fails(1);
    assert!(
        ran.stderr.contains("No space left on device") && ran.stderr.contains("hint: make room"),
        "{}",
        ran.all()
    );
    assert_eq!(ran.stdout, "");
}

/// Runs the program and returns its highest use of memory, in MB.
fn peak_mb(env: &TestEnv, arguments: &[&str], code: i32) -> u64 {
    let mut child = env
        .command(env!("CARGO_BIN_EXE_relstore"))
        .args(arguments)
        .current_dir(env.project())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kb.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(code));
            return peak / 1024;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn memory_does_not_grow_with_the_bytes_of_a_release() {
    let mut env = env();
    let tmp = env.root().to_str().unwrap().to_owned();
    env.set("TMPDIR", &tmp);
    let few = peak_mb(&env, &["import", "dist", "--layout", "plain"], 0);
    // As many bytes in one file as in many: neither may be in memory at once.
    let long = fs::File::create(env.project().join("dist/long.bin")).unwrap();
    long.set_len(256 << 20).unwrap();
    for number in 0..256u32 {
        let mut bytes = vec![0; 400_000];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        fs::write(env.project().join(format!("dist/{number}.bin")), bytes).unwrap();
    }
    let many = peak_mb(&env, &["import", "dist", "--layout", "plain"], 0);
    assert!(
        many < few + 64,
        "{few} MB for a few bytes, {many} MB for 350 MB"
    );
    // And back: the gates are asked on what is laid out.
    let back = peak_mb(&env, &["check", "latest"], 4);
    assert!(
        back < few + 64,
        "{few} MB for a few bytes, {back} MB to lay out 350 MB"
    );
}
