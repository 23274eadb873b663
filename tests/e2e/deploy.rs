//! The main job on the real stack.

use std::fs;

use super::Site;
use super::site::{replace, told};

#[test]
fn a_release_is_deployed_changed_rolled_back_and_verified() {
    let site = Site::new("main", 18111);
    let (first, second) = (site.fixture.first.clone(), site.fixture.second.clone());
    site.deploy(&first);
    assert_eq!(site.current(), Some(first.clone()));
    let page = site.get("/");
    assert_eq!(
        (page.status, page.header("X-Release")),
        (200, Some(first.as_str())),
        "{page:?}"
    );
    assert!(
        page.body.contains(&format!("content=\"{first}\"")),
        "{page:?}"
    );
    let health = site.get("/health");
    assert_eq!(health.status, 200, "{health:?}");

    let ran = site.expect(0, &["deploy", &second[..12], "--env", "test", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let sent = json["hosts"][0]["sent_bytes"]
        .as_u64()
        .unwrap_or_else(|| panic!("{json:#}"));
    assert!(sent < 20_000, "{sent} bytes for one changed line");
    assert!(site.get("/").body.contains("<h1>Notes!</h1>"));
    let previous = fs::read_link(site.base.join("previous")).unwrap();
    assert_eq!(previous.to_str().unwrap(), format!("releases/{first}"));

    let status = site.expect(0, &["status", "--env", "test"]);
    assert!(
        String::from_utf8_lossy(&status.stdout).contains(&second[..12]),
        "{}",
        told(&status)
    );
    site.expect(0, &["verify", "--env", "test"]);

    site.expect(0, &["rollback", "--env", "test"]);
    assert_eq!(site.current(), Some(first.clone()));
    assert!(site.get("/").body.contains("<h1>Notes</h1>"));
    site.expect(0, &["rollback", "--env", "test", "--to", &second[..12]]);
    assert_eq!(site.current(), Some(second));

    let history = site.expect(0, &["history", "--env", "test"]);
    let text = String::from_utf8_lossy(&history.stdout).into_owned();
    assert!(
        text.contains("rollback") && text.contains("deploy") && text.contains("live"),
        "{text}"
    );
}

#[test]
fn an_unhealthy_release_goes_back_by_itself_and_says_so() {
    let site = Site::new("unhealthy", 18112);
    let (first, broken) = (site.fixture.first.clone(), site.fixture.broken.clone());
    site.deploy(&first);
    let ran = site.expect(6, &["deploy", &broken, "--env", "test"]);
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        stderr.contains("503") && stderr.contains("/api/health-check"),
        "{stderr}"
    );
    assert!(
        stderr.contains(&first[..12]),
        "what serves now is named: {stderr}"
    );
    assert_eq!(site.current(), Some(first.clone()));
    assert_eq!(site.get("/").header("X-Release"), Some(first.as_str()));
    let outcomes: Vec<String> = site
        .ledger()
        .iter()
        .map(|entry| entry["outcome"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        outcomes.last().map(String::as_str),
        Some("rolled-back"),
        "{outcomes:?}"
    );
    site.is_sound("after the rollback");
    // And the next good release goes live.
    site.deploy(&site.fixture.second.clone());
}

#[test]
fn the_first_release_stays_when_it_is_unhealthy_and_is_reported() {
    let site = Site::new("first", 18113);
    let broken = site.fixture.broken.clone();
    let ran = site.run(&["deploy", &broken, "--env", "test"]);
    assert_ne!(ran.status.code(), Some(0), "{}", told(&ran));
    assert_eq!(site.current(), Some(broken), "{}", told(&ran));
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(stderr.contains("503"), "{stderr}");
    site.deploy(&site.fixture.first.clone());
}

#[test]
fn the_same_release_changes_nothing_until_dotenv_changes() {
    let site = Site::new("same", 18114);
    let first = site.fixture.first.clone();
    site.deploy(&first);
    let config = site.base.join("current/bootstrap/cache/config.php");
    let before = fs::metadata(&config).unwrap().modified().unwrap();
    let ran = site.deploy(&first);
    let all = told(&ran);
    assert!(all.contains("nothing to do"), "{all}");
    assert_eq!(fs::metadata(&config).unwrap().modified().unwrap(), before);

    let dotenv = site.base.join("shared/.env");
    replace(&dotenv, "APP_NAME=\"Notes\"", "APP_NAME=\"Changed\"");
    site.deploy(&first);
    assert!(
        site.get("/").body.contains("<h1>Changed</h1>"),
        "{:?}",
        site.get("/")
    );
    assert_eq!(site.current(), Some(first));
    site.expect(0, &["verify", "--env", "test"]);
}

#[test]
fn a_rollback_uses_the_dotenv_of_today() {
    let site = Site::new("today", 18115);
    let (first, second) = (site.fixture.first.clone(), site.fixture.second.clone());
    site.deploy(&first);
    site.deploy(&second);
    replace(
        &site.base.join("shared/.env"),
        "APP_NAME=\"Notes\"",
        "APP_NAME=\"Today\"",
    );
    site.expect(0, &["rollback", "--env", "test"]);
    assert_eq!(site.current(), Some(first));
    assert!(
        site.get("/").body.contains("<h1>Today</h1>"),
        "{:?}",
        site.get("/")
    );
}

#[test]
fn views_that_only_php_meets_are_compiled_and_are_no_drift() {
    let site = Site::new("views", 18118);
    let first = site.fixture.first.clone();
    site.deploy(&first);
    // The framework's own error page: `view:cache` does not know it.
    let answer = site.get("/no-such-page");
    assert_eq!(answer.status, 404, "{answer:?}");
    let views = site.base.join("current/bootstrap/cache/views");
    let made_by_php = fs::read_dir(&views)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(|meta| std::os::unix::fs::MetadataExt::uid(meta) == 33)
        .count();
    assert!(made_by_php > 0, "nothing was compiled by www-data");
    site.expect(0, &["verify", "--env", "test"]);
    // Deploying again finds the caches unchanged.
    let ran = site.deploy(&first);
    assert!(told(&ran).contains("nothing to do"), "{}", told(&ran));
}

#[test]
fn drift_on_the_live_host_is_found() {
    let site = Site::new("drift", 18116);
    let first = site.fixture.first.clone();
    site.deploy(&first);
    let release = site.base.join("releases").join(&first);
    let write = |name: &str, text: &str| {
        let file = release.join(name);
        let _ = fs::remove_file(&file);
        fs::write(file, text).unwrap();
    };
    write("routes/web.php", "<?php // patched by hand\n");
    write("public/shell.php", "<?php\n");
    fs::remove_file(release.join("app/Models/Note.php")).unwrap();
    write("bootstrap/cache/config.php", "<?php return [];\n");
    let ran = site.expect(8, &["verify", "--env", "test"]);
    let text = told(&ran);
    for (kind, name) in [
        ("changed", "routes/web.php"),
        ("additional", "public/shell.php"),
        ("missing", "app/Models/Note.php"),
        ("changed", "bootstrap/cache/config.php"),
    ] {
        let line = text
            .lines()
            .find(|line| line.contains(name))
            .unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(line.contains(kind), "{line}");
    }
    let json: serde_json::Value = serde_json::from_slice(
        &site
            .expect(8, &["verify", "--env", "test", "--json"])
            .stdout,
    )
    .unwrap();
    assert_eq!(
        json["hosts"][0]["drift"].as_array().map(Vec::len),
        Some(4),
        "{json:#}"
    );
}

#[test]
fn old_releases_are_removed_but_not_the_active_and_the_previous_one() {
    let site = Site::new("keep", 18117);
    let mut settings = site.settings();
    settings.insert("keep", "1".into());
    site.configure(&settings);
    let (first, second) = (site.fixture.first.clone(), site.fixture.second.clone());
    site.deploy(&first);
    site.deploy(&second);
    site.run(&["deploy", &site.fixture.broken.clone(), "--env", "test"]);
    site.deploy(&first);
    site.deploy(&second);
    let mut left: Vec<_> = fs::read_dir(site.base.join("releases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    let mut expected: Vec<std::ffi::OsString> = vec![first.into(), second.into()];
    expected.sort();
    assert_eq!(left, expected);
    site.is_sound("after cleaning up");
}
