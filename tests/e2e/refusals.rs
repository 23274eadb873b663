//! What cannot work is refused with the reason and the remedy, and nothing is changed.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Site;
use super::site::{PATIENCE, path, told};

/// Deploys with one setting changed, expects a refusal that has all words, and nothing changed.
fn refused(site: &Site, key: &'static str, value: &str, code: i32, words: &[&str]) {
    let mut settings = site.settings();
    settings.insert(key, value.to_owned());
    site.configure(&settings);
    let before = site.current();
    let ran = site.run(&["deploy", &site.fixture.second.clone(), "--env", "test"]);
    let text = told(&ran);
    assert_eq!(ran.status.code(), Some(code), "{key} = {value}: {text}");
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    for word in words {
        assert!(
            stderr.contains(word),
            "{key} = {value}: no {word:?} in {text}"
        );
    }
    assert!(
        stderr.contains("hint:"),
        "{key} = {value}: no hint in {text}"
    );
    assert_eq!(site.current(), before, "{key} = {value}");
    site.configure(&site.settings());
}

#[test]
fn what_cannot_work_is_refused_with_a_remedy_and_changes_nothing() {
    let site = Site::new("refusals", 18130);
    site.deploy(&site.fixture.first.clone());
    let file = |name: &str| site.home().join(name);

    // Wrong host key.
    let key = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", path(&file("other"))])
        .status();
    assert!(key.unwrap().success());
    let public = fs::read_to_string(file("other.pub")).unwrap();
    let fields: Vec<&str> = public.split(' ').collect();
    let port = super::site::variable("RELSTORE_SSH_PORT");
    fs::write(
        file("known"),
        format!("[127.0.0.1]:{port} {} {}\n", fields[0], fields[1]),
    )
    .unwrap();
    refused(
        &site,
        "known_hosts",
        &format!("{:?}", path(&file("known"))),
        5,
        &["host key", "SHA256:"],
    );
    fs::write(file("none"), "").unwrap();
    refused(
        &site,
        "known_hosts",
        &format!("{:?}", path(&file("none"))),
        5,
        &["host key", "SHA256:"],
    );

    // A key the host does not take, a key that is not there, a host that is down.
    refused(
        &site,
        "identity_file",
        &format!("{:?}", path(&file("other"))),
        5,
        &["127.0.0.1"],
    );
    refused(
        &site,
        "identity_file",
        "\"/nowhere/key\"",
        5,
        &["/nowhere/key"],
    );
    refused(
        &site,
        "hosts",
        "[\"deploy@127.0.0.1:9\"]",
        5,
        &["127.0.0.1"],
    );

    // A base that cannot be written, PHP that is not there, a missing .env.
    refused(
        &site,
        "base",
        "\"/usr/lib/relstore-test\"",
        5,
        &["/usr/lib/relstore-test"],
    );
    refused(&site, "php", "\"php9.9\"", 5, &["php9.9"]);
    fs::rename(site.base.join("shared/.env"), site.base.join("kept")).unwrap();
    refused(&site, "keep", "5", 5, &[".env"]);
    fs::rename(site.base.join("kept"), site.base.join("shared/.env")).unwrap();

    // Releases that nobody knows, or that several match.
    for (name, words) in [
        ("0123456789abcdef", "0123456789abcdef"),
        ("no-such-tag", "no-such-tag"),
    ] {
        let ran = site.expect(3, &["deploy", name, "--env", "test"]);
        assert!(told(&ran).contains(words), "{}", told(&ran));
    }
    site.is_sound("after all refusals");
    site.deploy(&site.fixture.second.clone());
}

#[test]
fn a_real_folder_at_current_is_refused_and_kept() {
    let site = Site::new("foreign", 18131);
    fs::create_dir_all(site.base.join("current/public")).unwrap();
    fs::write(site.base.join("current/public/mine.html"), "mine").unwrap();
    let ran = site.expect(5, &["deploy", &site.fixture.first.clone(), "--env", "test"]);
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        stderr.contains("current") && stderr.contains("hint:"),
        "{stderr}"
    );
    assert_eq!(
        fs::read_to_string(site.base.join("current/public/mine.html")).unwrap(),
        "mine"
    );
}

#[test]
fn a_full_disk_is_refused_and_changes_nothing() {
    let site = Site::new("full", 18132);
    site.deploy(&site.fixture.first.clone());
    // The base of another environment lies on a file system with 4 MB.
    let small = site.base.join("small");
    // Lazily: a run that was killed may have left it, with somebody in it.
    let unmount = || {
        Command::new("umount")
            .arg("--lazy")
            .arg(&small)
            .status()
            .unwrap()
    };
    if small.exists() {
        unmount();
    }
    fs::create_dir_all(&small).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs", path(&small)])
        .status()
        .unwrap();
    assert!(mounted.success(), "a tmpfs can be mounted");
    let made = Command::new("install")
        .args([
            "-d",
            "-o",
            "deploy",
            "-g",
            "deploy",
            path(&small.join("base")),
            path(&small.join("base/shared")),
        ])
        .status()
        .unwrap();
    let mut settings = site.settings();
    settings.insert("base", format!("{:?}", path(&small.join("base"))));
    site.configure(&settings);
    fs::copy(
        site.base.join("shared/.env"),
        small.join("base/shared/.env"),
    )
    .unwrap();
    let ran = site.run(&["deploy", &site.fixture.second.clone(), "--env", "test"]);
    let current = small.join("base/current").exists();
    let unmounted = unmount();
    assert!(made.success() && unmounted.success());
    assert_eq!(ran.status.code(), Some(5), "{}", told(&ran));
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        stderr.contains("room") || stderr.contains("space"),
        "{stderr}"
    );
    assert!(!current, "{}", told(&ran));
}

#[test]
fn a_login_shell_that_prints_does_no_harm() {
    let site = Site::new("chatty", 18133);
    let bashrc = "/home/deploy/.bashrc";
    let kept = fs::read(bashrc).unwrap_or_default();
    fs::write(
        bashrc,
        "echo 'Welcome to app1, today is a good day'\necho more >&2\n",
    )
    .unwrap();
    let first = site.run(&["deploy", &site.fixture.first.clone(), "--env", "test"]);
    let second = site.run(&["status", "--env", "test"]);
    fs::write(bashrc, kept).unwrap();
    assert_eq!(first.status.code(), Some(0), "{}", told(&first));
    assert_eq!(second.status.code(), Some(0), "{}", told(&second));
}

#[test]
fn of_two_deploys_at_once_one_wins_and_the_other_names_the_holder() {
    let site = Site::new("race", 18134);
    site.deploy(&site.fixture.first.clone());
    let mut settings = site.settings();
    settings.insert("reload", "[\"sleep 3\"]".into());
    site.configure(&settings);
    let second = site.fixture.second.clone();
    let winner = site
        .command(&["deploy", &second, "--env", "test"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    while site.current().as_ref() != Some(&second) {
        assert!(Instant::now() < until, "the first deploy did not switch");
        std::thread::sleep(Duration::from_millis(5));
    }
    let loser = site.expect(9, &["deploy", &site.fixture.first.clone(), "--env", "test"]);
    let stderr = String::from_utf8_lossy(&loser.stderr).into_owned();
    assert!(
        stderr.contains(&second[..12]) && stderr.contains('@'),
        "the holder is named: {stderr}"
    );
    let ran = winner.wait_with_output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", told(&ran));
    assert_eq!(site.current(), Some(second));
}
